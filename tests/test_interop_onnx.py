"""ONNX to Network and back: the runtime agrees, onnx's own node tests pass."""

import copy
import sys
import unittest
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carousel.errors import ArgumentError, FormatError, UnsupportedError
from carousel.interop import _onnx_equations, _onnx_node
from carousel.interop.onnx import load, read, save
from carousel.network import Dense, Masking, Network, Weights
from carousel.stream import Model, State
from onnx_models import (
    NETWORKS,
    Backend,
    H,
    I,
    TensorProto,
    after,
    dense,
    drawn,
    external,
    headed,
    helper,
    kept,
    layer,
    lstm_model,
    node_model,
    numpy_helper,
    ones,
    onnx,
    refused,
    with_constant,
)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(rng, tmp_path, name):
    network = Network(tuple(NETWORKS[name](rng)))
    report = save(network, tmp_path / "m.onnx")
    assert report.largest < (1e-14 if name == "float64" else 2e-6)
    assert len(report.layers) > 0
    assert load(tmp_path / "m.onnx") == network


def test_the_runtime_runs_what_is_written(rng, tmp_path):
    """Free T and B, states in and out."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    network = Network((layer(rng, "lstm"), layer(rng, "gru", H, 2)))
    report = save(network, tmp_path / "m.onnx")
    assert report.check.endswith(f"and ONNX Runtime {runtime.__version__}")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for T, B in ((1, 1), (7, 3), (2, 5)):
        x = rng.normal(size=(T, B, I)).astype(np.float32)
        states = {
            f"{s}_0_{k}": rng.normal(size=(D, B, H)).astype(np.float32)
            for s, k, D in (("h", 0, 1), ("c", 0, 1), ("h", 1, 2))
        }
        y, h_0, c_0, h_1 = session.run(["y", "h_n_0", "c_n_0", "h_n_1"], {"x": x, **states})
        state = State((states["h_0_0"][0], *states["h_0_1"]), (states["c_0_0"][0], None, None))
        expected, after = Model(network).run_from(x, state)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([h_0, h_1]), np.stack(after.h), rtol=0, atol=1e-5)
        np.testing.assert_allclose(c_0[0], after.c[0], rtol=0, atol=1e-5)


def test_a_torch_module_is_taken_too(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.LSTM(3, 5, num_layers=2), torch.nn.Linear(5, 1))
    network = save(module, tmp_path / "m.onnx").network
    assert load(tmp_path / "m.onnx") == network
    with pytest.raises(
        ArgumentError,
        match=r"`model` must be a Network, a torch module, a model of Keras or a fitted .*, got int",
    ):
        save(3, tmp_path / "m.onnx")


def test_masks_are_refused_and_nothing_is_written(rng, tmp_path):
    with pytest.raises(UnsupportedError, match=r"no masks but the length of a row, the network has Masking"):
        save(Network((Masking(0.0), layer(rng, "gru"))), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_trial_notices_a_wrong_gate(monkeypatch, rng, tmp_path):
    path = tmp_path / "m.onnx"
    save(Network((layer(rng, "lstm"),)), path)
    before = path.read_bytes()
    monkeypatch.setitem(_onnx_node.layout.ORDERS["lstm"], "onnx", "ifgo")
    with pytest.raises(UnsupportedError, match=r"by the equations of the specification, .* off by"):
        load(path)
    with pytest.raises(UnsupportedError, match="computes something else"):
        save(Network((layer(rng, "lstm"), dense(rng, H))), path)
    assert path.read_bytes() == before


def test_the_trial_notices_a_wrong_gate_of_small_outputs(monkeypatch, rng, tmp_path):
    path, small = tmp_path / "m.onnx", dense(rng, H)
    small = replace(small, W=small.W * np.float32(1e-6), b=None)
    save(Network((layer(rng, "lstm"), small)), path)
    monkeypatch.setitem(_onnx_node.layout.ORDERS["lstm"], "onnx", "ifgo")
    refused(path, UnsupportedError, r"off by .* of its largest output")


def test_what_rounding_costs_a_network_is_no_difference(tmp_path):
    """Large weights before sigmoids, and outputs that are small differences of large numbers."""
    rng = np.random.default_rng(3)
    steep = layer(rng, "gru", reset="before")
    (w,) = steep.directions
    steep = replace(steep, directions=(Weights(30 * w.W, 30 * w.R, 30 * w.b_W, 30 * w.b_R),))
    row = rng.normal(size=H)
    alike = Dense(np.float32([row, row * (1 + 1e-4)]))
    for layers in ((steep,), (layer(rng, "gru"), alike, Dense(np.float32([[1, -1]])))):
        report = save(Network(layers), tmp_path / "m.onnx")
        assert report.largest > 1e-4
        assert load(tmp_path / "m.onnx") == report.network


# onnx's own judges


def node_tests():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import BackendTest

        runner = BackendTest(Backend, __name__)
    runner.include(r"^test_(lstm|gru|rnn|simple_rnn)_.*_cpu$")
    return runner.test_suite


@pytest.mark.filterwarnings("ignore")
def test_the_node_tests_of_onnx_pass():
    result = unittest.TestResult()
    node_tests().run(result)
    ran = result.testsRun - len(result.skipped)
    assert ran >= 12, result.skipped[:3]
    assert not result.failures + result.errors, (result.failures + result.errors)[0][1]


def two_layers(rng, left_out, body=False):
    """GRU, Squeeze, GRU that begins with `h_1`; the first calls its output Y_h `left_out`, as a branch of an If too."""
    arrays = {f"{name}_0": a for name, a in drawn(rng, "GRU").items()}
    arrays |= {f"{name}_1": a for name, a in drawn(rng, "GRU", inputs=H).items()}
    nodes = [
        helper.make_node("GRU", ["x", "W_0", "R_0", "B_0"], ["Y_0", left_out], hidden_size=H),
        helper.make_node("Squeeze", ["Y_0", "one"], ["z"]),
        helper.make_node("GRU", ["z", "W_1", "R_1", "", "", "h_1"], ["Y_1"], hidden_size=H),
    ]
    result = [helper.make_tensor_value_info("Y_1", TensorProto.FLOAT, ["T", 1, "B", H])]
    if body:
        branch = helper.make_graph(nodes, "body", [], result)
        nodes = [helper.make_node("If", ["true"], ["Y_1"], then_branch=branch, else_branch=branch)]
    arrays |= {"one": np.array([1]), "true": np.array(True)}
    given = {"x": ["T", "B", I], "h_1": [1, "B", H]}
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in given.items()]
    graph = helper.make_graph(
        nodes, "g", infos, result, [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.mark.parametrize("body", [False, True])
def test_an_output_that_is_left_out_is_no_input_of_later_nodes(rng, body):
    """Both have the name ""; onnx's reference would give the one to the other."""
    x, h_1 = rng.normal(size=(5, 2, I)).astype(np.float32), rng.normal(size=(1, 2, H)).astype(np.float32)
    weights = np.random.default_rng(5)
    blank, named = (two_layers(copy.deepcopy(weights), name, body) for name in ("", "unused"))
    onnx.checker.check_model(blank)
    before = blank.SerializeToString()
    found, expected = (Backend.prepare(model).run({"x": x, "h_1": h_1})[0] for model in (blank, named))
    assert (found == expected).all()
    assert blank.SerializeToString() == before  # the caller's own
    if not body:
        assert load(blank) == load(named)


