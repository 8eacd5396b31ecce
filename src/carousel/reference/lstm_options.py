"""Long short-term memory with every option, entered through `carousel.reference.lstm`.

    s_t = LN(W (m_x ∘ x_t)) + b_W + LN(R (m_h ∘ h_{t-1})) + b_R         (1)   what all gates see
    f_t = σ(κ(s_f + p_f ∘ c_{t-1}))                                     (2)   forget gate
    i_t = σ(κ(s_i + p_i ∘ c_{t-1}))                                     (3)   input gate
    g_t = tanh(κ(s_g))                                                  (4)   candidate
    c̃_t = κ_c(f_t ∘ c_{t-1} + i_t ∘ (m_g ∘ g_t))                        (5)   new cell
    o_t = σ(κ(s_o + p_o ∘ c̃_t))                                         (6)   output gate
    q_t = tanh(LN(c̃_t) + shift_c)                                       (7)   the cell, squashed
    h̃_t = W_p (o_t ∘ q_t)                                               (8)   new hidden state
    c_t = d_c ∘ c_{t-1} + (1 - d_c) ∘ c̃_t                               (9)   what zoneout leaves of it
    h_t = d_h ∘ h_{t-1} + (1 - d_h) ∘ h̃_t                              (10)

LN is `norm`; κ and κ_c limit to ±clip and ±cell_clip; m are masks, d shares of the old state, p peepholes. A row
that has ended keeps its h and c.

Coupled gates have f = 1 - i and no rows of their own for f. As 1 - σ(a) = σ(-a), (2) says so with s_f = -s_i
and p_f = -p_i.

Source: peepholes Gers, Schraudolph and Schmidhuber (2002); projection Sak, Senior and Beaufays (2014); m_x and m_h
Gal and Ghahramani (2016); m_g Semeniuta, Severyn and Barth (2016); (1) and (7) Ba, Kiros and Hinton (2016),
supplementary material; coupled gates Greff et al. (2017); (9) and (10) Krueger et al. (2017).
"""

from typing import NamedTuple

import numpy as np

from carousel.errors import check_shape
from carousel.layout import Array, Weights
from carousel.reference import norm
from carousel.reference.activations import clip, sigmoid, within
from carousel.reference.door import zeros_or
from carousel.reference.door_options import Complete
from carousel.reference.options import Options, gradients_of


