"""The plain recurrent network: one layer, one direction.

    h_t = φ(W x_t + b_W + R h_{t-1} + b_R)      (1)  φ is tanh or relu

W is (H, I), R is (H, H). With options or lengths the equations are those of `rnn_options`.

Source: Elman (1990).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from carousel.errors import check_choice, check_shape
from carousel.layout import Array, Weights
from carousel.reference import rnn_options
from carousel.reference.activations import relu
from carousel.reference.door import enter, zeros_or
from carousel.reference.door_options import enter_with_options
from carousel.reference.options import Gradients as OptionedGradients
from carousel.reference.options import Options

Activation: TypeAlias = Literal["tanh", "relu"]


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one."""

    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    activation: Activation


class Gradients(NamedTuple):
    """∂L/∂ of what `forward` was given, each shaped like it."""

    x: Array
    w: Weights
    state: Array


def step(
    x: Array, h: Array, w: Weights, *, activation: Activation = "tanh", options: Options | None = None
) -> tuple[Array, tuple[()]]:
    """One step.

    Args:
        x: (B, I).
        h: (B, H).
        w: the weights.
        activation: "tanh" or "relu".
        options: those of this step; zoneout shares are (1, B, H).

    Returns:
        The new h and the gates, of which there are none.

    Raises:
        ArgumentError: `activation` is something else.
    """
    check_choice("activation", activation, ("tanh", "relu"))
    if options is not None:
        (x,), w, (h,), complete = enter_with_options("rnn", x[None], w, options, h=h)
        return rnn_options.step(0, x, h, w, complete, activation=activation).h, ()
    a = x @ w.W.T + w.b_W + h @ w.R.T + w.b_R
    return np.tanh(a) if activation == "tanh" else relu(a), ()  # (1)


def forward(
    x: Array,
    w: Weights,
    state: Array | None = None,
    *,
    activation: Activation = "tanh",
    options: Options | None = None,
    lengths: Array | Sequence[int] | None = None,
) -> tuple[Array, Array, Cache | rnn_options.Cache]:
    """T steps.

    Args:
        x: (T, B, I).
        w: the weights.
        state: h before the first step, (B, H); None is zeros.
        activation: "tanh" or "relu".
        options: what the layer does beyond the equations above.
        lengths: the steps of each row, (B,); beyond them x is not read, the state stays and y is 0. None is T.

    Returns:
        y (T, B, H), h after every step; h after the last one (B, H); the cache.

    Raises:
        ShapeError: an array has the wrong shape.
        ArgumentError: `activation` is something else, a length or an option out of its range.
        UnsupportedError: an RNN does not offer the option.

    Example:
        >>> w = Weights(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), np.zeros(1))
        >>> y, h, cache = forward(np.ones((4, 1, 1)), w, activation="relu")
        >>> y.ravel()
        array([1., 2., 3., 4.])
    """
    check_choice("activation", activation, ("tanh", "relu"))
    if options is not None or lengths is not None:
        options = options or Options()
        x, w, (h_0,), complete = enter_with_options("rnn", x, w, options, lengths, h=state)
        return rnn_options.forward(x, w, h_0, complete, options, activation=activation)
    x, w, (h_0,) = enter("rnn", x, w, h=state)
    T, B, H = *x.shape[:2], w.R.shape[1]
    h = np.empty((T + 1, B, H), x.dtype)
    h[0] = h_0
    for t in range(T):
        h[t + 1], _ = step(x[t], h[t], w, activation=activation)
    return h[1:].copy(), h[-1].copy(), Cache(x, h, activation)


def backward(
    dy: Array, w: Weights, cache: Cache | rnn_options.Cache, dstate: Array | None = None
) -> Gradients | OptionedGradients:
    """The gradients, back through all T steps; dz stands for ∂L/∂z.

    Args:
        dy: (T, B, H).
        w: the weights that `forward` was given.
        cache: what `forward` returned.
        dstate: ∂L/∂h of the last state beyond what `dy` says, (B, H); None is zeros.

    Returns:
        The gradients; where `forward` had options or lengths, with those of the options.

    Raises:
        ShapeError: an array has the wrong shape.
    """
    if isinstance(cache, rnn_options.Cache):
        return OptionedGradients(*rnn_options.backward(dy, w, cache, dstate))
    x, h, activation = cache
    T, B, H = h[1:].shape
    check_shape("dy", dy, "T, B, H", T=T, B=B, H=H)
    dh = zeros_or("dstate", dstate, h[0])
    da = np.empty((T, B, H), np.result_type(h, dy))
    for t in reversed(range(T)):
        dh = dh + dy[t]
        da[t] = dh * (1 - h[t + 1] ** 2 if activation == "tanh" else h[t + 1] > 0)  # of (1)
        dh = da[t] @ w.R
    dW = np.einsum("tba,tbi->ai", da, x)
    dR = np.einsum("tba,tbh->ah", da, h[:-1])
    db = da.sum(axis=(0, 1))
    return Gradients(da @ w.W, Weights(dW, dR, db, db.copy()), dh)
