"""PyTorch checkpoints (``.pth``) read without PyTorch, by a reader that can build tensors and nothing else.

``torch.save`` writes pickles, and a pickle is a program: whoever loads one with ``pickle.load`` runs what its author wrote.
Here the pickle machine knows only the opcodes and the globals that a ``state_dict`` needs. A tensor in it becomes a
description (storage, offset, shape, strides), which is checked against the size of the storage; arrays are made after all checks.

Both formats of ``torch.save`` are read (described by ``torch/serialization.py``):

- zip, since PyTorch 1.6: PREFIX/data.pkl, the storages in PREFIX/data/KEY, and PREFIX/byteorder since 2.1;
- the older stream: pickles of a magic number, the protocol version, facts about the machine, the object and the storages'
  keys, then for each key the number of elements (int64) and the elements, little-endian.
"""

import collections
import dataclasses
import io
import math
import pathlib
import pickle
import pickletools
import struct
import types
import zipfile

import numpy as np

from tfzoo.errors import InputError, MissingInputError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
WRAPPERS = ("state_dict", "model")  # where training scripts put the state_dict, beside the optimizer, the epoch, ...

# A pickle of a few bytes an object can ask for a hundred times its size in memory. A state_dict needs about 150 bytes a tensor.
PICKLE_LIMIT = 8 * 2**20
# Views may overlap, and strides of zero repeat elements without end. Float16 doubles; a flat storage with views of it too.
EXPANSION_LIMIT = 8
SMALL = 16 * 2**20
MAX_DIMENSIONS = 32
CHUNK = 2**20

_GET_AGAIN = "the file is damaged or made to do harm, so get it again from its publisher."
_SAVE_STATE = "nothing of it was run; save the tensors alone, with torch.save(model.state_dict(), NAME)."


def read_tensors(path) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint that ``torch.save`` wrote; no code that the file may hold can run.

    Args:
        path: a file that holds a ``state_dict``, or a dict that has one under "state_dict" or "model".

    Returns:
        name -> array, in the file's order. float16 and bfloat16 come as float32; all other types stay. Names that share one
        tensor share one array. What is no tensor (an epoch, a learning rate) is left out.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is no checkpoint, damaged, or holds something that is no tensor (named); or it has no tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: check the path.")
    try:
        with path.open("rb") as file:
            return _read(file)
    except _Refused as refusal:
        raise InputError(f"{path} {refusal}") from None
    except Exception as error:  # a damaged file fails in zipfile, pickle, struct or numpy, each with its own exception
        raise InputError(f"{path} cannot be read, as if damaged or cut short ({_in_a_line(error)}): get it again.") from error


class _Refused(Exception):
    """What is wrong with a file: the sentence after its path."""


def _read(file):
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(512)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        source = _ZipSource(file, size)
    elif start[257:262] == b"ustar":
        raise _Refused("is a tar archive, PyTorch's oldest format: load it in PyTorch and save it again with torch.save.")
    elif start.startswith(pickle.PROTO):
        source = _StreamSource(file, size)
    else:
        raise _Refused(f"is no PyTorch checkpoint (it begins with {start[:8]!r}): give a file that torch.save wrote.")
    unpickler = _TensorUnpickler(source.open_pickle())
    tensors = _select(unpickler.load())
    source.locate(unpickler.storages)
    return _to_arrays(tensors, source, size)


