"""Dates as people write them, to `datetime64[us]`; whole columns at once.

The wall clock is kept: an offset such as `Z` or `+02:00` is dropped, for a load curve follows local time. Where the
zone of the rows is known, a time with an offset is what the clock of that zone shows then.
A date whose day and month could be exchanged is refused unless another row of the column decides it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from carousel.series.zones import in_zone, minutes_ahead

__all__ = ["Dates", "integer_dates", "looks_like_dates", "moment", "offset_of", "parse_dates"]

Array = np.ndarray[Any, Any]

_CLOCK = (
    r"(?:[T ] *(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,6}))?)?)?"
    r" *(?P<half>[AaPp][Mm])?)? *(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
_YEAR_FIRST = r"^(?P<year>\d{4})[-/.M](?P<month>\d{1,2})(?:[-/.](?P<day>\d{1,2}))?" + _CLOCK
_NUMBERS = r"^(?P<left>\d{1,2})(?P<mark>[-/.])(?P<right>\d{1,2})[-/.](?P<year>\d{4})" + _CLOCK
_FORMS = (
    _YEAR_FIRST,
    _NUMBERS,
    r"^(?P<year>\d{4})[- ]?[Qq](?P<quarter>[1-4])$",
    r"^(?P<year>\d{4})[- ]?[Ww](?P<week>\d{2})(?:-?(?P<weekday>[1-7]))?$",
    r"^(?:(?P<day>\d{1,2})[-. ] ?)?(?P<name>[A-Za-z]{3,9})\.?[-, ]+(?P<year>\d{4})" + _CLOCK,
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})" + _CLOCK,
)
_COMPACT = {6: r"^(?P<year>\d{4})(?P<month>\d{2})$", 8: _FORMS[-1]}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS = (("hour", 3600_000_000, 24), ("minute", 60_000_000, 60), ("second", 1_000_000, 60))


@dataclass(frozen=True)
class Dates:
    """A column of dates: NaT where a cell is none; `ambiguous` where day and month cannot be told apart."""

    stamps: Array
    remarks: tuple[str, ...] = ()
    ambiguous: bool = False


def parse_dates(texts: pa.ChunkedArray, zone: str | None = None) -> Dates:
    """Dates of one form: ISO 8601 to the month or finer, day or month first, quarters, weeks, `Jan 1949`.

    Args:
        texts: (N,) strings without white space around them; null where missing.
        zone: whose clock tells times that carry an offset; without one, that which the text shows.

    Example:
        >>> parse_dates(pa.chunked_array([["31/01/2024", "01/02/2024", "x"]])).stamps.astype("datetime64[D]")
        array(['2024-01-31', '2024-02-01',        'NaT'], dtype='datetime64[D]')
    """
    try:
        return Dates(pc.cast(texts, pa.timestamp("us")).to_numpy())
    except pa.ArrowInvalid:
        sample = texts.drop_null().slice(0, 1000)
        form = max(_FORMS, key=lambda pattern: _matches(sample, pattern))
        return _in_form(texts, form, zone)


def offset_of(text: str) -> str:
    """The offset from UTC that a date was written with; "" without.

    Example:
        >>> offset_of("2024-10-27 02:00+01:00"), offset_of("27.10.2024 02:00")
        ('+01:00', '')
    """
    matches = (re.match(pattern, text) for pattern in _FORMS)
    return next((match.groupdict().get("zone") or "" for match in matches if match), "")


def looks_like_dates(texts: pa.ChunkedArray) -> bool:
    """Whether most of these texts are dates of one form; one wrong cell does not change what a column is.

    Example:
        >>> looks_like_dates(pa.chunked_array([["1949-01", "1949-02", "?"]]))
        True
    """
    return any(2 * _matches(texts, pattern) > len(texts) for pattern in _FORMS)


def integer_dates(numbers: Array) -> Dates | None:
    """Whole numbers that can only be dates, 20240131 or 202401 in every row; else None.

    Example:
        >>> integer_dates(np.array([194911, 194912, 195001])).stamps.astype("datetime64[M]")
        array(['1949-11', '1949-12', '1950-01'], dtype='datetime64[M]')
        >>> integer_dates(np.array([1949, 1950])) is None
        True
    """
    if not len(numbers) or (digits := len(str(numbers[0]))) not in _COMPACT:
        return None
    dates = _in_form(pa.chunked_array([pa.array(numbers.astype(str))]), _COMPACT[digits])
    years = dates.stamps.astype("datetime64[Y]")
    if np.isnat(years).any() or years.min() < np.datetime64("1700") or years.max() > np.datetime64("2200"):
        return None
    return Dates(dates.stamps, (f"whole numbers such as {numbers[0]} are read as dates",))


def _matches(texts: pa.ChunkedArray, pattern: str) -> int:
    if not len(texts):
        return 0
    return pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0


def _in_form(texts: pa.ChunkedArray, pattern: str, zone: str | None = None) -> Dates:
    """Dates of one pattern: first its named groups, then the parts by arithmetic."""
    parts = [pc.extract_regex(chunk, pattern) for chunk in texts.chunks]
    fields = {
        field.name: pa.chunked_array([part.field(k) for part in parts], pa.string())
        for k, field in enumerate(parts[0].type if parts else ())
    }
    valid = np.concatenate([np.zeros(0, bool), *(part.is_valid().to_numpy(False) for part in parts)])
    remarks: tuple[str, ...] = ()
    if "left" in fields:
        left, right = _whole(fields["left"], 1), _whole(fields["right"], 1)
        dotted = len(valid) > 0 and pc.any(pc.equal(fields["mark"], ".")).as_py()
        day_first, month_first = bool((left[valid] > 12).any()) or dotted, bool((right[valid] > 12).any())
        if not (day_first or month_first):
            return Dates(np.full(len(valid), "NaT", "datetime64[us]"), ambiguous=bool(valid.any()))
        day, month = (left, right) if day_first else (right, left)
        remarks = (f"dates are read with the {'day' if day_first else 'month'} first",)
    elif "quarter" in fields:
        day, month = np.ones(len(valid), np.int64), 3 * _whole(fields["quarter"], 1) - 2
    elif "name" in fields:
        named = pc.utf8_lower(pc.utf8_slice_codeunits(fields["name"], 0, 3))
        index = pc.fill_null(pc.index_in(named, value_set=pa.array(_MONTHS)), -1)
        day, month = _whole(fields["day"], 1), index.to_numpy().astype(np.int64) + 1
    elif "month" in fields:
        day, month = _whole(fields.get("day"), 1, len(valid)), _whole(fields["month"], 1)
    year = _whole(fields["year"], 1970)
    if "week" in fields:
        stamps, exists = _weeks(year, _whole(fields["week"], 1), _whole(fields["weekday"], 1))
    else:
        stamps, exists = _calendar(year, month, day)
    if "hour" in fields:
        clock, runs = _clock(fields)
        stamps, exists = stamps + clock, exists & runs
        if pc.any(pc.not_equal(fields["zone"], "")).as_py():
            stamps, remark = _at_offsets(stamps, fields["zone"], zone)
            remarks += (remark,)
    stamps[~(exists & valid)] = np.datetime64("NaT")
    return Dates(stamps, remarks)


def _at_offsets(stamps: Array, offsets: pa.ChunkedArray, zone: str | None) -> tuple[Array, str]:
    """Times by the clock of the rows, and what the user should know about them."""
    different = offsets.combine_chunks().dictionary_encode()
    ahead = np.array([minutes_ahead(text or "") for text in [*different.dictionary.to_pylist(), ""]])
    with_offset = pc.fill_null(pc.not_equal(offsets, ""), False).to_numpy()
    shown = in_zone(stamps, ahead[np.asarray(pc.fill_null(different.indices, -1))], zone)
    if shown is None:
        return stamps, "UTC offsets are dropped: times are read as the wall clock shows them"
    return np.where(with_offset, shown, stamps), f"times are read as the wall clock of {zone} shows them"


def _calendar(year: Array, month: Array, day: Array) -> tuple[Array, Array]:
    """Days of the calendar as time stamps, and whether each exists (there is no 30 February)."""
    exists = (month >= 1) & (month <= 12) & (day >= 1)
    months = ((year - 1970) * 12 + np.where(exists, month, 1) - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    return days.astype("datetime64[us]"), exists & (days.astype("datetime64[M]") == months)


def _weeks(year: Array, week: Array, weekday: Array) -> tuple[Array, Array]:
    """As `_calendar`, of weeks of ISO 8601, from Monday (1) on: the first of a year is that of its 4 January."""
    fourth = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + 3
    monday = fourth - (fourth.astype(np.int64) + 3) % 7 + 7 * (week - 1)  # 1970-01-01 was a Thursday
    exists = (week >= 1) & ((monday + 3).astype("datetime64[Y]").astype(np.int64) == year - 1970)
    return (monday + (weekday - 1)).astype("datetime64[us]"), exists


def _clock(fields: dict[str, pa.ChunkedArray]) -> tuple[Array, Array]:
    """Time of day as a duration, and whether a clock shows it."""
    half = pc.utf8_lower(fields["half"])
    noon = pc.fill_null(pc.equal(half, "pm"), False).to_numpy()
    twelve = pc.fill_null(pc.not_equal(half, ""), False).to_numpy()
    fraction = pc.utf8_rpad(fields["fraction"], 6, "0")
    clock = _whole(fraction, 0)
    runs = np.ones(len(clock), bool)
    for name, unit, limit in _UNITS:
        count = _whole(fields[name], 0)
        runs &= count < limit
        if name == "hour":
            runs &= ~twelve | ((count >= 1) & (count <= 12))
            count = np.where(twelve, count % 12 + 12 * noon, count)
        clock = clock + count * unit
    return clock.astype("timedelta64[us]"), runs


def _whole(field: pa.ChunkedArray | None, default: int, size: int = 0) -> Array:
    """Digits as integers; `default` where the group is absent or the row did not match."""
    if field is None:
        return np.full(size, default, np.int64)
    digits = pc.fill_null(pc.if_else(pc.equal(field, ""), None, field), str(default))
    return np.asarray(pc.cast(digits, pa.int64()).to_numpy())


def moment(time: Any) -> str:
    """A time stamp without the parts that are zero, or an integer."""
    text = str(time).replace("T", " ")
    return text.removesuffix(".000000").removesuffix(":00").removesuffix(" 00:00")
