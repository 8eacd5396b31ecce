"""Backtests that do not flatter: the model has not seen the rows that it is judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.backtest import Backtest, Schedule, parse_start, pick_origins, seen_origins
from carousel.forecast.dates import moment
from carousel.forecast.estimator import Forecaster
from carousel.forecast.plan import Plan
from carousel.forecast.read import Reading
from carousel.forecast.refit import check_left, most_origins, plan_of

__all__ = ["backtest_from_start", "fair_backtest"]

Array = np.ndarray[Any, Any]


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
        origins: how many, per series: the last ones that have `horizon` rows after them (10, or as many as leave
            enough rows to fit on), or with `start` the first ones (all).
        step: rows from one origin to the next; `horizon` without.
        start: time of the first forecast row.

    Raises:
        ArgumentError: a start that is no time.
        DataError: no rows are left to fit on.
    """
    panel, params, K = reading.panel, forecaster.get_params(), forecaster.horizon
    with reading.blamed():
        plan_of(params, panel)
        if start is not None:
            start = parse_start(start, panel.starts.dtype, reading.names.zone)
            rows = np.array([np.searchsorted(panel.times(s), start) for s in range(len(panel))])
        else:

            def before(count: int) -> Array:
                rows: Array = panel.lengths - K - (count - 1) * (K if step is None else step)
                return np.maximum(rows, 0)

            origins = most_origins(params, panel, before) if origins is None else origins
            rows = before(origins)
        check_left(params, panel, rows, Schedule(origins, step, start))
        if (rows + K > panel.lengths).all():  # else the fit would be for nothing
            raise DataError(
                f"No series has {K} rows to compare with after an origin at {moment(start)}; "
                "take an earlier `start`."
            )
    forecaster.fit(replace(reading, panel=panel.head(rows).select(np.flatnonzero(rows > 0))))
    return forecaster.backtest(reading, origins=origins, step=step, start=start)


def fair_backtest(
    forecaster: Forecaster, reading: Reading, to_fit: Callable[[], Reading], **schedule: Any
) -> tuple[Backtest, str]:
    """A backtest of a fitted forecaster, or where it has seen some of the rows, of its settings fitted once more.

    Args:
        reading: the rows in the columns that the model reads.
        to_fit: gives the rows in all columns that a fit may choose from.
        **schedule: `origins`, `step` and `start` of `Forecaster.backtest`.

    Returns:
        The backtest, and in a sentence which model it was made with.
    """
    model, panel = forecaster.model_, reading.panel
    with reading.blamed():
        origins = pick_origins(panel, Plan.of(model, panel.frequency), Schedule(**schedule))
    if not seen_origins(model, panel, origins).any():
        return forecaster.backtest(reading, **schedule), "The model had not seen these rows."
    anew = Forecaster(**{**forecaster.get_params(), "progress": False})
    return (
        backtest_from_start(anew, to_fit(), **schedule),
        "The model was fitted on these rows; to be fair, it was fitted anew on the rows before them.",
    )
