"""Networks, and ONNX graphs of others' making, for the tests of conversions; who imports it is skipped without onnx."""

import numpy as np
import pytest

from carousel.interop import _onnx_node
from carousel.interop import onnx as conversions
from carousel.interop.onnx import load
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Normalization,
    Recurrent,
    Reverse,
    Weights,
)

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'carousel-rnn[onnx]'")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
Backend = conversions.Backend

I, H = 3, 4


def layer(rng, cell, inputs=I, directions=1, peephole=False, dtype=np.float32, **options):
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell] - options.get("coupled_gates", False)

    def drawn(*shape):
        return rng.normal(size=shape).astype(dtype)

    each = [
        Weights(
            drawn(G * H, inputs),
            drawn(G * H, H),
            drawn(G * H),
            drawn(G * H),
            drawn(G - 1, H) if peephole else None,
        )
        for _ in range(directions)
    ]
    return Recurrent(cell, tuple(each), **options)


def dense(rng, inputs, outputs=2, activation="identity"):
    W = rng.normal(size=(outputs, inputs)).astype(np.float32)
    return Dense(W, rng.normal(size=outputs).astype(np.float32), activation)


def ones(*shape):
    return np.ones(shape, np.float32)


NETWORKS = {
    "lstm": lambda r: [layer(r, "lstm"), LastStep(), dense(r, H)],
    "stacked": lambda r: [
        layer(r, "gru"),
        layer(r, "lstm", H, 2),
        layer(r, "rnn", 2 * H),
        dense(r, H, 3, "tanh"),
    ],
    "gru": lambda r: [layer(r, "gru", reset="before", clip=0.5)],
    "relu": lambda r: [layer(r, "rnn", activation="relu", reverse=True), Activation("softmax")],
    "peephole": lambda r: [layer(r, "lstm", peephole=True, clip=0.7)],
    "coupled": lambda r: [layer(r, "lstm", directions=2, coupled_gates=True)],
    "coupled peephole": lambda r: [layer(r, "lstm", coupled_gates=True, peephole=True)],
    "sum": lambda r: [layer(r, "gru", directions=2, merge="sum"), Reverse(), dense(r, H)],
    "mul": lambda r: [layer(r, "gru", directions=2, merge="mul"), LastStep()],
    "ave": lambda r: [layer(r, "lstm", directions=2, merge="ave", return_sequences=False), dense(r, H)],
    "states": lambda r: [
        layer(r, "lstm", directions=2, return_sequences=False),
        dense(r, 2 * H, 1, "sigmoid"),
    ],
    "normalized": lambda r: [
        Normalization(ones(I), 4 * ones(I)),
        layer(r, "gru"),
        Activation("relu"),
        Normalization(ones(H), 9 * ones(H), invert=True),
    ],
    "ids": lambda r: [Embedding(r.normal(size=(5, I)).astype(np.float32)), layer(r, "gru"), LastStep()],
    "float64": lambda r: [layer(r, "lstm", dtype=np.float64, directions=2)],
}


def node_model(kind, arrays, inputs, outputs=("Y", "Y_h"), nodes=(), result=None, opset=14, **attributes):
    """One recurrent node, `arrays` its weights, `inputs` the shapes of the graph's inputs, and nodes after it."""
    names = [n for n in _onnx_node.INPUTS if kind == "LSTM" or n not in ("initial_c", "P")]
    given = [n if n in arrays or n in inputs else "" for n in names]
    while not given[-1]:
        given.pop()
    made = [helper.make_node(kind, given, list(outputs), "cell", **attributes), *nodes]
    types = {"sequence_lens": TensorProto.INT32}
    infos = [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()]
    axes = {"Y_h": "abc", "Y_c": "abc"}  # of any length
    results = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [*axes.get(n, "abcd")])
        for n in result or outputs
        if n
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph(made, "g", infos, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def drawn(rng, kind, D=1, peephole=False, inputs=I):
    G = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (D, G * H, inputs), "R": (D, G * H, H), "B": (D, 2 * G * H)} | (
        {"P": (D, 3 * H)} if peephole else {}
    )
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def headed(rng, nodes, arrays, states=(), axes="ab", opset=14):
    """An LSTM, its last state squeezed to `h` and its outputs to `z`, and nodes that make `y` of either."""
    made = [
        helper.make_node("LSTM", ["X", "W", "R", "B", "", *states], ["Y", "Y_h"], "cell", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["z"]),
        helper.make_node("Squeeze", ["Y_h", "zero"], ["h"]),
        *nodes,
    ]
    arrays = drawn(rng, "LSTM") | {"one": np.array([1]), "zero": np.array([0])} | arrays
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", I])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*axes])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def lstm_model(rng, **changes):
    given = {"kind": "LSTM", "arrays": drawn(rng, "LSTM"), "inputs": {"X": ["T", "B", I]}, "hidden_size": H}
    return node_model(**{**given, **changes})


def after(kind, inputs, **attributes):
    return {
        "outputs": ("Y",),
        "nodes": [helper.make_node(kind, ["Y", *inputs], ["z"], "then", **attributes)],
        "result": ["z"],
    }


def with_constant(rng, name, array):
    return {"arrays": {**drawn(rng, "LSTM"), name: array}}


def kept(model, path):
    onnx.save(model, path)
    return path


def external(rng, path, **entries):
    """A model whose W is kept in another file, at the place that `entries` say."""
    model = lstm_model(rng)
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    path.write_bytes(model.SerializeToString())
    return raw


def refused(path, error, text):
    with pytest.raises(error, match=text) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
