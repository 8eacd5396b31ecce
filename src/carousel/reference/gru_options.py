"""Gated recurrent unit with every option, entered through `carousel.reference.gru`.

    a^x_t = LN(W (m_x ∘ x_t)) + b_W                                     (1)   what the input says to r z n
    a^h_t = LN(R_rz (m_h ∘ h_{t-1})) + b_Rrz                            (2)   what the state says to r z
    r_t = σ(κ(a^x_r + a^h_r))                                           (3)   reset gate
    z_t = σ(κ(a^x_z + a^h_z))                                           (4)   update gate
    m_t = LN(R_n (m_h ∘ h_{t-1})) + b_Rn                                (5)   reset="after" the product
    n_t = tanh(κ(a^x_n + r_t ∘ m_t))                                    (6)
    m_t = LN(R_n (m_h ∘ r_t ∘ h_{t-1})) + b_Rn                          (5')  reset="before" the product
    n_t = tanh(κ(a^x_n + m_t))                                          (6')
    h̃_t = (1 - z_t) ∘ (m_g ∘ n_t) + z_t ∘ h_{t-1}                       (7)   z is the share of the old "state"
    h̃_t = (1 - z_t) ∘ h_{t-1} + z_t ∘ (m_g ∘ n_t)                       (7')  z is the share of the "candidate"
    h_t = d_h ∘ h_{t-1} + (1 - d_h) ∘ h̃_t                               (8)   what zoneout leaves of it

LN is `norm`, over the 2H sums of r and z, and over the H of n, by itself; κ limits to ±clip; m_x, m_h, m_g are
masks, d_h is the share of the old state. A row that has ended keeps its h.

Source: `gru` for the cell; LN Ba, Kiros and Hinton (2016), supplementary material; m_x and m_h Gal and Ghahramani
(2016); m_g Semeniuta, Severyn and Barth (2016); (8) Krueger et al. (2017).
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

    h: Array  # (B, H)  after zoneout
    r: Array  # (B, H)
    z: Array  # (B, H)
    n: Array  # (B, H)  before its mask
    m: Array  # (B, H)
    s_x: Array  # (B, 3H)  W (m_x ∘ x)
    s_h: Array  # (B, 3H)  the products with R_rz and with R_n
    a: Array  # (B, 3H)  what κ is given


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one.

    The first fields are those of `gru.Cache`: gates after their activations, n before its mask, h after zoneout.
    Where a row has ended, gates and sums are those of an input of zeros and count for nothing.
    """

    x: Array  # (T, B, I)  zero where a row has ended
    h: Array  # (T+1, B, H)
    r: Array  # (T, B, H)
    z: Array  # (T, B, H)
    n: Array  # (T, B, H)
    m: Array  # (T, B, H)
    s_x: Array  # (T, B, 3H)
    s_h: Array  # (T, B, 3H)
    a: Array  # (T, B, 3H)
    reset: str
    update: str
    options: Complete
    given: Options


def step(t: int, x: Array, h: Array, w: Weights, v: Complete, *, reset: str, update: str) -> Step:
    """Step t of x (B, I) from h (B, H)."""
    H = h.shape[-1]
    R_rz, R_n = w.R[: 2 * H], w.R[2 * H :]
    b_rz, b_n = w.b_R[: 2 * H], w.b_R[2 * H :]
    g_rz, g_n = _halves(v.gain_h, H)
    s_x, s_rz = (v.m_x * x) @ w.W.T, (v.m_h * h) @ R_rz.T
    x_r, x_z, x_n = np.split(_norm(s_x, v.gain_x, v.epsilon) + w.b_W, 3, axis=-1)  # (1)
    h_r, h_z = np.split(norm.forward(s_rz, g_rz, v.epsilon) + b_rz, 2, axis=-1)  # (2)
    a_r, a_z = x_r + h_r, x_z + h_z
    r = sigmoid(clip(a_r, v.clip))  # (3)
    z = sigmoid(clip(a_z, v.clip))  # (4)
    if reset == "after":
        s_n = (v.m_h * h) @ R_n.T
        m = norm.forward(s_n, g_n, v.epsilon) + b_n  # (5)
        a_n = x_n + r * m
    else:
        s_n = (v.m_h * (r * h)) @ R_n.T
        m = norm.forward(s_n, g_n, v.epsilon) + b_n  # (5')
        a_n = x_n + m
    n = np.tanh(clip(a_n, v.clip))  # (6), (6')
    if update == "state":
        h_new = (1 - z) * (v.m_g * n) + z * h  # (7)
    else:
        h_new = (1 - z) * h + z * (v.m_g * n)  # (7')
    h = v.d_h[t] * h + (1 - v.d_h[t]) * h_new  # (8)
    s_h, a = np.concatenate([s_rz, s_n], axis=-1), np.concatenate([a_r, a_z, a_n], axis=-1)
    return Step(h, r, z, n, m, s_x, s_h, a)


def forward(
    x: Array, w: Weights, h_0: Array, v: Complete, given: Options, *, reset: str, update: str
) -> tuple[Array, Array, Cache]:
    """y (T, B, H), zero where a row has ended; the last h; the cache. All arguments are complete."""
    T, B, H = *x.shape[:2], w.R.shape[1]
    h = np.empty((T + 1, B, H), x.dtype)
    r, z, n, m = np.empty((4, T, B, H), x.dtype)
    s_x, s_h, a = np.empty((3, T, B, 3 * H), x.dtype)
    h[0] = h_0
    for t in range(T):
        now = step(t, x[t], h[t], w, v, reset=reset, update=update)
        h_t, r[t], z[t], n[t], m[t], s_x[t], s_h[t], a[t] = now
        h[t + 1] = np.where(v.alive[t], h_t, h[t])
    seen = Cache(x, h, r, z, n, m, s_x, s_h, a, reset, update, v, given)
    return np.where(v.alive, h[1:], 0), h[-1].copy(), seen


