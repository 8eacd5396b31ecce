"""What the LSTM, GRU and RNN of the ONNX specification compute, for checking conversions without a runtime.

    LSTM   i, f, c = f(X W^T + H R^T + P C + Wb + Rb), C = f C + i c, o with P C of the new C, H = o h(C)
    GRU    h = g(X Wh^T + (r H) Rh^T + Rbh + Wbh), or with linear_before_reset g(X Wh^T + r (H Rh^T + Rbh) + Wbh)
           H = (1 - z) h + z H
    RNN    H = f(X W^T + H R^T + Wb + Rb)

Gates are i o f c and z r h. In float64, one row at a time, so that rows of different lengths need no mask. It knows
nothing of `carousel.layout`, which it judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["node"]

Array = NDArray[Any]


def node(kind: str, attributes: Mapping[str, Any], inputs: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """Y (T, D, B, H), Y_h and Y_c (D, B, H), of inputs by their names in the specification; layout 0.

    Y_c is of zeros but for an LSTM.
    """
    X = inputs["X"].astype(np.float64)
    T, B, _ = X.shape
    D, _, H = inputs["R"].shape
    Y, Y_h, Y_c = np.zeros((T, D, B, H)), np.zeros((D, B, H)), np.zeros((D, B, H))
    lengths = inputs.get("sequence_lens", np.full(B, T))
    for d in range(D):
        w = {name: a[d].astype(np.float64) for name, a in inputs.items() if name in "WRBP"}
        backwards = attributes.get("direction") == "reverse" or d == 1
        for b in range(B):
            h = inputs["initial_h"][d, b].astype(np.float64) if "initial_h" in inputs else np.zeros(H)
            c = inputs["initial_c"][d, b].astype(np.float64) if "initial_c" in inputs else np.zeros(H)
            steps = range(int(lengths[b]))
            for t in reversed(steps) if backwards else steps:
                h, c = _STEPS[kind](attributes, X[t, b], h, c, w)
                Y[t, d, b] = h
            Y_h[d, b], Y_c[d, b] = h, c
    return Y, Y_h, Y_c


def _bounded(attributes: Mapping[str, Any], a: Array) -> Array:
    bound = attributes.get("clip") or np.inf
    y: Array = np.clip(a, -bound, bound)
    return y


def _sigmoid(a: Array) -> Array:
    y: Array = np.exp(-np.logaddexp(0, -a))
    return y


def _biases(w: Mapping[str, Array], gates: int) -> tuple[Array, Array]:
    H = w["R"].shape[1]
    Wb, Rb = np.split(w.get("B", np.zeros(2 * gates * H)), 2)
    return Wb, Rb


def _lstm(
    attributes: Mapping[str, Any], x: Array, h: Array, c: Array, w: Mapping[str, Array]
) -> tuple[Array, Array]:
    Wb, Rb = _biases(w, 4)
    a_i, a_o, a_f, a_c = np.split(w["W"] @ x + w["R"] @ h + Wb + Rb, 4)
    p_i, p_o, p_f = np.split(w.get("P", np.zeros(3 * len(h))), 3)
    i = _sigmoid(_bounded(attributes, a_i + p_i * c))
    f = 1 - i if attributes.get("input_forget") else _sigmoid(_bounded(attributes, a_f + p_f * c))
    c = f * c + i * np.tanh(_bounded(attributes, a_c))
    return _sigmoid(_bounded(attributes, a_o + p_o * c)) * np.tanh(c), c


def _gru(
    attributes: Mapping[str, Any], x: Array, h: Array, c: Array, w: Mapping[str, Array]
) -> tuple[Array, Array]:
    Wb, Rb = _biases(w, 3)
    x_z, x_r, x_h = np.split(w["W"] @ x + Wb, 3)
    R_z, R_r, R_h = np.split(w["R"], 3)
    b_z, b_r, b_h = np.split(Rb, 3)
    z = _sigmoid(_bounded(attributes, x_z + R_z @ h + b_z))
    r = _sigmoid(_bounded(attributes, x_r + R_r @ h + b_r))
    inner = r * (R_h @ h + b_h) if attributes.get("linear_before_reset") else R_h @ (r * h) + b_h
    return (1 - z) * np.tanh(_bounded(attributes, x_h + inner)) + z * h, c


def _rnn(
    attributes: Mapping[str, Any], x: Array, h: Array, c: Array, w: Mapping[str, Array]
) -> tuple[Array, Array]:
    Wb, Rb = _biases(w, 1)
    a = _bounded(attributes, w["W"] @ x + w["R"] @ h + Wb + Rb)
    relu = str((attributes.get("activations") or ["Tanh"])[0]).lower() == "relu"
    return (np.maximum(a, 0) if relu else np.tanh(a)), c


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
