"""A dense layer, on the last axis of whatever it is given.

    y = φ(W x + b)      φ is the identity or σ

W is (O, I).
"""

from typing import Literal, NamedTuple, TypeAlias

from carousel.errors import check_choice, check_shape
from carousel.layout import Array
from carousel.reference.activations import sigmoid

Activation: TypeAlias = Literal["identity", "sigmoid"]


class Dense(NamedTuple):
    """The layer as a value."""

    W: Array  # (O, I)
    b: Array  # (O,)
    activation: Activation = "identity"


class Cache(NamedTuple):
    """What `backward` needs."""

    x: Array  # (..., I)
    y: Array  # (..., O)


class Gradients(NamedTuple):
    """∂L/∂ of what `forward` was given, each shaped like it."""

    x: Array
    w: Dense


def forward(x: Array, w: Dense) -> tuple[Array, Cache]:
    """y (..., O) of x (..., I), and the cache.

    Example:
        >>> import numpy as np
        >>> forward(np.array([1.0, 2.0]), Dense(np.ones((1, 2)), np.ones(1)))[0]
        array([4.])
    """
    check_choice("activation", w.activation, ("identity", "sigmoid"))
    O, _ = check_shape("W", w.W, "O, I", I=x.shape[-1])
    check_shape("b", w.b, "O", O=O)
    a = x @ w.W.T + w.b
    y = sigmoid(a) if w.activation == "sigmoid" else a
    return y, Cache(x, y)


def backward(dy: Array, w: Dense, cache: Cache) -> Gradients:
    """The gradients, from dy (..., O)."""
    x, y = cache
    da = dy * y * (1 - y) if w.activation == "sigmoid" else dy
    rows_da, rows_x = da.reshape(-1, da.shape[-1]), x.reshape(-1, x.shape[-1])
    return Gradients(da @ w.W, Dense(rows_da.T @ rows_x, rows_da.sum(axis=0), w.activation))
