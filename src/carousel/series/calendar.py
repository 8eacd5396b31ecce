"""Frequencies: the distance between two rows of a series, and what a season is at that distance.

Time is naive: `datetime64[us]` without a zone, or `int64` for a plain index. A series in local time keeps
its local hours, which is what a daily load curve follows; convert to UTC before, if that is what you mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.series import opening

__all__ = ["Frequency"]

Array = np.ndarray[Any, Any]
Unit = Literal["us", "open", "business", "month", "index"]

MICROSECOND, SECOND, MINUTE, HOUR, DAY, WEEK = (
    1,
    10**6,
    60 * 10**6,
    3600 * 10**6,
    86400 * 10**6,
    7 * 86400 * 10**6,
)
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

# Spellings of pandas (old and new) and polars, in lower case.
FIXED = {
    "us": MICROSECOND,
    "ms": 1000,
    "s": SECOND,
    "min": MINUTE,
    "t": MINUTE,
    "h": HOUR,
    "d": DAY,
    "w": WEEK,
}
MONTHLY: dict[str, tuple[int, str]] = {
    "ms": (1, "start"), "me": (1, "end"), "m": (1, "end"), "mo": (1, "start"),
    "qs": (3, "start"), "qe": (3, "end"), "q": (3, "end"),
    "ys": (12, "start"), "as": (12, "start"), "ye": (12, "end"), "y": (12, "end"), "a": (12, "end"),
    "bms": (1, "first weekday"), "bme": (1, "last weekday"), "bm": (1, "last weekday"),
    "bqs": (3, "first weekday"), "bqe": (3, "last weekday"), "bq": (3, "last weekday"),
    "bys": (12, "first weekday"), "bas": (12, "first weekday"),
    "bye": (12, "last weekday"), "by": (12, "last weekday"), "ba": (12, "last weekday"),
}  # fmt: skip
ENDS = ("end", "last weekday")
YEAR = 12  # months on varying days, below which a row a month may be an accident
KEPT = 0.8  # of rows on one day of the month, from which on others are errors; the first weekday is the 1st in 5 of 7
LATE = 25  # day of the month: from then on a row speaks of the month that ends
LONGEST: dict[Unit, int] = {
    "us": 10**18,
    "open": DAY,
    "business": 8 * 10**6,
    "month": 380_000,
    "index": 10**18,
}
BUSINESS_HOURS = "h Mon-Fri 09:00-16:00"
WORDS = {"hourly": "h", "daily": "D", "weekly": "W", "monthly": "MS", "quarterly": "QS", "yearly": "YS"}


@dataclass(frozen=True)
class Frequency:
    """The step of a regular grid of time stamps.

    Args:
        step: steps of `unit` from one row to the next, at least 1.
        unit: "us" (a fixed duration), "open" (one within opening hours or days), "business" (Monday to Friday),
            "month" or "index" (plain integers).
        anchor: "start", "end", "first weekday", "last weekday" (Monday to Friday, holidays or not) or "same" day of
            the month for months; a weekday ("SUN") for whole weeks; the opening
            hours or days of a week.
        month: first month of the quarter or year (1 = January) that a multiple of months is anchored at.
        any_day: a row may lie on any day of its month; `placed` gives the one it is dated by.

    Example:
        >>> Frequency.parse("MS").after(np.datetime64("2020-11-01"), 3).astype("datetime64[D]").tolist()[-1]
        datetime.date(2021, 2, 1)
        >>> str(Frequency.parse("15min")), Frequency.parse("15min").season
        ('15min', 96)
    """

    step: int
    unit: Unit = "us"
    anchor: str = ""
    month: int = 1
    any_day: bool = False

    @classmethod
    def parse(cls, text: str | int | Frequency) -> Frequency:
        """The frequency of an alias of pandas or polars ("h", "W-SUN", "1mo"), of an integer step (2, "2"), or of
        a step and opening hours ("h Mon-Fri 09:00-16:00", which is "bh") or days ("D Mon-Sat", "D Tue,Thu"), or of
        months on any day, dated by their first or last ("MS any day", "ME any day").

        Raises:
            ArgumentError: an alias that is not known, or a step of more than some 30,000 years.
        """
        if isinstance(text, Frequency):
            return text
        found = cls._parsed(text)
        if found.step > LONGEST[found.unit]:
            raise ArgumentError(f"`freq` is too long a step, got {_shown(text)}.")
        return found

    @classmethod
    def _parsed(cls, text: str | int) -> Frequency:
        if isinstance(text, str) and re.fullmatch("[0-9]{1,19}", text):
            text = int(text)
        if isinstance(text, (int, np.integer)) and not isinstance(text, bool):
            if text < 1:
                raise ArgumentError(f"`freq` as an integer must be at least 1, got {text}.")
            return cls(int(text), "index")
        text = BUSINESS_HOURS if str(text).lower() == "bh" else text
        if isinstance(text, str) and text.endswith(" any day"):
            every = cls.parse(text.removesuffix(" any day"))
            if every not in (cls(1, "month", "start"), cls(1, "month", "end")):
                raise ArgumentError(
                    f'`freq` on any day must be "MS any day" or "ME any day", got {_shown(text)}.'
                )
            return replace(every, any_day=True)
        if isinstance(text, str) and re.match(r"[0-9]*[A-Za-z]+ +[A-Za-z]{3}\b", text.strip()):
            step, _, week = text.strip().partition(" ")
            return cls._opened(cls.parse(step), week.strip(), text)
        match = re.fullmatch(
            r"([0-9]{0,19})\s*([A-Za-z]+)(?:-([A-Za-z]{3}))?", WORDS.get(str(text).lower(), str(text)).strip()
        )
        if match is None or match[1].strip("0") == "" != match[1]:
            raise ArgumentError(_unknown(text))
        count, name, suffix = int(match[1] or 1), match[2], (match[3] or "").upper()
        lower = name.lower()
        if lower == "b" and not suffix:
            return cls(count, "business")
        if lower == "w" and (not suffix or suffix in WEEKDAYS):
            return cls(count * WEEK, "us", suffix or "SUN")
        # "ms" is a millisecond and "MS" a month's start; "m" could be either a minute or a month: say which.
        if name == "m":
            raise ArgumentError('`freq` = "m" could be a minute or a month: write "min", "MS" or "ME".')
        if name != "MS" and lower in FIXED and not suffix:
            return cls(count * FIXED[lower], "us", _weekly_anchor(count * FIXED[lower]))
        if lower in MONTHLY and name != "ms" and (not suffix or suffix in MONTHS):
            months, anchor = MONTHLY[lower]
            named = MONTHS.index(suffix) + 1 if suffix else (12 if anchor in ENDS else 1)
            return _months(count * months, anchor, named % 12 + 1 if anchor in ENDS else named)
        raise ArgumentError(_unknown(text))

    @classmethod
    def _opened(cls, every: Frequency, week: str, text: str) -> Frequency:
        if every.unit != "us" or every.step > DAY or len(opening.times(week, every.step)) < 2:
            raise ArgumentError(
                f"`freq` of opening hours must have a step of less than a day, one of days of the week a day, "
                f"got {_shown(text)}."
            )
        week = opening.written(week, every.step)
        if every.step == DAY and week in ("Mon-Fri", "Mon-Sun"):
            return cls(1, "business") if week == "Mon-Fri" else every
        return cls(every.step, "open", week)

    @classmethod
    def infer(cls, timestamps: Array, offsets: Array | None = None) -> Frequency:
        """The step of time stamps that may have gaps.

        Args:
            timestamps: (N,) datetime64 or integers, rising strictly within each series.
            offsets: (S + 1,) where each series starts and ends; one series without.

        Raises:
            DataError: fewer than two rows in every series, or stamps on no regular grid.
        """
        timestamps = np.asarray(timestamps)
        inner = np.ones(max(len(timestamps) - 1, 0), bool)
        if offsets is not None:
            cuts = np.asarray(offsets)[1:-1] - 1
            inner[cuts[(cuts >= 0) & (cuts < len(inner))]] = False
        if not inner.any():
            raise DataError(
                "The frequency cannot be found in fewer than two rows; give `freq`, or more rows."
            )
        if timestamps.dtype.kind in "iu":
            return cls(_common_step(np.diff(timestamps.astype(np.int64))[inner], str), "index")
        stamps = timestamps.astype("datetime64[us]", copy=False)
        gaps: Array = np.diff(stamps.view(np.int64))[inner]
        if gaps.min() >= 28 * DAY and (monthly := _infer_months(stamps, inner, gaps)) is not None:
            return monthly
        bounds = np.array([0, len(stamps)]) if offsets is None else np.asarray(offsets)
        if not (gaps % DAY).any() and (days := opening.infer_days(stamps, bounds)) is not None:
            return cls.parse(f"D {days}")
        try:
            step = _common_step(gaps, lambda gap: str(cls(int(gap))))
        except DataError:
            if (monthly := _infer_any_day(stamps, bounds)) is None:
                raise
            return monthly
        if step == DAY and gaps.max() >= 3 * DAY and _weekdays(stamps).max() < 5:
            return cls(1, "business")
        if step < DAY and (week := opening.infer(stamps, bounds, step)) is not None:
            return cls(step, "open", week)
        weekday = WEEKDAYS[int(_weekdays(stamps[:1])[0])] if step % WEEK == 0 else ""
        return cls(step, "us", weekday)

    def __str__(self) -> str:
        """The alias of pandas 2.2 and later ("h", "15min", "W-SUN"); the step itself for an index."""
        count = "" if self.step == 1 else str(self.step)
        if self.unit == "index":
            return str(self.step)
        if self.unit == "business":
            return f"{count}B"
        if self.unit == "month":
            return self._month_alias()
        if self.unit == "open":
            return f"{Frequency(self.step)} {self.anchor}"
        sizes = (
            (WEEK, "W"),
            (DAY, "D"),
            (HOUR, "h"),
            (MINUTE, "min"),
            (SECOND, "s"),
            (1000, "ms"),
            (1, "us"),
        )
        size, name = next(
            (size, name) for size, name in sizes if self.step % size == 0 and (name != "W" or self.anchor)
        )
        count = "" if self.step == size else str(self.step // size)
        return f"{count}{name}-{self.anchor}" if name == "W" else f"{count}{name}"

    def _month_alias(self) -> str:
        months, letter = next((n, c) for n, c in ((12, "Y"), (3, "Q"), (1, "M")) if self.step % n == 0)
        count = "" if self.step == months else str(self.step // months)
        side = "E" if self.anchor in ENDS else "S"
        named = (self.month - 2) % 12 + 1 if side == "E" else self.month
        plain = letter == "M" or named == (12 if side == "E" else 1)
        if letter == "Q" and side == "E":
            plain = named % 3 == 0
            named = named if plain else (named - 1) % 3 + 10
        business = "B" if self.anchor.endswith("weekday") else ""
        name = f"{count}{business}{letter}{side}{'' if plain else '-' + MONTHS[named - 1]}"
        return f"{name} any day" if self.any_day else name

    @property
    def seasons(self) -> tuple[int, ...]:
        """Season lengths in rows, shortest first: (24, 168) for hours; (1,) where there is none."""
        if self.unit == "index":
            return (1,)
        if self.unit == "open":
            return opening.seasons(self.anchor, self.step)
        if self.unit == "business":
            return (5,) if self.step == 1 else (1,)
        if self.unit == "month":
            return (12 // self.step,) if 12 % self.step == 0 else (1,)
        if self.step % WEEK == 0:
            return (max(1, round(52 / (self.step // WEEK))),)
        cycles = (HOUR, DAY) if self.step < MINUTE else (DAY, WEEK)
        return tuple(c // self.step for c in cycles if c % self.step == 0 and c > self.step) or (1,)

    @property
    def season(self) -> int:
        """The shortest season in rows: 24 for hours, 7 for days, 12 for months; 1 where there is none."""
        return self.seasons[0]

    @property
    def within_a_day(self) -> bool:
        """Whether a day has several rows, of which a clock may leave some out."""
        return self.unit in ("us", "open") and self.step < DAY

    @property
    def segment(self) -> int:
        """Rows of one natural sub-period, the stretch that a recurrent step reads at once.

        A season up to 24 rows is read whole; a longer one in the largest divisor of at most 48 rows
        (half a day of quarter hours), for fewer and wider steps train better (Lin et al. 2023, SegRNN).
        """
        return segment_of(self.season)

    def after(self, last: Any, k: int) -> Array:
        """The `k` time stamps that follow `last`, shape (k,)."""
        return self.grid(last, k + 1)[1:]

    def grid(self, start: Any, n: int) -> Array:
        """`n` time stamps from `start` on, shape (n,): datetime64[us], or int64 for an integer index."""
        return self.shift(start, np.arange(n, dtype=np.int64))

    def shift(self, start: Any, steps: Array) -> Array:
        """The stamps `steps` rows after `start`: arrays of equal shape or scalars, steps may be negative."""
        steps = np.asarray(steps, np.int64)
        if self.unit == "index":
            numbers: Array = np.asarray(start, np.int64) + self.step * steps
            return numbers
        stamp: Array = np.asarray(start, "datetime64[us]")
        if self.unit == "us":
            stamp = stamp + (self.step * steps).astype("timedelta64[us]")
            return stamp
        if self.unit == "open":
            return opening.shift(self.anchor, self.step, stamp, steps)
        day = stamp.astype("datetime64[D]")
        clock = stamp - day
        if self.unit == "business":
            stamp = np.busday_offset(day, self.step * steps, roll="forward").astype("datetime64[us]") + clock
            return stamp
        months = day.astype("datetime64[M]")
        moved = months + (self.step * steps).astype("timedelta64[M]")
        first, last = moved.astype("datetime64[D]"), (moved + 1).astype("datetime64[D]") - 1
        if self.anchor == "first weekday":
            at = np.busday_offset(first, 0, roll="forward")
        elif self.anchor == "last weekday":
            at = np.busday_offset(last, 0, roll="backward")
        else:
            at = (
                last
                if self.anchor == "end"
                else np.minimum(first + (day - months.astype("datetime64[D]")), last)
            )
        stamp = at.astype("datetime64[us]") + clock
        return stamp

    def placed(self, stamps: Array) -> Array:
        """The stamps as the grid has them: of months on any day their first or last days, of others as they are."""
        return self.shift(stamps.astype("datetime64[M]"), np.int64(0)) if self.any_day else stamps

    def positions(self, start: Any, timestamps: Array) -> Array:
        """How many rows after `start` each stamp lies, (N,) int64: the inverse of `shift`.

        Args:
            start: one stamp, or (N,) of them.
            timestamps: (N,) stamps on the grid.

        Raises:
            DataError: a stamp off the grid.
        """
        if self.unit == "index":
            stamps = np.asarray(timestamps, np.int64)
            steps = (stamps - np.asarray(start, np.int64)) // self.step
        else:
            stamps = np.asarray(timestamps, "datetime64[us]")
            first = np.asarray(start, "datetime64[us]")
            if self.unit == "us":
                steps = (stamps - first).astype(np.int64) // self.step
            elif self.unit == "open":
                steps = self.row(stamps) - self.row(first)
            elif self.unit == "business":
                steps = (
                    np.busday_count(first.astype("datetime64[D]"), stamps.astype("datetime64[D]"))
                    // self.step
                )
            else:
                steps = (stamps.astype("datetime64[M]") - first.astype("datetime64[M]")).astype(
                    np.int64
                ) // self.step
        off = np.flatnonzero(np.atleast_1d(self.shift(start, steps) != stamps))
        if len(off):
            shown = str(np.atleast_1d(stamps)[off[0]]).replace("T", " ").removesuffix(".000000")
            raise DataError(
                f"{len(off)} of {np.size(stamps)} time stamps are off the {self} grid, first {shown}; "
                "give the true `freq`, or resample the data to a regular grid."
            )
        return np.asarray(steps, np.int64)

    def row(self, stamps: Array) -> Array:
        """(...) the number of a row of opening hours or days, counted from the first week of 1970."""
        return opening.position(self.anchor, self.step, stamps)


def segment_of(season: int) -> int:
    """The largest divisor of `season` of at most 48 rows, or the season itself up to 24; 1 for no season."""
    if season <= 24:
        return season
    return max(d for d in range(1, 49) if season % d == 0)


def _months(step: int, anchor: str, month: int) -> Frequency:
    return Frequency(
        step, "month", anchor, 1 if step % 3 else (month - 1) % (12 if step % 12 == 0 else 3) + 1
    )


def _weekdays(stamps: Array) -> Array:
    """(N,) 0 for a Monday to 6 for a Sunday."""
    days: Array = (stamps.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    return days


def _weekly_anchor(step: int) -> str:
    return "SUN" if step == WEEK else ""


def _infer_months(stamps: Array, inner: Array, gaps: Array) -> Frequency | None:
    """Calendar months, where all stamps share the day of the month, or all are the ends, first or last weekdays."""
    months = stamps.astype("datetime64[M]")
    days = stamps.astype("datetime64[D]")
    if len(np.unique(stamps - days)) > 1:
        return None
    first, last = months.astype("datetime64[D]"), (months + 1).astype("datetime64[D]") - 1
    day = (days - first).astype(np.int64)
    if (days == last).all():
        anchor = "end"
    elif day.min() == day.max():
        anchor = "start" if day[0] == 0 else "same"
    elif gaps.min() == gaps.max():  # every four weeks, as far as can be seen
        return None
    elif (days == np.busday_offset(last, 0, roll="backward")).all():
        anchor = "last weekday"
    elif (days == np.busday_offset(first, 0, roll="forward")).all():
        anchor = "first weekday"
    else:
        return None
    step = int(np.gcd.reduce(np.diff(months.astype(np.int64))[inner]))
    month = int(months[0].astype(np.int64)) % 12 + 1
    return _months(step, anchor, month % 12 + 1 if anchor in ENDS else month)


def _infer_any_day(stamps: Array, offsets: Array) -> Frequency | None:
    """Months on varying days: one row in every month of each series; None where most keep a day, and some are wrong."""
    months, days = stamps.astype("datetime64[M]"), stamps.astype("datetime64[D]")
    number = months.astype(np.int64)
    following = np.diff(number) == 1
    following[offsets[1:-1] - 1] = True  # another series begins
    if not following.all() or np.diff(offsets).max() < YEAR or len(np.unique(stamps - days)) > 1:
        return None
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    kept = max(float((day == np.minimum(each, length)).mean()) for each in range(1, 32))
    if KEPT <= kept < 1:
        return None
    return Frequency(1, "month", "end" if day.min() >= LATE else "start", any_day=True)


def _common_step(gaps: Array, show: Any) -> int:
    """The greatest common divisor of the gaps, as long as most of the rows it implies are there."""
    if gaps.min() <= 0:
        raise DataError("Time stamps must rise strictly within each series; sort them and remove duplicates.")
    values, counts = np.unique(gaps, return_counts=True)
    step = int(np.gcd.reduce(values))
    usual = int(values[counts.argmax()])
    if step != usual and len(gaps) * 2 * step < gaps.sum():
        raise DataError(
            f"No regular frequency: {counts.max()} of {len(gaps)} steps are {show(usual)}, but others, "
            f"such as {show(values[values % usual != 0][0])}, are no multiple of it; "
            "give `freq` or resample the data."
        )
    return step


def _unknown(text: object) -> str:
    return f'`freq` must be an alias such as "h", "15min", "D", "W-SUN", "MS" or an integer step, got {_shown(text)}.'


def _shown(text: object) -> str:
    return repr(text)[:40]
