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

__all__ = ["DRAWN", "QUARTERS", "WORTH", "Losses", "origins_of_each", "own_widths", "relative", "spread"]

Array = np.ndarray[Any, Any]

TOLD, FEWEST, MOST = 5000, 3, 12  # origins: of all series, about, and of one
FEW = 400  # of all, where the series are so few that this is more
DRAWN = (0.0, 1.0, 3.0, 10.0, 30.0)  # horizons of a series that the losses of all count as much as
QUARTERS = 4  # of the origins of a series
ROUNDING = 1e-6  # of the mean loss
FREE, SURE = 10, 2.0  # blocks beyond one a series, and standard deviations, that series must differ by
APART = 10.0  # times as large or small as usual, beyond which an error says no more
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


def own_widths(rest: Array, observed: Array, origins: Origins, series: int) -> Array | None:
    """(S + 1,) how many times as large as usual the errors of each series are, 1 for any other; None if that is chance.

    A random walk misses more at 14 days than its changes from day to day say, white noise less. The mean error of each
    series is drawn towards that of all, as far as blocks of one series differ among themselves (random effects,
    DerSimonian and Laird 1986).

    Args:
        rest: (B, K) errors in units of the scale.
        observed: (B, K).
        origins: B of them.
        series: S.
    """
    size, known = np.where(observed, np.abs(rest), 0.0), observed.any(1)
    usual = size.sum(0) / np.maximum(observed.sum(0), 1)
    size = (size / np.where(usual > 0, usual, 1)).sum(1)[known] / observed.sum(1)[known]
    where = np.stack([origins.series[known], origins.row[known] // rest.shape[1]], 1)
    blocks, place = np.unique(where, axis=0, return_inverse=True)
    place, s = place.reshape(-1), blocks[:, 0]
    of_block = np.bincount(place, size) / np.bincount(place)
    count = np.bincount(s, minlength=series)
    mean = np.bincount(s, of_block, minlength=series) / np.maximum(count, 1)
    some = np.flatnonzero(mean > 0)
    free = int((count[some] - 1).sum())
    if len(some) < 2 or free < FREE:
        return None
    apart = np.divide(of_block, mean[s], out=np.ones(len(s)), where=mean[s] > 0) - 1
    squares = float((apart**2).sum())
    follows = np.flatnonzero((np.diff(s) == 0) & (np.diff(blocks[:, 1]) == 1))
    # Forecasts of neighbouring blocks share rows; what one series has in all of them hides a part of that.
    alike = (
        float((apart[follows] * apart[follows + 1]).sum()) / squares + len(some) / count.sum()
        if squares
        else 0.0
    )
    chance = (1 + 2 * max(alike, 0.0)) * squares / free / count[some]
    if not chance.all():
        return None
    logs = np.log(mean[some])
    logs = np.clip(logs, np.median(logs) - np.log(APART), np.median(logs) + np.log(APART))
    more = _spread(logs, 1 / chance) - (len(some) - 1)
    if more <= SURE * np.sqrt(2 * (len(some) - 1)):
        return None
    between = more / ((1 / chance).sum() - (chance**-2).sum() / (1 / chance).sum())
    widths = np.ones(series + 1)
    usual = np.average(logs, weights=1 / (between + chance))
    widths[some] = np.exp(between / (between + chance) * (logs - usual))
    return widths


def _spread(x: Array, weights: Array) -> float:
    """The weighted sum of squares around the weighted mean."""
    return float((weights * (x - np.average(x, weights=weights)) ** 2).sum())
