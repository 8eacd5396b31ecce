"""The model file: the same bytes for the same model, damaged files refused, the old file safe.

Regenerate the golden file, after a change of format only, with `python tests/test_network_file.py`.
"""

import errno
import fcntl
import json
import os
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from carousel.errors import ArgumentError, FormatError
from carousel.network import Dense, Network, Texts, document, load, save
from model_files import container, dumps, golden_network, meddled, rebuilt

GOLDEN = Path(__file__).parent / "data" / "network-v1.carousel"


@document("test.inner")
@dataclass(frozen=True)
class Inner:
    scale: float
    times: NDArray[np.datetime64] | NDArray[np.int64]


@document("test.everything")
@dataclass(frozen=True)
class Everything:
    name: str
    count: int
    flag: bool
    rate: float | None
    either: int | str
    mode: Literal["a", "b"]
    columns: tuple[str, ...]
    pair: tuple[int, str]
    ids: Texts
    values: NDArray[np.float64]
    single: NDArray[np.float32]
    inner: tuple[Inner, ...]
    extra: Inner | Dense | None


def everything(**changes):
    values = {
        "name": 'naïve "quoted" \n 中文 \x00 🎠',
        "count": -(2**63),
        "flag": True,
        "rate": None,
        "either": "x",
        "mode": "b",
        "columns": ("ds", ""),
        "pair": (7, "seven"),
        "ids": ("", "größe", "b\x00c", "🎠"),
        "values": np.array([[np.nan, -0.0], [np.inf, 5e-324]]),
        "single": np.array(3, np.float32),
        "inner": (
            Inner(0.1, np.array(["2024-01-01", "NaT"], "datetime64[us]")),
            Inner(1e300, np.arange(3)),
        ),
        "extra": Dense(np.eye(2)),
    }
    return Everything(**{**values, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


def header_of(raw):
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length].decode()


# The same model, the same bytes


def test_golden_file_is_what_save_writes(path):
    save(golden_network(), path)
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_golden_file_is_read():
    assert load(GOLDEN) == golden_network()


def test_safetensors_reads_it_too():
    with safe_open(GOLDEN, framework="np") as file:
        assert [*file.metadata()] == ["carousel"]
        document = json.loads(file.metadata()["carousel"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    assert document["value"]["kind"] == "network"
    np.testing.assert_array_equal(tensors["layers.4.W"], golden_network().layers[4].W)
    assert len(tensors) == 18


def test_the_digest_is_the_one_specified():
    with safe_open(GOLDEN, framework="np") as file:
        text = file.metadata()["carousel"]
        stated = json.loads(text)["sha256"]
        digest = sha256(text.replace(stated, "0" * 64).encode())
        for name in sorted(file.keys()):
            shape = ",".join(map(str, file.get_slice(name).get_shape()))
            digest.update(f'["{name}","float32",[{shape}]]'.encode() + file.get_tensor(name).tobytes())
    assert stated == digest.hexdigest()


def test_every_type_there_and_back(path):
    save(everything(), path)
    again = load(path)
    assert again == everything()
    assert np.signbit(again.values[0, 1])
    assert (again.single.shape, again.inner[0].times.dtype.name) == ((), "datetime64[us]")
    first = path.read_bytes()
    save(again, path)
    assert path.read_bytes() == first


def test_the_form_that_is_written(path):
    save(everything(), path)
    text = header_of(path.read_bytes())
    header = json.loads(text)
    assert text.rstrip(" ") == dumps(header)
    assert len(text.encode()) % 8 == 0
    assert next(iter(header)) == "__metadata__"
    place = {"I64": 0, "F64": 1, "F32": 2, "U8": 3}
    entries = [(place[entry["dtype"]], name) for name, entry in list(header.items())[1:]]
    assert entries == sorted(entries)
    assert {dtype for dtype, _ in entries} == {0, 1, 2, 3}


def test_strided_and_big_endian_arrays_give_the_same_bytes(path):
    save(everything(values=np.arange(6.0).reshape(2, 3)), path)
    first = path.read_bytes()
    save(everything(values=np.arange(6.0).reshape(2, 3).T.copy().T.astype(">f8")), path)
    assert path.read_bytes() == first


def test_a_hundred_thousand_ids_are_a_tensor(path):
    ids = tuple(f"series-{k}" for k in range(100_000))
    save(everything(ids=ids), path)
    assert load(path).ids == ids
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] < 5000


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": 3}, "`name` must be str, got 3"),
        ({"name": "\ud800"}, "`name` must be text that UTF-8 can hold"),
        ({"count": True}, "`count` must be int, got True"),
        ({"count": 2**63}, "`count` must fit into 64 bits"),
        ({"rate": float("nan")}, "`rate` must be finite"),
        ({"mode": "c"}, "`mode` must be 'a' or 'b', got 'c'"),
        ({"columns": ["ds"]}, "`columns` must be a tuple, got list"),
        ({"pair": (1,)}, "`pair` must have 2 items, got 1"),
        ({"ids": ("a", 3)}, "`ids` must be a tuple of strings"),
        ({"values": [1.0]}, "`values` must be an array, got list"),
        ({"values": np.zeros(3, np.float32)}, "`values` must have dtype float64, got float32"),
        ({"inner": (3,)}, r"`inner.0` must be Inner, got 3"),
        ({"inner": (Inner(1.0, np.array(["2024"], "datetime64[7D]")),)}, r"`inner.0.times` must have dtype"),
        ({"columns": ("x" * 1000,) * 10_000}, "keep long tuples of strings as Texts"),
    ],
)
def test_save_refuses_what_the_class_does_not_declare(path, changes, text):
    with pytest.raises(ArgumentError, match=text):
        save(everything(**changes), path)
    assert not path.exists()


