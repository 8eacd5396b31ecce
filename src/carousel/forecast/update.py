"""New rows for a fitted model: its state moves on, what it has learned stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.forecast.read import moment
from carousel.network.forecaster import ForecastModel, Scaling, Tail
from carousel.series.history import Context
from carousel.series.panel import Panel
from carousel.series.unit import from_unit
from carousel.stream.forecaster import ForecasterModel

__all__ = ["update"]

Array = np.ndarray[Any, Any]
_NOTE = "updated without fitting"


def update(runner: ForecasterModel, panel: Panel) -> ForecastModel:
    """The model after these rows: its forecasts are those of `predict` with all rows, up to rounding.

    Only the series of `panel` are touched. New series come to those that are known.

    Raises:
        ArgumentError: a model that reads covariates.
        DataError: rows of a known series that do not begin at its next row.
    """
    model = runner.value
    if model.covariates is not None:
        names = ", ".join(column.name for column in model.covariates.columns)
        raise ArgumentError(
            f"`update` knows the target alone, but this model reads covariates ({names}); give all rows to `predict`."
        )
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
    tail, scaling = model.tail, model.scaling
    rows = None if tail.rows is None else np.concatenate([tail.rows, fresh.lengths])
    if rows is None and (fresh.lengths < _enough(model)).any():
        rows = np.concatenate([np.full(len(model.ids), _enough(model)), fresh.lengths])
    if rows is not None:
        rows[which] += added.lengths
    fitted = tail.next if tail.fitted is None else tail.fitted
    notes = tuple(note for note in model.notes if not note.startswith(_NOTE))
    return replace(
        model,
        ids=(*model.ids, *fresh.ids),
        scaling=Scaling.of(
            scaling.unit,
            np.concatenate([scaling.center, new.center]),
            np.concatenate([scaling.scale, new.scale]),
        ),
        tail=Tail(
            np.concatenate([_with(tail.window, which, state.window), new.window]),
            np.concatenate([_with(tail.errors, which, state.errors), new.errors]),
            np.concatenate([_with(tail.next, which, state.next), new.next]),
            rows,
            np.concatenate([fitted, fresh.starts]),
        ),
        notes=(*notes, f"{_NOTE}: rows to {moment(panel.lasts.max())}"),
    )


def _check_next(model: ForecastModel, panel: Panel, which: Array) -> None:
    due = model.tail.next[which]
    for s in np.flatnonzero(panel.starts != due)[:1]:
        name, first, expected = panel.ids[s], moment(panel.starts[s]), moment(due[s])
        if panel.starts[s] < due[s]:
            raise DataError(
                f"Series {name!r} has a row at {first}, but the model knows all rows before {expected}; "
                "give only later ones, or fit again where old values have changed."
            )
        raise DataError(
            f"Series {name!r} begins at {first}, but its next row is {expected}; give the rows between, with "
            "empty cells where values are missing."
        )


def _enough(model: ForecastModel) -> int:
    """Rows after which nothing is made up before the first one that a forecast could see."""
    return max(model.memory, model.season)


def _moved(runner: ForecasterModel, panel: Panel, which: Array) -> Context:
    """The states of series `which` of the model after their new rows."""
    state = runner.last()[which]
    rows = runner.value.tail.rows
    short = np.zeros(len(which), bool) if rows is None else rows[which] < _enough(runner.value)
    for t in range(int(panel.lengths.max(initial=0))):
        some = np.flatnonzero((panel.lengths > t) & ~short)
        if not len(some):
            continue
        after = runner.observe(state.next[some], panel.values[panel.offsets[some] + t], state[some])
        state = _put(state, some, after)
    if short.any():
        assert rows is not None
        some = np.flatnonzero(short)
        state = _put(
            state, some, _from_the_first_row(runner, panel.select(some), rows[which[some]], state[some])
        )
    return state


def _from_the_first_row(runner: ForecasterModel, panel: Panel, rows: Array, state: Context) -> Context:
    """The states of series so short that the window holds all their rows."""
    model = runner.value
    past = [window[len(window) - n :] for window, n in zip(state.window, rows, strict=True)]
    past = [from_unit(x, model.scaling.unit) for x in past]
    whole = Panel.of(
        [np.concatenate([x, panel.series(s)]) for s, x in enumerate(past)],
        ids=panel.ids,
        starts=[*panel.frequency.shift(panel.starts, -rows)],
        freq=panel.frequency,
    )
    history = runner.history(whole)
    return history.context(history.ends(), model.lookback, model.memory)


def _put(state: Context, some: Array, after: Context) -> Context:
    return replace(
        state,
        window=_with(state.window, some, after.window),
        errors=_with(state.errors, some, after.errors),
        next=_with(state.next, some, after.next),
    )


def _with(array: Array, which: Array, rows: Array) -> Array:
    """A copy with other rows."""
    copy: Array = array.copy()
    copy[which] = rows
    return copy
