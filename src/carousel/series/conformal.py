"""Prediction intervals from errors on held-out origins: split conformal prediction, per step ahead.

For n independent scores the half width at level a is the ⌈(n + 1) a⌉-th smallest: if past and future errors
are exchangeable, the interval covers with probability at least a, whatever the model. Errors of neighbouring
origins are not independent; n is then what they are worth, and the quantile (n + 1) a / n of all scores is taken. For
few of them that is nearly the largest score of many, which is too much: there, errors are taken as normal.

Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, section 2.2.
"""

from functools import lru_cache
from math import ceil, sqrt
from typing import Any

import numpy as np

__all__ = [
    "are_skewed",
    "drawn_errors",
    "error_paths",
    "half_widths",
    "independent_counts",
    "interval_errors",
    "quantile_errors",
    "scores_table",
]

Array = np.ndarray[Any, Any]

FEW = 4  # independent scores, of which the largest is the half width at 80 %; fewer say nothing of a quantile
ENOUGH = 20  # that say it by themselves
PATHS = 200  # whole forecasts whose errors a model keeps, evenly spaced
MIDDLE = 1e-6  # from 0.5, within which a quantile is the forecast itself
OUTER = 0.8  # of the errors, inside of which their sides are not compared
SKEWED = 0.05  # more left out on one side than on the other, of all errors
KEPT = 2000  # scores per step that a model keeps; of more, evenly spaced ones and the largest


def scores_table(residuals: Array, observed: Array, sided: bool = False) -> Array:
    """Sorted absolute residuals per step, or with `sided` signed ones.

    Steps that no held-out origin reaches get the scores of the last step that one does, grown as the errors
    of a random walk, with √k.

    Args:
        residuals: (B, K) in the model's unit.
        observed: (B, K) where the truth is known.

    Returns:
        (N, K) rising along N; NaN at the end of a column with fewer scores; (0, K) without any.
    """
    sizes = residuals if sided else np.abs(residuals)
    scores = np.sort(np.where(observed, sizes, np.nan), axis=0)
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


def are_skewed(residuals: Array, observed: Array, counts: Array) -> bool:
    """Whether one side of the errors reaches so much further than the other that each needs a width of its own.

    Around their medians, as a forecast that is only off is no skewed one, an interval that holds 80 % of all leaves
    out as many below as above, if both sides are alike. The difference must be more than chance of as many errors as
    are independent makes it, by three standard errors, and more than a few per cent, or an interval of two widths,
    each found from fewer errors, says no more than one of a single width.

    Args:
        residuals: (B, K) in units of the scale.
        observed: (B, K).
        counts: (K,) of `independent_counts`.
    """
    steps = np.flatnonzero(observed.any(0))
    if not len(steps):
        return False
    errors = np.where(observed, residuals, np.nan)[:, steps]
    errors -= np.nanmedian(errors, 0)
    width = np.nanquantile(np.abs(errors), OUTER, 0)
    above, below = ((side * errors > width).sum(0) / observed[:, steps].sum(0) for side in (1, -1))
    n = float(counts[steps].mean())
    chance = sqrt((1 - OUTER) / n)
    return n >= ENOUGH and abs(float((above - below).mean())) > max(SKEWED, 3 * chance)


def independent_counts(residuals: Array, observed: Array, follows: Array) -> Array:
    """How many independent residuals those of each step are worth.

    Neighbouring origins share most of what happens to them. With ρ the correlation of their residuals,
    n of them are worth n (1 - ρ) / (1 + ρ), as for an autoregression of order 1 (Bayley and Hammersley 1946),
    but, up to 4 of them, no less than (n + k - 1) / k: n errors k steps ahead are made of the shocks of that
    many rows, k in each. Beyond 4 the correlation decides; a poor model stretches it over more than k rows.

    Args:
        residuals: (B, K).
        observed: (B, K).
        follows: (B,) whether an origin comes one row after the one before it in the list.

    Returns:
        (K,) at least 1.
    """
    pairs = observed[1:] & observed[:-1] & follows[1:, None]
    both = np.where(pairs, residuals[1:] * residuals[:-1], 0).sum(0)
    each = np.where(pairs, residuals[1:] ** 2 + residuals[:-1] ** 2, 0).sum(0) / 2
    rho = np.clip(np.divide(both, each, out=np.zeros_like(both), where=each > 0), 0, 1)
    n = observed.sum(0)
    k = np.arange(1, len(n) + 1)
    apart = np.minimum((n + k - 1) / k, FEW)
    counts: Array = np.maximum(np.maximum(n * (1 - rho) / (1 + rho), apart), 1.0)
    return counts


def half_widths(scores: Array, counts: Array, level: float) -> Array:
    """(K,) half widths of the intervals at `level` per cent; NaN without scores.

    Where n is below 4, or too small for the level, errors are taken as normal with the mean square of the
    scores, which n of them estimate: the half width is t_n((1 + a) / 2) times its root. From 4 to 20 it goes over from
    the one to the other, with 1 / n.

    Args:
        scores: (N, K) of `scores_table`.
        counts: (K,) of `independent_counts`.

    Example:
        >>> half_widths(np.arange(1.0, 100.0)[:, None], np.array([99.0]), 80)
        array([80.])
    """
    a = level / 100
    return _quantile(scores, counts, a, (1 + a) / 2)


