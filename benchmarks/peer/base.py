"""What benchmarks/peers.py asks of another library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from carousel.bench import Problem
from carousel.bench.timing import Call
from carousel.layout import Array, Weights

__all__ = ["Peer", "Side"]


@dataclass(frozen=True)
class Side:
    """A call to time, and how what it returns becomes our array.

    Args:
        call: runs the peer, its input and weights already where it wants them; waits for the result.
        array: what the call returned -> y (T, B, H), or ∂L/∂W (GH, I) of the first layer in training.
    """

    call: Call
    array: Callable[[Any], Array]


class Peer(ABC):
    """A library, made for one number of threads."""

    name: str
    version: str

    @abstractmethod
    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        """The stack of `layers` over x (T, B, I)."""

    def training(self, problem: Problem, layers: Sequence[Weights], x: Array, dy: Array) -> Side | None:
        """All ∂(y · dy)/∂w; None for a library that does not train."""
        return None
