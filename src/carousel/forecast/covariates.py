"""Covariates of a frame: which columns, what they hold, and their rows on the grid of the target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow.compute as pc

from carousel.errors import ArgumentError, DataError
from carousel.forecast.columns import Columns, shown
from carousel.forecast.dates import moment
from carousel.network.forecaster import Covariate, CovariatePaths
from carousel.series import Frequency, Panel
from carousel.series.covariates import category_codes
from carousel.series.history import Origins
from carousel.series.holidays import HOLIDAY
from carousel.series.zones import left_out

__all__ = [
    "Ahead",
    "Wanted",
    "check_known",
    "future_rows",
    "read_columns",
    "static_rows",
    "with_statics",
]

Array = np.ndarray[Any, Any]

MOST = 50  # categories of a column
ROLES = ("past", "future", "static")


@dataclass(frozen=True)
class Wanted:
    """The columns to read beside the target.

    Args:
        past, future, static: their names.
        holidays: country of the column `holiday`, such as "US".
        known: what a fitted model reads; None in a fit.
    """

    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    holidays: str | None = None
    known: tuple[Covariate, ...] | None = None

    @classmethod
    def of(cls, past: Any = (), future: Any = (), static: Any = (), holidays: str | None = None) -> Wanted:
        """Names as a caller gives them, one or several.

        Raises:
            ArgumentError: what is no name, or one name twice.
        """
        wanted = cls(_names("past", past), _names("future", future), _names("static", static), holidays)
        every = wanted.names
        twice = next((name for i, name in enumerate(every) if name in every[:i]), None)
        if twice is not None:
            raise ArgumentError(
                f"A covariate must be one of `past`, `future` and `static`, {twice!r} is twice."
            )
        if holidays is not None and not isinstance(holidays, str):
            raise ArgumentError(
                f'`holidays` must be one country, such as "US", or a part of one, "DE-BY", got {holidays!r}.'
            )
        if holidays is not None and HOLIDAY in every:
            raise ArgumentError(f"`holidays` makes a column {HOLIDAY!r}; rename the covariate of that name.")
        return wanted

    @classmethod
    def again(cls, paths: CovariatePaths | None) -> Wanted:
        """What a fitted model reads."""
        if paths is None:
            return cls(known=())
        past, future, static = (tuple(column.name for column in paths.of(role)) for role in ROLES)
        if paths.holidays is not None:
            future = tuple(name for name in future if name != HOLIDAY)
        return cls(past, future, static, paths.holidays, paths.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that a frame must have."""
        return (*self.past, *self.future, *self.static)

    def fitted(self, name: str) -> Covariate | None:
        """The column as it was fitted."""
        return next((column for column in self.known or () if column.name == name), None)


def _names(argument: str, names: Any) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Iterable) else (names,)
    for name in listed:
        if not isinstance(name, str):
            raise ArgumentError(f"`{argument}` must be names of columns, got {name!r}.")
    return listed


def read_columns(
    columns: Columns, names: tuple[str, ...], role: str, wanted: Wanted
) -> tuple[Array, list[Covariate]]:
    """(N, C) numbers and codes of categories, NaN where missing, and the columns, not yet measured.

    Raises:
        DataError: a column that is empty, holds times, or has too many categories.
    """
    out = np.empty((len(columns.frame), len(names)))
    kept: list[Covariate] = []
    for c, name in enumerate(names):
        found = wanted.fitted(name)
        out[:, c], categories = _column(columns, name, found)
        kept.append(found or Covariate(name, role, 0.0, 1.0, categories, False))  # type: ignore[arg-type]
        if found is None and np.isnan(out[:, c]).all():
            raise DataError(
                f"{columns.origin.prefix()}covariate {name!r} has no value in any row; leave it out."
            )
    return out, kept


def _column(columns: Columns, name: str, known: Covariate | None) -> tuple[Array, tuple[str, ...] | None]:
    dtype = columns.frame.schema[name]
    if dtype == nw.Boolean and (known is None or known.categories is None):
        return columns.flags(name), None
    named = dtype == nw.Categorical or isinstance(dtype, nw.Enum)
    kind = ("time" if columns.names_times(name) else "text") if named else columns.kind(name)
    if known.categories is None if known else kind in ("integer", "number", "empty"):
        return columns.numbers(name), None
    if kind == "time" and known is None:
        raise DataError(
            f"{columns.origin.prefix()}covariate {name!r} holds times; give a number, such as days since "
            "then, or texts."
        )
    texts = columns.categories(name)
    if known is None:
        categories = tuple(sorted(pc.unique(texts.drop_null()).to_pylist()))
        if len(categories) > MOST:
            raise DataError(
                f"{columns.origin.prefix()}covariate {name!r} has {len(categories):,} different values, such as "
                f"{shown(texts, 0)}; at most {MOST} can be told apart: group the rare ones, or give numbers."
            )
    else:
        categories = known.categories or ()
    different = texts.dictionary_encode()
    codes = np.append(category_codes(different.dictionary.to_pylist(), categories), np.nan)
    return codes[np.asarray(pc.fill_null(different.indices, -1))], categories