def interval_errors(scores: Array, counts: Array, levels: tuple[float, ...], sided: bool) -> Array:
    """(2, Q, K) what to add to a forecast for the lower and for the upper ends of its intervals.

    An interval at level a goes from quantile (1 - a) / 2 to (1 + a) / 2 of the errors, and holds the forecast.

    Args:
        scores: (N, K) of `scores_table`, signed if `sided`.
        counts: (K,) of `independent_counts`.
        levels: Q in per cent.
    """
    tails = (1 - np.array(levels) / 100) / 2
    ends = np.stack(
        [quantile_errors(scores, counts, tails, sided), quantile_errors(scores, counts, 1 - tails, sided)]
    )
    return np.stack([np.minimum(ends[0], 0.0), np.maximum(ends[1], 0.0)])


def quantile_errors(scores: Array, counts: Array, quantiles: Array, sided: bool) -> Array:
    """(Q, K) what to add to the forecast for these quantiles; they rise with the quantile. NaN without scores.

    Of both sides alike, quantiles are the ends of an interval, and the median is the forecast.

    Args:
        scores: (N, K) of `scores_table`, signed if `sided`.
        counts: (K,) of `independent_counts`.
        quantiles: (Q,) between 0 and 1.
    """
    out = np.zeros((len(quantiles), scores.shape[1]))
    for j, q in enumerate(map(float, quantiles)):
        above = q >= 0.5
        if not sided:
            if abs(q - 0.5) > MIDDLE:
                out[j] = (1 if above else -1) * half_widths(scores, counts, 100 * abs(2 * q - 1))
        elif above:
            out[j] = _quantile(scores, counts, q, q)
        else:
            out[j] = -_quantile(-scores[::-1], counts, 1 - q, 1 - q)
    return out


def error_paths(residuals: Array, observed: Array) -> Array | None:
    """(P, K) the residuals of at most 200 origins that were observed whole, float32; None without two.

    Args:
        residuals: (B, K) in units of the scale.
        observed: (B, K).
    """
    whole = residuals[observed.all(1)]
    if len(whole) < 2:
        return None
    kept = np.linspace(0, len(whole) - 1, min(len(whole), PATHS)).round().astype(int)
    paths: Array = whole[kept].astype(np.float32)
    return paths


def drawn_errors(number: int, levels: Array, spread: Array, paths: Array, rng: np.random.Generator) -> Array:
    """(number, K) errors of drawn paths: at every step distributed as `spread`, from step to step as in `paths`.

    Paths of held-out errors are drawn, all of them before one is drawn again. How large each of its errors is among the
    others at that step says which quantile the drawn path has there: the margins are those of the intervals, the ranks
    those of real forecasts (the Schaake shuffle; Clark et al. 2004).

    Args:
        levels: (Q,) between 0 and 1, rising.
        spread: (Q, K) the quantiles of these levels.
        paths: (P, K) of `error_paths`.
    """
    P, K = paths.shape
    # Equal paths are told apart by one number for all steps, and so stay paths.
    tie = np.broadcast_to(rng.random(P)[:, None], paths.shape)
    ranks = np.empty(paths.shape)
    np.put_along_axis(ranks, np.lexsort((tie, paths), axis=0), np.arange(P, dtype=float)[:, None], 0)
    drawn = np.concatenate([rng.permutation(P) for _ in range(-(-number // P))])[:number]
    level = (ranks[drawn] + rng.random(number)[:, None]) / P
    return np.stack([np.interp(level[:, k], levels, spread[:, k]) for k in range(K)], 1)


def _quantile(scores: Array, counts: Array, a: float, p: float) -> Array:
    """(K,) quantile a of scores of which n are independent; of few, quantile p of a normal law, see `half_widths`."""
    out = np.full(scores.shape[1], np.nan)
    for k, column in enumerate(scores.T):
        column = column[~np.isnan(column)]
        n = min(float(counts[k]), len(column))
        if not n:
            continue
        share, normal = (n + 1) * a / n, 0.0
        trust = min(max((1 / FEW - 1 / n) / (1 / FEW - 1 / ENOUGH), 0.0), 1.0)
        if share > 1 or trust < 1:
            normal = _student(p, n) * sqrt(float(np.mean(column**2)))
        if share <= 1:
            ranked = column[ceil(share * len(column) - 1e-9) - 1]
        else:
            ranked = max(normal, column[-1])  # never inside that of a lower level
        out[k] = trust * ranked + (1 - trust) * normal
    return out


@lru_cache(4096)
def _student(p: float, n: float) -> float:
    """Quantile of Student's t with n >= 1 degrees of freedom; n need not be whole.

    With t = √n tan φ the area under its density from 0 to t is proportional to that under cos(φ)^(n-1).

    >>> round(_student(0.9, 1), 3), round(_student(0.975, 4), 3)
    (3.078, 2.776)
    """
    angles = np.linspace(0, np.pi / 2, 20001)
    heights = np.cos(angles) ** (n - 1)
    areas = np.concatenate([[0], np.cumsum(heights[1:] + heights[:-1])])
    return float(sqrt(n) * np.tan(np.interp((2 * p - 1) * areas[-1], areas, angles)))
