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

__all__ = [
    "Moments",
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
    """Running sums of rows of every phase, features F, targets y and smoothing s: all that ridge needs, and all
    that the squared error of a linear forecast needs.

    Args:
        gram: (P, F, F) FᵀF.
        truth: (P, F, K) Fᵀy.
        smooth: (P, F, K) Fᵀs.
        squares: (2, 2, K) Σ y y, Σ y s; Σ s y, Σ s s of every step.
    """

    gram: Array
    truth: Array
    smooth: Array
    squares: Array

    @classmethod
    def zero(cls, P: int, F: int, K: int) -> Moments:
        return cls(np.zeros((P, F, F)), np.zeros((P, F, K)), np.zeros((P, F, K)), np.zeros((2, 2, K)))

    def add(self, F: Array, y: Array, s: Array, which: Array) -> None:
        """Adds B rows: features (B, F), targets and smoothing (B, K), phases (B,)."""
        K, both = y.shape[1], np.concatenate([y, s], 1)
        for p in np.unique(which):
            rows = which == p
            f, r = (F, both) if rows.all() else (F[rows], both[rows])
            sums = (
                (r.T @ f).T if r.shape[1] < f.shape[1] else f.T @ r
            )  # BLAS takes half as long in this order
            self.gram[p] += f.T @ f
            self.truth[p] += sums[:, :K]
            self.smooth[p] += sums[:, K:]
        across = np.einsum("bk,bk->k", y, s)
        self.squares += [[np.einsum("bk,bk->k", y, y), across], [across, np.einsum("bk,bk->k", s, s)]]

    def of(self, columns: Array) -> Moments:
        """The sums of some features, given by their numbers; all of them only in their order."""
        if len(columns) == self.gram.shape[1]:
            return self
        gram = self.gram[:, columns[:, None], columns]
        return Moments(gram, self.truth[:, columns], self.smooth[:, columns], self.squares)

    def at(self, steps: Array) -> Moments:
        """The sums of some steps."""
        if len(steps) == self.truth.shape[2]:
            return self
        return Moments(self.gram, self.truth[..., steps], self.smooth[..., steps], self.squares[..., steps])

    def pooled(self) -> Moments:
        """The sums of all phases as of one."""
        gram, truth, smooth = (sums.sum(0, keepdims=True) for sums in (self.gram, self.truth, self.smooth))
        return Moments(gram, truth, smooth, self.squares)

    def around_smoothing(self) -> Moments:
        """The same rows, of which the smoothing is the truth."""
        squares = np.broadcast_to(self.squares[1, 1], self.squares.shape)
        return Moments(self.gram, self.smooth, self.smooth, squares)

    def __add__(self, other: Moments) -> Moments:
        """The sums with the rows of `other`."""
        return Moments(
            self.gram + other.gram,
            self.truth + other.truth,
            self.smooth + other.smooth,
            self.squares + other.squares,
        )

    def __sub__(self, other: Moments) -> Moments:
        """The sums without the rows of `other`."""
        return Moments(
            self.gram - other.gram,
            self.truth - other.truth,
            self.smooth - other.smooth,
            self.squares - other.squares,
        )

    def solve(self, penalty: float) -> tuple[Array, Array]:
        """Coefficients (P, F, K) for y, and those for s: what is left of y - share * s has their difference."""
        K = self.truth.shape[2]
        solved = self._solved(penalty, np.concatenate([self.truth, self.smooth], 2))
        return solved[..., :K], solved[..., K:]

    def coefficients(self, penalty: float, share: float = 0.0) -> Array:
        """Coefficients (P, F, K) for y - share * s."""
        return self._solved(penalty, self.truth - share * self.smooth)

    def _solved(self, penalty: float, sums: Array) -> Array:
        ridge = penalty * np.eye(self.gram.shape[1])
        return np.stack([np.linalg.solve(g + ridge, b) for g, b in zip(self.gram, sums, strict=True)])

    def loss(self, share: float, A: Array) -> float:
        """Σ (y - share * s - F A)² over these rows; A is (P, F, K)."""
        return float(self.losses((share,), A, np.zeros_like(A))[0])

    def losses(self, shares: tuple[float, ...], of_truth: Array, of_smooth: Array) -> Array:
        """Σ (y - share * s - F (of_truth - share * of_smooth))² for every share: a square in the share."""
        both = of_truth, of_smooth
        images = [self.gram @ A for A in both]
        cross = np.array([[np.vdot(A, sums) for sums in (self.truth, self.smooth)] for A in both])
        inner = np.array([[np.vdot(A, image) for image in images] for A in both])
        form = self.squares.sum(2) - cross - cross.T + inner
        share = np.array(shares)
        losses: Array = form[0, 0] - share * (form[0, 1] + form[1, 0]) + share**2 * form[1, 1]
        return losses
