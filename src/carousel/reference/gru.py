"""Gated recurrent unit: one layer, one direction, in the three forms that are in use.

    r_t = σ(W_r x_t + b_Wr + R_r h_{t-1} + b_Rr)                 (1)  reset gate
    z_t = σ(W_z x_t + b_Wz + R_z h_{t-1} + b_Rz)                 (2)  update gate
    n_t = tanh(W_n x_t + b_Wn + r_t ∘ (R_n h_{t-1} + b_Rn))      (3)  candidate, reset="after" the product
    n_t = tanh(W_n x_t + b_Wn + R_n (r_t ∘ h_{t-1}) + b_Rn)      (3') candidate, reset="before" the product
    h_t = (1 - z_t) ∘ n_t + z_t ∘ h_{t-1}                        (4)  z is the share of the old "state"
    h_t = (1 - z_t) ∘ h_{t-1} + z_t ∘ n_t                        (4') z is the share of the "candidate"

W is (3H, I) and R (3H, H), their gates stacked r z n. With options or lengths the equations are those of
`gru_options`.

(4') with the rows of z negated is (4): `carousel.layout.opposite_update`. (3) and (3') are different
networks, and no change of weights makes up for it.

Source: (1 2 3' 4) Cho et al. (2014), equations 5 to 8. (1 2 3' 4') Chung et al. (2014); NumPy tutorials
print this one. (1 2 3 4) is what cuDNN, torch and Keras (reset_after=True) compute.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from carousel.errors import check_choice, check_shape
from carousel.layout import Array, Weights
from carousel.reference import gru_options
from carousel.reference.activations import sigmoid
from carousel.reference.door import enter, zeros_or
from carousel.reference.door_options import enter_with_options
from carousel.reference.options import Gradients as OptionedGradients
from carousel.reference.options import Options

Reset: TypeAlias = Literal["after", "before"]
Update: TypeAlias = Literal["state", "candidate"]


class Gates(NamedTuple):
    """The gates after their activations, the candidate n, and what the recurrent weights give to it."""

    r: Array  # (B, H)
    z: Array  # (B, H)
    n: Array  # (B, H)
    m: Array  # (B, H)  of (3) R_n h + b_Rn, of (3') R_n (r ∘ h) + b_Rn


class Cache(NamedTuple):
    """All that happened; `h[t + 1]` is the state after step t, `h[0]` the initial one."""

    x: Array  # (T, B, I)
    h: Array  # (T+1, B, H)
    r: Array  # (T, B, H)
    z: Array  # (T, B, H)
    n: Array  # (T, B, H)
    m: Array  # (T, B, H)
    reset: Reset
    update: Update


class Gradients(NamedTuple):
    """∂L/∂ of what `forward` was given, each shaped like it."""

    x: Array
    w: Weights
    state: Array


def step(
    x: Array,
    h: Array,
    w: Weights,
    *,
    reset: Reset = "after",
    update: Update = "state",
    options: Options | None = None,
) -> tuple[Array, Gates]:
    """One step.

    Args:
        x: (B, I).
        h: (B, H).
        w: the weights.
        reset: the reset gate acts "after" the product with R_n (3) or "before" it (3').
        update: z is the share of the old "state" (4) or of the "candidate" (4').
        options: those of this step; zoneout shares are (1, B, H).

    Returns:
        The new h and the gates.

    Raises:
        ArgumentError: `reset` or `update` is something else.
    """
    check_choice("reset", reset, ("after", "before"))
    check_choice("update", update, ("state", "candidate"))
    if options is not None:
        (x,), w, (h,), complete = enter_with_options("gru", x[None], w, options, h=h)
        h, r, z, n, m, *_ = gru_options.step(0, x, h, w, complete, reset=reset, update=update)
        return h, Gates(r, z, n, m)
    R_r, R_z, R_n = np.split(w.R, 3)
    b_r, b_z, b_n = np.split(w.b_R, 3)
    a_r, a_z, a_n = np.split(x @ w.W.T + w.b_W, 3, axis=-1)
    r = sigmoid(a_r + h @ R_r.T + b_r)  # (1)
    z = sigmoid(a_z + h @ R_z.T + b_z)  # (2)
    if reset == "after":
        m = h @ R_n.T + b_n
        n = np.tanh(a_n + r * m)  # (3)
    else:
        m = (r * h) @ R_n.T + b_n
        n = np.tanh(a_n + m)  # (3')
    if update == "state":
        h = (1 - z) * n + z * h  # (4)
    else:
        h = (1 - z) * h + z * n  # (4')
    return h, Gates(r, z, n, m)


def forward(
    x: Array,
    w: Weights,
    state: Array | None = None,
    *,
    reset: Reset = "after",
    update: Update = "state",
    options: Options | None = None,
    lengths: Array | Sequence[int] | None = None,
) -> tuple[Array, Array, Cache | gru_options.Cache]:
    """T steps.

    Args:
        x: (T, B, I).
        w: the weights.
        state: h before the first step, (B, H); None is zeros.
        reset: "after" or "before", see `step`.
        update: "state" or "candidate", see `step`.
        options: what the layer does beyond the equations above.
        lengths: the steps of each row, (B,); beyond them x is not read, the state stays and y is 0. None is T.

    Returns:
        y (T, B, H), h after every step; h after the last one (B, H); the cache.

    Raises:
        ShapeError: an array has the wrong shape.
        ArgumentError: `reset` or `update` is something else, a length or an option out of its range.
        UnsupportedError: a GRU does not offer the option.

    Example:
        >>> w = Weights(np.ones((6, 3)), np.ones((6, 2)), np.zeros(6), np.zeros(6))
        >>> y, h, cache = forward(np.ones((5, 1, 3)), w, update="candidate")
        >>> y.shape, cache.z.shape, bool((y[-1] == h).all())
        ((5, 1, 2), (5, 1, 2), True)
    """
    check_choice("reset", reset, ("after", "before"))
    check_choice("update", update, ("state", "candidate"))
    if options is not None or lengths is not None:
        options = options or Options()
        x, w, (h_0,), complete = enter_with_options("gru", x, w, options, lengths, h=state)
        return gru_options.forward(x, w, h_0, complete, options, reset=reset, update=update)
    x, w, (h_0,) = enter("gru", x, w, h=state)
    T, B, H = *x.shape[:2], w.R.shape[1]
    h = np.empty((T + 1, B, H), x.dtype)
    gates = np.empty((4, T, B, H), x.dtype)
    h[0] = h_0
    for t in range(T):
        h[t + 1], gates[:, t] = step(x[t], h[t], w, reset=reset, update=update)
    r, z, n, m = gates
    return h[1:].copy(), h[-1].copy(), Cache(x, h, r, z, n, m, reset, update)


def backward(
    dy: Array, w: Weights, cache: Cache | gru_options.Cache, dstate: Array | None = None
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
    if isinstance(cache, gru_options.Cache):
        return OptionedGradients(*gru_options.backward(dy, w, cache, dstate))
    x, h, r, z, n, m, reset, update = cache
    T, B, H = r.shape
    check_shape("dy", dy, "T, B, H", T=T, B=B, H=H)
    dh = zeros_or("dstate", dstate, h[0])
    R_r, R_z, R_n = np.split(w.R, 3)
    da_r, da_z, da_n, dm = np.empty((4, T, B, H), np.result_type(h, dy))
    for t in reversed(range(T)):
        dh = dh + dy[t]
        if update == "state":  # of (4)
            dn, dz, dh = dh * (1 - z[t]), dh * (h[t] - n[t]), dh * z[t]
        else:  # of (4')
            dn, dz, dh = dh * z[t], dh * (n[t] - h[t]), dh * (1 - z[t])
        da_n[t] = dn * (1 - n[t] ** 2)
        if reset == "after":  # of (3)
            dm[t] = da_n[t] * r[t]
            dr = da_n[t] * m[t]
            dh = dh + dm[t] @ R_n
        else:  # of (3')
            dm[t] = da_n[t]
            drh = dm[t] @ R_n
            dr = drh * h[t]
            dh = dh + drh * r[t]
        da_r[t] = dr * r[t] * (1 - r[t])  # of (1)
        da_z[t] = dz * z[t] * (1 - z[t])  # of (2)
        dh = dh + da_r[t] @ R_r + da_z[t] @ R_z
    da_W = np.concatenate([da_r, da_z, da_n], axis=-1)  # what goes back through W
    da_R = np.concatenate([da_r, da_z, dm], axis=-1)  # what goes back through R
    seen = h[:-1] if reset == "after" else r * h[:-1]  # by R_n
    dW = np.einsum("tba,tbi->ai", da_W, x)
    dR_rz = np.einsum("tba,tbh->ah", da_R[..., : 2 * H], h[:-1])
    dR_n = np.einsum("tba,tbh->ah", dm, seen)
    db_W, db_R = da_W.sum(axis=(0, 1)), da_R.sum(axis=(0, 1))
    return Gradients(da_W @ w.W, Weights(dW, np.concatenate([dR_rz, dR_n]), db_W, db_R), dh)
