"""The window as a few segments of one natural sub-period each: what the recurrent path reads and writes.

Source: Lin et al. 2023, SegRNN: recurrence over segments, all future segments decoded in parallel.
"""

from typing import Any

import numpy as np

from carousel.series.calendar import Frequency
from carousel.series.features import calendar_features
from carousel.series.history import Context, normalise

__all__ = ["all_segments", "future_segments", "past_segments", "segment_inputs"]

Array = np.ndarray[Any, Any]


def past_segments(context: Context, frequency: Frequency, season: int, segment: int) -> Array:
    """The window in segments, each with the calendar of its first row and the level of the window.

    Returns:
        (T, B, segment + C + 1), T = L // segment, oldest first; float32.
    """
    stamps = frequency.shift(context.next[:, None], _firsts(context, segment))
    return _past(context, normalise(context, season), calendar_features(frequency, stamps), segment)


def future_segments(context: Context, frequency: Frequency, season: int, segment: int, horizon: int) -> Array:
    """For every segment to come: the calendar of its first row, the level of the window, its place.

    Returns:
        (J, B, C + 1 + J), J = ⌈K / segment⌉; float32.
    """
    stamps = frequency.shift(context.next[:, None], segment * np.arange(-(-horizon // segment)))
    return _future(context, normalise(context, season), calendar_features(frequency, stamps))


def all_segments(
    context: Context, normal: tuple[Array, Array], frequency: Frequency, segment: int, horizon: int
) -> tuple[Array, Array, Array]:
    """Past and future segments from one look at the calendar, and the calendar (B, C) of the origins.

    Args:
        normal: of `normalise`.
    """
    firsts = _firsts(context, segment)
    steps = np.concatenate([firsts, segment * np.arange(-(-horizon // segment))])
    calendar = calendar_features(frequency, frequency.shift(context.next[:, None], steps))
    past, future = calendar[:, : len(firsts)], calendar[:, len(firsts) :]
    return _past(context, normal, past, segment), _future(context, normal, future), future[:, 0]


def segment_inputs(frequency: Frequency, segment: int, horizon: int) -> tuple[int, int]:
    """The number of inputs of a past and of a future segment."""
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    return segment + C + 1, C + 1 - (-horizon // segment)


def _firsts(context: Context, segment: int) -> Array:
    """(T,) the rows, counted from the origin, that segments of the window begin with."""
    return segment * np.arange(-(context.window.shape[1] // segment), 0)


def _past(context: Context, normal: tuple[Array, Array], calendar: Array, segment: int) -> Array:
    z, level = normal
    B, T, _ = calendar.shape
    parts = [z[:, z.shape[1] - T * segment :].reshape(B, T, segment), calendar, _level(context, level, T)]
    return _steps_first(parts)


def _future(context: Context, normal: tuple[Array, Array], calendar: Array) -> Array:
    B, J, _ = calendar.shape
    return _steps_first([calendar, _level(context, normal[1], J), np.broadcast_to(np.eye(J), (B, J, J))])


def _steps_first(parts: list[Array]) -> Array:
    return np.ascontiguousarray(np.concatenate(parts, -1).swapaxes(0, 1), np.float32)


def _level(context: Context, level: Array, count: int) -> Array:
    u = (level - context.center[:, None]) / context.scale[:, None]
    return np.repeat(u[:, None], count, 1)
