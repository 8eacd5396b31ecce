"""How much of the cores did other programs take while something was measured?

Two threads that wait for each other need both cores at once. Where another program has one of them, each barrier may
wait for a time slice, and torch's layers take up to a hundred times as long, round after round: the spread does not
tell. So it is counted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Others"]


class Others:
    """Counts from its making on.

    Example:
        >>> others = Others()
        >>> others.cores() >= 0
        True
    """

    def __init__(self) -> None:
        self._start = _readings()

    def cores(self) -> float:
        """Cores that other programs kept busy, on average, of those that this process may use."""
        clock, busy, own = (now - then for now, then in zip(_readings(), self._start, strict=True))
        return max(0.0, busy - own) / max(clock, 1e-3)


def _readings() -> tuple[float, float, float]:
    """Seconds: of the clock, of all programs on our cores, of this process and its children."""
    return time.perf_counter(), _busy(), sum(os.times()[:4])


def _busy() -> float:
    """CPU seconds since boot on the cores of this process; 0 where the system does not tell."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    for name, *values in map(str.split, lines):
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
