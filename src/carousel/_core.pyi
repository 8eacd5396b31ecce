"""Types of the compiled module; the C ABI behind it is documented in csrc/carousel.h.

Shapes: T steps, B batch rows, I inputs, H hidden units, G gates (lstm 4, gru 3, rnn 1). Arrays of one call
share one dtype, float32 or float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.floating[Any]]

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
    """

    def __init__(
        self, cell: str, W: _Array, R: _Array, b_W: _Array, b_R: _Array, *, reverse: bool = False
    ) -> None: ...
    def run(
        self, x: _Array, h_0: _Array, c_0: _Array | None, y: _Array, h_n: _Array, c_n: _Array | None
    ) -> None:
        """Reads x (T, B, I) and the state (B, H); writes y (T, B, H), h_n and c_n (B, H) in place.

        y may be a slice whose last axis is contiguous, such as one half of (T, B, 2H). `c_0` and `c_n` are None
        but for the LSTM; h_n and c_n may be h_0 and c_0 themselves. With T = 0 the state is copied.
        """

# Addresses as integers, 0 for an array that is absent; steps and rows are element strides. The caller has
# checked every shape. `cell` and `dtype` are the numbers of csrc/carousel.h.

def reserve_size(cell: int, dtype: int, T: int, B: int, I: int, H: int) -> int:
    """Bytes that a forward pass leaves for the backward pass."""

def forward(
    cell: int, dtype: int, reverse: bool,
    T: int, B: int, I: int, H: int,
    x: int, x_step: int, x_row: int,
    h_0: int, c_0: int,
    W: int, R: int, b_W: int, b_R: int,
    y: int, y_step: int, y_row: int,
    h_n: int, c_n: int, reserve: int,
) -> None: ...  # fmt: skip
def backward(
    cell: int, dtype: int, reverse: bool,
    T: int, B: int, I: int, H: int,
    x: int, x_step: int, x_row: int,
    h_0: int, c_0: int,
    W: int, R: int,
    y: int, y_step: int, y_row: int, reserve: int,
    dy: int, dy_step: int, dy_row: int, dh_n: int, dc_n: int,
    dx: int, dx_step: int, dx_row: int, dh_0: int, dc_0: int,
    dW: int, dR: int, db_W: int, db_R: int,
) -> None: ...  # fmt: skip
