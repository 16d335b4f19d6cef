"""What a person can mend is told in one sentence: these exceptions carry it.

The command line prints the sentence and leaves with exit status 2. In Python they are what their second base says, so that
``except FileNotFoundError`` works as anywhere else.
"""

import re


class InputError(ValueError):
    """Something that was given is wrong: the message says what, where, and how to mend it."""


class MissingInputError(InputError, FileNotFoundError):
    """A file, folder or split that was named is not there."""


class OutputExistsError(InputError, FileExistsError):
    """The place to write to is taken, and nothing is overwritten silently."""


class ExportError(RuntimeError):
    """An exported file failed its check; the message names the operator or the output and by how much it is off."""


_SENTENCE = re.compile(r"\b(?:InputError|MissingInputError|OutputExistsError): ([^\n]+)")


def find_sentence(error: BaseException) -> str | None:
    """Returns the sentence of an input error, also when TensorFlow carried it out of a tf.data pipeline as text."""
    if isinstance(error, InputError):
        return str(error)
    found = _SENTENCE.search(str(error))
    return found.group(1) if found else None


def are_texts(values) -> bool:
    """Whether something that was read from a file is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def are_counts(values, least=0) -> bool:
    """Whether something that was read from a file is a list of whole numbers from ``least`` on."""
    return isinstance(values, list) and all(type(value) is int and value >= least for value in values)


def nearest(word: str, candidates) -> str:
    """Returns " Did you mean 'x'?" for the nearest candidate, or an empty string where none is near."""
    import difflib

    longer = [candidate for candidate in candidates if len(word) > 2 and candidate.startswith(word)]
    matches = longer[:1] or difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