# Nodes of others


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {}),
        ("LSTM", {"clip": 0.5, "input_forget": 1}),
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1, "clip": 1.0}),
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["tanh"], "clip": 0.3}),
    ],
)
def test_every_attribute_of_the_specification(rng, tmp_path, kind, options, direction, layout):
    D = 2 if direction == "bidirectional" else 1
    arrays, options = drawn(rng, kind, D, kind == "LSTM"), dict(options)
    if "activations" in options:
        options["activations"] = options["activations"] * D
    state = ["B", D, H] if layout else [D, "B", H]
    inputs = {"X": ["B", "T", I] if layout else ["T", "B", I], "sequence_lens": ["B"], "initial_h": state}
    inputs |= {"initial_c": state} if kind == "LSTM" else {}
    for outputs in (("Y",), ("", "Y_h")):
        model = node_model(
            kind, arrays, inputs, outputs, hidden_size=H, direction=direction, layout=layout, **options
        )
        report = read(kept(model, tmp_path / "m.onnx"))
        assert report.largest < 2e-6
        assert len(report.network.layers) == 1
        assert report.network.per_step == (outputs == ("Y",))


def test_what_torch_exports_is_read(tmp_path):
    """Its LSTM begins with zeros that are worked out from the batch."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(10, 1)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1]).sigmoid()

    module, path = Net().eval(), tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            torch.zeros(2, 4, 3),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch", 1: "time"}},
        )
    network = load(path)
    x = torch.randn(3, 6, 3)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(Model(network).run(x.numpy().swapaxes(0, 1)), expected, rtol=0, atol=1e-6)


def exported(module, path, *inputs, **options):
    """What torch makes of a module in its older way of exporting."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, path, dynamo=False, opset_version=17, **options)
    return load(path)


