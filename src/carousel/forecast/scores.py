"""Accuracy of forecasts, in the user's unit.

Written out in NumPy: `utilsforecast.losses` says the same of long frames, but takes 3 s to import and as many
passes over the data as there are metrics; `tests/test_forecast_scores.py` holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Scores", "score"]

Array = np.ndarray[Any, Any]


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
    """

    mae: float
    rmse: float
    mase: float
    smape: float
    coverage: dict[float, float]


def score(
    truth: Array,
    forecast: Array,
    unit: Array,
    intervals: dict[float, tuple[Array, Array]] | None = None,
) -> Scores:
    """Scores of B origins.

    Args:
        truth: (B, K); NaN where it is not known.
        forecast: (B, K).
        unit: (B,) mean absolute seasonal difference of the series' training rows; 0 leaves a row out of MASE.
        intervals: lower and upper (B, K) per level.
    """
    known = ~np.isnan(truth)
    if not known.any():
        nan = float("nan")
        return Scores(nan, nan, nan, nan, dict.fromkeys(intervals or {}, nan))
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
    )
