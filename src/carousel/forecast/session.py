"""What surrounds the trainings of one fit: progress, budget, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from carousel.forecast.checkpoint import Trainings

__all__ = ["Session"]

FIRST_ROUND = 0.45  # of the time; the second runs no more epochs, on up to a sixth more rows


@dataclass
class Session:
    """One fit from the outside; every training passes through it.

    Args:
        report: called with epoch, train and valid after every epoch.
        trainings: what is kept of them.
        minutes: that the fit may take; no limit without.
        max_steps: of the optimiser in one training; no limit without.
        clock: seconds.
        start: of the fit, by the clock.
    """

    report: Callable[[dict[str, float]], None]
    trainings: Trainings
    minutes: float | None = None
    max_steps: int | None = None
    clock: Callable[[], float] = time.monotonic
    start: float = field(default_factory=time.monotonic)
    _share: float = FIRST_ROUND

    def second_round(self) -> None:
        """From now on, all of the time may be used."""
        self._share = 1.0

    def over(self, steps: int) -> bool:
        """Whether the budget ends a training that has done so many steps."""
        return (self.max_steps is not None and steps >= self.max_steps) or self.late()

    def late(self) -> bool:
        """Whether the time of this round is spent."""
        return self.minutes is not None and self.clock() - self.start >= 60 * self.minutes * self._share
