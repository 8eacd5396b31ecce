"""Which rows train, which choose, which judge: always in the order of time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carousel.series.history import Origins
from carousel.series.panel import Panel

__all__ = ["BLOCKS", "Spans", "Split", "judges", "split", "thinned"]

Array = np.ndarray[Any, Any]

LEAST, MOST, USUAL = (
    2.5,
    0.35,
    0.15,
)  # held-out rows: at least 2.5 horizons, but 35 % at most; 15 % where many
FEWEST, BLOCKS = 5, 20  # of held-out origins, a horizon long, that judge a correction


@dataclass(frozen=True)
class Spans:
    """All origins from row `first[s]` to before row `stop[s]` of every series (two (S,) arrays), not written out."""

    first: Array
    stop: Array

    @cached_property
    def _ends(self) -> Array:
        """(S,) how many origins there are up to the last one of each series."""
        ends: Array = np.cumsum(np.maximum(self.stop - self.first, 0))
        return ends

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: Any) -> Origins:
        """Some origins, by their numbers or as a slice."""
        number = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        series = np.searchsorted(self._ends, number, side="right")
        return Origins(series, self.stop[series] - (self._ends[series] - number))

    def none(self) -> Spans:
        """No origin."""
        return Spans(self.first, self.first)

    def row_quantiles(self, q: Array) -> Array:
        """As `Origins.row_quantiles`."""
        place = q * (len(self) - 1)
        low, high = ([self._sorted_row(int(k)) for k in at(place)] for at in (np.floor, np.ceil))
        quantiles: Array = low + (place - np.floor(place)) * np.subtract(high, low)
        return quantiles

    def _sorted_row(self, k: int) -> int:
        """The row of origin `k` if all were sorted by their rows: the first up to which lie more than k."""
        count = np.maximum(self.stop - self.first, 0)
        return bisect_right(
            range(int(self.stop.max())), k, key=lambda row: int(np.clip(row + 1 - self.first, 0, count).sum())
        )


@dataclass(frozen=True)
class Split:
    """Three kinds of origins.

    Args:
        cut: (S,) rows of each series that train; scalers and weights see nothing after them.
        train: origins whose whole horizon lies before the cut.
        choose: origins after the cut that choose penalties and epochs.
        judge: origins after the cut that score, and calibrate: later ones than `choose` where there are
            enough, else the same, which flatters the scores a little.
    """

    cut: Array
    train: Spans
    choose: Spans
    judge: Spans


def split(panel: Panel, horizon: int, history: int) -> Split:
    """Splits a panel.

    Args:
        history: rows that an origin should have before it, where the series is long enough.
    """
    lengths = panel.lengths
    held = np.clip(np.ceil(LEAST * horizon), USUAL * lengths, MOST * lengths).astype(np.int64)
    cut = lengths - held
    least = np.minimum(history, np.maximum(cut // 3, 1))
    train = Spans(least, cut - horizon + 1)
    # Held-out origins may look further than the series goes; what lies beyond is not scored.
    late = Spans(cut, np.where(held >= 2 * horizon, lengths - horizon + 1, lengths))
    half = cut + held // 2
    first, second = Spans(cut, np.minimum(late.stop, half - horizon + 1)), Spans(half, late.stop)
    if min(len(first), len(second)) >= 500:
        return Split(cut, train, first, second)
    return Split(cut, train, late, late)


def judges(origins: int, horizon: int) -> int:
    """In how many blocks so many origins judge a network, at most 20; 0 where they are too few.

    Blocks are a horizon long, for origins nearer to each other share their rows. Of fewer than five a gain is chance,
    the more so where the same rows chose the epoch.
    """
    blocks = min(BLOCKS, origins // horizon)
    return blocks if blocks >= FEWEST else 0


def thinned(origins: Origins | Spans, most: int) -> Origins:
    """At most `most` of the origins, drawn without the user's seed so that every fit sees the same ones."""
    if len(origins) <= most:
        return origins[:]
    drawn = np.random.default_rng(0).choice(len(origins), most, replace=False)
    return origins[np.sort(drawn)]