def torch_net(read, cell="LSTM", **options):
    """A module of one recurrent layer and a head over what `read(y, h)` takes of its outputs."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = getattr(torch.nn, cell)(3, 5, **options)
            self.head = torch.nn.Linear(10 if options.get("bidirectional") else 5, 1)

        def forward(self, x):
            y, h = self.cell(x)
            return self.head(read(y, h[0] if isinstance(h, tuple) else h))

    return Net()


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sizes", [(1, 4), (4, 7), (3, 3)])
def test_a_graph_of_fixed_sizes_is_read(tmp_path, cell, batch_first, sizes):
    """As torch exports where nobody names free axes: the network has them all the same."""
    torch = pytest.importorskip("torch")
    net = torch_net(lambda y, h: y, cell, batch_first=batch_first, num_layers=2)
    network = exported(net, tmp_path / "m.onnx", torch.randn(*sizes, 3))
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        expected = net(x.transpose(0, 1)).transpose(0, 1) if batch_first else net(x)
    np.testing.assert_allclose(Model(network).run(x.numpy()), expected.numpy(), rtol=0, atol=1e-6)


def test_a_graph_too_large_to_try_is_refused(rng, tmp_path):
    model = lstm_model(rng, inputs={"X": [2**14, 2**14, I]})
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, r"16,384 steps of 16,384 rows only, too many")


@pytest.mark.parametrize(
    ("read", "options"),
    [
        (lambda y, h: h[-1], {}),
        (lambda y, h: h[0], {}),
        (lambda y, h: h.squeeze(0), {}),
        (lambda y, h: h[-1], {"num_layers": 2}),
        (lambda y, h: h[2], {"num_layers": 3}),
        (lambda y, h: _both(h[-2], h[-1]), {"bidirectional": True}),
        (lambda y, h: _both(h[2], h[3]), {"bidirectional": True, "num_layers": 2}),
    ],
)
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_last_states_are_read(tmp_path, cell, read, options):
    """The ways in which people write "the last state of the top layer"."""
    torch = pytest.importorskip("torch")
    net = torch_net(read, cell, batch_first=True, **options)
    network = exported(net, tmp_path / "m.onnx", torch.randn(2, 4, 3))
    x = torch.randn(3, 6, 3)
    with torch.no_grad():
        expected = net(x).numpy()
    assert not network.per_step
    np.testing.assert_allclose(Model(network).run(x.numpy().swapaxes(0, 1)), expected, rtol=0, atol=1e-6)


def _both(a, b):
    import torch

    return torch.cat((a, b), 1)


def test_a_model_in_memory_is_read(rng, tmp_path):
    model = lstm_model(rng)
    path = kept(model, tmp_path / "m.onnx")
    assert load(model) == load(path)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(UnsupportedError, match=r"^the model: it keeps tensors in other files"):
        load(model)
    with pytest.raises(ArgumentError, match=r"`path` must be a path or an onnx.ModelProto, got int"):
        load(3)


def test_the_state_of_a_lower_layer_leaves_the_upper_ones_out(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch_net(lambda y, h: h[0], num_layers=2)
    network = exported(net, tmp_path / "m.onnx", torch.randn(4, 2, 3))
    assert len(network.recurrent) == 1
    x = torch.randn(6, 3, 3)
    np.testing.assert_allclose(Model(network).run(x.numpy()), net(x).detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", [["Gather", "Gemm"], ["Squeeze", "Gemm"], ["Squeeze"], ["Concat", "Gather"]])
def test_the_last_cell_state_is_refused_as_what_it_is(rng, tmp_path, head):
    """Not taken for the last output; also where it alone is used."""
    inputs = {"Gather": ["first"], "Squeeze": ["zero"], "Gemm": ["K"], "Concat": ["Y_c"]}
    nodes, last = [], "Y_c"
    for k, kind in enumerate(head):
        made = "y" if k == len(head) - 1 else f"v_{k}"
        axis = {"axis": 0} if kind in ("Gather", "Concat") else {}
        given = inputs[kind] if kind != "Concat" else ["Y_h"]
        nodes.append(helper.make_node(kind, [last, *given], [made], kind.lower(), **axis))
        last = made
    arrays = {"K": 1e-5 * ones(H, 1), "first": np.array(0), "zero": np.array([0])}
    model = headed(rng, nodes, arrays)
    model.graph.node[0].output.append("Y_c")
    text = rf"node '{head[0].lower()}' .* takes 'Y_c', the last cell state c, which no layer gives"
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text)
    if head == ["Squeeze"]:
        del model.graph.node[1:3]
        model.graph.node[0].output[:] = ["", "", "Y_c"]
        refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text)


def test_the_state_of_one_direction_alone_is_refused_as_what_it_is(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch_net(lambda y, h: h[-1], bidirectional=True)
    net.head = torch.nn.Linear(5, 1)
    with pytest.raises(UnsupportedError, match=r"the last state of one of two directions alone; of both"):
        exported(net, tmp_path / "m.onnx", torch.randn(4, 2, 3))


def test_directions_the_other_way_round_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch_net(lambda y, h: _both(h[-1], h[-2]), bidirectional=True)
    with pytest.raises(UnsupportedError, match="Concat"):
        exported(net, tmp_path / "m.onnx", torch.randn(4, 2, 3))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_states_of_all_layers_are_inputs(tmp_path, cell, layers):
    """torch gives them as one, which the graph cuts; they come out joined."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = getattr(torch.nn, cell)(3, 5, layers)
            self.head = torch.nn.Linear(5, 1)

        def forward(self, x, *state):
            y, after = self.cell(x, state if cell == "LSTM" else state[0])
            return self.head(y).squeeze(-1), after

    names = ["h", "c"][: 1 + (cell == "LSTM")]
    free = {"x": {0: "T", 1: "B"}} | {name: {1: "B"} for name in names}
    inputs = (torch.randn(4, 2, 3), *(torch.randn(layers, 2, 5) for _ in names))
    net, path = Net(), tmp_path / "m.onnx"
    network = exported(net, path, *inputs, input_names=["x", *names], dynamic_axes=free)
    assert read(path).largest < 2e-6
    x = torch.randn(6, 2, 3)
    zeros = tuple(torch.zeros(layers, 2, 5) for _ in names)
    expected = net(x, *zeros)[0].detach().numpy()
    np.testing.assert_allclose(Model(network).run(x.numpy())[..., 0], expected, rtol=0, atol=1e-6)


