"""From what the user has, a frame or a file, to a panel on regular grids.

Rows out of order are sorted, gaps and missing values become NaN, and each is said in a note. What cannot be
used as it is, is refused with one sentence that names the file, the row, the column and the way out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import narwhals as nw
import numpy as np

from carousel.errors import ArgumentError, DataError, check_choice
from carousel.forecast.columns import Columns
from carousel.forecast.covariates import (
    Wanted,
    read_columns,
    static_rows,
    with_statics,
)
from carousel.forecast.dates import moment
from carousel.forecast.memory import give_back
from carousel.forecast.names import Names, find_names, find_time, like_ids
from carousel.forecast.table import Origin, read_table
from carousel.network.forecaster import Columns as ModelColumns
from carousel.network.forecaster import Covariate, CovariatePaths
from carousel.series import Frequency, Panel
from carousel.series.calendar import DAY
from carousel.series.covariates import Covariates
from carousel.series.holidays import HOLIDAY, holiday_column

__all__ = ["Names", "Reading", "Wanted", "columns_of", "moment", "read_frame", "read_table"]

Array = np.ndarray[Any, Any]
_BLOCK = 1 << 17  # rows
FAR = 25  # times the median change over a season
MEASURED = 20  # changes, below which that median says little
_MEAN = "--duplicates mean, in Python duplicates='mean'"
_SPARSE = 20  # a grid with more rows than this per row given comes from a wrong date or a wrong frequency


@dataclass(frozen=True)
class Reading:
    """A panel, what was done to get it, and the columns and the file (if any) it was read from.

    Args:
        covariates: the columns beside the target, not yet measured.
        holidays: country of the column `holiday`; None without.
    """

    panel: Panel
    notes: tuple[str, ...]
    names: Names
    origin: Origin = field(default_factory=Origin)
    covariates: tuple[Covariate, ...] = ()
    holidays: str | None = None

    def columns(self, kind: str) -> ModelColumns:
        """The names of the columns, and the kind of frame to answer with."""
        names = self.names
        return ModelColumns(names.id, names.time, names.target, kind, names.zone, names.whole_ids, names.unit)

    def reduced(self, paths: CovariatePaths | None) -> Reading:
        """With the covariates alone that a fitted model reads."""
        given = self.panel.covariates
        if given is None:
            return self
        if paths is None:
            return replace(self, panel=replace(self.panel, covariates=None), covariates=())
        kept = {role: self._places(paths, role) for role in ("past", "future", "static")}
        chosen = Covariates(
            given.past[:, kept["past"]],
            given.future[:, kept["future"]],
            given.offsets,
            given.static[:, kept["static"]],
        )
        return replace(self, panel=replace(self.panel, covariates=chosen), covariates=paths.columns)

    def _places(self, paths: CovariatePaths, role: str) -> list[int]:
        listed = [column.name for column in self.covariates if column.role == role]
        return [listed.index(column.name) for column in paths.of(role)]

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Within it, what is wrong with the data is said with the name of their file."""
        with _blamed(self.origin):
            yield


@dataclass(frozen=True)
class _Rows:
    """Rows of a long frame; `index` is where each stood in the frame."""

    code: Array  # (N,) the number of the series
    time: Array  # (N,)
    value: Array  # (N,)
    index: Array  # (N,)

    def take(self, which: Array) -> _Rows:
        return _Rows(self.code[which], self.time[which], self.value[which], self.index[which])


