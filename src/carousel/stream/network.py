"""A Network, run: many steps at once or one after the other, with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carousel.errors import (
    ArgumentError,
    ShapeError,
    UnsupportedError,
    check_choice,
    check_dtype,
    check_integer,
    check_shape,
)
from carousel.network import Network, document
from carousel.network.arrays import Floats
from carousel.stream.layers import zeros
from carousel.stream.pipeline import Pipeline, is_plain, stack

__all__ = ["NetworkModel", "State"]

Array = NDArray[Any]


@document("network.state", since=2)
@dataclass(frozen=True)
class State:
    """What a network remembers between two steps; a plain value, to be copied, kept or sent.

    Args:
        h: (B, H) of each recurrent layer, bottom first; of one with two directions forward, then backward.
        c: likewise; None where the cell is no LSTM.
    """

    h: tuple[Floats, ...]
    c: tuple[Floats | None, ...]

    def copy(self) -> State:
        return State(tuple(h.copy() for h in self.h), tuple(None if c is None else c.copy() for c in self.c))

    def __getitem__(self, index: Any) -> State:
        """The state of some of the B sequences: `index` is a slice, or an array of numbers."""
        return State(tuple(h[index] for h in self.h), tuple(None if c is None else c[index] for c in self.c))

    @staticmethod
    def join(parts: Sequence[State]) -> State:
        """Those of `parts`, which are not none, side by side."""
        return State(
            tuple(np.concatenate(h) for h in zip(*(p.h for p in parts), strict=True)),
            tuple(
                None if c[0] is None else np.concatenate(c) for c in zip(*(p.c for p in parts), strict=True)
            ),
        )


class NetworkModel:
    """Runs a Network on the compiled kernels; immutable, safe from several threads.

    Everything is of the network's dtype, every sequence (T, B, I), or where the network takes ids integers,
    (T, B). A step gives what `run` gives for it; where time ends, every step goes on, for each is the last one
    so far.

    Args:
        network: its weights are packed here, once.
        products: "full", or "bfloat16": the recurrent layers round W, R, x and h to bfloat16 (8 bits) for their
            products and sum in float32, which takes half the time for large layers; float32 networks only.

    Raises:
        ArgumentError: `products` is something else, or does not go with the network's dtype.
    """

    def __init__(self, network: Network, products: Literal["full", "bfloat16"] = "full") -> None:
        check_choice("products", products, ("full", "bfloat16"))
        low = products == "bfloat16"
        if low and network.dtype != np.float32:
            raise ArgumentError(
                f'`products` = "bfloat16" is for float32 networks, got one of {network.dtype}.'
            )
        self.network = network
        self._low = low
        plain = all(map(is_plain, network.layers))
        self._stack = stack(network.layers, low) if plain else Pipeline(network.layers, low)
        # What a call asks of the network, which would work it out anew each time.
        self._recurrent, self._per_step = network.recurrent, network.per_step
        self._input_size, self._output_size = network.input_size, network.output_size
        self._dtype, self._bidirectional = network.dtype, network.bidirectional
        self._takes_ids = network.takes_ids

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the network that it runs."""
        return type(self), (self.network, "bfloat16" if self._low else "full")

    def run(self, x: Array) -> Array:
        """A whole sequence, from a state of zeros.

        Args:
            x: (T, B, I).

        Returns:
            y: (T, B, O), or (B, O) if the network has a LastStep.

        Raises:
            ShapeError: `x` has another shape or dtype, or no step and the network wants its last.
        """
        x = self._input(x, "T, B, I")
        return self._run(x, self._zeros(x.shape[1]))

    def run_from(self, x: Array, state: State, lengths: Array | None = None) -> tuple[Array, State]:
        """A whole sequence from any state: (y, state after it).

        Unlike `advance` also where the network reads backwards: such a direction begins with its state at the
        end of the sequence.

        Args:
            x: (T, B, I).
            state: as `start` gives it; stays as it is.
            lengths: (B,) integers, the steps of each row; None is T. What is beyond is not read, and states stay;
                a Reverse turns a row within its length, and a LastStep takes its last step, of a row of length 0
                what the layers make of its state.

        Raises:
            ShapeError: `x`, `state` or `lengths` does not fit.
            ArgumentError: a length is out of range.
        """
        x = self._input(x, "T, B, I")
        T, B = x.shape[:2]
        self._check_state(state, B, pieces=False)
        state = state.copy()
        if lengths is None:
            return self._run(x, state), state
        steps = np.asarray(lengths)
        check_shape("lengths", steps, "B", B=B)
        if steps.dtype.kind not in "iu" or (B and not 0 <= steps.min() <= steps.max() <= T):
            got = f"{steps.min()} to {steps.max()}" if B and steps.dtype.kind in "iu" else f"{steps.dtype}"
            raise ArgumentError(f"`lengths` must be integers between 0 and T = {T}, got {got}.")
        y = self._empty(T, B)
        Pipeline(self.network.layers, self._low).run(x, state.h, state.c, y, steps.astype(np.int64))
        return y, state

    def start(self, batch: int = 1) -> State:
        """The state before the first step: zeros, for `batch` sequences side by side."""
        check_integer("batch", batch, 0)
        try:
            return self._zeros(batch)
        except (MemoryError, OverflowError, ValueError):  # NumPy's, of a size beyond memory or any address
            raise ArgumentError(
                f"`batch` must be few enough sequences for their states to fit the memory, got {batch}."
            ) from None

    def advance(self, x: Array, state: State) -> tuple[Array, State]:
        """Some steps of a sequence: (y, state after them); the pieces of a sequence give what `run` gives.

        Args:
            x: (T, B, I).
            state: from `start`, `advance` or `step`; stays as it is.

        Raises:
            ShapeError: `x` or `state` does not fit.
            UnsupportedError: the network reads backwards.
        """
        x = self._input(x, "T, B, I")
        self._check_state(state, x.shape[1])
        state = state.copy()
        return self._run(x, state), state

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        """One step: (y, state after it).

        Args:
            x: (B, I).
            state: from `start`, `advance` or `step`; stays as it is.

        Returns:
            y (B, O) and a new state.

        Raises:
            ShapeError: `x` or `state` does not fit.
            UnsupportedError: the network reads backwards.
        """
        after = self._stack.step(x, state.h, state.c) if type(state) is State else None
        if after is None:  # an error, or arrays that must be copied first
            x = self._input(x, "B, I")
            self._check_state(state, len(x))
            state = state.copy()
            return self._run(x[None], state).reshape(len(x), self._output_size), state
        y, h, c = after
        return y, State(h, c)

    def step_into(self, x: Array, state: State, out: Array) -> None:
        """One step in place: `state` becomes the state after it, `out` (B, O) its output.

        Raises:
            ShapeError: `x`, `state` or `out` does not fit; nothing was written.
            UnsupportedError: the network reads backwards.
        """
        if type(state) is State and self._stack.step_into(x, state.h, state.c, out):
            return
        # An error, or arrays that must be copied first.
        x = self._input(x, "B, I")
        self._check_state(state, len(x))
        self._check_written(state, out, len(x))
        out[...] = self._run(x[None].copy(), state)

    def _run(self, x: Array, state: State) -> Array:
        """The output for x (T, B, I); `state` is overwritten."""
        y = self._empty(*x.shape[:2])
        done = self._stack.run(x, tuple(state.h), tuple(state.c), y)
        assert done
        return y

    def _empty(self, T: int, B: int) -> Array:
        return np.empty((T, B, self._output_size) if self._per_step else (B, self._output_size), self._dtype)

    def _zeros(self, batch: int) -> State:
        return State(*zeros(self._recurrent, batch))

    def _input(self, x: Array, axes: str) -> Array:
        """`x`, checked and as it must lie in memory."""
        x = np.asarray(x)
        if self._takes_ids:
            return self._ids(x, axes.removesuffix(", I"))
        # The checks spell a shape out in 10 us: they run when there is something to say.
        if x.ndim != axes.count(",") + 1 or x.shape[-1] != self._input_size or x.dtype != self._dtype:
            check_shape("x", x, axes, I=self._input_size)
            check_dtype("x", x, (str(self._dtype),))
        if x.ndim == 3 and len(x) == 0 and not self._per_step:
            raise ShapeError("`x` must have at least one step, got T = 0: the network gives its last one.")
        return np.require(x, requirements=["C", "A"])

    def _ids(self, x: Array, axes: str) -> Array:
        """`x` of a network that takes ids, checked."""
        check_shape("x", x, axes)
        if x.dtype.kind not in "iu":
            raise ShapeError(f"`x` must be integers, the ids of an Embedding, got {x.dtype}.")
        if x.size and not 0 <= x.min() <= x.max() < self._input_size:
            raise ArgumentError(
                f"`x` must be ids from 0 to {self._input_size - 1}, got {x.min()} to {x.max()}."
            )
        if x.ndim == 2 and len(x) == 0 and not self._per_step:
            raise ShapeError("`x` must have at least one step, got T = 0: the network gives its last one.")
        return x

    def _check_state(self, state: State, batch: int, pieces: bool = True) -> None:
        if pieces and self._bidirectional:
            raise UnsupportedError(
                "This network reads backwards: no step is known before the last one came; "
                "run whole sequences, with `run`."
            )
        count = sum(len(layer.directions) for layer in self._recurrent)
        if not isinstance(state, State) or not count == len(state.h) == len(state.c):
            raise ArgumentError("`state` must be of this network: what `start`, `step` or `advance` gave.")
        owners = [layer for layer in self._recurrent for _ in layer.directions]
        for k, (layer, h, c) in enumerate(zip(owners, state.h, state.c, strict=True)):
            if (c is None) == (layer.cell == "lstm"):
                raise ArgumentError(f"`state.c[{k}]` must be an array for an LSTM and None for others.")
            shape = (batch, layer.directions[0].R.shape[1])
            for name, array in (("h", h), ("c", c)):
                if array is None and name == "c":
                    continue
                if not isinstance(array, np.ndarray):
                    kind = type(array).__name__
                    raise ArgumentError(f"`state.{name}[{k}]` must be a NumPy array, got {kind}.")
                if array.shape != shape or array.dtype != self._dtype:
                    check_shape(f"state.{name}[{k}]", array, "B, H", B=batch, H=shape[1])
                    check_dtype(f"state.{name}[{k}]", array, (str(self._dtype),))

    def _check_written(self, state: State, out: Array, batch: int) -> None:
        """What `step_into` writes must be writable, and no two of it in the same memory."""
        if not isinstance(out, np.ndarray):
            raise ArgumentError(f"`out` must be a NumPy array, got {type(out).__name__}.")
        check_shape("out", out, "B, O", B=batch, O=self._output_size)
        check_dtype("out", out, (str(self._dtype),))
        written = {f"state.h[{k}]": h for k, h in enumerate(state.h)}
        written |= {f"state.c[{k}]": c for k, c in enumerate(state.c) if c is not None}
        for name, array in written.items():
            if not (array.flags.c_contiguous and array.flags.aligned):
                raise ArgumentError(
                    f"`{name}` must be contiguous and aligned in memory; copy the state first."
                )
        written["out"] = out
        for name, array in written.items():
            if not array.flags.writeable:
                raise ArgumentError(f"`{name}` must be writable; copy it first.")
        for (name, array), (other, its) in combinations(written.items(), 2):
            if np.shares_memory(array, its):
                raise ArgumentError(f"`{name}` and `{other}` must not share memory.")
