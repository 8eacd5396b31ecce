"""Every conversion ends with a trial: both sides compute the same, or nothing comes of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import CarouselError, UnsupportedError, printable
from carousel.network import Masking, Network

if TYPE_CHECKING:
    from carousel.stream import State
    from carousel.stream.network import NetworkModel

__all__ = ["Conversion", "Trial", "distance", "random_state", "sample"]

Array = NDArray[Any]

# Of the largest output. Both sides add the same products, each in its own order; what computes something else is
# off by far more.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
# Times as much as our own outputs lose by rounding may both sides differ by. Each rounds in its own way, the tanh of
# ONNX Runtime by some ten times as much as ours: 90 times were seen among 2,200 random models of large weights.
ROUNDINGS = 128
LARGEST_TOLERANCE = 1e-2  # whatever rounding costs: what computes something else must still show
_LEAST = 1e-30  # outputs below it have fewer bits than others of float32


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        network: ours, read or written: a Network, or the ForecastModel of a forecaster.
        largest: the largest difference between both sides on random input, relative to the largest output.
        check: which check ran, in words.
        layers: for every foreign layer what it is there, its name safe to print, and what it is here.
        assumed: what the source does not say and was taken to be so, in words; "" for nothing.
        unsaid: what a file that was written does not say of the network, so that it must be known to who reads it.
    """

    network: Any
    largest: float
    check: str
    layers: tuple[tuple[str, str], ...]
    assumed: str = ""
    unsaid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        told = tuple((printable(theirs), printable(ours)) for theirs, ours in self.layers)
        object.__setattr__(self, "layers", told)


def sample(network: Network, rng: np.random.Generator, T: int, B: int) -> Array:
    """Random input of T steps and B rows; where the network masks, with steps that it leaves out."""
    if network.takes_ids:
        return rng.integers(0, network.input_size, size=(T, B))
    x = rng.normal(size=(T, B, network.input_size)).astype(network.dtype)
    first = next((layer for layer in network.layers if isinstance(layer, Masking)), None)
    if first is not None:
        x[rng.random((T, B)) < 0.3] = first.value
    return x


def random_state(model: NetworkModel, rng: np.random.Generator, B: int) -> State:
    """A random state of B sequences."""
    from carousel.stream import State

    def drawn(a: Array) -> Array:
        return rng.normal(size=a.shape).astype(a.dtype)

    start = model.start(B)
    return State(tuple(map(drawn, start.h)), tuple(None if c is None else drawn(c) for c in start.c))


def distance(found: Array, expected: Array) -> float:
    """The largest difference, relative to the largest number expected; infinite where either is not finite."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    off = np.abs(found.astype(np.float64) - expected).max(initial=0)
    return float(off / max(_LEAST, np.abs(expected).max(initial=0)))


@dataclass(frozen=True)
class Trial:
    """What both sides ran on.

    Args:
        network: ours.
        x: (T, B, I), or ids (T, B).
        state: that it began with; None is zeros.
        lengths: (B,), the steps of each row; None is all.
    """

    network: Network
    x: Array
    state: State | None = None
    lengths: Array | None = None

    def check(self, found: Array, expected: Array, what: str, dtype: str | None = None) -> float:
        """The distance of what ours gave from what the foreign side gave.

        Args:
            what: names the foreign side in the error.
            dtype: what the foreign side rounds to; None is the network's.

        Raises:
            UnsupportedError: both sides differ by more than rounding.
        """
        largest = distance(found, expected)
        if not self.agrees(largest, expected, dtype):
            raise UnsupportedError(
                f"{what} computes something else than the network made of it: on random input it is off by "
                f"{largest:.1e} of its largest output."
            )
        return largest

    def agrees(self, largest: float, expected: Array, dtype: str | None = None) -> bool:
        """Whether a distance is rounding: as small as it always is, or as what it costs this network."""
        dtype = dtype or str(self.network.dtype)
        if largest <= TOLERANCE[dtype] or not largest <= LARGEST_TOLERANCE:
            return largest <= TOLERANCE[dtype]
        size = max(_LEAST, np.abs(expected).max(initial=0))
        return bool(largest <= ROUNDINGS * self._rounding(np.dtype(dtype)) / size)

    def _rounding(self, dtype: np.dtype[Any]) -> float:
        """How much rounding to `dtype` changes our outputs by, judged by that to float32; 0 where they exceed that."""
        from carousel.stream import Model, State

        outputs = []
        for kind in (np.float32, np.float64):
            x = self.x if self.network.takes_ids else self.x.astype(kind)
            try:
                with np.errstate(over="ignore"):
                    model = Model(Network(tuple(_cast(layer, kind) for layer in self.network.layers)))
            except CarouselError:  # weights too large for float32
                return 0.0
            h, c = (self.state.h, self.state.c) if self.state else ((), ())
            state = State(
                tuple(a.astype(kind) for a in h), tuple(None if a is None else a.astype(kind) for a in c)
            )
            outputs.append(
                model.run_from(x, state if self.state else model.start(x.shape[1]), self.lengths)[0]
            )
        off = np.abs(outputs[0] - outputs[1]).max(initial=0)
        return float(off * np.finfo(dtype).eps / np.finfo(np.float32).eps) if np.isfinite(off) else 0.0


def _cast(value: Any, dtype: type[np.floating[Any]]) -> Any:
    """A layer, or weights, in another dtype."""
    changes: dict[str, Any] = {}
    for field in fields(value):
        held = getattr(value, field.name)
        if isinstance(held, np.ndarray):
            changes[field.name] = held.astype(dtype)
        elif field.name == "directions":
            changes[field.name] = tuple(_cast(weights, dtype) for weights in held)
        elif isinstance(value, Masking):
            changes[field.name] = float(dtype(held))  # as masked steps of the input are rounded
    return replace(value, **changes)
