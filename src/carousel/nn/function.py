"""Layers of one cell, one above the other, in torch: without a gradient, with one, and with a gradient of that.

One autograd function for all layers of a module, so that a small model pays for it once. Under `create_graph=True`
the backward pass is a formula of torch's own operations (`nn.formula`), which can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carousel.nn import formula, kernels, operators
from carousel.nn.kernels import contiguous
from carousel.nn.recomputation import Recomputed
from carousel.nn.spec import Batch, Outputs, Spec

__all__ = ["run"]


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
        y of (T, B, D*P) or (B, T, D*P), contiguous, or (N, D*P); h_n and c_n shaped like h_0 and c_0, c_n for the
        LSTM only; the block with the gates of every layer where they are wanted (`nn.gates`).
    """
    if torch.compiler.is_compiling():
        return operators.run(spec, batch, x, h_0, c_0, weights)
    if torch.is_grad_enabled():
        for tensor in (x, h_0, c_0, *weights):
            if tensor is not None and tensor.requires_grad:
                function = Recomputed if batch.distance and not batch.wants_gates else _Layers
                y, h_n, *rest = function.apply(spec, batch, x, h_0, c_0, *weights)  # type: ignore[no-untyped-call]
                return Outputs(y, h_n, rest.pop(0) if spec.has_cells else None, *rest)
    block = kernels.block_of(spec, batch, x, batch.steps) if batch.wants_gates else None
    return Outputs(*_forward(spec, batch, x, h_0, c_0, weights, block), block)


def _forward(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    block: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    x, h_0, c_0 = kernels.rows(x), contiguous(h_0), contiguous(c_0)
    count, width = spec.num_layers * spec.directions, spec.width
    y = x.new_empty(*x.shape[:-1], spec.directions * width)
    h_n = x.new_empty(count, batch.size, width)
    c_n = x.new_empty(count, batch.size, spec.hidden_size) if spec.has_cells else None
    kernels.forward(spec, batch, x, h_0, c_0, weights, y, h_n, c_n, block)
    return y, h_n, c_n


class _Layers(torch.autograd.Function):
    """`run` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        block = kernels.block_of(spec, batch, x, batch.steps)
        y, h_n, c_n = _forward(spec, batch, x, h_0, c_0, weights, block)
        ctx.spec, ctx.batch = spec, batch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, y, block, *weights)
        outputs = (y, h_n) if c_n is None else (y, h_n, c_n)
        return (*outputs, block) if batch.wants_gates else outputs

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        spec, batch, wanted = ctx.spec, ctx.batch, ctx.needs_input_grad[2:]
        x, h_0, c_0, y, block, *weights = ctx.saved_tensors  # read once: a checkpoint recomputes them
        if torch.is_grad_enabled():
            inputs, dout = (x, h_0, c_0, *weights), (dy, dh_n, *rest)
            return (None, None, *formula.backward(spec, batch, inputs, wanted, dout))
        dc_n = contiguous(rest[0]) if spec.has_cells else None
        dblock = contiguous(rest[-1]) if batch.wants_gates else None
        count = spec.num_layers * spec.directions
        dx = x.new_empty(x.shape) if wanted[0] else None
        dh_0 = x.new_empty(count, batch.size, spec.width) if wanted[1] else None
        dc_0 = x.new_empty(count, batch.size, spec.hidden_size) if wanted[2] else None
        dweights = [
            x.new_empty(w.shape) if want else None for w, want in zip(weights, wanted[3:], strict=True)
        ]
        kernels.backward(
            spec, batch, kernels.rows(x), contiguous(h_0), contiguous(c_0), weights, y, block,
            None if dy is None else kernels.rows(dy), contiguous(dh_n), dc_n, dblock,
            dx, dh_0, dc_0, dweights,
        )  # fmt: skip
        return (None, None, dx, dh_0, dc_0, *dweights)
