"""Rolling origins: what the fitted model and the baselines would have forecast, and how far off they were."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from carousel.errors import ArgumentError, DataError, check_integer
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.comparison import Gain, gain
from carousel.forecast.covariates import check_known
from carousel.forecast.dates import moment
from carousel.forecast.frames import forecast_columns, to_frame
from carousel.forecast.plan import Plan
from carousel.forecast.read import Reading
from carousel.forecast.scores import LEVELS, Scores, crps, score
from carousel.forecast.split import Spans
from carousel.forecast.verdict import is_shifted, table, verdict
from carousel.network.forecaster import Columns, ForecastModel
from carousel.series.history import History, Origins
from carousel.series.panel import Panel
from carousel.series.unit import from_unit
from carousel.series.zones import in_zone
from carousel.stream.cells import has_offset, stamp
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Backtest",
    "Part",
    "Schedule",
    "first_rows",
    "fitted_backtest",
    "forecast_part",
    "forecasts_with_crps",
    "pick_origins",
    "seen_origins",
    "summary",
]

Array = np.ndarray[Any, Any]

STAGES = ("smoothing", "covariates", "linear path", "recurrent path")  # covariates where a model reads them
USUAL = 10  # origins of every series
BLOCK = 512  # origins whose many intervals are in memory at a time


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest.

    Args:
        forecasts: a frame of id, `cutoff` (the last row that was known), time, y, the model with its
            intervals, and every baseline.
        scores: of the model ("carousel") and every baseline, at the same origins.
        verdict: what the scores say, in sentences.
        origins: how many forecasts were made.
        gains: of the model over every baseline, with an interval.
        fits: how many models were fitted for them.
        parts: RMSE of the model cut short after its smoothing, after its covariates if it reads some, after its
            linear path, and whole.
        cutoffs: (B,) the last row that was known at each origin, by the wall clock.
    """

    forecasts: Any
    scores: dict[str, Scores]
    verdict: tuple[str, ...]
    origins: int
    gains: dict[str, Gain]
    fits: int = 1
    parts: dict[str, float] = field(default_factory=dict)
    cutoffs: Array = field(default_factory=lambda: np.zeros(0, "datetime64[us]"), repr=False)

    def plot(self, path: str | os.PathLike[str] | None = None, *, kind: str = "step") -> Figure:
        """Errors or coverage as a matplotlib figure.

        Args:
            path: file to write; its suffix names the format.
            kind: "step" for the mean absolute error by step ahead, "origin" by origin, "coverage" for the share
                of truths inside the intervals.

        Raises:
            ArgumentError: another kind.
        """
        from carousel.forecast.pictures import plot_backtest

        return plot_backtest(self, kind, path)

    def __str__(self) -> str:
        fits = f", {self.fits} fits" if self.fits > 1 else ""
        origins = f"{self.origins} origin{'s' * (self.origins > 1)}"
        return "\n".join([f"{origins}{fits}", table(self.scores), *self.verdict])


@dataclass(frozen=True)
class Schedule:
    """Origins `step` rows apart (`horizon` without): from time `start` on, or the last `origins` of every series.

    Raises:
        ArgumentError: `origins` or `step` is no whole number of at least 1.
    """

    origins: int | None = None
    step: int | None = None
    start: Any = None

    def __post_init__(self) -> None:
        for name in ("origins", "step"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)


def pick_origins(panel: Panel, plan: Plan, schedule: Schedule) -> Origins:
    """The origins of a schedule that have rows before them and `horizon` rows after them.

    Raises:
        ArgumentError: a start that leaves no origin.
        DataError: series that are too short for one.
    """
    K, lengths = plan.horizon, panel.lengths
    origins, start = schedule.origins, schedule.start
    step = K if schedule.step is None else schedule.step
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
        count = USUAL if origins is None else origins
        first = np.maximum(last - (count - 1) * step, least + (last - least) % step)
        stop = last + 1
    every = Spans(first, stop)[:]
    chosen = every[(every.row - first[every.series]) % step == 0]
    if not len(chosen):
        raise DataError(
            f"No origin has {plan.season + 1} rows before it and {K} after it: the longest series has "
            f"{lengths.max(initial=0)} rows; give more rows or an earlier `start`."
        )
    return chosen


def seen_origins(model: ForecastModel, panel: Panel, origins: Origins) -> Array:
    """(B,) whether a forecast reaches into rows that the model was fitted on, which flatters it."""
    ends = _fitted_until(model, panel)[origins.series]
    seen: Array = panel.frequency.shift(panel.starts[origins.series], origins.row) < ends
    return seen


