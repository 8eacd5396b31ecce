"""Accuracy of forecasts, in the user's unit.

Written out in NumPy: `utilsforecast.losses` says the same of long frames, but takes 3 s to import and as many
passes over the data as there are metrics; `tests/test_forecast_scores.py` holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LEVELS", "Scores", "crps", "score"]

Array = np.ndarray[Any, Any]

LEVELS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent, of the intervals that CRPS is computed from


@dataclass(frozen=True)
class Scores:
    """Means over origins and steps where the truth is known.

    Args:
        mae: mean absolute error.
        rmse: root mean square error.
        mase: mean absolute error over that of the seasonal naive forecast on training rows (Hyndman and
            Koehler 2006), per series.
        smape: symmetric mean absolute percentage error, 200 |f - y| / (|f| + |y|), in per cent.
        coverage: per level, the share of truths inside the interval; empty without intervals.
        crps: continuous ranked probability score, twice the mean pinball loss of the quantiles 0.05, 0.1, …
            0.95 (Gneiting and Raftery 2007); of a forecast without intervals its mae.
    """

    mae: float
    rmse: float
    mase: float
    smape: float
    coverage: dict[float, float]
    crps: float = float("nan")


def score(
    truth: Array,
    forecast: Array,
    unit: Array,
    intervals: dict[float, tuple[Array, Array]] | None = None,
    crps: Array | None = None,
) -> Scores:
    """Scores of B origins.

    Args:
        truth: (B, K); NaN where it is not known.
        forecast: (B, K).
        unit: (B,) mean absolute seasonal difference of the series' training rows; 0 leaves a row out of MASE.
        intervals: lower and upper (B, K) per level.
        crps: (B, K) of `crps`; the absolute error without.
    """
    known = ~np.isnan(truth)
    if not known.any():
        nan = float("nan")
        return Scores(nan, nan, nan, nan, dict.fromkeys(intervals or {}, nan), nan)
    error = np.abs(forecast - truth)[known]
    size = (np.abs(forecast) + np.abs(truth))[known]
    units = np.broadcast_to(unit[:, None], truth.shape)[known]
    usable = units > 0
    coverage = {
        level: float(((low <= truth) & (truth <= high))[known].mean())
        for level, (low, high) in (intervals or {}).items()
    }
    return Scores(
        mae=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        mase=float((error[usable] / units[usable]).mean()) if usable.any() else float("nan"),
        smape=float(200 * np.where(size > 0, error / np.where(size > 0, size, 1), 0).mean()),
        coverage=coverage,
        crps=float((np.abs(forecast - truth) if crps is None else crps)[known].mean()),
    )


def crps(truth: Array, center: Array, intervals: dict[float, tuple[Array, Array]]) -> Array:
    """(B, K) twice the mean pinball loss of the median and of both ends of central intervals.

    Args:
        truth: (B, K).
        center: (B, K) the median.
        intervals: lower and upper (B, K) per level in per cent; those of `LEVELS` make the quantiles 0.05,
            0.1, … 0.95.
    """
    total = np.abs(truth - center) / 2
    for level, (lower, upper) in intervals.items():
        tail = (1 - level / 100) / 2
        for q, bound in ((tail, lower), (1 - tail, upper)):
            e = truth - bound
            total = total + np.maximum(q * e, (q - 1) * e)
    share: Array = 2 * total / (1 + 2 * len(intervals))
    return share
