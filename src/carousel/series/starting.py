"""The errors before and at the first rows of a series, by least squares: where an exponential smoothing starts from.

The recursion needs errors before it has made any. With 0 the first rows themselves become level, slope and season, and
a member of slow weights carries their noise for years. So the errors of the first rows are unknowns, those of least
squares over all rows so far: the best forecast that so few rows allow (Box and Jenkins 1976, section 7.1; Hyndman,
Koehler, Ord and Snyder 2008, section 5.2). No row after the origin enters, so a stream knows them as well: every row
moves the errors of the rows before it by a gain (the Kalman filter of the same model).

A member of lags 1, m and m + 1 is a product of two smoothings, θ from row to row and Θ from season to season:

    e[t] - θ e[t-1] - Θ e[t-m] + θΘ e[t-m-1] = w[t]

With w = 0 it has m + 1 solutions: one in every row of the season, falling with the power of Θ, and one in all rows.
What of them to subtract from the errors of a start at 0 is a system with an arrow for a matrix, solved at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carousel.network.forecaster import Smoothing

__all__ = ["Start", "Started", "starting_rows"]

Array = np.ndarray[Any, Any]

BLOCK = 256  # origins at a time, of m and more numbers each
SEASONS, LEAST = 3, 12  # rows that a start is found from: three times the memory, and no fewer


def starting_rows(model: Smoothing | None) -> int:
    """P, the rows after which the errors of the rows before stay as they are; 0 without smoothing."""
    return 0 if model is None else max(SEASONS * model.memory, LEAST)


@dataclass(frozen=True)
class Start:
    """The first P rows of any series under G members."""

    model: Smoothing

    @property
    def rows(self) -> int:
        """P."""
        return starting_rows(self.model)

    def of(self, zero: Array) -> Started:
        """The first rows of n series, by their errors (n, P, G) from a start at 0."""
        return Started(zero, tuple((some, *some.sums(zero[..., some.members])) for some in self._products))

    def gain(self, row: Array) -> Array:
        """(B, M, G) what the error of row `row[b]`, before it is known, adds to the errors of the last M rows.

        Those end with the row itself. A member that has not all its lags yet has an error of 0.
        """
        M, G = self.model.memory, len(self.model.weights)
        gain = np.zeros((len(row), M, G))
        gain[:, -1] = row[:, None] >= self.model.lags.max(1)
        early = np.flatnonzero(row < self.rows)
        t = row[early, None] + np.arange(1 - M, 1)
        for some in self._products:
            moved = some.along(t, *some.solved(row[early] + 1, *some.of_row(row[early])))
            known = row[early, None, None] >= self.model.lags[some.members].max(1)
            gain[early[:, None, None], np.arange(M)[:, None], some.members] -= moved * known
        return gain

    @cached_property
    def _products(self) -> tuple[_Products, ...]:
        """The members that are products of smoothings, those of one season together.

        Others, which only a file may hold, start with 0, as do those that never forget.
        """
        (one, m, both), (theta, season, product) = self.model.lags.T, self.model.ma.T
        alone = (one == m) & (m == both) & (season == 0) & (product == 0)
        pair = (one == 1) & (both == m + 1) & (np.abs(product - theta * season) < 1e-9) & ~alone
        fading = (np.abs(theta) <= 1) & (np.abs(season) <= 1)
        alone, pair = alone & fading, pair & fading
        found = []
        for length in np.unique(m[alone | pair]):
            members = np.flatnonzero((alone | pair) & (m == length))
            of_season = np.where(alone, -theta, -season)[members]
            of_rows = np.where(alone, 0.0, -theta)[members]
            found.append(_Products.of(int(length), members, of_rows, of_season, pair[members], self.rows))
        return tuple(found)


@dataclass(frozen=True)
class Started:
    """The first P rows of n series.

    Args:
        zero: (n, P, G) errors from a start at 0.
        sums: what they have in common with the solutions.
    """

    zero: Array
    sums: tuple[tuple[_Products, Array, Array], ...]

    def before(self, place: Array, row: Array, rows: int) -> Array:
        """(B, rows, G) the errors of the last rows before row `row[b]`, P at most, of series `place[b]`.

        Those before the first row are 0.
        """
        found = np.empty((len(row), rows, self.zero.shape[-1]))
        for b in range(0, len(row), BLOCK):
            block = slice(b, b + BLOCK)
            of, at = place[block], row[block]
            t = at[:, None] + np.arange(-rows, 0)
            found[block] = np.where((t >= 0)[..., None], self.zero[of[:, None], t], 0.0)
            for some, in_rows, in_season in self.sums:
                common = in_rows[of, at], in_season[of[:, None], some.seasons(at), np.arange(some.m)]
                found[block, :, some.members] -= some.along(t, *some.solved(at, *common))
        return found


@dataclass(frozen=True)
class _Products:
    """g members of season m. Row t stands at place p of season k, t = k m + p.

    The solution in all rows is `in_rows[t]`, that in place p of every season is `in_season[k]`. Tables have one more
    entry than rows or seasons, sums over those before it.

    Args:
        m: rows of the season, 1 for level and slope.
        members: (g,) places among G.
        in_rows: (P, g); 0 for a member that has a season alone.
        in_season: (P // m + 1, g).
    """

    m: int
    members: Array
    in_rows: Array
    in_season: Array

    @classmethod
    def of(cls, m: int, members: Array, theta: Array, season: Array, pair: Array, rows: int) -> _Products:
        """Args: θ (g,), Θ (g,), and where a member has both."""
        in_rows = np.zeros((rows, len(members)))
        for t in range(m, rows):  # where it begins, with 1; it is the response of the season to powers of θ
            in_rows[t] = pair * theta ** (t - m) + season * in_rows[t - m]
        return cls(m, members, in_rows, season ** np.arange(rows // m + 1)[:, None])

    @cached_property
    def _of_rows(self) -> Array:
        """(P + 1, g) sums of squares."""
        return _sums(self.in_rows**2, 0)

    @cached_property
    def _of_season(self) -> Array:
        """(K + 1, g) sums of squares."""
        return _sums(self.in_season**2, 0)

    @cached_property
    def _of_both(self) -> Array:
        """(K + 1, m, g) sums of products."""
        return _sums(self._by_place(self.in_rows) * self.in_season[:, None], 0)

    def _by_place(self, rows: Array) -> Array:
        """(…, P, g) as (…, K, m, g), 0 after the last row."""
        *shape, P, g = rows.shape
        K = len(self.in_season)
        padded = np.zeros((*shape, K * self.m, g))
        padded[..., :P, :] = rows
        return padded.reshape(*shape, K, self.m, g)

    def sums(self, zero: Array) -> tuple[Array, Array]:
        """(n, P + 1, g) and (n, K + 1, m, g) what errors (n, P, g) have in common with the solutions."""
        with_season = _sums(self._by_place(zero) * self.in_season[:, None], 1)
        return _sums(zero * self.in_rows, 1), with_season

    def of_row(self, row: Array) -> tuple[Array, Array]:
        """(B, g) and (B, m, g) what an error of 1 at a row has in common with the solutions."""
        k, p = np.divmod(row, self.m)
        with_season = np.zeros((len(row), self.m, len(self.members)))
        with_season[np.arange(len(row)), p] = self.in_season[k]
        return self.in_rows[row], with_season

    def solved(self, row: Array, with_rows: Array, with_season: Array) -> tuple[Array, Array]:
        """(B, g) and (B, m, g) how much of the solutions explains the first `row[b]` rows best."""
        seasons = self.seasons(row)
        squares = np.maximum(self._of_season[seasons], 1)  # below 1 only where a place has had no row
        slope = self._of_both[seasons, np.arange(self.m)] / squares
        left = self._of_rows[row] - (slope**2 * squares).sum(1)
        rest = with_rows - (slope * with_season).sum(1)
        of_rows = np.divide(rest, left, out=np.zeros_like(rest), where=left > 0)
        return of_rows, with_season / squares - slope * of_rows[:, None]

    def along(self, t: Array, of_rows: Array, of_season: Array) -> Array:
        """(B, rows, g) the solutions at rows `t` (B, rows), 0 before the first."""
        k, p = np.divmod(np.maximum(t, 0), self.m)
        fit = self.in_rows[np.maximum(t, 0)] * of_rows[:, None]
        fit += self.in_season[k] * of_season[np.arange(len(t))[:, None], p]
        return np.where((t >= 0)[..., None], fit, 0.0)

    def seasons(self, row: Array) -> Array:
        """(B, m) how many rows at each place are among the first `row[b]`."""
        return (row[:, None] - np.arange(self.m) + self.m - 1) // self.m


def _sums(x: Array, axis: int) -> Array:
    """Sums along an axis of none, one, two … and all entries."""
    shape = list(x.shape)
    shape[axis] = 1
    return np.concatenate([np.zeros(shape), x.cumsum(axis)], axis)
