"""One direction of a recurrent layer with every option, and with steps left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import _core
from carousel.network import Recurrent, Weights
from carousel.stream.layers import cell_name

__all__ = ["Direction"]

Array = NDArray[Any]

# carousel_cell and carousel_dtype of csrc/carousel.h
_CELLS = {"lstm": 0, "gru": 1, "gru_reset_before": 2, "rnn_tanh": 3, "rnn_relu": 4, "lstm_coupled": 5}
_DTYPES = {"float32": 0, "float64": 1}


class Direction:
    """On the kernels' door for addresses, which has all options; it packs the weights in every call."""

    def __init__(self, layer: Recurrent, weights: Weights, backwards: bool, low_precision: bool) -> None:
        self._kernel = _core.Layers(
            _CELLS[cell_name(layer)],
            _DTYPES[str(layer.dtype)],
            layer.input_size,
            layer.hidden_size,
            clip=layer.clip or 0.0,
            low_precision=low_precision,
        )
        w = weights
        self._weights = [w.W, w.R, w.b_W, w.b_R, None, w.peephole]  # kept alive with their addresses
        self._addresses = [_address(array) for array in self._weights]
        self._backwards, self._zero = backwards, layer.zero_output_for_mask

    def run(self, x: Array, mask: Array | None, h: Array, c: Array | None) -> Array:
        """y (T, B, H) of x (T, B, I); h and c (B, H) become the state after the last step.

        Args:
            mask: (T, B), False where a step is left out: the state stays, and y is that of the step before, or 0.
        """
        if self._backwards:
            y = self._forwards(x[::-1], None if mask is None else mask[::-1], h, c)
            return y[::-1]
        return self._forwards(x, mask, h, c)

    def _forwards(self, x: Array, mask: Array | None, h: Array, c: Array | None) -> Array:
        if mask is None:
            return self._call(x, None, h, c)
        # The steps that count come first in every row; then the kernel stops where they end.
        order = np.argsort(~mask, axis=0, kind="stable")
        start = h.copy()
        y = self._call(_steps(x, order), np.count_nonzero(mask, axis=0).astype(np.int64), h, c)
        steps_so_far = np.cumsum(mask, axis=0)
        y = _steps(np.concatenate([start[None], y]), steps_so_far)
        if self._zero:
            y[~mask] = 0
        return y

    def _call(self, x: Array, lengths: Array | None, h: Array, c: Array | None) -> Array:
        x = np.require(x, requirements=["C", "A"])
        (T, B, I), H = x.shape, h.shape[1]
        y = np.zeros((T, B, H), x.dtype)
        if 0 in y.shape:
            return y
        h_n, c_n = np.empty_like(h), None if c is None else np.empty_like(c)
        self._kernel.forward(
            T, B, (_address(x), B * I, I), _address(h), _address(c), self._addresses, [], (_address(y), B * H, H),
            _address(h_n), _address(c_n), block=0, lengths=_address(lengths),
        )  # fmt: skip
        h[...] = h_n
        if c is not None:
            c[...] = c_n
        return y


def _steps(sequence: Array, which: Array) -> Array:
    """(T, B, F) of a sequence (·, B, F): in row b step t is step `which[t, b]`."""
    _, B, F = sequence.shape
    steps: Array = sequence.reshape(-1, F)[which * B + np.arange(B)]
    return steps


def _address(array: Array | None) -> int:
    return 0 if array is None else int(array.ctypes.data)
