"""PyTorch checkpoints, written here byte by byte as ``torch.save`` does (``torch/serialization.py``), and what must be refused."""

import builtins
import collections
import copyreg
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tfzoo.weights import torch_file
from tfzoo.weights.torch_file import read_tensors

FORMATS = ("zip", "stream")
MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """A global that is pickled by name alone, whether or not the module is there."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("a name in a test, not to be called")


class Call:
    """What is pickled as a call of a function, and then perhaps given a state."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class Storage:
    """Elements that several tensors may share; ``numel`` may lie, ``part`` is the older format's (key, offset, size)."""

    def __init__(self, array, kind="FloatStorage", module="torch", numel=None, part=None, key=None):
        self.array, self.kind, self.module, self.part = np.ravel(array), kind, module, part
        self.numel, self.key = self.array.size if numel is None else numel, key


class TorchPickler(pickle._Pickler):
    """Writes ``Global`` and ``Call`` and gives storages the ids that torch gives them; ``parts``: the older format."""

    def __init__(self, file, protocol=2, parts=False):
        super().__init__(file, protocol)
        self.parts, self.storages = parts, {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = value.key or next((k for k, v in self.storages.items() if v is value), str(len(self.storages)))
        self.storages.setdefault(key, value)
        pid = ("storage", Global(value.module, value.kind), key, "cpu", value.numel)
        return (*pid, value.part) if self.parts else pid

    def save_named(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_call(self, value):
        self.save_reduce(value.function, value.arguments, state=value.state, obj=value)

    dispatch = pickle._Pickler.dispatch | {Global: save_named, Call: save_call}


def tensor(storage, shape, strides=None, offset=0, function="_rebuild_tensor_v2"):
    """A tensor as torch pickles it; C-contiguous where no strides (in elements) are given."""
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    tail = () if function == "_rebuild_tensor" else (False, collections.OrderedDict())
    return Call(Global("torch._utils", function), storage, offset, shape, strides, *tail)


def dump(value, protocol=2, parts=False):
    """Returns the pickle and the storages that it names, by key."""
    file = io.BytesIO()
    pickler = TorchPickler(file, protocol, parts)
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def write_zip(path, value, pickled=None, prefix="archive", byte_order="little", members=None, deflated=()):
    """The zip format; ``pickled`` replaces the pickle, ``members`` are added or (None) left out, ``deflated`` ones compressed."""
    data, storages = dump(value)
    order = "<" if byte_order in (None, "little") else ">"
    content = {"data.pkl": pickled or data, "byteorder": byte_order and byte_order.encode()}
    for key, storage in storages.items():
        content[f"data/{key}"] = storage.array.astype(storage.array.dtype.newbyteorder(order)).tobytes()
    content |= {"version": b"3\n"} | (members or {})
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in content.items():
            if member is not None:
                compression = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
                archive.writestr(f"{prefix}/{name}", member, compression)
    return path


def write_stream(path, value, pickled=None, magic=MAGIC, version=1001, counts=None, keys=None, protocol=2):
    """The older format; ``pickled`` replaces the pickle, ``keys`` and ``counts`` those of the storages that follow it."""
    data, storages = dump(value, protocol, parts=True)
    head = (magic, version, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}})
    stream = b"".join(pickle.dumps(item, protocol) for item in head) + (pickled or data)
    keys = sorted(storages) if keys is None else keys
    stream += pickle.dumps(keys, protocol)
    for key in keys:
        stream += struct.pack("<q", (counts or {}).get(key, storages[key].array.size))
        stream += storages[key].array.astype(storages[key].array.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(stream)
    return path


WRITERS = {"zip": write_zip, "stream": write_stream}


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    """A function that writes a value as a checkpoint, in each format."""
    return lambda value, **options: WRITERS[request.param](tmp_path / "weights.pth", value, **options)


@pytest.fixture
def refuses(expect_sentence):
    """A function that checks that a file is refused in one sentence that names it, and returns the sentence."""
    return lambda path, *parts: expect_sentence(lambda: read_tensors(path), path, *parts)


def marked(path):
    """A function to be called by a malicious pickle, its arguments, and whether it ran."""
    return f"touch {path}", path.exists


# --- what is read ---


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("FloatStorage", np.array([1.5, -2.25, np.inf], "f4"), np.array([1.5, -2.25, np.inf], "f4")),
        ("DoubleStorage", np.array([0.1, -1e300], "f8"), np.array([0.1, -1e300], "f8")),
        ("HalfStorage", np.array([0.5, -65504], "f2"), np.array([0.5, -65504], "f4")),
        # bfloat16 is the upper half of a float32: 1.0 = 0x3f800000, -2.5 = 0xc0200000, 2**-126 = 0x00800000.
        ("BFloat16Storage", np.array([0x3F80, 0xC020, 0x0080], "u2"), np.array([1.0, -2.5, 2.0**-126], "f4")),
        ("LongStorage", np.array([2**62, -1], "i8"), np.array([2**62, -1], "i8")),
        ("IntStorage", np.array([2**31 - 1, -7], "i4"), np.array([2**31 - 1, -7], "i4")),
        ("ShortStorage", np.array([-32768], "i2"), np.array([-32768], "i2")),
        ("CharStorage", np.array([-128, 127], "i1"), np.array([-128, 127], "i1")),
        ("ByteStorage", np.array([255, 0], "u1"), np.array([255, 0], "u1")),
        ("BoolStorage", np.array([1, 0, 1], "u1"), np.array([True, False, True])),
    ],
)
def test_types(write, kind, stored, expected):
    read = read_tensors(write({"x": tensor(Storage(stored, kind), stored.shape)}))
    assert list(read) == ["x"]
    assert read["x"].dtype == expected.dtype
    np.testing.assert_array_equal(read["x"], expected)


