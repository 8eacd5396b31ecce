"""Options of the reference against ONNX Runtime: peepholes, coupled gates (`input_forget`), clip, lengths.

A foreign judge, in addition to calculus (test_reference_options.py); float32, forward only.
"""

import numpy as np
import pytest

from carousel import layout
from carousel.layout import Weights
from carousel.reference import Options, gru, lstm, rnn, stack
from complex_step import arrays

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

CLOSE = {"rtol": 1e-5, "atol": 2e-6}  # float32; ONNX Runtime approximates σ and tanh
T, B, I, H = 6, 4, 3, 5
RAGGED = [6, 2, 4, 1]  # ONNX Runtime gives a row of no steps zeros for its state, we what it began with


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def run(kind, tensors, **attributes):
    """Y (T, B, H), and the states (B, H), of one node."""
    inputs = [
        "X",
        "W",
        "R",
        "B",
        "sequence_lens",
        "initial_h",
        *(["initial_c", "P"] if kind == "LSTM" else []),
    ]
    outputs = ["Y", "Y_h", *(["Y_c"] if kind == "LSTM" else [])]
    node = onnx.helper.make_node(
        kind, [n if n in tensors else "" for n in inputs], outputs, hidden_size=H, **attributes
    )

    def info(name, value):
        return onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )

    graph = onnx.helper.make_graph(
        [node],
        "layer",
        [info(name, value) for name, value in tensors.items()],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *states = session.run(None, tensors)
    return y[:, 0], [state[0] for state in states]


def drawn(rng, cell):
    G = len(layout.ORDERS[cell]["torch"])
    x, h, c = (rng.normal(size=s).astype(np.float32) for s in ((T, B, I), (B, H), (B, H)))
    w = Weights(
        *(rng.normal(size=s).astype(np.float32) for s in ((G * H, I), (G * H, H), (G * H,), (G * H,)))
    )
    return x, w, h, c


def tensors(x, cell, w, h, lengths=None):
    W, R, b = layout.to_onnx(cell, *w)
    values = {"X": x, "W": W[None], "R": R[None], "B": b[None], "initial_h": h[None]}
    return values if lengths is None else values | {"sequence_lens": np.array(lengths, np.int32)}


def assert_close(found, last, expected, states):
    np.testing.assert_allclose(found, expected, **CLOSE)
    for a, b in zip(arrays(last), states, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("clip", [None, 0.75])
@pytest.mark.parametrize("peephole", [False, True])
def test_lstm(rng, peephole, clip, lengths):
    x, w, h, c = drawn(rng, "lstm")
    p_i, p_f, p_o = p = rng.normal(size=(3, H)).astype(np.float32)
    given = tensors(x, "lstm", w, h, lengths) | {"initial_c": c[None]}
    given |= {"P": np.concatenate([p_i, p_o, p_f])[None]} if peephole else {}
    expected, states = run("LSTM", given, **({"clip": clip} if clip else {}))
    options = Options(peephole=p if peephole else None, clip=clip)
    y, last, _ = lstm.forward(x, w, (h, c), options=options, lengths=lengths)
    assert_close(y, last, expected, states)


@pytest.mark.parametrize("peephole", [False, True])
def test_coupled_gates(rng, peephole):
    x, w, h, c = drawn(rng, "lstm")
    p_i, p_f, p_o = rng.normal(size=(3, H)).astype(np.float32)
    given = tensors(x, "lstm", w, h) | {"initial_c": c[None]}
    given |= {"P": np.concatenate([p_i, p_o, p_f])[None]} if peephole else {}
    expected, states = run("LSTM", given, input_forget=1)
    three = Weights(*(np.delete(a, np.s_[H : 2 * H], axis=0) for a in w))
    options = Options(coupled=True, peephole=np.stack([p_i, p_o]) if peephole else None)
    y, last, _ = lstm.forward(x, three, (h, c), options=options)
    assert_close(y, last, expected, states)


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("clip", [None, 0.75])
@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru(rng, reset, clip, lengths):
    x, w, h, _ = drawn(rng, "gru")
    attributes = {"linear_before_reset": int(reset == "after")} | ({"clip": clip} if clip else {})
    expected, (h_n,) = run("GRU", tensors(x, "gru", w, h, lengths), **attributes)
    y, last, _ = gru.forward(x, w, h, reset=reset, options=Options(clip=clip), lengths=lengths)
    assert_close(y, last, expected, [h_n])


@pytest.mark.parametrize("lengths", [None, RAGGED])
@pytest.mark.parametrize("clip", [None, 0.75])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn(rng, activation, clip, lengths):
    x, w, h, _ = drawn(rng, "rnn")
    attributes = {"activations": [activation.title()]} | ({"clip": clip} if clip else {})
    expected, (h_n,) = run("RNN", tensors(x, "rnn", w, h, lengths), **attributes)
    y, last, _ = rnn.forward(x, w, h, activation=activation, options=Options(clip=clip), lengths=lengths)
    assert_close(y, last, expected, [h_n])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_reverse_direction_of_ragged_rows(rng, cell):
    x, w, h, c = drawn(rng, cell)
    given = tensors(x, cell, w, h, RAGGED) | ({"initial_c": c[None]} if cell == "lstm" else {})
    attributes = {"direction": "reverse"} | ({"linear_before_reset": 1} if cell == "gru" else {})
    expected, states = run(cell.upper(), given, **attributes)
    module, state = {"lstm": (lstm, (h, c)), "gru": (gru, h), "rnn": (rnn, h)}[cell]
    lengths = np.array(RAGGED)
    y, last, _ = module.forward(stack.turn(x, lengths), w, state, lengths=lengths)
    assert_close(stack.turn(y, lengths), last, expected, states)
