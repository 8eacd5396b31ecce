"""The glue between torch and the kernels: layers of one cell, one above the other, as one autograd function.

It holds no mathematics. Outputs are allocated as torch tensors and handed to `_core` by address; whoever calls
has checked shapes, dtypes and devices (`nn.call`). Three ways, as in torch: without gradient, with gradient, and
with a gradient of the gradient, where the backward pass is torch's own formula, which can be differentiated
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carousel import _core

__all__ = ["Spec", "run"]

_CELLS = {"LSTM": 0, "GRU": 1, "RNN_TANH": 3, "RNN_RELU": 4}  # carousel_cell of csrc/carousel.h
_DTYPES = {torch.float32: 0, torch.float64: 1}

Outputs = tuple[Tensor, Tensor, Tensor | None]
"""y, h_n, and c_n of an LSTM."""


@dataclass(frozen=True)
class Spec:
    """What is computed, apart from the tensors: torch's names for the options of a recurrent layer."""

    mode: str
    hidden_size: int
    num_layers: int
    directions: int
    bias: bool
    batch_first: bool

    @property
    def has_cells(self) -> bool:
        return self.mode == "LSTM"

    def of_direction(self, weights: Sequence[Tensor | None], k: int) -> Sequence[Tensor | None]:
        """W, R, b_W, b_R of the k-th direction, counted through all layers."""
        each = 4 if self.bias else 2
        mine = weights[k * each : (k + 1) * each]
        return mine if self.bias else (*mine, None, None)

    def lengths(self, x: Tensor) -> tuple[int, int]:
        """T and B of an input."""
        return (x.shape[1], x.shape[0]) if self.batch_first else (x.shape[0], x.shape[1])

    def first_axis_is_batch(self, layer: int) -> bool:
        """Whether the output of this layer is (B, T, D*H). Between the layers time comes first."""
        return self.batch_first and layer == self.num_layers - 1


