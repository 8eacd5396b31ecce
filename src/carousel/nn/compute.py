"""Layers one above the other as a module runs them: precision, masks, dropout between layers, gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from carousel.nn import formula
from carousel.nn.beyond import Beyond
from carousel.nn.function import run
from carousel.nn.gates import Gates, gates_of, joined
from carousel.nn.masks import drawn, dropped
from carousel.nn.spec import Batch, Outputs, Spec, one_direction, one_layer, slots

__all__ = ["compute"]

Run = Callable[[Spec, Batch, Tensor, Tensor | None, Tensor | None, Sequence[Tensor]], Outputs]


def compute(
    module: Any, spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None,
    weights: Sequence[Tensor], low: bool, by_formula: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Gates | None]:  # fmt: skip
    """y, h_n, c_n, and the gates where they are wanted, each (L*D, T, B, H).

    Args:
        low: weights, inputs and outputs are bfloat16; sums, cells and states float32 all the same.
        by_formula: no kernel can go here.
    """
    own: Beyond = module._beyond
    dropout = module.dropout if module.training and spec.num_layers > 1 else 0.0
    dtype = x.dtype
    if low:
        # torch's GRU alone leaves autocast with the dtype of its state.
        dtype = torch.bfloat16 if spec.mode != "GRU" else (x if h_0 is None else h_0).dtype
        masked = own.state_dropout > 0 and module.training
        by_kernels = not (by_formula or own.layer_norm or masked or batch.wants_gates)
        spec, x, h_0, c_0, weights = _widened(spec, x, h_0, c_0, weights, by_kernels)
    if not torch.compiler.is_compiling():  # a graph keeps all states
        batch = batch._replace(distance=own.distance(batch.steps))
    if module.training:
        batch = drawn(own, spec, batch, x)
    way: Run = formula.layers if by_formula else run
    if dropout > 0 or (own.input_dropout > 0 and module.training) or own.recompute:
        y, h_n, c_n, gates = _one_by_one(module, spec, batch, x, h_0, c_0, weights, dropout, way)
    else:
        y, h_n, c_n, block = way(spec, batch, x, h_0, c_0, weights)
        gates = None if block is None else gates_of(spec, batch, block)
    if low:
        y, h_n, c_n = y.to(dtype), h_n.to(dtype), None if c_n is None else c_n.to(dtype)
    return y, h_n, c_n, gates


def _widened(
    spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], by_kernels: bool
) -> tuple[Spec, Tensor, Tensor | None, Tensor | None, list[Tensor]]:
    """Everything in float32, of bfloat16's values: rounded by the kernels, or here where they do not.

    The kernels of a backward pass are those of full precision.
    """
    tensors = [t for t in (x, h_0, c_0, *weights) if t is not None]
    trained = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    h_0, c_0 = (None if state is None else state.float() for state in (h_0, c_0))
    if by_kernels and not trained:
        x, *wide = (t.float() for t in (x, *weights))
        return spec._replace(low_precision=True), x, h_0, c_0, wide
    x, *wide = (t.bfloat16().float() for t in (x, *weights))
    return spec, x, h_0, c_0, wide


def _one_by_one(
    module: Any, spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None,
    weights: Sequence[Tensor], dropout: float, way: Run,
) -> tuple[Tensor, Tensor, Tensor | None, Gates | None]:  # fmt: skip
    """Layer by layer, with torch's dropout between them: the same masks as torch.nn under one seed."""
    D, each = spec.directions, spec.directions * len(slots(spec))
    turned = spec.batch_first and not batch.packed
    y = x.transpose(0, 1) if turned else x  # torch draws its masks over (T, B, D*P)
    h_n, c_n, gates = [], [], []
    for layer in range(spec.num_layers):
        one, here = one_layer(spec, batch, layer)
        if layer > 0:
            y = torch.dropout(y, dropout, True)
        if module.training and module._beyond.input_dropout > 0:
            y = dropped(module._beyond.input_dropout, one, here, y)
        h, c = (None if state is None else state[layer * D : (layer + 1) * D] for state in (h_0, c_0))
        y, h_last, c_last, block = _one_layer(
            one, here, y, h, c, weights[layer * each : (layer + 1) * each], way
        )
        h_n.append(h_last)
        if c_last is not None:
            c_n.append(c_last)
        if block is not None:
            gates.append(gates_of(one, here, block))
    y = y.transpose(0, 1) if turned else y
    return y, torch.cat(h_n), torch.cat(c_n) if c_n else None, joined(gates) if gates else None


def _one_layer(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    way: Run,
) -> Outputs:  # fmt: skip
    """Both directions at once; one after the other where states are computed anew."""
    if not batch.distance or spec.directions == 1 or batch.wants_gates:
        return way(spec, batch, x, h_0, c_0, weights)
    each, found = len(slots(spec)), []
    for d in (0, 1):
        h, c = (None if state is None else state[d : d + 1] for state in (h_0, c_0))
        found.append(way(*one_direction(spec, batch, d), x, h, c, weights[d * each : (d + 1) * each]))
    (y, h_n, c_n, _), (y_back, h_back, c_back, _) = found
    cells = None if c_n is None or c_back is None else torch.cat([c_n, c_back])
    return Outputs(torch.cat([y, y_back], dim=-1), torch.cat([h_n, h_back]), cells)
