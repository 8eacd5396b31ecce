"""Backtests that do not flatter: the model has not seen the rows that it is judged on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.backtest import USUAL, Backtest, Schedule, parse_start, pick_origins, seen_origins
from carousel.forecast.estimator import Forecaster
from carousel.forecast.plan import Plan
from carousel.forecast.read import Reading, moment

__all__ = ["backtest_from_start", "fair_backtest"]


def backtest_from_start(
    forecaster: Forecaster,
    reading: Reading,
    *,
    origins: int | None = None,
    step: int | None = None,
    start: Any = None,
) -> Backtest:
    """From nothing: fits once, on rows before the first origin only, and forecasts from every origin.

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


def fair_backtest(forecaster: Forecaster, reading: Reading, **schedule: Any) -> tuple[Backtest, str]:
    """A backtest of a fitted forecaster, or where it has seen some of the rows, of its settings fitted once more.

    Args:
        **schedule: `origins`, `step` and `start` of `Forecaster.backtest`.

    Returns:
        The backtest, and in a sentence which model it was made with.
    """
    model, panel = forecaster.model_, reading.panel
    with reading.blamed():
        origins = pick_origins(panel, Plan.of(model, panel.frequency), Schedule(**schedule))
    if not seen_origins(model, panel, origins).any():
        return forecaster.backtest(reading, **schedule), "The model had not seen these rows."
    result = forecaster.backtest(reading, **schedule, refit=len(origins))
    return (
        result,
        "The model was fitted on these rows; to be fair, it was fitted anew on the rows before them.",
    )
