"""A backtest from nothing: fit on the rows before the first origin, then forecast from every origin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.backtest import Backtest, parse_start
from carousel.forecast.estimator import Forecaster
from carousel.forecast.read import Reading, moment

__all__ = ["backtest_from_start"]

USUAL = 10  # origins


def backtest_from_start(
    forecaster: Forecaster,
    reading: Reading,
    *,
    origins: int | None = None,
    step: int | None = None,
    start: Any = None,
) -> Backtest:
    """Fits once, on rows before the first origin only, and forecasts from every origin.

    Args:
        forecaster: fitted here.
        reading: all rows.
        origins: how many, per series: the last ones that have `horizon` rows after them (10), or with `start`
            the first ones (all).
        step: rows from one origin to the next; `horizon` without.
        start: time of the first forecast row.

    Raises:
        ArgumentError: a start that is no time.
        DataError: no rows are left to fit on.
    """
    panel, step = reading.panel, forecaster.horizon if step is None else step
    if start is not None:
        start = parse_start(start, panel.starts.dtype)
        rows = np.array([np.searchsorted(panel.times(s), start) for s in range(len(panel))])
        first = f"an origin at {moment(start)}"
    else:
        origins = USUAL if origins is None else origins
        rows = panel.lengths - forecaster.horizon - (origins - 1) * step
        first = f"{origins} origins {step} rows apart"
    with reading.blamed():
        if rows.max() < 1:
            raise DataError(
                f"Too little would be left to fit on with {first}: the longest series has "
                f"{panel.lengths.max()} rows; take fewer or later origins."
            )
        if (rows + forecaster.horizon > panel.lengths).all():  # else the fit would be for nothing
            raise DataError(
                f"No series has {forecaster.horizon} rows to compare with after {first}; "
                "take an earlier `start`."
            )
    forecaster.fit(replace(reading, panel=panel.head(np.maximum(rows, 0))))
    return forecaster.backtest(reading, origins=origins, step=step, start=start)
