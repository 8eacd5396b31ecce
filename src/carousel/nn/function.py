"""The glue between torch and the kernels: layers of one cell, one above the other, as one autograd function.

It holds no mathematics. Outputs are allocated as torch tensors and handed to `_core` by address; whoever calls has
checked shapes, dtypes and devices (`nn.call`). Three ways, as in torch: without gradient, with gradient, and with a
gradient of the gradient, where the backward pass is torch's own formula, which can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carousel import _core

__all__ = ["CELLS", "Spec", "run"]

CELLS = {"LSTM": 0, "GRU": 1, "RNN_TANH": 3, "RNN_RELU": 4}  # torch's `mode`: carousel_cell of csrc/carousel.h
_DTYPES = {torch.float32: 0, torch.float64: 1}


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

    def weights_of(self, weights: Sequence[Tensor], k: int) -> Sequence[Tensor | None]:
        """W, R, b_W, b_R of the k-th direction, counted through all layers."""
        each = 4 if self.bias else 2
        mine = weights[k * each : (k + 1) * each]
        return mine if self.bias else (*mine, None, None)


def run(
    spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All layers of `spec` over a batch of sequences.

    Args:
        x: (T, B, I), or (B, T, I) with batch_first; any strides.
        h_0, c_0: (L*D, B, H); None for zeros; c_0 for the LSTM only.
        weights: W, R[, b_W, b_R] per direction, in torch's order.

    Returns:
        y of (T, B, D*H) or (B, T, D*H), h_n and c_n of (L*D, B, H); c_n is None but for the LSTM.
    """
    if torch.is_grad_enabled() and _any_requires_grad(x, h_0, c_0, weights):
        outputs = _Layers.apply(spec, x, h_0, c_0, *weights)
        return outputs if spec.has_cells else (*outputs, None)
    return _forward(spec, x, h_0, c_0, weights, reserve=None)[0]


