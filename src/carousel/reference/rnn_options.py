"""The plain recurrent network with every option, entered through `carousel.reference.rnn`.

    a_t = LN(W (m_x ∘ x_t)) + b_W + LN(R (m_h ∘ h_{t-1})) + b_R         (1)
    h̃_t = φ(κ(a_t))                                                     (2)   φ is tanh or relu
    h_t = d_h ∘ h_{t-1} + (1 - d_h) ∘ h̃_t                               (3)   what zoneout leaves of it

LN is `norm` over all H sums; κ limits to ±clip; m_x and m_h are masks, d_h is the share of the old state. A row
that has ended keeps its h.

Source: `rnn` for the cell; LN Ba, Kiros and Hinton (2016), but of each product by itself, as their LSTM has it and
their equation 4 has not; m_x and m_h Gal and Ghahramani (2016); (3) Krueger et al. (2017).
"""

from typing import NamedTuple

import numpy as np

from carousel.errors import check_shape
from carousel.layout import Array, Weights
from carousel.reference import norm
from carousel.reference.activations import clip, relu, within
from carousel.reference.door import zeros_or
from carousel.reference.door_options import Complete
from carousel.reference.options import Options, gradients_of


class Step(NamedTuple):
    """One step: the new state, and the sums on the way there."""

    h: Array  # (B, H)  after zoneout
    s_x: Array  # (B, H)  W (m_x ∘ x)
    s_h: Array  # (B, H)  R (m_h ∘ h)
    a: Array  # (B, H)  what κ is given
    h_new: Array  # (B, H)  h̃


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one.

    Where a row has ended, sums are those of an input of zeros and count for nothing.
    """

    x: Array  # (T, B, I)  zero where a row has ended
    h: Array  # (T+1, B, H)
    s_x: Array  # (T, B, H)
    s_h: Array  # (T, B, H)
    a: Array  # (T, B, H)
    h_new: Array  # (T, B, H)
    activation: str
    options: Complete
    given: Options


def step(t: int, x: Array, h: Array, w: Weights, v: Complete, *, activation: str) -> Step:
    """Step t of x (B, I) from h (B, H)."""
    s_x, s_h = (v.m_x * x) @ w.W.T, (v.m_h * h) @ w.R.T
    a = norm.forward(s_x, v.gain_x, v.epsilon) + w.b_W + norm.forward(s_h, v.gain_h, v.epsilon) + w.b_R  # (1)
    h_new = np.tanh(clip(a, v.clip)) if activation == "tanh" else relu(clip(a, v.clip))  # (2)
    h = v.d_h[t] * h + (1 - v.d_h[t]) * h_new  # (3)
    return Step(h, s_x, s_h, a, h_new)


def forward(
    x: Array, w: Weights, h_0: Array, v: Complete, given: Options, *, activation: str
) -> tuple[Array, Array, Cache]:
    """y (T, B, H), zero where a row has ended; the last h; the cache. All arguments are complete."""
    T, B, H = *x.shape[:2], w.R.shape[1]
    h, (s_x, s_h, a, h_new) = np.empty((T + 1, B, H), x.dtype), np.empty((4, T, B, H), x.dtype)
    h[0] = h_0
    for t in range(T):
        h_t, s_x[t], s_h[t], a[t], h_new[t] = step(t, x[t], h[t], w, v, activation=activation)
        h[t + 1] = np.where(v.alive[t], h_t, h[t])
    return np.where(v.alive, h[1:], 0), h[-1].copy(), Cache(x, h, s_x, s_h, a, h_new, activation, v, given)


def backward(dy: Array, w: Weights, cache: Cache, dh: Array | None) -> tuple[Array, Weights, Array, Options]:
    """∂L/∂ of x, w, h_0 and the options, back through all T steps; dz stands for ∂L/∂z."""
    x, h, s_x, s_h, a, h_new, activation, v, given = cache
    T, B, H = h_new.shape
    check_shape("dy", dy, "T, B, H", T=T, B=B, H=H)
    dh = zeros_or("dstate", dh, h[0])
    kept = np.where(v.alive, v.d_h, 1)
    slope = (1 - h_new**2 if activation == "tanh" else h_new > 0) * within(a, v.clip)
    da = np.empty((T, B, H), np.result_type(h, dy))
    for t in reversed(range(T)):
        dh = dh + np.where(v.alive[t], dy[t], 0)
        past, dh = kept[t] * dh, (1 - kept[t]) * dh  # of (3)
        da[t] = dh * slope[t]  # of (2)
        dh = past + norm.backward(da[t], s_h[t], v.gain_h, v.epsilon)[0] @ w.R * v.m_h  # of (1)
    ds_x, dgain_x = norm.backward(da, s_x, v.gain_x, v.epsilon)
    ds_h, dgain_h = norm.backward(da, s_h, v.gain_h, v.epsilon)
    dW = np.einsum("tba,tbi->ai", ds_x, v.m_x * x)
    dR = np.einsum("tba,tbh->ah", ds_h, v.m_h * h[:-1])
    db = da.sum(axis=(0, 1))
    dnorm = given.layer_norm and gradients_of(given.layer_norm, dgain_x, dgain_h)
    return (
        np.where(v.alive, ds_x @ w.W * v.m_x, 0),
        Weights(dW, dR, db, db.copy()),
        dh,
        Options(layer_norm=dnorm),
    )
