"""From what the user has, a frame or a file, to a panel on regular grids.

Rows out of order are sorted, gaps and missing values become NaN, and each is said in a note. What cannot be
used as it is, is refused with one sentence that names the file, the row, the column and the way out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import narwhals as nw
import numpy as np

from carousel.errors import ArgumentError, DataError, check_choice
from carousel.forecast import remarks
from carousel.forecast.columns import Columns
from carousel.forecast.covariates import (
    Wanted,
    read_columns,
    static_rows,
    with_statics,
)
from carousel.forecast.grid import Rows, blamed, counted, distinct, in_order, on_grid
from carousel.forecast.memory import give_back
from carousel.forecast.names import Names, find_names, find_time
from carousel.forecast.table import Origin, read_table
from carousel.network.forecaster import Columns as ModelColumns
from carousel.network.forecaster import Covariate, CovariatePaths
from carousel.series import Frequency, Panel
from carousel.series.covariates import Covariates
from carousel.series.holidays import HOLIDAY, holiday_column

__all__ = ["Names", "Reading", "Wanted", "columns_of", "read_frame", "read_table"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reading:
    """A panel, what was done to get it, and the columns and the file (if any) it was read from.

    Args:
        covariates: the columns beside the target, not yet measured.
        holidays: country of the column `holiday`; None without.
        lost: what values a fitted model cannot see, for its notes.
    """

    panel: Panel
    notes: tuple[str, ...]
    names: Names
    origin: Origin = field(default_factory=Origin)
    covariates: tuple[Covariate, ...] = ()
    holidays: str | None = None
    lost: tuple[str, ...] = ()

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

    def blamed(self) -> AbstractContextManager[None]:
        """Within it, what is wrong with the data is said with the name of their file."""
        return blamed(self.origin)


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
    zone: str | None = None,
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
        zone: whose clock tells times that are in any zone; without one, their own.

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
    columns = replace(columns_of(frame, layout), zone=zone)
    origin = columns.origin
    if not len(columns.frame):
        least = "one" if known else "two"
        raise DataError(f"{origin.prefix()}there are no rows; give at least {least}.")
    if layout == "wide":
        rows, ids, names = _wide(columns, id, time, target, wanted, known)
    else:
        names = find_names(columns, id, time, target, wanted.names, averaged=duplicates == "mean")
        names = replace(names, whole_ids=names.id is not None and columns.is_whole(names.id))
        rows, ids, columns = _long(columns, names, known)
    if names.time:
        names = replace(names, zone=columns.zones.get(names.time), unit=columns.units.get(names.time))
    give_back()
    rows, unsorted = in_order(rows)
    rows, averaged = distinct(rows, ids, names, columns, duplicates)
    panel, places = on_grid(rows, ids, freq, origin, known, names.zone)
    given, kept = _covariates(columns, names, panel, rows, places, wanted, static)
    panel = replace(panel, covariates=given)
    give_back()
    notes = (
        *origin.remarks,
        *remarks.of_columns(names, panel),
        *(f"{column.role} column: {column.name} ({_kind(column)})" for column in kept),
        *columns.remarks,
        *remarks.of_rows(panel, rows.value, unsorted, averaged),
    )
    return Reading(panel, notes, names, origin, kept, wanted.holidays)


def _long(columns: Columns, names: Names, known: Collection[str]) -> tuple[Rows, tuple[str, ...], Columns]:
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
    times = columns.times(names.time) if names.time else counted(codes)
    return Rows(codes, times, values, np.arange(count, dtype=_number(count))), ids, columns


def _number(count: int) -> type:
    """The integers that so many rows are counted with."""
    return np.int32 if count < 1 << 31 else np.int64


def _wide(
    columns: Columns,
    id: str | None,
    time: str | None,
    target: str | None,
    wanted: Wanted,
    known: Collection[str],
) -> tuple[Rows, tuple[str, ...], Names]:
    """The rows of a wide frame: every column but the time is a series, from its first value to its last.

    One that is known begins with the frame, and without any value is left out.
    """
    if id is not None or target is not None or wanted.names:
        raise ArgumentError(
            "layout='wide' has a column per series: `id_col`, `target_col` and covariates of rows need "
            "layout='long'; `static` and `holidays` go with both."
        )
    time = find_time(columns, time)
    ids: list[str] = []
    count, parts = len(columns.frame), []
    times = columns.times(time) if time else np.arange(count)
    for name in columns.frame.columns:
        if name == time:
            continue
        values = columns.numbers(name)
        there = np.flatnonzero(~np.isnan(values))
        if not len(there) and name in known:
            continue
        if not len(there):
            raise DataError(f"{columns.origin.prefix()}series {name!r} has no value in any row; remove it.")
        rows = np.arange(0 if name in known else there[0], there[-1] + 1)
        parts.append(Rows(np.full(len(rows), len(ids)), times[rows], values[rows], rows))
        ids.append(name)
    if not parts:
        raise DataError(f"{columns.origin.prefix()}there is no column of numbers to forecast.")
    fields = ("code", "time", "value", "index")
    joined = Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))
    return joined, tuple(ids), Names("unique_id", time, "y")


def _covariates(
    columns: Columns,
    names: Names,
    panel: Panel,
    rows: Rows,
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
        fixed, found = with_statics(columns_of(static, argument="static"), names.id, panel.ids, wanted)
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


def columns_of(frame: Any, layout: Literal["long", "wide"] = "long", argument: str = "") -> Columns:
    """The columns of a frame of pandas, polars or pyarrow, or of one sequence of numbers.

    Args:
        argument: what it was given as, for messages.

    Raises:
        DataError: it is something else.
    """
    try:
        return Columns(*_eager(frame, layout))
    except DataError as error:
        raise DataError(
            f"`{argument}`: {str(error)[0].lower()}{str(error)[1:]}" if argument else str(error)
        ) from None


def _eager(frame: Any, layout: str) -> tuple[nw.DataFrame[Any], Origin]:
    """The frame behind narwhals; an index of pandas that says something becomes a column."""
    if isinstance(frame, (np.ndarray, list, tuple)):
        import pyarrow

        masked = np.ma.isMaskedArray(frame)  # what is masked is missing
        array = np.ma.filled(np.ma.asarray(frame).astype(np.float64), np.nan) if masked else np.asarray(frame)
        if layout == "wide" and array.ndim == 2 and array.dtype.kind in "iuf":
            series = {str(s): column.astype(np.float64) for s, column in enumerate(array.T)}
            return nw.from_native(pyarrow.table(series), eager_only=True), Origin()
        if array.ndim != 1 or array.dtype.kind not in "iuf":
            raise DataError(
                f"An array must be one sequence of numbers, got {array.dtype} of shape {array.shape}; give numbers, "
                "or with a column for each series say so (--layout wide, in Python layout='wide')."
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
        way_out = "; make a frame of it" if isinstance(frame, Mapping) else ""
        way_out = "; numpy.asarray makes one of it" if hasattr(frame, "__array__") else way_out
        raise DataError(
            "Expected a frame of pandas, polars or pyarrow or a sequence of numbers, "
            f"got {type(frame).__name__}{way_out}."
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
