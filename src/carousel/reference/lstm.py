"""Long short-term memory: one layer, one direction.

    f_t = σ(W_f x_t + R_f h_{t-1} + b_f)            (1)  forget gate: what of the cell is kept
    i_t = σ(W_i x_t + R_i h_{t-1} + b_i)            (2)  input gate: how much of the candidate enters
    g_t = tanh(W_g x_t + R_g h_{t-1} + b_g)         (3)  candidate
    c_t = f_t ∘ c_{t-1} + i_t ∘ g_t                 (4)  cell state: the memory
    o_t = σ(W_o x_t + R_o h_{t-1} + b_o)            (5)  output gate: how much of the cell is shown
    h_t = o_t ∘ tanh(c_t)                           (6)  hidden state

W is (4H, I) and R (4H, H), their gates stacked i f g o; b = b_W + b_R. With options or lengths the equations are
those of `lstm_options`.

Source: Hochreiter and Schmidhuber (1997); the forget gate is Gers, Schmidhuber and Cummins (2000).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from carousel.errors import check_shape
from carousel.layout import Array, Weights
from carousel.reference import lstm_options
from carousel.reference.activations import sigmoid
from carousel.reference.door import enter, zeros_or
from carousel.reference.door_options import enter_with_options
from carousel.reference.options import Gradients as OptionedGradients
from carousel.reference.options import Options


class State(NamedTuple):
    """What goes from one step to the next."""

    h: Array  # (B, H)
    c: Array  # (B, H)


class Gates(NamedTuple):
    """The gates after their activations, and the candidate g."""

    i: Array  # (B, H)
    f: Array  # (B, H)
    g: Array  # (B, H)
    o: Array  # (B, H)


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one."""

    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    c: Array  # (T+1, B, H)
    i: Array  # (T, B, H)
    f: Array  # (T, B, H)
    g: Array  # (T, B, H)
    o: Array  # (T, B, H)


class Gradients(NamedTuple):
    """∂L/∂ of what `forward` was given, each shaped like it."""

    x: Array
    w: Weights
    state: State


def step(
    x: Array, state: State | tuple[Array, Array], w: Weights, *, options: Options | None = None
) -> tuple[State, Gates]:
    """One step.

    Args:
        x: (B, I).
        state: h and c, each (B, H).
        w: the weights.
        options: those of this step; zoneout shares are (1, B, H).

    Returns:
        The new state and the gates.
    """
    h, c = state
    if options is not None:
        (x,), w, (h, c), complete = enter_with_options("lstm", x[None], w, options, h=h, c=c)
        h, c, i, f, g, o, *_ = lstm_options.step(0, x, h, c, w, complete)
        return State(h, c), Gates(i, f, g, o)
    a_i, a_f, a_g, a_o = np.split(x @ w.W.T + w.b_W + h @ w.R.T + w.b_R, 4, axis=-1)
    f = sigmoid(a_f)  # (1)
    i = sigmoid(a_i)  # (2)
    g = np.tanh(a_g)  # (3)
    c = f * c + i * g  # (4)
    o = sigmoid(a_o)  # (5)
    h = o * np.tanh(c)  # (6)
    return State(h, c), Gates(i, f, g, o)


def forward(
    x: Array,
    w: Weights,
    state: State | tuple[Array | None, Array | None] | None = None,
    *,
    options: Options | None = None,
    lengths: Array | Sequence[int] | None = None,
) -> tuple[Array, State, Cache | lstm_options.Cache]:
    """T steps.

    Args:
        x: (T, B, I).
        w: the weights.
        state: h and c before the first step, each (B, H); None is zeros. With a projection h is (B, P), and
            so is y.
        options: what the layer does beyond the equations above.
        lengths: the steps of each row, (B,); beyond them x is not read, the state stays and y is 0. None is T.

    Returns:
        y (T, B, H), the hidden state after every step; the state after the last one; the cache.

    Raises:
        ShapeError: an array has the wrong shape.
        ArgumentError: a length or the value of an option is out of its range.

    Example:
        >>> w = Weights(np.zeros((8, 3)), np.zeros((8, 2)), np.ones(8), np.zeros(8))
        >>> y, (h, c), cache = forward(np.zeros((5, 1, 3)), w)
        >>> y.shape, cache.h.shape, bool((cache.f == sigmoid(1.0)).all())
        ((5, 1, 2), (6, 1, 2), True)
    """
    h_0, c_0 = state or (None, None)
    if options is not None or lengths is not None:
        options = options or Options()
        x, w, (h_0, c_0), complete = enter_with_options("lstm", x, w, options, lengths, h=h_0, c=c_0)
        y, h, c, seen = lstm_options.forward(x, w, h_0, c_0, complete, options)
        return y, State(h, c), seen
    x, w, (h_0, c_0) = enter("lstm", x, w, h=h_0, c=c_0)
    T, B, H = *x.shape[:2], w.R.shape[1]
    h, c = np.empty((2, T + 1, B, H), x.dtype)
    gates = np.empty((4, T, B, H), x.dtype)
    h[0], c[0] = h_0, c_0
    for t in range(T):
        (h[t + 1], c[t + 1]), gates[:, t] = step(x[t], (h[t], c[t]), w)
    return h[1:].copy(), State(h[-1].copy(), c[-1].copy()), Cache(x, h, c, *gates)


def backward(
    dy: Array,
    w: Weights,
    cache: Cache | lstm_options.Cache,
    dstate: State | tuple[Array | None, Array | None] | None = None,
) -> Gradients | OptionedGradients:
    """The gradients, back through all T steps; dz stands for ∂L/∂z.

    Args:
        dy: (T, B, H).
        w: the weights that `forward` was given.
        cache: what `forward` returned.
        dstate: ∂L/∂h and ∂L/∂c of the last state beyond what `dy` says, each (B, H); None is zeros.

    Returns:
        The gradients; where `forward` had options or lengths, with those of the options.

    Raises:
        ShapeError: an array has the wrong shape.
    """
    dh, dc = dstate or (None, None)
    if isinstance(cache, lstm_options.Cache):
        dx, dw, dh, dc, doptions = lstm_options.backward(dy, w, cache, dh, dc)
        return OptionedGradients(dx, dw, State(dh, dc), doptions)
    x, h, c, i, f, g, o = cache
    T, B, H = i.shape
    check_shape("dy", dy, "T, B, H", T=T, B=B, H=H)
    dh, dc = zeros_or("dh", dh, h[0]), zeros_or("dc", dc, c[0])
    da = np.empty((T, B, 4 * H), np.result_type(h, dy))
    for t in reversed(range(T)):
        dh = dh + dy[t]
        tanh_c = np.tanh(c[t + 1])
        do = dh * tanh_c  # of (6)
        dc = dc + dh * o[t] * (1 - tanh_c**2)
        df, di, dg = dc * c[t], dc * g[t], dc * i[t]  # of (4)
        da_f = df * f[t] * (1 - f[t])  # of (1)
        da_i = di * i[t] * (1 - i[t])  # of (2)
        da_g = dg * (1 - g[t] ** 2)  # of (3)
        da_o = do * o[t] * (1 - o[t])  # of (5)
        da[t] = np.concatenate([da_i, da_f, da_g, da_o], axis=-1)
        dh = da[t] @ w.R
        dc = dc * f[t]
    dW = np.einsum("tba,tbi->ai", da, x)
    dR = np.einsum("tba,tbh->ah", da, h[:-1])
    db = da.sum(axis=(0, 1))
    return Gradients(da @ w.W, Weights(dW, dR, db, db.copy()), State(dh, dc))