def static_rows(
    block: Array, names: tuple[str, ...], codes: Array, ids: tuple[str, ...], columns: Columns
) -> Array:
    """(S, C) the one value per series of columns that repeat it in every row.

    Raises:
        DataError: a series has two.
    """
    out = np.full((len(ids), len(names)), np.nan)
    for c, name in enumerate(names):
        known = np.flatnonzero(~np.isnan(block[:, c]))
        first = np.full(len(ids), -1)
        first[codes[known][::-1]] = known[::-1]
        out[first >= 0, c] = block[first[first >= 0], c]
        other = known[block[known, c] != out[codes[known], c]]
        if len(other):
            s = codes[other[0]]
            places = columns.origin.rows(int(first[s]), int(other[0]))
            raise DataError(
                f"{columns.origin.prefix()}static covariate {name!r} of series {ids[s]!r} has two values, in "
                f"{places}; what changes is a past or a future covariate."
            )
    return out


def with_statics(
    columns: Columns, id: str | None, ids: tuple[str, ...], wanted: Wanted
) -> tuple[Array, list[Covariate]]:
    """(S, C) the columns of a frame with one row per series, NaN rows for series that it has not.

    Raises:
        DataError: a series twice, or no column of ids beside several series.
    """
    frame = columns.frame.columns
    id = next((name for name in (id, "unique_id") if name in frame), None)
    if id is None and (len(ids) > 1 or len(columns.frame) != 1):
        raise DataError(
            f"{columns.origin.prefix()}`static` must have the column of ids and one row per series, "
            f"got the columns {', '.join(map(str, frame))}."
        )
    names = tuple(name for name in frame if name != id)
    if wanted.known is not None:
        names = tuple(column.name for column in wanted.known if column.role == "static")
        absent = [name for name in names if name not in frame]
        if absent:
            raise DataError(f"{columns.origin.prefix()}`static` has no column {absent[0]!r}.")
    codes, found = columns.ids(id) if id is not None else (np.zeros(1, np.int64), ids)
    named = replace(columns, argument="static", series=lambda row: found[codes[row]])
    block, kept = read_columns(named, names, "static", wanted)
    if id is None:
        return block, kept
    if len(found) < len(codes):
        row = int(np.flatnonzero(np.bincount(codes)[codes] > 1)[1])
        raise DataError(
            f"{columns.origin.prefix()}{columns.origin.row(row)} of `static`: series {found[codes[row]]!r} is "
            "there twice; give one row per series."
        )
    places = {name: s for s, name in enumerate(found)}
    rows = np.array([places.get(name, -1) for name in ids], np.int64)
    out = np.full((len(ids), len(names)), np.nan)
    out[rows >= 0] = block[np.argsort(codes)][rows[rows >= 0]]
    if wanted.known is None and (rows < 0).any():
        missing = ids[int(np.argmax(rows < 0))]
        raise DataError(f"{columns.origin.prefix()}`static` has no row of series {missing!r}; add one.")
    return out, kept


@dataclass(frozen=True)
class Ahead:
    """The rows to forecast: K of every series.

    Args:
        ids: of the S series.
        next: (S,) the first time stamp to forecast.
        frequency: of the grid.
        horizon: K.
        zone: of the times, whose clock may leave some out.
    """

    ids: tuple[str, ...]
    next: Array
    frequency: Frequency
    horizon: int
    zone: str | None = None

    @property
    def times(self) -> Array:
        """(S, K)."""
        return self.frequency.shift(self.next[:, None], np.arange(self.horizon))


