"""Networks of more than plain layers, layer after layer: masks, merged directions, and what stands between.

It stands in for `_core.Stack`, whose one call runs what is plain: every layer here is a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import _core
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Masking,
    Normalization,
    Recurrent,
    Reverse,
)
from carousel.stream.direction import Direction
from carousel.stream.layers import compiled

__all__ = ["Pipeline", "is_plain", "stack"]

Array = NDArray[Any]
Part = Callable[
    [Array, Array | None, Array | None, Sequence[Array], Sequence[Array | None]], tuple[Array, Array | None]
]
"""(x, mask (T, B) of the steps that count, lengths (B,), h, c) -> (y, mask); h and c are overwritten."""


def is_plain(layer: Layer) -> bool:
    """Whether `_core.Stack` runs it."""
    return isinstance(layer, Dense | LastStep) or (isinstance(layer, Recurrent) and not layer.beyond)


def stack(layers: Sequence[Layer], low_precision: bool) -> _core.Stack:
    """Plain layers, compiled."""
    return _core.Stack(tuple(compiled(layer, low_precision=low_precision) for layer in layers))  # type: ignore[arg-type]


class Pipeline:
    """Layers one after the other, of which `_core.Stack` has not all; immutable."""

    def __init__(self, layers: Sequence[Layer], low_precision: bool) -> None:
        self._parts: list[tuple[Part, int]] = []
        for layer in layers:
            count = len(layer.directions) if isinstance(layer, Recurrent) else 0
            self._parts.append((_part(layer, low_precision), count))

    def run(
        self, x: Array, h: Sequence[Array], c: Sequence[Array | None], y: Array, lengths: Array | None = None
    ) -> bool:
        """As `_core.Stack.run`; steps beyond `lengths` (B,) are left out, whatever the layers' own masks say."""
        within = None
        if lengths is not None:
            within = np.arange(len(x))[:, None] < lengths
            x = np.where(within if x.ndim == 2 else within[..., None], x, x.dtype.type(0))
        done, mask = 0, within
        for part, count in self._parts:
            x, mask = part(x, mask, lengths, h[done : done + count], c[done : done + count])
            if mask is not None and within is not None:
                mask = mask & within
            done += count
        y[...] = x
        return True

    def step(self, *_: object) -> None:
        """None: `run` has to do it."""

    def step_into(self, *_: object) -> bool:
        """False: likewise."""
        return False


def _part(layer: Layer, low_precision: bool) -> Part:
    if isinstance(layer, Recurrent):
        return _recurrent(layer, low_precision)
    if isinstance(layer, Masking):
        return lambda x, mask, lengths, h, c: _masked(layer, x)
    if isinstance(layer, Embedding):
        return lambda ids, mask, lengths, h, c: (layer.W[ids], ids != 0 if layer.mask_zero else mask)
    if isinstance(layer, LastStep):
        return lambda x, mask, lengths, h, c: (_last(x, lengths), None)
    if isinstance(layer, Reverse):
        return lambda x, mask, lengths, h, c: (_reversed(x, lengths), mask)
    function = _function(layer)
    return lambda x, mask, lengths, h, c: (function(x), mask)


def _last(x: Array, lengths: Array | None) -> Array:
    """The last step of each row; of one without steps that which a recurrent layer gives for its state."""
    y: Array = x[-1] if lengths is None else x[np.maximum(lengths, 1) - 1, np.arange(x.shape[1])]
    return y


def _reversed(x: Array, lengths: Array | None) -> Array:
    """Every row turned round, within its length; what is beyond stays where it is."""
    if lengths is None:
        return x[::-1]
    t = np.arange(len(x))[:, None]
    y: Array = x[np.where(t < lengths, lengths - 1 - t, t), np.arange(x.shape[1])]
    return y


def _function(layer: Dense | Activation | Normalization) -> Callable[[Array], Array]:
    """What a layer computes that knows neither masks nor states."""
    if isinstance(layer, Dense):
        return _dense(layer)
    if isinstance(layer, Activation):
        return _ACTIVATIONS[layer.function]
    mean, scale = layer.mean, layer.scale
    return (lambda x: mean + x * scale) if layer.invert else (lambda x: (x - mean) / scale)


def _dense(layer: Dense) -> Callable[[Array], Array]:
    one = stack([layer], False)

    def dense(x: Array) -> Array:
        y = np.empty((*x.shape[:-1], layer.output_size), x.dtype)
        x = np.require(x, requirements=["C", "A"])
        done = one.run(x, (), (), y) if x.ndim == 3 else one.step_into(x, (), (), y)
        assert done
        return y

    return dense


def _recurrent(layer: Recurrent, low_precision: bool) -> Part:
    plain = None if layer.beyond else stack([layer], low_precision)
    directions = [
        Direction(layer, w, layer.reverse or k == 1, low_precision) for k, w in enumerate(layer.directions)
    ]

    def recurrent(
        x: Array, mask: Array | None, _: Array | None, h: Sequence[Array], c: Sequence[Array | None]
    ) -> tuple[Array, Array | None]:
        x = np.require(x, requirements=["C", "A"])
        if plain is not None and mask is None:
            y = np.empty((*x.shape[:-1], layer.output_size), x.dtype)
            done = plain.run(x, tuple(h), tuple(c), y)
            assert done
            return y, None
        given = zip(directions, h, c, strict=True)
        ys = [direction.run(x, mask, h_d, c_d) for direction, h_d, c_d in given]
        if not layer.return_sequences:
            return _merged(layer.merge, list(h)), None
        return _merged(layer.merge, ys), mask

    return recurrent


def _merged(merge: str, ys: Sequence[Array]) -> Array:
    if len(ys) == 1 or merge == "concat":
        return np.concatenate(ys, axis=-1)  # a copy: a state goes on
    forward, backward = ys
    y: Array = forward * backward if merge == "mul" else forward + backward
    if merge == "ave":
        y = y / y.dtype.type(2)
    return y


def _masked(layer: Masking, x: Array) -> tuple[Array, Array]:
    alive = (x != x.dtype.type(layer.value)).any(axis=-1)
    return np.where(alive[..., None], x, x.dtype.type(0)), alive


def _sigmoid(x: Array) -> Array:
    return _applied("sigmoid", x)


def _tanh(x: Array) -> Array:
    return _applied("tanh", x)


def _applied(function: str, x: Array) -> Array:
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty_like(flat)
    _core.apply(function, flat, y)
    return y.reshape(x.shape)


def _relu(x: Array) -> Array:
    y: Array = np.maximum(x, x.dtype.type(0))
    return y


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


_ACTIVATIONS = {"sigmoid": _sigmoid, "tanh": _tanh, "relu": _relu, "softmax": _softmax}
