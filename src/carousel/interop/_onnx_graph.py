"""An ONNX graph as the layers of a Network, or a refusal by name; imports onnx, so it is imported late.

Every value on the way is what the layers so far give, with its axes by letter: T steps, B rows, D directions, F
features. Nodes that only move axes change the letters, the others add a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from carousel.errors import CarouselError, FormatError, UnsupportedError
from carousel.interop._onnx_node import INPUTS, KINDS, recurrent
from carousel.interop._onnx_states import Given, States
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Network,
    Normalization,
    Recurrent,
    Reverse,
)

__all__ = ["Reading", "reading"]

Array = NDArray[Any]

_FUNCTIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softmax": "softmax"}
_MERGES = {"ReduceSum": "sum", "ReduceProd": "mul", "ReduceMean": "ave"}


@dataclass(frozen=True)
class Value:
    """What `layers` give, or of the last of them the state that is no output.

    `open` says what the next node may complete: a "product" lacks its bias, "centred" its scale, "scaled" its mean.
    `states` are what h and c of every recurrent layer begin with.
    """

    axes: str
    layers: tuple[Layer, ...]
    open: str = ""
    states: tuple[tuple[Given | None, Given | None], ...] = ()

    def then(self, layers: tuple[Layer, ...], axes: str | None = None, **changes: Any) -> Value:
        """What these layers give, which nothing may complete if `changes` do not say so."""
        return replace(self, **{"layers": layers, "axes": axes or self.axes, "open": "", **changes})


@dataclass(frozen=True)
class Reading:
    """A graph that was read.

    Args:
        network: the layers.
        axes: of the input.
        output, output_axes: the name of the graph's output that the network gives, and its axes.
        input: the name of the graph's input.
        states: the inputs for h and c of every recurrent layer; None where it begins with zeros.
        lengths: the name of the input that tells the steps of each row, if there is one.
        told: for every node what it is, and what became of it.
    """

    network: Network
    axes: str
    output: str
    output_axes: str
    input: str
    states: tuple[tuple[Given | None, Given | None], ...]
    lengths: str | None
    told: tuple[tuple[str, str], ...]


class _OtherAxes(Exception):
    """Steps are not where this order of the input's axes has them."""


def reading(model: onnx.ModelProto) -> Reading:
    """The network of a model's graph, whose input is (T, B, I) or (B, T, I), or ids (T, B) or (B, T).

    Raises:
        UnsupportedError: a node, an attribute or a form of graph that a Network cannot express.
        FormatError: arrays that do not fit one another.
    """
    refusal: Exception | None = None
    for batch_first in (False, True):
        try:
            return _Walk(model, batch_first).read()
        except _OtherAxes as error:
            refusal = refusal or UnsupportedError(str(error))
    assert refusal is not None
    raise refusal