def test_untyped_storage_is_bytes(write):
    path = write({"x": tensor(Storage(np.arange(3, dtype="u1"), "UntypedStorage", "torch.storage"), (3,))})
    np.testing.assert_array_equal(read_tensors(path)["x"], np.arange(3, dtype="u1"))


def test_a_state_dict_keeps_its_order_and_drops_its_metadata(write):
    """What ``model.state_dict()`` is: an OrderedDict with ``_metadata`` in its ``__dict__``, which BUILD restores."""
    state = collections.OrderedDict()
    state["z.weight"] = tensor(Storage(np.arange(6, dtype="f4")), (2, 3))
    state["a.num_batches_tracked"] = tensor(Storage(np.array([7], "i8"), "LongStorage"), ())
    state["m.bias"] = Call(Global("torch._utils", "_rebuild_parameter"), tensor(Storage(np.ones(2, "f4")), (2,)), True, None)
    state._metadata = collections.OrderedDict({"": {"version": 1}, "a": {"version": 2}})
    read = read_tensors(write(state))
    assert list(read) == ["z.weight", "a.num_batches_tracked", "m.bias"]
    assert type(read) is dict
    np.testing.assert_array_equal(read["z.weight"], [[0, 1, 2], [3, 4, 5]])
    assert read["a.num_batches_tracked"].shape == () and read["a.num_batches_tracked"] == 7
    np.testing.assert_array_equal(read["m.bias"], [1, 1])


def test_views_of_one_storage(write):
    """2x3 matrix 0..5: its transpose, its second column, every other element from the end of row one, and an expanded scalar."""
    storage = Storage(np.arange(6, dtype="f4"))
    read = read_tensors(
        write(
            {
                "whole": tensor(storage, (2, 3)),
                "transposed": tensor(storage, (3, 2), (1, 3)),
                "column": tensor(storage, (2,), (3,), offset=1),
                "last": tensor(storage, (), (), offset=5),
                "expanded": tensor(storage, (2, 2), (0, 0), offset=4),
                "any_stride_of_one": tensor(storage, (1, 2), (2**62, 1), offset=4),
                "again": tensor(storage, (2, 3)),
            }
        )
    )
    expected = {
        "whole": [[0, 1, 2], [3, 4, 5]],
        "transposed": [[0, 3], [1, 4], [2, 5]],
        "column": [1, 4],
        "last": 5,
        "expanded": [[4, 4], [4, 4]],
        "any_stride_of_one": [[4, 5]],
        "again": [[0, 1, 2], [3, 4, 5]],
    }
    assert list(read) == list(expected)
    for name, values in expected.items():
        assert read[name].shape == np.shape(values)
        assert read[name].flags.c_contiguous
        np.testing.assert_array_equal(read[name], values)
    read["whole"][:] = -1  # arrays of different views do not share memory
    for name in ("transposed", "last", "any_stride_of_one"):
        np.testing.assert_array_equal(read[name], expected[name])


