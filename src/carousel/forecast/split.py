"""Which rows train, which choose, which judge: always in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.series.history import Origins
from carousel.series.panel import Panel

__all__ = ["BLOCKS", "Split", "every_origin", "judges", "split", "thinned"]

Array = np.ndarray[Any, Any]

LEAST, MOST, USUAL = (
    2.5,
    0.35,
    0.15,
)  # held-out rows: at least 2.5 horizons, but 35 % at most; 15 % where many
FEWEST, BLOCKS = 5, 20  # of held-out origins, a horizon long, that judge a correction


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
    train: Origins
    choose: Origins
    judge: Origins


def split(panel: Panel, horizon: int, history: int) -> Split:
    """Splits a panel.

    Args:
        history: rows that an origin should have before it, where the series is long enough.
    """
    lengths = panel.lengths
    held = np.clip(np.ceil(LEAST * horizon), USUAL * lengths, MOST * lengths).astype(np.int64)
    cut = lengths - held
    least = np.minimum(history, np.maximum(cut // 3, 1))
    train = every_origin(least, cut - horizon + 1)
    # Held-out origins may look further than the series goes; what lies beyond is not scored.
    late = every_origin(cut, np.where(held >= 2 * horizon, lengths - horizon + 1, lengths))
    half = cut + held // 2
    first, second = late.row + horizon <= half[late.series], late.row >= half[late.series]
    if min(np.count_nonzero(first), np.count_nonzero(second)) >= 500:
        return Split(cut, train, late[first], late[second])
    return Split(cut, train, late, late)


def every_origin(first: Array, stop: Array) -> Origins:
    """All origins from row `first[s]` to before row `stop[s]` of every series."""
    counts = np.maximum(stop - first, 0)
    series = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return Origins(series, first[series] + within)


def judges(origins: int, horizon: int) -> int:
    """In how many blocks so many origins judge a network, at most 20; 0 where they are too few.

    Blocks are a horizon long, for origins nearer to each other share their rows. Of fewer than five a gain is chance,
    the more so where the same rows chose the epoch.
    """
    blocks = min(BLOCKS, origins // horizon)
    return blocks if blocks >= FEWEST else 0


def thinned(origins: Origins, most: int) -> Origins:
    """At most `most` of the origins, drawn without the user's seed so that every fit sees the same ones."""
    if len(origins) <= most:
        return origins
    drawn = np.random.default_rng(0).choice(len(origins), most, replace=False)
    return origins[np.sort(drawn)]
