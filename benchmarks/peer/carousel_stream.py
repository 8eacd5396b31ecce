"""Our own torch-free runner: the same kernels from NumPy, without what a call of a torch module costs."""

from __future__ import annotations

from collections.abc import Sequence

import carousel
from carousel.bench import Problem
from carousel.layout import Array, Weights
from carousel.network import Network, Recurrent
from carousel.network import Weights as Direction
from carousel.stream import Model
from peer.base import Peer, Side

__all__ = ["Stream"]


class Stream(Peer):
    name = "carousel.stream"

    def __init__(self, threads: int) -> None:
        self.version = carousel.__version__

    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        cell = "lstm" if problem.cell == "lstm" else "gru"
        runner = Model(Network(tuple(Recurrent(cell, (Direction(*weights),)) for weights in layers)))
        return Side(lambda: runner.run(x), lambda found: found)
