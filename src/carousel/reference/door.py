"""The entrance of the reference: shapes are checked, what was left out becomes zeros, dtypes become one."""

import numpy as np

from carousel.errors import check_shape
from carousel.layout import Array, Cell, Weights, check_weights


def enter(cell: Cell, x: Array, w: Weights, **state: Array | None) -> tuple[Array, Weights, list[Array]]:
    """Complete arguments of a `forward`.

    Args:
        cell: "lstm", "gru" or "rnn".
        x: (T, B, I).
        w: anything with fields W, R, b_W, b_R.
        **state: each (B, H), or None for zeros.

    Returns:
        x, w and the states, all of the dtype that NumPy promotes them to, and at least float16.
    """
    H, I = check_weights(cell, w.W, w.R, w.b_W, w.b_R)
    _, B, _ = check_shape("x", x, "T, B, I", I=I)
    zeros = np.zeros((B, H), np.float16)
    states = [zeros_or(name, value, zeros) for name, value in state.items()]
    arrays = (x, w.W, w.R, w.b_W, w.b_R, *states)
    dtype = np.result_type(np.float16, *arrays)
    x, W, R, b_W, b_R, *states = (np.asarray(a, dtype) for a in arrays)
    return x, Weights(W, R, b_W, b_R), states


def zeros_or(name: str, value: Array | None, like: Array, axes: str = "B, H") -> Array:
    """`value`, which must be (B, H) as `like` is; zeros where it is None."""
    if value is None:
        return np.zeros_like(like)
    check_shape(name, value, axes, **dict(zip(axes.split(", "), like.shape, strict=True)))
    return value
