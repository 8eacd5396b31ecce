"""ONNX models run node by node: recurrent nodes by our kernels or by the specification's equations.

Everything else is run by onnx's own reference. Imports onnx, so it is imported late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.backend.base import Backend as Base
from onnx.backend.base import BackendRep, Device, DeviceType
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from carousel.errors import UnsupportedError
from carousel.interop import _onnx_equations
from carousel.interop._onnx_cut import with_names
from carousel.interop._onnx_node import INPUTS, KINDS, recurrent
from carousel.network import Network
from carousel.stream import Model, State

__all__ = ["Backend", "Prepared", "by_equations", "by_kernels"]

Array = NDArray[Any]
Node = Callable[[str, Mapping[str, Any], Mapping[str, Array]], tuple[Array, Array, Array]]
"""(kind, attributes, inputs by name) -> Y, Y_h, Y_c, all of layout 0."""


class Backend(Base):
    """onnx's interface of a backend, on our kernels: `Backend.prepare(model).run(inputs)`."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Prepared:
        """The model, checked, to be run any number of times.

        Raises:
            UnsupportedError: another device, or tensors kept in other files.
        """
        if not cls.supports_device(device):
            raise UnsupportedError(f"`device` must be CPU, got {device!r}.")
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise UnsupportedError(
                "the model keeps tensors in other files; carousel.interop.onnx.load reads those."
            )
        onnx.checker.check_model(model)
        return Prepared(model)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **_: Any) -> tuple[Any, ...]:
        """One run of `model`."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU."""
        return bool(Device(device).type == DeviceType.CPU)


class Prepared(BackendRep):
    """A model that `Backend.prepare` has checked."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = by_kernels(model)

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """The outputs, in the order of the graph.

        Args:
            inputs: by name, or in the order of the graph; one array where there is one.
        """
        names = self._evaluator.input_names
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        given = inputs if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
        return tuple(self._evaluator.run(None, dict(given)))


def by_kernels(model: onnx.ModelProto) -> ReferenceEvaluator:
    """Runs `model`, its recurrent nodes on our kernels."""
    return ReferenceEvaluator(with_names(model), new_ops=_operators(_on_kernels))


def by_equations(model: onnx.ModelProto) -> ReferenceEvaluator:
    """Runs `model`, its recurrent nodes by the equations of the specification."""
    return ReferenceEvaluator(with_names(model), new_ops=_operators(_onnx_equations.node))


def _on_kernels(
    kind: str, attributes: Mapping[str, Any], inputs: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    title = f"a node {kind}"
    weights = (inputs["W"], inputs["R"], inputs.get("B"), inputs.get("P"))
    layer = recurrent(title, kind, attributes, *weights)
    x, (D, _, H) = inputs["X"], inputs["R"].shape
    zeros = np.zeros((D, x.shape[1], H), x.dtype)
    h, c = inputs.get("initial_h", zeros), inputs.get("initial_c", zeros)
    state = State(tuple(h), tuple(c) if kind == "LSTM" else (None,) * D)
    lengths = inputs.get("sequence_lens")
    y, after = Model(Network((layer,))).run_from(x, state, lengths)
    Y = y.reshape(*y.shape[:2], D, H).transpose(0, 2, 1, 3)
    Y_c = zeros if kind != "LSTM" else np.stack([a for a in after.c if a is not None])
    return Y, np.stack(after.h), Y_c


def _operators(compute: Node) -> list[type[OpRun]]:
    return [_operator(kind, compute) for kind in KINDS]


def _operator(kind: str, compute: Node) -> type[OpRun]:
    """The class that onnx's evaluator takes for a kind of node."""
    names = INPUTS if kind == "LSTM" else INPUTS[:6]

    def run(self: Any, *arrays: Array | None, **attributes: Any) -> tuple[Array, ...]:
        given = {name: a for name, a in zip(names, arrays, strict=False) if a is not None}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        batch_first = bool(attributes.pop("layout", 0))
        if batch_first:
            turned = ("X", "initial_h", "initial_c")
            given |= {name: np.swapaxes(given[name], 0, 1) for name in turned if name in given}
        Y, Y_h, Y_c = (a.astype(given["X"].dtype) for a in compute(kind, attributes, given))
        if batch_first:
            Y, Y_h, Y_c = Y.transpose(2, 0, 1, 3), Y_h.swapaxes(0, 1), Y_c.swapaxes(0, 1)
        return (Y, Y_h, Y_c)[: len(self.onnx_node.output)]

    return type(kind, (OpRun,), {"op_domain": "", "_run": run})
