"""The entrance of the reference for calls with options or lengths.

Shapes are checked, dtypes become one, and what was left out becomes neutral, so that no `if` stands between two
equations: masks are ones, zoneout's shares zeros, bounds infinite, peepholes zeros.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from carousel.errors import ArgumentError, ShapeError, check_shape
from carousel.layout import ORDERS, Array, Cell, Weights
from carousel.reference.options import Options, check_offered


class Complete(NamedTuple):
    """The options of one call, nothing left out."""

    W_p: Array | None  # (P, H)  None: not projected
    p: Array  # (3, H)  p_i p_f p_o; coupled gates have p_f = -p_i
    coupled: bool
    gain_x: Array | None  # (GH,)  None: not normalised
    gain_h: Array | None
    gain_c: Array | None  # (H,)
    shift_c: Array  # (H,)
    epsilon: float
    d_h: Array  # (T, B, P)
    d_c: Array  # (T, B, H)
    m_g: Array  # (B, H)
    m_h: Array  # (B, P)
    m_x: Array  # (B, I)
    clip: float
    cell_clip: float
    alive: Array  # (T, B, 1)  bool: the row has a step t


def enter_with_options(
    cell: Cell,
    x: Array,
    w: Weights,
    options: Options,
    lengths: Array | Sequence[int] | None = None,
    **state: Array | None,
) -> tuple[Array, Weights, list[Array], Complete]:
    """Complete arguments of a `forward` with options or lengths.

    Args:
        cell: "lstm", "gru" or "rnn".
        x: (T, B, I).
        w: W (GH, I), R (GH, P), b_W and b_R (GH).
        options: what the layer does beyond its equations.
        lengths: the steps of each row, (B,); None is T.
        **state: h (B, P) and, of an LSTM, c (B, H); None is zeros.

    Returns:
        x, zero where a row has ended; w, the states and the options; all of the dtype that NumPy promotes them
        to, and at least float16.

    Raises:
        ShapeError: an array has the wrong shape.
        ArgumentError: a length, a share or a bound is out of its range.
        UnsupportedError: the cell does not offer an option.
    """
    check_offered(cell, options)
    G, H, P, I = _check_weights(cell, w, options)
    T, B, _ = check_shape("x", x, "T, B, I", I=I)
    sizes = {"T": T, "B": B, "I": I, "H": H, "P": P}
    alive = np.arange(T)[:, None, None] < check_lengths(lengths, T, B)[:, None]

    def given(name: str, value: Array | None, axes: str, neutral: float) -> Array:
        if value is None:
            return np.full([sizes[axis] for axis in axes.split(", ")], neutral, np.float16)
        check_shape(name, value, axes, **sizes)
        return value

    def gain(name: str, axes: str) -> Array | None:
        value: Array | None = getattr(options.layer_norm, name, None)
        return None if value is None else given(f"layer_norm.{name}", value, axes, 1)

    S = "H" if options.projection is None else "P"  # what messages call the size of h
    states = [given(name, h, f"B, {S if name == 'h' else 'H'}", 0) for name, h in state.items()]
    arrays: dict[str, Array | None] = {
        "W_p": options.projection,
        "p": _peepholes(options, H),
        "gain_x": gain("gain_x", f"{G}H"),
        "gain_h": gain("gain_h", f"{G}H"),
        "gain_c": gain("gain_c", "H"),
        "shift_c": given("layer_norm.shift_c", getattr(options.layer_norm, "shift_c", None), "H", 0),
        "d_h": _shares("zoneout_h", given("zoneout_h", options.zoneout_h, f"T, B, {S}", 0)),
        "d_c": _shares("zoneout_c", given("zoneout_c", options.zoneout_c, "T, B, H", 0)),
        "m_g": given("candidate_mask", options.candidate_mask, "B, H", 1),
        "m_h": given("state_mask", options.state_mask, f"B, {S}", 1),
        "m_x": given("input_mask", options.input_mask, "B, I", 1),
    }
    optional = [a for a in arrays.values() if a is not None]
    dtype = np.result_type(np.float16, x, *w, *states, *optional)
    cast: dict[str, Any] = {name: a if a is None else np.asarray(a, dtype) for name, a in arrays.items()}
    complete = Complete(
        **cast,
        coupled=options.coupled,
        epsilon=0.0 if options.layer_norm is None else options.layer_norm.epsilon,
        clip=_bound("clip", options.clip),
        cell_clip=_bound("cell_clip", options.cell_clip),
        alive=alive,
    )
    x = np.asarray(np.where(alive, x, 0), dtype)
    weights = Weights(*(np.asarray(a, dtype) for a in (w.W, w.R, w.b_W, w.b_R)))
    return x, weights, [np.asarray(h, dtype) for h in states], complete


def check_lengths(lengths: Array | Sequence[int] | None, T: int, B: int) -> Array:
    """The steps of each row, (B,), which must be integers from 0 to T; None is T of each.

    Raises:
        ShapeError: there is not one integer a row.
        ArgumentError: one is out of range.
    """
    if lengths is None:
        return np.full(B, T)
    steps = np.asarray(lengths)
    check_shape("lengths", steps, "B", B=B)
    if B and not np.issubdtype(steps.dtype, np.integer):
        raise ShapeError(f"`lengths` must be integers, got {steps.dtype}.")
    if ((steps < 0) | (steps > T)).any():
        raise ArgumentError(f"`lengths` must be between 0 and T = {T}, got {steps.tolist()}.")
    return steps


def _check_weights(cell: Cell, w: Weights, options: Options) -> tuple[int, int, int, int]:
    """G, H, P, I of the weights, which must fit one another and the projection."""
    G = len(ORDERS[cell]["torch"]) - options.coupled
    if options.projection is None:
        P = H = check_shape("R", w.R, f"{G}H, H")[1]
    else:
        P, H = check_shape("projection", options.projection, "P, H")
        check_shape("R", w.R, f"{G}H, P", H=H, P=P)
    _, I = check_shape("W", w.W, f"{G}H, I", H=H)
    check_shape("b_W", w.b_W, f"{G}H", H=H)
    check_shape("b_R", w.b_R, f"{G}H", H=H)
    return G, H, P, I


def _peepholes(options: Options, H: int) -> Array:
    """p_i p_f p_o, (3, H). Coupled gates: p_f = -p_i, for their f is σ of all that i is, negated."""
    if options.peephole is None:
        return np.zeros((3, H), np.float16)
    if not options.coupled:
        check_shape("peephole", options.peephole, "3, H", H=H)
        return options.peephole
    check_shape("peephole", options.peephole, "2, H", H=H)
    p_i, p_o = options.peephole
    return np.stack([p_i, -p_i, p_o])


def _shares(name: str, shares: Array) -> Array:
    """The shares of the old state, which must be between 0 and 1."""
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ArgumentError(f"`{name}` must be between 0 and 1 everywhere.")
    return shares


def _bound(name: str, value: float | None) -> float:
    """The bound of a clip, infinity where there is none."""
    if value is None:
        return np.inf
    if not value > 0:
        raise ArgumentError(f"`{name}` must be above 0, got {value!r}.")
    return float(value)
