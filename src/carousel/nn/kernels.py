"""The glue between torch's tensors and the kernels: one function for each direction of time, and no mathematics.

Whoever calls has allocated all memory and checked shapes, dtypes and devices (`nn.call`); tensors go to `_core` by
address. What they share from call to call is a `Plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from carousel import _core
from carousel.errors import ArgumentError
from carousel.nn.spec import Batch, Spec, known_shapes, slots

__all__ = [
    "Kept", "Plan", "backward", "block_of", "compiled", "contiguous", "forward", "gradients_of", "in_order",
    "plan_of", "rows", "sequence_of",
]  # fmt: skip

_CELLS = {"LSTM": 0, "GRU": 1, "RNN_TANH": 3, "RNN_RELU": 4}  # carousel_cell of csrc/carousel.h
_GRU_RESET_BEFORE, _LSTM_COUPLED = 2, 5
_DTYPES = {torch.float32: 0, torch.float64: 1}
_CHANGED = (
    "The backward pass needs inputs and weights of the dtype, device and shape that they had in the forward pass; "
    "convert or move a module before it, and let hooks of saved tensors give back what they took."
)


@lru_cache(maxsize=1024)
def compiled(spec: Spec, dtype: torch.dtype, packed: bool) -> _core.Layers:
    """The compiled layers; a few numbers, no weights."""
    options = spec.options
    cell = _CELLS[spec.mode]
    if options.reset == "before":
        cell = _GRU_RESET_BEFORE
    if options.coupled_gates:
        cell = _LSTM_COUPLED
    return _core.Layers(
        cell, _DTYPES[dtype], spec.input_size, spec.hidden_size, projected=spec.proj_size,
        layers=spec.num_layers, directions=spec.directions, normalized=options.layer_norm, clip=options.clip,
        cell_clip=options.cell_clip, zoneout_h=options.zoneout_h, zoneout_c=options.zoneout_c,
        low_precision=spec.low_precision, reverse=spec.reverse, packed=packed,
    )  # fmt: skip


class Kept(NamedTuple):
    """What tensors that were kept for a backward pass must still be: on the CPU, of one dtype and of these shapes.

    Args:
        shapes: of x, y and the weights.
        h_shape, c_shape: of the states.
    """

    dtype: torch.dtype
    shapes: list[tuple[int, ...]]
    h_shape: tuple[int, ...]
    c_shape: tuple[int, ...] | None

    def check(
        self, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, y: Tensor, weights: Sequence[Tensor],
        block: Tensor | None = None, needed: int = 0,
    ) -> None:  # fmt: skip
        """Refuses what has become something else, for the kernels take addresses; the block must have `needed` bytes.

        Raises:
            ArgumentError: a dtype, a device or a shape is not that of the forward pass.
        """
        tensors = (x, y, *weights)
        for tensor in (*tensors, h_0, c_0, block):
            if tensor is not None and (tensor.dtype is not self.dtype or not tensor.is_cpu):
                raise ArgumentError(f"{_CHANGED} Found {tensor.dtype} on {tensor.device}.")
        if (
            [tensor.shape for tensor in tensors] != self.shapes
            or (h_0 is not None and h_0.shape != self.h_shape)
            or (c_0 is not None and c_0.shape != self.c_shape)
            or (block is not None and block.numel() * block.element_size() < needed)
        ):
            raise ArgumentError(_CHANGED)


class Plan(NamedTuple):
    """What the layers, the batch and the layout of x say of a call: all but the addresses of its tensors.

    Args:
        kept: what the backward pass must find.
        layers: compiled.
        strides: of `rows(x)`, elements from one step, and from one batch row, to the next; so of y, step after step as
            torch lays it out, and of dx, which is contiguous.
        places: how many addresses the weights have, and which belongs to each; None where they leave no gap.
        masks, lengths: addresses; the batch keeps the memory.
        sequences: rows of x and of y in all steps.
        y_shape, h_shape, c_shape: of the results; no c_shape where there are no cells.
    """

    spec: Spec
    batch: Batch
    kept: Kept
    layers: _core.Layers
    strides: tuple[int, int]
    y_strides: tuple[int, int]
    dx_strides: tuple[int, int]
    places: tuple[int, list[int]] | None
    masks: list[int]
    lengths: int
    sequences: int
    y_shape: tuple[int, ...]
    h_shape: tuple[int, int, int]
    c_shape: tuple[int, int, int] | None


def plan_of(spec: Spec, batch: Batch, x: Tensor) -> Plan:
    """For x of (T, B, I), (B, T, I) with batch_first, or packed (N, I)."""
    I, width, count = spec.input_size, spec.directions * spec.width, spec.num_layers * spec.directions
    dense = (0, I) if batch.packed else (I, batch.steps * I) if spec.batch_first else (batch.size * I, I)
    y_shape, h_shape = (*x.shape[:-1], width), (count, batch.size, spec.width)
    c_shape = (count, batch.size, spec.hidden_size) if spec.has_cells else None
    kept = Kept(x.dtype, [tuple(x.shape), y_shape, *known_shapes(spec)], h_shape, c_shape)
    return Plan(
        spec, batch, kept, compiled(spec, x.dtype, batch.packed), _strides(spec, x) if _has_rows(x) else dense,
        (0 if batch.packed else batch.size * width, width), dense, _places(spec), _masks(spec, batch),
        _address(batch.lengths), x.shape[0] if batch.packed else batch.steps * batch.size, y_shape, h_shape, c_shape,
    )  # fmt: skip


def sequence_of(plan: Plan, x: Tensor) -> Tensor:
    """Memory for y. Random tensors like it, dropout's masks among them, are drawn in its order: torch's."""
    if plan.spec.batch_first and not plan.batch.packed:
        return x.new_empty_strided(plan.y_shape, (*plan.y_strides[::-1], 1))
    return x.new_empty(*plan.y_shape)


def in_order(plan: Plan, y: Tensor) -> Tensor:
    """y as `sequence_of` lays it out: itself, but where a hook of saved tensors gave it back in another way."""
    if _has_rows(y) and not y.is_neg() and _strides(plan.spec, y) == plan.y_strides:
        return y
    return sequence_of(plan, y).copy_(y)


def block_of(plan: Plan, x: Tensor, steps: int) -> Tensor:
    """Memory for what a forward pass over so many steps leaves."""
    size = plan.layers.block_bytes(steps, plan.batch.size, plan.sequences)
    return x.new_empty(size // x.element_size())


def forward(
    plan: Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], y: Tensor,
    h_n: Tensor | None, c_n: Tensor | None, block: Tensor | None, first: int = 0, last: int = 0,
) -> None:  # fmt: skip
    """Writes y, h_n, c_n and the block, which a backward pass needs, from x, the states and the weights.

    What is read may lie in memory in any way, but the weights; what is written is contiguous, y as `sequence_of`
    says. Steps [first, last) only, where last is not 0: the state before them is then in y and, of cells, c_0.
    """
    batch, x, h_0, c_0 = plan.batch, rows(x), contiguous(h_0), contiguous(c_0)
    plan.layers.forward(
        batch.steps, batch.size, (x.data_ptr(), *plan.strides), _address(h_0), _address(c_0),
        _addresses(plan, weights), plan.masks, (y.data_ptr(), *plan.y_strides), _address(h_n), _address(c_n),
        _address(block), plan.lengths, int(batch.key), batch.training, first, last,
    )  # fmt: skip


def backward(
    plan: Plan, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], y: Tensor,
    block: Tensor, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None, dblock: Tensor | None,
    dx: Tensor | None, dh_0: Tensor | None, dc_0: Tensor | None, dweights: Sequence[Tensor | None],
    first: int = 0, last: int = 0,
) -> None:  # fmt: skip
    """Writes dx, dh_0, dc_0 and dweights, those that are not None; dblock is the gradient of what the block shows."""
    batch = plan.batch
    needed = plan.layers.block_bytes(last - first or batch.steps, batch.size, plan.sequences)
    plan.kept.check(x, h_0, c_0, y, weights, block, needed)
    weights = [w.resolve_neg().contiguous() for w in weights]
    x, h_0, c_0, y = rows(x), contiguous(h_0), contiguous(c_0), rows(y)
    dy, dh_n, dc_n = None if dy is None else rows(dy), contiguous(dh_n), contiguous(dc_n)
    dblock, block = contiguous(dblock), block.resolve_neg().contiguous()
    plan.layers.backward(
        batch.steps, batch.size, _strided(plan.spec, x), _address(h_0), _address(c_0),
        _addresses(plan, weights), plan.masks, _strided(plan.spec, y), block.data_ptr(),
        _strided(plan.spec, dy), _address(dh_n), _address(dc_n), _address(dblock),
        (_address(dx), *plan.dx_strides), _address(dh_0), _address(dc_0), _addresses(plan, dweights),
        plan.lengths, int(batch.key), batch.training, first, last,
    )  # fmt: skip


def gradients_of(tensors: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Memory for the gradients that are wanted, contiguous."""
    return [
        torch.empty_like(t, memory_format=torch.contiguous_format) if want and t is not None else None
        for t, want in zip(tensors, wanted, strict=True)
    ]


def contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.resolve_neg().contiguous()


def rows(tensor: Tensor) -> Tensor:
    """The sequence itself where its last axis is contiguous and no negation is pending; else a copy."""
    tensor = tensor.resolve_neg()
    return tensor if _has_rows(tensor) else tensor.contiguous()


def _has_rows(tensor: Tensor) -> bool:
    return tensor.stride(-1) == 1 or tensor.shape[-1] <= 1


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _strided(spec: Spec, sequence: Tensor | None) -> tuple[int, int, int]:
    """Its address and its strides."""
    return (0, 0, 0) if sequence is None else (sequence.data_ptr(), *_strides(spec, sequence))


def _strides(spec: Spec, sequence: Tensor) -> tuple[int, int]:
    """Elements from one step, and from one batch row, to the next."""
    first, *second, _ = sequence.stride()
    if not second:  # packed
        return 0, first
    return (second[0], first) if spec.batch_first else (first, second[0])


def _addresses(plan: Plan, weights: Sequence[Tensor | None]) -> list[int]:
    """Addresses as csrc/python/addresses.cpp counts them: as many a direction as its last slot asks for."""
    if plan.places is None:
        return [0 if w is None else w.data_ptr() for w in weights]
    each, where = plan.places
    found = [0] * each
    for place, w in zip(where, weights, strict=True):
        found[place] = 0 if w is None else w.data_ptr()
    return found


@lru_cache(maxsize=1024)
def _places(spec: Spec) -> tuple[int, list[int]] | None:
    """How many addresses there are, and which belongs to each weight; None where weights leave no gap."""
    mine, count = slots(spec), spec.num_layers * spec.directions
    each = mine[-1] + 1
    return None if each == len(mine) else (each * count, [k * each + s for k in range(count) for s in mine])


def _masks(spec: Spec, batch: Batch) -> list[int]:
    """Addresses of the candidate's mask and the state's, direction by direction."""
    masks = (batch.candidate_mask, batch.state_mask)
    if masks == (None, None):
        return []
    count = spec.num_layers * spec.directions
    return [0 if m is None else m[k].data_ptr() for k in range(count) for m in masks]