def future_rows(
    columns: Columns, names: tuple[str | None, str | None], wanted: Wanted, ahead: Ahead
) -> Array:
    """(S, K, F) future covariates of the rows to forecast; rows at other times are not looked at.

    Args:
        columns: of a frame with the columns of ids and times that were fitted, and the future covariates.
        names: of the columns of ids and times; None where there was none.

    Raises:
        DataError: a row or a value is missing or twice; the text names series, column and rows.
    """
    frame, origin, ids, horizon = columns.frame, columns.origin, ahead.ids, ahead.horizon
    for name in (*(name for name in names if name is not None), *wanted.future):
        if name not in frame.columns and not (name == names[0] and len(ids) == 1):
            raise DataError(
                f"{origin.prefix()}`future` has no column {name!r}; it needs "
                f"{', '.join(name for name in (*names, *wanted.future) if name)}."
            )
    if not len(frame):
        raise DataError(
            f"{origin.prefix()}`future` has no rows; it needs {', '.join(wanted.future)} for the {horizon} rows to "
            "forecast of every series."
        )
    id = names[0] if names[0] in frame.columns else None
    codes, found = columns.ids(id) if id else (np.zeros(len(frame), np.int64), ids)
    places = {name: s for s, name in enumerate(ids)}
    series = np.array([places.get(name, -1) for name in found], np.int64)[codes]
    named = replace(columns, argument="future", series=lambda row: found[codes[row]])
    values, _ = read_columns(named, wanted.future, "future", wanted)
    grid = ahead.times
    times = columns.times(names[1]) if names[1] else _counted_from(ahead, series)
    if times.dtype.kind != grid.dtype.kind:
        raise DataError(
            f"{origin.prefix()}`future`: column {names[1]!r} must hold times as the fitted data did."
        )
    times = ahead.frequency.placed(times)
    out = np.full((len(ids), horizon, len(wanted.future)), np.nan)
    given = np.zeros((len(ids), horizon), bool)
    order = np.argsort(series, kind="stable")
    bounds = np.searchsorted(series[order], np.arange(len(ids) + 1))
    for s in range(len(ids)):
        rows = order[bounds[s] : bounds[s + 1]]
        step = np.minimum(np.searchsorted(grid[s], times[rows]), horizon - 1)
        inside = grid[s][step] == times[rows]
        step, rows = step[inside], rows[inside]
        again = np.flatnonzero(np.bincount(step, minlength=horizon) > 1)
        if len(again):
            both = rows[step == again[0]][:2]
            raise DataError(
                f"{origin.prefix()}{origin.rows(*map(int, both))} of `future` have the same time "
                f"{moment(grid[s][again[0]])} of series {ids[s]!r}; remove one of them."
            )
        out[s, step], given[s, step] = values[rows], True
    _fill(out, left_out(grid, ahead.zone, ahead.frequency) & ~given)
    _check_complete(out, given, wanted, ahead, origin.prefix())
    return out


def _fill(out: Array, absent: Array) -> None:
    """Rows that are no rows, and get no forecast, as the row before them, or of the first one 0."""
    for s, k in np.argwhere(absent):
        out[s, k] = out[s, k - 1] if k else 0


def _counted_from(ahead: Ahead, series: Array) -> Array:
    """The times of rows of `series` (N,) that are counted from the first row to forecast on."""
    order = np.argsort(series, kind="stable")
    counts = np.bincount(series + 1)
    steps = np.empty(len(series), np.int64)
    steps[order] = np.arange(len(series)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ahead.frequency.shift(ahead.next[np.maximum(series, 0)], steps)


def _check_complete(out: Array, given: Array, wanted: Wanted, ahead: Ahead, prefix: str) -> None:
    wrong = np.argwhere(np.isnan(out).any(-1))
    if not len(wrong):
        return
    s, k = wrong[0]
    c = int(np.isnan(out[s, k]).argmax())
    missing = int(np.isnan(out[s, :, c]).sum())
    what, times = "value" if given[s, k] else "row", ahead.times[s]
    ended = times[-1] < ahead.next.max()
    way_out = "; or leave out this series, which has ended: give rows without it (--data, in Python df)"
    lacking = f"{missing} are missing, first" if missing > 1 else "1 is missing,"
    raise DataError(
        f"{prefix}`future` must have {wanted.future[c]!r} of series {ahead.ids[s]!r} for the {len(times)} rows "
        f"{moment(times[0])} to {moment(times[-1])}; {lacking} the {what} of "
        f"{moment(times[k])}{way_out if ended else ''}."
    )


def check_known(panel: Panel, columns: tuple[Covariate, ...], origins: Origins, horizon: int) -> None:
    """Refuses origins at which a future covariate was not known for a row that was observed.

    Raises:
        DataError: names the series, the column and the first such row.
    """
    future = tuple(column for column in columns if column.role == "future")
    if not future or panel.covariates is None:
        return
    steps = origins.row[:, None] + np.arange(horizon)
    inside = steps < panel.lengths[origins.series][:, None]
    steps = np.where(inside, steps, 0)
    observed = inside & ~np.isnan(panel.values[panel.offsets[origins.series][:, None] + steps])
    given = panel.covariates
    values = given.future[given.offsets[origins.series][:, None] + steps]
    wrong = np.argwhere(np.isnan(values) & observed[..., None])
    if len(wrong):
        b, k, c = wrong[0]
        s = origins.series[b]
        raise DataError(
            f"Series {panel.ids[s]!r} has no {future[c].name!r} at {moment(panel.times(s)[steps[b, k]])}; a future "
            "covariate must be known for every row that is forecast: fill it, or fit it as a past one."
        )
