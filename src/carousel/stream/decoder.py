"""The recurrent path of a forecaster on the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel.network.forecaster import RecurrentPath
from carousel.stream.layers import compiled, dense, recurrent

__all__ = ["SegmentDecoder"]

Array = np.ndarray[Any, Any]


class SegmentDecoder:
    """Segments of the window in, all future segments out at once; immutable."""

    def __init__(self, path: RecurrentPath) -> None:
        self.path = path
        self._kernels = [compiled(layer) for layer in path.layers]

    def run(self, past: Array, future: Array) -> Array:
        """What the path says of every row to come, before it is shrunk.

        Args:
            past: (T, B, ·) of `past_segments`.
            future: (J, B, ·) of `future_segments`.

        Returns:
            (B, J * segment).
        """
        path = self.path
        J, B, _ = future.shape
        states = []
        x = dense(path.embed, past)
        for layer, kernels in zip(path.layers, self._kernels, strict=True):
            h = np.zeros((B, layer.hidden_size), x.dtype)
            c = np.zeros_like(h) if layer.cell == "lstm" else None
            x = recurrent(kernels, x, [(h, c)])
            states.append((h, c))
        # Each future segment is one step from the same last state: J segments are a batch of J * B.
        x = dense(path.position, future).reshape(1, J * B, -1)
        for kernels, (h, c) in zip(self._kernels, states, strict=True):
            x = recurrent(kernels, x, [(np.tile(h, (J, 1)), None if c is None else np.tile(c, (J, 1)))])
        rows = dense(path.head, x[0]).reshape(J, B, path.segment)
        return np.ascontiguousarray(rows.swapaxes(0, 1)).reshape(B, J * path.segment)
