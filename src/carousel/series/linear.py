"""The linear path: ridge regression from the normalised window and the calendar to all steps at once.

    minimise  Σ_b |r_b - F_b A|² + λ |A|²        A = (FᵀF + λI)⁻¹ Fᵀr

r is what the smoothing leaves of the target, F the features of the window. One A for all origins, or one
per phase of the season: at midnight a load follows other rows than at noon.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel.network.forecaster import LinearPath
from carousel.series.calendar import Frequency
from carousel.series.features import YEAR_HARMONICS, calendar_features, has_interplay, phase
from carousel.series.history import Context, normalise

__all__ = [
    "by_phase",
    "linear_features",
    "linear_path",
    "of_the_level",
    "of_the_year",
    "sizes",
]

Array = np.ndarray[Any, Any]

INTERPLAY = 2  # harmonics of the year that a season may change with
_SLOWEST = np.array([*range(INTERPLAY), *range(YEAR_HARMONICS, YEAR_HARMONICS + INTERPLAY)])  # of the year


def linear_features(
    context: Context,
    frequency: Frequency,
    season: int,
    upto: int = 2,
    level: bool = True,
    normal: tuple[Array, Array] | None = None,
    calendar: Array | None = None,
) -> Array:
    """Features of B origins.

    Args:
        upto: 0 the window and a one, 1 the calendar of the origin too, 2 the interplay too.
        level: how high the window lies stands before the calendar; files of format 1 have it not.
        normal: of `normalise`, where it is known.
        calendar: (B or 1, C) of the origins, where it is known.

    Returns:
        (B, F); those of a smaller `upto` come first.
    """
    z, mean = normalise(context, season) if normal is None else normal
    u = (mean - context.center[:, None]) / context.scale[:, None]
    columns = [z, np.ones((len(z), 1))]
    if upto >= 1:
        calendar = calendar_features(frequency, context.next) if calendar is None else calendar
        columns += [u] * level + [calendar if len(calendar) == len(z) else calendar.repeat(len(z), 0)]
    if upto >= 2 and has_interplay(frequency, season):
        # How the last season goes on depends on the time of the year and on the level:
        # warmth raises a load in summer and lowers it in winter.
        year = columns[-1][:, -2 * YEAR_HARMONICS :][:, _SLOWEST]  # the calendar ends with the year
        last = z[:, -season:, None] * year[:, None]
        columns += [u, u**2, u * year, last.reshape(len(z), 2 * INTERPLAY * season)]
    return np.concatenate(columns, 1)


def sizes(frequency: Frequency, season: int, lookback: int) -> tuple[int, ...]:
    """How many features there are for `upto` = 0, 1, 2, as far as they differ."""
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    counts = [lookback + 1, lookback + 2 + C]
    if has_interplay(frequency, season):
        counts.append(counts[-1] + 2 + 2 * INTERPLAY * (1 + season))
    return tuple(counts)


def of_the_year(frequency: Frequency, season: int, lookback: int) -> Array:
    """(F,) which features speak of the time of the year."""
    counts = sizes(frequency, season, lookback)
    found = np.zeros(counts[-1], bool)
    if frequency.unit != "index":
        found[counts[1] - 2 * YEAR_HARMONICS : counts[1]] = True
        found[counts[1] + 2 :] = True  # of the interplay all but the level and its square
    return found


def of_the_level(frequency: Frequency, season: int, lookback: int) -> Array:
    """(F,) which features change with the mean of the series: how high the window lies, and what it multiplies."""
    counts = sizes(frequency, season, lookback)
    found = np.zeros(counts[-1], bool)
    found[lookback + 1] = True
    if len(counts) > 2:
        found[counts[1] : counts[1] + 2 + 2 * INTERPLAY] = True
    return found


def linear_path(
    path: LinearPath,
    context: Context,
    smoothed: Array,
    frequency: Frequency,
    season: int,
    normal: tuple[Array, Array] | None = None,
    calendar: Array | None = None,
) -> Array:
    """The linear path's forecast, in the model's unit.

    Args:
        smoothed: (B, K) what the smoothing forecasts.
        normal: of `normalise`, where it is known.
        calendar: (B or 1, C) of the origins, where it is known.

    Returns:
        (B, K).
    """
    normal = normalise(context, season) if normal is None else normal
    _, level = normal
    base = level + path.share * (smoothed - level)
    upto = 2 if path.interplay else int(path.calendar)
    F = linear_features(context, frequency, season, upto, path.level, normal, calendar)
    P = len(path.coefficients)
    which = phase(frequency, season, context.next) if P > 1 else np.zeros(len(F), np.int64)
    forecast: Array = base + context.scale[:, None] * by_phase(path.coefficients, F, which)
    if path.own is not None and context.series is not None:
        forecast = smoothed + path.own[context.series][:, None] * (forecast - smoothed)
    return forecast


def by_phase(A: Array, F: Array, which: Array) -> Array:
    """(B, K) products F A, of every row with the matrix of its phase; with the only one if P is 1."""
    out: Array = np.empty((len(F), A.shape[2]))
    if len(A) == 1 or len(F) == 1:
        return np.matmul(F, A[which[0] if len(F) == 1 else 0], out=out)
    for p in np.unique(which):
        out[which == p] = F[which == p] @ A[p]
    return out