def run(spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]) -> Outputs:
    """All layers of `spec` over a batch of sequences.

    Args:
        x: (T, B, I), or (B, T, I) with batch_first; any strides.
        h_0, c_0: (L*D, B, H); None for zeros; c_0 for the LSTM only.
        weights: W, R[, b_W, b_R] per direction, in torch's order.

    Returns:
        y of (T, B, D*H) or (B, T, D*H), contiguous; h_n and c_n of (L*D, B, H), c_n for the LSTM only.
    """
    if torch.is_grad_enabled():
        for tensor in (x, h_0, c_0, *weights):
            if tensor is not None and tensor.requires_grad:
                outputs = _Layers.apply(spec, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
                return outputs if spec.has_cells else (*outputs, None)
    return _forward(spec, x, h_0, c_0, [w.contiguous() for w in weights], None)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _rows(tensor: Tensor) -> Tensor:
    """The tensor itself where its last axis is contiguous, as the kernels need it; else a copy."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def _steps(tensor: Tensor | None, batch_first: bool) -> tuple[int, int]:
    """Elements from one step, and from one batch row, to the next."""
    if tensor is None:
        return 0, 0
    first, second = tensor.stride(0), tensor.stride(1)
    return (second, first) if batch_first else (first, second)


@dataclass(frozen=True)
class _Reserve:
    """What the forward pass leaves: a block of memory with a part per direction, and every layer's output."""

    block: Tensor
    size: int
    outputs: list[Tensor]

    @classmethod
    def empty(cls, spec: Spec, x: Tensor) -> _Reserve:
        T, B = spec.lengths(x)
        size = _core.reserve_size(_CELLS[spec.mode], _DTYPES[x.dtype], T, B, 0, spec.hidden_size)
        count = spec.num_layers * spec.directions
        return cls(torch.empty(count * size, dtype=torch.uint8), size, [])

    def part(self, k: int) -> int:
        return self.block.data_ptr() + k * self.size


def _forward(
    spec: Spec,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    reserve: _Reserve | None,
) -> Outputs:
    D, H, cell, dtype = spec.directions, spec.hidden_size, _CELLS[spec.mode], _DTYPES[x.dtype]
    T, B = spec.lengths(x)
    h_0, c_0 = _contiguous(h_0), _contiguous(c_0)
    h_n = x.new_empty(spec.num_layers * D, B, H)
    c_n = x.new_empty(spec.num_layers * D, B, H) if spec.has_cells else None
    size = x.element_size()
    state = B * H * size

    def part(tensor: Tensor | None, k: int) -> int:
        return 0 if tensor is None else tensor.data_ptr() + k * state

    below = _rows(x)
    below_step, below_row = _steps(below, spec.batch_first)
    for layer in range(spec.num_layers):
        batch_first = spec.first_axis_is_batch(layer)
        y = x.new_empty(B, T, D * H) if batch_first else x.new_empty(T, B, D * H)
        y_step, y_row = _steps(y, batch_first)
        for k in range(layer * D, (layer + 1) * D):
            d = k - layer * D
            W, R, b_W, b_R = spec.of_direction(weights, k)
            _core.forward(
                cell, dtype, d == 1, T, B, below.shape[2], H,
                below.data_ptr(), below_step, below_row, part(h_0, k), part(c_0, k),
                _address(W), _address(R), _address(b_W), _address(b_R),
                y.data_ptr() + d * H * size, y_step, y_row, part(h_n, k), part(c_n, k),
                0 if reserve is None else reserve.part(k),
            )  # fmt: skip
        if reserve is not None:
            reserve.outputs.append(y)
        below, below_step, below_row = y, y_step, y_row
    return below, h_n, c_n


class _Layers(torch.autograd.Function):
    """`run` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        weights = tuple(w.contiguous() for w in weights)
        reserve = _Reserve.empty(spec, x)
        y, h_n, c_n = _forward(spec, x, h_0, c_0, weights, reserve)
        ctx.spec, ctx.size = spec, reserve.size
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, reserve.block, *reserve.outputs, *weights)
        return (y, h_n) if c_n is None else (y, h_n, c_n)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        spec: Spec = ctx.spec
        x, h_0, c_0, block, *rest = ctx.saved_tensors  # read once: a checkpoint recomputes them
        outputs, weights = rest[: spec.num_layers], rest[spec.num_layers :]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            gradients = _torch_backward(spec, (x, h_0, c_0, *weights), wanted, output_gradients)
        else:
            reserve = _Reserve(block, ctx.size, outputs)
            gradients = _backward(spec, x, h_0, c_0, weights, reserve, output_gradients, wanted)
        return (None, *gradients)


def _backward(
    spec: Spec,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    reserve: _Reserve,
    output_gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of x, h_0, c_0 and the weights, None where not wanted."""
    D, H, cell, dtype = spec.directions, spec.hidden_size, _CELLS[spec.mode], _DTYPES[x.dtype]
    T, B = spec.lengths(x)
    dy, dh_n, dc_n = (*output_gradients, None)[:3]
    h_0, c_0, dh_n, dc_n = map(_contiguous, (h_0, c_0, dh_n, dc_n))
    dh_0 = x.new_empty(spec.num_layers * D, B, H) if wanted[1] else None
    dc_0 = x.new_empty(spec.num_layers * D, B, H) if wanted[2] else None
    dw = [torch.empty_like(w) if want else None for w, want in zip(weights, wanted[3:], strict=True)]
    size = x.element_size()
    state = B * H * size

    def part(tensor: Tensor | None, k: int) -> int:
        return 0 if tensor is None else tensor.data_ptr() + k * state

    for layer in reversed(range(spec.num_layers)):
        y, below = reserve.outputs[layer], reserve.outputs[layer - 1] if layer > 0 else _rows(x)
        y_first, below_first = spec.first_axis_is_batch(layer), spec.batch_first and layer == 0
        y_step, y_row = _steps(y, y_first)
        below_step, below_row = _steps(below, below_first)
        dy = None if dy is None else _rows(dy)
        dy_step, dy_row = _steps(dy, y_first)
        # The kernels overwrite, so every direction writes a dx of its own.
        dxs = [x.new_empty(below.shape) if layer > 0 or wanted[0] else None for _ in range(D)]
        for k in range(layer * D, (layer + 1) * D):
            d = k - layer * D
            dx_step, dx_row = _steps(dxs[d], below_first)
            W, R, _, _ = spec.of_direction(weights, k)
            dW, dR, db_W, db_R = spec.of_direction(dw, k)
            _core.backward(
                cell, dtype, d == 1, T, B, below.shape[2], H,
                below.data_ptr(), below_step, below_row, part(h_0, k), part(c_0, k), _address(W), _address(R),
                y.data_ptr() + d * H * size, y_step, y_row, reserve.part(k),
                0 if dy is None else dy.data_ptr() + d * H * size, dy_step, dy_row, part(dh_n, k), part(dc_n, k),
                _address(dxs[d]), dx_step, dx_row, part(dh_0, k), part(dc_0, k),
                _address(dW), _address(dR), _address(db_W), _address(db_R),
            )  # fmt: skip
        first, *others = dxs
        for other in others:
            if first is not None and other is not None:
                first += other
        dy = first
    return [dy, dh_0, dc_0, *dw]


@contextmanager
def _without_onednn() -> Iterator[None]:
    """`torch.backends.mkldnn.flags(enabled=False)` without its warning about other devices."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _torch_backward(
    spec: Spec,
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    output_gradients: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The same gradients by torch's own operations, with a graph: for a gradient of the gradient."""
    # Views, so that the graph of this pass ends here and joins the caller's graph through autograd.grad.
    x, h_0, c_0, *weights = (None if tensor is None else tensor.view_as(tensor) for tensor in inputs)
    assert x is not None
    zeros = x.new_zeros(spec.num_layers * spec.directions, spec.lengths(x)[1], spec.hidden_size)
    h = zeros if h_0 is None else h_0
    state = (h, zeros if c_0 is None else c_0) if spec.has_cells else h
    function = getattr(torch._VF, spec.mode.lower())
    options = (spec.bias, spec.num_layers, 0.0, True, spec.directions == 2, spec.batch_first)
    with _without_onednn():  # its fused layer has no second derivative
        outputs = function(x, state, weights, *options)
        known = [(o, g) for o, g in zip(outputs, output_gradients, strict=True) if g is not None]
        targets, gradients = zip(*known, strict=True)
        sources = (x, h_0, c_0, *weights)
        asked = [t for t, want in zip(sources, wanted, strict=True) if want and t is not None]
        found = iter(torch.autograd.grad(targets, asked, gradients, create_graph=True, allow_unused=True))
    return [next(found) if want else None for want in wanted]
