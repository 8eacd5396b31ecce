"""Weights per gate, as NumPy tutorials have them, to Network and back; v = [h; x] is the state above the input.

    LSTM   f = σ(Wf v + bf)   i = σ(Wi v + bi)   o = σ(Wo v + bo)   c' = f c + i tanh(Wc v + bc)   h' = o tanh(c')
    GRU    r = σ(W_r v + b_r)   z = σ(W_z v + b_z)   h' = (1 - z) h + z tanh(W_a [r h; x] + b_a)

Both are exact here: the GRU's z is the share of the candidate, which is ours with the sign of its rows turned, and its
reset gate acts before the product. Every `load` and `save` ends with a trial of these equations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carousel import layout
from carousel.errors import ArgumentError, CarouselError, FormatError, UnsupportedError
from carousel.interop.verification import Conversion, Trial, random_state, sample
from carousel.network import Network, Recurrent, Weights

__all__ = ["load", "read", "save"]

Array = NDArray[Any]
Layer = Mapping[str, Array]

_NAMES: dict[str, tuple[str, ...]] = {  # in the order of `carousel.layout`
    "lstm": ("Wf", "Wi", "Wo", "Wc", "bf", "bi", "bo", "bc"),
    "gru": ("W_r", "W_z", "W_a", "b_r", "b_z", "b_a"),
}
_CHECK = "the equations of one step, gate by gate, in NumPy"
T, B = 7, 3  # of the trial


def load(*layers: Layer) -> Network:
    """The Network of LSTM and GRU layers, bottom first.

    Args:
        layers: of an LSTM `Wf Wi Wo Wc` (H, H + I) and `bf bi bo bc` (H,) or (H, 1); of a GRU `W_r W_z W_a` and
            `b_r b_z b_a`, likewise.

    Raises:
        FormatError: a name is missing or unknown, arrays do not fit, or a number is not finite.

    Example:
        >>> W = np.zeros((5, 8))
        >>> load({"W_r": W, "W_z": W, "W_a": W, "b_r": np.zeros(5), "b_z": np.zeros(5), "b_a": np.zeros(5)})
        Network(Recurrent(GRU, reset before, 3 -> 5))
    """
    network: Network = read(*layers).network
    return network


def read(*layers: Layer) -> Conversion:
    """As `load`, with the largest difference of the trial, and which check ran."""
    made = tuple(_layer(k, layer) for k, layer in enumerate(layers))
    try:
        network = Network(made)
    except CarouselError as error:
        raise FormatError(str(error)) from None
    told = tuple((f"layers[{k}]: {' '.join(layer)}", made[k].title) for k, layer in enumerate(layers))
    return Conversion(network, _trial(network, layers), _CHECK, told)


def save(network: Network) -> tuple[dict[str, Array], ...]:
    """The weights per gate of every layer, bottom first; biases are (H,).

    Raises:
        UnsupportedError: anything but LSTM layers, and GRU layers that reset before the product, of one direction.
    """
    for k, layer in enumerate(network.layers):
        if not isinstance(layer, Recurrent) or layer.cell == "rnn" or layer.beyond or layer.bidirectional:
            raise UnsupportedError(
                f"`layers[{k}]` is {layer!r}; LSTM and GRU of one direction have weights per gate."
            )
        if layer.cell == "gru" and layer.reset == "after":
            raise UnsupportedError(
                f"`layers[{k}]` is {layer!r}, which resets after the product; weights per gate have it before."
            )
    made = tuple(_gates(layer) for layer in network.recurrent)
    _trial(network, made)
    return made


def _layer(k: int, layer: Layer) -> Recurrent:
    if not isinstance(layer, Mapping):
        raise ArgumentError(
            f"`layers[{k}]` must be a dictionary of arrays by name, got {type(layer).__name__}."
        )
    cell = next((cell for cell, names in _NAMES.items() if names[0] in layer), None)
    if cell is None or set(layer) != set(_NAMES[cell]):
        wanted = "; or ".join(" ".join(names) for names in _NAMES.values())
        raise FormatError(
            f"`layers[{k}]` must have the names {wanted}, got {' '.join(map(str, layer))[:160] or 'none'}."
        )
    arrays = [np.asarray(layer[name]) for name in _NAMES[cell]]
    _check_shapes(k, _NAMES[cell], arrays)
    count = len(arrays) // 2
    try:
        made = layout.from_gates(cast(Any, cell), arrays[:count], arrays[count:])
        if cell == "gru":
            made = layout.opposite_update(*made)
        return Recurrent(cast(Any, cell), (Weights(*made),), reset="before" if cell == "gru" else "after")
    except CarouselError as error:
        raise FormatError(f"`layers[{k}]`: {error}") from None


def _check_shapes(k: int, names: Sequence[str], arrays: Sequence[Array]) -> None:
    """Names the array that does not fit the others: the shape of most weights is taken for that of the layer."""
    weights = len(names) // 2
    ((shape, _),) = Counter(array.shape for array in arrays[:weights]).most_common(1)
    for place, (name, array) in enumerate(zip(names, arrays, strict=True)):
        fits = (shape,) if place < weights else ((*shape[:1],), (*shape[:1], 1))
        if array.shape not in fits:
            wanted = f"{shape}, as most weights have" if place < weights else " or ".join(map(str, fits))
            raise FormatError(f"`layers[{k}]`: `{name}` must have shape {wanted}, got {array.shape}.")


def _gates(layer: Recurrent) -> dict[str, Array]:
    (w,) = layer.directions
    arrays: Any = (w.W, w.R, w.b_W, w.b_R)
    if layer.cell == "gru":
        arrays = layout.opposite_update(*arrays)
    weights, biases = layout.to_gates(layer.cell, *arrays)
    return dict(zip(_NAMES[layer.cell], (*weights, *biases), strict=True))


def _trial(network: Network, layers: Sequence[Layer]) -> float:
    from carousel.stream import Model

    rng, model = np.random.default_rng(0), Model(network)
    x, state = sample(network, rng, T, B), random_state(model, rng, B)
    y, _ = model.run_from(x, state)
    expected = x.astype(np.float64)
    for layer, h_0, c_0 in zip(layers, state.h, state.c, strict=True):
        expected = _evaluate(layer, expected, h_0, c_0)
    return Trial(network, x, state).check(y, expected, "by the equations per gate, the model")


def _evaluate(layer: Layer, x: Array, h: Array, c: Array | None) -> Array:
    """The outputs (T, B, H), from the equations at the top."""
    p = {name: np.asarray(a, np.float64) for name, a in layer.items()}
    p |= {name: a.reshape(-1) for name, a in p.items() if name.startswith("b")}
    h, outputs = h.astype(np.float64), []
    for x_t in x:
        v = np.concatenate([h, x_t], -1)
        if c is not None:
            f, i, o = (_sigmoid(v @ p[f"W{gate}"].T + p[f"b{gate}"]) for gate in "fio")
            c = f * c + i * np.tanh(v @ p["Wc"].T + p["bc"])
            h = o * np.tanh(c)
        else:
            r, z = (_sigmoid(v @ p[f"W_{gate}"].T + p[f"b_{gate}"]) for gate in "rz")
            candidate = np.tanh(np.concatenate([r * h, x_t], -1) @ p["W_a"].T + p["b_a"])
            h = (1 - z) * h + z * candidate
        outputs.append(h)
    return np.stack(outputs)


def _sigmoid(a: Array) -> Array:
    y: Array = np.exp(-np.logaddexp(0, -a))
    return y