class _Walk:
    def __init__(self, model: onnx.ModelProto, batch_first: bool) -> None:
        self._graph = model.graph
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._shapes = {
            i.name: len(i.type.tensor_type.shape.dim)
            for i in model.graph.input
            if i.name not in self._constants
        }
        self._values: dict[str, Value] = {}
        self._states = States(set(self._shapes) & States.taken(self._graph), self._constants)
        self._lengths: str | None = None
        self._told: list[tuple[str, str]] = []
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        self._order = "BT" if batch_first else "TB"

    def read(self) -> Reading:
        if self._opset < 7:
            raise UnsupportedError(f"the model is of opset {self._opset}; 7 and later are supported")
        start = self._start()
        axes = self._order + ("F" if self._shapes[start] == 3 else "")
        self._values[start] = Value(axes, ())
        for node in self._graph.node:
            self._node(node)
        output = self._output()
        value = self._values[output]
        rest = set(self._shapes) - {start, self._lengths} - self._states.used
        if rest:
            raise UnsupportedError(
                f"the input {min(rest)!r} is neither the sequence nor a state; it is not supported"
            )
        try:
            network = Network(value.layers)
        except CarouselError as error:
            raise FormatError(f"its layers do not fit one another: {str(error).rstrip('.')}") from None
        return Reading(
            network, axes, output, value.axes, start, value.states, self._lengths, tuple(self._told)
        )

    def _start(self) -> str:
        """The input that is the sequence: the one with features, or else ids."""
        taken = States.taken(self._graph)
        found = [name for name, rank in self._shapes.items() if rank in (2, 3) and name not in taken]
        if len(found) != 1:
            raise UnsupportedError(
                "the graph must have one input (steps, rows, features), beside states, "
                f"got {', '.join(found) or 'none'}"
            )
        return str(found[0])

    def _output(self) -> str:
        names = [o.name for o in self._graph.output]
        main = [name for name in names if name in self._values]
        side = self._states.outputs
        if not main or any(name not in side and name not in main for name in names):
            raise UnsupportedError("an output of the graph is none of its layers")
        candidates = [name for name in main if name not in side] or main[:1]
        found, others = candidates[0], candidates[1:]
        if others:
            raise UnsupportedError(
                f"the graph has the outputs {found!r} and {others[0]!r}; one, beside states, is supported"
            )
        return str(found)

    def _node(self, node: onnx.NodeProto) -> None:
        title = f"node {node.name or node.output[0]!r} ({node.op_type})" if node.output else "a node"
        if node.name:
            title = f"node {node.name!r} ({node.op_type})"
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(f"{title} is of the domain {node.domain!r}, which is not supported")
        attributes = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
        if self._is_constant(node, attributes) or self._is_last_state(title, node, attributes):
            return
        source = next((name for name in node.input if name in self._values), None)
        if source is None or node.op_type not in _READ:
            raise UnsupportedError(
                f"{title} is not supported; LSTM, GRU, RNN, Gemm, MatMul, Add, activations and what moves axes are"
            )
        before = self._values[source]
        try:
            after = _READ[node.op_type](self, title, node, attributes, before)
        except (UnsupportedError, FormatError, _OtherAxes):
            raise
        except CarouselError as error:
            raise FormatError(f"{title}: {str(error).rstrip('.')}") from None
        for name, value in after.items():
            self._values[name] = value
        first = next(iter(after.values()))
        new = [layer for layer in first.layers if not any(layer is old for old in before.layers)]
        told = " + ".join(getattr(layer, "title", repr(layer)) for layer in new)
        self._told.append((title.removeprefix("node "), told or "the order of the axes"))

    def _is_constant(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node gives a constant, or only leads to a state; then its output is noted as that."""
        if node.op_type == "Constant" and "value" in attributes:
            self._constants[node.output[0]] = attributes["value"]
            return True
        return self._states.follow(node, attributes)

    def _is_last_state(self, title: str, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node joins last states, or takes one of them; then its output is noted as that."""
        made: Value | bool | None = False
        if node.op_type == "Concat":
            made = self._states.join(node, attributes)
        elif (
            node.op_type == "Gather" and self._states.is_last(node.input[0]) and not attributes.get("axis", 0)
        ):
            index = self._constant(title, node.input[1])
            if index.shape != ():
                raise UnsupportedError(f"{title} takes several last states at once")
            made = self._states.pick(title, node, int(index))
        if made is False:
            return False
        if isinstance(made, Value):
            self._values[node.output[0]] = made
        self._told.append((title.removeprefix("node "), "last states"))
        return True

    def _constant(self, title: str, name: str) -> Array:
        if name not in self._constants:
            raise UnsupportedError(
                f"{title} has weights {name!r} that are no constants, which is not supported"
            )
        return self._constants[name]

    def _weights(self, title: str, name: str) -> Array:
        array = self._constant(title, name)
        if array.dtype not in (np.float32, np.float64):
            raise UnsupportedError(f"{title} has weights of {array.dtype}; float32 and float64 are supported")
        return array

    def _recurrent(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        given = {key: name for key, name in zip(INPUTS, node.input, strict=False) if name}
        layout = attributes.pop("layout", 0)
        if x.axes not in ("TBF", "BTF"):
            raise UnsupportedError(f"{title} takes what is no sequence any more")
        if x.axes != ("BTF" if layout else "TBF") or given["X"] not in self._values:
            raise _OtherAxes(f"{title} does not read the steps of the input")
        W, R, B, P = (self._weights(title, given[key]) if key in given else None for key in "WRBP")
        assert W is not None
        assert R is not None
        layer = recurrent(title, node.op_type, attributes, W, R, B, P)
        lengths = given.get("sequence_lens")
        if lengths is None:
            layer = replace(layer, zero_output_for_mask=False)
        else:
            self._note_lengths(title, lengths)
        begins = self._states.begins_with
        states = (*x.states, (begins(title, given.get("initial_h")), begins(title, given.get("initial_c"))))
        outputs = [*node.output, "", "", ""]
        whole, last = (*x.layers, layer), (*x.layers, replace(layer, return_sequences=False))
        if lengths is None and not layer.reads_backwards:
            last = (*whole, LastStep())
        found = {
            outputs[0]: x.then(whole, "BTDF" if layout else "TDBF", states=states),
            outputs[1]: x.then(last, "BDF" if layout else "DBF", states=states),
        }
        self._states.ends_with(outputs[1:3], found[outputs[1]], len(layer.directions))
        return {name: value for name, value in found.items() if name}

    def _note_lengths(self, title: str, name: str) -> None:
        if name not in self._shapes or self._lengths not in (None, name):
            raise UnsupportedError(
                f"{title} has `sequence_lens` {name!r}, which must be one input of the graph"
            )
        self._lengths = name

    def _turned(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        perm = attributes.get("perm", range(len(x.axes))[::-1])
        return {node.output[0]: replace(x, axes="".join(x.axes[k] for k in perm))}

    def _axes(self, title: str, node: onnx.NodeProto, attributes: dict[str, Any]) -> list[int]:
        """An input from opset 13 on, an attribute before."""
        axes: list[int] = (
            self._constant(title, node.input[1]).tolist()
            if len(node.input) > 1
            else attributes.get("axes", [])
        )
        return axes

    def _squeezed(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axes = self._axes(title, node, attributes)
        places = [k % len(x.axes) for k in axes]
        layer = x.layers[-1] if x.layers else None
        named = [x.axes[k] for k in places] or (["D"] if "D" in x.axes else [])
        owner = next((l for l in reversed(x.layers) if isinstance(l, Recurrent)), layer)
        if named == ["F"] and self._features(x) == 1:
            return {node.output[0]: replace(x, axes=x.axes.replace("F", ""))}
        if named != ["D"] or not isinstance(owner, Recurrent) or owner.bidirectional:
            raise UnsupportedError(f"{title} squeezes another axis than that of one direction or one feature")
        return {node.output[0]: replace(x, axes=x.axes.replace("D", ""))}

    def _reshaped(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        shape, merged = self._constant(title, node.input[1]).ravel().tolist(), x.axes.replace("DF", "F")
        features = self._features(x)
        ends = shape[-1] in (features, -1) and all(n in (0, -1) for n in shape[:-1]) and shape.count(-1) <= 1
        if "DF" not in x.axes or len(shape) != len(merged) or not ends:
            raise UnsupportedError(
                f"{title} gives the shape {shape} to what has the axes {', '.join(x.axes)}"
            )
        return {node.output[0]: replace(x, axes=merged)}

    def _merged(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axes = self._axes(title, node, attributes)
        last = x.layers[-1] if x.layers else None
        if [x.axes[k % len(x.axes)] for k in axes] != ["D"] or attributes.get("keepdims", 1):
            raise UnsupportedError(f"{title} reduces another axis than that of the directions")
        if not isinstance(last, Recurrent) or not last.bidirectional:
            raise UnsupportedError(f"{title} does not follow two directions")
        merged = replace(last, merge=cast(Any, _MERGES[node.op_type]))
        return {node.output[0]: x.then((*x.layers[:-1], merged), x.axes.replace("D", ""))}

    def _features(self, x: Value) -> int:
        sized = [l for l in x.layers if isinstance(l, Recurrent | Dense | Embedding | Normalization)]
        return sized[-1].output_size if sized else -1

    def _gathered(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axis = attributes.get("axis", 0)
        if node.input[0] in self._constants and x.axes in ("TB", "BT") and axis == 0:
            table = Embedding(cast(Any, self._weights(title, node.input[0])))
            return {node.output[0]: x.then((*x.layers, table), x.axes + "F")}
        index = self._constant(title, node.input[1])
        if index.shape != () or int(index) != -1 or "D" in x.axes:
            raise UnsupportedError(f"{title} takes other steps than the last")
        return self._last(title, node, axis, x)

    def _last(self, title: str, node: onnx.NodeProto, axis: int, x: Value) -> dict[str, Value]:
        if x.axes[axis % len(x.axes)] != "T":
            raise _OtherAxes(f"{title} takes the last of another axis than that of the steps")
        return {node.output[0]: x.then((*x.layers, LastStep()), x.axes.replace("T", ""))}

    def _sliced(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if len(node.input) < 5:
            raise UnsupportedError(f"{title} is no turning round of the steps, which is supported")
        start, end, axis, step = (self._constant(title, name).ravel().tolist() for name in node.input[1:5])
        if (start, step, len(axis)) != ([-1], [-1], 1) or end[0] > -(2**31) or "D" in x.axes:
            raise UnsupportedError(f"{title} is no turning round of the steps, which is supported")
        if x.axes[axis[0] % len(x.axes)] != "T":
            raise _OtherAxes(f"{title} turns another axis round than that of the steps")
        return {node.output[0]: x.then((*x.layers, Reverse()))}

    def _gemm(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if (
            attributes.get("alpha", 1.0) != 1
            or attributes.get("beta", 1.0) != 1
            or attributes.get("transA", 0)
        ):
            raise UnsupportedError(f"{title} has `alpha`, `beta` or `transA`, which are not supported")
        W = self._weights(title, node.input[1])
        bias = self._weights(title, node.input[2]) if len(node.input) > 2 else None
        return self._dense(title, node, W if attributes.get("transB", 0) else W.T, bias, x)

    def _product(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if node.input[0] not in self._values:
            raise UnsupportedError(f"{title} has its weights on the left, which is not supported")
        return self._dense(title, node, self._weights(title, node.input[1]).T, None, x)

    def _dense(
        self, title: str, node: onnx.NodeProto, W: Array, bias: Array | None, x: Value
    ) -> dict[str, Value]:
        if not x.axes.endswith("F") or "D" in x.axes or W.ndim != 2:
            raise UnsupportedError(f"{title} is no product with a matrix over the features")
        if bias is not None:
            bias = np.broadcast_to(bias, (len(W),)) if bias.size in (1, len(W)) else bias
        dense = Dense(cast(Any, W), cast(Any, bias))
        return {node.output[0]: x.then((*x.layers, dense), open="product" if bias is None else "")}

    def _added(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        return self._affine(title, node, x)

    def _affine(self, title: str, node: onnx.NodeProto, x: Value) -> dict[str, Value]:
        """Add, Sub, Mul or Div with a constant: the bias of a product, or a part of a normalisation."""
        left = node.input[0] in self._values
        names = [name for name in node.input if name not in self._values]
        if (
            len(names) != 1
            or not x.axes.endswith("F")
            or "D" in x.axes
            or (not left and node.op_type in ("Sub", "Div"))
        ):
            raise UnsupportedError(
                f"{title} is of two layers, or of a constant and a layer, which is not supported"
            )
        a, last = self._weights(title, names[0]), x.layers[-1] if x.layers else None
        F = self._features(x)
        F = a.size if F < 0 else F
        if a.size not in (1, F) or (a.size > 1 and a.shape[-1] != a.size):
            raise UnsupportedError(
                f"{title} has a constant of shape {a.shape}, which is none over the features"
            )
        a = np.broadcast_to(a.ravel(), (F,)).copy()
        if node.op_type == "Add" and x.open == "product":
            assert isinstance(last, Dense)
            return {node.output[0]: x.then((*x.layers[:-1], replace(last, b=cast(Any, a))))}
        if node.op_type in ("Mul", "Div") and not (a > 0).all():
            raise UnsupportedError(f"{title} scales by what is not above 0, which is not supported")
        zeros, ones = np.zeros_like(a), np.ones_like(a)
        if isinstance(last, Normalization) and (node.op_type, x.open) in (
            ("Div", "centred"),
            ("Add", "scaled"),
        ):
            made = replace(last, variance=a * a) if node.op_type == "Div" else replace(last, mean=a)
            return {node.output[0]: x.then((*x.layers[:-1], made))}
        made, still = {
            "Sub": (Normalization(cast(Any, a), cast(Any, ones)), "centred"),
            "Div": (Normalization(cast(Any, zeros), cast(Any, a * a)), ""),
            "Mul": (Normalization(cast(Any, zeros), cast(Any, a * a), invert=True), "scaled"),
            "Add": (Normalization(cast(Any, a), cast(Any, ones), invert=True), ""),
        }[node.op_type]
        return {node.output[0]: x.then((*x.layers, made), open=still)}

    def _activated(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        function = _FUNCTIONS[node.op_type]
        if function == "softmax":
            axis = attributes.get("axis", -1 if self._opset >= 13 else 1)
            if axis % len(x.axes) != len(x.axes) - 1 or not x.axes.endswith("F"):
                raise UnsupportedError(
                    f"{title} has `axis` = {axis}; the last one, of the features, is supported"
                )
        last = x.layers[-1] if x.layers else None
        if isinstance(last, Dense) and last.activation == "identity" and function != "softmax":
            layers = (*x.layers[:-1], replace(last, activation=cast(Any, function)))
            return {node.output[0]: x.then(layers)}
        return {node.output[0]: x.then((*x.layers, Activation(cast(Any, function))))}

    def _passed(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if node.op_type == "Dropout" and len(node.input) > 2 and np.any(self._constant(title, node.input[2])):
            raise UnsupportedError(f"{title} is in training mode, which is not supported")
        return {node.output[0]: x}


_Reader = Callable[[_Walk, str, onnx.NodeProto, dict[str, Any], Value], dict[str, Value]]
_READ: dict[str, _Reader] = {
    **dict.fromkeys(KINDS, _Walk._recurrent),
    **dict.fromkeys(_FUNCTIONS, _Walk._activated),
    **dict.fromkeys(_MERGES, _Walk._merged),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Walk._added),
    **dict.fromkeys(("Identity", "Dropout"), _Walk._passed),
    "Gather": _Walk._gathered,
    "Gemm": _Walk._gemm,
    "MatMul": _Walk._product,
    "Reshape": _Walk._reshaped,
    "Slice": _Walk._sliced,
    "Squeeze": _Walk._squeezed,
    "Transpose": _Walk._turned,
}


def _plain(value: Any) -> Any:
    """An attribute: text as str, a tensor as an array."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
