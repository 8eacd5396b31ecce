"""One step of a cell: a sequence of length one, without axes for time and layers, which would cost views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carousel.nn import formula, kernels
from carousel.nn.kernels import contiguous
from carousel.nn.spec import Batch, Spec

__all__ = ["step"]

State = Tensor | tuple[Tensor, Tensor]


def step(spec: Spec, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> State:
    """The new h, or an LSTM's (h, c), shaped as the states.

    Args:
        spec: one layer and direction.
        x: (B, I) or (I,).
        states: h, and of an LSTM c, of (B, H) or (H,); none for zeros.
        weights: those that `spec.slots` names, in its order; contiguous.
    """
    h_0, c_0 = (*states, None, None)[:2]
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *weights)):
        state: State = _Step.apply(spec, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
        return state
    _, h, c = _forward(spec, x, h_0, c_0, weights, None)
    return h if c is None else (h, c)


def _forward(
    spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], block: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """y, which the backward pass reads, and the new h, which is the caller's to change; c."""
    shape = (*x.shape[:-1], spec.hidden_size)
    y, h = x.new_empty(shape), x.new_empty(shape)
    c = x.new_empty(shape) if spec.has_cells else None
    kernels.forward(
        spec, _batch(x), _rows(x), contiguous(h_0), contiguous(c_0), weights, _rows(y), h, c, block
    )
    return y, h, c


class _Step(torch.autograd.Function):
    """`step` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor
    ) -> State:
        block = kernels.block_of(spec, _batch(x), x, 1)
        y, h, c = _forward(spec, x, h_0, c_0, weights, block)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, block, *weights)
        return h if c is None else (h, c)

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dc: Tensor | None = None) -> tuple[Any, ...]:
        spec, wanted = ctx.spec, ctx.needs_input_grad[1:]
        x, h_0, c_0, y, block, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (None, *_by_formula(spec, (x, h_0, c_0, *weights), wanted, (dh, dc)))
        given = (x, h_0, c_0, *weights)
        dx, dh_0, dc_0, *dweights = (
            t.new_empty(t.shape) if want and t is not None else None
            for t, want in zip(given, wanted, strict=True)
        )
        kernels.backward(
            spec, _batch(x), _rows(x), contiguous(h_0), contiguous(c_0), weights, _rows(y), block,
            None, contiguous(dh), contiguous(dc), None, None if dx is None else _rows(dx), dh_0, dc_0, dweights,
        )  # fmt: skip
        return None, dx, dh_0, dc_0, *dweights


def _by_formula(
    spec: Spec, inputs: Sequence[Tensor | None], wanted: Sequence[bool], dout: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients as operations that can be differentiated again: of a layer, with its axes in front."""
    x, h_0, c_0, *weights = inputs
    assert x is not None
    front = (1,) * (3 - x.dim())
    x, h_0, c_0, dh, dc = (None if t is None else t.reshape(*front, *t.shape) for t in (x, h_0, c_0, *dout))
    dlast = (None, dh, dc) if spec.has_cells else (None, dh)
    batch = Batch(1, 1 if len(front) == 2 else x.shape[1])  # type: ignore[union-attr]
    found = formula.backward(spec, batch, (x, h_0, c_0, *weights), wanted, dlast)
    first = (None if g is None else g.reshape(g.shape[len(front) :]) for g in found[:3])
    return [*first, *found[3:]]


def _batch(x: Tensor) -> Batch:
    return Batch(1, x.shape[0] if x.dim() == 2 else 1)


def _rows(x: Tensor) -> Tensor:
    """(B, ·), the last axis contiguous."""
    return kernels.rows(x if x.dim() == 2 else x.unsqueeze(0))
