"""How sure a difference between two forecasts is: errors at the same origins, drawn again in blocks.

Forecasts from neighbouring origins share most of the rows that they are held against, and one month's surprise
hits many series. So the origins of one moment are drawn together, and in blocks of neighbours: the circular
block bootstrap of Politis and Romano (1992). Where there are too few moments, whole series are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Gain", "gain"]

Array = np.ndarray[Any, Any]

DRAWS = 2000
LEVEL = 95  # per cent, of the interval
BLOCKS = 5  # of moments, below which an interval over them would say too little
SERIES = 10  # below which one over series would


@dataclass(frozen=True)
class Gain:
    """By what share the model's RMSE is below another forecast's; negative where it is above.

    Args:
        share: 1 - RMSE of the model / RMSE of the other.
        lower: of the 95 % interval; NaN where there is too little to say.
        upper: likewise.
        drawn: what was drawn, "37 origins in blocks of 12" or "48 series".
    """

    share: float
    lower: float
    upper: float
    drawn: str

    @property
    def sure(self) -> bool:
        """Whether the interval excludes that there is no difference."""
        return self.lower > 0 or self.upper < 0


def gain(truth: Array, model: Array, other: Array, moments: Array, series: Array, span: int) -> Gain:
    """The gain over another forecast, with its interval.

    Args:
        truth: (B, K); NaN where it is not known.
        model: (B, K).
        other: (B, K).
        moments: (B,) time of each origin.
        series: (B,) number of its series.
        span: neighbouring moments whose forecasts overlap, at least 1.
    """
    errors = np.stack([np.nansum((f - truth) ** 2, 1) for f in (model, other)], 1)
    moment, at = np.unique(moments, return_inverse=True)
    length = max(span, min(round(len(moment) ** (1 / 3)), len(moment) // BLOCKS))
    if len(moment) >= BLOCKS * length:
        sums, drawn = _sums(errors, at, len(moment)), f"{len(moment)} origins"
        drawn += f" in blocks of {length}" if length > 1 else ""
    elif (count := len(np.unique(series))) >= SERIES:
        sums, length, drawn = (
            _sums(errors, np.unique(series, return_inverse=True)[1], count),
            1,
            f"{count} series",
        )
    else:
        sums, length, drawn = errors[:0], 1, f"{len(moment)} origin{'s' * (len(moment) > 1)}"
    share = float(_share(errors.sum(0)))
    if not len(sums) or not np.isfinite(share):
        return Gain(share, float("nan"), float("nan"), drawn)
    lower, upper = np.nanpercentile(_draws(sums, length), [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Gain(share, float(lower), float(upper), drawn)


def _share(sums: Array) -> Array:
    """1 - the root of the ratio of summed squares (..., 2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Array = 1 - np.sqrt(sums[..., 0] / sums[..., 1])
    return share


def _sums(errors: Array, group: Array, count: int) -> Array:
    return np.stack([np.bincount(group.reshape(-1), column, count) for column in errors.T], 1)


def _draws(sums: Array, length: int) -> Array:
    """(DRAWS,) shares of series of blocks, each block some neighbours; the end is followed by the beginning."""
    rng, n = np.random.default_rng(0), len(sums)
    running = np.concatenate([np.zeros((1, 2)), np.cumsum(np.concatenate([sums, sums[: length - 1]]), 0)])
    blocks = running[length:] - running[:-length]
    drawn = [_share(blocks[rng.integers(n, size=(20, -(-n // length)))].sum(1)) for _ in range(DRAWS // 20)]
    return np.concatenate(drawn)
