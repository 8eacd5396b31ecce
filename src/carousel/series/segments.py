"""The window as a few segments of one natural sub-period each: what the recurrent path reads and writes.

Source: Lin et al. 2023, SegRNN: recurrence over segments, all future segments decoded in parallel.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from carousel.network.forecaster import CovariatePaths
from carousel.series.calendar import Frequency
from carousel.series.covariates import Seen
from carousel.series.features import YEAR_HARMONICS, CalendarTable, calendar_features
from carousel.series.history import Context

__all__ = ["hidden_inputs", "segment_inputs", "segments"]

Array = np.ndarray[Any, Any]


def segments(
    context: Context,
    normal: tuple[Array, Array],
    table: CalendarTable,
    segment: int,
    horizon: int,
    covariates: Seen | None = None,
) -> tuple[Array, Array, Array]:
    """The window in segments, segments to come, and the calendar of the origins.

    Args:
        normal: of `normalise`.
        covariates: their features at every row of a segment, and the static ones, are appended; after the last row
            of the horizon they stay as they are there.

    Returns:
        past (T, B, segment + C + 1), T = L // segment, oldest first: the rows of a segment, the calendar of the
        first, and how high the window lies; future (J, B, C + 1 + J), J = ⌈K / segment⌉: the same without rows,
        and its place; both float32. And (B, C), or (1, C) where all origins are at the same time.
    """
    T, J = context.window.shape[1] // segment, -(-horizon // segment)
    calendar = table.at(context.next, segment * np.arange(-T, J))
    past, future = calendar[:, :T], calendar[:, T:]
    z, level = normal
    height = ((level - context.center[:, None]) / context.scale[:, None])[..., None]
    return (
        _past(z, past, height, segment, covariates),
        _future(context, future, height, segment, horizon, covariates),
        future[:, 0],
    )


def segment_inputs(
    frequency: Frequency, segment: int, horizon: int, paths: CovariatePaths | None = None
) -> tuple[int, int]:
    """The number of inputs of a past and of a future segment, of a network that reads these covariates."""
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    past, future = segment + C + 1, C + 1 - (-horizon // segment)
    if paths is None:
        return past, future
    p, f, c = (paths.size(role) for role in ("past", "future", "static"))
    return past + segment * (p + f) + c, future + segment * f + c


def hidden_inputs(frequency: Frequency, segment: int, with_year: bool) -> tuple[slice, slice]:
    """Which inputs of a past and of a future segment a network is not to learn from.

    How high the window lies: the linear path knows, and in other years it lies elsewhere. The time of the year stands
    before it among the inputs.

    Args:
        with_year: the time of the year is not among them.
    """
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    first = C if with_year else max(C - 2 * YEAR_HARMONICS, 0)
    return slice(segment + first, segment + C + 1), slice(first, C + 1)


def _past(z: Array, calendar: Array, height: Array, segment: int, covariates: Seen | None) -> Array:
    (B, L), T = z.shape, calendar.shape[1]
    parts = [z[:, L - T * segment :].reshape(B, T, segment), calendar, height]
    if covariates is not None:
        for rows in (covariates.past, covariates.future[:, :L]):
            parts.append(rows[:, L - T * segment :].reshape(B, T, segment * rows.shape[2]))
        parts.append(covariates.static[:, None])
    return _steps_first(parts, B, T)


def _future(
    context: Context,
    calendar: Array,
    height: Array,
    segment: int,
    horizon: int,
    covariates: Seen | None,
) -> Array:
    B, J = len(context), calendar.shape[1]
    parts = [calendar, height, _places(J)]
    if covariates is not None:
        if covariates.future.shape[2]:  # else the rows to come need not be there
            L = context.window.shape[1]
            steps = L + np.minimum(np.arange(J * segment), horizon - 1)
            parts.append(covariates.future[:, steps].reshape(B, J, -1))
        parts.append(covariates.static[:, None])
    return _steps_first(parts, B, J)


def _steps_first(parts: list[Array], batch: int, steps: int) -> Array:
    """(steps, B, the sum of widths) in float32 of parts (B or 1, steps or 1, width)."""
    joined = np.empty((steps, batch, sum(part.shape[2] for part in parts)), np.float32)
    first = 0
    for part in parts:
        joined[..., first : first + part.shape[2]] = part.swapaxes(0, 1)
        first += part.shape[2]
    return joined


@lru_cache
def _places(segments: int) -> Array:
    """(1, J, J) the place of each segment to come."""
    places = np.eye(segments)[None]
    places.flags.writeable = False
    return places
