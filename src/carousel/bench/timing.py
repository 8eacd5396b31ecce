"""Times of several calls, taken in turn in one process, so that a noisy or throttling machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Call", "Ratio", "interleaved", "ratio", "timed"]

Call = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times as long one call takes as another: the median of the rounds, their least and greatest."""

    median: float
    low: float
    high: float


def timed(call: Call, seconds: float = 0.0) -> float:
    """Seconds per call, over as many calls as it takes for `seconds` to pass; one at least.

    The clock is read after every call, for 0.1 us, so that no other program can make a part last for minutes.
    """
    start, count = time.perf_counter(), 0
    while True:
        call()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / count


def interleaved(
    calls: Sequence[Call], *, rounds: int, seconds: float, pause: float = 0.0, patience: float = 60.0
) -> list[list[float]]:
    """Times every call in every round: A B C A B C …

    Args:
        calls: what to time; each is called once before.
        rounds: how often each is timed.
        seconds: the least time of one call's part of one round.
        pause: seconds of rest, and a call that is not timed, before each part. Libraries with thread pools of
            their own need it: their idle threads keep a core busy for some milliseconds.
        patience: seconds after which the rounds that are done must do.

    Returns:
        For each call, seconds per call of each round.
    """
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + patience
    for done in range(rounds):
        if done and time.perf_counter() > end:
            break
        for call, found in zip(calls, times, strict=True):
            if pause:
                time.sleep(pause)
                call()
            found.append(timed(call, seconds))
    return times


def ratio(others: Sequence[float], ours: Sequence[float]) -> Ratio:
    """The times of another over ours, round by round: above 1 we are faster.

    Example:
        >>> ratio([2.0, 3.0, 9.0], [1.0, 1.0, 1.0])
        Ratio(median=3.0, low=2.0, high=9.0)
    """
    ratios = [b / a for a, b in zip(ours, others, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
