"""What the calendar says about a row: time of day, day of the week, time of the year."""

from typing import Any

import numpy as np

from carousel.series.calendar import DAY, HOUR, WEEK, Frequency

__all__ = ["YEAR_HARMONICS", "calendar_features", "has_interplay", "phase", "phases", "year_features"]

Array = np.ndarray[Any, Any]

DAY_HARMONICS = 4  # a load curve has a morning and an evening peak: periods down to 6 hours
YEAR_HARMONICS = 3  # periods down to 4 months

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
    microseconds = stamps.astype("datetime64[us]").astype(np.int64)
    fixed = frequency.unit == "us"
    if fixed and frequency.step < DAY:
        columns.append(_harmonics((microseconds % DAY) / DAY, DAY_HARMONICS))
    if frequency.unit == "business" or (fixed and frequency.step < WEEK):
        weekday = (microseconds // DAY + 3) % 7  # 1970-01-01 was a Thursday
        columns.append(_WEEKDAYS[weekday])
    columns.append(year_features(stamps, YEAR_HARMONICS))
    return np.concatenate(columns, -1)


def year_features(stamps: Array, harmonics: int) -> Array:
    """(..., 2 * harmonics) sines and cosines of the time of the year."""
    years = stamps.astype("datetime64[Y]")
    start, end = years.astype("datetime64[us]"), (years + 1).astype("datetime64[us]")
    return _harmonics((stamps.astype("datetime64[us]") - start) / (end - start), harmonics)


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
    if frequency.unit == "business":
        return np.busday_count("1970-01-01", stamps.astype("datetime64[D]")) % P
    microseconds = stamps.astype("datetime64[us]").astype(np.int64)
    return microseconds * P // (season * frequency.step) % P


def _harmonics(cycle: Array, count: int) -> Array:
    angles = 2 * np.pi * cycle[..., None] * np.arange(1, count + 1)
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)
