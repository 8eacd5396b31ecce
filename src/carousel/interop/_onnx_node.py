"""One LSTM, GRU or RNN node of ONNX <-> a recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carousel import layout
from carousel.errors import CarouselError, FormatError, UnsupportedError
from carousel.network import Recurrent, Weights

__all__ = ["INPUTS", "KINDS", "arrays_of", "attributes_of", "recurrent"]

Array = NDArray[Any]

KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_KNOWN = {
    "activation_alpha",
    "activation_beta",
    "activations",
    "clip",
    "direction",
    "hidden_size",
    "input_forget",
    "layout",
    "linear_before_reset",
}
_PLAIN = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def recurrent(
    title: str, kind: str, attributes: Mapping[str, Any], W: Array, R: Array, B: Array | None, P: Array | None
) -> Recurrent:
    """The layer of a node, its outputs 0 where a row has ended.

    Args:
        title: names the node in errors.
        kind: "LSTM", "GRU" or "RNN".
        attributes: by name, text as str.
        W: (D, GH, I).
        R: (D, GH, H).
        B: (D, 2GH), or None.
        P: (D, 3H) peepholes in the order i o f, or None.

    Raises:
        UnsupportedError: an activation or attribute that our cells do not have.
        FormatError: arrays that do not fit one another.
    """
    unknown = sorted(set(attributes) - _KNOWN)
    if unknown:
        raise UnsupportedError(f"{title} has the attribute `{unknown[0]}`, which is not supported")
    direction = attributes.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise FormatError(f"{title} has `direction` = {direction!r}")
    D = 2 if direction == "bidirectional" else 1
    for name, array in (("W", W), ("R", R), ("B", B), ("P", P)):
        if array is not None and (array.ndim != (2 if name in "BP" else 3) or len(array) != D):
            raise FormatError(f"{title}: `{name}` has shape {array.shape}, which is not of {D} directions")
    H = R.shape[2]
    if attributes.get("hidden_size", H) != H:
        raise FormatError(f"{title} has `hidden_size` = {attributes['hidden_size']}, but weights of {H}")
    coupled = kind == "LSTM" and bool(attributes.get("input_forget", 0))
    try:
        directions = tuple(
            _weights(
                KINDS[kind], W[d], R[d], None if B is None else B[d], None if P is None else P[d], coupled
            )
            for d in range(D)
        )
        return Recurrent(
            cast(Any, KINDS[kind]),
            directions,
            reset="before" if kind == "GRU" and not attributes.get("linear_before_reset", 0) else "after",
            activation=cast(Any, _activation(title, kind, attributes, D)),
            coupled_gates=coupled,
            clip=_clip(attributes.get("clip"), W),
            reverse=direction == "reverse",
            zero_output_for_mask=True,
        )
    except UnsupportedError:
        raise
    except CarouselError as error:
        raise FormatError(f"{title}: {str(error).rstrip('.')}") from None


def attributes_of(layer: Recurrent) -> dict[str, Any]:
    """The attributes of the node of a layer."""
    direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
    attributes: dict[str, Any] = {"hidden_size": layer.hidden_size, "direction": direction}
    if layer.clip is not None:
        attributes["clip"] = layer.clip
    if layer.cell == "lstm" and layer.coupled_gates:
        attributes["input_forget"] = 1
    if layer.cell == "gru":
        attributes["linear_before_reset"] = int(layer.reset == "after")
    if layer.cell == "rnn":
        attributes["activations"] = [layer.activation.title()] * len(layer.directions)
    return attributes


def arrays_of(layer: Recurrent) -> dict[str, Array]:
    """W, R, B and, with peepholes, P of the node of a layer."""
    each = []
    for w in layer.directions:
        arrays = (w.W, w.R, w.b_W, w.b_R)
        if layer.coupled_gates:  # the rows of f are there, and not read
            arrays = cast(Any, tuple(_with_forget_rows(a, layer.hidden_size) for a in arrays))
        found = dict(zip("WRB", layout.to_onnx(layer.cell, *arrays), strict=True))
        if w.peephole is not None:
            rows = [*w.peephole]
            p_i, p_o = rows[0], rows[-1]
            p_f = np.zeros_like(p_i) if layer.coupled_gates else rows[1]
            found["P"] = np.concatenate([p_i, p_o, p_f])
        each.append(found)
    return {name: np.stack([found[name] for found in each]) for name in each[0]}


def _weights(cell: str, W: Array, R: Array, B: Array | None, P: Array | None, coupled: bool) -> Weights:
    arrays: Any = layout.from_onnx(cast(Any, cell), W, R, B)
    H = R.shape[-1]
    peephole = None
    if P is not None:
        if P.shape != (3 * H,):
            raise FormatError(f"`P` must have shape (D, 3H) with H = {H}, got {P.shape} of one direction")
        p_i, p_o, p_f = np.split(P, 3)
        peephole = np.stack([p_i, p_o] if coupled else [p_i, p_f, p_o])
    if coupled:
        arrays = [np.delete(a, np.s_[H : 2 * H], axis=0) for a in arrays]
    kernel, recurrent_kernel, b_W, b_R = arrays
    return Weights(kernel, recurrent_kernel, b_W, b_R, peephole)


def _clip(clip: float | None, W: Array) -> float | None:
    """The bound, which ONNX keeps as float32: for weights of float32 the shortest number that is the same there."""
    return clip if clip is None or W.dtype != np.float32 else float(str(np.float32(clip)))


def _with_forget_rows(rows: Array, H: int) -> Array:
    return np.insert(rows, [H] * H, 0, axis=0)  # i g o -> i f g o


def _activation(title: str, kind: str, attributes: Mapping[str, Any], D: int) -> str:
    """ "tanh" or "relu"; names are not case-sensitive in ONNX."""
    named = [str(name) for name in attributes.get("activations") or []]
    plain = _PLAIN.get(kind, ["Tanh"])
    wanted = [plain] if kind != "RNN" else [["Tanh"], ["Relu"]]
    for choice in wanted:
        all_of_them = [name.lower() for name in choice * D]
        if (
            not named or [name.lower() for name in named[: len(all_of_them)]] == all_of_them
        ):  # RNN's default is two
            return choice[-1].lower()
    raise UnsupportedError(
        f"{title} has `activations` = {', '.join(named)[:80]}; "
        f"{' or '.join(', '.join(choice) for choice in wanted)} of every direction is supported"
    )
