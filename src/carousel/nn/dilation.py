"""A sequence as d interleaved ones: what a layer of dilation d reads, and in which order it keeps its states.

Step t of a dilated layer reads the state of step t - d, so steps p, p + d, p + 2d, … are a sequence of their own.
The d sequences of every row go side by side into the batch, and no kernel knows: row p·B + b holds those of row b.

Source: Chang et al. (2017), "Dilated recurrent neural networks", section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["first_states", "interleaved", "joined", "last_states", "lengths_of"]


def interleaved(x: Tensor, d: int) -> Tensor:
    """(T, B, I) to (⌈T/d⌉, d·B, I), 0 beyond the last step; a view where T is a multiple of d and x contiguous."""
    T, B, I = x.shape
    missing = -T % d
    x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return x.reshape((T + missing) // d, d * B, I)


def joined(y: Tensor, d: int, steps: int) -> Tensor:
    """(⌈T/d⌉, d·B, H) back to (T, B, H)."""
    rows, size, width = y.shape
    return y.reshape(rows * d, size // d, width)[:steps]


def lengths_of(ends: Tensor, d: int) -> Tensor:
    """(d·B,) steps of the interleaved sequences, where those of the rows are `ends` (B,)."""
    return ((ends + (d - 1) - _phases(d, ends)) // d).flatten()


def first_states(state: Tensor, d: int, ends: Tensor) -> Tensor:
    """(D·d, B, H) to (D, d·B, H): what every interleaved sequence starts from.

    The k-th of the d states of a direction is what its k-th step reads: that is step k, or in the other direction
    step n - 1 - k of a row of n steps.
    """
    directions = torch.split(state, d)
    backward = [_picked(s, (ends - 1 - _phases(d, ends)) % d) for s in directions[1:]]
    return torch.stack([s.flatten(0, 1) for s in (directions[0], *backward)])


def last_states(state: Tensor, d: int, ends: Tensor) -> Tensor:
    """(D, d·B, H) to (D·d, B, H): those that the next d steps read, in their order, as `first_states` takes them."""
    forward, *backward = (s.unflatten(0, (d, len(ends))) for s in state)
    return torch.cat([_picked(forward, (ends + _phases(d, ends)) % d), *(s.flip(0) for s in backward)])


def _phases(d: int, like: Tensor) -> Tensor:
    return torch.arange(d, device=like.device)[:, None]


def _picked(state: Tensor, which: Tensor) -> Tensor:
    """(d, B, H): of every row the states that `which` (d, B) names, in that order."""
    return state.gather(0, which.to(state.device)[..., None].expand_as(state))
