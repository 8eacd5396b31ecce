"""Nodes of an ONNX graph, written as expressions; imports onnx, so it is imported late.

    g = Graph()
    z = g("Div", g("Sub", window, level), scale)

A value is its name; arrays and numbers become constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["IR", "OPSET", "Graph", "Value"]

Array = NDArray[Any]
Value = str

OPSET, IR = 18, 8  # 18: reductions take their axes as an input; ONNX Runtime 1.14 and later


class Graph:
    """Nodes and constants, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def __call__(self, kind: str, *inputs: Value | Array | int | float, **attributes: Any) -> Value:
        """The first output of a new node."""
        return self.many(kind, 1, *inputs, **attributes)[0]

    def many(
        self, kind: str, count: int, *inputs: Value | Array | int | float, **attributes: Any
    ) -> list[Value]:
        """All outputs of a new node."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        outputs = [name, *(f"{name}_{k}" for k in range(1, count))]
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, name, **attributes))
        return outputs

    def constant(self, value: Array | int | float) -> Value:
        """A constant; the same numbers are kept once."""
        array = np.asarray(value)
        for name, known in self._constants.items():
            if (
                known.dtype == array.dtype
                and known.shape == array.shape
                and known.tobytes() == array.tobytes()
            ):
                return name
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(array) if array.ndim else array
        return name

    def input(self, name: str, dtype: Any, shape: list[Any]) -> Value:
        """An input of the model; sizes that are names are free."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: Value, dtype: Any, shape: list[Any]) -> None:
        """Gives `value` out under this name."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._nodes.append(helper.make_node("Identity", [value], [name], f"output_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def model(self, **metadata: str) -> onnx.ModelProto:
        """The model, checked."""
        constants = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, "carousel", self._inputs, self._outputs, constants)
        made = helper.make_model(
            graph, producer_name="carousel", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR
        )
        helper.set_model_props(made, metadata)
        onnx.checker.check_model(made, full_check=True)
        return made