def read_frame(
    frame: Any,
    *,
    id: str | None = None,
    time: str | None = None,
    target: str | None = None,
    freq: str | int | Frequency | None = None,
    duplicates: Literal["error", "mean"] = "error",
    layout: Literal["long", "wide"] = "long",
    wanted: Wanted | None = None,
    static: Any = None,
    known: Collection[str] = frozenset(),
) -> Reading:
    """Reads a long frame: one row per series and time stamp; or a wide one: a column per series.

    Times are kept as the wall clock shows them, without a zone: the hour that is repeated when daylight
    saving ends is a duplicate, the one that is skipped in spring is a gap.

    Args:
        frame: of pandas, polars or pyarrow, as `read_table` gives it, or one sequence of numbers; a Reading
            is returned as it is.
        id: the column that names the series; without one, `unique_id` or the like, or the only one that tells
            rows of one time apart, else there is one series.
        time: the column of dates or whole numbers; without one, `ds` or the like, else the order of the rows.
        target: the column to read; without one, `y`, else the only column of numbers.
        freq: the step of the grid, such as "h" or "MS"; without one, what fits the time stamps.
        duplicates: "error" refuses two rows of one series at one time, "mean" averages them; covariates are
            those of the first.
        layout: "wide" for one column per series, all but the time.
        wanted: the covariates to read; none without.
        static: a frame of static covariates, one row per series.
        known: series that may be without any value.

    Raises:
        ArgumentError: an argument that cannot be.
        DataError: the frame cannot be used as it is; the text says where, why and what would help.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"Month": ["1949-04", "1949-01", "1949-02"], "Sales": [4, 1, 2]})
        >>> reading = read_frame(frame)
        >>> reading.panel.values, str(reading.panel.frequency)
        (array([ 1.,  2., nan,  4.]), 'MS')
        >>> print(*reading.notes, sep="\\n")
        time column: Month (MS, 1949-01-01 to 1949-04-01)
        target column: Sales
        sorted: 1 row was out of order
        1 gap is treated as missing
    """
    check_choice("duplicates", duplicates, ("error", "mean"))
    check_choice("layout", layout, ("long", "wide"))
    if isinstance(frame, Reading):
        return frame
    wanted = wanted or Wanted()
    columns = columns_of(frame, layout)
    origin = columns.origin
    if not len(columns.frame):
        least = "one" if known else "two"
        raise DataError(f"{origin.prefix()}there are no rows; give at least {least}.")
    if layout == "wide":
        rows, ids, names = _wide(columns, id, time, target, wanted)
    else:
        names = find_names(columns, id, time, target, wanted.names, averaged=duplicates == "mean")
        names = replace(names, whole_ids=names.id is not None and columns.is_whole(names.id))
        rows, ids, columns = _long(columns, names, known)
    if names.time:
        names = replace(names, zone=columns.zones.get(names.time), unit=columns.units.get(names.time))
    rows, unsorted = _sorted(rows)
    rows, averaged = _distinct(rows, ids, names, columns, duplicates)
    panel, places = _gridded(rows, ids, freq, origin, known)
    given, kept = _covariates(columns, names, panel, rows, places, wanted, static)
    panel = replace(panel, covariates=given)
    give_back()
    notes = (
        *origin.remarks,
        *_named(names, panel),
        *(f"{column.role} column: {column.name} ({_kind(column)})" for column in kept),
        *columns.remarks,
        *_done(panel, rows, unsorted, averaged),
    )
    return Reading(panel, notes, names, origin, kept, wanted.holidays)


def _long(columns: Columns, names: Names, known: Collection[str]) -> tuple[_Rows, tuple[str, ...], Columns]:
    """The rows of a long frame, the names of its series, and columns whose messages name the series."""
    count = len(columns.frame)
    codes, ids = columns.ids(names.id) if names.id else (np.zeros(count, np.int32), (names.target,))
    if names.id:
        columns = replace(columns, series=lambda row: ids[codes[row]])
    values = columns.numbers(names.target)
    if np.isnan(values).all() and not set(ids) <= set(known):
        raise DataError(
            f"{columns.origin.prefix()}column {names.target!r} has no value in any row; name another target."
        )
    times = columns.times(names.time) if names.time else _counted(codes)
    return _Rows(codes, times, values, np.arange(count, dtype=_number(count))), ids, columns


def _number(count: int) -> type:
    """The integers that so many rows are counted with."""
    return np.int32 if count < 1 << 31 else np.int64


def _wide(
    columns: Columns, id: str | None, time: str | None, target: str | None, wanted: Wanted
) -> tuple[_Rows, tuple[str, ...], Names]:
    """The rows of a wide frame: every column but the time is a series, from its first value to its last."""
    if id is not None or target is not None or wanted.names:
        raise ArgumentError(
            "layout='wide' has a column per series: `id_col`, `target_col` and covariates of rows need "
            "layout='long'; `static` and `holidays` go with both."
        )
    time = find_time(columns, time)
    ids = tuple(name for name in columns.frame.columns if name != time)
    count, parts = len(columns.frame), []
    times = columns.times(time) if time else np.arange(count)
    for s, name in enumerate(ids):
        values = columns.numbers(name)
        known = np.flatnonzero(~np.isnan(values))
        if not len(known):
            raise DataError(f"{columns.origin.prefix()}series {name!r} has no value in any row; remove it.")
        rows = np.arange(known[0], known[-1] + 1)
        parts.append(_Rows(np.full(len(rows), s), times[rows], values[rows], rows))
    if not parts:
        raise DataError(f"{columns.origin.prefix()}there is no column of numbers to forecast.")
    fields = ("code", "time", "value", "index")
    joined = _Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
    return joined, ids, Names("unique_id", time, "y")