# --- what a checkpoint is made of ---


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A storage type: the NumPy type of the stored elements, and of the array that is made of them."""

    stored: str
    target: str

    @property
    def itemsize(self):
        return np.dtype(self.stored).itemsize


_BFLOAT16 = _Kind("u2", "f4")  # the upper half of a float32; NumPy has no type for it


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    kind: _Kind
    numel: int


@dataclasses.dataclass(frozen=True)
class _StorageView:
    """A part of a storage, in elements: the older format can share storages in parts."""

    storage: _Storage
    start: int
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor that lies within its storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple

    @property
    def numel(self):
        return math.prod(self.shape)


# --- the only functions that a file can call ---


def _build_tensor(view, offset, size, stride):
    """Describes a tensor: ``torch._utils._rebuild_tensor``."""
    _expect(type(view) is _StorageView, "holds a tensor without a storage")
    _expect(_is_count(offset), f"holds a tensor that starts at {_short(offset)}")
    _expect(_is_shape(size), f"holds a tensor of the shape {_short_shape(size)}")
    _expect(_is_shape(stride) and len(stride) == len(size), f"holds a tensor of the strides {_short_shape(stride)}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size:
        _expect(
            last < view.numel,
            f"holds a tensor of the shape {_short_shape(size)} that reaches beyond its storage of {_short(view.numel)} elements",
        )
    return _Tensor(view.storage, view.start + offset, tuple(size), tuple(stride))


def _build_tensor_v2(view, offset, size, stride, requires_grad, backward_hooks, metadata=None):
    """Describes a tensor: ``torch._utils._rebuild_tensor_v2``; the metadata tell of conjugates and negatives not yet computed."""
    if metadata:
        raise _Refused(f"holds a tensor with pending metadata, which is no plain tensor: {_SAVE_STATE}")
    return _build_tensor(view, offset, size, stride)


def _build_parameter(tensor, requires_grad, backward_hooks):
    """A parameter is read as its tensor: ``torch._utils._rebuild_parameter``."""
    _expect(type(tensor) is _Tensor, "holds a parameter without a tensor")
    return tensor


def _build_size(size=()):
    _expect(_is_shape(size), f"holds the size {_short_shape(size)}")
    return tuple(size)


def _build_dict(pairs=None):
    """An OrderedDict, as Python 3 pickles it (empty, filled afterwards) or as Python 2 did (from a list of pairs)."""
    result = collections.OrderedDict()
    if pairs is not None:
        _expect(type(pairs) is list and all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs), "holds an odd dict")
        _set_items(result, [part for pair in pairs for part in pair])
        pairs.clear()  # one list makes one dict: a file cannot grow in memory by using a long list again and again
    return result


_FUNCTIONS = {
    ("collections", "OrderedDict"): _build_dict,
    ("torch", "Size"): _build_size,
    ("torch._utils", "_rebuild_tensor"): _build_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _build_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _build_parameter,
}
_STORAGE_TYPES = {
    ("torch", "FloatStorage"): _Kind("f4", "f4"),
    ("torch", "HalfStorage"): _Kind("f2", "f4"),
    ("torch", "BFloat16Storage"): _BFLOAT16,
    ("torch", "DoubleStorage"): _Kind("f8", "f8"),
    ("torch", "LongStorage"): _Kind("i8", "i8"),
    ("torch", "IntStorage"): _Kind("i4", "i4"),
    ("torch", "ShortStorage"): _Kind("i2", "i2"),
    ("torch", "CharStorage"): _Kind("i1", "i1"),
    ("torch", "ByteStorage"): _Kind("u1", "u1"),
    ("torch", "BoolStorage"): _Kind("u1", "?"),
    ("torch.storage", "UntypedStorage"): _Kind("u1", "u1"),
}
_GLOBALS = _FUNCTIONS | _STORAGE_TYPES


def _set_items(target, items):
    """Puts [key, value, key, value, ...] into a dict. Tuples are no keys: hashing a very deep one would overflow the C stack."""
    _expect(type(target) in (dict, collections.OrderedDict) and len(items) % 2 == 0, "sets items of what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        _expect(key is None or type(key) in (str, int, float, bool, bytes), "has a dict whose keys are neither names nor numbers")
        target[key] = value


# --- the pickle machine ---


PLAIN_OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"),
    *("GLOBAL", "STACK_GLOBAL", "BINPERSID"),
)


class _Opcodes(dict):
    """Opcode -> method. The rest of the language (calling classes, extension codes, setting state, text numbers) is not there."""

    def __missing__(self, code):
        known = pickletools.code2op.get(chr(code))
        raise _Refused(
            f"uses the pickle opcode {known.name}, which no state_dict needs: {_SAVE_STATE}"
            if known
            else f"has a pickle with the byte {code:#04x} where an opcode should be: {_GET_AGAIN}"
        )


class _TensorUnpickler(pickle._Unpickler):
    """Reads one pickle of plain values and descriptions of tensors.

    The Python machine, not the C one, since its table of opcodes can be cut down and its memo cannot be made to claim
    gigabytes. ``storages`` are those that the pickle mentions, by key.
    """

    dispatch = _Opcodes()
    for _name in PLAIN_OPCODES:
        dispatch[getattr(pickle, _name)[0]] = pickle._Unpickler.dispatch[getattr(pickle, _name)[0]]

    def __init__(self, file):
        super().__init__(_PickleFile(file), encoding="utf-8")  # for the byte strings of Python 2
        self.storages = {}

    def find_class(self, module, name):
        """Returns what stands here for a global: looked up in a table, never imported, no attribute of it ever taken."""
        found = _GLOBALS.get((module, name))
        if found is None:
            raise _Refused(f"holds '{_short(f'{module}.{name}')}', which is no tensor: {_SAVE_STATE}")
        return found

    def persistent_load(self, pid):
        """Returns the storage that an id names: ("storage", type, key, location, numel[, part]) and nothing else."""
        _expect(type(pid) is tuple and len(pid) in (5, 6) and pid[0] == "storage", "has an id that names no storage")
        kind, key, numel = pid[1], pid[2], pid[4]
        _expect(type(kind) is _Kind and type(key) is str and _is_count(numel), "has a storage of no known type, key or size")
        storage = _Storage(key, kind, numel)
        _expect(self.storages.setdefault(key, storage) == storage, f"has two storages named '{_short(key)}'")
        part = pid[5] if len(pid) == 6 else None
        if part is None:
            return _StorageView(storage, 0, numel)
        _expect(type(part) is tuple and len(part) == 3 and all(map(_is_count, part[1:])), "has an odd part of a storage")
        _expect(part[1] + part[2] <= numel, f"has a part that reaches beyond its storage of {_short(numel)} elements")
        return _StorageView(storage, part[1], part[2])

    def load_reduce(self):
        """Calls one of the functions above."""
        arguments, function = self.stack.pop(), self.stack.pop()
        _expect(isinstance(function, types.FunctionType) and type(arguments) is tuple, "calls what is no function")
        self.append(function(*arguments))

    def load_build(self):
        """Drops the state of an OrderedDict: a state_dict carries ``_metadata`` (the modules' versions), not needed here."""
        state = self.stack.pop()
        _expect(type(self.stack[-1]) is collections.OrderedDict and type(state) is dict, "sets the state of what has none")

    def load_inst(self):
        """Refuses the old way to call a class, and says which one."""
        self.find_class(self.readline()[:-1].decode(), self.readline()[:-1].decode())
        raise _Refused(f"uses the pickle opcode INST, which no state_dict needs: {_SAVE_STATE}")

    def load_append(self):
        self._extend([self.stack.pop()])

    def load_appends(self):
        self._extend(self.pop_mark())

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [key, value])

    def load_setitems(self):
        items = self.pop_mark()
        _set_items(self.stack[-1], items)

    def _extend(self, items):
        _expect(type(self.stack[-1]) is list, "appends to what is no list")
        self.stack[-1].extend(items)

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.INST[0]: load_inst,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }


class _PickleFile:
    """A file from which a pickle is read: never past a limit, whatever length the pickle claims."""

    def __init__(self, file):
        self.file, self.left = file, PICKLE_LIMIT

    def read(self, size):
        self._spend(size)
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError("the pickle ends too early")
        return data

    def readline(self):
        data = self.file.readline(1000)
        self._spend(len(data))
        if not data.endswith(b"\n"):
            raise EOFError("the pickle has a line without an end")
        return data

    def _spend(self, size):
        self.left -= size
        _expect(self.left >= 0, f"has a pickle of more than {PICKLE_LIMIT // 2**20} MB beside its tensors")


# --- the two formats ---


class _ZipSource:
    """The zip format. Members are looked up by name and never extracted, so that no name can lead anywhere."""

    def __init__(self, file, size):
        self.archive = zipfile.ZipFile(file)
        self.members = {info.filename: info for info in self.archive.infolist()}
        _expect(len(self.members) == len(self.archive.infolist()), "has two members of one name")
        pickles = [name for name in self.members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refused(f"is a zip file with {len(pickles)} members */data.pkl, not one: give a file that torch.save wrote.")
        # Members that overlap could make a small file huge.
        _expect(sum(info.compress_size for info in self.members.values()) <= size, "has members larger than the whole file")
        self.prefix = pickles[0].removesuffix("data.pkl")
        self.byte_order = self._read_byte_order()

    def open_pickle(self):
        with self._open("data.pkl") as stream:
            return io.BytesIO(stream.read(PICKLE_LIMIT + 1))

    def locate(self, storages):
        """Checks that every storage is there and has as many elements as the pickle says."""
        for storage in storages.values():
            info = self._find(f"data/{storage.key}")
            _check_numel(storage, info.file_size // storage.kind.itemsize)

    def read(self, storage) -> np.ndarray:
        with self._open(f"data/{storage.key}") as stream:
            # All of it, since zipfile compares the checksum when it comes to the end.
            data = _read_bytes(stream, self._find(f"data/{storage.key}").file_size)
        itemsize = storage.kind.itemsize
        return data[: storage.numel * itemsize].view(np.dtype(storage.kind.stored).newbyteorder(self.byte_order))

    def _read_byte_order(self):
        """Returns NumPy's sign for it. Files of before PyTorch 2.1 do not tell; published ones come from little-endian machines."""
        if f"{self.prefix}byteorder" not in self.members:
            return "<"
        with self._open("byteorder") as stream:
            order = stream.read(10)
        _expect(order in (b"little", b"big"), f"has the byte order {order!r}")
        return "<" if order == b"little" else ">"

    def _find(self, name):
        info = self.members.get(self.prefix + name)
        _expect(info is not None, f"lacks the member '{_short(self.prefix + name)}'")
        return info

    def _open(self, name):
        info = self._find(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise _Refused(
                f"has the compressed member '{_short(info.filename)}', which torch.save never writes: give the file as published."
            )
        return self.archive.open(info)


class _StreamSource:
    """The older format: everything one after the other."""

    def __init__(self, file, size):
        self.file, self.size, self.offsets = file, size, {}
        if self._load() != MAGIC_NUMBER:
            raise _Refused("is a pickle, but no PyTorch checkpoint (its first item is another): give a file that torch.save wrote.")
        version = self._load()
        _expect(version == PROTOCOL_VERSION, f"is of the protocol {_short(version)}, not {PROTOCOL_VERSION}")
        _expect(type(self._load()) is dict, "does not say on what machine it was made")

    def open_pickle(self):
        return self.file

    def locate(self, storages):
        """Finds where each storage begins; call it when the file stands behind the object's pickle."""
        keys = self._load()
        _expect(type(keys) is list and all(type(key) is str for key in keys), "has no list of storages")
        for key in keys:
            _expect(key in storages and key not in self.offsets, f"has a storage '{_short(key)}' that is unknown or there twice")
            (numel,) = struct.unpack("<q", self.file.read(8))
            _check_numel(storages[key], numel)
            self.offsets[key] = self.file.tell()
            end = self.offsets[key] + numel * storages[key].kind.itemsize
            _expect(end <= self.size, f"ends before its storage '{_short(key)}' does")
            self.file.seek(end)
        for key in storages:
            _expect(key in self.offsets, f"lacks the storage '{_short(key)}'")

    def read(self, storage) -> np.ndarray:
        self.file.seek(self.offsets[storage.key])
        kind = storage.kind
        return _read_bytes(self.file, storage.numel * kind.itemsize).view(np.dtype(kind.stored).newbyteorder("<"))

    def _load(self):
        return _TensorUnpickler(self.file).load()


def _check_numel(storage, numel):
    _expect(
        numel == storage.numel,
        f"has {_short(numel)} elements in storage '{_short(storage.key)}' where {_short(storage.numel)} are declared",
    )


def _read_bytes(stream, size):
    """Reads uint8 [size] piece by piece, so that no second copy of a large storage is held."""
    data = np.empty(size, np.uint8)
    view, done = memoryview(data), 0
    while done < size:
        count = stream.readinto(view[done : done + CHUNK])
        if not count:
            raise EOFError("a storage ends too early")
        done += count
    return data


# --- from descriptions to arrays ---


def _select(top) -> dict[str, _Tensor]:
    """Returns the tensors of a state_dict, or of the one that a training checkpoint wraps."""
    for key in WRAPPERS:
        if isinstance(top, dict) and isinstance(top.get(key), dict) and _tensors_of(top[key]):
            return _tensors_of(top[key])
    tensors = _tensors_of(top) if isinstance(top, dict) else {}
    if not tensors:
        raise _Refused("holds no tensors by name: give a file that torch.save(model.state_dict(), NAME) wrote.")
    return tensors


def _tensors_of(state):
    return {name: value for name, value in state.items() if type(name) is str and type(value) is _Tensor}


def _to_arrays(tensors, source, size):
    """Reads each storage once and lets go of it after its last tensor."""
    distinct = dict.fromkeys(tensors.values())
    needed = sum(tensor.numel * np.dtype(tensor.storage.kind.target).itemsize for tensor in distinct)
    _expect(needed <= max(EXPANSION_LIMIT * size, SMALL), f"has tensors of {_short(needed)} bytes in {size} bytes of file")
    uses = collections.Counter(tensor.storage for tensor in distinct)
    left, storages, arrays = collections.Counter(uses), {}, {}
    for tensor in distinct:
        storage = tensor.storage
        if storage not in storages:
            storages[storage] = source.read(storage)
        keep = uses[storage] == 1 and tensor.numel == storage.numel
        arrays[tensor] = _to_array(tensor, storages[storage], copy=not keep)
        left[storage] -= 1
        if not left[storage]:
            del storages[storage]
    return {name: arrays[tensor] for name, tensor in tensors.items()}


def _to_array(tensor, elements, copy):
    """Makes a contiguous array of a checked description and the elements of its storage."""
    kind = tensor.storage.kind
    if not tensor.numel:
        return np.empty(tensor.shape, kind.target)
    # The stride of a dimension of one element is never used, and may be anything.
    strides = [step * kind.itemsize if length > 1 else 0 for length, step in zip(tensor.shape, tensor.strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides)
    if kind is _BFLOAT16:
        bits = view.astype(np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return view.astype(kind.target, order="C", copy=copy)


# --- small checks and words ---


def _expect(condition, fault):
    if not condition:
        raise _Refused(f"{fault}: {_GET_AGAIN}")


def _is_count(value):
    return type(value) is int and 0 <= value < 2**63


def _is_shape(value):
    return type(value) in (tuple, list) and len(value) <= MAX_DIMENSIONS and all(map(_is_count, value))


def _short(value):
    """A value from the file in at most 80 printable characters; containers, which may be endless, by their type."""
    if type(value) not in (str, int, float):
        return type(value).__name__
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _short_shape(value):
    if type(value) not in (tuple, list):
        return _short(value)
    return f"({', '.join(map(_short, value[:4]))}{', ...' if len(value) > 4 else ''})"


def _in_a_line(error):
    return _short(str(error).strip().partition("\n")[0].rstrip(".")) or type(error).__name__
