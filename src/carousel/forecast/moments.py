"""Sums over origins: all that ridge regression needs, and all that the squared error of a linear forecast needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log
from typing import Any

import numpy as np

from carousel.forecast.split import Spans
from carousel.series.history import History

__all__ = ["Moments", "missing", "refills"]

Array = np.ndarray[Any, Any]

SLIGHT = 0.02  # of a fit: what a wrong fill of missing targets may leave
MOST = 6  # refills


@dataclass
class Moments:
    """Running sums of rows of every phase, features F, targets y and smoothing s.

    Args:
        half: (P, F (F + 1) / 2) FᵀF, row by row up to the diagonal: with a matrix for every phase most of the memory.
        truth: (P, F, K) Fᵀy.
        smooth: (P, F, K) Fᵀs.
        squares: (2, 2, K) Σ y y, Σ y s; Σ s y, Σ s s of every step.
    """

    half: Array
    truth: Array
    smooth: Array
    squares: Array

    @classmethod
    def zero(cls, P: int, F: int, K: int) -> Moments:
        half = np.zeros((P, F * (F + 1) // 2))
        return cls(half, np.zeros((P, F, K)), np.zeros((P, F, K)), np.zeros((2, 2, K)))

    @property
    def phases(self) -> int:
        """P."""
        return len(self.truth)

    @property
    def features(self) -> int:
        """F."""
        return int(self.truth.shape[1])

    def gram(self, p: int) -> Array:
        """(F, F) FᵀF of one phase."""
        whole: Array = self.half[p][_places(self.features)]
        return whole

    def add(self, F: Array, y: Array, s: Array, which: Array) -> None:
        """Adds B rows: features (B, F), targets and smoothing (B, K), phases (B,)."""
        K, both = y.shape[1], np.concatenate([y, s], 1)
        for p in np.unique(which):
            rows = which == p
            f, r = (F, both) if rows.all() else (F[rows], both[rows])
            sums = (
                (r.T @ f).T if r.shape[1] < f.shape[1] else f.T @ r
            )  # BLAS takes half as long in this order
            self.half[p] += (f.T @ f)[np.tril_indices(self.features)]
            self.truth[p] += sums[:, :K]
            self.smooth[p] += sums[:, K:]
        across = np.einsum("bk,bk->k", y, s)
        self.squares += [[np.einsum("bk,bk->k", y, y), across], [across, np.einsum("bk,bk->k", s, s)]]

    def of(self, columns: Array) -> Moments:
        """The sums of some features, given by their numbers; all of them only in their order."""
        if len(columns) == self.features:
            return self
        i, j = np.tril_indices(len(columns))
        half = self.half[:, _places(self.features)[columns[i], columns[j]]]
        return Moments(half, self.truth[:, columns], self.smooth[:, columns], self.squares)

    def at(self, steps: Array) -> Moments:
        """The sums of some steps."""
        if len(steps) == self.truth.shape[2]:
            return self
        return Moments(self.half, self.truth[..., steps], self.smooth[..., steps], self.squares[..., steps])

    def pooled(self) -> Moments:
        """The sums of all phases as of one."""
        half, truth, smooth = (sums.sum(0, keepdims=True) for sums in (self.half, self.truth, self.smooth))
        return Moments(half, truth, smooth, self.squares)

    def around_smoothing(self) -> Moments:
        """The same rows, of which the smoothing is the truth."""
        squares = np.broadcast_to(self.squares[1, 1], self.squares.shape)
        return Moments(self.half, self.smooth, self.smooth, squares)

    def __add__(self, other: Moments) -> Moments:
        """The sums with the rows of `other`."""
        return Moments(
            self.half + other.half,
            self.truth + other.truth,
            self.smooth + other.smooth,
            self.squares + other.squares,
        )

    def __sub__(self, other: Moments) -> Moments:
        """The sums without the rows of `other`."""
        return Moments(
            self.half - other.half,
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
        import torch

        found = np.empty(sums.shape)
        for p in range(self.phases):
            # torch's LAPACK takes half the time of NumPy's, which has no solver for what is positive definite.
            gram = torch.from_numpy(self.gram(p))
            gram.diagonal().add_(penalty)
            factor, failed = torch.linalg.cholesky_ex(gram)
            if failed.any():  # features too large beside the penalty
                found[p] = np.linalg.solve(gram.numpy(), sums[p])
            else:
                found[p] = torch.cholesky_solve(torch.from_numpy(sums[p]), factor).numpy()
        return found

    def loss(self, share: float, A: Array) -> float:
        """Σ (y - share * s - F A)² over these rows; A is (P, F, K)."""
        return float(self.losses((share,), A, np.zeros_like(A))[0])

    def losses(self, shares: tuple[float, ...], of_truth: Array, of_smooth: Array) -> Array:
        """Σ (y - share * s - F (of_truth - share * of_smooth))² for every share: a square in the share."""
        both, K = (of_truth, of_smooth), of_truth.shape[2]
        image = np.concatenate(both, 2)
        for p in range(self.phases):
            image[p] = self.gram(p) @ image[p]
        images = image[..., :K], image[..., K:]
        cross = np.array([[np.vdot(A, sums) for sums in (self.truth, self.smooth)] for A in both])
        inner = np.array([[np.vdot(A, image) for image in images] for A in both])
        form = self.squares.sum(2) - cross - cross.T + inner
        share = np.array(shares)
        losses: Array = form[0, 0] - share * (form[0, 1] + form[1, 0]) + share**2 * form[1, 1]
        return losses


@lru_cache(maxsize=8)
def _places(F: int) -> Array:
    """(F, F) where in `half` each entry of a symmetric matrix stands."""
    i, j = np.ogrid[:F, :F]
    low, high = np.minimum(i, j), np.maximum(i, j)
    places: Array = high * (high + 1) // 2 + low
    return places


def missing(history: History, train: Spans, horizon: int) -> float:
    """The share of rows that are missing among those up to the last target of these origins."""
    stops = np.where(train.stop > train.first, np.minimum(train.stop - 1 + horizon, history.panel.lengths), 0)
    begins = history.panel.offsets[:-1]
    known = sum(np.count_nonzero(history.observed[a : a + n]) for a, n in zip(begins, stops, strict=True))
    return 1 - known / max(int(stops.sum()), 1)


def refills(missing: float) -> int:
    """How often a least-squares fit is done again in which missing targets are what the fit before says.

    That goes to the fit of the targets that are there (expectation maximisation, Dempster et al. 1977): what is wrong
    about the first fill shrinks to the share that is missing every time, here until it is slight, or six times.

    Args:
        missing: share of the targets, 0 to 1.

    Example:
        >>> [refills(share) for share in (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)]
        [0, 0, 1, 2, 5, 6]
    """
    if missing <= SLIGHT:
        return 0
    return min(MOST, ceil(log(SLIGHT) / log(missing)) - 1) if missing < 1 else MOST
