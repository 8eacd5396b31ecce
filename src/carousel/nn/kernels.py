"""The glue between torch's tensors and the kernels: one function for each direction of time, and no mathematics.

Whoever calls has allocated all memory and checked shapes, dtypes and devices (`nn.call`); tensors go to `_core` by
address. The last axis of a sequence is contiguous (`rows`), everything else is contiguous as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from carousel import _core
from carousel.nn.spec import Batch, Spec, slots

__all__ = ["backward", "block_of", "compiled", "contiguous", "forward", "has_gaps", "rows", "strides"]

_CELLS = {"LSTM": 0, "GRU": 1, "RNN_TANH": 3, "RNN_RELU": 4}  # carousel_cell of csrc/carousel.h
_GRU_RESET_BEFORE, _LSTM_COUPLED = 2, 5
_DTYPES = {torch.float32: 0, torch.float64: 1}


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


def block_of(spec: Spec, batch: Batch, x: Tensor, steps: int) -> Tensor:
    """Memory for what a forward pass over so many steps leaves."""
    layers = compiled(spec, x.dtype, batch.packed)
    size = layers.block_bytes(steps, batch.size, x.shape[0] if batch.packed else batch.steps * batch.size)
    return x.new_empty(size // x.element_size())


def forward(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    y: Tensor, h_n: Tensor | None, c_n: Tensor | None, block: Tensor | None, first: int = 0, last: int = 0,
) -> None:  # fmt: skip
    """Writes y, h_n, c_n and the block, which a backward pass needs, from x, the states and the weights.

    Steps [first, last) only, where last is not 0: the state before them is then in y and, of cells, c_0.
    """
    compiled(spec, x.dtype, batch.packed).forward(
        batch.steps, batch.size, x.data_ptr(), *strides(spec, x), _address(h_0), _address(c_0),
        _addresses(spec, weights), _masks(spec, batch), y.data_ptr(), *strides(spec, y), _address(h_n),
        _address(c_n), _address(block), _address(batch.lengths), int(batch.key), batch.training, first, last,
    )  # fmt: skip


def backward(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor],
    y: Tensor, block: Tensor, dy: Tensor | None, dh_n: Tensor | None, dc_n: Tensor | None,
    dblock: Tensor | None, dx: Tensor | None, dh_0: Tensor | None, dc_0: Tensor | None,
    dweights: Sequence[Tensor | None], first: int = 0, last: int = 0,
) -> None:  # fmt: skip
    """Writes dx, dh_0, dc_0 and dweights, those that are not None; dblock is the gradient of what the block shows."""
    compiled(spec, x.dtype, batch.packed).backward(
        batch.steps, batch.size, x.data_ptr(), *strides(spec, x), _address(h_0), _address(c_0),
        _addresses(spec, weights), _masks(spec, batch), y.data_ptr(), *strides(spec, y), block.data_ptr(),
        _address(batch.lengths), int(batch.key), batch.training, first, last, _address(dy), *strides(spec, dy),
        _address(dh_n), _address(dc_n), _address(dblock), _address(dx), *strides(spec, dx), _address(dh_0),
        _address(dc_0), _addresses(spec, dweights),
    )  # fmt: skip


def contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def rows(tensor: Tensor) -> Tensor:
    """The sequence itself where its last axis is contiguous; else a copy."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def strides(spec: Spec, sequence: Tensor | None) -> tuple[int, int]:
    """Elements from one step, and from one batch row, to the next."""
    if sequence is None:
        return 0, 0
    first, *second, _ = sequence.stride()
    if not second:  # packed
        return 0, first
    return (second[0], first) if spec.batch_first else (first, second[0])


def _addresses(spec: Spec, weights: Sequence[Tensor | None]) -> list[int]:
    """Addresses as csrc/python/addresses.cpp counts them: as many a direction as its last slot asks for."""
    places = _places(spec)
    if places is None:
        return [0 if w is None else w.data_ptr() for w in weights]
    each, where = places
    found = [0] * each
    for place, w in zip(where, weights, strict=True):
        found[place] = 0 if w is None else w.data_ptr()
    return found


def has_gaps(spec: Spec) -> bool:
    """Whether the weights of a direction leave out one of those that `_core` counts."""
    return _places(spec) is not None


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
