"""One step of a cell: a sequence of length one, without axes for time and layers, which would cost views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from carousel import _core
from carousel.nn import formula
from carousel.nn.function import trains
from carousel.nn.kernels import Kept, compiled, contiguous, gradients_of
from carousel.nn.spec import Batch, Spec, known_shapes

__all__ = ["Plan", "plan_of", "step"]

State = Tensor | tuple[Tensor, Tensor]


class Plan(NamedTuple):
    """What follows from the cell and the shape of x alone."""

    spec: Spec  # one layer and direction, without options
    kept: Kept
    layers: _core.Layers
    rows: int  # B
    shape: tuple[int, ...]  # of h, and of c
    block: int  # elements that a step leaves for the backward pass


def plan_of(spec: Spec, x: Tensor) -> Plan:
    """For x of (B, I) or (I,)."""
    rows = x.shape[0] if x.dim() == 2 else 1
    layers = compiled(spec, x.dtype, False)
    block = layers.block_bytes(1, rows, rows) // x.element_size()
    shape = (*x.shape[:-1], spec.hidden_size)
    kept = Kept(x.dtype, [tuple(x.shape), shape, *known_shapes(spec)], shape, shape)
    return Plan(spec, kept, layers, rows, shape, block)


def step(plan: Plan, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> State:
    """The new h, or an LSTM's (h, c), shaped as the states.

    Args:
        plan: of the cell and x.
        x: (B, I) or (I,).
        states: h, and of an LSTM c, of (B, H) or (H,); none for zeros.
        weights: those that `spec.slots` names, in its order; contiguous.
    """
    h_0, c_0 = (*states, None, None)[:2]
    if trains((x, *states, *weights)):
        state: State = _Step.apply(plan, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
        return state
    h = x.new_empty(*plan.shape)
    c = x.new_empty(*plan.shape) if plan.spec.has_cells else None
    _forward(plan, x, h_0, c_0, weights, h, None, c, None)
    return h if c is None else (h, c)


def _forward(
    plan: Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], y: Tensor,
    h: Tensor | None, c: Tensor | None, block: Tensor | None,
) -> None:  # fmt: skip
    """Writes y and h, which are the same numbers, c, and the block."""
    I, H = plan.spec.input_size, plan.spec.hidden_size
    x, h_0, c_0 = x.contiguous(), contiguous(h_0), contiguous(c_0)
    plan.layers.forward(
        1, plan.rows, (x.data_ptr(), 0, I), _address(h_0), _address(c_0), [w.data_ptr() for w in weights], [],
        (y.data_ptr(), 0, H), _address(h), _address(c), _address(block),
    )  # fmt: skip


class _Step(torch.autograd.Function):
    """`step` with a gradient. The backward pass reads y, which an RNN returns, as torch does: to change it in place is
    an error. Of other cells the h of the caller is the caller's to change.
    """

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor
    ) -> State:
        y, block = x.new_empty(*plan.shape), x.new_empty(plan.block)
        h = None if plan.spec.mode.startswith("RNN") else x.new_empty(*plan.shape)
        c = x.new_empty(*plan.shape) if plan.spec.has_cells else None
        _forward(plan, x, h_0, c_0, weights, y, h, c, block)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, block, *weights)
        if h is None:
            return y
        return h if c is None else (h, c)

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dc: Tensor | None = None) -> tuple[Any, ...]:
        plan, wanted = ctx.plan, ctx.needs_input_grad[1:]
        if dh is None and dc is None:
            return (None, *(None for _ in wanted))
        x, h_0, c_0, y, block, *weights = ctx.saved_tensors
        given = (x, h_0, c_0, *weights)
        if formula.is_asked_for((dh, dc)):
            return None, *_by_formula(plan, given, wanted, (dh, dc))
        plan.kept.check(x, h_0, c_0, y, weights, block, plan.block * y.element_size())
        weights = [w.resolve_neg().contiguous() for w in weights]
        found = gradients_of(given, wanted)
        dx, dh_0, dc_0, *dweights = found
        x, y, block = (t.resolve_neg().contiguous() for t in (x, y, block))
        h_0, c_0, dh, dc = contiguous(h_0), contiguous(c_0), contiguous(dh), contiguous(dc)
        I, H = plan.spec.input_size, plan.spec.hidden_size
        plan.layers.backward(
            1, plan.rows, (x.data_ptr(), 0, I), _address(h_0), _address(c_0), [w.data_ptr() for w in weights], [],
            (y.data_ptr(), 0, H), block.data_ptr(), (0, 0, 0), _address(dh), _address(dc), 0,
            (_address(dx), 0, I), _address(dh_0), _address(dc_0), [_address(d) for d in dweights],
        )  # fmt: skip
        return None, *found


def _by_formula(
    plan: Plan, inputs: Sequence[Tensor | None], wanted: Sequence[bool], dout: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients as operations that can be differentiated again: of a layer, with its axes in front."""
    count = 3 - len(plan.shape)
    front = (1,) * count
    x, h_0, c_0, dh, dc = (None if t is None else t.reshape(*front, *t.shape) for t in (*inputs[:3], *dout))
    dlast = (None, dh, dc) if plan.spec.has_cells else (None, dh)
    given = (x, h_0, c_0, *inputs[3:])
    found = formula.backward(plan.spec, Batch(1, plan.rows), given, wanted, dlast)
    first = (None if g is None else g.reshape(g.shape[count:]) for g in found[:3])
    return [*first, *found[3:]]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