def _covariates(
    columns: Columns,
    names: Names,
    panel: Panel,
    rows: _Rows,
    places: Array | slice,
    wanted: Wanted,
    static: Any,
) -> tuple[Covariates | None, tuple[Covariate, ...]]:
    """The covariates of the panel, NaN where its grid has rows that the frame has not."""
    blocks: dict[str, Array] = {}
    kept: list[Covariate] = []
    for role, listed in (("past", wanted.past), ("future", wanted.future)):
        raw, found = read_columns(columns, listed, role, wanted)
        block = np.full((len(panel.values), len(listed)), np.nan)
        block[places] = raw[rows.index]
        blocks[role] = block
        kept += found
    if wanted.holidays is not None:
        stamps = np.concatenate([panel.times(s) for s in range(len(panel))])
        codes, column = holiday_column(wanted.holidays, stamps, panel.frequency, wanted.fitted(HOLIDAY))
        blocks["future"] = np.concatenate([blocks["future"], codes[:, None]], 1)
        kept.append(column)
    fixed = np.zeros((len(panel), 0))
    if static is not None:
        fixed, found = with_statics(columns_of(static), names.id, panel.ids, wanted)
        kept += found
    elif wanted.static:
        raw, found = read_columns(columns, wanted.static, "static", wanted)
        codes = np.empty(len(columns.frame), np.int64)
        codes[rows.index] = rows.code
        fixed = static_rows(raw, wanted.static, codes, panel.ids, columns)
        kept += found
    if not kept:
        return None, ()
    return Covariates(blocks["past"], blocks["future"], panel.offsets, fixed), tuple(kept)


def _kind(column: Covariate) -> str:
    return "numbers" if column.categories is None else f"{len(column.categories)} categories"


def columns_of(frame: Any, layout: Literal["long", "wide"] = "long") -> Columns:
    """The columns of a frame of pandas, polars or pyarrow, or of one sequence of numbers.

    Raises:
        DataError: it is something else.
    """
    return Columns(*_eager(frame, layout))


def _eager(frame: Any, layout: str) -> tuple[nw.DataFrame[Any], Origin]:
    """The frame behind narwhals; an index of pandas that says something becomes a column."""
    if isinstance(frame, (np.ndarray, list, tuple)):
        import pyarrow

        array = np.asarray(frame)
        if layout == "wide" and array.ndim == 2 and array.dtype.kind in "iuf":
            series = {str(s): column.astype(np.float64) for s, column in enumerate(array.T)}
            return nw.from_native(pyarrow.table(series), eager_only=True), Origin()
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise DataError(
                f"An array must be one sequence of numbers, got {array.dtype} of shape {array.shape}."
            )
        return nw.from_native(pyarrow.table({"y": array.astype(np.float64)}), eager_only=True), Origin()
    if nw.dependencies.is_pandas_dataframe(frame) or nw.dependencies.is_pandas_series(frame):
        frame = _without_index(frame)
    elif nw.dependencies.is_polars_series(frame):
        frame = frame.alias(frame.name or "y").to_frame()
    elif nw.dependencies.is_polars_lazyframe(frame):
        frame = frame.collect()
    try:
        return nw.from_native(frame, eager_only=True), Origin.of(frame)
    except TypeError:
        raise DataError(
            "Expected a frame of pandas, polars or pyarrow or a sequence of numbers, "
            f"got {type(frame).__name__}."
        ) from None
    except nw.exceptions.DuplicateError:
        raise DataError("Two columns of the frame have the same name; rename one of them.") from None


def _without_index(frame: Any) -> Any:
    """A pandas frame whose index and periods are plain columns."""
    if nw.dependencies.is_pandas_series(frame):
        frame = frame.to_frame("y" if frame.name is None else str(frame.name))
    named = any(name is not None for name in frame.index.names)
    if named or frame.index.dtype.kind == "M" or str(frame.index.dtype).startswith("period"):
        frame = frame.reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    periods = (
        [name for name in frame.columns if str(frame.dtypes[name]).startswith("period")]
        if frame.columns.is_unique
        else []
    )
    return frame.assign(**{name: frame[name].dt.to_timestamp() for name in periods})