def check_read(model, T=5, B=3):
    """What is read gives what ONNX Runtime gives."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(6).normal(size=(T, B, I)).astype(np.float32)
    expected = session.run(["y"], {"X": x})[0]
    report = read(model)
    found = Model(report.network).run(x)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=0, atol=1e-5)
    return report


def reshaped(rng, D, sizes, given=("T", "B"), end=None):
    """A GRU of D directions that torch's newer way of exporting joins by a Reshape, and a head.

    Args:
        sizes: the shape, a constant; None where the graph works it out, as of free axes.
        given: T and B of the input.
        end: of the last size that is cut from the Shape, where it is not 4.
    """
    direction = "bidirectional" if D == 2 else "forward"
    cuts = [helper.make_node("Slice", ["all", f"at_{k}", f"at_{k + 1}"], [f"size_{k}"]) for k in range(3)]
    nodes = [
        helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], hidden_size=H, direction=direction),
        helper.make_node("Transpose", ["Y"], ["z"], perm=[0, 2, 1, 3]),
        helper.make_node("Shape", ["z"], ["all"]),
        *cuts,
        helper.make_node("Slice", ["all", "at_3", "end"], ["size_3"]),
        helper.make_node("Mul", ["size_2", "size_3"], ["both"]),
        helper.make_node("Reshape", ["both", "row"], ["joined"]),
        helper.make_node("Concat", ["size_0", "size_1", "joined"], ["worked_out"], axis=0),
        helper.make_node("Reshape", ["z", "worked_out" if sizes is None else "sizes"], ["side"], "join"),
        helper.make_node("MatMul", ["side", "D"], ["y"]),
    ]  # fmt: skip
    arrays = drawn(rng, "GRU", D) | {f"at_{k}": np.array([k]) for k in range(4)}
    arrays |= {"end": np.array([4 if end is None else end]), "row": np.array([-1]), "D": ones(D * H, 2)}
    arrays |= {} if sizes is None else {"sizes": np.array(sizes)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [*given, I])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "B", 2])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("D", [1, 2])
def test_directions_joined_by_sizes(rng, tmp_path, D):
    """Those of the input that the graph states, or worked out from the value itself; others are not plain."""
    check_read(reshaped(rng, D, [5, 3, D * H], (5, 3)))
    check_read(reshaped(rng, D, [5, -1, D * H], (5, "B")))
    check_read(reshaped(rng, D, None))
    check_read(reshaped(rng, D, None, (5, 3)))
    for model in (
        reshaped(rng, D, [3, 5, D * H], (5, 3)),
        reshaped(rng, D, [5, 3, D * H]),
        reshaped(rng, D, [15, 1, D * H], (5, 3)),
        reshaped(rng, D, None, end=2),
    ):
        refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, r"node 'join' \(Reshape\) ")


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 1), (1, 5)])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": -2.0}, {"beta": 0.0, "transB": 1}])
def test_every_bias_of_a_gemm_for_all_rows(rng, shape, options):
    D = rng.normal(size=(5, H) if "transB" in options else (H, 5)).astype(np.float32)
    C = rng.normal(size=shape).astype(np.float32)
    gemm = helper.make_node("Gemm", ["h", "D", "C"], ["y"], **options)
    layers = check_read(headed(rng, [gemm], {"D": D, "C": C})).network.layers
    assert layers[-1].W.shape == (5, H)


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        (
            (3, 5),
            {},
            r"node 'head' \(Gemm\) has `C` of shape \(3, 5\); one number for each of the 5 outputs is",
        ),
        ((3, 1), {}, r"`C` of shape \(3, 1\)"),
        ((1, 1, 5), {}, r"`C` of shape \(1, 1, 5\)"),
        ((5,), {"transA": 1}, "`transA`"),
    ],
)
def test_other_gemms_are_refused_by_name(rng, tmp_path, shape, options, text):
    arrays = {"D": ones(H, 5), "C": ones(*shape)}
    gemm = helper.make_node("Gemm", ["h", "D", "C"], ["y"], "head", **options)
    refused(kept(headed(rng, [gemm], arrays), tmp_path / "m.onnx"), UnsupportedError, text)


def before(rng, nodes, arrays, features=I):
    """Nodes from the input `X` to `x`, and an LSTM whose last state is `y`."""
    made = [
        *nodes,
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "h"], hidden_size=H),
        helper.make_node("Squeeze", ["h", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", H])],
        [
            numpy_helper.from_array(a, n)
            for n, a in {**drawn(rng, "LSTM"), "zero": np.array([0]), **arrays}.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.mark.parametrize("scale", [1e-3, 1e-7, 9e-8, 1e-9, 1e-15, 1e12])
@pytest.mark.parametrize("kinds", [["Mul"], ["Div"], ["Sub", "Div"], ["Mul", "Add"]])
@pytest.mark.parametrize("size", [0, 1, I])
def test_constants_before_the_first_layer_of_any_size(rng, scale, kinds, size):
    """A Normalization divides by 1e-7 at least; and one number may be for all features that the input has."""
    shape = (size,) * min(size, 1)
    k, m = np.full(shape, scale, np.float32), np.full(shape, 0.5, np.float32)
    nodes = [
        helper.make_node(kind, [given, "k" if kind in ("Mul", "Div") else "m"], [made])
        for kind, given, made in zip(kinds, ["X", "a"], ["a", "x"] if len(kinds) > 1 else ["x"], strict=False)
    ]
    model = before(rng, nodes, {"k": k, "m": m})
    network = load(model)
    shift = -0.5 if kinds[0] == "Sub" else 0.0
    unit = scale if "Div" in kinds else 1 / scale
    x = (rng.normal(size=(5, 2, I)) * unit - shift).astype(np.float32)  # the LSTM reads numbers around 1
    session = pytest.importorskip("onnxruntime").InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(["y"], {"X": x})[0]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(Model(network).run(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e20, 1e-20, 1e-30])
@pytest.mark.parametrize("kind", ["Mul", "Div"])
def test_scales_that_no_normalization_holds_are_refused_by_name(rng, tmp_path, kind, scale):
    node = helper.make_node(kind, ["X", "k"], ["x"], "scale")
    model = before(rng, [node], {"k": np.array([scale], np.float32)})
    text = rf"node 'scale' \({kind}\) scales by numbers from .* which a Normalization cannot hold"
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text)


LAST = {
    "slice squeeze": [("Slice", ["z", "last", "end", "zero"], {}), ("Squeeze", ["", "zero"], {})],
    "slice gather": [
        ("Slice", ["z", "last", "end", "zero", "one"], {}),
        ("Gather", ["", "first"], {"axis": 0}),
    ],
    "gather kept": [
        ("Gather", ["z", "last"], {"axis": 0}),
        ("Gather", ["", "last"], {}),
        ("Squeeze", ["", "zero"], {}),
    ],
    "slice reshape": [("Slice", ["z", "last", "end"], {}), ("Reshape", ["", "matrix"], {})],
    "batch first": [
        ("Transpose", ["z"], {"perm": [1, 0, 2]}),
        ("Slice", ["", "last", "end", "one"], {}),
        ("Flatten", [""], {}),
    ],
    "head on a slice": [
        ("Slice", ["z", "last", "end", "zero"], {}),
        ("MatMul", ["", "D"], {}),
        ("Add", ["", "d"], {}),
        ("Squeeze", ["", "zero"], {}),
    ],
    "kept": [("Slice", ["z", "last", "end", "zero"], {}), ("Tanh", [""], {})],
    "flatten": [("Flatten", ["h"], {"axis": 1})],
    "flatten in front": [("Flatten", ["Y_h"], {"axis": 2})],
    "reshape": [("Reshape", ["h", "matrix"], {})],
    "reshape state": [("Reshape", ["Y_h", "matrix"], {})],
    "gather direction": [("Gather", ["Y", "first"], {"axis": 1}), ("Gather", ["", "minus"], {"axis": 0})],
}


@pytest.mark.parametrize("way", LAST)
def test_the_ways_of_the_last_step(rng, way):
    names, nodes = ["", *"abcdef"], []
    for k, (kind, inputs, attributes) in enumerate(LAST[way]):
        last = k == len(LAST[way]) - 1
        given = [name or names[k] for name in inputs]
        nodes.append(helper.make_node(kind, given, ["y" if last else names[k + 1]], **attributes))
    arrays = {
        "last": np.array([-1]),
        "end": np.array([2**63 - 1]),
        "first": np.array(0),
        "minus": np.array(-1),
    }
    arrays |= {"matrix": np.array([-1, H]), "D": ones(H, 2), "d": ones(2)}
    report = check_read(headed(rng, nodes, arrays, axes="abc" if way == "kept" else "ab"))
    assert not report.network.per_step


def test_slices_by_attributes(rng, tmp_path):
    """As they were before opset 10."""
    end = {"starts": [-1], "ends": [2**31 - 1], "axes": [0]}
    model = node_model(
        "LSTM",
        drawn(rng, "LSTM"),
        {"X": ["T", "B", I]},
        ("Y",),
        [
            helper.make_node("Squeeze", ["Y"], ["z"], axes=[1]),
            helper.make_node("Slice", ["z"], ["a"], **end),
            helper.make_node("Squeeze", ["a"], ["y"], axes=[0]),
        ],
        ["y"],
        opset=9,
        hidden_size=H,
    )
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    check_read(model)


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (
            ["zero", "one"],
            r"node 'cut' \(Slice\) takes 0:1:1 of the axis T; the last step, -1:, and all steps",
        ),
        (["two", "two"], "cuts several axes at once"),
    ],
)
def test_other_slices_are_refused_by_what_they_take(rng, tmp_path, cut, text):
    node = helper.make_node("Slice", ["z", *cut], ["y"], "cut")
    model = headed(rng, [node], {"two": np.array([0, 1])}, axes="abc")
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text)


@pytest.mark.parametrize("rows", [1, 2, 3, 10**6])
@pytest.mark.parametrize("worked_out", [False, True])
def test_zeros_for_some_rows_are_zeros_for_any(rng, tmp_path, rows, worked_out):
    """Exporters fix them to the batch of the export."""
    if worked_out:
        nodes, arrays = [helper.make_node("ConstantOfShape", ["s"], ["h_0"])], {"s": np.array([1, rows, H])}
    else:
        nodes, arrays = [], {"h_0": np.zeros((1, min(rows, 5), H), np.float32)}
    model = headed(rng, [helper.make_node("Identity", ["z"], ["y"])], arrays, ("h_0", "h_0"), "abc")
    for node in nodes:
        model.graph.node.insert(0, node)
    if rows <= 3:
        check_read(model, B=rows)
    assert load(model).per_step


def test_zeros_of_another_width_are_refused(rng, tmp_path):
    same = helper.make_node("Identity", ["z"], ["y"])
    for shape in ((1, 3, H + 1), (2, 3, H), (1, H), (3, 1, H)):
        arrays = {"h_0": np.zeros(shape, np.float32)}
        model = headed(rng, [same], arrays, ("h_0", "h_0"), "abc")
        refused(
            kept(model, tmp_path / "m.onnx"),
            FormatError,
            r"node 'cell' \(LSTM\) begins with zeros of shape .*\(1, B, 4\)",
        )


def test_zeros_that_are_something_else_too(rng):
    """The constant is left out where a node begins with it, nowhere else."""
    arrays = {"h_0": np.zeros((1, 1, H), np.float32)}
    add = helper.make_node("Add", ["z", "h_0"], ["y"])
    check_read(headed(rng, [add], arrays, ("h_0", "h_0"), "abc"), B=1)


def test_zeros_joined_with_others_are_no_zeros(rng, tmp_path):
    arrays = {"n": np.zeros((0, 1, H), np.float32), "o": ones(1, 1, H), "s": np.array([1, 1, H])}
    model = headed(rng, [helper.make_node("Identity", ["z"], ["y"])], arrays, ("j", "j"), "abc")
    model.graph.node.insert(0, helper.make_node("Concat", ["e", "o"], ["j"], "join", axis=0))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["s"], ["e"]))
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, r"node 'join' \(Concat\) is not supported")


@pytest.mark.parametrize("without", [0, 1])
def test_lengths_of_some_nodes_only_are_refused_by_name(rng, tmp_path, without):
    model = two_layers(rng, "unused")
    for k, node in enumerate(node for node in model.graph.node if node.op_type == "GRU"):
        node.name = f"gru_{k}"
        while len(node.input) < 5:
            node.input.append("")
        node.input[4] = "" if k == without else "lengths"
    model.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    text = (
        "'gru_1' .*`sequence_lens` 'lengths', but node 'gru_0' .* has none",
        "'gru_1' .* has no `sequence_lens`, but",
    )
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text[without])


@pytest.mark.parametrize(
    ("index", "text"),
    [(("Gather", ["z", "last"]), "from the end of the axis, whatever `sequence_lens` says; the last state, Y_h"),
     (("Slice", ["z", "last", "least", "zero", "last"]), "from the end of the axis, whatever `sequence_lens`")],
)  # fmt: skip
def test_steps_from_the_end_of_the_axis_beside_lengths_are_refused(rng, tmp_path, index, text):
    """A LastStep takes the last step of a row, and a Reverse turns it within its length; these do not."""
    arrays = drawn(rng, "GRU") | {"one": np.array([1]), "zero": np.array([0]), "last": np.array([-1])}
    arrays |= {"least": np.array([-(2**63)])}
    nodes = [helper.make_node("Squeeze", ["Y", "one"], ["z"]), helper.make_node(index[0], index[1], ["y"])]
    given = {"X": ["T", "B", I], "sequence_lens": ["B"]}
    model = node_model("GRU", arrays, given, ("Y",), nodes, ("y",), hidden_size=H)
    refused(kept(model, tmp_path / "m.onnx"), UnsupportedError, text)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_row_without_steps_ends_with_the_state_it_began_with(rng, tmp_path, kind, direction):
    """The specification does not say; ONNX Runtime gives zeros."""
    given = {"X": ["T", "B", I], "sequence_lens": ["B"], "initial_h": [1, "B", H]}
    given |= {"initial_c": [1, "B", H]} if kind == "LSTM" else {}
    model = node_model(kind, drawn(rng, kind), given, hidden_size=H, direction=direction)
    feeds = {
        name: rng.normal(size=(1, 3, H)).astype(np.float32) for name in given if name.startswith("initial")
    }
    feeds |= {
        "X": rng.normal(size=(4, 3, I)).astype(np.float32),
        "sequence_lens": np.array([0, 2, 4], np.int32),
    }
    Y, Y_h = Backend.prepare(model).run(feeds)
    assert (Y[:, 0, 0] == 0).all()
    assert (Y_h[0, 0] == feeds["initial_h"][0, 0]).all()
    assert read(node_model(kind, drawn(rng, kind), given, ("", "Y_h"), hidden_size=H)).largest < 2e-6


def test_the_trial_has_rows_without_steps(monkeypatch, rng, tmp_path):
    """Equations that forget the state of such a row are noticed."""
    given = {"X": ["T", 40, I], "sequence_lens": [40], "initial_h": [1, 40, H]}
    model = node_model("GRU", drawn(rng, "GRU"), given, ("", "Y_h"), hidden_size=H)
    load(model)
    real = _onnx_equations.node

    def forgetful(kind, attributes, inputs):
        Y, Y_h, Y_c = real(kind, attributes, inputs)
        return Y, Y_h * (inputs["sequence_lens"] > 0)[:, None], Y_c

    monkeypatch.setattr(_onnx_equations, "node", forgetful)
    with pytest.raises(UnsupportedError, match="computes something else"):
        load(model)


UNSUPPORTED = {
    "activation": (
        lambda r: {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
        "`activations` = HardSigmoid, Tanh, Tanh; Sigmoid",
    ),
    "affine": (
        lambda r: {"kind": "RNN", "arrays": drawn(r, "RNN"), "activations": ["Affine"]},
        "Tanh or Relu of every",
    ),
    "node": (lambda r: after("Erf", []), r"node 'then' \(Erf\) is not supported; LSTM, GRU, RNN, Gemm"),
    "weights": (
        lambda r: {"arrays": {}, "inputs": {"X": ["T", "B", I], "W": [1, 16, I], "R": [1, 16, H]}},
        "'W' that are no constants",
    ),
    "state": (lambda r: with_constant(r, "initial_h", ones(1, 1, H)), "neither an input nor zeros"),
    "lengths": (
        lambda r: with_constant(r, "sequence_lens", np.array([1], np.int32)),
        "must be one input of the graph",
    ),
    "two inputs": (lambda r: {"inputs": {"X": ["T", "B", I], "Z": ["T", "B", I]}}, "must have one input"),
    "reshape": (
        lambda r: {**after("Reshape", ["s"]), **with_constant(r, "s", np.array([-1, 2]))},
        r"gives the shape \[-1, 2\]",
    ),
    "squeeze": (
        lambda r: {**after("Squeeze", ["s"]), **with_constant(r, "s", np.array([0]))},
        "squeezes another axis",
    ),
    "step": (
        lambda r: {**after("Gather", ["s"]), **with_constant(r, "s", np.array(0))},
        "other steps than the last",
    ),
    "old": (lambda r: {"opset": 6}, "is of opset 6; 7 and later are supported"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(rng, tmp_path, name):
    make, text = UNSUPPORTED[name]
    refused(kept(lstm_model(rng, **make(rng)), tmp_path / "m.onnx"), UnsupportedError, text)


def test_without_onnx_the_error_says_what_to_install(monkeypatch, tmp_path):
    for name in ("onnx", "carousel.interop._onnx_file"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "carousel.interop._onnx_file")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'carousel-rnn\[onnx\]'"):
        load(tmp_path / "m.onnx")


def test_the_backend_refuses_what_it_cannot_do(rng, tmp_path):
    assert Backend.supports_device("CPU")
    with pytest.raises(UnsupportedError, match="must be CPU"):
        Backend.prepare(lstm_model(rng), "CUDA")
    external(rng, tmp_path / "m.onnx", location="w.bin")
    with pytest.raises(UnsupportedError, match="tensors in other files"):
        Backend.prepare(onnx.load(tmp_path / "m.onnx", load_external_data=False))


def test_the_equations_know_nothing_of_the_layout():
    source = Path(_onnx_equations.__file__).read_text(encoding="utf-8")
    assert "import layout" not in source
    assert "layout." not in source.replace("`carousel.layout`", "")
