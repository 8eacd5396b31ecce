"""What is decided before anything is fitted: the grid, the season, the look-back, the segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.forecast.split import MOST
from carousel.network.forecaster import ForecastModel
from carousel.series.calendar import Frequency, segment_of
from carousel.series.features import phases
from carousel.series.filling import fill, is_level
from carousel.series.linear import sizes
from carousel.series.panel import Panel
from carousel.series.season import find_longer, find_season

__all__ = ["Plan", "plan"]

Array = np.ndarray[Any, Any]

LONGEST = 720  # rows of look-back beyond which a further season is given up
PLENTY = 12  # times as many rows as a look-back of four seasons, for which there is one
PHASED_NUMBERS = 6e6  # of sums, beyond which one matrix per phase would take too much memory and time
SHORTEST = 24  # rows of look-back for short seasons: four weeks of days, six years of quarters
WITHOUT_SEASON = 50  # rows of look-back
SEGMENT = 10  # rows of a segment without season
BY_ROWS = 50  # rows of look-back of a network that reads them one by one
TOLD_SERIES, TOLD_ROWS = 64, 2000  # by which it is told whether gaps follow the season
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
        carried: a missing value is the last one, whatever the season was (see `is_level`).
    """

    frequency: Frequency
    seasons: tuple[int, ...]
    lookback: int
    segment: int
    horizon: int
    carried: bool = False

    @classmethod
    def of(cls, model: ForecastModel, frequency: Frequency) -> Plan:
        """The shape of a fitted model, as far as its baselines need it."""
        return cls(frequency, model.seasons, model.lookback, 1, model.horizon, model.scaling.carried)

    @property
    def season(self) -> int:
        """The shortest season."""
        return self.seasons[0]

    @property
    def phases(self) -> int:
        """How many matrices the linear path may have: one per phase of the season, or one."""
        return _phases(self.frequency, self.season, self.lookback, self.horizon)

    @property
    def of_gaps(self) -> int:
        """The season by which missing values are filled; 1 where they are the last one."""
        return 1 if self.carried else self.season

    @property
    def smoothed_seasons(self) -> tuple[int, ...]:
        """The seasons that are short enough for the smoothing models."""
        return tuple(m for m in self.seasons if m <= SMOOTHED) or (1,)


def plan(panel: Panel, horizon: int, season: int | None, lookback: int | None, by_rows: bool = False) -> Plan:
    """The look-back is about two of the longest season, or four where rows are plenty, as far as the data allow.

    Args:
        season: rows of the season; what the frequency suggests, or an index repeats, without.
        lookback: L; chosen without.
        by_rows: for a network that reads single rows.

    Raises:
        ArgumentError: a season or look-back that the data or each other do not allow.
        DataError: the longest series is too short for this horizon, or none has two values.
    """
    frequency = panel.frequency
    longest = int(panel.lengths.max(initial=0))
    needed = horizon + max(6, horizon // 2)
    if longest < needed:
        raise DataError(
            f"The longest series has {longest} rows, but a horizon of {horizon} needs at least {needed}; "
            "give more history or a smaller horizon."
        )
    if all(np.count_nonzero(~np.isnan(values)) < 2 for values in panel):
        who = f"Series {panel.ids[0]!r} has" if len(panel) == 1 else "No series has more than"
        raise DataError(f"{who} 1 value, but a fit needs at least 2; give more history.")
    seasons = _seasons(panel, season, longest)
    if lookback is not None:
        if lookback > longest - horizon:
            raise ArgumentError(
                f"`lookback` must be at most {longest - horizon} rows, those of the longest series without "
                f"one horizon, got {lookback}."
            )
        if not by_rows and lookback <= seasons[0]:
            raise ArgumentError(
                f"`lookback` must be more than the season of {seasons[0]} rows, got {lookback}; "
                "give season=1 for a model without season."
            )
    elif by_rows:
        lookback = min(max(BY_ROWS, 2 * seasons[0]), (longest - horizon) // 3)
    else:
        wanted = _wanted(panel.frequency, seasons, horizon, longest) if seasons[-1] > 1 else WITHOUT_SEASON
        lookback = max(seasons[0] + 1, min(wanted, (longest - horizon) // 3))
        lookback = -(-lookback // segment_of(seasons[0])) * segment_of(seasons[0])
    lookback = max(lookback, 1)
    seasons = (seasons[0], *(m for m in seasons[1:] if m < lookback))
    segment = segment_of(seasons[0]) if seasons[0] > 1 else min(SEGMENT, lookback)
    carried = seasons[0] > 1 and is_level(_first_rows(panel), seasons[0])
    return Plan(frequency, seasons, lookback, 1 if by_rows else segment, horizon, carried)


def _wanted(frequency: Frequency, seasons: tuple[int, ...], horizon: int, longest: int) -> int:
    """Rows of look-back for these seasons: two of the longest, or four where the rows are plenty.

    Two also where the linear path would have to give up its matrix per phase for four, for that is worth more.
    """

    def rows(count: int) -> int:
        wanted = max(count * seasons[-1], SHORTEST)
        return wanted if wanted <= LONGEST else max(LONGEST, seasons[-1])

    two, four = rows(2), rows(4)
    plenty = longest >= PLENTY * four
    alike = _phases(frequency, seasons[0], two, horizon) == _phases(frequency, seasons[0], four, horizon)
    return four if plenty and alike else two


def _phases(frequency: Frequency, season: int, lookback: int, horizon: int) -> int:
    """See `Plan.phases`."""
    P, F = phases(frequency, season), sizes(frequency, season, lookback)[-1]
    return P if P * F * (F + horizon) <= PHASED_NUMBERS else 1


def _seasons(panel: Panel, season: int | None, longest: int) -> tuple[int, ...]:
    """The seasons that two of fit into the longest series: the given one, the calendar's, or one found."""
    if season is not None:
        if season > 1 and 2 * season > longest:
            raise ArgumentError(
                f"`season` = {season} needs two seasons, {2 * season} rows, but the longest series has {longest}; "
                "give season=1 for a model without season."
            )
        return (int(season),)
    if panel.frequency.unit == "index":
        first = [fill(x[: int((1 - MOST) * len(x))], 1) for x in panel]  # which no split holds out
        found = find_season(first, SMOOTHED)
        longer = find_longer(first, found, SMOOTHED) if found > 1 else None
        return (found,) if longer is None or 2 * longer > longest else (found, longer)
    return tuple(m for m in panel.frequency.seasons if m <= 2 * LONGEST and 2 * m <= longest) or (1,)


def _first_rows(panel: Panel) -> list[Array]:
    """Rows of some series that no split holds out, enough to tell a season by."""
    some = np.unique(np.linspace(0, len(panel) - 1, min(len(panel), TOLD_SERIES)).astype(int))
    return [x[: int((1 - MOST) * len(x))][-TOLD_ROWS:] for x in map(panel.series, some)]
