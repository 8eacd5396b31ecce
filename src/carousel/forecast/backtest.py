"""Rolling origins: what the fitted model and the baselines would have forecast, and how far off they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.frames import forecast_columns, to_frame
from carousel.forecast.plan import Plan
from carousel.forecast.scores import Scores, score
from carousel.forecast.split import every_origin
from carousel.forecast.verdict import is_shifted, table, verdict
from carousel.network.forecaster import Columns
from carousel.series.history import Origins
from carousel.series.panel import Panel
from carousel.stream.forecaster import ForecasterModel

__all__ = ["Backtest", "run_backtest"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest.

    Args:
        forecasts: a frame of id, `cutoff` (the last row that was known), time, y, the model with its
            intervals, and every baseline.
        scores: of the model ("carousel") and every baseline, at the same origins.
        verdict: what the scores say, in sentences.
        origins: how many forecasts were made.
    """

    forecasts: Any
    scores: dict[str, Scores]
    verdict: tuple[str, ...]
    origins: int

    def __str__(self) -> str:
        return "\n".join([f"{self.origins} origins", table(self.scores), *self.verdict])


def pick_origins(panel: Panel, plan: Plan, origins: int | None, step: int | None, start: Any) -> Origins:
    """Origins `step` rows apart: from time `start` on, or the last `origins` of every series.

    Raises:
        ArgumentError: a start that leaves no origin.
        DataError: series that are too short for one.
    """
    K, lengths = plan.horizon, panel.lengths
    step = K if step is None else step
    last = lengths - K
    least = np.minimum(plan.season + 1, lengths)
    if start is not None:
        stamps = np.full(len(panel), parse_start(start, panel.starts.dtype))
        # The first row at or after `start`: counted on the grid, for it need not be a row itself.
        first = np.array([np.searchsorted(panel.times(s), stamps[s]) for s in range(len(panel))])
        if (first < 1).all():
            raise ArgumentError(f"`start` must leave rows before the first origin, got {start!r}.")
        first = np.maximum(first, least)
        stop = last + 1 if origins is None else np.minimum(last + 1, first + origins * step)
    else:
        count = 10 if origins is None else origins
        first = np.maximum(last - (count - 1) * step, least + (last - least) % step)
        stop = last + 1
    every = every_origin(first, stop)
    chosen = every[(every.row - first[every.series]) % step == 0]
    if not len(chosen):
        raise DataError(
            f"No origin has {plan.season + 1} rows before it and {K} after it: the longest series has "
            f"{lengths.max(initial=0)} rows; give more rows or an earlier `start`."
        )
    return chosen


def parse_start(start: Any, dtype: Any) -> Any:
    """A date or a whole number, as the time column has it."""
    try:
        found = np.asarray(start).astype(dtype)
    except (TypeError, ValueError):
        found = np.asarray("NaT", "datetime64[us]")
    if found.dtype.kind == "M" and np.isnat(found):
        expected = "a whole number" if dtype == np.int64 else "a date such as 2024-01-31"
        raise ArgumentError(f"`start` must be {expected}, got {start!r}.")
    return found[()]


def run_backtest(
    model: ForecasterModel, panel: Panel, plan: Plan, origins: Origins, columns: Columns
) -> Backtest:
    """Forecasts at these origins; the baselines are fitted on the rows before the first of each series."""
    K = plan.horizon
    first = panel.lengths.copy()
    np.minimum.at(first, origins.series, origins.row)
    history = model.history(panel, first)
    forecast = model.forecasts(history, origins)
    steps = (panel.offsets[origins.series] + origins.row)[:, None] + np.arange(K)
    truth = panel.values[steps]
    unit = seasonal_unit(panel, plan.season, first)[origins.series]
    train = every_origin(np.minimum(plan.lookback, np.maximum(first // 3, 1)), first - K + 1)
    others = baselines(panel, plan, train, origins)
    scores = {"carousel": score(truth, forecast.mean, unit, forecast.intervals())}
    scores |= {name: score(truth, f, unit) for name, f in others.items()}
    window = model.user_window(history.context(origins, plan.lookback, 0))
    shifted = is_shifted(forecast.mean[:, 0], truth[:, 0], window)

    ids = [panel.ids[s] for s in origins.series]
    frame = forecast_columns(forecast, ids, columns)
    cutoff = panel.frequency.shift(panel.starts[origins.series], origins.row - 1)
    id, time = list(frame)[:2]
    first_columns = {id: frame.pop(id), "cutoff": np.repeat(cutoff, K)}
    first_columns |= {time: frame.pop(time), "y": truth.reshape(-1)}
    frame = first_columns | frame | {name: f.reshape(-1) for name, f in others.items()}
    return Backtest(to_frame(frame, columns.frame), scores, verdict(scores, shifted), len(origins))