def test_a_transposed_tensor_alone_in_its_storage(write):
    read = read_tensors(write({"x": tensor(Storage(np.arange(6, dtype="f4")), (3, 2), (1, 3))}))
    np.testing.assert_array_equal(read["x"], np.arange(6).reshape(2, 3).T)
    assert read["x"].flags.c_contiguous


def test_empty_tensors(write):
    nothing = np.zeros(0, "f4")
    read = read_tensors(write({"x": tensor(Storage(nothing), (0,)), "y": tensor(Storage(np.ones(2, "f4")), (3, 0, 2))}))
    assert read["x"].shape == (0,) and read["y"].shape == (3, 0, 2)


def test_older_functions(write):
    """``_rebuild_tensor`` (before 0.4) and torch.Size."""
    size = Call(Global("torch", "Size"), (2, 1))
    storage = Storage(np.array([3, 4], "f4"))
    old = Call(Global("torch._utils", "_rebuild_tensor"), storage, 0, size, (1, 1))
    np.testing.assert_array_equal(read_tensors(write({"x": old}))["x"], [[3], [4]])


def test_python_2_files(tmp_path):
    """Python 2 pickled an OrderedDict as a call with a list of pairs, and names as byte strings."""
    state = tensor(Storage(np.array([1, 2], "f4")), (2,))
    body = dump(state, parts=True)[0][2:-1]  # without PROTO and STOP
    pickled = b"\x80\x02ccollections\nOrderedDict\n]](U\x06weight" + body + b"ea\x85R."
    path = write_stream(tmp_path / "old.pth", state, pickled=pickled)
    np.testing.assert_array_equal(read_tensors(path)["weight"], [1, 2])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, protocol):
    state = collections.OrderedDict(x=tensor(Storage(np.array([1, 2], "f4")), (2,)))
    read = read_tensors(write_stream(tmp_path / "w.pth", state, protocol=protocol))
    np.testing.assert_array_equal(read["x"], [1, 2])


@pytest.mark.parametrize("byte_order", ["little", "big", None])
def test_byte_orders_of_zip_files(tmp_path, byte_order):
    state = {"x": tensor(Storage(np.array([1, 258], "i4"), "IntStorage"), (2,))}
    state["y"] = tensor(Storage(np.array([0x3F80], "u2"), "BFloat16Storage"), (1,))
    read = read_tensors(write_zip(tmp_path / "w.pth", state, byte_order=byte_order))
    np.testing.assert_array_equal(read["x"], [1, 258])
    assert read["x"].dtype.isnative and read["y"] == 1.0


def test_any_prefix_in_zip_files(tmp_path):
    state = {"x": tensor(Storage(np.ones(1, "f4")), (1,))}
    assert read_tensors(write_zip(tmp_path / "w.pth", state, prefix="fcn_resnet50_coco-1167a1af"))["x"] == 1