def test_save_refuses_what_is_not_registered(path):
    with pytest.raises(ArgumentError, match=r"the value must be .* got dict"):
        save({}, path)


def test_registry_refuses_a_second_class_and_thawed_ones():
    with pytest.raises(TypeError, match="'dense' is Dense already"):
        document("dense")(Inner)
    with pytest.raises(TypeError, match="frozen dataclass"):
        document("test.thawed")(dataclass(type("Thawed", (), {})))


# Files that are not what they say


def refused(path, content, text=None):
    path.unlink(missing_ok=True)  # to cut a file to nothing and fill it again makes some file systems wait
    path.write_bytes(content)
    with pytest.raises(FormatError, match=text) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith((f"{path} is not a carousel model: ", f"{path}: "))
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400


def test_every_flipped_byte_is_refused(path):
    raw = GOLDEN.read_bytes()
    rng = np.random.default_rng(3)
    for k in range(len(raw)):
        bent = bytearray(raw)
        bent[k] ^= 1 << int(rng.integers(8))
        refused(path, bytes(bent))


def test_every_shorter_file_is_refused(path):
    raw = GOLDEN.read_bytes()
    for k in range(0, len(raw), 3):
        refused(path, raw[:k], "model is not a carousel model: ")
    refused(path, raw[:-1], r"it is cut short: its tensors take \d+ bytes, but \d+ are there")
    refused(path, b"", "it has 0 bytes, fewer than any model")


def test_a_longer_file_is_refused(path):
    refused(path, GOLDEN.read_bytes() + b"\0", "safetensors cannot read it")


def test_random_bytes_are_refused(path):
    rng = np.random.default_rng(5)
    for size in (0, 1, 8, 9, 100, 5000):
        refused(path, rng.bytes(size))
    refused(path, struct.pack("<Q", 8) + rng.bytes(8))


def set_(tree, keys, value):
    *inner, last = keys
    place = tree
    for key in inner:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return tree


