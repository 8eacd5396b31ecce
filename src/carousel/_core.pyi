"""Types of the compiled module; the C ABI behind it is documented in csrc/carousel.h.

Shapes: T steps, B batch rows, I inputs, H hidden units, G gates (lstm 4, gru 3, rnn 1). Arrays of one call
share one dtype, float32 or float64.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.floating[Any]]
_Strided = tuple[int, int, int]  # an address, and elements from one step, one batch row, to the next

def isa() -> str:
    """The instruction set in use. RuntimeError if CAROUSEL_ISA names one that is not available."""

def isas() -> list[str]:
    """The instruction sets available, best first."""

def max_threads() -> int:
    """How many threads a call from this thread may use."""

def apply(function: str, x: _Array, y: _Array) -> None:
    """y = function(x), "exp", "sigmoid" or "tanh" as the kernels compute it; contiguous, one axis."""

class Layer:
    """One direction of one recurrent layer, weights packed once; immutable, safe from several threads.

    Args:
        cell: "lstm", "gru", "gru_reset_before", "rnn_tanh" or "rnn_relu".
        W, R, b_W, b_R: (G*H, I), (G*H, H), (G*H,), (G*H,); contiguous; gates i f g o or r z n.
        reverse: from the last step to the first; y[t] still belongs to x[t].
        low_precision: products of numbers rounded to bfloat16, summed in float32.
    """

    def __init__(
        self, cell: str, W: _Array, R: _Array, b_W: _Array, b_R: _Array, *,
        reverse: bool = False, low_precision: bool = False,
    ) -> None: ...  # fmt: skip
    def run(
        self, x: _Array, h_0: _Array, c_0: _Array | None, y: _Array, h_n: _Array, c_n: _Array | None
    ) -> None:
        """Reads x (T, B, I) and the state (B, H); writes y (T, B, H), h_n and c_n (B, H) in place.

        y may be a slice whose last axis is contiguous, such as one half of (T, B, 2H). `c_0` and `c_n` are None
        but for the LSTM; h_n and c_n may be h_0 and c_0 themselves. With T = 0 the state is copied.
        """

class Dense:
    """A dense layer, its weights packed once; immutable, safe from several threads.

    Args:
        W, b: (O, I), (O,); contiguous.
        activation: "identity", "sigmoid", "tanh" or "relu".
    """

    def __init__(self, W: _Array, b: _Array, activation: str) -> None: ...

StackLayer: TypeAlias = tuple[Layer, ...] | Dense | None
"""One Layer a direction, forward and then backward; or Dense; or None, the last step of the sequence."""

class Stack:
    """Layers one after the other, run in one call; immutable, safe from several threads.

    Whatever way a sequence is cut and whatever rows stand beside a row, its numbers have the same bits.

    Args:
        layers: each takes what the one before it gives; after a last step there are Dense only.
    """

    def __init__(self, layers: tuple[StackLayer, ...]) -> None: ...
    def run(self, x: _Array, h: tuple[_Array, ...], c: tuple[_Array | None, ...], y: _Array) -> bool:
        """Writes y for the steps x (T, B, I), and the state after them in place.

        Args:
            h, c: of every direction of every recurrent layer, bottom first; c is None but for an LSTM.
            y: (T, B, O), or with a last step (B, O).

        Returns:
            False where an array is not of the stack's dtype and its shape above, contiguous and aligned; or
            is written but not writable, or shares memory with another; or where the last of no steps is
            wanted. Nothing was written then.
        """

    def step_into(self, x: _Array, h: tuple[_Array, ...], c: tuple[_Array | None, ...], y: _Array) -> bool:
        """Likewise, y (B, O) for one step x (B, I); False also where a layer reads in both directions."""

    def step(
        self, x: _Array, h: tuple[_Array, ...], c: tuple[_Array | None, ...]
    ) -> tuple[_Array, tuple[_Array, ...], tuple[_Array | None, ...]] | None:
        """y, h and c after one step x (B, I), in new arrays; None where `step_into` would say False, but
        for what only writing asks: h and c may be read-only and share memory."""

# For torch: addresses as integers, 0 for an array that is absent; steps and rows are element strides. The caller
# has checked every shape. `cell` and `dtype` are the numbers of csrc/carousel.h.

class Layers:
    """Layers of one kind, one above the other, each in one direction or in both; no weights.

    Weights come as a list of addresses, as many for every direction: W, R, b_W, b_R, projection, peephole,
    gain_x, gain_h, gain_c, shift_c, of which trailing ones may be left out. Masks: none, or for every
    direction that of the candidate and that of the state. 0 is the address of what there is not.
    """

    def __init__(
        self, cell: int, dtype: int, inputs: int, hidden: int, *,
        projected: int = 0, layers: int = 1, directions: int = 1, normalized: bool = False,
        clip: float = 0.0, cell_clip: float = 0.0, zoneout_h: float = 0.0, zoneout_c: float = 0.0,
        low_precision: bool = False, reverse: bool = False, packed: bool = False,
    ) -> None: ...  # fmt: skip
    def block_bytes(self, steps: int, B: int, rows: int) -> int:
        """Bytes that a forward pass over `steps` steps leaves for the backward pass; `rows` of a sequence, T * B."""

    def reserve_bytes(self, T: int, B: int) -> int:
        """Bytes of each direction at the start of the block: its gates, then its cells."""

    def gate_bytes(self, T: int, B: int) -> int:
        """Bytes of the gates."""

    def forward(
        self, T: int, B: int, x: _Strided, h_0: int, c_0: int, weights: Sequence[int], masks: Sequence[int],
        y: _Strided, h_n: int, c_n: int, block: int,
        lengths: int = 0, key: int = 0, drawn: bool = False, first: int = 0, last: int = 0,
    ) -> None: ...  # fmt: skip
    def backward(
        self, T: int, B: int, x: _Strided, h_0: int, c_0: int, weights: Sequence[int], masks: Sequence[int],
        y: _Strided, block: int, dy: _Strided, dh_n: int, dc_n: int, dblock: int,
        dx: _Strided, dh_0: int, dc_0: int, dweights: Sequence[int],
        lengths: int = 0, key: int = 0, drawn: bool = False, first: int = 0, last: int = 0,
    ) -> None: ...  # fmt: skip