class Step(NamedTuple):
    """One step: the new state, the gates after their activations, and the sums on the way there."""

    h: Array  # (B, P)
    c: Array  # (B, H)  after zoneout
    i: Array  # (B, H)
    f: Array  # (B, H)
    g: Array  # (B, H)  before its mask
    o: Array  # (B, H)
    s_x: Array  # (B, GH)  W (m_x ∘ x)
    s_h: Array  # (B, GH)  R (m_h ∘ h)
    a: Array  # (B, 4H)  what κ is given
    k: Array  # (B, H)  what κ_c is given


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one.

    The first fields are those of `lstm.Cache`: gates after their activations, g before its mask, c after zoneout.
    Where a row has ended, gates and sums are those of an input of zeros and count for nothing.
    """

    x: Array  # (T, B, I)  zero where a row has ended
    h: Array  # (T+1, B, P)
    c: Array  # (T+1, B, H)
    i: Array  # (T, B, H)
    f: Array  # (T, B, H)
    g: Array  # (T, B, H)
    o: Array  # (T, B, H)
    s_x: Array  # (T, B, GH)
    s_h: Array  # (T, B, GH)
    a: Array  # (T, B, 4H)
    k: Array  # (T, B, H)
    options: Complete
    given: Options


def step(t: int, x: Array, h: Array, c: Array, w: Weights, v: Complete) -> Step:
    """Step t of x (B, I) from h (B, P) and c (B, H)."""
    p_i, p_f, p_o = v.p
    s_x, s_h = (v.m_x * x) @ w.W.T, (v.m_h * h) @ w.R.T
    s = norm.forward(s_x, v.gain_x, v.epsilon) + w.b_W + norm.forward(s_h, v.gain_h, v.epsilon) + w.b_R  # (1)
    s_i, s_f, s_g, s_o = np.split(_uncoupled(s) if v.coupled else s, 4, axis=-1)
    a_i, a_f, a_g = s_i + p_i * c, s_f + p_f * c, s_g
    f = sigmoid(clip(a_f, v.clip))  # (2)
    i = sigmoid(clip(a_i, v.clip))  # (3)
    g = np.tanh(clip(a_g, v.clip))  # (4)
    k = f * c + i * (v.m_g * g)
    c_new = clip(k, v.cell_clip)  # (5)
    a_o = s_o + p_o * c_new
    o = sigmoid(clip(a_o, v.clip))  # (6)
    q = np.tanh(norm.forward(c_new, v.gain_c, v.epsilon) + v.shift_c)  # (7)
    h_new = _projected(o * q, v.W_p)  # (8)
    c = v.d_c[t] * c + (1 - v.d_c[t]) * c_new  # (9)
    h = v.d_h[t] * h + (1 - v.d_h[t]) * h_new  # (10)
    return Step(h, c, i, f, g, o, s_x, s_h, np.concatenate([a_i, a_f, a_g, a_o], axis=-1), k)


def forward(
    x: Array, w: Weights, h_0: Array, c_0: Array, v: Complete, given: Options
) -> tuple[Array, Array, Array, Cache]:
    """y (T, B, P), zero where a row has ended; the last h and c; the cache. All arguments are complete."""
    (T, B, P), H, GH = v.d_h.shape, v.d_c.shape[-1], len(w.W)
    h, c = np.empty((T + 1, B, P), x.dtype), np.empty((T + 1, B, H), x.dtype)
    i, f, g, o, k = np.empty((5, T, B, H), x.dtype)
    s_x, s_h = np.empty((2, T, B, GH), x.dtype)
    a = np.empty((T, B, 4 * H), x.dtype)
    h[0], c[0] = h_0, c_0
    for t in range(T):
        h_t, c_t, i[t], f[t], g[t], o[t], s_x[t], s_h[t], a[t], k[t] = step(t, x[t], h[t], c[t], w, v)
        h[t + 1], c[t + 1] = np.where(v.alive[t], h_t, h[t]), np.where(v.alive[t], c_t, c[t])
    seen = Cache(x, h, c, i, f, g, o, s_x, s_h, a, k, v, given)
    return np.where(v.alive, h[1:], 0), h[-1].copy(), c[-1].copy(), seen


def backward(
    dy: Array, w: Weights, cache: Cache, dh: Array | None, dc: Array | None
) -> tuple[Array, Weights, Array, Array, Options]:
    """∂L/∂ of x, w, h_0, c_0 and the options, back through all T steps; dz stands for ∂L/∂z."""
    x, h, c, i, f, g, o, s_x, s_h, a, k, v, given = cache
    T, B, H = i.shape
    P = h.shape[-1]
    check_shape("dy", dy, "T, B, H" if v.W_p is None else "T, B, P", T=T, B=B, H=H, P=P)
    dh = zeros_or("dh", dh, h[0], "B, H" if v.W_p is None else "B, P")
    dc = zeros_or("dc", dc, c[0])
    dtype = np.result_type(h, dy)
    p_i, p_f, p_o = v.p
    kept_h, kept_c = np.where(v.alive, v.d_h, 1), np.where(v.alive, v.d_c, 1)
    c_new = clip(k, v.cell_clip)
    q = np.tanh(norm.forward(c_new, v.gain_c, v.epsilon) + v.shift_c)
    da_i, da_f, da_g, da_o = np.split(within(a, v.clip).astype(dtype), 4, axis=-1)  # so far the slope of κ
    dh_new, dl = np.empty((T, B, P), dtype), np.empty((T, B, H), dtype)
    for t in reversed(range(T)):
        dh = dh + np.where(v.alive[t], dy[t], 0)
        dh_past, dh_new[t] = kept_h[t] * dh, (1 - kept_h[t]) * dh  # of (10)
        dc_past, dc = kept_c[t] * dc, (1 - kept_c[t]) * dc  # of (9)
        doq = dh_new[t] if v.W_p is None else dh_new[t] @ v.W_p  # of (8)
        dl[t] = doq * o[t] * (1 - q[t] ** 2)  # of (7)
        da_o[t] *= doq * q[t] * o[t] * (1 - o[t])  # of (6)
        dc = dc + norm.backward(dl[t], c_new[t], v.gain_c, v.epsilon)[0] + da_o[t] * p_o
        dk = dc * within(k[t], v.cell_clip)  # of (5)
        df, di, dg = dk * c[t], dk * v.m_g * g[t], dk * v.m_g * i[t]
        da_g[t] *= dg * (1 - g[t] ** 2)  # of (4)
        da_i[t] *= di * i[t] * (1 - i[t])  # of (3)
        da_f[t] *= df * f[t] * (1 - f[t])  # of (2)
        ds = _all(da_i[t], da_f[t], da_g[t], da_o[t], v.coupled)
        dh = dh_past + norm.backward(ds, s_h[t], v.gain_h, v.epsilon)[0] @ w.R * v.m_h  # of (1)
        dc = dc_past + dk * f[t] + da_i[t] * p_i + da_f[t] * p_f
    ds = _all(da_i, da_f, da_g, da_o, v.coupled)
    ds_x, dgain_x = norm.backward(ds, s_x, v.gain_x, v.epsilon)
    ds_h, dgain_h = norm.backward(ds, s_h, v.gain_h, v.epsilon)
    dW = np.einsum("tba,tbi->ai", ds_x, v.m_x * x)
    dR = np.einsum("tba,tbp->ap", ds_h, v.m_h * h[:-1])
    db = ds.sum(axis=(0, 1))
    dp_i, dp_f, dp_o = (
        (da * cell).sum(axis=(0, 1)) for da, cell in ((da_i, c[:-1]), (da_f, c[:-1]), (da_o, c_new))
    )
    _, dgain_c = norm.backward(dl, c_new, v.gain_c, v.epsilon)
    doptions = Options(
        projection=None if given.projection is None else np.einsum("tbp,tbh->ph", dh_new, o * q),
        peephole=None
        if given.peephole is None
        else np.stack([dp_i - dp_f, dp_o] if v.coupled else [dp_i, dp_f, dp_o]),
        coupled=v.coupled,
        layer_norm=given.layer_norm
        and gradients_of(given.layer_norm, dgain_x, dgain_h, dgain_c, dl.sum(axis=(0, 1))),
    )
    return np.where(v.alive, ds_x @ w.W * v.m_x, 0), Weights(dW, dR, db, db.copy()), dh, dc, doptions


def _projected(cell: Array, W_p: Array | None) -> Array:
    """W_p (o ∘ q); without a projection, what it was given."""
    return cell if W_p is None else cell @ W_p.T


def _uncoupled(s: Array) -> Array:
    """The sums of i g o as those of i f g o, s_f = -s_i."""
    s_i, s_g, s_o = np.split(s, 3, axis=-1)
    return np.concatenate([s_i, -s_i, s_g, s_o], axis=-1)


def _all(da_i: Array, da_f: Array, da_g: Array, da_o: Array, coupled: bool) -> Array:
    """The gradient of s, gates as the weights have them; back through `_uncoupled` where they are coupled."""
    return np.concatenate([da_i - da_f, da_g, da_o] if coupled else [da_i, da_f, da_g, da_o], axis=-1)
