"""Backtests that fit again as they go: every k-th origin gets a model of the rows before it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.forecast.backtest import (
    USUAL,
    Backtest,
    Part,
    Schedule,
    first_rows,
    forecast_part,
    parse_start,
    pick_origins,
    summary,
)
from carousel.forecast.dates import moment
from carousel.forecast.plan import Plan, plan
from carousel.forecast.settings import Settings
from carousel.series.history import Origins
from carousel.stream.forecaster import ForecasterModel

if TYPE_CHECKING:
    from carousel.forecast.read import Reading
    from carousel.series.panel import Panel

__all__ = ["check_left", "most_origins", "plan_of", "refitted_backtest"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Task:
    """One fit and the origins that it serves.

    Args:
        params: of the Forecaster.
        reading: the rows up to the end of the last forecast.
        plan: of the baselines.
        origins: all at or after the end of the rows that are fitted.
        rows: (S,) rows that are fitted.
    """

    params: dict[str, Any]
    reading: Reading
    plan: Plan
    origins: Origins
    rows: Array


def refitted_backtest(
    params: dict[str, Any], reading: Reading, schedule: Schedule, kind: str, *, every: int, jobs: int
) -> Backtest:
    """Fits at every `every`-th moment that has an origin, on the rows of all series before that moment.

    Args:
        params: of the Forecaster.
        schedule: with neither `origins` nor `start` it has as many origins as the rows allow, up to the usual.
        kind: of the frame of forecasts.
        jobs: processes; any number gives the same result.

    Raises:
        DataError: the rows before the first origin are too few.
        ArgumentError: a parameter that cannot be, or the processes cannot be started.
    """
    panel = reading.panel
    with reading.blamed():
        whole = plan_of(params, panel)

        def before(count: int | None) -> Array:
            picked = pick_origins(panel, whole, replace(schedule, origins=count))
            lasting = _goes_on(panel, whole.horizon)[picked.series]
            return first_rows(panel, picked[lasting] if lasting.any() else picked)

        if schedule.start is None and schedule.origins is None:
            schedule = replace(schedule, origins=most_origins(params, panel, before))
        rows = before(schedule.origins)
        check_left(params, panel, rows, schedule)
        origins = _with_enough(params, panel, pick_origins(panel, whole, schedule))
        # Seasons that are found in the rows are found before the first origin.
        shape = plan_of(params, panel.head(rows))
    step = shape.horizon if schedule.step is None else schedule.step
    tasks = list(_tasks(params, reading, shape, origins, every, step))
    if jobs == 1 or len(tasks) == 1:
        parts = [_run(task) for task in tasks]
    else:
        parts = _in_processes(tasks, jobs)
    return summary(parts, panel, shape, reading.columns(kind), fits=len(tasks))


def _goes_on(panel: Panel, horizon: int) -> Array:
    """(S,) whether a series has rows in the last horizon of the panel."""
    goes_on: Array = panel.lasts > panel.frequency.shift(panel.lasts.max(), np.int64(-horizon))
    return goes_on


def _with_enough(params: dict[str, Any], panel: Panel, origins: Origins) -> Origins:
    """The origins without the early ones of series that ended long ago, before which too little would be left."""
    times = panel.frequency.shift(panel.starts[origins.series], origins.row)
    moments = np.unique(times)

    def enough(moment: Any) -> bool:
        return _can_fit(params, panel.head(_rows_before(panel, moment)))

    first = bisect_left(moments, True, key=enough)
    return origins[times >= moments[first]]


def _rows_before(panel: Panel, moment: Any) -> Array:
    """(S,) rows of each series before a time."""
    return np.array([np.searchsorted(panel.times(s), moment) for s in range(len(panel))])


def plan_of(params: dict[str, Any], panel: Panel) -> Plan:
    """The shape of a Forecaster of these parameters that is fitted on a panel; errors are those of `plan`."""
    s = Settings.of(params)
    return plan(panel, s.horizon, s.season, s.lookback, s.architecture != "auto")


def most_origins(params: dict[str, Any], panel: Panel, before: Callable[[int], Array]) -> int:
    """As many origins as leave enough rows to fit a model of the same season on, at least 1, up to the usual.

    Args:
        before: (S,) the rows before the first of so many origins.
    """
    season = plan_of(params, panel).season

    def alike(count: int) -> bool:
        left = panel.head(before(count))
        return _can_fit(params, left) and plan_of(params, left).season == season

    return next((n for n in range(USUAL, 1, -1) if alike(n)), 1)


def check_left(params: dict[str, Any], panel: Panel, rows: Array, schedule: Schedule) -> None:
    """Refuses a schedule before whose first origins, after (S,) `rows`, there is too little to fit on.

    Raises:
        DataError: that is so.
    """
    if _can_fit(params, panel.head(rows)):
        return
    if schedule.start is not None:
        first = f"an origin at {moment(parse_start(schedule.start, panel.starts.dtype))}"
    else:
        step = params["horizon"] if schedule.step is None else schedule.step
        first = f"{schedule.origins} origins {step} rows apart"
    way_out = "take fewer or later origins"
    if schedule.start is None and schedule.origins == 1:
        first, way_out = "1 origin", "give more history or a smaller horizon"
    raise DataError(
        f"Too little would be left to fit on with {first}: the longest series has "
        f"{panel.lengths.max()} rows; {way_out}."
    )


def _can_fit(params: dict[str, Any], panel: Panel) -> bool:
    """Whether these first rows of a panel, to which all of it fits, are enough."""
    try:
        plan_of(params, panel)
    except (ArgumentError, DataError):
        return False
    return True


def _tasks(
    params: dict[str, Any], reading: Reading, plan: Plan, origins: Origins, every: int, step: int
) -> Iterator[_Task]:
    """A fit at every `every`-th moment, and after as much time, for series may end long before the others."""
    panel = reading.panel
    times = panel.frequency.shift(panel.starts[origins.series], origins.row)
    moments = np.unique(times)
    begin, most = 0, min(every * step, int(panel.lengths.max()))  # more than a series has no date may bear
    while begin < len(moments):
        late = panel.frequency.shift(moments[begin], np.int64(most))
        end = min(begin + every, int(np.searchsorted(moments, late)))
        some = origins[(times >= moments[begin]) & (times <= moments[end - 1])]
        rows = _rows_before(panel, moments[begin])
        begin = end
        needed = rows.copy()
        np.maximum.at(needed, some.series, some.row + plan.horizon)
        yield _Task(params, replace(reading, panel=panel.head(needed)), plan, some, rows)


def _run(task: _Task) -> Part:
    from carousel.forecast.estimator import Forecaster

    panel = task.reading.panel
    begun = np.flatnonzero(task.rows > 0)
    fitted = panel.head(task.rows).select(begun)
    forecaster = Forecaster(**{**task.params, "progress": False}).fit(replace(task.reading, panel=fitted))
    model = forecaster.model_
    panel = task.reading.reduced(model.covariates).panel
    return forecast_part(ForecasterModel(model), panel, task.plan, task.origins, task.rows)


def _in_processes(tasks: list[_Task], jobs: int) -> list[Part]:
    # Spawned: a forked child would inherit the state of OpenMP's threads, but not the threads.
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"))
    try:
        return list(executor.map(_run, tasks))
    except BrokenProcessPool:
        raise ArgumentError(
            "`jobs`: a process died before it was done; in a script, call `backtest` under "
            "if __name__ == '__main__':, or give jobs=1."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)
