"""New rows for a fitted model: its state moves on, what it has learned stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.dates import moment
from carousel.forecast.gaps import missing_places, observed_ends
from carousel.network.forecaster import CovariatePaths, ForecastModel, Tail
from carousel.series.covariates import Seen
from carousel.series.history import ENOUGH, Context, enough
from carousel.series.panel import Panel
from carousel.series.zones import is_twice
from carousel.stream.forecaster import ForecasterModel

__all__ = ["update"]

Array = np.ndarray[Any, Any]
_NOTE = "updated without fitting"


def update(runner: ForecasterModel, panel: Panel, notes: tuple[str, ...] = ()) -> ForecastModel:
    """The model after these rows: its forecasts are those of `predict` with all rows, up to rounding.

    Only the series of `panel` are touched. New series come to those that are known.

    Args:
        notes: on the new rows.

    Raises:
        DataError: rows of a known series that do not begin at its next row.
    """
    model = runner.value
    places = {name: s for s, name in enumerate(model.ids)}
    known = np.array([name in places for name in panel.ids], bool)
    old = np.flatnonzero(known)
    which = np.array([places[panel.ids[s]] for s in old], np.int64)
    added = panel.select(old)
    _check_next(model, added, which)
    state = _moved(runner, added, which)
    fresh = panel.select(np.flatnonzero(~known))
    history = runner.history(fresh)
    new = history.context(history.ends(), model.lookback, model.memory)
    tail, scaling, L = model.tail, model.scaling, model.lookback
    rows = None if tail.rows is None else np.concatenate([tail.rows, fresh.lengths])
    whole = enough(model.lookback, model.smoothing, model.season)
    if rows is None and (fresh.lengths < whole).any():
        rows = np.concatenate([np.full(len(model.ids), whole), fresh.lengths])
    if rows is not None:
        rows[which] += added.lengths
    fitted = tail.next if tail.fitted is None else tail.fitted
    smoothing, linear = model.smoothing, model.linear
    if smoothing is not None and smoothing.own is not None:
        common = np.repeat(smoothing.weights[None], len(fresh), 0)
        smoothing = replace(smoothing, own=np.concatenate([smoothing.own, common]))
    if linear is not None and linear.own is not None:
        linear = replace(linear, own=np.concatenate([linear.own, np.repeat(linear.own[-1:], len(fresh))]))
    calibration = model.calibration
    if calibration.own is not None:
        usual = np.repeat(calibration.own[-1:], len(fresh))
        calibration = replace(calibration, own=np.concatenate([calibration.own, usual]))
    deepar = model.deepar
    if deepar is not None and deepar.fitted is None and len(fresh):
        deepar = replace(deepar, fitted=len(model.ids))  # beside which a series is large or small
    kept = tuple(note for note in model.notes if not note.startswith(_NOTE))
    end = "; ".join((f"{_NOTE}: rows to {moment(panel.lasts.max())}", *notes))
    return replace(
        model,
        ids=(*model.ids, *fresh.ids),
        scaling=replace(
            scaling,
            center=np.concatenate([scaling.center, new.center]),
            scale=np.concatenate([scaling.scale, new.scale]),
        ),
        smoothing=smoothing,
        linear=linear,
        calibration=calibration,
        deepar=deepar,
        tail=Tail(
            np.concatenate([_with(tail.window, which, state.window), new.window]),
            np.concatenate([_with(tail.errors, which, state.errors), new.errors]),
            np.concatenate([_with(tail.next, which, state.next), new.next]),
            rows,
            np.concatenate([fitted, fresh.starts]),
            missing_places(np.concatenate([_observed(tail, added, which), observed_ends(fresh, L)])),
        ),
        notes=(*kept, end),
        covariates=_covariates(model.covariates, which, state.covariates, fresh, new.covariates),
    )


def _observed(tail: Tail, added: Panel, which: Array) -> Array:
    """(S, L) where the windows were observed, after the new rows of series `which`."""
    observed = tail.observed
    L = observed.shape[1]
    steps = np.arange(L) + added.lengths[:, None]  # of the old window and the new rows, one after the other
    old = np.take_along_axis(observed[which], np.minimum(steps, L - 1), 1)
    return _with(observed, which, np.where(steps < L, old, observed_ends(added, L)))


def _covariates(
    paths: CovariatePaths | None, which: Array, old: Seen | None, fresh: Panel, new: Seen | None
) -> CovariatePaths | None:
    """With the rows that series `which` have come to, and with those of new series."""
    if paths is None:
        return None
    assert old is not None
    assert new is not None
    assert fresh.covariates is not None
    L = paths.past.shape[1]
    return replace(
        paths,
        unit=np.concatenate([paths.unit, new.unit]),
        static=np.concatenate([paths.static, fresh.covariates.static]),
        past=np.concatenate([_with(paths.past, which, old.past), new.past]),
        future=np.concatenate([_with(paths.future, which, old.future[:, :L]), new.future[:, :L]]),
    )


def _check_next(model: ForecastModel, panel: Panel, which: Array) -> None:
    due = model.tail.next[which]
    for s in np.flatnonzero(panel.starts != due)[:1]:
        name, first, expected = panel.ids[s], moment(panel.starts[s]), moment(due[s])
        if panel.starts[s] < due[s]:
            zone = model.columns.zone
            clock = f" (the clock of {zone} shows it twice as daylight saving ends)"
            raise DataError(
                f"Series {name!r} has a row at {first}{clock if is_twice(panel.starts[s], zone) else ''}, but the "
                f"model knows all rows before {expected}; give only later ones, or fit again where old values have "
                "changed."
            )
        raise DataError(
            f"Series {name!r} begins at {first}, but its next row is {expected}; give the rows between, with "
            "empty cells where values are missing."
        )


def _moved(runner: ForecasterModel, panel: Panel, which: Array) -> Context:
    """The states of series `which` of the model after their new rows."""
    state = runner.last()[which]
    for t in range(int(panel.lengths.max(initial=0))):
        some = np.flatnonzero(panel.lengths > t)
        beside = _beside(runner.value.covariates, panel, some, t)
        after = runner.observe(state.next[some], panel.values[panel.offsets[some] + t], state[some], beside)
        state = _put(state, some, after)
    return state


def _beside(paths: CovariatePaths | None, panel: Panel, series: Array, row: int) -> dict[str, Array]:
    """The past and future covariates of one row of some series, by name, categories as texts."""
    if paths is None or panel.covariates is None:
        return {}
    given, found = panel.covariates, {}
    blocks = {
        "past": given.past[panel.offsets[series] + row],
        "future": given.future[given.offsets[series] + row],
    }
    for role, block in blocks.items():
        for column, x in zip(paths.of(role), block.T, strict=True):
            if column.categories is not None:
                # A code beyond them, and none, are no category.
                texts = np.array([*column.categories, None], object)
                last = len(column.categories)
                x = texts[np.where(x < last, x, last).astype(np.int64)]
            found[column.name] = x
    return found


def _put(state: Context, some: Array, after: Context) -> Context:
    return replace(
        state,
        window=_with(state.window, some, after.window),
        errors=_with(state.errors, some, after.errors),
        next=_with(state.next, some, after.next),
        covariates=_put_seen(state.covariates, some, after.covariates),
        rows=_put_rows(state.rows, some, after.rows),
    )


def _put_rows(rows: Array | None, some: Array, after: Array | None) -> Array | None:
    if rows is None:
        return None
    return _with(rows, some, np.full(len(some), ENOUGH) if after is None else after)


def _put_seen(seen: Seen | None, some: Array, after: Seen | None) -> Seen | None:
    if seen is None or after is None:
        return None
    L = seen.past.shape[1]
    future = _with(seen.future[:, :L], some, after.future[:, :L])
    return replace(seen, past=_with(seen.past, some, after.past), future=future)


def _with(array: Array, which: Array, rows: Array) -> Array:
    """A copy with other rows."""
    copy: Array = array.copy()
    copy[which] = rows
    return copy
