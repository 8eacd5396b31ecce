"""What a call of a recurrent module computes, and over what: plain values, without tensors of weights."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

__all__ = [
    "SLOTS", "Batch", "Options", "Outputs", "Spec", "known_shapes", "one_direction", "one_layer", "shapes", "slots",
]  # fmt: skip

SLOTS = (
    "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch",
    "gain_ih", "gain_hh", "gain_ch", "shift_ch",
)  # fmt: skip
"""Parameters of a direction, without `_l0` or `_l0_reverse`, in the order of csrc/python/addresses.cpp."""


class Options(NamedTuple):
    """What the equations of the cell have beyond torch's; docs/options.md says what each does."""

    layer_norm: bool = False
    peephole: bool = False
    coupled_gates: bool = False
    reset: str = "after"
    clip: float = 0.0  # 0: off, as the three below
    cell_clip: float = 0.0
    zoneout_h: float = 0.0
    zoneout_c: float = 0.0


class Spec(NamedTuple):
    """Layers of one cell: torch's names for their options, and ours."""

    mode: str  # "LSTM", "GRU", "RNN_TANH", "RNN_RELU"
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    directions: int
    bias: bool
    batch_first: bool
    options: Options = Options()
    low_precision: bool = False  # products in bfloat16
    reverse: bool = False  # the one direction reads from the end

    @property
    def width(self) -> int:
        """P, units of h."""
        return self.proj_size or self.hidden_size

    @property
    def has_cells(self) -> bool:
        return self.mode == "LSTM"

    @property
    def gates(self) -> int:
        return {"LSTM": 3 if self.options.coupled_gates else 4, "GRU": 3}.get(self.mode, 1)


class Batch(NamedTuple):
    """The sequences of one call.

    Args:
        steps, size: T and B.
        lengths: (B,) int64 on the CPU, steps of each row; None is T.
        packed: x and y hold, step by step, only the rows that still run: (N, ·).
        key, training: zoneout draws its masks from this key, in training; else it takes the rates. Inside
            torch.compile the key is a tensor.
        candidate_mask, state_mask: (L*D, B, H) and (L*D, B, P), contiguous, of x's dtype.
        distance: of the states that are kept for the backward pass, in steps; 0: all are.
        wants_gates: the block that the kernels leave is returned, too.
    """

    steps: int
    size: int
    lengths: Tensor | None = None
    packed: bool = False
    key: int | Tensor = 0
    training: bool = False
    candidate_mask: Tensor | None = None
    state_mask: Tensor | None = None
    distance: int = 0
    wants_gates: bool = False


class Outputs(NamedTuple):
    """y, the last states, and the memory that holds the gates."""

    y: Tensor
    h_n: Tensor
    c_n: Tensor | None = None
    block: Tensor | None = None


def slots(spec: Spec) -> tuple[int, ...]:
    """Places in SLOTS of the parameters that a direction has."""
    options = spec.options
    has = (
        True, True, spec.bias, spec.bias, spec.proj_size > 0, options.peephole, options.layer_norm,
        options.layer_norm, *2 * (options.layer_norm and spec.has_cells,),
    )  # fmt: skip
    return tuple(slot for slot, here in enumerate(has) if here)


def shapes(spec: Spec) -> list[tuple[int, ...]]:
    """Of the parameters of every direction, in the order of `slots`."""
    H, P, rows = spec.hidden_size, spec.width, spec.gates * spec.hidden_size
    found: list[tuple[int, ...]] = []
    for layer in range(spec.num_layers):
        I = spec.input_size if layer == 0 else spec.directions * P
        by_slot = (
            (rows, I), (rows, P), (rows,), (rows,), (P, H), (spec.gates - 1, H), (rows,), (rows,), (H,), (H,),
        )  # fmt: skip
        found += spec.directions * [by_slot[slot] for slot in slots(spec)]
    return found


known_shapes = lru_cache(maxsize=1024)(shapes)  # for every call; Dynamo warns of caches that it meets


def one_layer(spec: Spec, batch: Batch, layer: int) -> tuple[Spec, Batch]:
    """One layer of several, with its own masks; between layers time comes first."""
    inputs = spec.input_size if layer == 0 else spec.directions * spec.width
    first = layer * spec.directions
    return (
        spec._replace(input_size=inputs, num_layers=1, batch_first=False),
        _part(batch, first, first + spec.directions),
    )


def one_direction(spec: Spec, batch: Batch, direction: int) -> tuple[Spec, Batch]:
    """One direction of a layer that has two, with its own masks."""
    return (
        spec._replace(directions=1, reverse=direction == 1),
        _part(batch, direction, direction + 1),
    )


def _part(batch: Batch, first: int, last: int) -> Batch:
    """What belongs to some of the directions, as csrc/python/addresses.cpp counts them."""
    masks = (None if m is None else m[first:last] for m in (batch.candidate_mask, batch.state_mask))
    candidate_mask, state_mask = masks
    key = (batch.key + first) % 2**32
    return batch._replace(candidate_mask=candidate_mask, state_mask=state_mask, key=key)
