"""Rows of a long frame, put in order, one for each time, and on regular grids."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.columns import Columns
from carousel.forecast.dates import moment
from carousel.forecast.names import Names, like_ids
from carousel.forecast.table import Origin
from carousel.series import Frequency, Panel
from carousel.series.calendar import DAY
from carousel.series.zones import instants

__all__ = ["Rows", "blamed", "counted", "distinct", "in_order", "on_grid"]

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 17  # rows
_MEAN = "--duplicates mean, in Python duplicates='mean'"
_SHOWN = 8  # steps of one series, at least, that show a wider step than asked for; fewer may be gaps
_SPARSE = 20  # a grid with more rows than this per row given comes from a wrong date or a wrong frequency


@dataclass(frozen=True)
class Rows:
    """Rows of a long frame; `index` is where each stood in the frame."""

    code: Array  # (N,) the number of the series
    time: Array  # (N,)
    value: Array  # (N,)
    index: Array  # (N,)

    def take(self, which: Array) -> Rows:
        return Rows(self.code[which], self.time[which], self.value[which], self.index[which])


def counted(codes: Array) -> Array:
    """0, 1, 2, … within each series, for rows that have no time."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    position = np.empty(len(codes), np.int64)
    position[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position


def in_order(rows: Rows) -> tuple[Rows, int]:
    """Rows by series and time, and how many stood before an earlier row of their series."""
    grouped = bool((rows.code[1:] >= rows.code[:-1]).all())  # as most frames are: no copy then
    by_series = rows if grouped else rows.take(np.argsort(rows.code, kind="stable"))
    late = _follows(by_series) & (by_series.time[1:] < by_series.time[:-1])
    if not late.any():
        return by_series, 0
    del by_series
    return rows.take(np.lexsort((rows.time, rows.code))), int(late.sum())


def _follows(rows: Rows) -> Array:
    """(N - 1,) whether each row but the first is of the series of the one before it."""
    same: Array = rows.code[1:] == rows.code[:-1]
    return same


def distinct(
    rows: Rows, ids: tuple[str, ...], names: Names, columns: Columns, duplicates: str
) -> tuple[Rows, int]:
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
    return Rows(kept.code, kept.time, mean, kept.index), int(again.sum())


def _duplicate(
    rows: Rows, second: int, count: int, ids: tuple[str, ...], names: Names, columns: Columns
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
        way_out = f"average them ({_MEAN})"
        if columns.zone is None:
            way_out += f", or give times in UTC (in pandas {utc})"
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


def on_grid(
    rows: Rows,
    ids: tuple[str, ...],
    freq: str | int | Frequency | None,
    origin: Origin,
    known: Collection[str],
    zone: str | None = None,
) -> tuple[Panel, Array | slice]:
    """The rows on regular grids, NaN between them, and the place of every row; `zone` is that of their clock."""
    offsets = np.searchsorted(rows.code, np.arange(len(ids) + 1, dtype=rows.code.dtype))
    with blamed(origin):
        try:
            frequency = Frequency.infer(rows.time, offsets) if freq is None else Frequency.parse(freq)
        except DataError as error:
            way_out = _in_utc(rows.time, offsets, zone)
            raise DataError(f"{str(error).rstrip('.')}{_first_off(rows, ids, origin)}{way_out}.") from None
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


def _in_utc(times: Array, offsets: Array, zone: str | None) -> str:
    """What to do where rows are regular in UTC and not by the clock of their zone; "" elsewhere."""
    found = instants(times, zone) if zone is not None and times.dtype.kind == "M" else None
    if found is None:
        return ""
    try:
        step = Frequency.infer(found[0], offsets)
    except DataError:
        return ""
    return f'; in UTC all steps are {step}: give the times so (`tz_convert("UTC")`), for the clock of {zone} is changed'


def _placed(rows: Rows, frequency: Frequency, ids: tuple[str, ...], origin: Origin) -> Rows:
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


def _first_off(rows: Rows, ids: tuple[str, ...], origin: Origin) -> str:
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


def _positions(frequency: Frequency, starts: Array, rows: Rows) -> Array:
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
    if np.diff(offsets).max() <= _SHOWN:
        return
    try:
        found = Frequency.infer(times, offsets)
    except DataError:
        return
    start = times[:1]
    wide, fine = found.shift(start, np.ones(1, np.int64)), frequency.shift(start, np.full(1, 2))
    if found != frequency and found.unit not in ("business", "open") and (wide >= fine).all():
        raise DataError(
            f"The step of the rows is {found}, not {frequency} as asked for (or as the model was fitted); "
            "give rows of that step, with empty cells where values are missing."
        )


@contextmanager
def blamed(origin: Origin) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        prefix, text = origin.prefix(), str(error)
        raise DataError(f"{prefix}{text[0].lower()}{text[1:]}" if prefix else text) from None
