"""Writing without losing anything."""

import contextlib
import os
import pathlib

from tfzoo.errors import InputError, OutputExistsError


def claim_folder(path, allow_existing=False, flag="--overwrite") -> pathlib.Path:
    """Creates a folder to write into; one that holds something is refused, unless ``allow_existing``, which ``flag`` sets."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise OutputExistsError(f"{path} is a file, not a folder: choose another output.")
    if not allow_existing and path.is_dir() and any(path.iterdir()):
        raise OutputExistsError(f"Folder {path} exists and is not empty: choose another output, empty it first, or give {flag}.")
    _make(path)
    return path


def claim_file(path, allow_existing=False) -> pathlib.Path:
    """Makes the folder of a file to be written; a file that exists is refused, unless ``allow_existing``."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder, and a file is to be written: choose another name.")
    if path.exists() and not allow_existing:
        raise OutputExistsError(f"{path} exists: choose another name, or allow it to be replaced with --overwrite.")
    _make(path.parent)
    return path


@contextlib.contextmanager
def folder_of(path):
    """Makes the folder that a path is to be in, and gives it; what was made and is empty after an error goes again."""
    made = [folder for folder in pathlib.Path(path).parents if not folder.exists()]
    _make(pathlib.Path(path).parent)
    try:
        yield pathlib.Path(path).parent
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # something else is in it by now
                folder.rmdir()
        raise


@contextlib.contextmanager
def replacing(path):
    """Gives the place of a draft, which takes the path in one step once it is written; an error before leaves the old file."""
    path = pathlib.Path(path)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _make(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Folder {folder} cannot be made ({error.strerror}): choose another output.") from None