def check_unseen(model: ForecastModel, panel: Panel, origins: Origins) -> None:
    """Refuses origins in rows that the model was fitted on.

    Raises:
        ArgumentError: there are some.
    """
    seen = seen_origins(model, panel, origins)
    if seen.any():
        s = origins.series[seen.argmax()]
        last = panel.frequency.shift(_fitted_until(model, panel)[s], np.array(-1))
        raise ArgumentError(
            f"{seen.sum()} of {len(seen)} origins lie in rows that the model was fitted on, which flatters it: "
            f"those of series {panel.ids[s]!r} go to {moment(last)}. Give `start` after them, or `refit` = 1 to "
            "fit anew on the rows before each origin, or fitted_rows='allow'."
        )


def _fitted_until(model: ForecastModel, panel: Panel) -> Array:
    """(S,) the time after the last fitted row of every series of a panel; its start if it was not fitted."""
    tail = model.tail
    until = dict(zip(model.ids, tail.next if tail.fitted is None else tail.fitted, strict=True))
    pairs = zip(panel.ids, panel.starts, strict=True)
    return np.array([until.get(name, start) for name, start in pairs], panel.starts.dtype)


def parse_start(start: Any, dtype: Any, zone: str | None = None) -> Any:
    """A date or a whole number, as the time column has it.

    Args:
        zone: of the rows, whose clock tells a time that is in any zone; without one, its own clock does.
    """
    given = start
    if isinstance(start, str) and dtype != np.int64 and has_offset(start.strip()):
        with suppress(DataError):  # a day that no calendar has
            start = stamp(start.strip(), dtype, zone)
    if getattr(start, "tzinfo", None) is not None:  # NumPy would count it in UTC
        ahead = np.array([start.utcoffset() // timedelta(minutes=1)])
        start = np.datetime64(start.replace(tzinfo=None), "us")
        there = in_zone(np.array([start]), ahead, zone)
        start = start if there is None else there[0]
    try:
        found = np.asarray(start).astype(dtype)
    except (TypeError, ValueError):
        found = np.asarray("NaT", "datetime64[us]")
    if found.dtype.kind == "M" and np.isnat(found):
        expected = "a whole number" if dtype == np.int64 else "a date such as 2024-01-31"
        raise ArgumentError(f"`start` must be {expected}, got {given!r}.")
    return found[()]


@dataclass(frozen=True)
class Part:
    """What one fitted model and its baselines say at some origins.

    Args:
        origins: B of the panel.
        forecast: of the model.
        crps: (B, K).
        others: (B, K) of every baseline.
        recent: (B, 3) the last values before each origin, filled, in the user's unit.
        stages: (B, K) of the model cut short after each of its parts, see `STAGES`; none of a model without them.
    """

    origins: Origins
    forecast: Forecast
    crps: Array
    others: dict[str, Array]
    recent: Array
    stages: dict[str, Array]


def forecast_part(model: ForecasterModel, panel: Panel, plan: Plan, origins: Origins, first: Array) -> Part:
    """Forecasts at these origins.

    Args:
        first: (S,) rows that were fitted, and may fit the baselines.
    """
    # A series that was not fitted is scaled by all its rows before its first origin.
    history = model.history(panel, np.maximum(first, first_rows(panel, origins)))
    forecast, losses = forecasts_with_crps(model, history, origins, targets(panel, origins, plan.horizon))
    train = Spans(np.minimum(plan.lookback, np.maximum(first // 3, 1)), first - plan.horizon + 1)
    others = baselines(panel, plan, train, origins)
    recent = history.context(origins, min(plan.lookback, 3), 0).window
    stages = {name: cut.forecasts(history, origins, ()).mean for name, cut in cut_short(model).items()}
    return Part(origins, forecast, losses, others, from_unit(recent, model.value.scaling.unit), stages)


def cut_short(model: ForecasterModel) -> dict[str, ForecasterModel]:
    """The model after each of `STAGES`, and whole; nothing without them."""
    value = model.value
    if value.smoothing is None:
        return {}
    levelled = replace(value, linear=None, recurrent=None)
    cuts = {"covariates": levelled, "linear path": replace(value, recurrent=None)}
    if (paths := value.covariates) is None:
        cuts["smoothing"] = cuts.pop("covariates")
    else:
        cuts["smoothing"] = replace(
            levelled, covariates=replace(paths, effect=None, path=None, recurrent=False)
        )
    runners = {name: ForecasterModel(cut) for name, cut in cuts.items()} | {STAGES[-1]: model}
    return {name: runners[name] for name in STAGES if name in runners}


def forecasts_with_crps(
    model: ForecasterModel, history: History, origins: Origins, truth: Array, points: Array | None = None
) -> tuple[Forecast, Array]:
    """The forecasts with the model's own intervals, and their CRPS (B, K) from many more.

    Args:
        truth: (B, K) in the user's unit.
        points: (B, K) of `ForecasterModel.points`, where they are known.
    """
    levels = model.value.level
    parts, losses = [], [np.zeros((0, truth.shape[1]))]
    for b in range(0, max(len(origins), 1), BLOCK):
        block = slice(b, b + BLOCK)
        known = None if points is None else points[block]
        forecast = model.forecasts(history, origins[block], (*levels, *LEVELS), known)
        inner = {a: pair for a, pair in forecast.intervals().items() if a in LEVELS}
        losses.append(crps(truth[block], forecast.mean, inner))
        parts.append(forecast.only(levels))
    return Forecast.join(parts), np.concatenate(losses)


def targets(panel: Panel, origins: Origins, horizon: int) -> Array:
    """(B, K) the rows from each origin on, in the user's unit; NaN where missing."""
    steps = (panel.offsets[origins.series] + origins.row)[:, None] + np.arange(horizon)
    truth: Array = panel.values[steps]
    return truth


def first_rows(panel: Panel, origins: Origins) -> Array:
    """(S,) the rows before the first origin of every series; all of a series without one."""
    first: Array = panel.lengths.copy()
    np.minimum.at(first, origins.series, origins.row)
    return first


def fitted_backtest(
    runner: ForecasterModel, reading: Reading, schedule: Schedule, kind: str, *, fitted_rows: bool = False
) -> Backtest:
    """Forecasts with one model; the baselines are fitted on the rows before the first origin of each series.

    Args:
        kind: of the frame of forecasts.
        fitted_rows: whether origins within the rows that the model was fitted on are taken, and said, too.

    Raises:
        ArgumentError: a start that leaves no origin, or origins within the fitted rows.
        DataError: series that are too short; a future covariate that is not known at an origin.
    """
    model, panel = runner.value, reading.panel
    plan = Plan.of(model, panel.frequency)
    with reading.blamed():
        origins = pick_origins(panel, plan, schedule)
        if model.covariates is not None:
            check_known(panel, model.covariates.columns, origins, model.horizon)
    if not fitted_rows:
        check_unseen(model, panel, origins)
    part = forecast_part(runner, panel, plan, origins, first_rows(panel, origins))
    columns = replace(model.columns, frame=kind, zone=reading.names.zone, unit=reading.names.unit)
    result = summary([part], panel, plan, columns)
    seen = int(seen_origins(model, panel, origins).sum())
    if not seen:
        return result
    warning = f"{seen} of {len(origins)} origins lie in rows that the model was fitted on: this flatters it."
    return replace(result, verdict=(*result.verdict, warning))


def summary(parts: list[Part], panel: Panel, plan: Plan, columns: Columns, fits: int = 1) -> Backtest:
    """Scores, comparison and table of all parts together, in the order of series and time."""
    K = plan.horizon
    origins = Origins(
        np.concatenate([part.origins.series for part in parts]),
        np.concatenate([part.origins.row for part in parts]),
    )
    order = np.lexsort((origins.row, origins.series))
    origins, forecast = origins[order], Forecast.join([part.forecast for part in parts]).at(order)
    losses = np.concatenate([part.crps for part in parts])[order]
    names = [name for name in parts[0].others if all(name in part.others for part in parts)]
    others = {name: np.concatenate([part.others[name] for part in parts])[order] for name in names}
    recent = np.concatenate([part.recent for part in parts])[order]

    truth = targets(panel, origins, K)
    unit = seasonal_unit(panel, plan.season, first_rows(panel, origins))[origins.series]
    scores = {"carousel": score(truth, forecast.mean, unit, forecast.intervals(), losses)}
    scores |= {name: score(truth, f, unit) for name, f in others.items()}
    times = panel.frequency.shift(panel.starts[origins.series], origins.row)
    span = overlapping(origins, K)
    gains = {name: gain(truth, forecast.mean, f, times, origins.series, span) for name, f in others.items()}
    shifted = is_shifted(forecast.mean[:, 0], truth[:, 0], recent)

    ids = [panel.ids[s] for s in origins.series]
    frame = forecast_columns(forecast, ids, columns)
    cutoff = panel.frequency.shift(panel.starts[origins.series], origins.row - 1)
    id, time = list(frame)[:2]
    first_columns = {id: frame.pop(id), "cutoff": np.repeat(cutoff, K)}
    first_columns |= {time: frame.pop(time), "y": truth.reshape(-1)}
    frame = first_columns | frame | {name: f.reshape(-1) for name, f in others.items()}
    given = panel.covariates
    blind = given is not None and given.past.shape[1] + given.future.shape[1] > 0
    said = verdict(scores, shifted, gains, blind)
    worth = {
        name: score(truth, np.concatenate([part.stages[name] for part in parts])[order], unit).rmse
        for name in parts[0].stages
        if all(name in part.stages for part in parts)
    }
    answer = to_frame(
        frame, columns.frame, columns.zone, columns.unit, True, not panel.frequency.within_a_day
    )
    return Backtest(answer, scores, said, len(origins), gains, fits, worth, cutoff)


def overlapping(origins: Origins, horizon: int) -> int:
    """How many neighbouring origins of a series forecast some row in common."""
    apart = np.diff(origins.row)[np.diff(origins.series) == 0]
    return 1 if not len(apart) else -(-horizon // int(apart.min()))
