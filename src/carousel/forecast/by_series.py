"""What past errors say of each series of a panel by itself.

Loads and traffic of one panel ask for different models; of a hundred shops alike, what tells one from another is mostly
noise. So what is chosen for a series is judged by quarters of its rows that had no part in the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.split import Spans
from carousel.series.history import Origins

__all__ = ["DRAWN", "QUARTERS", "WORTH", "Losses", "origins_of_each", "relative", "spread"]

Array = np.ndarray[Any, Any]

TOLD, FEWEST, MOST = 5000, 3, 12  # origins: of all series, about, and of one
FEW = 400  # of all, where the series are so few that this is more
DRAWN = (0.0, 1.0, 3.0, 10.0, 30.0)  # horizons of a series that the losses of all count as much as
QUARTERS = 4  # of the origins of a series
ROUNDING = 1e-6  # of the mean loss
WORTH = 0.995  # of the loss without, below which values for each series are worth having


@dataclass(frozen=True)
class Losses:
    """Losses of G ways to forecast.

    Args:
        sums: (S, QUARTERS, G) of absolute errors.
        rows: (S, QUARTERS) that were observed.
        horizons: (S,) that the origins of a series would fill, one after the other.
        quarter: (B,) of the origins of its series, in which each origin lies.
    """

    sums: Array
    rows: Array
    horizons: Array
    quarter: Array

    @classmethod
    def of(cls, origins: Origins, losses: Array, observed: Array, series: int, horizon: int) -> Losses:
        """Of origins as `spread` gives them.

        Args:
            losses: (B, G) sums of absolute errors over the horizon.
            observed: (B,) rows of it that were observed.
            series: S.
            horizon: K.
        """
        s, row = origins.series, origins.row
        count = np.bincount(s, minlength=series)
        place = np.arange(len(s)) - (np.cumsum(count) - count)[s]
        quarter = place * QUARTERS // count[s]
        sums, rows = np.zeros((series, QUARTERS, losses.shape[1])), np.zeros((series, QUARTERS))
        np.add.at(sums, (s, quarter), losses)
        np.add.at(rows, (s, quarter), observed)
        first, last = np.full(series, np.inf), np.full(series, -np.inf)
        np.minimum.at(first, s, row)
        np.maximum.at(last, s, row)
        horizons = np.where(count > 0, np.minimum(count, (last - first) / horizon + 1), 0.0)
        return cls(sums, rows, horizons, quarter)

    def of_some(self, ways: Array) -> Losses:
        """Of some ways, by their places."""
        return replace(self, sums=self.sums[..., ways])

    def without(self, quarter: int) -> Losses:
        """As if one quarter of every series were not known."""
        kept = np.arange(QUARTERS) != quarter
        share = (QUARTERS - 1) / QUARTERS
        return replace(self, sums=self.sums[:, kept], rows=self.rows[:, kept], horizons=self.horizons * share)

    @property
    def known(self) -> Array:
        """(S,) of which series anything was observed."""
        seen: Array = self.rows.sum(1) > 0
        return seen

    def means(self) -> Array:
        """(S', G) mean absolute errors of the series that are known."""
        found: Array = self.sums.sum(1)[self.known] / self.rows.sum(1)[self.known, None]
        return found

    def of_all(self) -> Array:
        """(G,) of all series, of which each counts alike; of mean 1, or 0 without any error."""
        means = self.means()
        found: Array = (means / np.maximum(means.mean(1, keepdims=True), 1e-300)).mean(0)
        return found

    def drawn(self, horizons: float) -> Array:
        """(S, G) losses of each series, drawn towards those of all.

        Args:
            horizons: of its own that those of all count as much as.
        """
        of_all, known = self.of_all(), self.known
        found = np.repeat(of_all[None], len(known), 0)
        own, n = self.means(), self.horizons[known, None]
        found[known] = (n * own + horizons * own.mean(1, keepdims=True) * of_all) / (n + horizons)
        return found


def origins_of_each(series: int) -> int:
    """How many origins tell of one series: 3 to 12 by how many series there are, more of very few."""
    return max(FEW // series, min(MOST, TOLD // series), FEWEST)


def spread(spans: Spans) -> Origins:
    """Origins evenly apart in every series, as many as `origins_of_each` allows."""
    S = len(spans.first)
    each = origins_of_each(S)
    long = np.maximum(spans.stop - spans.first, 0)
    count = np.minimum(each, long)
    series = np.repeat(np.arange(S), count)
    place = np.arange(len(series)) - (np.cumsum(count) - count)[series]
    back = (long[series] - 1) * (count[series] - 1 - place) // np.maximum(count[series] - 1, 1)
    return Origins(series, spans.stop[series] - 1 - back)


def relative(losses: Array, without: Array, series: Array) -> Array:
    """(T,) the mean, over the series, of what losses are to those without.

    Args:
        losses: (T, B) of T trials.
        without: (B,).
        series: (B,).
    """
    counted = np.bincount(series) > 0
    base = np.bincount(series, without)[counted]
    least = ROUNDING * base.mean() + 1e-300  # what is forecast without error is so in any way
    sums = np.array([np.bincount(series, loss)[counted] for loss in losses])
    found: Array = ((sums + least) / (base + least)).mean(1)
    return found