LAYER = ("value", "layers", 0)
DOCUMENTS = {
    "format 2": (lambda d: d | {"format": 2}, "the file says format 2, but what it holds is of format 1"),
    "format 4": (lambda d: d | {"format": 4}, "has format 4, this version of carousel reads formats 1 to 3"),
    "format text": (lambda d: d | {"format": "1"}, "no format number"),
    "format true": (lambda d: d | {"format": True}, "no format number"),
    "list": (lambda d: [], "no format number"),
    "no digest": (lambda d: {"format": 1, "value": d["value"]}, "must have format, sha256 and value"),
    "extra key": (lambda d: d | {"more": 1}, "must have format, sha256 and value"),
    "digest null": (lambda d: d | {"sha256": None}, "is damaged"),
    "null": (lambda d: d | {"value": None}, "the value must be of kind"),
    "unknown kind": (
        lambda d: set_(d, (*LAYER, "kind"), "cnn"),
        r"`layers.0` must be of kind 'recurrent' or 'dense'",
    ),
    "wrong kind": (lambda d: set_(d, (*LAYER, "kind"), "weights"), r"`layers.0` must be of kind"),
    "kind list": (lambda d: set_(d, (*LAYER, "kind"), []), r"`layers.0` must be of kind"),
    "missing field": (
        lambda d: set_(d, (*LAYER, "reset"), ...),
        r"must have the fields cell, directions, reset, activ",
    ),
    "extra field": (
        lambda d: set_(d, (*LAYER, "x"), 1),
        r"`layers.0`, of kind 'recurrent', must have .* activation, x'",
    ),
    "other order": (
        lambda d: set_(d, LAYER, dict(sorted(d["value"]["layers"][0].items()))),
        "must have the fields",
    ),
    "unknown cell": (lambda d: set_(d, (*LAYER, "cell"), "mgu"), r"`layers.0.cell` must be 'lstm'"),
    "wrong option": (lambda d: set_(d, (*LAYER, "activation"), "relu"), "is an option of the cell 'rnn'"),
    "wrong cell": (lambda d: set_(d, (*LAYER[:2], 1, "cell"), "rnn"), r"`layers.1`: `R` must have shape"),
    "object for list": (lambda d: set_(d, ("value", "layers"), {}), "`layers` must be a list"),
    "no layers": (lambda d: set_(d, ("value", "layers"), []), "at least one"),
    "no array": (lambda d: set_(d, ("value", "layers", 4, "W"), 3), r"`layers.4.W` must be an array, got 3"),
    "array dtype": (
        lambda d: set_(d, ("value", "layers", 4, "W"), {"array": "int64"}),
        r"`layers.4.W` must be an array of float32 or float64, got 'int64'",
    ),
    "other dtype": (
        lambda d: set_(d, ("value", "layers", 4, "W"), {"array": "float64"}),
        r"the tensor `layers.4.W` must be float64, got float32",
    ),
    "tensor left over": (
        lambda d: set_(d, ("value", "layers"), d["value"]["layers"][:3]),
        "belongs to nothing",
    ),
    "layer without tensors": (
        lambda d: set_(d, ("value", "layers"), d["value"]["layers"] * 2),
        r"the tensor `layers.5.directions.0.W` is missing",
    ),
    "spaces": (lambda d: json.dumps(d), "canonical"),
    "twice the same key": (lambda d: dumps(d).replace('"value":', '"value":1,"value":', 1), "twice"),
    "not JSON": (lambda d: "{", "not JSON"),
    "deep": (lambda d: '{"format":1,"a":' + "[" * 100_000, "nested too deeply"),
    "NaN": (lambda d: '{"format":NaN}', "not finite"),
    "1e999": (lambda d: '{"format":1e999}', "not finite"),
    "long number": (lambda d: '{"format":' + "9" * 100_000 + "}", "100000 digits"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_documents_are_refused(path, name):
    change, text = DOCUMENTS[name]
    refused(path, rebuilt(GOLDEN, change), text)


def entry(name, **changes):
    return lambda header: header | {name: header[name] | changes}


LIBRARY = "safetensors cannot read it"
HEADERS = {
    "no metadata": (lambda h: {k: v for k, v in h.items() if k != "__metadata__"}, "metadata"),
    "more metadata": (lambda h: h | {"__metadata__": h["__metadata__"] | {"a": "b"}}, "metadata"),
    "metadata null": (lambda h: h | {"__metadata__": None}, "metadata"),
    "metadata number": (lambda h: h | {"__metadata__": {"carousel": 1}}, "metadata"),
    "list": (lambda h: [h["__metadata__"]], "metadata"),
    "unknown dtype": (entry("layers.4.W", dtype="F33"), LIBRARY),
    "dtype that NumPy lacks": (entry("layers.4.W", dtype="BF16", shape=[6]), LIBRARY),
    "dtype that is not ours": (entry("layers.4.W", dtype="I32"), "`layers.4.W` must be float32, got int32"),
    "dtype list": (entry("layers.4.W", dtype=[]), LIBRARY),
    "negative": (entry("layers.4.W", shape=[-1, 3]), LIBRARY),
    "float size": (entry("layers.4.W", shape=[1.0, 3]), LIBRARY),
    "huge": (entry("layers.4.W", shape=[2**62, 2**62]), LIBRARY),
    "huge and empty": (entry("layers.4.W", shape=[0, 2**62, 2**62]), LIBRARY),
    "large": (entry("layers.4.W", shape=[2**40]), LIBRARY),
    "many axes": (entry("layers.4.W", shape=[1] * 100 + [3]), LIBRARY),
    "other shape": (entry("layers.4.W", shape=[3]), r"`W` must have shape \(O, I\)"),
    "overlap": (entry("layers.4.b", data_offsets=[0, 4]), LIBRARY),
    "beyond the end": (entry("layers.4.b", data_offsets=[2**62, 2**62 + 4]), "it is cut short"),
    "offsets": (entry("layers.4.b", data_offsets="ab"), LIBRARY),
    "no dtype": (entry("layers.4.b", dtype=None), LIBRARY),
    "number": (lambda h: h | {"layers.4.b": 7}, LIBRARY),
    "nested": (entry("layers.4.b", more=json.loads("[" * 500 + "]" * 500)), LIBRARY),
    "long number": (entry("layers.4.b", more=10**30), "the header has a number of 31 digits"),
    "left out": (lambda h: {k: v for k, v in h.items() if k != "layers.4.b"}, LIBRARY),
    "too many": (
        lambda h: h | {"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        "the tensor 'more' belongs to nothing",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(path, name):
    change, text = HEADERS[name]
    refused(path, rebuilt(GOLDEN, tensors=change), text)


TEXTS = {
    "twice the same tensor": (lambda t: t.replace("{", '{"layers.4.b":0,', 1), "same name twice"),
    "twice the same metadata": (lambda t: t.replace('"carousel"', '"carousel":"","carousel"', 1), "twice"),
    "not JSON": (lambda t: t.rstrip()[:-1], "the header is not JSON"),
    "deep": (lambda t: "[" * 100_000, "nested too deeply"),
    "half a character": (lambda t: t.replace('"layers.4.b"', '"\\ud800"', 1), LIBRARY),
    "UTF-16": (lambda t: t.encode("utf-16-le"), LIBRARY),
    "no UTF-8": (lambda t: b'{"\xff":1}', "the header is not JSON"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_of_headers_are_refused(path, name):
    raw = GOLDEN.read_bytes()
    change, text = TEXTS[name]
    refused(path, container(change(header_of(raw)), raw[8 + len(header_of(raw)) :]), text)


HARMLESS = {
    "spaces": lambda t: json.dumps(json.loads(t), indent=1) + " " * 9,
    "metadata last": lambda t: dumps(
        {k: json.loads(t)[k] for k in [*list(json.loads(t))[1:], "__metadata__"]}
    ),
    "other order": lambda t: dumps(dict(reversed(json.loads(t).items()))),
    "escapes": lambda t: t.replace("layers", "\\u006cayers"),
    "unknown key": lambda t: t.replace('"dtype"', '"more":1,"dtype"', 1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_another_writer_of_safetensors_would_do_is_read(path, name):
    raw = GOLDEN.read_bytes()
    text = HARMLESS[name](header_of(raw))
    assert text != header_of(raw)
    path.write_bytes(container(text, raw[8 + len(header_of(raw)) :]))
    assert load(path) == golden_network()


def test_numbers_may_lie_in_any_order(path):
    tensors = load_file(GOLDEN)
    first, second = "layers.4.W", "layers.1.directions.0.R"
    with safe_open(GOLDEN, framework="np") as file:
        text = file.metadata()["carousel"]
    rest = [name for name in tensors if name not in (first, second)]
    header, data = {}, b""
    for name in (second, *rest, first):
        tensor = tensors[name]
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += tensor.tobytes()
    path.write_bytes(container(dumps({"__metadata__": {"carousel": text}, **header}), data))
    assert load(path) == golden_network()


def test_names_of_tensors_are_sealed(path):
    raw = GOLDEN.read_bytes()
    one, other = b'"layers.0.directions.0.b_W"', b'"layers.0.directions.0.b_R"'
    swapped = raw.replace(one, b"<one>").replace(other, one).replace(b"<one>", other)
    assert len(swapped) == len(raw)
    refused(path, swapped, "is damaged")


def test_an_integer_is_no_float(path):
    save(everything(), path)
    refused(
        path,
        rebuilt(path, lambda d: set_(d, ("value", "inner", 0, "scale"), 3)),
        "`inner.0.scale` must be float",
    )


@pytest.mark.parametrize("part", ["document", "header"])
def test_meddled_files_are_refused_or_valid(path, part):
    rng = np.random.default_rng(8)
    change = lambda tree: meddled(tree, rng)  # noqa: E731
    messages = []
    for value in (golden_network(), everything()):
        save(value, path)
        for _ in range(400):
            bent = path.with_name("bent")
            bent.unlink(missing_ok=True)
            bent.write_bytes(rebuilt(path, **{"change" if part == "document" else "tensors": change}))
            try:
                again = load(bent)
                assert part == "document" or again == value
            except FormatError as error:
                messages.append(str(error).removeprefix(str(bent)))
    assert len(messages) > 700
    assert max(map(len, messages)) < 500
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(path, value):
    bent = np.float32(value).tobytes()
    refused(path, rebuilt(GOLDEN, data=lambda data: bent + data[4:]), "must be finite")


def test_texts_are_checked(path):
    save(everything(), path)
    raw = rebuilt(path)
    assert load(path) == everything()
    offsets = np.array([0, 0, 8, 11, 15], "<i8").tobytes()  # größe is 7 bytes
    assert raw.count(np.array([0, 0, 7, 10, 14], "<i8").tobytes()) == 1
    for bad, text in (
        (offsets, "must rise from 0"),
        (np.array([0, 7, 0, 10, 14], "<i8").tobytes(), "must rise from 0"),
        (np.array([0, 3, 7, 10, 14], "<i8").tobytes(), "must be UTF-8"),
    ):
        change = lambda data, bad=bad: data.replace(np.array([0, 0, 7, 10, 14], "<i8").tobytes(), bad)  # noqa: E731
        save(everything(), path)
        refused(path, rebuilt(path, data=change), text)


def test_times_of_an_odd_unit_are_refused(path):
    save(everything(), path)
    for unit in ("datetime64", "datetime64[7D]", "datetime64[generic]", "datetime64[us],i4", "object", "O"):
        save(everything(), path)
        change = lambda d, unit=unit: set_(d, ("value", "inner", 0, "times"), {"array": unit})  # noqa: E731
        refused(path, rebuilt(path, change), "`inner.0.times` must be an array of datetime64 or int64")


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("m.ckpt", b"PK\x03\x04", "it is a zip archive, as Keras and torch write them"),
        ("m", b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, as Keras writes them"),
        ("m.onnx", b"\x08\x0a", "by its name it is of another format"),
        ("m.pt", b"PK\x03\x04", "it is a zip archive, as Keras and torch write them"),
    ],
)
def test_files_of_others_are_told_from_damaged_ones(tmp_path, name, start, said):
    """What `carousel convert` would take for ours, by its name, must be renamed first."""
    (tmp_path / name).write_bytes(start + bytes(range(99)))
    way = rf"is not a carousel model: {said}; `carousel convert FILE model\.carousel` makes .* can read"
    renamed = "" if name in ("m.onnx", "m.pt") else r", once its name ends in .*, \.pt of torch"
    with pytest.raises(FormatError, match=rf"{way}{renamed}\.$"):
        load(tmp_path / name)


def test_promises_take_no_memory(path):
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    tracemalloc.start()
    with pytest.raises(FormatError, match="cannot have a header of"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_a_header_above_the_limit_is_not_read(path):
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**30))
        file.truncate(2**30 + 8)  # a sparse file
    with pytest.raises(FormatError, match="the limit is 8388608"):
        load(path)


def test_a_foreign_file_is_not_read_to_its_end(path):
    with path.open("wb") as file:
        file.write(container('{"W":{"dtype":"U8","shape":[1073741824],"data_offsets":[0,1073741824]}}', b""))
        file.truncate(file.tell() + 2**30)
    tracemalloc.start()
    with pytest.raises(FormatError, match="not written by carousel"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_pipes_and_directories_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(FormatError, match="not a regular file"):
            load(place)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")


# The old file is safe

FAULTS = [("write", 1), ("write", 2), ("fsync", 1), ("replace", 1), ("open", 1)]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(("name", "nth"), FAULTS)
def test_a_fault_leaves_the_old_file_and_nothing_else(path, monkeypatch, name, nth, code):
    path.write_bytes(b"old")
    calls = []
    real = getattr(os, name)

    def faulty(*args, **kwargs):
        calls.append(args)
        if len(calls) == nth:
            raise OSError(code, os.strerror(code))
        if name == "write":
            args = (args[0], args[1][:7])  # a part, so that there is a second
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, faulty)
    with pytest.raises(OSError, match=os.strerror(code)):
        save(golden_network(), path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_a_fault_of_the_directory_leaves_the_new_file(path, monkeypatch):
    path.write_bytes(b"old")
    real = os.fsync

    def faulty(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "no")
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", faulty)
    with pytest.raises(OSError, match="no"):
        save(golden_network(), path)
    assert load(path) == golden_network()
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupt_leaves_the_old_file(path, monkeypatch):
    path.write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(golden_network(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_short_writes_are_continued(path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    save(golden_network(), path)
    assert path.read_bytes() == GOLDEN.read_bytes()


def test_permissions(path):
    umask = os.umask(0o027)
    try:
        save(golden_network(), path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        save(golden_network(), path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(umask)


def test_a_symbolic_link_stays(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/target")
    save(golden_network(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "sub" / "target") == golden_network()


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ArgumentError, match="something else"):
            save(golden_network(), place)
    with pytest.raises(FileNotFoundError):
        save(golden_network(), tmp_path / "nowhere" / "model")
    assert os.listdir(tmp_path) == ["pipe"]


def test_temporary_files_of_dead_writers_are_removed(path):
    killed = (
        "import os, signal, sys; from carousel.network import Dense, Network, save; import numpy as np\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save(Network((Dense(np.eye(2)),)), sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)]).returncode == -9
    (stale,) = os.listdir(path.parent)
    assert stale.startswith(".carousel-")
    others = [f".carousel-{'0' * 15}.tmp", f"x.carousel-{'0' * 16}.tmp"]  # no names of ours
    for other in others:
        (path.parent / other).touch()
    save(golden_network(), path)
    assert sorted(os.listdir(path.parent)) == sorted([path.name, *others])


def test_temporary_files_of_living_writers_stay(path):
    alive = path.parent / f".carousel-{'a' * 16}.tmp"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save(golden_network(), path)
        assert alive.exists()
    save(golden_network(), path)
    assert not alive.exists()


def test_many_writers_one_file(path):
    networks = [Network((Dense(np.full((9, 9), float(k))),)) for k in range(4)]
    errors = []

    def write(network):
        try:
            for _ in range(25):
                save(network, path)
                assert load(path) in networks
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(network,)) for network in networks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(path.parent) == [path.name]


if __name__ == "__main__":
    save(golden_network(), GOLDEN)
