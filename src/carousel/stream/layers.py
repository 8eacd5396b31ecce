"""The layers of a Network on the compiled kernels; arrays in, arrays out, nothing checked.

A row of a result has the same bits whatever stands beside it: in a batch of one or a thousand, in a
sequence or alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import _core
from carousel.network import Dense, Recurrent

__all__ = ["Kernels", "compiled", "dense", "recurrent"]

Array = NDArray[Any]
Kernels = tuple[_core.Layer, ...]
"""One a direction."""


def compiled(layer: Recurrent) -> Kernels:
    """The kernels of `layer`, its weights packed."""
    name: str = layer.cell
    if layer.cell == "gru" and layer.reset == "before":
        name = "gru_reset_before"
    if layer.cell == "rnn":
        name = f"rnn_{layer.activation}"
    return tuple(
        _core.Layer(name, w.W, w.R, w.b_W, w.b_R, reverse=reverse)
        for w, reverse in zip(layer.directions, (False, True), strict=False)
    )


def recurrent(kernels: Kernels, x: Array, states: list[tuple[Array, Array | None]]) -> Array:
    """T steps of one layer.

    Args:
        kernels: of each direction.
        x: (T, B, I), contiguous.
        states: (h, c) of each direction, each (B, H) and contiguous, c None but for an LSTM; the initial
            state going in, the final state coming out, in the same memory.

    Returns:
        y: (T, B, DH).
    """
    T, B, _ = x.shape
    H = states[0][0].shape[1]
    y = np.empty((T, B, len(kernels) * H), x.dtype)
    if y.size == 0:
        return y  # the state stays, too
    for d, (kernel, (h, c)) in enumerate(zip(kernels, states, strict=True)):
        kernel.run(x, h, c, y[..., d * H : (d + 1) * H], h, c)
    return y


def dense(layer: Dense, x: Array) -> Array:
    """activation(W x + b) on the last axis: (..., I) -> (..., O).

    One product a row, not one for all: BLAS adds in another order for another number of rows.
    """
    a: Array = (x[..., None, :] @ layer.W.T)[..., 0, :] + layer.b
    if layer.activation == "identity":
        return a
    y = np.empty_like(a)
    if layer.activation == "relu":
        np.maximum(a, 0, out=y)
    else:
        _core.apply(layer.activation, a.reshape(-1), y.reshape(-1))
    return y
