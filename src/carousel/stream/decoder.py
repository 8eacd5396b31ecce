"""The recurrent path of a forecaster on the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel import _core
from carousel.network import LastStep
from carousel.network.forecaster import RecurrentPath
from carousel.stream.layers import compiled

__all__ = ["SegmentDecoder"]

Array = np.ndarray[Any, Any]


class SegmentDecoder:
    """Segments of the window in, all future segments out at once; immutable."""

    def __init__(self, path: RecurrentPath) -> None:
        self.path = path
        layers = [compiled(layer) for layer in path.layers]
        self._reader = _core.Stack((compiled(path.embed), *layers, compiled(LastStep())))
        self._writer = _core.Stack((compiled(path.position), *layers, compiled(path.head)))
        self._states = [(layer.hidden_size, layer.cell == "lstm") for layer in path.layers]

    def run(self, past: Array, future: Array) -> Array:
        """What the path says of every row to come, before it is shrunk.

        Args:
            past: (T, B, ·) of `segments`.
            future: (J, B, ·) of `segments`.

        Returns:
            (B, J * segment).
        """
        path = self.path
        J, B, I = future.shape
        h: tuple[Array, ...] = tuple([np.zeros((B, H), past.dtype) for H, _ in self._states])
        c: tuple[Array | None, ...] = tuple(
            [np.zeros((B, H), past.dtype) if has else None for H, has in self._states]
        )
        read = self._reader.run(past, h, c, np.empty((B, path.layers[-1].output_size), past.dtype))
        assert read
        # Each future segment is one step from the same last state: J segments are a batch of J * B.
        if J > 1:
            h = tuple(np.tile(a, (J, 1)) for a in h)
            c = tuple(None if a is None else np.tile(a, (J, 1)) for a in c)
        rows = np.empty((J * B, path.segment), past.dtype)
        written = self._writer.step_into(future.reshape(J * B, I), h, c, rows)
        assert written
        rows = rows.reshape(J, B, path.segment)
        return np.ascontiguousarray(rows.swapaxes(0, 1)).reshape(B, J * path.segment)
