"""Layers of one cell, one above the other, in torch: without a gradient, with one, and with a gradient of that.

One autograd function for all layers of a module, so that a small model pays for it once. Under `create_graph=True`
the backward pass is a formula of torch's own operations (`nn.formula`), which can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from carousel.nn import formula, kernels, operators
from carousel.nn.recomputation import Recomputed
from carousel.nn.spec import Batch, Outputs, Spec

__all__ = ["run", "run_as", "trains"]


def run(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
) -> Outputs:
    """All layers of `spec` over a batch of sequences.

    Args:
        spec, batch: what is computed, and over what.
        x: (T, B, I), or (B, T, I) with batch_first; any strides; (N, I) where the batch is packed.
        h_0, c_0: (L*D, B, P) and (L*D, B, H); None for zeros; c_0 for the LSTM only.
        weights: per direction those that `spec.slots` names, in its order; contiguous.

    Returns:
        y of (T, B, D*P) or (B, T, D*P), step after step in memory, or (N, D*P); h_n and c_n shaped like h_0 and
        c_0, c_n for the LSTM only; the block with the gates of every layer where they are wanted (`nn.gates`).
    """
    if torch.compiler.is_compiling():
        return operators.run(spec, batch, x, h_0, c_0, weights)
    if batch.distance and not batch.wants_gates and trains((x, h_0, c_0, *weights)):
        y, h_n, *c_n = Recomputed.apply(spec, batch, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
        return Outputs(y, h_n, *c_n)
    return run_as(kernels.plan_of(spec, batch, x), x, h_0, c_0, weights)


def run_as(
    plan: kernels.Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
) -> Outputs:
    """`run`, as the plan of x says."""
    if trains((x, h_0, c_0, *weights)):
        y, h_n, *rest = _Layers.apply(plan, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
        return Outputs(y, h_n, rest.pop(0) if plan.c_shape else None, *rest)
    block = kernels.block_of(plan, x, plan.batch.steps) if plan.batch.wants_gates else None
    return Outputs(*_forward(plan, x, h_0, c_0, weights, block), block)


def trains(tensors: Iterable[Tensor | None]) -> bool:
    """Whether a gradient may be asked for."""
    if torch.is_grad_enabled():
        for tensor in tensors:  # not any(): a generator costs more than the first few answers
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def _forward(
    plan: kernels.Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    block: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    y, h_n = kernels.sequence_of(plan, x), x.new_empty(*plan.h_shape)
    c_n = x.new_empty(*plan.c_shape) if plan.c_shape else None
    kernels.forward(plan, x, h_0, c_0, weights, y, h_n, c_n, block)
    return y, h_n, c_n


class _Layers(torch.autograd.Function):
    """`run_as` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, plan: kernels.Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        block = kernels.block_of(plan, x, plan.batch.steps)
        y, h_n, c_n = _forward(plan, x, h_0, c_0, weights, block)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, block, *weights)
        outputs = (y, h_n) if c_n is None else (y, h_n, c_n)
        return (*outputs, block) if plan.batch.wants_gates else outputs

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        plan, wanted = ctx.plan, ctx.needs_input_grad[1:]
        if dy is None and dh_n is None and rest.count(None) == len(rest):
            return (None, *(None for _ in wanted))
        x, h_0, c_0, y, block, *weights = ctx.saved_tensors  # read once: a checkpoint recomputes them
        given = (x, h_0, c_0, *weights)
        if formula.is_asked_for((dy, dh_n, *rest)):
            return (None, *formula.backward(plan.spec, plan.batch, given, wanted, (dy, dh_n, *rest)))
        dc_n, dblock = rest[0] if plan.c_shape else None, rest[-1] if plan.batch.wants_gates else None
        gradients = kernels.gradients_of(given, wanted)
        dx, dh_0, dc_0, *dweights = gradients
        kernels.backward(
            plan, x, h_0, c_0, weights, y, block, dy, dh_n, dc_n, dblock, dx, dh_0, dc_0, dweights
        )
        return (None, *gradients)
