"""Exponential smoothing as it is printed: the recursion in loops, and its start by least squares."""

import numpy as np

from carousel.network.forecaster import Smoothing
from carousel.series.smoothing import candidates, subset
from carousel.series.starting import starting_rows


def some(rng: np.random.Generator, seasons: tuple[int, ...]) -> Smoothing:
    """Seven members, at random."""
    every = candidates(seasons)
    return subset(every, rng.choice(len(every.weights), 7, replace=False), np.ones(7))


def by_definition(model: Smoothing, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """(N, G) e[t] = x[t] - Σ ar x[t - lag] - Σ ma e[t - lag].

    Args:
        first: (F, G) errors to go on from; 0 before a member has all its lags without.
    """
    e = np.zeros((len(x), len(model.weights)))
    begin = 0 if first is None else len(first)
    if first is not None:
        e[:begin] = first
    for g, (lags, ar, ma) in enumerate(zip(model.lags, model.ar, model.ma, strict=True)):
        for t in range(max(begin, lags.max()), len(x)):
            e[t, g] = x[t] - ar @ x[t - lags] - ma @ e[t - lags, g]
    return e


def by_least_squares(model: Smoothing, x: np.ndarray) -> np.ndarray:
    """(N, G) the errors of which the first ones, as many as a member has lags, make the sum of squares least."""
    e = by_definition(model, x)
    for g, (lags, ma) in enumerate(zip(model.lags, model.ma, strict=True)):
        d = lags.max()
        if len(x) > d:
            effect = np.eye(len(x), d)  # of the first errors on all
            for t in range(d, len(x)):
                effect[t] = -sum(b * effect[t - lag] for lag, b in zip(lags, ma, strict=True))
            e[:, g] -= effect @ np.linalg.lstsq(effect, e[:, g], rcond=None)[0]
    return e


def known_at(model: Smoothing, x: np.ndarray) -> np.ndarray:
    """(N, G) the errors as they are known after all rows of x: started from the first P."""
    first = by_least_squares(model, x[: starting_rows(model)])
    return by_definition(model, x, first)


def last_errors(model: Smoothing, x: np.ndarray) -> np.ndarray:
    """(S, M, G) the last errors of S series, 0 before the first row."""
    S, M, G = len(x), model.memory, len(model.weights)
    return np.stack([np.concatenate([np.zeros((M, G)), known_at(model, one)])[-M:] for one in x]).reshape(
        S, M, G
    )
