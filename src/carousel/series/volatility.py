"""How restless the rows before an origin are, and what that says of the errors to come.

Two measures of a window, in units of the scale of its series: the mean change from one season to the next, and the
mean distance from the level of the last season. Errors grow with them as m_1^a m_2^b; a and b are found on forecasts
of rows that were not fitted, and errors divided by that are what the intervals are calibrated with: restless weeks get
wide ones, quiet weeks narrow ones, of the same coverage.

Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, section 5.2 (locally weighted conformal prediction).
"""

from typing import Any

import numpy as np

__all__ = ["LEAST", "MOST", "exponents", "measures", "volatility"]

Array = np.ndarray[Any, Any]

LEAST, MOST = 0.1, 10.0  # of a measure: neither a pause nor an outlier may say more
STEPS = 10  # of the grid: a and b are tenths, together 1 at most
WORTH = 2.0  # that an exponent must add to the logarithm of the likelihood of independent errors


def measures(window: Array, season: int) -> Array:
    """(B, 2) mean absolute change over a season, and distance from the last season's level, of windows (B, L).

    Of a window of no more than a season the second stands for both.

    Example:
        >>> measures(np.array([[1.0, 5.0, 2.0, 8.0]]), 2)
        array([[2. , 2.5]])
    """
    B, L = window.shape
    level = np.add.reduce(window[:, -season:], 1, keepdims=True) / min(season, L)
    found = np.empty((B, 2))
    found[:, 1] = np.add.reduce(np.abs(window - level), 1) / L
    found[:, 0] = found[:, 1]
    if season < L:
        found[:, 0] = np.add.reduce(np.abs(window[:, season:] - window[:, :-season]), 1) / (L - season)
    return found


def volatility(measured: Array, scale: Array, powers: Array | None) -> Array:
    """(B,) how many times as large as elsewhere errors are to be expected; 1 without powers.

    Args:
        measured: (B, 2) of `measures`.
        scale: (B,) of the series.
        powers: (2,) of `exponents`.
    """
    if powers is None:
        return np.ones(len(measured))
    found: Array = np.exp(_logarithms(measured, scale) @ powers)
    return found


def exponents(
    residuals: Array, observed: Array, measured: Array, scale: Array, counts: Array
) -> Array | None:
    """(2,) the powers of the measures; None where held-out errors do not bear them out.

    Those of greatest likelihood, if errors follow Laplace's distribution with a width of every step's own, times
    m_1^a m_2^b. Each that is not 0 must be worth 2 in the logarithm of the likelihood, as for a test at 5 %, of as many
    errors as are independent.

    Args:
        residuals: (B, K) in units of the scale.
        observed: (B, K) where the truth is known.
        measured: (B, 2) of `measures`.
        scale: (B,) of the series.
        counts: (K,) how many independent residuals those of each step are worth.
    """
    grid = np.array([(a, b) for a in range(STEPS + 1) for b in range(STEPS + 1 - a)]) / STEPS
    n = observed.sum(0)
    steps = np.flatnonzero(n)
    if not len(steps):
        return None
    logs = _logarithms(measured, scale) @ grid.T  # (B, G)
    sums = np.exp(-logs).T @ np.where(observed, np.abs(residuals), 0)[:, steps]
    widths = np.maximum(sums / n[steps], np.finfo(float).tiny)  # (G, K)
    likelihood = -np.log(widths) - (logs.T @ observed)[:, steps] / n[steps]  # a row, at every step
    gain = ((likelihood - likelihood[0]) * np.minimum(counts, n)[steps]).mean(1)
    best = int(np.argmax(gain - WORTH * np.count_nonzero(grid, axis=1)))
    return grid[best] if best else None


def _logarithms(measured: Array, scale: Array) -> Array:
    logarithms: Array = np.log(np.minimum(np.maximum(measured / scale[:, None], LEAST), MOST))
    return logarithms
