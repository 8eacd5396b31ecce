"""Rows of different lengths: the `lengths` of a call, and those that a PackedSequence stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.errors import ArgumentError, ShapeError

__all__ = ["check_lengths", "check_range", "is_whole", "lengths_of", "still_running"]


def check_lengths(lengths: Any, steps: int, size: int) -> Tensor:
    """(B,) int64 on the CPU, in [0, T].

    Raises:
        ShapeError: of another shape.
        ArgumentError: not whole numbers, or out of range.
    """
    if isinstance(lengths, np.ndarray):
        lengths = lengths.copy()  # torch takes no negative strides
    try:
        found = torch.as_tensor(lengths)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        wanted = f"{size} whole numbers in [0, T] = [0, {steps}], one for each row"
        raise ArgumentError(f"`lengths` must be {wanted}, got {lengths!r}.") from None
    if found.numel() == 0 and not isinstance(lengths, Tensor):  # of an empty list torch makes floats
        found = found.to(torch.int64)
    if found.dtype.is_floating_point or found.dtype.is_complex or found.dtype is torch.bool:
        raise ArgumentError(f"`lengths` must be whole numbers, got {found.dtype}.")
    if found.shape != (size,):
        raise ShapeError(f"`lengths` must have shape (B,) = ({size},), got {tuple(found.shape)}.")
    found = found.to("cpu", torch.int64).clone(
        memory_format=torch.contiguous_format
    )  # the backward pass reads it
    check_range(found, steps)
    return found


def check_range(lengths: Tensor, steps: int) -> None:
    """Raises ArgumentError where a row has less than no steps, or more than there are; in a graph its operator asks."""
    if torch.compiler.is_compiling():
        return
    if not ((lengths >= 0) & (lengths <= steps)).all():
        raise ArgumentError(f"`lengths` must lie in [0, T] = [0, {steps}], got {lengths.tolist()}.")


def is_whole(packed: PackedSequence) -> bool:
    """Whether its parts fit each other: anybody can put one together."""
    rows, sizes, *orders = packed
    if sizes.dtype is not torch.int64 or sizes.dim() != 1 or not sizes.is_cpu or len(sizes) == 0:
        return False
    largest = int(sizes[0])
    return (
        int(sizes.sum()) == len(rows)
        and int(sizes[-1]) > 0
        and bool((sizes[1:] <= sizes[:-1]).all())
        and all(order is None or order.shape == (largest,) for order in orders)
    )


def lengths_of(batch_sizes: Tensor) -> Tensor:
    """Steps of each row of a PackedSequence, whose rows are sorted: row b runs as long as more than b rows do."""
    running = batch_sizes.flip(0).contiguous()
    rows = torch.arange(int(batch_sizes[0]))
    return len(batch_sizes) - torch.searchsorted(running, rows, right=True)


def still_running(lengths: Tensor, steps: int) -> Tensor:
    """(T, B): whether the row has that step."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths
