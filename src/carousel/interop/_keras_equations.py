"""What Keras computes, in its own conventions and its own words, for checking conversions without Keras.

    LSTM       z_i, z_f, z_c, z_o = split(x K + h U + b);  c' = σ(z_f) c + σ(z_i) tanh(z_c);  h' = σ(z_o) tanh(c')
    GRU        z, r = σ(x K_z + b_z + h U_z + d_z), σ(x K_r + b_r + h U_r + d_r)
               n = tanh(x K_h + b_h + r (h U_h + d_h)) with reset_after, else tanh(x K_h + b_h + (r h) U_h)
               h' = z h + (1 - z) n
    SimpleRNN  h' = φ(x K + h U + b)

Rows are batch first, in float64. It knows nothing of `carousel.layout`, which it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel.interop._keras_file import KerasLayer

__all__ = ["evaluate"]

Array = NDArray[Any]
State = tuple[Array, Array]  # h and c, (B, H); c of an LSTM only


def evaluate(layers: Sequence[KerasLayer], x: Array, states: Sequence[State]) -> Array:
    """The output of the model for x (B, T, F), or ids (B, T); `states` of every cell, in the order of the model."""
    mask: Array | None = None
    y, rest = np.asarray(x), list(states)
    for layer in layers:
        config = layer.config
        if layer.kind in ("LSTM", "GRU", "SimpleRNN"):
            y, mask = _layer(layer.kind, config, layer.arrays[0], y, mask, rest.pop(0))
        elif layer.kind == "Bidirectional":
            y, mask = _bidirectional(layer, y, mask, rest.pop(0), rest.pop(0))
        elif layer.kind == "Embedding":
            mask = y != 0 if config.get("mask_zero") else None
            y = layer.arrays[0][0].astype(np.float64)[y]
        elif layer.kind == "Masking":
            mask = (y != _dtype(config).type(config["mask_value"])).any(-1)
            y = y * mask[..., None]
        elif layer.kind == "GetItem":
            y, mask = y[:, -1], None
        elif layer.kind == "Normalization":
            y = _normalization(layer, y)
        elif layer.kind == "Dense":
            y = _dense(config, layer.arrays[0], y)
        elif layer.kind == "TimeDistributed" and config["layer"]["class_name"] == "Dense":
            y = _dense(config["layer"]["config"], layer.arrays[0], y)
        elif layer.kind in ("Activation", "TimeDistributed"):
            inner = config["layer"]["config"] if layer.kind == "TimeDistributed" else config
            y = _ACTIVATIONS[_name(inner.get("activation"))](y)
        elif layer.kind in ("ReLU", "Softmax"):
            y = _ACTIVATIONS[layer.kind.lower()](y)
        mask = None if layer.ends_mask else mask
    return y


def _layer(
    kind: str, config: dict[str, Any], arrays: list[Array], x: Array, mask: Array | None, state: State
) -> tuple[Array, Array | None]:
    y, last = _scan(kind, config, arrays, x, mask, state, bool(config.get("zero_output_for_mask")))
    return (y, mask) if config.get("return_sequences") else (last, None)


def _bidirectional(
    layer: KerasLayer, x: Array, mask: Array | None, ahead: State, back: State
) -> tuple[Array, Array | None]:
    config = layer.config["layer"]["config"]
    kind, sequences = layer.config["layer"]["class_name"], bool(config.get("return_sequences"))
    y, last = _scan(kind, config, layer.arrays[0], x, mask, ahead, sequences)
    turned = {**config, "go_backwards": True}
    y_rev, last_rev = _scan(kind, turned, layer.arrays[1], x, mask, back, sequences)
    one, two = (y, y_rev[:, ::-1]) if sequences else (last, last_rev)
    merged = _MERGED[layer.config.get("merge_mode", "concat")](one, two)
    return merged, mask if sequences else None


def _scan(
    kind: str,
    config: dict[str, Any],
    arrays: list[Array],
    x: Array,
    mask: Array | None,
    state: State,
    zero: bool,
) -> tuple[Array, Array]:
    """All outputs, in the order in which they came, and the last."""
    kernel, recurrent, *bias = (a.astype(np.float64) for a in arrays)
    h, c = (a.astype(np.float64) for a in state)
    output, outputs = h, []
    steps = range(x.shape[1])[::-1] if config.get("go_backwards") else range(x.shape[1])
    for t in steps:
        h_new, c_new = _CELLS[kind](config, x[:, t].astype(np.float64), h, c, kernel, recurrent, bias)
        if mask is None:
            h, c, output = h_new, c_new, h_new
        else:
            alive = mask[:, t, None]
            output = np.where(alive, h_new, 0 if zero else output)
            h, c = np.where(alive, h_new, h), np.where(alive, c_new, c)
        outputs.append(output)
    return np.stack(outputs, 1), output


def _lstm(
    config: Any, x: Array, h: Array, c: Array, kernel: Array, recurrent: Array, bias: list[Array]
) -> State:
    z = x @ kernel + h @ recurrent + sum(bias)
    z_i, z_f, z_c, z_o = np.split(z, 4, -1)
    c = _sigmoid(z_f) * c + _sigmoid(z_i) * np.tanh(z_c)
    return _sigmoid(z_o) * np.tanh(c), c


def _gru(
    config: Any, x: Array, h: Array, c: Array, kernel: Array, recurrent: Array, bias: list[Array]
) -> State:
    after, units = bool(config.get("reset_after")), h.shape[-1]
    b, d = np.zeros(3 * units), np.zeros(3 * units)
    if bias:
        b, d = bias[0] if after else (bias[0], d)
    x_z, x_r, x_h = np.split(x @ kernel + b, 3, -1)
    u_z, u_r, u_h = np.split(recurrent, 3, -1)
    d_z, d_r, d_h = np.split(d, 3)
    z, r = _sigmoid(x_z + h @ u_z + d_z), _sigmoid(x_r + h @ u_r + d_r)
    n = np.tanh(x_h + (r * (h @ u_h + d_h) if after else (r * h) @ u_h))
    return z * h + (1 - z) * n, c


def _simple(
    config: Any, x: Array, h: Array, c: Array, kernel: Array, recurrent: Array, bias: list[Array]
) -> State:
    return _ACTIVATIONS[_name(config.get("activation", "tanh"))](x @ kernel + h @ recurrent + sum(bias)), c


def _dense(config: dict[str, Any], arrays: list[Array], x: Array) -> Array:
    kernel, *bias = (a.astype(np.float64) for a in arrays)
    return _ACTIVATIONS[_name(config.get("activation"))](x @ kernel + sum(bias))


def _normalization(layer: KerasLayer, x: Array) -> Array:
    given: Any = layer.arrays[0]
    if layer.config.get("mean") is not None:
        given = [layer.config["mean"], layer.config["variance"]]
    mean, variance = (np.asarray(a, np.float64).ravel() for a in given[:2])
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return mean + x * deviation if layer.config.get("invert") else (x - mean) / deviation


def _dtype(config: dict[str, Any]) -> np.dtype[Any]:
    given = config.get("dtype")
    if isinstance(given, dict):
        given = (given.get("config") or {}).get("name")
    return np.dtype(given or "float32")


def _name(activation: Any) -> str:
    while isinstance(activation, dict):
        activation = activation.get("config", activation.get("name"))
    return str(activation or "linear")


def _sigmoid(x: Array) -> Array:
    y: Array = np.exp(-np.logaddexp(0, -x))
    return y


def _softmax(x: Array) -> Array:
    y: Array = np.exp(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))
    return y


_MERGED: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda one, two: np.concatenate([one, two], -1),
    "sum": lambda one, two: one + two,
    "mul": lambda one, two: one * two,
    "ave": lambda one, two: (one + two) / 2,
}
_CELLS = {"LSTM": _lstm, "GRU": _gru, "SimpleRNN": _simple}
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softmax": _softmax,
}
