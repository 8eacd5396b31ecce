"""Every conversion ends with a trial: both sides compute the same, or nothing comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import UnsupportedError, printable
from carousel.network import Masking, Network

if TYPE_CHECKING:
    from carousel.stream import State
    from carousel.stream.network import NetworkModel

__all__ = ["TOLERANCE", "Conversion", "check_difference", "distance", "random_state", "sample"]

Array = NDArray[Any]

# Of the largest output. Both sides add the same products, each in its own order; what computes something else is
# off by far more.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        network: ours, read or written: a Network, or the ForecastModel of a forecaster.
        largest: the largest difference between both sides on random input, relative to the largest output or 1.
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
    """The largest difference, relative to the largest number expected or 1; infinite where either is not finite."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    off = np.abs(found.astype(np.float64) - expected).max(initial=0)
    return float(off / max(1, np.abs(expected).max(initial=0)))


def check_difference(largest: float, network: Network, what: str, dtype: str | None = None) -> None:
    """Raises an UnsupportedError where both sides differ by more than rounding.

    Args:
        largest: the difference, as `distance` gives it.
        network: ours.
        what: names the foreign side.
        dtype: what the foreign side rounds to; None is the network's.
    """
    if not largest <= TOLERANCE[dtype or str(network.dtype)]:
        raise UnsupportedError(
            f"{what} computes something else than the network made of it: on random input it is off by {largest:.1e}."
        )
