"""Time zones: rows are counted by the wall clock, and forecasts given back in the zone of the rows.

The hour that a clock leaves out in spring is no row; that which it shows twice in autumn is the first of the two. A day
is a row, also where it begins with the hour that is left out.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from carousel.series.calendar import Frequency

__all__ = [
    "canonical",
    "days_of",
    "in_zone",
    "instants",
    "is_twice",
    "left_out",
    "minutes_ahead",
    "wall_clock",
]

Array = np.ndarray[Any, Any]

_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d):?(\d\d)")


def canonical(zone: str) -> str:
    """The name of a zone as arrow has it: an offset without "UTC" before it."""
    match = _OFFSET.fullmatch(zone)
    return zone if match is None else f"{match[1]}{match[2]}:{match[3]}"


def minutes_ahead(offset: str) -> int:
    """How far a clock is ahead of UTC by what stands behind a time: `Z`, `UTC`, `GMT`, `+02:00` or `-0330`.

    Example:
        >>> minutes_ahead("Z"), minutes_ahead("+02:00"), minutes_ahead("-0330")
        (0, 120, -210)
    """
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return 0
    minutes = 60 * int(match[2]) + int(match[3])
    return minutes if match[1] == "+" else -minutes


def in_zone(stamps: Array, ahead: Array, zone: str | None) -> Array | None:
    """What the clock of `zone` shows when others, `ahead` (N,) minutes of UTC, show `stamps` (N,).

    None without a zone, or where this machine does not know it.
    """
    if zone is None or instants(stamps[:0], zone) is None:
        return None
    return wall_clock(stamps.astype("datetime64[us]") - ahead.astype("timedelta64[m]"), zone)


def instants(stamps: Array, zone: str) -> tuple[Array, Array] | None:
    """Wall clock times as UTC (N,) datetime64[us], and whether the clock of the zone shows them, (N,).

    None where this machine does not know the zone.

    Args:
        stamps: (N,) datetime64[us].
        zone: a name, such as "Europe/Berlin", or an offset, "+05:30".
    """
    try:
        there = _zone(zone)
    except (KeyError, ValueError, OSError):  # zoneinfo raises each of them
        return None
    unique, inverse = np.unique(stamps.astype("datetime64[us]"), return_inverse=True)
    offsets = np.zeros(len(unique), "timedelta64[us]")
    shown = np.ones(len(unique), bool)
    for k, stamp in enumerate(unique.tolist()):
        local = stamp.replace(tzinfo=there)
        offsets[k] = local.utcoffset()
        shown[k] = _again(local) == stamp
    return (unique - offsets)[inverse], shown[inverse]


def left_out(stamps: Array, zone: str | None, frequency: Frequency) -> Array:
    """Which rows (N,) are at times that the clock of a zone leaves out; none without a zone, or of one unknown here."""
    hours = stamps.dtype.kind == "M" and frequency.within_a_day
    found = instants(stamps, zone) if zone is not None and hours else None
    return np.zeros(stamps.shape, bool) if found is None else ~found[1].reshape(stamps.shape)


def days_of(stamps: Array, zone: str) -> Array:
    """Days (N,) of which some begin later, for the clock leaves out midnight, at midnight; other times as they are."""
    days = stamps.astype("datetime64[D]").astype("datetime64[us]")
    late = np.flatnonzero(stamps != days)
    found = instants(days[late], zone) if 0 < 2 * len(late) < len(stamps) else None
    return stamps if found is None or found[1].any() else days


def is_twice(stamp: Any, zone: str | None) -> bool:
    """Whether the clock of a zone shows a wall clock time, datetime64[us], twice."""
    if zone is None or instants(np.array([stamp]), zone) is None:
        return False
    local = stamp.astype("datetime64[us]").item().replace(tzinfo=_zone(zone))
    return bool(local.utcoffset() > local.replace(fold=1).utcoffset())


def wall_clock(stamps: Array, zone: str) -> Array:
    """What the clock of a known zone shows at UTC times (N,) datetime64[us], NaT where there is none."""
    there = _zone(zone)
    unique, inverse = np.unique(stamps.astype("datetime64[us]"), return_inverse=True)
    shown = [
        stamp and stamp.replace(tzinfo=timezone.utc).astimezone(there).replace(tzinfo=None)
        for stamp in unique.tolist()
    ]
    out: Array = np.array(shown, "datetime64[us]")[inverse]
    return out


def _again(local: datetime) -> datetime:
    """What the clock shows at that instant."""
    return local.astimezone(timezone.utc).astimezone(local.tzinfo).replace(tzinfo=None)


def _zone(name: str) -> tzinfo:
    if (match := _OFFSET.fullmatch(name)) is not None:
        ahead = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(ahead if match[1] == "+" else -ahead)
    return timezone.utc if name == "UTC" else ZoneInfo(name)
