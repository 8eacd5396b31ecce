"""The layers of a Network as the compiled module takes them; nothing checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import _core
from carousel.network import Dense, LastStep, Recurrent

__all__ = ["cell_name", "compiled", "zeros"]

Array = NDArray[Any]


def compiled(layer: Recurrent | Dense | LastStep, *, low_precision: bool = False) -> _core.StackLayer:
    """`layer` as `_core.Stack` takes it, its weights packed; one object may stand in several stacks.

    Args:
        layer: of the network.
        low_precision: W, R, x and h of a recurrent layer are rounded to bfloat16 for its products.
    """
    if isinstance(layer, LastStep):
        return None
    if isinstance(layer, Dense):
        return _core.Dense(layer.W, layer.b, layer.activation)
    assert not layer.beyond
    name = cell_name(layer)
    return tuple(
        _core.Layer(name, w.W, w.R, w.b_W, w.b_R, reverse=reverse, low_precision=low_precision)
        for w, reverse in zip(layer.directions, (False, True), strict=False)
    )


def cell_name(layer: Recurrent) -> str:
    """What the compiled module calls the cell."""
    if layer.cell == "gru" and layer.reset == "before":
        return "gru_reset_before"
    if layer.coupled_gates:
        return "lstm_coupled"
    return f"rnn_{layer.activation}" if layer.cell == "rnn" else layer.cell


def zeros(layers: Sequence[Recurrent], batch: int) -> tuple[tuple[Array, ...], tuple[Array | None, ...]]:
    """The state before the first step: (h, c), each of every direction of `layers`, (B, H)."""
    h = tuple(np.zeros((batch, layer.hidden_size), layer.dtype) for layer in layers for _ in layer.directions)
    cells = (layer.cell for layer in layers for _ in layer.directions)
    c = tuple(np.zeros_like(a) if cell == "lstm" else None for a, cell in zip(h, cells, strict=True))
    return h, c
