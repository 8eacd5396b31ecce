"""The calendar of `carousel.series` inside an ONNX graph; stamps are int64, microseconds since 1970 or plain integers.

Dates are found from day numbers and back by the civil calendar's period of 400 years, 146097 days, with March as
the first month of a year, so that the leap day is the last of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel.interop._onnx_build import Graph, Value
from carousel.series.calendar import DAY, WEEK, Frequency
from carousel.series.features import DAY_HARMONICS, YEAR_HARMONICS, phases
from carousel.series.opening import MONDAY, times

__all__ = ["Calendar"]

Array = NDArray[Any]

_ERA = 719468  # days from 0000-03-01 to 1970-01-01


class Calendar:
    """What the stamps of one frequency say; every value is one of `graph`."""

    def __init__(self, graph: Graph, frequency: Frequency) -> None:
        self._g, self._frequency = graph, frequency

    def shifted(self, stamps: Value, steps: Array) -> Value:
        """As `Frequency.shift`: (B, 1) stamps and (N,) steps to (B, N)."""
        g, frequency = self._g, self._frequency
        rows = np.asarray(frequency.step * steps, np.int64)
        if frequency.unit in ("index", "us"):
            return g("Add", stamps, rows)
        if frequency.unit == "open":
            times = self._week()
            row = g("Add", self._row(stamps), np.asarray(steps, np.int64))
            within = g("Gather", times, g("Mod", row, self._int(len(times))))
            week = self._times(self._over(row, len(times)), WEEK)
            since = g("Add", g("Add", week, within), self._int(MONDAY))
            return since if frequency.step < DAY else g("Add", since, g("Mod", stamps, self._int(DAY)))
        day = self._over(stamps, DAY)
        clock = g("Sub", stamps, self._times(day, DAY))
        if frequency.unit == "business":
            count = g("Add", self._workdays(day), rows)
            week = self._over(count, 5)
            moved = g("Add", self._times(week, 7), g("Sub", g("Mod", count, self._int(5)), self._int(3)))
            return g("Add", self._times(moved, DAY), clock)
        year, month, place = self._date(day)
        months = g("Add", g("Add", self._times(year, 12), month), rows)
        first, after = self._first_of(months), self._first_of(g("Add", months, self._int(1)))
        last = g("Sub", g("Sub", after, first), self._int(1))
        if frequency.anchor == "first weekday":
            offset = self._from_weekday(first, [0, 0, 0, 0, 0, 2, 1])
        elif frequency.anchor == "last weekday":
            offset = g("Sub", last, self._from_weekday(g("Add", first, last), [0, 0, 0, 0, 0, 1, 2]))
        else:
            offset = last if frequency.anchor == "end" else g("Min", place, last)
        return g("Add", self._times(g("Add", first, offset), DAY), clock)

    def features(self, stamps: Value) -> Value | None:
        """As `calendar_features`: (B, N) stamps to (B, N, C) of float64; None where C is 0."""
        g, frequency = self._g, self._frequency
        if frequency.unit == "index":
            return None
        columns = []
        fixed = frequency.unit in ("us", "open")
        if fixed and frequency.step < DAY:
            time = g("Cast", g("Mod", stamps, self._int(DAY)), to=11)
            columns.append(self._harmonics(g("Div", time, np.float64(DAY)), DAY_HARMONICS))
        if frequency.unit == "business" or (fixed and frequency.step < WEEK):
            weekday = self._weekday(self._over(stamps, DAY))
            same = g("Equal", g("Unsqueeze", weekday, self._axes(-1)), np.arange(7))
            columns.append(g("Cast", same, to=11))
        columns.append(self.year(stamps, YEAR_HARMONICS))
        return g("Concat", *columns, axis=-1)

    def year(self, stamps: Value, harmonics: int) -> Value:
        """As `year_features`: (B, N) stamps to (B, N, 2 * harmonics)."""
        g = self._g
        year, _, _ = self._date(self._over(stamps, DAY))
        first = self._times(year, 12)
        start = self._times(self._first_of(first), DAY)
        end = self._times(self._first_of(g("Add", first, self._int(12))), DAY)
        passed = g("Cast", g("Sub", stamps, start), to=11)
        return self._harmonics(g("Div", passed, g("Cast", g("Sub", end, start), to=11)), harmonics)

    def phase(self, stamps: Value, season: int) -> Value:
        """As `phase`, for stamps from 1970 on: (B,) to (B,)."""
        g, frequency = self._g, self._frequency
        P = phases(frequency, season)
        if frequency.unit == "index":
            place = self._over(stamps, frequency.step)
        elif frequency.unit == "month":
            year, month, _ = self._date(self._over(stamps, DAY))
            months = g("Add", self._times(g("Sub", year, self._int(1970)), 12), month)
            place = self._over(months, frequency.step)
        elif frequency.unit == "open":
            place = self._row(stamps)
        elif frequency.unit == "business":
            days = self._over(stamps, DAY)
            place = g("Sub", self._workdays(days), self._int(3))  # 1970-01-01 was the fourth of its week
        else:
            place = self._over(self._times(stamps, P), season * frequency.step)
        return g("Mod", place, self._int(P))

    def _weekday(self, day: Value) -> Value:
        """0 for a Monday to 6 for a Sunday."""
        return self._g("Mod", self._g("Add", day, self._int(3)), self._int(7))

    def _from_weekday(self, day: Value, days: list[int]) -> Value:
        """What `days` say for the weekday of `day`."""
        return self._g("Gather", np.array(days, np.int64), self._weekday(day))

    def _week(self) -> Array:
        return times(self._frequency.anchor, self._frequency.step)

    def _row(self, stamps: Value) -> Value:
        """As `Frequency.row`: how many rows of opening hours there are up to a stamp, less one, in all weeks."""
        g, times = self._g, self._week()
        since = g("Sub", stamps, self._int(MONDAY))
        within = g("Unsqueeze", g("Mod", since, self._int(WEEK)), self._axes(-1))
        passed = g("Cast", g("LessOrEqual", times, within), to=7)
        row = g("ReduceSum", passed, self._axes(-1), keepdims=0)
        weeks = self._times(self._over(since, WEEK), len(times))
        return g("Add", weeks, g("Sub", row, self._int(1)))

    def _workdays(self, day: Value) -> Value:
        """Days from Monday to Friday since 1969-12-29; of a weekend those of the Monday after it."""
        g = self._g
        since = g("Add", day, self._int(3))
        within = g("Min", g("Mod", since, self._int(7)), self._int(5))
        return g("Add", self._times(self._over(since, 7), 5), within)

    def _date(self, day: Value) -> tuple[Value, Value, Value]:
        """Year, month from 0 and day from 0 of a number of days since 1970."""
        g = self._g
        z = g("Add", day, self._int(_ERA))
        era = self._over(z, 146097)
        doe = g("Sub", z, self._times(era, 146097))
        leaps = g(
            "Sub", g("Add", self._over(doe, 36524), g("Neg", self._over(doe, 1460))), self._over(doe, 146096)
        )
        yoe = self._over(g("Add", doe, leaps), 365)
        doy = g("Sub", doe, self._days(yoe))
        march = self._over(g("Add", self._times(doy, 5), self._int(2)), 153)
        place = g("Sub", doy, self._over(g("Add", self._times(march, 153), self._int(2)), 5))
        month = g("Mod", g("Add", march, self._int(2)), self._int(12))
        early = g("Cast", g("Less", month, self._int(2)), to=7)
        return g("Add", g("Add", yoe, self._times(era, 400)), early), month, place

    def _first_of(self, months: Value) -> Value:
        """Days from 1970 to the first of a month, counted from January of the year 0."""
        g = self._g
        since = g("Sub", months, self._int(2))  # from March on
        year, march = self._over(since, 12), g("Mod", since, self._int(12))
        era = self._over(year, 400)
        yoe = g("Sub", year, self._times(era, 400))
        doy = self._over(g("Add", self._times(march, 153), self._int(2)), 5)
        days = g("Add", g("Add", self._days(yoe), doy), self._times(era, 146097))
        return g("Sub", days, self._int(_ERA))

    def _days(self, yoe: Value) -> Value:
        """Days before the year `yoe` of an era."""
        g = self._g
        leaps = g("Sub", self._over(yoe, 4), self._over(yoe, 100))
        return g("Add", self._times(yoe, 365), leaps)

    def _harmonics(self, cycle: Value, count: int) -> Value:
        g = self._g
        turns = 2 * np.pi * np.arange(1, count + 1)
        angles = g("Mul", g("Unsqueeze", cycle, self._axes(-1)), turns)
        quarter = g("Add", angles, np.float64(np.pi / 2))  # ONNX Runtime has no Cos of float64
        return g("Concat", g("Sin", angles), g("Sin", quarter), axis=-1)

    def _over(self, value: Value, divisor: int) -> Value:
        """Whole division that rounds down, whatever a runtime does with negative numbers."""
        g = self._g
        return g("Div", g("Sub", value, g("Mod", value, self._int(divisor))), self._int(divisor))

    def _times(self, value: Value, factor: int) -> Value:
        return self._g("Mul", value, self._int(factor))

    def _int(self, number: int) -> Array:
        return np.array(number, np.int64)

    def _axes(self, *axes: int) -> Array:
        return np.array(axes, np.int64)
