"""How much of a correction is kept, so that noise in the held-out rows cannot make it a loss."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["jackknifed", "shrink_factor"]

Array = np.ndarray[Any, Any]

ROUNDS, STILL = 100, 1e-7  # at most, and how little the factor then moves


def shrink_factor(
    forecast: Array,
    rest: Array,
    observed: Array,
    blocks: int,
    doubt: float = 1.0,
    delta: float = np.inf,
) -> float:
    """What to multiply a correction with.

        s = argmin Σ huber(r - s f)        clip(s - doubt SE(s), 0, 1)        SE by a jackknife over blocks of origins

    By reweighted least squares (Huber 1964; Holland and Welsch 1977). A correction is judged by the loss that it was
    fitted with: of one that is right for most rows, squares say what a few outliers would have.

    Args:
        forecast: (B, K) f, the correction.
        rest: (B, K) r, what it should have been.
        observed: (B, K).
        blocks: how many.
        doubt: of standard errors that are taken off.
        delta: from where on an error counts as its size and not as its square.
    """
    f, r = (np.where(observed, values, 0).astype(np.float64) for values in (forecast, rest))
    if not f.any():
        return 0.0
    s = 0.0
    for _ in range(ROUNDS):
        weight = 1 / np.maximum(np.abs(r - s * f) / delta, 1)
        last, s = s, float((weight * f * r).sum() / (weight * f * f).sum())
        if abs(s - last) < STILL:
            break
    errors = r - s * f
    pull = np.clip(errors, -delta, delta) * f
    curvature = np.where(np.abs(errors) <= delta, f * f, 0)
    return jackknifed(s, _by_block(pull, blocks), _by_block(curvature, blocks), doubt)


def jackknifed(s: float, pull: Array, curvature: Array, doubt: float = 1.0) -> float:
    """clip(s - doubt SE(s), 0, 1), where each block in turn is left out and s goes one Newton step.

    Args:
        pull: of every block, the slope of half its loss, downward.
        curvature: of every block.
    """
    blocks, left = len(pull), curvature.sum() - curvature
    if left.min() <= 0:
        return 0.0
    without = s + (pull.sum() - pull) / left
    error = np.sqrt((blocks - 1) / blocks * ((without - without.mean()) ** 2).sum())
    return float(np.clip(s - doubt * error, 0, 1))


def _by_block(values: Array, blocks: int) -> Array:
    return np.array([part.sum() for part in np.array_split(values.sum(1), blocks)])