def backward(dy: Array, w: Weights, cache: Cache, dh: Array | None) -> tuple[Array, Weights, Array, Options]:
    """∂L/∂ of x, w, h_0 and the options, back through all T steps; dz stands for ∂L/∂z."""
    x, h, r, z, n, m, s_x, s_h, a, reset, update, v, given = cache
    T, B, H = r.shape
    check_shape("dy", dy, "T, B, H", T=T, B=B, H=H)
    dh = zeros_or("dstate", dh, h[0])
    R_rz, R_n = w.R[: 2 * H], w.R[2 * H :]
    g_rz, g_n = _halves(v.gain_h, H)
    s_rz, s_n = s_h[..., : 2 * H], s_h[..., 2 * H :]
    kept = np.where(v.alive, v.d_h, 1)
    slope_r, slope_z, slope_n = np.split(within(a, v.clip), 3, axis=-1)
    da_r, da_z, da_n, dm = np.empty((4, T, B, H), np.result_type(h, dy))
    for t in reversed(range(T)):
        dh = dh + np.where(v.alive[t], dy[t], 0)
        past, dh = kept[t] * dh, (1 - kept[t]) * dh  # of (8)
        if update == "state":  # of (7)
            dn, dz, dh = dh * (1 - z[t]) * v.m_g, dh * (h[t] - v.m_g * n[t]), dh * z[t]
        else:  # of (7')
            dn, dz, dh = dh * z[t] * v.m_g, dh * (v.m_g * n[t] - h[t]), dh * (1 - z[t])
        da_n[t] = dn * (1 - n[t] ** 2) * slope_n[t]
        if reset == "after":  # of (6) and (5)
            dm[t] = da_n[t] * r[t]
            dr = da_n[t] * m[t]
            dh = dh + norm.backward(dm[t], s_n[t], g_n, v.epsilon)[0] @ R_n * v.m_h
        else:  # of (6') and (5')
            dm[t] = da_n[t]
            drh = norm.backward(dm[t], s_n[t], g_n, v.epsilon)[0] @ R_n * v.m_h
            dr = drh * h[t]
            dh = dh + drh * r[t]
        da_z[t] = dz * z[t] * (1 - z[t]) * slope_z[t]  # of (4)
        da_r[t] = dr * r[t] * (1 - r[t]) * slope_r[t]  # of (3)
        da_rz = np.concatenate([da_r[t], da_z[t]], axis=-1)
        dh = past + dh + norm.backward(da_rz, s_rz[t], g_rz, v.epsilon)[0] @ R_rz * v.m_h  # of (2)
    da_W = np.concatenate([da_r, da_z, da_n], axis=-1)  # what goes back through W
    da_R = np.concatenate([da_r, da_z, dm], axis=-1)  # what goes back through R
    ds_x, dgain_x = _norm_backward(da_W, s_x, v.gain_x, v.epsilon)  # of (1)
    ds_h, dgain_h = _norm_backward(da_R, s_h, v.gain_h, v.epsilon)
    seen = v.m_h * h[:-1]
    seen_by_n = seen if reset == "after" else r * seen
    dW = np.einsum("tba,tbi->ai", ds_x, v.m_x * x)
    dR_rz = np.einsum("tba,tbh->ah", ds_h[..., : 2 * H], seen)
    dR_n = np.einsum("tba,tbh->ah", ds_h[..., 2 * H :], seen_by_n)
    db_W, db_R = da_W.sum(axis=(0, 1)), da_R.sum(axis=(0, 1))
    dnorm = given.layer_norm and gradients_of(given.layer_norm, dgain_x, dgain_h)
    dw = Weights(dW, np.concatenate([dR_rz, dR_n]), db_W, db_R)
    return np.where(v.alive, ds_x @ w.W * v.m_x, 0), dw, dh, Options(layer_norm=dnorm)


def _halves(gain: Array | None, H: int) -> tuple[Array | None, Array | None]:
    """The gains of r and z, and those of n."""
    return (None, None) if gain is None else (gain[: 2 * H], gain[2 * H :])


def _norm(s: Array, gain: Array | None, epsilon: float) -> Array:
    """LN of the two groups."""
    H = s.shape[-1] // 3
    s_rz, s_n = s[..., : 2 * H], s[..., 2 * H :]
    g_rz, g_n = _halves(gain, H)
    return np.concatenate([norm.forward(s_rz, g_rz, epsilon), norm.forward(s_n, g_n, epsilon)], axis=-1)


def _norm_backward(dy: Array, s: Array, gain: Array | None, epsilon: float) -> tuple[Array, Array | None]:
    """The way back of `_norm`: ds and the gain's gradient."""
    if gain is None:
        return dy, None
    H = s.shape[-1] // 3
    g_rz, g_n = _halves(gain, H)
    ds_rz, dg_rz = norm.backward(dy[..., : 2 * H], s[..., : 2 * H], g_rz, epsilon)
    ds_n, dg_n = norm.backward(dy[..., 2 * H :], s[..., 2 * H :], g_n, epsilon)
    return np.concatenate([ds_rz, ds_n], axis=-1), np.concatenate([dg_rz, dg_n])
