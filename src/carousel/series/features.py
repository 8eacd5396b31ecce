"""What the calendar says about a row: time of day, day of the week, time of the year."""

from typing import Any

import numpy as np

from carousel.series.calendar import DAY, HOUR, WEEK, Frequency

__all__ = [
    "YEAR_HARMONICS",
    "CalendarTable",
    "calendar_features",
    "has_interplay",
    "phase",
    "phases",
    "year_features",
]

Array = np.ndarray[Any, Any]

DAY_HARMONICS = 4  # a load curve has a morning and an evening peak: periods down to 6 hours
YEAR_HARMONICS = 3  # periods down to 4 months

AHEAD = 1024  # rows, the fewest that a table holds beyond those asked for by one origin
DENSE = 4  # rows of a table, at most, for one that is asked for by several
LARGEST = 1 << 17  # rows of a table

_WEEKDAYS = np.eye(7)


def calendar_features(frequency: Frequency, stamps: Array) -> Array:
    """Features of time stamps, those that vary at this frequency; none for an integer index.

    Args:
        stamps: (...) datetime64[us] or integers.

    Returns:
        (..., C): harmonics of the day, a one of seven for the weekday, harmonics of the year.
    """
    if frequency.unit == "index":
        return np.zeros((*stamps.shape, 0))
    columns = []
    microseconds = stamps.astype("datetime64[us]", copy=False).view(np.int64)
    fixed = frequency.unit in ("us", "open")
    if fixed and frequency.step < DAY:
        columns.append(_harmonics((microseconds % DAY) / DAY, DAY_HARMONICS))
    if frequency.unit == "business" or (fixed and frequency.step < WEEK):
        columns.append(_WEEKDAYS[(microseconds // DAY + 3) % 7])  # 1970-01-01 was a Thursday
    columns.append(year_features(stamps, YEAR_HARMONICS))
    return np.concatenate(columns, -1)


def year_features(stamps: Array, harmonics: int) -> Array:
    """(..., 2 * harmonics) sines and cosines of the time of the year."""
    years = stamps.astype("datetime64[Y]")
    start, end = (y.astype("datetime64[us]").view(np.int64) for y in (years, years + 1))
    microseconds = stamps.astype("datetime64[us]", copy=False).view(np.int64)
    return _harmonics((microseconds - start) / (end - start), harmonics)


class CalendarTable:
    """Calendar features of rows around origins, looked up where they are near those of earlier calls.

    A stream asks for nearly the same rows at every step, a training for rows of the same years in every batch.
    Safe from several threads: the table is replaced, never changed.

    Args:
        dense: it may hold only a few times the rows that one call asks for; not where many calls follow.
    """

    def __init__(self, frequency: Frequency, dense: bool = True) -> None:
        self._frequency = frequency
        self._dense = dense
        self._table = 0, np.zeros((0, 0))  # microseconds of its first row; (N, C)

    def at(self, origins: Array, steps: Array) -> Array:
        """Features of the rows at `steps` (T,), rising, from each origin.

        Args:
            origins: (B,) time stamps.

        Returns:
            (B, T, C); (1, T, C) where all origins are at the same time.
        """
        frequency = self._frequency
        if len(origins) > 1 and not (origins != origins[0]).any():
            origins = origins[:1]
        if frequency.unit == "us" and len(origins):
            first, rows = self._covering(origins.view(np.int64), steps)
            row, beside = np.divmod(origins.view(np.int64) - first, frequency.step)
            if len(rows) and not beside.any():
                found: Array = rows[row[:, None] + steps]
                return found
        return calendar_features(frequency, frequency.shift(origins[:, None], steps))

    def _covering(self, times: Array, steps: Array) -> tuple[int, Array]:
        """A table of all these rows; one of no rows where they lie too far apart for it."""
        step, (first, rows) = self._frequency.step, self._table
        one = len(times) == 1
        low, high = (int(times[0]),) * 2 if one else (int(times.min()), int(times.max()))
        start, stop = low + step * int(steps[0]), high + step * (int(steps[-1]) + 1)
        end = first + step * len(rows)
        on_grid = (start - first) % step == 0
        if on_grid and first <= start and stop <= end:
            return first, rows
        if one:
            stop += max(stop - start, step * AHEAD)
        elif on_grid and len(rows):
            start, stop = min(start, first), max(stop, end)
        few = self._dense and not one
        if stop - start > step * (min(LARGEST, DENSE * len(times) * len(steps)) if few else LARGEST):
            return 0, rows[:0]
        stamps = np.arange(start, stop, step).view("datetime64[us]")
        self._table = start, calendar_features(self._frequency, stamps)
        return self._table


def has_interplay(frequency: Frequency, season: int) -> bool:
    """Whether the season may change its shape over the year: steps of a day or less, of up to 96 a season."""
    return frequency.unit == "us" and frequency.step <= DAY and season <= 96


def phases(frequency: Frequency, season: int) -> int:
    """How many kinds of origin there are: places in the season, at finest the 24 hours of a day."""
    if frequency.unit == "us" and frequency.step < HOUR and season * frequency.step == DAY:
        return 24
    return season if 1 < season <= 60 else 1


def phase(frequency: Frequency, season: int, stamps: Array) -> Array:
    """(...) the phase of each time stamp, from 0 to `phases` - 1."""
    P = phases(frequency, season)
    if P == 1:
        return np.zeros(stamps.shape, np.int64)
    if frequency.unit == "index":
        return stamps.astype(np.int64) // frequency.step % P
    if frequency.unit == "month":
        return stamps.astype("datetime64[M]").astype(np.int64) // frequency.step % P
    if frequency.unit == "open":
        return frequency.row(stamps) % P
    if frequency.unit == "business":
        return np.busday_count("1970-01-01", stamps.astype("datetime64[D]")) % P
    microseconds = stamps.astype("datetime64[us]", copy=False).view(np.int64)
    return microseconds * P // (season * frequency.step) % P


def _harmonics(cycle: Array, count: int) -> Array:
    angles = 2 * np.pi * cycle[..., None] * np.arange(1, count + 1)
    waves: Array = np.empty((*cycle.shape, 2 * count))
    np.sin(angles, out=waves[..., :count])
    np.cos(angles, out=waves[..., count:])
    return waves
