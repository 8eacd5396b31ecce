"""A Network, run: many steps at once or one after the other, with the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import (
    ArgumentError,
    ShapeError,
    UnsupportedError,
    check_dtype,
    check_integer,
    check_shape,
)
from carousel.network import Dense, Network, Recurrent
from carousel.stream.layers import compiled, dense, recurrent

__all__ = ["NetworkModel", "State"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class State:
    """What a network remembers between two steps; a plain value, to be copied, kept or sent.

    Args:
        h: (B, H) of each recurrent layer, bottom first; of one with two directions forward, then backward.
        c: likewise; None where the cell is no LSTM.
    """

    h: tuple[Array, ...]
    c: tuple[Array | None, ...]

    def copy(self) -> State:
        return State(tuple(h.copy() for h in self.h), tuple(None if c is None else c.copy() for c in self.c))


class NetworkModel:
    """Runs a Network on the compiled kernels; immutable, safe from several threads.

    Everything is of the network's dtype, every sequence (T, B, I). A step gives what `run` gives for
    it; a LastStep passes every step on, for each is the last one so far.

    Args:
        network: its weights are packed here, once.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._plan = [
            (layer, compiled(layer) if isinstance(layer, Recurrent) else ()) for layer in network.layers
        ]
        # What every step asks of the network, which would work it out anew each time.
        self._recurrent, self._per_step = network.recurrent, network.per_step
        self._input_size, self._output_size = network.input_size, network.output_size
        self._dtype, self._bidirectional = network.dtype, network.bidirectional

    def run(self, x: Array) -> Array:
        """A whole sequence, from a state of zeros.

        Args:
            x: (T, B, I).

        Returns:
            y: (T, B, O), or (B, O) if the network has a LastStep.

        Raises:
            ShapeError: `x` has another shape or dtype, or no step and the network wants its last.
        """
        x = self._sequence(x)
        return self._forward(x, self._zeros(x.shape[1]))

    def start(self, batch: int = 1) -> State:
        """The state before the first step: zeros, for `batch` sequences side by side."""
        check_integer("batch", batch, 0)
        return self._zeros(batch)

    def advance(self, x: Array, state: State) -> tuple[Array, State]:
        """Some steps of a sequence: (y, state after them); the pieces of a sequence give what `run` gives.

        Args:
            x: (T, B, I).
            state: from `start`, `advance` or `step`; stays as it is.

        Raises:
            ShapeError: `x` or `state` does not fit.
            UnsupportedError: the network reads in both directions.
        """
        x = self._sequence(x)
        self._check_state(state, x.shape[1])
        state = state.copy()
        return self._forward(x, state), state

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        """One step: (y, state after it).

        Args:
            x: (B, I).
            state: from `start`, `advance` or `step`; stays as it is.

        Returns:
            y (B, O) and a new state.

        Raises:
            ShapeError: `x` or `state` does not fit.
            UnsupportedError: the network reads in both directions.
        """
        x = self._row(x)
        self._check_state(state, len(x))
        state = state.copy()
        return self._step(x, state), state

    def step_into(self, x: Array, state: State, out: Array) -> None:
        """One step in place: `state` becomes the state after it, `out` (B, O) its output.

        Raises:
            ShapeError: `x`, `state` or `out` does not fit; nothing was written.
            UnsupportedError: the network reads in both directions.
        """
        x = self._row(x)
        self._check_state(state, len(x))
        if out.shape != (len(x), self._output_size) or out.dtype != self._dtype:
            check_shape("out", out, "B, O", B=len(x), O=self._output_size)
            check_dtype("out", out, (str(self._dtype),))
        for name, array in (("state", state.h[0] if state.h else out), ("out", out)):
            if not array.flags.writeable:
                raise ArgumentError(f"`{name}` must be writable; copy it first.")
        out[...] = self._step(x, state)

    def _step(self, x: Array, state: State) -> Array:
        y = self._forward(x[None], state)
        return y[0] if self._per_step else y

    def _forward(self, x: Array, state: State) -> Array:
        """All layers, one after the other; `state` is overwritten."""
        states = list(zip(state.h, state.c, strict=True))
        for layer, kernels in self._plan:
            if isinstance(layer, Recurrent):
                x = recurrent(kernels, x, states[: len(kernels)])
                del states[: len(kernels)]
            elif isinstance(layer, Dense):
                x = dense(layer, x)
            else:
                x = x[-1]
        return x

    def _zeros(self, batch: int) -> State:
        h = tuple(
            np.zeros((batch, layer.hidden_size), layer.dtype)
            for layer in self._recurrent
            for _ in layer.directions
        )
        cells = (layer.cell for layer in self._recurrent for _ in layer.directions)
        return State(
            h, tuple(np.zeros_like(a) if cell == "lstm" else None for a, cell in zip(h, cells, strict=True))
        )

    def _sequence(self, x: Array) -> Array:
        x = np.asarray(x)
        check_shape("x", x, "T, B, I", I=self._input_size)
        check_dtype("x", x, (str(self._dtype),))
        if not self._per_step and len(x) == 0:
            raise ShapeError("`x` must have at least one step, got T = 0: the network gives its last one.")
        return np.ascontiguousarray(x)

    def _row(self, x: Array) -> Array:
        x = np.asarray(x)
        # The checks spell a shape out in 10 us, a step may take 2: they run when there is something to say.
        if x.ndim != 2 or x.shape[1] != self._input_size or x.dtype != self._dtype:
            check_shape("x", x, "B, I", I=self._input_size)
            check_dtype("x", x, (str(self._dtype),))
        return np.ascontiguousarray(x)

    def _check_state(self, state: State, batch: int) -> None:
        if self._bidirectional:
            raise UnsupportedError(
                "This network reads in both directions: no step is known before the last one came; "
                "run whole sequences, with `run`."
            )
        if not isinstance(state, State) or len(state.h) != len(self._recurrent):
            raise ArgumentError("`state` must be of this network: what `start`, `step` or `advance` gave.")
        for k, (layer, h, c) in enumerate(zip(self._recurrent, state.h, state.c, strict=True)):
            if (c is None) == (layer.cell == "lstm"):
                raise ArgumentError(f"`state.c[{k}]` must be an array for an LSTM and None for others.")
            shape = (batch, layer.directions[0].R.shape[1])
            for name, array in (("h", h), ("c", c)):
                if array is not None and (array.shape != shape or array.dtype != self._dtype):
                    check_shape(f"state.{name}[{k}]", array, "B, H", B=batch, H=shape[1])
                    check_dtype(f"state.{name}[{k}]", array, (str(self._dtype),))
