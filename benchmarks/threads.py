"""What do more threads bring, and does our pool stand in the way of torch's, or of forked workers?

    python benchmarks/threads.py [--threads 2] [--rounds 5]

Three tables, each against its first case. 1. Time with 1, 2, 4, … threads up to --threads. 2. A layer alone, and
right after a product of torch's: where two pools meet, the idle threads of one keep the cores busy that the other
needs, and the second figure is a multiple of the first. 3. A layer inside the workers of a DataLoader, which are
forked after this process has used its threads: a pool that does not survive a fork hangs there; after a minute that
is an error.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from carousel import nn
from carousel.bench import Problem, interleaved
from carousel.bench.agreement import check_equal
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import forward, pair
from carousel.bench.script import begin, options, store
from carousel.bench.timing import timed

SHAPES = (
    (1, 50, 2, 64, 50), (8, 64, 1, 1, 100), (64, 256, 1, 1, 100), (32, 128, 1, 32, 100), (128, 256, 2, 64, 96),
    (1024, 1024, 1, 16, 50),
)  # fmt: skip
SIDES = ("carousel", "torch.nn")
COLUMNS = ("table", "problem", "side", "case", "ms", "against_first")
Row = tuple[str, str, str, str, float, float]
"""As COLUMNS; the last is how many times as long as the first case it takes."""


def main() -> None:
    parsed = options(__doc__, threads=2, seconds=0.05).parse_args()
    machine = begin(parsed)
    keep_memory()
    rows = []
    print(f"{'':16}{'':42}{'':10}{'':14}{'ms':>10}  against first")
    for row in cases(parsed):
        print("{:16}{:42}{:10}{:14}{:10.3f}{:8.2f}".format(*row), flush=True)
        rows.append(row)
    store(parsed, machine, "threads", COLUMNS, rows)


def cases(parsed: Namespace) -> Iterator[Row]:
    """The three tables, one after the other."""
    shapes = SHAPES[:1] if parsed.quick else SHAPES
    inference = [Problem(cell, *shape, "inference") for cell in ("lstm", "gru") for shape in shapes]
    for problem in [*inference, *(Problem("lstm", *shape, "training") for shape in shapes)]:
        yield from scaling(problem, parsed)
    for problem in inference:
        yield from after_torch(problem, parsed)
    yield from workers(50 if parsed.quick else 2000)


def scaling(problem: Problem, parsed: Namespace) -> Iterator[Row]:
    """Both sides with 1, 2, 4, … threads and the greatest number."""
    counts = sorted({1, parsed.threads} | {2**k for k in range(10) if 2**k < parsed.threads})
    first: list[float] = []
    for count in counts:
        torch.set_num_threads(count)
        times = interleaved(pair(problem), rounds=parsed.rounds, seconds=parsed.seconds)
        medians = [median(side) for side in times]
        first = first or medians
        for side, ms, one in zip(SIDES, medians, first, strict=True):
            yield "threads", str(problem), side, f"{count} thread{'s' * (count > 1)}", ms * 1e3, ms / one
    torch.set_num_threads(parsed.threads)


def after_torch(problem: Problem, parsed: Namespace) -> Iterator[Row]:
    """Each side alone, and each call right after a torch.mm that uses all threads."""
    a = torch.randn(384, 384)
    for side, call in zip(SIDES, pair(problem), strict=True):
        alone: list[float] = []
        after: list[float] = []
        for _ in range(parsed.rounds):
            call()
            alone += [timed(call) for _ in range(10)]
            for _ in range(10):
                torch.mm(a, a)
                after.append(timed(call))
        medians = [median(times) * 1e3 for times in (alone, after)]
        for case, ms in zip(("alone", "after"), medians, strict=True):
            yield "after torch.mm", str(problem), side, case, ms, ms / medians[0]


class Layered(Dataset[Tensor]):
    """Items that a layer computes, as where a frozen encoder makes features."""

    def __init__(self, module: torch.nn.Module, count: int) -> None:
        self.module = module
        self.x = torch.randn(count, 100, 1, 32, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return forward(self.module, self.x[index])


def workers(count: int) -> Iterator[Row]:
    """Time per item in this process, in one fork, in two; starting them included."""
    I, H = 32, 128
    theirs = torch.nn.LSTM(I, H)
    ours = nn.LSTM(I, H)
    ours.load_state_dict(theirs.state_dict())
    expected = torch.stack(list(Layered(theirs, count)))
    for side, module in zip(SIDES, (ours, theirs), strict=True):
        first = 0.0
        for number in (0, 1, 2):
            fork = {"multiprocessing_context": "fork", "timeout": 60} if number else {}
            loader = DataLoader(Layered(module, count), 16, num_workers=number, **fork)
            start = time.perf_counter()
            found = torch.cat(list(loader))
            ms = (time.perf_counter() - start) / count * 1e3
            check_equal(f"{side} in {number} workers", found, expected)
            first = first or ms
            problem = Problem("lstm", I, H, 1, 1, 100, "inference")
            yield "forked workers", str(problem), side, f"{number} workers", ms, ms / first


if __name__ == "__main__":
    main()
