"""What a fitted model is given: rows in the columns that were fitted, and what is known of those to come."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from carousel.errors import DataError
from carousel.forecast.covariates import (
    Ahead,
    Wanted,
    future_rows,
    read_columns,
    static_rows,
    with_statics,
)
from carousel.forecast.dates import moment
from carousel.forecast.read import Reading, columns_of, read_frame
from carousel.network.forecaster import ForecastModel, Unit
from carousel.series import Panel
from carousel.series.covariates import Covariates
from carousel.series.holidays import HOLIDAY, holiday_column
from carousel.series.unit import TITLES, in_unit, without
from carousel.series.zones import left_out

__all__ = ["continued", "read_future", "read_rows", "with_future"]

Array = np.ndarray[Any, Any]


def read_rows(
    frame: Any,
    model: ForecastModel,
    *,
    duplicates: Literal["error", "mean"] = "error",
    layout: Literal["long", "wide"] = "long",
    static: Any = None,
    known: Collection[str] = frozenset(),
    short: bool = False,
) -> Reading:
    """A frame in the columns and at the frequency that were fitted.

    Args:
        frame: as for `read_frame`.
        static: a frame of static covariates of series that were not fitted, if the model reads any.
        known: series that need no history in the frame, nor a value.
        short: takes series that are too short to forecast from.

    Raises:
        DataError: the frame cannot be used, or a series is too short to forecast from.
    """
    if isinstance(frame, Reading):
        reading = frame.reduced(model.covariates)
    else:
        reading = _read(frame, model, duplicates, layout, static, known)
    least = min(model.season + 1, model.lookback)
    # A series that was fitted with fewer rows needs no more than these.
    few = model.tail.rows
    fitted = {} if few is None else dict(zip(model.ids, map(int, few), strict=True))
    with reading.blamed():
        for name, length in zip(reading.panel.ids, reading.panel.lengths, strict=True):
            needed = min(least, fitted.get(name, least))
            if length < needed and name not in known and not short:
                rows = "1 row" if length == 1 else f"{length} rows"
                raise DataError(f"Series {name!r} has {rows}, but a forecast needs at least {needed}.")
        measured, unit = {*known, *model.ids}, model.scaling.unit
        for name, values in zip(reading.panel.ids, reading.panel, strict=True):
            if name not in measured and np.count_nonzero(~np.isnan(values)) < 2 and not short:
                raise DataError(f"Series {name!r} has 1 value, but a forecast needs at least 2.")
            if name not in known and np.isnan(in_unit(values, unit)).all():
                raise DataError(
                    f"Series {name!r} has no value with a {TITLES[unit]}, which this model sees; forecast it without "
                    "the others, by a model of its own."
                )
    return _with_note(reading, unit)


def _with_note(reading: Reading, unit: Unit) -> Reading:
    """The reading, which says so if values have no root or logarithm."""
    panel = reading.panel
    lost = np.flatnonzero(without(panel.values, unit))
    if not len(lost):
        return reading
    s = int(np.searchsorted(panel.offsets, lost[0], "right")) - 1
    first = f"series {panel.ids[s]!r} at {moment(panel.times(s)[lost[0] - panel.offsets[s]])}"
    values = "1 value has" if len(lost) == 1 else f"{len(lost)} values have"
    note = f"{values} no {TITLES[unit]}, which this model sees: counted as missing, first in {first}"
    return replace(reading, notes=(*reading.notes, note), lost=(note,))


def _read(
    frame: Any,
    model: ForecastModel,
    duplicates: Literal["error", "mean"],
    layout: Literal["long", "wide"],
    static: Any,
    known: Collection[str],
) -> Reading:
    columns, paths = model.columns, model.covariates
    names = {"id": columns.id, "time": columns.time, "target": columns.target}
    if layout == "wide":
        names = {"time": columns.time}
    elif isinstance(frame, (np.ndarray, list, tuple)):
        if columns.time is not None and model.tail.next.dtype.kind == "M":
            raise DataError(
                f"an array has no times, but the model was fitted on those of {columns.time!r}; give a frame."
            )
        names = {}
    else:
        _check_long(frame, model)
    reading = read_frame(
        frame,
        **names,
        freq=model.frequency,
        duplicates=duplicates,
        layout=layout,
        wanted=replace(Wanted.again(paths), static=()),
        known=known,
        zone=columns.zone,
    )
    if paths is None or not paths.of("static"):
        return reading
    return _with_statics(reading, frame, static, model)


def _check_long(frame: Any, model: ForecastModel) -> None:
    """Refuses a frame with a column per series where rows of one series each are expected.

    Raises:
        DataError: it is one.
    """
    columns, id = columns_of(frame), model.columns.id
    names = set(columns.frame.columns)
    wide = [name for name in model.ids if name in names]
    if id is not None and id not in names and wide:
        raise DataError(
            f"{columns.origin.prefix()}there is no column {id!r}, but one of the series {wide[0]!r}; give rows of one "
            "series each, or say that a column is one (--layout wide, in Python layout='wide')."
        )


def _with_statics(reading: Reading, frame: Any, static: Any, model: ForecastModel) -> Reading:
    """A reading with the static covariates that the model reads: of its series those that were fitted, of
    others those of `static`, or of the columns of the frame.

    Raises:
        DataError: a series that was not fitted has none.
    """
    paths, panel = model.covariates, reading.panel
    assert paths is not None
    wanted, columns = Wanted.again(paths), paths.of("static")
    places = {name: s for s, name in enumerate(model.ids)}
    known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
    fixed = np.full((len(panel), len(columns)), np.nan)
    fixed[known >= 0] = paths.static[known[known >= 0]]
    new = known < 0
    if new.any():
        if static is not None:
            rows, _ = with_statics(columns_of(static, argument="static"), model.columns.id, panel.ids, wanted)
            there = ~np.isnan(rows).all(1)
        else:
            rows, there = _statics_of(frame, panel, wanted, model.columns.id)
        missing = np.flatnonzero(new & ~there)
        if len(missing):
            raise DataError(
                f"{reading.origin.prefix()}series {panel.ids[missing[0]]!r} was not fitted, and its static covariates "
                f"({', '.join(wanted.static)}) are not there; give them (--static, in Python static)."
            )
        fixed[new] = rows[new]
    given = panel.covariates or Covariates(
        np.zeros((len(panel.values), 0)), np.zeros((len(panel.values), 0)), panel.offsets, fixed
    )
    panel = replace(panel, covariates=replace(given, static=fixed))
    return replace(reading, panel=panel, covariates=paths.columns)


def _statics_of(frame: Any, panel: Panel, wanted: Wanted, id: str | None) -> tuple[Array, Array]:
    """(S, C) the static columns of a long frame, and (S,) where a series has them."""
    rows, there = np.full((len(panel), len(wanted.static)), np.nan), np.zeros(len(panel), bool)
    if isinstance(frame, (np.ndarray, list, tuple)):
        return rows, there
    columns = columns_of(frame)
    if not set(wanted.static) <= set(columns.frame.columns):
        return rows, there
    raw, _ = read_columns(columns, wanted.static, "static", wanted)
    if id is not None and id in columns.frame.columns:
        codes, found = columns.ids(id)
    else:
        codes, found = np.zeros(len(raw), np.int64), panel.ids
    of_frame = static_rows(raw, wanted.static, codes, found, columns)
    places = {name: s for s, name in enumerate(found)}
    rows = of_frame[[places[name] for name in panel.ids]]
    return rows, ~np.isnan(rows).all(1)


def continued(reading: Reading, model: ForecastModel) -> Panel:
    """The panel of new rows, those of known series from their next row on.

    Rows that have no time are counted on from there; hours that the clock of the zone leaves out need not be given.
    """
    panel, places = reading.panel, {name: s for s, name in enumerate(model.ids)}
    known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
    due = np.where(known >= 0, model.tail.next[known], panel.starts)
    if reading.names.time is None and panel.frequency.unit == "index":
        return replace(panel, starts=due)
    if model.columns.zone is None:
        return panel
    before = np.zeros(len(panel), np.int64)
    day = np.timedelta64(1, "D")  # no clock leaves out more
    for s in np.flatnonzero((panel.starts > due) & (panel.starts <= due + day)):
        count = int(panel.frequency.positions(due[s], panel.starts[s : s + 1])[0])
        if left_out(
            panel.frequency.shift(due[s], np.arange(count)), model.columns.zone, panel.frequency
        ).all():
            before[s] = count
    return panel.preceded(before) if before.any() else panel


def with_future(reading: Reading, model: ForecastModel, future: Any) -> Panel:
    """The panel with the future covariates, if the model reads any, of the rows to forecast."""
    panel = reading.panel
    if panel.covariates is None or model.covariates is None or not model.covariates.of("future"):
        return panel
    next = panel.frequency.shift(panel.lasts, np.ones(len(panel)))
    rows = read_future(
        future, model, Ahead(panel.ids, next, panel.frequency, model.horizon, reading.names.zone)
    )
    return replace(panel, covariates=panel.covariates.extended(panel.lengths, rows))


def read_future(frame: Any, model: ForecastModel, ahead: Ahead) -> Array:
    """(S, K, F) the future covariates of the rows to forecast; see `future_rows`.

    Raises:
        DataError: a row or a value is missing or twice, or there is no frame although one is needed.
    """
    wanted, names = Wanted.again(model.covariates), (model.columns.id, model.columns.time)
    parts = []
    if wanted.future:
        if frame is None:
            last = moment(ahead.frequency.shift(ahead.next[:1], np.array([-1]))[0])
            raise DataError(
                f"The model reads future covariates: give {', '.join(wanted.future)} for the {ahead.horizon} rows "
                f"after {last} of every series (--future, in Python future)."
            )
        given = replace(columns_of(frame, argument="future"), zone=model.columns.zone)
        parts.append(future_rows(given, names, wanted, ahead))
    if wanted.holidays is not None:
        stamps = ahead.times
        codes, _ = holiday_column(
            wanted.holidays, stamps.reshape(-1), ahead.frequency, wanted.fitted(HOLIDAY)
        )
        parts.append(codes.reshape(*stamps.shape, 1))
    return np.concatenate(parts, 2)