def _any_requires_grad(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]) -> bool:
    return (
        x.requires_grad
        or (h_0 is not None and h_0.requires_grad)
        or (c_0 is not None and c_0.requires_grad)
        or any(w.requires_grad for w in weights)
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _rows(tensor: Tensor) -> Tensor:
    """The tensor itself where its last axis is contiguous, as the kernels need it; else a copy."""
    return tensor if tensor.stride(-1) == 1 or tensor.size(-1) <= 1 else tensor.contiguous()


def _steps(tensor: Tensor, batch_first: bool) -> tuple[int, int]:
    """Elements from one step, and from one batch row, to the next."""
    step, row = tensor.stride(0), tensor.stride(1)
    return (row, step) if batch_first else (step, row)


@dataclass(frozen=True)
class _Reserve:
    """What the forward pass leaves: a block of memory per direction, and the output of every layer but the last."""

    block: Tensor
    offsets: list[int]
    between: list[Tensor]


def _reserve(spec: Spec, dtype: int, T: int, B: int, I: int) -> _Reserve:
    D, H = spec.directions, spec.hidden_size
    cell = CELLS[spec.mode]
    first = _core.reserve_size(cell, dtype, T, B, I, H)
    offsets = [0]
    for _ in range(spec.num_layers * D):
        offsets.append(offsets[-1] + first)  # gates and cells: no part of it depends on I
    return _Reserve(torch.empty(offsets[-1] + 64, dtype=torch.uint8), offsets, [])


def _aligned(block: Tensor) -> int:
    return -(-block.data_ptr() // 64) * 64


def _forward(
    spec: Spec,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    reserve: _Reserve | None,
) -> tuple[tuple[Tensor, Tensor, Tensor | None], Tensor]:
    """The three outputs, and x as it was read."""
    D, H, cell, dtype = spec.directions, spec.hidden_size, CELLS[spec.mode], _DTYPES[x.dtype]
    T, B = (x.shape[1], x.shape[0]) if spec.batch_first else (x.shape[0], x.shape[1])
    x = read = _rows(x)
    h_0, c_0 = _contiguous(h_0), _contiguous(c_0)
    h_n = x.new_empty(spec.num_layers * D, B, H)
    c_n = x.new_empty(spec.num_layers * D, B, H) if spec.has_cells else None
    size = x.element_size()
    state = B * H * size
    base = 0 if reserve is None else _aligned(reserve.block)
    x_step, x_row = _steps(x, spec.batch_first)
    for layer in range(spec.num_layers):
        last = layer == spec.num_layers - 1
        batch_first = spec.batch_first and last
        y = x.new_empty(B, T, D * H) if batch_first else x.new_empty(T, B, D * H)
        y_step, y_row = _steps(y, batch_first)
        for d in range(D):
            k = layer * D + d
            W, R, b_W, b_R = spec.weights_of(weights, k)
            assert W is not None
            _core.forward(
                cell, dtype, d == 1, T, B, W.shape[1], H,
                x.data_ptr(), x_step, x_row,
                0 if h_0 is None else h_0.data_ptr() + k * state,
                0 if c_0 is None else c_0.data_ptr() + k * state,
                W.data_ptr(), _address(R), _address(b_W), _address(b_R),
                y.data_ptr() + d * H * size, y_step, y_row,
                h_n.data_ptr() + k * state, 0 if c_n is None else c_n.data_ptr() + k * state,
                base + reserve.offsets[k] if reserve is not None else 0,
            )  # fmt: skip
        if reserve is not None and not last:
            reserve.between.append(y)
        x, x_step, x_row = y, y_step, y_row
    return (x, h_n, c_n), read


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


class _Layers(torch.autograd.Function):
    """`run` with a gradient."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        T, B = (x.shape[1], x.shape[0]) if spec.batch_first else (x.shape[0], x.shape[1])
        reserve = _reserve(spec, _DTYPES[x.dtype], T, B, x.shape[2])
        weights = tuple(w.contiguous() for w in weights)
        (y, h_n, c_n), read = _forward(spec, x, h_0, c_0, weights, reserve)
        ctx.spec, ctx.offsets = spec, reserve.offsets
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, reserve.block, *reserve.between, *weights)
        return (y, h_n) if c_n is None else (y, h_n, c_n)

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        spec: Spec = ctx.spec
        x, h_0, c_0, y, block, *rest = ctx.saved_tensors
        between, weights = rest[: spec.num_layers - 1], rest[spec.num_layers - 1 :]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            gradients = _torch_backward(spec, (x, h_0, c_0, *weights), wanted, output_gradients)
        else:
            reserve = _Reserve(block, ctx.offsets, [*between, y])
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
    D, H, cell, dtype = spec.directions, spec.hidden_size, CELLS[spec.mode], _DTYPES[x.dtype]
    T, B = (x.shape[1], x.shape[0]) if spec.batch_first else (x.shape[0], x.shape[1])
    dy, dh_n, *others = output_gradients
    dh_n, dc_n = _contiguous(dh_n), _contiguous(others[0] if others else None)
    inputs, h_0, c_0 = _rows(x), _contiguous(h_0), _contiguous(c_0)
    dh_0 = x.new_empty(spec.num_layers * D, B, H) if wanted[1] else None
    dc_0 = x.new_empty(spec.num_layers * D, B, H) if wanted[2] else None
    gradients = [torch.empty_like(w) if want else None for w, want in zip(weights, wanted[3:], strict=True)]
    size = x.element_size()
    state = B * H * size

    def part(tensor: Tensor | None, k: int) -> int:
        return 0 if tensor is None else tensor.data_ptr() + k * state

    for layer in reversed(range(spec.num_layers)):
        y = reserve.between[layer]
        below = inputs if layer == 0 else reserve.between[layer - 1]
        y_first, below_first = spec.batch_first and layer == spec.num_layers - 1, spec.batch_first and layer == 0
        y_step, y_row = _steps(y, y_first)
        below_step, below_row = _steps(below, below_first)
        dy = None if dy is None else _rows(dy)
        dy_step, dy_row = (0, 0) if dy is None else _steps(dy, y_first)
        want_dx = layer > 0 or wanted[0]
        dx = torch.empty(below.shape, dtype=x.dtype) if want_dx else None
        for d in range(D):
            k = layer * D + d
            W, R, _, _ = spec.weights_of(weights, k)
            dW, dR, db_W, db_R = spec.weights_of(gradients, k)  # type: ignore[arg-type]
            # The second direction has a dx of its own, added below: the kernels overwrite.
            target = dx if d == 0 or dx is None else torch.empty_like(dx)
            dx_step, dx_row = (0, 0) if target is None else _steps(target, below_first)
            assert W is not None
            _core.backward(
                cell, dtype, d == 1, T, B, W.shape[1], H,
                below.data_ptr(), below_step, below_row, part(h_0, k), part(c_0, k), W.data_ptr(), _address(R),
                y.data_ptr() + d * H * size, y_step, y_row, _aligned(reserve.block) + reserve.offsets[k],
                0 if dy is None else dy.data_ptr() + d * H * size, dy_step, dy_row, part(dh_n, k), part(dc_n, k),
                _address(target), dx_step, dx_row, part(dh_0, k), part(dc_0, k),
                _address(dW), _address(dR), _address(db_W), _address(db_R),
            )  # fmt: skip
            if d == 1 and dx is not None:
                assert target is not None
                dx += target
        dy = dx
    return [dy if wanted[0] else None, dh_0, dc_0, *gradients]


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
    B = x.shape[0] if spec.batch_first else x.shape[1]
    zeros = x.new_zeros(spec.num_layers * spec.directions, B, spec.hidden_size)
    h = zeros if h_0 is None else h_0
    state = (h, zeros if c_0 is None else c_0) if spec.has_cells else h
    function = getattr(torch._VF, spec.mode.lower())
    options = (spec.bias, spec.num_layers, 0.0, True, spec.directions == 2, spec.batch_first)
    with _without_onednn():  # its fused layer has no second derivative
        outputs = function(x, state, weights, *options)
        used = [(o, g) for o, g in zip(outputs, output_gradients, strict=True) if g is not None]
        sources = [t for t, want in zip((x, h_0, c_0, *weights), wanted, strict=True) if want and t is not None]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in used], sources, [g for _, g in used], create_graph=True, allow_unused=True
            )
        )
    return [next(found) if want else None for want in wanted]
