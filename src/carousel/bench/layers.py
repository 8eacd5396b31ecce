"""How fast are our layers against torch.nn on this machine?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from carousel.bench.machine import Machine
from carousel.bench.problem import Problem
from carousel.bench.process import measure
from carousel.bench.timing import Ratio, ratio

__all__ = ["Report", "Row", "layers"]

# Where malloc matters: above, a training step takes so long that new pages are a small part of it.
_SMALL = 128
# Cores. What a system does on the side is below it; a program that computes is at 1.
_DISTURBED = 0.15


@dataclass(frozen=True)
class Row:
    """The figures of one problem.

    Args:
        ours, torch: seconds per call, medians of the rounds.
        best: seconds per call of ours in its fastest round.
        ratio: torch's time over ours.
        others: cores that other programs kept busy meanwhile.
        fresh: the ratio in a new process that does not keep its memory; small training steps only.
        fresh_others: as `others`.
    """

    problem: Problem
    ours: float
    torch: float
    best: float
    ratio: Ratio
    others: float
    fresh: Ratio | None
    fresh_others: float


@dataclass(frozen=True)
class Report:
    """What was measured, where and how.

    Args:
        peak: multiplications and additions per second of the best matrix product, which `product` names.
        kept: whether malloc could be told to keep its memory.
    """

    machine: Machine
    rounds: int
    seconds: float
    peak: float
    product: str
    kept: bool
    rows: tuple[Row, ...]

    def rough(self, ratio: Ratio, others: float) -> bool:
        """Whether a ratio says little: rounds differ by more than half, or there were too few cores for all."""
        crowded = self.machine.threads + others > self.machine.cores + _DISTURBED
        return crowded or ratio.high > 1.5 * ratio.low

    def share(self, row: Row) -> float:
        """Of the peak: what our products of matrices alone do per second, in the fastest round, as the peak is."""
        return row.problem.flops / row.best / self.peak


def layers(
    problems: list[Problem],
    *,
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 0.1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Report:
    """Times `carousel.nn` against `torch.nn`; results are checked to be equal before.

    Both sides run in turn in one process, A B A B, so that what else the machine does slows both. The process
    keeps its memory (`carousel.bench.malloc`); small training steps are measured once more in one that does not.

    Args:
        problems: see `carousel.bench.problems`.
        threads: of both sides; torch's own choice without.
        rounds: how often each side is timed.
        seconds: the least time of one side of one round.
        progress: called before each measurement with what it is, how many are done, and of how many.

    Raises:
        BenchmarkError: results differ, or the process could not measure.
    """
    small = [p for p in problems if p.mode == "training" and p.hidden <= _SMALL]
    small.sort(key=lambda p: p.hidden * p.batch * p.steps)  # malloc keeps more once large blocks were freed
    total = len(small) + len(problems)

    def measured(which: list[Problem], keep: bool, done: int) -> tuple[Any, list[Any], Any]:
        answers = measure(which, threads=threads, rounds=rounds, seconds=seconds, keep=keep, peak=keep)
        head, times = next(answers), []
        for k, problem in enumerate(which):
            progress(f"{problem}{'' if keep else ', new process'}", done + k, total)
            times.append(next(answers))
        *_, tail = answers
        return head, times, tail

    fresh: dict[Problem, tuple[Ratio, float]] = {}
    if small:
        _, times, _ = measured(small, False, 0)
        fresh = {p: (ratio(t["torch"], t["ours"]), t["others"]) for p, t in zip(small, times, strict=True)}
    head, times, tail = measured(problems, True, len(small))
    rows = [
        Row(
            problem,
            median(t["ours"]),
            median(t["torch"]),
            min(t["ours"]),
            ratio(t["torch"], t["ours"]),
            t["others"],
            *fresh.get(problem, (None, 0.0)),
        )
        for problem, t in zip(problems, times, strict=True)
    ]
    # On a busy machine a layer may be ahead of all products: then it is the best that was found.
    own = [(row.problem.flops / row.best, str(row.problem)) for row in rows]
    peak, product = max(own + [(found["peak"]["flops"], found["peak"]["product"]) for found in (head, tail)])
    return Report(
        Machine(**head["machine"]),
        rounds,
        seconds,
        peak,
        product,
        head["kept"],
        tuple(rows),
    )