def _counted(codes: Array) -> Array:
    """0, 1, 2, … within each series, for rows that have no time."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    position = np.empty(len(codes), np.int64)
    position[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position


def _sorted(rows: _Rows) -> tuple[_Rows, int]:
    """Rows by series and time, and how many stood before an earlier row of their series."""
    grouped = bool((rows.code[1:] >= rows.code[:-1]).all())  # as most frames are: no copy then
    by_series = rows if grouped else rows.take(np.argsort(rows.code, kind="stable"))
    late = _follows(by_series) & (by_series.time[1:] < by_series.time[:-1])
    if not late.any():
        return by_series, 0
    del by_series
    return rows.take(np.lexsort((rows.time, rows.code))), int(late.sum())


def _follows(rows: _Rows) -> Array:
    """(N - 1,) whether each row but the first is of the series of the one before it."""
    same: Array = rows.code[1:] == rows.code[:-1]
    return same


def _distinct(
    rows: _Rows, ids: tuple[str, ...], names: Names, columns: Columns, duplicates: str
) -> tuple[_Rows, int]:
    """Rows with one value per series and time stamp, and how many were averaged away."""
    again = np.concatenate([[False], _follows(rows) & (rows.time[1:] == rows.time[:-1])])
    if not again.any():
        return rows, 0
    if duplicates == "error":
        raise _duplicate(rows, int(again.argmax()), int(again.sum()), ids, names, columns)
    first = np.flatnonzero(~again)
    known = ~np.isnan(rows.value)
    total = np.add.reduceat(np.where(known, rows.value, 0.0), first)
    count = np.add.reduceat(known.astype(np.int64), first)
    mean = np.divide(total, count, out=np.full(len(first), np.nan), where=count > 0)
    kept = rows.take(first)
    return _Rows(kept.code, kept.time, mean, kept.index), int(again.sum())


def _duplicate(
    rows: _Rows, second: int, count: int, ids: tuple[str, ...], names: Names, columns: Columns
) -> DataError:
    """The refusal of two rows at one time, which has four usual causes."""
    origin, both = columns.origin, (int(rows.index[second - 1]), int(rows.index[second]))
    series = f" of series {ids[rows.code[second]]!r}" if names.id else ""
    others = f" (the first of {count} such pairs)" if count > 1 else ""
    clock = columns.clock(names.time, *both) if names.time else ""
    if clock:
        others += f" by {clock}, which shows this hour twice as daylight saving ends"
        utc = (
            f"df[{names.time!r}].dt.tz_convert('UTC')"
            if names.time in columns.zones
            else f"pd.to_datetime(df[{names.time!r}], utc=True)"
        )
        way_out = f"average them ({_MEAN}), or give times in UTC (in pandas {utc})"
    else:
        way_out = f"remove one of them, or average them ({_MEAN})"
        if names.id is None:
            way_out += ", or name the column that tells several series apart (--id, in Python id_col)"
            used = (names.time, names.target)
            texts = like_ids((name for name in columns.frame.columns if name not in used), columns)
            if len(texts) > 1:
                way_out += f", which may have to be joined from several of {', '.join(texts[:12])}"
    return DataError(
        f"{origin.prefix()}{origin.rows(*both)}{series} have the same time {moment(rows.time[second])}{others}; "
        f"{way_out}."
    )


def _gridded(
    rows: _Rows,
    ids: tuple[str, ...],
    freq: str | int | Frequency | None,
    origin: Origin,
    known: Collection[str],
) -> tuple[Panel, Array | slice]:
    """The rows on regular grids, NaN between them, and the place of every row."""
    offsets = np.searchsorted(rows.code, np.arange(len(ids) + 1, dtype=rows.code.dtype))
    with _blamed(origin):
        try:
            frequency = Frequency.infer(rows.time, offsets) if freq is None else Frequency.parse(freq)
        except DataError as error:
            raise DataError(f"{str(error).rstrip('.')}{_first_off(rows, ids, origin)}.") from None
        if (frequency.unit == "index") != (rows.time.dtype.kind == "i"):
            kind = "whole numbers" if rows.time.dtype.kind == "i" else "dates"
            raise DataError(f"`freq` = {str(frequency)!r} does not fit a time column of {kind}.")
        rows = _placed(rows, frequency, ids, origin)
        starts = rows.time[offsets[:-1]]
        if freq is not None:
            _check_step(rows.time, offsets, frequency)
        positions = _positions(frequency, starts, rows)
    grid_offsets = np.concatenate([[0], np.cumsum(positions[offsets[1:] - 1] + 1)])
    if grid_offsets[-1] > _SPARSE * max(len(rows.time), 50):
        gap = int(np.argmax(np.diff(positions, prepend=0)))
        raise DataError(
            f"{origin.prefix()}{origin.row(int(rows.index[gap]))} ({moment(rows.time[gap])}) lies "
            f"{positions[gap]} steps of {frequency} from the first row of its series, but there are only "
            f"{len(rows.time)} rows; repair the date, or give the true frequency (--freq, in Python freq)."
        )
    places: Array | slice = slice(None)
    if grid_offsets[-1] == len(rows.value):  # without a gap
        del positions
        values = np.array(rows.value)
    else:
        values = np.full(grid_offsets[-1], np.nan)
        places = grid_offsets[rows.code] + positions
        values[places] = rows.value
    panel = Panel(ids, values, grid_offsets.astype(np.int64), starts, frequency)
    counts = np.add.reduceat(~np.isnan(values), grid_offsets[:-1], dtype=np.int64)
    empty = next((ids[s] for s in np.flatnonzero(counts == 0) if ids[s] not in known), None)
    if empty is not None:
        raise DataError(f"{origin.prefix()}series {empty!r} has no value in any row; remove it.")
    return panel, places


def _placed(rows: _Rows, frequency: Frequency, ids: tuple[str, ...], origin: Origin) -> _Rows:
    """Rows at the stamps that the grid has.

    Raises:
        DataError: two of a series lie in one month, of which there is one row.
    """
    if not frequency.any_day:
        return rows
    placed = replace(rows, time=frequency.placed(rows.time))
    again = np.flatnonzero(_follows(rows) & (placed.time[1:] == placed.time[:-1]))
    if len(again):
        k = int(again[0])
        both = sorted(rows.index[k : k + 2].tolist())
        series = f" of series {ids[rows.code[k]]!r}" if len(ids) > 1 else ""
        raise DataError(
            f"{origin.rows(*both)}{series} lie in one month, {rows.time[k].astype('datetime64[M]')}, of which "
            f"{frequency} has one row; remove one of them."
        )
    return placed


def _first_off(rows: _Rows, ids: tuple[str, ...], origin: Origin) -> str:
    """Which row is the first that does not follow on the one before it as most do; "" where none stands out."""
    inner = np.flatnonzero(_follows(rows)) + 1
    if len(inner) < 2:
        return ""
    place = (rows.time[inner] - rows.time[inner - 1]).astype(np.int64)
    monthly = rows.time.dtype.kind == "M" and np.median(place) >= 28 * DAY
    if monthly:  # months differ in length, and begin alike
        place = (rows.time[inner] - rows.time[inner].astype("datetime64[M]")).astype(np.int64)
    values, counts = np.unique(place, return_counts=True)
    usual = int(values[counts.argmax()])
    if 2 * counts.max() < len(inner) or usual < (0 if monthly else 1):
        return ""
    at = int(inner[np.argmax(place != usual if monthly else place % usual != 0)])
    series = f" of series {ids[rows.code[at]]!r}" if len(ids) > 1 else ""
    return f"; {origin.row(int(rows.index[at]))}{series}, {moment(rows.time[at])}, is the first that is off"


def _positions(frequency: Frequency, starts: Array, rows: _Rows) -> Array:
    """(N,) the steps of every row from the start of its series, a block of rows at a time."""
    out = np.empty(len(rows.time), np.int64)
    try:
        for b in range(0, len(out), _BLOCK):
            block = slice(b, b + _BLOCK)
            out[block] = frequency.positions(starts[rows.code[block]], rows.time[block])
    except DataError:
        return frequency.positions(starts[rows.code], rows.time)  # its message counts all rows
    return out


def _check_step(times: Array, offsets: Array, frequency: Frequency) -> None:
    """Refuses rows of a wider step than asked for: most rows of their grid would be missing.

    Raises:
        DataError: the rows fit a grid of their own that is at least twice as wide.
    """
    try:
        found = Frequency.infer(times, offsets)
    except DataError:
        return
    start = times[:1]
    wide, fine = found.shift(start, np.ones(1, np.int64)), frequency.shift(start, np.full(1, 2))
    if found != frequency and found.unit not in ("business", "open") and (wide >= fine).all():
        raise DataError(
            f"The step of the rows is {found}, not {frequency} as asked for (or as the model was fitted); "
            "give rows of that step."
        )


@contextmanager
def _blamed(origin: Origin) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        prefix, text = origin.prefix(), str(error)
        raise DataError(f"{prefix}{text[0].lower()}{text[1:]}" if prefix else text) from None


def _named(names: Names, panel: Panel) -> list[str]:
    """The columns that were used."""
    notes = []
    if names.time:
        first, last = moment(panel.starts.min()), moment(panel.lasts.max())
        step = f"step {panel.frequency}" if panel.frequency.unit == "index" else str(panel.frequency)
        notes.append(f"time column: {names.time} ({step}, {first} to {last})")
    else:
        notes.append("no time column: the rows count 0, 1, 2, …")
    notes.append(f"target column: {names.target}")
    if names.id:
        notes.append(f"id column: {names.id} ({len(panel)} series)")
    return notes


def _done(panel: Panel, rows: _Rows, unsorted: int, averaged: int) -> list[str]:
    """What was changed, and what is odd about the values."""
    gaps = len(panel.values) - len(rows.value)
    missing = int(np.isnan(rows.value).sum())
    highest = np.fmax.reduceat(panel.values, panel.offsets[:-1])
    lowest = np.fmin.reduceat(panel.values, panel.offsets[:-1])
    constant = np.flatnonzero(highest == lowest)
    notes = []
    if panel.frequency.any_day:
        side = "last" if panel.frequency.anchor == "end" else "first"
        notes.append(f"one row a month, on varying days: read as months, dated by their {side} day")
    if unsorted:
        notes.append(f"sorted: {_counting(unsorted, 'row was', 'rows were')} out of order")
    if averaged:
        notes.append(f"{_counting(averaged, 'duplicate', 'duplicates')} averaged")
    if gaps:
        notes.append(f"{_counting(gaps, 'gap is', 'gaps are')} treated as missing")
    if missing:
        notes.append(f"{_counting(missing, 'value is', 'values are')} missing")
    notes += [*_other_steps(panel), *_far_off(panel)]
    if len(constant) == 1:
        s = constant[0]
        notes.append(f"series {panel.ids[s]} is constant ({highest[s]:g})")
    elif len(constant):
        notes.append(f"{len(constant)} of {len(panel)} series are constant")
    return notes


def _other_steps(panel: Panel) -> list[str]:
    """A note of series that have less than half of the rows of a grid that others fill."""
    known = np.add.reduceat(~np.isnan(panel.values), panel.offsets[:-1], dtype=np.int64)
    sparse = 2 * known < panel.lengths
    if sparse.all() or not sparse.any():
        return []
    s = int(sparse.argmax())
    more = f", and {sparse.sum() - 1} more" if sparse.sum() > 1 else ""
    rows = f"{known[s]:,} of {panel.lengths[s]:,} rows of the step {panel.frequency}"
    return [f"series {panel.ids[s]}{more}: {rows} are there; is its own step another?"]


def _far_off(panel: Panel) -> list[str]:
    """A note of single values that nothing near them or a season away comes close to: forecasts may repeat them."""
    m, count, first = panel.frequency.season, 0, ""
    for s in range(len(panel)):
        x = panel.values[panel.offsets[s] : panel.offsets[s + 1]]
        found = _far_rows(x, m)
        count += len(found)
        if len(found) and not first:
            series = f" in series {panel.ids[s]}" if len(panel) > 1 else ""
            first = f"{x[found[0]]:g} at {moment(panel.times(s)[found[0]])}{series}"
    if not count:
        return []
    what = "1 value lies" if count == 1 else f"{count:,} values lie"
    return [
        f"{what} far from all others of the season, first {first}: if it is an error, leave its cell empty"
    ]


def _far_rows(x: Array, m: int) -> Array:
    """Rows of one series whose values are FAR from those before and after, and one and two seasons away."""
    if len(x) < m + MEASURED:
        return np.zeros(0, np.int64)
    every = max(1, len(x) // _BLOCK)
    changes = np.abs(x[m::every] - x[: len(x) - m : every])
    changes = changes[~np.isnan(changes)]
    limit = FAR * float(np.median(changes)) if len(changes) >= MEASURED else 0.0
    if not limit > 0:
        return np.zeros(0, np.int64)
    parts = []
    for b in range(m, len(x), _BLOCK):
        end = min(b + _BLOCK, len(x))
        parts.append(b + np.flatnonzero(np.abs(x[b:end] - x[b - m : end - m]) > limit))
    found: Array = np.concatenate(parts)
    for lag in (1, -1, 2 * m, -m, -2 * m):
        there = (found - lag >= 0) & (found - lag < len(x))
        apart = np.abs(x[found] - x[np.where(there, found - lag, found)])
        found = found[~there | ~(apart <= limit)]
    return found


def _counting(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