def test_parts_of_storages_in_the_older_format(tmp_path):
    """Two views of one storage under its root's key; the tensor's offset counts within the view."""
    root = np.arange(10, dtype="f4")
    state = {
        "a": tensor(Storage(root, part=("1", 2, 4), key="0"), (3,), offset=1),
        "b": tensor(Storage(root, part=("2", 8, 2), key="0"), (2,)),
    }
    read = read_tensors(write_stream(tmp_path / "w.pth", state))
    np.testing.assert_array_equal(read["a"], [3, 4, 5])
    np.testing.assert_array_equal(read["b"], [8, 9])


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_training_checkpoints(write, wrapper):
    """The state_dict is found beside an optimizer with tensors of its own; what is no tensor is left out."""
    optimizer = {"state": {0: {"step": tensor(Storage(np.ones(1, "f4")), ())}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    state = collections.OrderedDict(weight=tensor(Storage(np.array([5], "f4")), (1,)), extra=None)
    read = read_tensors(write({"epoch": 3, "best": 0.5, wrapper: state, "optimizer": optimizer, "names": ("a", True, -1)}))
    assert list(read) == ["weight"]
    assert read["weight"] == 5


def test_a_tensor_may_be_called_model(write):
    assert read_tensors(write({"model": tensor(Storage(np.array([5], "f4")), (1,)), "epoch": 1}))["model"] == 5


@pytest.mark.parametrize(("kind", "dtype", "most"), [("FloatStorage", "f4", 1.15), ("HalfStorage", "f2", 2.4)])
def test_memory_stays_near_what_is_returned(write, kind, dtype, most):
    """Four equal tensors, 16 MB as float32: float32 is read in place, float16 needs its storage (1/8 of the result) besides."""
    arrays = [np.full(2**20, index, dtype) for index in range(4)]
    path = write({str(index): tensor(Storage(array, kind), (2**20,)) for index, array in enumerate(arrays)})
    tracemalloc.start()
    read = read_tensors(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [array[-1] for array in read.values()] == [0, 1, 2, 3]
    assert peak < most * path.stat().st_size


# --- code ---


class Evil:
    """Pickled as a call of ``function``, as any object may ask for."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def evil_values(command):
    """Ways to run a command from a pickle, with the name that the refusal must bear."""
    script = f"__import__('os').system({command!r})"
    system = f"{os.system.__module__}.system"
    return {
        "system": (Evil(os.system, command), system),
        "eval": (Evil(eval, script), ".eval'"),
        "exec": (Evil(exec, script), ".exec'"),
        "getattr": (Evil(getattr, Evil(__import__, "os"), "system"), ".getattr'"),
        "in a list": ({"x": [({"y": Evil(os.system, command)},)]}, system),
        "as a hook": (Call(Global("torch._utils", "_rebuild_parameter"), None, True, Evil(os.system, command)), system),
        "dotted": (Call(Global("torch", "os.system"), command), "torch.os.system"),
        "of an allowed module": (Call(Global("torch._utils", "_import_dotted_name"), "os.system"), "_import_dotted_name"),
        "attribute of an allowed class": (Call(Global("collections", "OrderedDict.fromkeys")), "OrderedDict.fromkeys"),
        "our own reader": (Call(Global("tfzoo.weights.torch_file", "pathlib.os.system"), command), "torch_file.pathlib.os.system"),
        "loads": (Evil(pickle.loads, pickle.dumps(Evil(os.system, command))), "pickle.loads"),
    }


@pytest.mark.parametrize("way", list(evil_values("")))
def test_code_is_refused_by_name_and_never_run(write, refuses, tmp_path, way):
    command, ran = marked(tmp_path / "ran")
    value, name = evil_values(command)[way]
    good = tensor(Storage(np.ones(2, "f4")), (2,))
    sentence = refuses(write(collections.OrderedDict(weight=good, evil=value)), name)
    assert "nothing of it was run" in sentence
    assert not ran()


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_in_every_protocol(tmp_path, refuses, protocol):
    """The same pickle in the place of each format's own, and as the whole file."""
    command, ran = marked(tmp_path / "ran")
    evil = pickle.dumps(Evil(os.system, command), protocol)
    refuses(write_zip(tmp_path / "a.pth", {}, pickled=evil), "system'")
    refuses(write_stream(tmp_path / "b.pth", {}, pickled=evil), "system'")
    (tmp_path / "c.pth").write_bytes(evil)
    refuses(tmp_path / "c.pth")
    assert not ran()


def test_the_marker_would_be_set(tmp_path):
    """The proof of the tests above: an ordinary unpickler runs the command."""
    command, ran = marked(tmp_path / "ran")
    pickle.loads(pickle.dumps(Evil(os.system, command)))
    assert ran()


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_the_head_of_the_older_format(tmp_path, refuses, protocol):
    command, ran = marked(tmp_path / "ran")
    for field in ("magic", "version"):
        refuses(write_stream(tmp_path / "w.pth", {}, protocol=protocol, **{field: Evil(os.system, command)}), "system'")
    assert not ran()


def text(value):
    """A str in pickle's own bytes."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


ODD_PICKLES = {
    "INST of os.system": (b"(" + text("true") + b"ios\nsystem\n.", "os.system"),
    "INST of an allowed name": (b"(icollections\nOrderedDict\n.", "INST"),
    "OBJ": (b"(ccollections\nOrderedDict\no.", "OBJ"),
    "NEWOBJ": (b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "STACK_GLOBAL": (text("os") + text("system") + b"\x93" + text("true") + b"\x85R.", "os.system"),
    "STACK_GLOBAL without names": (b"K\x01K\x02\x93.", ""),
    "a text id": (b"Pos.system\n.", "PERSID"),
    "an id that is no tuple": (text("os.system") + b"Q.", "no storage"),
    "an id of a module": (b"(" + text("module") + b"NNNNtQ.", "no storage"),
    "an id without a type": (b"(" + text("storage") + text("torch.FloatStorage") + text("0") + text("cpu") + b"K\x01tQ.", "type"),
    "a call of a text": (text("os.system") + b")R.", "no function"),
    "a call of a storage type": (b"ctorch\nFloatStorage\nK\x09\x85R.", "no function"),
    "a call without a tuple": (b"ccollections\nOrderedDict\n]R.", "no function"),
    "a call with too many arguments": (b"ccollections\nOrderedDict\nNNN\x87R.", ""),
    "a state for a function": (b"ctorch._utils\n_rebuild_tensor\n}" + text("__code__") + b"Nsb.", "sets the state"),
    "a state for a storage type": (b"ctorch\nFloatStorage\n}" + text("stored") + text("f8") + b"sb.", "sets the state"),
    "a slot state": (b"ccollections\nOrderedDict\n)RN}" + text("clear") + b"Ns\x86b.", "sets the state"),
    "items in a list": (b"]K\x00K\x01s.", "no dict"),
    "items in a function": (b"ccollections\nOrderedDict\n" + text("x") + b"Ns.", "no dict"),
    "appending to a dict": (b"}K\x01a.", "no list"),
    "a dict of what are no pairs": (b"ccollections\nOrderedDict\n]K\x01a\x85R.", "odd dict"),
    "an unhashable key": (b"}]Ns.", "keys"),
    "a memo that was never set": (b"h\x05.", ""),
    "a large memo index": (b"Nr\xff\xff\xff\xff.", "no tensors"),
    "an empty stack": (b".", ""),
    "a claim of 4 GB of text": (b"X\xff\xff\xff\xffabc.", "pickle of more than"),
    "a claim of a frame without end": (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "pickle of more than"),
    "eight bytes of length": (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "BINUNICODE8"),
    "no opcode": (b"\xff.", "0xff"),
    "no end": (b"}", ""),
}


@pytest.mark.parametrize("case", list(ODD_PICKLES))
def test_odd_pickles_are_refused(write, refuses, case):
    body, part = ODD_PICKLES[case]
    refuses(write({}, pickled=b"\x80\x02" + body), part)


@pytest.mark.parametrize("opcode", [b"\x82\x07", b"\x83\x07\x00", b"\x84\x07\x00\x00\x00"])
def test_extension_codes_are_refused(write, refuses, monkeypatch, opcode):
    """Even where a library has registered one: the C unpickler would take it from a cache, past ``find_class``."""
    monkeypatch.setitem(copyreg._inverted_registry, 7, ("builtins", "eval"))
    monkeypatch.setitem(copyreg._extension_cache, 7, builtins.eval)
    refuses(write({}, pickled=b"\x80\x02" + opcode + text("1") + b"\x85R."), "EXT")


def test_depth_does_no_harm(write, refuses):
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    refuses(write({}, pickled=deep), "no tensors")
    key = b"\x80\x02})" + b"\x85" * 100_000 + b"Ns."  # hashing such a tuple would end the process
    refuses(write({}, pickled=key), "keys")


def test_a_list_cannot_be_multiplied(write, refuses):
    """A list of pairs is used up by the dict that it makes: a thousand calls give one dict, not a thousand."""
    pairs = b"]q\x00(" + b"".join(b"]K" + bytes([number]) + b"aNa" for number in range(200)) + b"e"
    pickled = b"\x80\x02](" + pairs + b"ccollections\nOrderedDict\nh\x00\x85R" * 1000 + b"e."
    tracemalloc.start()
    refuses(write({}, pickled=pickled), "no tensors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_a_self_containing_dict(write, refuses):
    refuses(write({}, pickled=b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s."), "no tensors")


def test_the_pickle_has_a_limit(write, refuses, monkeypatch):
    monkeypatch.setattr(torch_file, "PICKLE_LIMIT", 2**20)
    refuses(write({"x": "a" * 2**20}), "pickle of more than 1 MB")


# --- tensors that are none ---


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "part"),
    [
        ((7,), (1,), 0, "(7) that reaches beyond its storage of 6"),
        ((2, 3), (4, 1), 0, "beyond"),
        ((2,), (1,), 5, "beyond"),
        ((), (), 6, "beyond"),
        ((2, 3), (3, 1), -1, "starts at -1"),
        ((2, -3), (3, 1), 0, "(2, -3)"),
        ((2, 3), (-3, 1), 3, "(-3, 1)"),
        ((2, 3), (3,), 0, "strides (3)"),
        ((2.0, 3), (3, 1), 0, "(2.0, 3)"),
        ((True, 3), (3, 1), 0, "bool"),
        ((2**62, 2**62), (1, 1), 0, "beyond"),
        ((2**64,), (0,), 0, "shape"),
        ((1,) * 65, (1,) * 65, 0, "shape"),
        ("23", (3, 1), 0, "shape 23"),
        ((2, 3), (3, 1), "0", "starts at 0"),
        ((2**40,), (0,), 0, "bytes in"),
        ((2**40, 2**40, 2**40), (0, 0, 0), 0, "bytes in"),
    ],
)
def test_tensors_beyond_their_storage(write, refuses, shape, strides, offset, part):
    """Refused before any memory is taken: most of these would need more than there is."""
    refuses(write({"x": tensor(Storage(np.arange(6, dtype="f4")), shape, strides, offset)}), part)


def test_many_views_of_one_large_storage(write, refuses):
    """4 MB of file that would be 400 MB of arrays."""
    storage = Storage(np.zeros(2**20, "f4"))
    refuses(write({str(i): tensor(storage, (2**20 - i,)) for i in range(100)}), "bytes in")


def test_names_that_share_a_tensor_cost_nothing(write):
    shared = tensor(Storage(np.zeros(2**20, "f4")), (2**20,))
    read = read_tensors(write({str(i): shared for i in range(100)}))
    assert len(read) == 100 and read["0"] is read["99"]


@pytest.mark.parametrize("numel", [2**60, 7, 5, -1, 2**70])
def test_storages_of_another_size(write, refuses, numel):
    refuses(write({"x": tensor(Storage(np.arange(6, dtype="f4"), numel=numel), (2,))}), "get it again")


def test_one_key_for_two_storages(write, refuses):
    one, other = (Storage(np.arange(size, dtype="f4"), key="0") for size in (4, 6))
    refuses(write({"x": tensor(one, (2,)), "y": tensor(other, (2,))}), "two storages named '0'")


def test_a_tensor_without_a_storage(write, refuses):
    refuses(write({"x": Call(Global("torch._utils", "_rebuild_tensor"), [1.0] * 6, 0, (6,), (1,))}), "without a storage")
    refuses(write({"x": Call(Global("torch._utils", "_rebuild_parameter"), 7, True, None)}), "without a tensor")


def test_pending_metadata_are_refused(write, refuses):
    storage = Storage(np.ones(1, "f4"))
    value = Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, 0, (1,), (1,), False, None, {"neg": True})
    refuses(write({"x": value}), "pending metadata")


@pytest.mark.parametrize("part", [("1", 8, 3), ("1", -1, 2), ("1", 2**62, 2**62), ("1", 0), "all"])
def test_parts_beyond_their_storage(tmp_path, refuses, part):
    state = {"x": tensor(Storage(np.arange(10, dtype="f4"), part=part), (1,))}
    refuses(write_stream(tmp_path / "w.pth", state), "part")


def test_a_tensor_beyond_its_part(tmp_path, refuses):
    state = {"x": tensor(Storage(np.arange(10, dtype="f4"), part=("1", 2, 3)), (4,))}
    refuses(write_stream(tmp_path / "w.pth", state), "beyond its storage of 3")


@pytest.mark.parametrize("value", [[], {}, 3, None, "weights", {"epoch": 3}, {"state_dict": {}}, {"model": 3}])
def test_no_tensors(write, refuses, value):
    refuses(write(value), "holds no tensors by name")


def test_a_tensor_alone_has_no_name(write, refuses):
    refuses(write(tensor(Storage(np.ones(1, "f4")), (1,))), "holds no tensors by name")


def test_a_whole_model_is_refused_by_its_class(write, refuses):
    model = Call(Global("torchvision.models.segmentation.fcn", "FCN"), state={"training": False})
    refuses(write(model), "'torchvision.models.segmentation.fcn.FCN'", "torch.save(model.state_dict()")


# --- damaged and foreign files ---


def good_state():
    return {name: tensor(Storage(np.arange(50, dtype="f4")), (5, 10)) for name in ("a", "b")}


def test_missing_file(tmp_path, expect_sentence):
    expect_sentence(lambda: read_tensors(tmp_path / "none.pth"), tmp_path / "none.pth", missing=True)
    expect_sentence(lambda: read_tensors(str(tmp_path)), tmp_path, missing=True)


def test_truncated_at_any_length(write, refuses):
    path = write(good_state())
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refuses(path)
    path.write_bytes(whole[:-1])
    refuses(path)


def test_damaged_anywhere(write, refuses, expect_sentence):
    """One byte changed: refused in a sentence, or read (a changed element, a changed name), never another exception."""
    path = write(good_state())
    whole = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    refused = 0
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        try:
            read_tensors(path)
        except torch_file.InputError:
            refuses(path)
            refused += 1
    assert refused > 50


def test_changed_elements_are_noticed_in_zip_files(tmp_path, refuses):
    path = write_zip(tmp_path / "w.pth", good_state())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<f", 49), struct.pack("<f", 48), 1))
    refuses(path, "CRC")


def test_random_bytes(tmp_path, refuses):
    generator = np.random.default_rng(0)
    path = tmp_path / "w.pth"
    for start in (b"", b"\x80", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", pickle.dumps(MAGIC, 2)):
        for length in (0, 3, 100, 1000):
            path.write_bytes(start + generator.bytes(length))
            refuses(path)


def test_random_pickles(write, refuses):
    """Well-formed opcodes in random order reach further into the machine than random bytes do."""
    generator = np.random.default_rng(0)
    pieces = [bytes([code]) for code in torch_file._TensorUnpickler.dispatch if code not in b"cXTBUC\x8c\x95\x8aG"]
    pieces += [b"K\x01", b"h\x00", b"q\x00", text("storage"), text("0"), b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n"]
    pieces += [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n", b"(", b")", b"}", b"]"]
    for _ in range(300):
        body = b"".join(pieces[index] for index in generator.integers(0, len(pieces), 30))
        refuses(write({}, pickled=b"\x80\x02" + body + b"."))


def test_foreign_files(tmp_path, refuses):
    path = tmp_path / "w.pth"
    path.write_text("class weights\nversion https://git-lfs.github.com/spec/v1\n")
    refuses(path, "is no PyTorch checkpoint", "class we")
    path.write_bytes(b"")
    refuses(path, "is no PyTorch checkpoint")
    path.write_bytes(pickle.dumps({"weight": 1}, 2))
    refuses(path, "is a pickle, but no PyTorch checkpoint")
    path.write_bytes(pickle.dumps({"weight": np.ones(3)}, 4))
    refuses(path, "'numpy")
    path.write_bytes(b"storages" + b"\0" * 249 + b"ustar  \0" + b"\0" * 500)
    refuses(path, "tar")
    np.savez(tmp_path / "arrays.npz", x=np.ones(3))
    refuses(tmp_path / "arrays.npz", "0 members */data.pkl")


def test_members_of_zip_files(tmp_path, refuses):
    path, state = tmp_path / "w.pth", good_state()
    refuses(write_zip(path, state, members={"data/1": None}), "lacks the member 'archive/data/1'")
    refuses(write_zip(path, state, members={"data.pkl": None}), "0 members */data.pkl")
    refuses(write_zip(path, state, members={"more/data.pkl": b""}), "2 members */data.pkl")
    refuses(write_zip(path, state, members={"data/1": b"\0" * 100}), "25 elements in storage '1' where 50")
    refuses(write_zip(path, state, members={"byteorder": b"middle"}), "byte order")
    refuses(write_zip(path, state, deflated=["data.pkl"]), "compressed member 'archive/data.pkl'")
    with zipfile.ZipFile(write_zip(path, state), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(200))
    refuses(path, "two members of one name")


def test_names_that_lead_elsewhere(tmp_path, refuses):
    """Neither a member nor a key is ever a path: nothing is written, nothing outside the zip is read."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4))
    for key in ("../../secret", str(tmp_path / "secret"), "../data.pkl"):
        path = tmp_path / "inner" / "w.pth"
        refuses(write_zip(path, {"x": tensor(Storage(np.ones(1, "f4"), key=key), (1,))}, members={f"data/{key}": None}), "lacks")
    write_zip(path, {"x": tensor(Storage(np.ones(1, "f4")), (1,))}, members={"../../../evil": b"evil"})
    assert read_tensors(path)["x"] == 1
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["inner", "secret", "w.pth"]


def test_a_bomb_of_zeros(tmp_path, refuses):
    """16 MB that deflate makes small: refused before they are unpacked."""
    zeros = Storage(np.zeros(2**22, "f4"))
    path = write_zip(tmp_path / "w.pth", {"x": tensor(zeros, (2**22,))}, deflated=["data/0"])
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    refuses(path, "compressed")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_members_that_overlap(tmp_path, refuses):
    """Two entries of the directory that point to the same bytes: many of them would make a small file huge."""
    state = {"x": tensor(Storage(np.zeros(2**16, "f4")), (2**16,))}
    path = write_zip(tmp_path / "w.pth", state)
    with zipfile.ZipFile(path, "a") as archive:
        info = archive.getinfo("archive/data/0")
        for index in range(1, 4):
            twin = zipfile.ZipInfo(f"archive/data/{index}")
            twin.CRC, twin.file_size, twin.compress_size, twin.header_offset = info.CRC, 2**18, 2**18, info.header_offset
            archive.filelist.append(twin)
        archive._didModify = True
    refuses(path, "larger than the whole file")


def test_counts_of_the_older_format(tmp_path, refuses):
    path, state = tmp_path / "w.pth", good_state()
    refuses(write_stream(path, state, counts={"1": 49}), "49 elements in storage '1' where 50")
    refuses(write_stream(path, state, counts={"0": -1}), "-1 elements")
    refuses(write_stream(path, state, counts={"0": 2**62}), "elements in storage '0'")
    huge = {"x": tensor(Storage(np.zeros(4, "f4"), numel=2**40), (2,))}
    refuses(write_stream(path, huge, counts={"0": 2**40}), "ends before its storage '0' does")
    refuses(write_stream(path, state, keys=["0"]), "lacks the storage '1'")
    refuses(write_stream(path, state, keys=["0", "1", "0"]), "there twice")
    refuses(write_stream(path, state, keys=[]), "lacks the storage '0'")
    data = write_stream(path, state).read_bytes()
    path.write_bytes(data.replace(pickle.dumps(["0", "1"], 2), pickle.dumps(["0", "7"], 2)))
    refuses(path, "storage '7' that is unknown")
    refuses(write_stream(path, state, version=1002), "protocol 1002")
    refuses(write_stream(path, state, magic=MAGIC + 1), "no PyTorch checkpoint")
