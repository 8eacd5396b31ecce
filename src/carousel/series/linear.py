"""The linear path: ridge regression from the normalised window and the calendar to all steps at once.

    minimise  Σ_b |r_b - F_b A|² + λ |A|²        A = (FᵀF + λI)⁻¹ Fᵀr

r is what the smoothing leaves of the target, F the features of the window. One A for all origins, or one
per phase of the season: at midnight a load follows other rows than at noon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.network.forecaster import LinearPath
from carousel.series.calendar import Frequency
from carousel.series.features import YEAR_HARMONICS, calendar_features, has_interplay, phase
from carousel.series.history import Context, normalise

__all__ = ["Moments", "by_phase", "linear_features", "linear_path", "sizes"]

Array = np.ndarray[Any, Any]

_TWO = [0, 1, YEAR_HARMONICS, YEAR_HARMONICS + 1]  # the two slowest harmonics among those of the year


def linear_features(
    context: Context,
    frequency: Frequency,
    season: int,
    upto: int = 2,
    normal: tuple[Array, Array] | None = None,
    calendar: Array | None = None,
) -> Array:
    """Features of B origins.

    Args:
        upto: 0 the window and a one, 1 the calendar of the origin too, 2 the interplay too.
        normal: of `normalise`, where it is known.
        calendar: (B, C) of the origins, where it is known.

    Returns:
        (B, F); those of a smaller `upto` come first.
    """
    z, level = normalise(context, season) if normal is None else normal
    columns = [z, np.ones((len(z), 1))]
    if upto >= 1:
        columns.append(calendar_features(frequency, context.next) if calendar is None else calendar)
    if upto >= 2 and has_interplay(frequency, season):
        # How the last season goes on depends on the time of the year and on the level:
        # warmth raises a load in summer and lowers it in winter.
        u = (level - context.center[:, None]) / context.scale[:, None]
        year = columns[-1][:, -2 * YEAR_HARMONICS :][:, _TWO]  # the calendar ends with the year
        columns += [u, u**2, u * year, (z[:, -season:, None] * year[:, None]).reshape(len(z), 4 * season)]
    return np.concatenate(columns, 1)


def sizes(frequency: Frequency, season: int, lookback: int) -> tuple[int, ...]:
    """How many features there are for `upto` = 0, 1, 2, as far as they differ."""
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    counts = [lookback + 1, lookback + 1 + C]
    if has_interplay(frequency, season):
        counts.append(counts[-1] + 6 + 4 * season)
    return tuple(sorted(set(counts)))


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
        calendar: (B, C) of the origins, where it is known.

    Returns:
        (B, K).
    """
    normal = normalise(context, season) if normal is None else normal
    _, level = normal
    base = level + path.share * (smoothed - level)
    upto = 2 if path.interplay else int(path.calendar)
    F = linear_features(context, frequency, season, upto, normal, calendar)
    P = len(path.coefficients)
    which = phase(frequency, season, context.next) if P > 1 else np.zeros(len(F), np.int64)
    forecast: Array = base + context.scale[:, None] * by_phase(path.coefficients, F, which)
    return forecast


def by_phase(A: Array, F: Array, which: Array) -> Array:
    """(B, K) products F A, of every row with the matrix of its phase; with the only one if P is 1."""
    out: Array = np.empty((len(F), A.shape[2]))
    if len(A) == 1 or len(F) == 1:
        return np.matmul(F, A[which[0] if len(F) == 1 else 0], out=out)
    for p in np.unique(which):
        out[which == p] = F[which == p] @ A[p]
    return out


@dataclass
class Moments:
    """Running sums for ridge, of every phase: FᵀF, Fᵀy and Fᵀs for targets y and smoothing s.

    Args:
        gram: (P, F, F).
        truth: (P, F, K).
        smooth: (P, F, K).
    """

    gram: Array
    truth: Array
    smooth: Array

    @classmethod
    def zero(cls, P: int, F: int, K: int) -> Moments:
        return cls(np.zeros((P, F, F)), np.zeros((P, F, K)), np.zeros((P, F, K)))

    def add(self, F: Array, y: Array, s: Array, which: Array) -> None:
        """Adds B rows: features (B, F), targets and smoothing (B, K), phases (B,)."""
        for p in np.unique(which):
            rows = which == p
            self.gram[p] += F[rows].T @ F[rows]
            self.truth[p] += F[rows].T @ y[rows]
            self.smooth[p] += F[rows].T @ s[rows]

    def first(self, F: int) -> Moments:
        """The sums of the first `F` features."""
        return Moments(self.gram[:, :F, :F], self.truth[:, :F], self.smooth[:, :F])

    def __sub__(self, other: Moments) -> Moments:
        """The sums without the rows of `other`."""
        return Moments(self.gram - other.gram, self.truth - other.truth, self.smooth - other.smooth)

    def solve(self, penalty: float, F: int, phased: bool, share: float) -> Array:
        """Coefficients of the first `F` features for y - share * s: (P, F, K), or (1, F, K) not `phased`."""
        return self.solves(penalty, F, phased, (share,))[0]

    def solves(self, penalty: float, F: int, phased: bool, shares: tuple[float, ...]) -> list[Array]:
        """`solve` for several shares at the price of one."""
        gram, truth, smooth = self.gram[:, :F, :F], self.truth[:, :F], self.smooth[:, :F]
        if not phased:
            gram, truth, smooth = (sums.sum(0, keepdims=True) for sums in (gram, truth, smooth))
        both = np.concatenate([truth, smooth], 2)
        ridge = penalty * np.eye(F)
        solved = np.stack([np.linalg.solve(g + ridge, b) for g, b in zip(gram, both, strict=True)])
        of_truth, of_smooth = np.split(solved, 2, axis=2)
        return [of_truth - share * of_smooth for share in shares]
