"""Prediction intervals from errors on held-out origins: split conformal prediction, per step ahead.

For n scores the half width at level a is the ⌈(n + 1) a⌉-th smallest: if past and future errors are
exchangeable, the interval covers with probability at least a, whatever the model.

Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, section 2.2.
"""

from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = ["half_widths", "scores_table"]

Array = np.ndarray[Any, Any]

KEPT = 2000  # scores per step that a model keeps; of more, evenly spaced ones and the largest


def scores_table(residuals: Array, observed: Array) -> Array:
    """Sorted absolute residuals per step.

    Steps that no held-out origin reaches get the scores of the last step that one does, grown as the errors
    of a random walk, with √k.

    Args:
        residuals: (B, K) in the model's unit.
        observed: (B, K) where the truth is known.

    Returns:
        (N, K) rising along N; NaN at the end of a column with fewer scores; (0, K) without any.
    """
    scores = np.sort(np.where(observed, np.abs(residuals), np.nan), axis=0)
    counts = observed.sum(0)
    if not counts.any():
        return np.zeros((0, residuals.shape[1]))
    for k in range(len(counts)):
        if counts[k] == 0:
            near = int(np.flatnonzero(counts)[np.abs(np.flatnonzero(counts) - k).argmin()])
            scores[:, k] = scores[:, near] * sqrt(max(k + 1, near + 1) / (near + 1))
    scores = scores[: counts.max()]
    if len(scores) > KEPT:
        scores = scores[np.linspace(0, len(scores) - 1, KEPT).round().astype(int)]
    return scores


def half_widths(scores: Array, level: float) -> Array:
    """(K,) half widths of the intervals at `level` per cent; NaN without scores.

    Where there are too few scores for the level, the largest is widened as a normal tail would be.

    Args:
        scores: (N, K) of `scores_table`.

    Example:
        >>> half_widths(np.arange(1.0, 100.0)[:, None], 80)
        array([80.])
    """
    a = level / 100
    out = np.full(scores.shape[1], np.nan)
    for k, column in enumerate(scores.T):
        column = column[~np.isnan(column)]
        n = len(column)
        rank = ceil((n + 1) * a - 1e-9)
        if n and rank <= n:
            out[k] = column[rank - 1]
        elif n:
            normal = NormalDist().inv_cdf
            out[k] = column[-1] * normal((1 + a) / 2) / normal((1 + n / (n + 1)) / 2)
    return out
