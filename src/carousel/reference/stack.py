"""Layers upon layers, in one direction or in both, and a dense head.

    layer l reads what layer l - 1 gave;  two directions give [forward, backward], (T, B, 2H)

The second direction reads the sequence from its end, and its output is turned round again: at step t it
has seen x_t … x_T. A head on the last step therefore sees all of the sequence through the first direction,
and through the second only the last step (so does `output[-1]` in torch; Keras's Bidirectional instead
takes each direction's final state). A row that ends early is turned round within its own length.

Source: Schuster and Paliwal (1997), for the two directions.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from carousel.errors import ArgumentError, ShapeError, UnsupportedError, check_choice, check_shape
from carousel.layout import Array, Cell, Weights
from carousel.reference import dense, gru, lstm, rnn
from carousel.reference.dense import Dense
from carousel.reference.door_options import check_lengths
from carousel.reference.options import Options

CELLS: Mapping[Cell, Any] = {"lstm": lstm, "gru": gru, "rnn": rnn}


class Layer(NamedTuple):
    """A recurrent layer: one set of weights a direction, of which there are one or two."""

    cell: Cell
    directions: Sequence[Weights]
    options: Mapping[str, str] = MappingProxyType(
        {}
    )  # those of the cell's `forward`: reset, update; activation
    beyond: Sequence[Options] = ()  # what each direction does beyond its equations; empty is nothing


class Stack(NamedTuple):
    """The network as a value."""

    layers: Sequence[Layer]
    head: Dense | None = None
    head_on: Literal["every", "last"] = "every"  # step


class Cache(NamedTuple):
    """The caches of the parts."""

    layers: list[list[Any]]  # a cell's cache per layer and direction
    head: dense.Cache | None
    shape: tuple[int, ...]  # of what the last layer gave
    lengths: Array | None  # (B,)


class Gradients(NamedTuple):
    """∂L/∂ of what `forward` was given, each shaped like it; a gradient stands where its weight stood."""

    x: Array
    w: Stack
    states: list[list[Any]]


def step(x: Array, states: Sequence[Sequence[Any]], w: Stack) -> tuple[Array, list[list[Any]], list[Any]]:
    """One step of all layers and the head.

    Args:
        x: (B, I).
        states: per layer and direction the state of its cell.
        w: the network; its layers have one direction.

    Returns:
        y (B, H), or (B, O) with a head; the new states; the gates of every layer.

    Raises:
        UnsupportedError: a layer has two directions; the second starts at the end, which is yet to come.
    """
    new_states, gates = [], []
    for k, layer in enumerate(w.layers):
        if len(layer.directions) > 1:
            raise UnsupportedError(f"`layers[{k}]` reads in both directions and cannot go step by step.")
        (beyond,) = _beyond(layer)
        state, seen = CELLS[layer.cell].step(
            x, *states[k], *layer.directions, options=beyond, **layer.options
        )
        x = state.h if layer.cell == "lstm" else state
        new_states.append([state])
        gates.append(seen)
    y = x if w.head is None else dense.forward(x, w.head)[0]
    return y, new_states, gates


def forward(
    x: Array,
    w: Stack,
    states: Sequence[Sequence[Any]] | None = None,
    *,
    lengths: Array | Sequence[int] | None = None,
) -> tuple[Array, list[list[Any]], Cache]:
    """T steps of all layers and the head.

    Args:
        x: (T, B, I).
        w: the network.
        states: per layer and direction the initial state of its cell; None is zeros.
        lengths: the steps of each row, (B,); None is T.

    Returns:
        y: (T, B, DH); with a head on every step (T, B, O), on the last (B, O). It is 0 where a row has ended.
        The states after the last step, per layer and direction; the cache.

    Raises:
        ShapeError: an array has the wrong shape; the head is on the last step, and there is none.
        ArgumentError: a length is out of its range.

    Example:
        >>> def weights(I, H):
        ...     return Weights(np.ones((4 * H, I)), np.ones((4 * H, H)), np.zeros(4 * H), np.zeros(4 * H))
        >>> both = Layer("lstm", [weights(3, 5), weights(3, 5)])
        >>> head = Dense(np.ones((1, 2)), np.zeros(1), "sigmoid")
        >>> net = Stack([both, Layer("lstm", [weights(10, 2)])], head)
        >>> y, states, cache = forward(np.ones((7, 4, 3)), net)
        >>> y.shape
        (7, 4, 1)
    """
    check_choice("head_on", w.head_on, ("every", "last"))
    finals, caches = [], []
    steps = None if lengths is None else check_lengths(lengths, *x.shape[:2])
    for layer, state in zip(w.layers, states or _none(w), strict=True):
        check_choice("cell", layer.cell, tuple(CELLS))
        check_choice("len(directions)", len(layer.directions), (1, 2))
        x, final, cache = _layer_forward(x, layer, state, steps)
        finals.append(final)
        caches.append(cache)
    shape = x.shape
    if w.head is None:
        return x, finals, Cache(caches, None, shape, steps)
    if w.head_on == "last":
        y, seen = dense.forward(_last(x, steps), w.head)
        return y, finals, Cache(caches, seen, shape, steps)
    y, seen = dense.forward(x, w.head)
    return _alive(y, steps), finals, Cache(caches, seen, shape, steps)


def backward(dy: Array, w: Stack, cache: Cache, dstates: Sequence[Sequence[Any]] | None = None) -> Gradients:
    """The gradients, back through the head, all layers and all steps.

    Args:
        dy: ∂L/∂y, shaped as `forward` gave y.
        w: the network that `forward` was given.
        cache: what `forward` returned.
        dstates: ∂L/∂ of the last states beyond what `dy` says; None is zeros.
    """
    dhead = None
    if w.head is not None and cache.head is not None:
        check_shape("dy", dy, ", ".join(map(str, cache.head.y.shape)))
        if w.head_on == "every":
            dy, dhead = dense.backward(_alive(dy, cache.lengths), w.head, cache.head)
        else:
            dlast, dhead = dense.backward(dy, w.head, cache.head)
            dy = np.zeros(cache.shape, dlast.dtype)
            dy[_ends(cache.shape, cache.lengths)] = dlast
    dlayers, dinitials = list(w.layers), list(cache.layers)
    dstates = dstates or _none(w)
    for k in reversed(range(len(w.layers))):
        dy, dlayers[k], dinitials[k] = _layer_backward(
            dy, w.layers[k], cache.layers[k], dstates[k], cache.lengths
        )
    return Gradients(dy, Stack(dlayers, dhead, w.head_on), dinitials)


def turn(sequence: Array, lengths: Array | None = None) -> Array:
    """Each row (T, B, ·) from its last step to its first; what is beyond its end stays there. Its own inverse.

    Example:
        >>> turn(np.array([[[1], [5]], [[2], [6]], [[3], [0]]]), np.array([3, 2]))[..., 0].T
        array([[3, 2, 1],
               [6, 5, 0]])
    """
    if lengths is None:
        return sequence[::-1]
    t = np.arange(len(sequence))[:, None]
    return np.take_along_axis(sequence, np.where(t < lengths, lengths - 1 - t, t)[..., None], axis=0)


def _layer_forward(
    x: Array, layer: Layer, states: Sequence[Any], lengths: Array | None
) -> tuple[Array, list[Any], list[Any]]:
    """One layer: y (T, B, DH), the last state and the cache of each direction."""
    ys, finals, caches = [], [], []
    for d, (w, state, beyond) in enumerate(zip(layer.directions, states, _beyond(layer), strict=True)):
        y, final, cache = CELLS[layer.cell].forward(
            _turned(x, d, lengths), w, state, options=beyond, lengths=lengths, **layer.options
        )
        ys.append(_turned(y, d, lengths))
        finals.append(final)
        caches.append(cache)
    return np.concatenate(ys, axis=-1), finals, caches


def _layer_backward(
    dy: Array, layer: Layer, caches: Sequence[Any], dstates: Sequence[Any], lengths: Array | None
) -> tuple[Array, Layer, list[Any]]:
    """One layer: dx (T, B, I), a layer of gradients, and those of the initial states."""
    dys = np.split(dy, len(layer.directions), axis=-1)
    dxs, dws, dinitials, dbeyond = [], [], [], []
    for d, (w, cache, dstate) in enumerate(zip(layer.directions, caches, dstates, strict=True)):
        gradients = CELLS[layer.cell].backward(_turned(dys[d], d, lengths), w, cache, dstate)
        dxs.append(_turned(gradients.x, d, lengths))
        dws.append(gradients.w)
        dinitials.append(gradients.state)
        dbeyond += [gradients.options] if layer.beyond else []
    return sum(dxs[1:], dxs[0]), layer._replace(directions=dws, beyond=dbeyond), dinitials


def _beyond(layer: Layer) -> Sequence[Options | None]:
    """The options of each direction, None where there are none."""
    return layer.beyond or [None for _ in layer.directions]


def _ends(shape: tuple[int, ...], lengths: Array | None) -> Any:
    """The index of the last step of every row."""
    return -1 if lengths is None else (lengths - 1, np.arange(shape[1]))


def _last(x: Array, lengths: Array | None) -> Array:
    """The last step of every row, (B, ·)."""
    if len(x) == 0:
        raise ShapeError("`x` must have at least one step for a head on the last one, got 0.")
    if lengths is not None and not (lengths > 0).all():
        raise ArgumentError(
            f"`lengths` must be at least 1 for a head on the last step, got {lengths.tolist()}."
        )
    last: Array = x[_ends(x.shape, lengths)]
    return last


def _alive(sequence: Array, lengths: Array | None) -> Array:
    """The sequence, 0 where a row has ended."""
    if lengths is None:
        return sequence
    return np.where(np.arange(len(sequence))[:, None, None] < lengths[:, None], sequence, 0)


def _none(w: Stack) -> list[list[None]]:
    """No state for any layer and direction."""
    return [[None for _ in layer.directions] for layer in w.layers]


def _turned(sequence: Array, direction: int, lengths: Array | None) -> Array:
    """The sequence as this direction reads it: the second one, from the end."""
    return turn(sequence, lengths) if direction == 1 else sequence
