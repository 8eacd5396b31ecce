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
from carousel.series.features import calendar_features, has_interplay, phase, year_features
from carousel.series.history import Context, normalise

__all__ = ["Moments", "linear_features", "linear_path", "sizes"]

Array = np.ndarray[Any, Any]


def linear_features(context: Context, frequency: Frequency, season: int, upto: int = 2) -> Array:
    """Features of B origins.

    Args:
        upto: 0 the window and a one, 1 the calendar of the origin too, 2 the interplay too.

    Returns:
        (B, F); those of a smaller `upto` come first.
    """
    z, level = normalise(context, season)
    columns = [z, np.ones((len(z), 1))]
    if upto >= 1:
        columns.append(calendar_features(frequency, context.next))
    if upto >= 2 and has_interplay(frequency):
        # How the last season goes on depends on the time of the year and on the level:
        # warmth raises a load in summer and lowers it in winter.
        u = (level - context.center[:, None]) / context.scale[:, None]
        year = year_features(context.next, 2)
        columns += [u, u**2, u * year, (z[:, -season:, None] * year[:, None]).reshape(len(z), -1)]
    return np.concatenate(columns, 1)


def sizes(frequency: Frequency, season: int, lookback: int) -> tuple[int, ...]:
    """How many features there are for `upto` = 0, 1, 2, as far as they differ."""
    C = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    counts = [lookback + 1, lookback + 1 + C]
    if has_interplay(frequency):
        counts.append(counts[-1] + 6 + 4 * season)
    return tuple(sorted(set(counts)))


def linear_path(path: LinearPath, context: Context, frequency: Frequency, season: int) -> Array:
    """(B, K) what the linear path adds to the smoothing, in units of the scale."""
    upto = 2 if path.interplay else int(path.calendar)
    F = linear_features(context, frequency, season, upto)
    P, _, K = path.coefficients.shape
    if P == 1:
        return F @ path.coefficients[0]
    out = np.empty((len(F), K))
    which = phase(frequency, season, context.next)
    for p in np.unique(which):
        out[which == p] = F[which == p] @ path.coefficients[p]
    return out


@dataclass
class Moments:
    """Running sums for ridge: FᵀF and Fᵀr of every phase.

    Args:
        gram: (P, F, F).
        cross: (P, F, K).
    """

    gram: Array
    cross: Array

    @classmethod
    def zero(cls, P: int, F: int, K: int) -> Moments:
        return cls(np.zeros((P, F, F)), np.zeros((P, F, K)))

    def add(self, F: Array, r: Array, which: Array) -> None:
        """Adds B rows: features (B, F), residuals (B, K), phases (B,)."""
        for p in np.unique(which):
            rows = which == p
            self.gram[p] += F[rows].T @ F[rows]
            self.cross[p] += F[rows].T @ r[rows]

    def solve(self, penalty: float, F: int, by_phase: bool) -> Array:
        """(P, F, K) or (1, F, K) coefficients of the first `F` features."""
        gram, cross = self.gram[:, :F, :F], self.cross[:, :F]
        if not by_phase:
            gram, cross = gram.sum(0, keepdims=True), cross.sum(0, keepdims=True)
        return np.stack(
            [np.linalg.solve(g + penalty * np.eye(F), c) for g, c in zip(gram, cross, strict=True)]
        )
