"""A layer that keeps its state only at every k-th step for the backward pass, and computes k steps anew at a time.

Beyond x, y and their gradients, memory holds T/k cell states and the gates of k steps: with k = √T that is O(√T).

Source: Chen, Xu, Zhang and Guestrin (2016), "Training deep nets with sublinear memory cost".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carousel.nn import formula, kernels
from carousel.nn.spec import Batch, Spec

__all__ = ["Recomputed"]


class Recomputed(torch.autograd.Function):
    """`nn.function.run` of one layer in one direction; the state between two parts is the last h in y, and c."""

    @staticmethod
    def forward(
        ctx: Any, spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        assert spec.num_layers == spec.directions == 1
        plan, x_rows = kernels.plan_of(spec, batch, x), kernels.rows(x)
        y, h_n = kernels.sequence_of(plan, x), x.new_empty(plan.h_shape)
        cells = [c_0]  # before every part, and after the last
        for first, last in _parts(batch):
            c_n = x.new_empty(plan.c_shape) if plan.c_shape else None
            kernels.forward(plan, x_rows, h_0, cells[-1], weights, y, h_n, c_n, None, first, last)
            cells.append(c_n)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, *cells[1:-1], *weights)
        return (y, h_n) if cells[-1] is None else (y, h_n, cells[-1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh: Tensor | None, *dc_n: Tensor | None) -> tuple[Any, ...]:
        plan, wanted = ctx.plan, ctx.needs_input_grad[2:]
        if dy is None and dh is None and dc_n.count(None) == len(dc_n):
            return (None, None, *(None for _ in wanted))
        parts = _parts(plan.batch)
        x, h_0, c_0, y, *rest = ctx.saved_tensors
        cells, weights = [c_0, *rest[: len(parts) - 1]], rest[len(parts) - 1 :]
        if formula.is_asked_for((dy, dh, *dc_n)):
            inputs, dout = (x, h_0, c_0, *weights), (dy, dh, *dc_n)
            return (None, None, *formula.backward(plan.spec, plan.batch, inputs, wanted, dout))
        for c in cells:
            plan.kept.check(x, h_0, c, y, weights)
        weights = [w.resolve_neg().contiguous() for w in weights]
        y = kernels.in_order(plan, y)
        plan = kernels.plan_of(plan.spec, plan.batch, x)  # a hook may have laid x out anew
        x_rows, dy, dc = kernels.rows(x), None if dy is None else kernels.rows(dy), (*dc_n, None)[0]
        dx = x.new_empty(x.shape) if wanted[0] else None
        dweights = [
            torch.zeros_like(w) if want else None for w, want in zip(weights, wanted[3:], strict=True)
        ]
        block = kernels.block_of(plan, x, plan.batch.distance)
        for (first, last), c in zip(reversed(parts), reversed(cells), strict=True):
            # y is written once more, with the same bits.
            kernels.forward(plan, x_rows, h_0, c, weights, y, None, None, block, first, last)
            dh_before = x.new_empty(plan.h_shape)
            dc_before = x.new_empty(plan.c_shape) if plan.c_shape else None
            of_part = [None if total is None else torch.empty_like(total) for total in dweights]
            kernels.backward(
                plan, x_rows, h_0, c, weights, y, block, dy, dh, dc, None,
                dx, dh_before, dc_before, of_part, first, last,
            )  # fmt: skip
            dh, dc = dh_before, dc_before
            for total, new in zip(dweights, of_part, strict=True):
                if total is not None and new is not None:
                    total += new
        return (None, None, dx, dh if wanted[1] else None, dc if wanted[2] else None, *dweights)


def _parts(batch: Batch) -> list[tuple[int, int]]:
    """First and last step of each, counted in the layer's direction."""
    return [
        (first, min(first + batch.distance, batch.steps)) for first in range(0, batch.steps, batch.distance)
    ]
