"""A Network as an ONNX model; imports onnx, so it is imported late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from carousel.errors import UnsupportedError
from carousel.interop._onnx_node import arrays_of, attributes_of
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Masking,
    Network,
    Normalization,
    Recurrent,
    Reverse,
)

__all__ = ["model_of"]

Array = NDArray[Any]

_OPSET, _IR = 18, 8  # 18: reductions take their axes as an input; ONNX Runtime 1.14 and later
_MERGE = {"sum": "ReduceSum", "mul": "ReduceProd", "ave": "ReduceMean"}
_FUNCTIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softmax": "Softmax"}


def model_of(network: Network) -> onnx.ModelProto:
    """Inputs x (T, B, I), and of every recurrent layer h_0_k and c_0_k (D, B, H); outputs y, h_n_k and c_n_k.

    T and B are free.

    Raises:
        UnsupportedError: masks, which ONNX's cells have at the end of a row only.
    """
    graph = _Graph(network)
    for k, layer in enumerate(network.layers):
        graph.add(k, layer)
    return graph.model()


class _Graph:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._type = helper.np_dtype_to_tensor_dtype(network.dtype)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}
        self._inputs = [self._value("x", ["T", "B", network.input_size])]
        if network.takes_ids:
            self._inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["T", "B"])]
        self._outputs: list[onnx.ValueInfoProto] = []
        self._last = "x"

    def model(self) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [self._last], ["y"], "y"))
        shape = (
            ["T", "B", self._network.output_size]
            if self._network.per_step
            else ["B", self._network.output_size]
        )
        graph = helper.make_graph(
            self._nodes,
            "carousel",
            self._inputs,
            [self._value("y", shape), *self._outputs],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        made = helper.make_model(
            graph, producer_name="carousel", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
        )
        onnx.checker.check_model(made, full_check=True)
        return made

    def add(self, k: int, layer: Layer) -> None:
        if isinstance(layer, Recurrent):
            self._recurrent(k, layer)
        elif isinstance(layer, Dense):
            self._node("MatMul", f"product_{k}", W=np.ascontiguousarray(layer.W.T))
            self._node("Add", f"dense_{k}", b=layer.b)
            if layer.activation != "identity":
                self._node(_FUNCTIONS[layer.activation], f"{layer.activation}_{k}")
        elif isinstance(layer, Activation):
            axis = {"axis": -1} if layer.function == "softmax" else {}
            self._node(_FUNCTIONS[layer.function], f"{layer.function}_{k}", axis)
        elif isinstance(layer, Normalization):
            if layer.invert:
                self._node("Mul", f"scaled_{k}", scale=layer.scale)
                self._node("Add", f"normalized_{k}", mean=layer.mean)
            else:
                self._node("Sub", f"centred_{k}", mean=layer.mean)
                self._node("Div", f"normalized_{k}", scale=layer.scale)
        elif isinstance(layer, LastStep):
            self._node("Gather", f"last_{k}", {"axis": 0}, step=np.array(-1, np.int64))
        elif isinstance(layer, Reverse):
            ends = {"start": -1, "end": np.iinfo(np.int64).min, "axis": 0, "stride": -1}
            self._node("Slice", f"reverse_{k}", None, **{n: np.array([v], np.int64) for n, v in ends.items()})
        elif isinstance(layer, Embedding) and not layer.mask_zero:
            self._constants["table"] = layer.W
            self._nodes.append(helper.make_node("Gather", ["table", "x"], ["embedded"], "embedded", axis=0))
            self._last = "embedded"
        else:
            assert isinstance(layer, Masking | Embedding)
            raise UnsupportedError(
                f"ONNX's cells have no masks but the length of a row, the network has {layer!r}."
            )

    def _recurrent(self, k: int, layer: Recurrent) -> None:
        D, H = len(layer.directions), layer.hidden_size
        arrays = arrays_of(layer)
        names = {name: f"{name}_{k}" for name in arrays}
        self._constants |= {names[name]: array for name, array in arrays.items()}
        states = ["h", "c"] if layer.cell == "lstm" else ["h"]
        self._inputs += [self._value(f"{s}_0_{k}", [D, "B", H]) for s in states]
        self._outputs += [self._value(f"{s}_n_{k}", [D, "B", H]) for s in states]
        inputs = [self._last, names["W"], names["R"], names["B"], "", *(f"{s}_0_{k}" for s in states)]
        inputs += [names["P"]] if "P" in names else []
        outputs = [f"steps_{k}", *(f"{s}_n_{k}" for s in states)]
        kind = layer.cell.upper()
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, f"{layer.cell}_{k}", **attributes_of(layer))
        )
        axis = np.array([1 if layer.return_sequences else 0], np.int64)  # D, in (T, D, B, H) or (D, B, H)
        self._last = outputs[0] if layer.return_sequences else outputs[1]
        if D == 1:
            self._node("Squeeze", f"one_direction_{k}", axes=axis)
        elif layer.merge != "concat":
            self._node(_MERGE[layer.merge], f"merged_{k}", {"keepdims": 0}, axes=axis)
        else:
            order = [0, 2, 1, 3] if layer.return_sequences else [1, 0, 2]
            self._node("Transpose", f"turned_{k}", {"perm": order})
            shape = [0, 0, 2 * H] if layer.return_sequences else [0, 2 * H]
            self._node("Reshape", f"both_directions_{k}", shape=np.array(shape, np.int64))

    def _node(
        self, kind: str, name: str, attributes: Mapping[str, Any] | None = None, **constants: Array
    ) -> None:
        """A node on the last output and on constants, whose output is the last from now on."""
        names = [f"{name}_{constant}" for constant in constants]
        self._constants |= dict(zip(names, constants.values(), strict=True))
        self._nodes.append(helper.make_node(kind, [self._last, *names], [name], name, **(attributes or {})))
        self._last = name

    def _value(self, name: str, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self._type, shape)
