"""What is decided before anything is fitted: the grid, the season, the look-back, the segments."""

from __future__ import annotations

from dataclasses import dataclass

from carousel.errors import DataError
from carousel.forecast.split import MOST
from carousel.series.calendar import Frequency, segment_of
from carousel.series.filling import fill
from carousel.series.panel import Panel
from carousel.series.season import find_season

__all__ = ["Plan", "plan"]

LONGEST = 720  # rows of look-back beyond which a second season is given up
SHORTEST = 24  # rows of look-back for short seasons: four weeks of days, six years of quarters
WITHOUT_SEASON = 50  # rows of look-back, in segments of 10
SMOOTHED = 400  # rows of the longest season that is smoothed


@dataclass(frozen=True)
class Plan:
    """The shape of a forecaster.

    Args:
        frequency: of the grid.
        seasons: lengths in rows, shortest first; (1,) for none.
        lookback: L.
        segment: rows of one recurrent step.
        horizon: K.
    """

    frequency: Frequency
    seasons: tuple[int, ...]
    lookback: int
    segment: int
    horizon: int

    @property
    def season(self) -> int:
        """The shortest season."""
        return self.seasons[0]

    @property
    def smoothed_seasons(self) -> tuple[int, ...]:
        """The seasons that are short enough for the smoothing models."""
        return tuple(m for m in self.seasons if m <= SMOOTHED) or (1,)


def plan(panel: Panel, horizon: int, season: int | None, lookback: int | None, plain: bool = False) -> Plan:
    """The look-back is about two of the longest season, as far as the data allow.

    Args:
        season: rows of the season; what the frequency suggests, or an index repeats, without.
        lookback: L; chosen without.
        plain: for the plain network, which reads single rows.

    Raises:
        DataError: the longest series is too short for this horizon.
    """
    frequency = panel.frequency
    longest = int(panel.lengths.max(initial=0))
    needed = horizon + max(6, horizon // 2)
    if longest < needed:
        raise DataError(
            f"The longest series has {longest} rows; a horizon of {horizon} needs at least {needed}. "
            "Give more history or a smaller horizon."
        )
    if season is not None:
        seasons: tuple[int, ...] = (int(season),)
    elif frequency.unit == "index":
        # Found in the first rows alone, which no split holds out.
        first = [fill(x[: int((1 - MOST) * len(x))], 1) for x in panel]
        seasons = (find_season(first, SMOOTHED),)
    else:
        seasons = frequency.seasons
    seasons = tuple(m for m in seasons if m == 1 or (m <= 2 * LONGEST and 2 * m <= longest)) or (1,)
    if lookback is None:
        wanted = max(2 * seasons[-1], SHORTEST) if seasons[-1] > 1 else WITHOUT_SEASON
        if wanted > LONGEST:
            wanted = max(LONGEST, seasons[-1])
        lookback = max(1, min(wanted, (longest - horizon) // 3))
    if plain:
        return Plan(frequency, seasons, lookback, 1, horizon)
    segment = segment_of(seasons[0]) if seasons[0] > 1 else min(10, lookback)
    lookback = -(-max(lookback, seasons[0] + 1) // segment) * segment
    return Plan(frequency, seasons, lookback, segment, horizon)
