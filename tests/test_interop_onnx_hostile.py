"""Hostile and damaged ONNX files: one sentence each, and no size of theirs takes memory."""

import os

import numpy as np
import pytest

from carousel.errors import FormatError, UnsupportedError
from carousel.interop.onnx import load, save
from carousel.network import Network
from limits import little_memory
from onnx_models import (
    NETWORKS,
    H,
    I,
    after,
    drawn,
    external,
    headed,
    helper,
    kept,
    lstm_model,
    ones,
    onnx,
    refused,
    with_constant,
)

ROOM = 2**28  # bytes beyond what the process has: none of these files may take as much


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_data_in_the_folder_are_read_and_others_refused(rng, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    raw = external(rng, path, location="w.bin", offset=8)
    (folder / "w.bin").write_bytes(bytes(8) + raw)
    (tmp_path / "w.bin").write_bytes(raw)
    W = load(path).layers[0].directions[0].W
    assert sorted(W.ravel()) == sorted(np.frombuffer(raw, np.float32))
    os.symlink(tmp_path / "w.bin", folder / "link")
    for location in (
        "../w.bin",
        str(tmp_path / "w.bin"),
        "link",
        "missing",
        "",
        ".",
        "a\\b",
        "w.bin\0",
        "x" * 300,
        "x/../../w.bin",
    ):
        external(rng, path, location=location)
        refused(path, FormatError, "is no file in the folder of the model")
    for place in ({"offset": 9}, {"offset": -1}, {"length": 8}, {"offset": 10**12}):
        external(rng, path, location="w.bin", **place)
        refused(path, FormatError, r"takes 192 bytes from -?\d+ on, but 'w.bin' has 200")
    for place in ({"offset": "x"}, {"length": "x"}):
        external(rng, path, location="w.bin", **place)
        refused(path, FormatError, "no place in 'w.bin' that can be read")


def test_hostile_models_are_refused(rng, tmp_path):
    path = tmp_path / "m.onnx"
    for content, text in (
        (b"", "no ONNX model"),
        (b"\xff" * 99, "no ONNX model"),
        (b"PK\x03\x04", "no ONNX model"),
    ):
        path.write_bytes(content)
        refused(path, FormatError, text)
    model = lstm_model(rng)
    model.graph.initializer[0].dims[1] = 2**40
    path.write_bytes(model.SerializeToString())
    refused(path, FormatError, r"has shape \(1, 1099511627776, 3\), but 48 numbers")
    model.graph.initializer[0].dims[1] = -1
    path.write_bytes(model.SerializeToString())
    refused(path, FormatError, "has shape")
    arrays = drawn(rng, "LSTM")
    arrays["R"][0, 3, 1] = np.nan
    refused(
        kept(lstm_model(rng, arrays=arrays), path),
        FormatError,
        r"node 'cell' \(LSTM\): `R` must be finite, got nan",
    )
    for name, shape in {"R": (1, 16, 5), "W": (2, 16, I), "B": (1, 30), "P": (1, 11)}.items():
        refused(
            kept(lstm_model(rng, arrays={**drawn(rng, "LSTM"), name: ones(*shape)}), path),
            FormatError,
            "cell",
        )
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", FormatError, "not a regular file")


DAMAGED = {
    "axes": (
        "Squeeze",
        ["a"],
        {},
        np.array([[1]]),
        r"must have axes of integers in one row, got shape \(1, 1\)",
    ),
    "axes alone": (
        "Squeeze",
        ["a"],
        {},
        np.array(1),
        r"must have axes of integers in one row, got shape \(\)",
    ),
    "real axes": (
        "Squeeze",
        ["a"],
        {},
        np.array([1.5]),
        "must have axes of integers in one row, got .* of float64",
    ),
    "complex axes": ("Squeeze", ["a"], {}, np.array([1j]), "of complex128"),
    "axis": ("Squeeze", ["a"], {}, np.array([4]), "takes the axis 4 of a value with 4 axes, T, D, B, F"),
    "shape": ("Reshape", ["a"], {}, np.zeros(0, np.int64), r"gives the shape \[\]"),
    "real shape": ("Reshape", ["a"], {}, np.zeros(3), "must have a shape of integers"),
    "perm": (
        "Transpose",
        [],
        {"perm": [0, 2, 1, 9]},
        None,
        r"has `perm` = \[0, 2, 1, 9\], which is no order of 4 axes",
    ),
    "perm twice": ("Transpose", [], {"perm": [0, 2, 1, 1]}, None, "no order of 4 axes"),
    "index": (
        "Gather",
        ["a"],
        {},
        np.array(1j),
        "must have an index of integers in one row, got .* of complex128",
    ),
    "softmax": ("Softmax", [], {"axis": 7}, None, "takes the axis 7 of a value with 4 axes"),
    "merge": ("ReduceSum", ["a"], {}, np.array([-9]), "takes the axis -9 of a value with 4 axes"),
    "bounds": ("Slice", ["a", "a"], {}, np.array([1.0]), "must have bounds of integers"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_nodes_are_refused_by_name(rng, tmp_path, name):
    kind, inputs, attributes, constant, text = DAMAGED[name]
    changes = after(kind, inputs, **attributes)
    changes |= {} if constant is None else with_constant(rng, "a", constant)
    path = kept(lstm_model(rng, **changes), tmp_path / "m.onnx")
    with pytest.raises((FormatError, UnsupportedError), match=rf"node 'then' \({kind}\) .*{text}"):
        load(path)


def test_what_nobody_foresaw_is_damage_of_the_node(monkeypatch, rng, tmp_path):
    path = kept(lstm_model(rng), tmp_path / "m.onnx")
    for error in (
        IndexError("list index\nout of range"),
        TypeError("x"),
        ZeroDivisionError("y"),
        ValueError("z"),
    ):

        def failing(*_, error=error):
            raise error

        monkeypatch.setattr("carousel.interop._onnx_graph.recurrent", failing)
        refused(path, FormatError, r"node 'cell' \(LSTM\) is damaged, it cannot be read \(")


def test_names_of_any_length_and_kind_make_one_sentence(rng, tmp_path):
    model = lstm_model(rng, **after("Erf", []))
    model.graph.node[1].name = "\x1b[31m\n" + "x" * 10_000
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, r"\\x1b\[31m\\nxxx")
    with pytest.raises(UnsupportedError) as error:
        load(model)
    assert str(error.value).isprintable()
    model = lstm_model(rng)
    model.graph.initializer[0].dims[:] = [1] * 5000
    refused(kept(model, tmp_path / "m.onnx"), FormatError, r"has shape \(1, 1, .* \.\.\.\.$")


def test_names_that_are_no_text_are_refused(rng, tmp_path):
    path, raw = tmp_path / "m.onnx", lstm_model(rng).SerializeToString()
    for name in (b"X", b"Y"):
        path.write_bytes(raw.replace(b"%c%s" % (len(name), name), b"%c\xe1%s" % (len(name), name[1:])))
        with pytest.raises(FormatError, match=r"UTF-8|is damaged") as error:
            load(path)
        assert str(error.value).startswith(f"{path}: ")
    model = lstm_model(rng)
    model.graph.name = "gra"
    path.write_bytes(model.SerializeToString().replace(b"\x03gra", b"\x03\xe1ra"))
    load(path)  # of the graph itself, which is not read


def test_scales_that_are_out_of_range_are_refused(rng, tmp_path):
    """Without a warning."""
    for kind, options in (("Div", {}), ("Mul", {})):
        node = helper.make_node(kind, ["z", "s"], ["y"], "scale", **options)
        model = headed(rng, [node], {"s": np.float32(1e38).reshape(1)}, axes="abc")
        refused(
            kept(model, tmp_path / "m.onnx"),
            UnsupportedError,
            r"node 'scale' .* scales by numbers from 1.0e\+38 to 1.0e\+38, which a Normalization cannot hold",
        )
    gemm = helper.make_node("Gemm", ["h", "D"], ["y"], "scale", alpha=1e38)
    model = headed(rng, [gemm], {"D": 10 * ones(H, 5)})
    refused(kept(model, tmp_path / "m.onnx"), FormatError, r"node 'scale' .*: `W` must be finite, got inf")


def test_sizes_that_cannot_be_are_refused(rng, tmp_path):
    path = kept(lstm_model(rng, inputs={"X": ["T", -3, I]}), tmp_path / "m.onnx")
    refused(path, FormatError, r"the input 'X' has axes of the sizes \[0, -3, 3\]")


def test_a_small_file_takes_little_memory(rng):
    """Nodes whose outputs are as large as they say: not worked out where zeros, or nothing, come of them."""
    load(lstm_model(rng))  # what is imported late
    large, same = np.array([1, 2**20, H]), helper.make_node("Identity", ["z"], ["y"])
    unused = [
        helper.make_node("ConstantOfShape", ["s"], ["u"]),
        helper.make_node("Tile", ["one", "s"], ["v"]),
        helper.make_node("Erf", ["v"], ["w"]),
    ]
    model = headed(rng, [*unused, same], {"s": np.array([20_000, 20_000])}, axes="abc")
    doubled = headed(rng, [same], {"s": large}, ("z_40", "z_40"), "abc")
    for k in range(40, 0, -1):
        doubled.graph.node.insert(0, helper.make_node("Concat", [f"z_{k - 1}"] * 2, [f"z_{k}"], axis=1))
    doubled.graph.node.insert(0, helper.make_node("ConstantOfShape", ["s"], ["z_0"]))
    states = [helper.make_node("Concat", [f"s_{k}"] * 2, [f"s_{k + 1}"], axis=0) for k in range(40)]
    states[0].input[:] = ["Y_h", "Y_h"]
    picked = helper.make_node("Gather", ["s_40", "first"], ["y"], axis=0)
    joined = headed(rng, [*states, picked], {"first": np.array(0)})
    scaled = headed(rng, [same], {"two": np.float32(2).reshape(())}, axes="abc")
    scaled.graph.node.insert(0, helper.make_node("Mul", ["X", "two"], ["x"]))
    scaled.graph.node[1].input[0] = "x"
    scaled.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40
    power = headed(rng, [same], {"at_0": np.array([0])}, axes="abc")
    squares = [helper.make_node("Mul", [f"p_{k}"] * 2, [f"p_{k + 1}"]) for k in range(40)]
    squares += [helper.make_node("Concat", ["p_40"] * 3, ["shape"], axis=0)]
    squares += [helper.make_node("Reshape", ["z", "shape"], ["y"])]
    cut = helper.make_node("Slice", ["all", "at_0", "one"], ["p_0"])
    del power.graph.node[-1]
    power.graph.node.extend([helper.make_node("Shape", ["z"], ["all"]), cut, *squares])
    with little_memory(ROOM):
        with pytest.raises(UnsupportedError, match="'shape' that are no constants"):
            load(power)
        with pytest.raises(FormatError, match=r"weights are 2,199,023,255,552 numbers, but"):
            load(scaled)
        load(model)
        load(doubled)
        with pytest.raises(UnsupportedError, match=r"node 's_1' \(Concat\) is not supported"):
            load(joined)


def test_weights_and_trials_beyond_what_is_stored_are_refused(monkeypatch, rng):
    """One constant for all features, one matrix for many nodes, and a trial as wide as long."""
    load(lstm_model(rng))
    wide = [helper.make_node("MatMul", ["h", "D"], ["v_0"])]
    wide += [helper.make_node("Mul", [f"v_{k}", "two"], [f"v_{k + 1}"]) for k in range(400)]
    wide[-1].output[0] = "y"
    model = headed(rng, wide, {"D": ones(H, 100_000), "two": np.float32(2).reshape(())})
    with (
        little_memory(ROOM),
        pytest.raises(FormatError, match=r"weights are [\d,]+ numbers, but 400,\d+ are stored; .* 20"),
    ):
        load(model)
    wide = wide[:1] + [helper.make_node("Tanh", [f"v_{k}"], [f"v_{k + 1}"]) for k in range(400)]
    wide[-1].output[0] = "y"
    model = headed(rng, wide, {"D": ones(H, 100_000)})
    with (
        little_memory(ROOM),
        pytest.raises(UnsupportedError, match=r"a trial of 21 steps and rows takes [\d,]+ numbers"),
    ):
        load(model)
    monkeypatch.setattr("carousel.interop._onnx_graph.NODE_LIMIT", 300)
    with pytest.raises(UnsupportedError, match="the graph has 403 nodes; at most 300 are supported"):
        load(model)


def test_another_file_is_read_so_often(rng, tmp_path):
    """Many tensors may share its bytes, not without end."""
    path = tmp_path / "m.onnx"
    raw = external(rng, path, location="w.bin")
    (tmp_path / "w.bin").write_bytes(raw)
    load(path)
    model = onnx.load(path, load_external_data=False)
    for k in range(20):
        copied = model.graph.initializer.add()
        copied.CopyFrom(model.graph.initializer[0])
        copied.name = f"W_{k}"
    path.write_bytes(model.SerializeToString())
    refused(
        path,
        FormatError,
        r"'W_19' and those before it take 4032 bytes of 'w.bin', which has 192; the limit is 20",
    )


def test_damaged_files_are_refused_or_read(rng, tmp_path):
    path = tmp_path / "m.onnx"
    save(Network(tuple(NETWORKS["stacked"](rng))), path)
    raw, anyway = path.read_bytes(), 0
    for k in range(150):
        bent = bytearray(raw)
        for place in rng.integers(0, len(raw), 1 + k % 3):
            bent[place] ^= 1 << rng.integers(8)
        path.write_bytes(bent if k % 5 else bent[: rng.integers(len(bent))])
        try:
            load(path)
            anyway += 1
        except (FormatError, UnsupportedError):
            pass
    assert anyway < 150
