"""Sums over origins: all that ridge regression needs, and all that the squared error of a linear forecast needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Moments"]

Array = np.ndarray[Any, Any]


@dataclass
class Moments:
    """Running sums of rows of every phase, features F, targets y and smoothing s.

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
        import torch

        # torch's LAPACK takes half the time of NumPy's, which has no solver for what is positive definite.
        gram = torch.tensor(self.gram)
        gram.diagonal(dim1=1, dim2=2).add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed.any():  # features too large beside the penalty
            return np.linalg.solve(gram.numpy(), sums)
        found: Array = torch.cholesky_solve(torch.from_numpy(sums), factor).numpy()
        return found

    def loss(self, share: float, A: Array) -> float:
        """Σ (y - share * s - F A)² over these rows; A is (P, F, K)."""
        return float(self.losses((share,), A, np.zeros_like(A))[0])

    def losses(self, shares: tuple[float, ...], of_truth: Array, of_smooth: Array) -> Array:
        """Σ (y - share * s - F (of_truth - share * of_smooth))² for every share: a square in the share."""
        both, K = (of_truth, of_smooth), of_truth.shape[2]
        image = self.gram @ np.concatenate(both, 2)
        images = image[..., :K], image[..., K:]
        cross = np.array([[np.vdot(A, sums) for sums in (self.truth, self.smooth)] for A in both])
        inner = np.array([[np.vdot(A, image) for image in images] for A in both])
        form = self.squares.sum(2) - cross - cross.T + inner
        share = np.array(shares)
        losses: Array = form[0, 0] - share * (form[0, 1] + form[1, 0]) + share**2 * form[1, 1]
        return losses
