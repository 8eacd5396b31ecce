"""Opening hours: the times of a week at which there are rows, where there are none at others.

A week is written as its days and the first and last row of each stretch, "Mon-Fri 09:00-16:00; Sat 09:00-12:00"; with
a break, "Mon-Fri 09:00-11:00,13:00-17:00". Where the step is a day, it is the days alone, "Mon-Sat" or "Tue,Thu", each
with one row, at any time of the day, which stays as it is. The rows of all weeks are counted through.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from carousel.errors import ArgumentError

__all__ = ["infer", "infer_days", "position", "seasons", "shift", "times", "written"]

Array = np.ndarray[Any, Any]

SECOND = 10**6
DAY, WEEK = 86400 * SECOND, 7 * 86400 * SECOND
MONDAY = 4 * DAY  # 1970-01-05
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

LONGEST = 500  # characters of a week
BLOCK = 1 << 17  # rows that are looked at together

SEEN = 3  # weeks, below which a pattern may be an accident
CLOSED = 0.25  # of the week, at least
THERE = 0.8  # of the rows of opening hours, at least: a holiday may be missing
SEEN_DAYS = (
    4  # weeks: where a fifth is missing by chance, one of seven days is so in all of four in 7 / 5^4 = 1 %
)

_GROUP = re.compile(r"([A-Za-z]{3})(?:-([A-Za-z]{3}))? (\S+)")
_DAY_RANGE = re.compile(r"([A-Za-z]{3})(?:-([A-Za-z]{3}))?")
_STRETCH = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?-(\d\d):(\d\d)(?::(\d\d))?")


@lru_cache(maxsize=64)
def times(week: str, step: int) -> Array:
    """(n,) the rows of a week in microseconds from Monday 0:00 on, rising.

    Args:
        week: as above.
        step: microseconds from row to row within a stretch.

    Raises:
        ArgumentError: it is no such text, its stretches overlap or are no multiple of the step, the step is less
            than a second, or it is one day of the week, or one that is named twice.
    """
    out = np.array([day * DAY for day in _days(week)] if step == DAY else _hours(week, step), np.int64)
    out.setflags(write=False)
    return out


def _hours(week: str, step: int) -> list[int]:
    found: list[int] = []
    if step < SECOND or len(week) > LONGEST:
        raise ArgumentError(_wanted(week))
    for group in week.split(";"):
        match = _GROUP.fullmatch(group.strip())
        names = [day.capitalize() for day in (match[1], match[2] or match[1])] if match else []
        if match is None or any(name not in DAYS for name in names):
            raise ArgumentError(_wanted(week))
        for day in range(DAYS.index(names[0]), DAYS.index(names[1]) + 1):
            for stretch in match[3].split(","):
                rows = _rows(week, stretch, step)
                if found and day * DAY + rows[0] <= found[-1]:
                    raise ArgumentError(_wanted(week))
                found += [day * DAY + time for time in rows]
    if not found:
        raise ArgumentError(_wanted(week))
    return found


def _days(week: str) -> list[int]:
    """The days, 0 for a Monday, rising; they may go on over the end of the week, "Sun-Thu"."""
    found: list[int] = []
    for part in week.split(",") if len(week) <= LONGEST else ():
        match = _DAY_RANGE.fullmatch(part.strip())
        names = [day.capitalize() for day in (match[1], match[2] or match[1])] if match else []
        if match is None or any(name not in DAYS for name in names):
            raise ArgumentError(_wanted_days(week))
        first, last = map(DAYS.index, names)
        found += [day % 7 for day in range(first, last + 1 + 7 * (last < first))]
    if len(found) < 2 or len(set(found)) < len(found):
        raise ArgumentError(_wanted_days(week))
    return sorted(found)


def _rows(week: str, stretch: str, step: int) -> range:
    match = _STRETCH.fullmatch(stretch)
    numbers = [int(text or 0) for text in match.groups()] if match else []
    if match is None or numbers[0] > 23 or numbers[3] > 23 or max(numbers[1:3] + numbers[4:]) > 59:
        raise ArgumentError(_wanted(week))
    first, last = (SECOND * (3600 * h + 60 * m + s) for h, m, s in (numbers[:3], numbers[3:]))
    if last < first or (last - first) % step:
        raise ArgumentError(_wanted(week))
    return range(first, last + 1, step)


def _wanted(week: str) -> str:
    return (
        "`freq` of opening hours must be a step and the first and last row of each day, such as "
        f'"h Mon-Fri 09:00-16:00" or "30min Mon-Thu 08:00-17:30; Fri 08:00-12:00", got {week[:60]!r}.'
    )


def _wanted_days(week: str) -> str:
    return (
        '`freq` of days must be "D" and two or more days of the week, each once, such as "D Mon-Sat" or "D Tue,Thu" '
        f'(one a week is "W-TUE"), got {week[:60]!r}.'
    )


def position(week: str, step: int, stamps: Array) -> Array:
    """(...) the number of the row at or before each time stamp, counted through all weeks."""
    rows = times(week, step)
    microseconds = np.asarray(stamps, "datetime64[us]").view(np.int64) - MONDAY
    number, within = np.divmod(microseconds, WEEK)
    out: Array = number * len(rows) + np.searchsorted(rows, within, "right") - 1
    return out


def shift(week: str, step: int, stamps: Array, steps: Array) -> Array:
    """(...) the stamps `steps` rows after `stamps`; days keep the time of the day."""
    rows = times(week, step)
    number, row = np.divmod(position(week, step, stamps) + steps, len(rows))
    out: Array = number * WEEK + rows[row] + MONDAY
    if step == DAY:
        out = out + np.asarray(stamps, "datetime64[us]").view(np.int64) % DAY
    return out.astype("datetime64[us]")


def seasons(week: str, step: int) -> tuple[int, ...]:
    """Rows of a day, where all open days have as many, and of a week."""
    counts = np.bincount(times(week, step) // DAY)
    found = {int(count) for count in counts if count}
    both = (*found, int(counts.sum())) if len(found) == 1 else (int(counts.sum()),)
    return tuple(sorted({rows for rows in both if rows > 1})) or (1,)


def infer(stamps: Array, offsets: Array, step: int) -> str | None:
    """The week of rows that keep opening hours; None of others.

    Args:
        stamps: (N,) datetime64[us], rising within each series.
        offsets: (S + 1,) where each series starts and ends.
        step: microseconds, that all distances are multiples of.
    """
    microseconds = stamps.view(np.int64)
    first, last = microseconds[offsets[:-1]] - MONDAY, microseconds[offsets[1:] - 1] - MONDAY
    if step < SECOND or DAY % step or (last - first).max(initial=0) < SEEN * WEEK:
        return None
    rows = np.zeros(0, np.int64)
    for b in range(0, len(microseconds), BLOCK):  # most frames are left within the first
        rows = np.union1d(rows, (microseconds[b : b + BLOCK] - MONDAY) % WEEK)
        if len(rows) * step > (1 - CLOSED) * WEEK or (rows % SECOND).any():
            return None
    counted = [np.divmod(ends, WEEK) for ends in (first, last)]
    begun, ended = (n * len(rows) + np.searchsorted(rows, w, "right") for n, w in counted)
    if len(stamps) < THERE * (ended - begun + 1).sum():
        return None
    text = _text(rows, step)
    return text if len(text) <= LONGEST else None


def infer_days(stamps: Array, offsets: Array) -> str | None:
    """The days of the week, two to six, that have rows where others never have; None of other rows.

    Args:
        stamps: (N,) datetime64[us], rising within each series by whole days.
        offsets: (S + 1,) where each series starts and ends.
    """
    number = stamps.view(np.int64) // DAY - MONDAY // DAY
    first, last = number[offsets[:-1]], number[offsets[1:] - 1]
    there = np.bincount(number % 7, minlength=7) > 0
    if not 2 <= there.sum() <= 6 or (last - first).max(initial=0) < 7 * SEEN_DAYS:
        return None
    upto = np.cumsum(there)
    begun, ended = (n // 7 * upto[6] + upto[n % 7] for n in (first, last))
    if len(stamps) < THERE * (ended - begun + 1).sum():
        return None
    return _text_of_days(np.flatnonzero(there))


def written(week: str, step: int) -> str:
    """A week in the one way in which it is written.

    Raises:
        ArgumentError: as `times`.
    """
    rows = times(week, step)
    return _text_of_days(rows // DAY) if step == DAY else _text(rows, step)


def _text(rows: Array, step: int) -> str:
    """The week of rows in microseconds from Monday 0:00 on."""
    stretches = []
    for day in range(7):
        times = rows[rows // DAY == day] % DAY
        parts = np.split(times, np.flatnonzero(np.diff(times) != step) + 1) if len(times) else []
        stretches.append(",".join(f"{_clock(part[0])}-{_clock(part[-1])}" for part in parts))
    groups, day = [], 0
    while day < 7:
        end = day
        while end < 6 and stretches[end + 1] == stretches[day]:
            end += 1
        if stretches[day]:
            groups.append(f"{DAYS[day]}{f'-{DAYS[end]}' if end > day else ''} {stretches[day]}")
        day = end + 1
    return "; ".join(groups)


def _text_of_days(days: Array) -> str:
    """Stretches of days, "Sun-Thu", by their first day; a whole week is "Mon-Sun"."""
    there = set(days.tolist())
    parts = ["Mon-Sun"] if len(there) == 7 else []
    for first in (day for day in sorted(there) if (day - 1) % 7 not in there):
        last = next(day for day in range(first, first + 7) if (day + 1) % 7 not in there) % 7
        parts.append(DAYS[first] + (f"-{DAYS[last]}" if last != first else ""))
    return ",".join(parts)


def _clock(time: int) -> str:
    minutes, seconds = divmod(int(time) // SECOND, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}{f':{seconds:02}' if seconds else ''}"
