"""What does a call cost beside its mathematics: one row, one step, eight units, against torch.nn?

    python benchmarks/tiny.py [--rounds 15]

Agents, streams and small models call layers with (B, T, H) = (1, 1, 8), where checks and glue are nearly all of the
time. LSTM, GRU, RNN and their cells, without a gradient and as a training step, with and without a state given.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor

from carousel import nn
from carousel.bench import MODES, interleaved, ratio
from carousel.bench.agreement import check_equal
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import calls, forward, step
from carousel.bench.script import begin, options, store

I, H = 8, 8
KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
COLUMNS = ("kind", "state", "mode", "us", "torch_us", "ratio", "low", "high")


class Stateful(torch.nn.Module):
    """A layer or cell that is called with a state, or with none; gives what a layer gives, y first."""

    def __init__(self, layer: torch.nn.Module, hx: Any) -> None:
        super().__init__()
        self.layer, self.hx = layer, hx

    def forward(self, x: Tensor) -> Any:
        found = self.layer(x, self.hx)
        return found if isinstance(found, tuple) else (found,)


def main() -> None:
    parsed = options(__doc__, rounds=15, seconds=0.02).parse_args()
    machine = begin(parsed)
    keep_memory()
    rows = []
    print(f"{'':10}{'state':7}{'mode':11}{'us':>8}{'torch':>8}  ratio")
    for row in cases(parsed.rounds, parsed.seconds):
        print("{:10}{:7}{:11}{:8.1f}{:8.1f}  {:.2f} ({:.2f}–{:.2f})".format(*row), flush=True)
        rows.append(row)
    store(parsed, machine, "tiny", COLUMNS, rows)


def cases(rounds: int, seconds: float) -> Iterator[tuple[Any, ...]]:
    """As COLUMNS."""
    for kind in KINDS:
        for given in (False, True):
            for mode in MODES:
                ours, theirs = interleaved(pair(kind, given, mode), rounds=rounds, seconds=seconds)
                found = ratio(theirs, ours)
                us = (median(times) * 1e6 for times in (ours, theirs))
                yield kind, "given" if given else "none", mode, *us, found.median, found.low, found.high


def pair(kind: str, given: bool, mode: str) -> list[Any]:
    """The calls of ours and of torch's, after they were found to agree."""
    torch.manual_seed(0)
    theirs, ours = getattr(torch.nn, kind)(I, H), getattr(nn, kind)(I, H)
    ours.load_state_dict(theirs.state_dict())
    one = (1,) if kind.endswith("Cell") else (1, 1)
    x, dy, h, c = (torch.randn(*one, width) for width in (I, H, H, H))
    hx = None if not given else (h, c) if kind.startswith("LSTM") else h
    sides = [Stateful(module, hx) for module in (ours, theirs)]
    found = [forward(side, x) if mode == "inference" else step(side, x, dy) for side in sides]
    check_equal(f"{kind} {mode}: the output", *found)
    return [calls(mode, side, x, dy) for side in sides]


if __name__ == "__main__":
    main()
