"""Exponential smoothing as a family of linear recursions, mixed by how well each forecast the past.

Each series may have weights of its own. Every member is an ARIMA model in three lags: simple smoothing ARIMA(0,1,1),
Holt's trend ARIMA(0,2,2), a smoothed season (0,0,0)(0,1,1)m, and level and season together (0,1,1)(0,1,1)m, the
"airline model". With a parameter of 0 they are persistence, the seasonal naive forecast, and last year plus its growth.
Where a recursion starts from is in `series.starting`.
Sources: Box and Jenkins 1976, chapter 9; Hyndman, Koehler, Ord and Snyder 2008, chapter 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carousel.network.forecaster import Smoothing

__all__ = [
    "KEPT",
    "POWER",
    "Mixture",
    "ahead",
    "candidates",
    "errors_from",
    "expected",
    "maps",
    "shares",
    "subset",
]

Array = np.ndarray[Any, Any]

GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)  # of θ and Θ; at 1 a component would never move
POWER = 8  # weights fall with the 8th power of a member's error: nearly a choice, without its variance
KEPT = 8  # members of largest weight that a mixture keeps
CHUNK = 64  # rows whose recursion is one matrix product


def candidates(seasons: tuple[int, ...]) -> Smoothing:
    """All members for these season lengths, with equal weights."""
    members: list[tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]]] = []
    for a in GRID:
        members.append(((1, 1, 1), (1, 0, 0), (-a, 0, 0)))
    for a in GRID[2:]:
        for b in GRID[3:]:
            members.append(((1, 1, 2), (1, 1, -1), (-a, -b, a * b)))
    for m in sorted({m for m in seasons if m > 1}):
        for b in GRID:
            members.append(((m, m, m), (1, 0, 0), (-b, 0, 0)))
            for a in GRID:
                members.append(((1, m, m + 1), (1, 1, -1), (-a, -b, a * b)))
    lags, ar, ma = zip(*members, strict=True)
    G = len(members)
    return Smoothing(np.array(lags, np.int64), np.array(ar, float), np.array(ma, float), np.full(G, 1 / G))


def errors_from(model: Smoothing, x: Array, before: Array | None) -> Array:
    """One-step errors e of every member, from some row of a series on; 0 where one has not all its lags yet.

    A chunk of rows is one product: what rows before it give, times the recursion's response to a pulse.

    Args:
        x: (S, M + N) values of the M rows before and of those on.
        before: (S, M, G) the errors of the M rows before; None where the series begins with the first of the N rows.

    Returns:
        (S, M + N, G), those before among them.
    """
    M, G = model.memory, len(model.weights)
    S, end = x.shape
    e = np.zeros((G, S, end))
    if before is not None:
        e[:, :, :M] = before.transpose(2, 0, 1)
    terms = _terms(model)
    response = _response(terms, G, min(CHUNK, max(end - M, 1)))
    for a in range(M, end, CHUNK):
        b = min(a + CHUNK, end)
        rest = np.repeat(x[None, :, a:b], G, 0)
        for lag, ar, ma in terms:  # rows of the chunk itself have errors of 0 so far
            rest -= (
                ar[:, None, None] * x[:, a - lag : b - lag] + ma[:, None, None] * e[:, :, a - lag : b - lag]
            )
        if before is None and a < 2 * M:
            early = np.arange(a, b) - M < model.lags.max(1)[:, None]
            rest.transpose(0, 2, 1)[early] = 0
        np.matmul(rest, response[:, : b - a, : b - a], out=e[:, :, a:b])
    found: Array = e.transpose(1, 2, 0)
    return found


def _terms(model: Smoothing) -> list[tuple[int, Array, Array]]:
    """Every lag with its coefficients (G,) of values and of errors."""
    lags = [(int(lag), model.lags == lag) for lag in np.unique(model.lags)]
    return [(lag, (model.ar * at).sum(1), (model.ma * at).sum(1)) for lag, at in lags]


def _response(terms: list[tuple[int, Array, Array]], G: int, rows: int) -> Array:
    """(G, rows, rows) what a pulse in row i adds to the error of row j, at [i, j]."""
    pulse = np.zeros((G, 2 * rows))
    pulse[:, rows] = 1
    for t in range(rows + 1, 2 * rows):
        for lag, _, ma in terms:
            if lag <= t - rows:
                pulse[:, t] -= ma * pulse[:, t - lag]
    i, j = np.ogrid[:rows, :rows]
    response: Array = pulse[:, rows + np.maximum(j - i, 0)] * (j >= i)
    return response


def ahead(model: Smoothing, window: Array, e: Array, K: int) -> Array:
    """The forecasts of every member: the recursion goes on with its own forecasts, and errors of 0.

    Args:
        window: (B, M) values before the origin, or (B, M, 1).
        e: (B, M, G) errors before it.

    Returns:
        (B, K, G).
    """
    B, M, G = e.shape
    x = np.zeros((B, M + K, G))
    x[:, :M] = window.reshape(B, M, 1)
    e = np.concatenate([e, np.zeros((B, K, G))], 1)
    members = np.arange(G)[:, None]
    for t in range(M, M + K):
        lagged = t - model.lags
        x[:, t] = (model.ar * x[:, lagged, members]).sum(-1) + (model.ma * e[:, lagged, members]).sum(-1)
    return x[:, M:]


def expected(model: Smoothing, window: Array, e: Array) -> Array:
    """(B, G) what every member expects of the next value: `ahead` for one step, with the same bits."""
    members = np.arange(len(model.weights))[:, None]
    values, past = window[:, -model.lags], e[:, -model.lags, members]
    of_one: Array = (model.ar * values).sum(-1) + (model.ma * past).sum(-1)
    return of_one


def maps(model: Smoothing, K: int) -> tuple[Array, Array]:
    """The forecasts of every member as linear maps, found by running the recursion on unit vectors.

    Returns:
        A (M, K, G) and B (M, K, G): member g forecasts `x @ A[..., g] + e[..., g] @ B[..., g]`, oldest first.
    """
    M, G = model.memory, len(model.weights)
    unit, zero = np.eye(M), np.zeros((M, M))
    A = ahead(model, unit, np.zeros((M, M, G)), K)
    B = ahead(model, zero, np.repeat(unit[..., None], G, 2), K)
    return A, B


@dataclass(frozen=True)
class Mixture:
    """The forecast of a smoothing as matrix products.

    Args:
        weights: (G,) of the model.
        own: (S + 1, G) of each series, the last for any other; None where all have `weights`.
        values: (F, M, K) what the last M values say, without errors; some members say the same.
        saying: (G, F) 1 where a member says it.
        errors: (M, G, K) what the errors of each member add.
    """

    weights: Array
    own: Array | None
    values: Array
    saying: Array
    errors: Array

    @classmethod
    def of(cls, model: Smoothing, K: int) -> Mixture:
        """The mixture K rows ahead."""
        kinds, first, which = np.unique(
            np.concatenate([model.lags, model.ar], 1), axis=0, return_index=True, return_inverse=True
        )
        A, B = maps(model, K)
        saying = np.equal.outer(which.reshape(-1), np.arange(len(kinds))).astype(float)
        own = None if model.own is None else np.concatenate([model.own, model.weights[None]])
        return cls(model.weights, own, A[..., first].transpose(2, 0, 1), saying, B.transpose(0, 2, 1))

    def __call__(self, window: Array, e: Array, series: Array | None = None) -> Array:
        """(B, K) the forecast.

        Args:
            window: (B, L) values, L at least M.
            e: (B, M, G) errors.
            series: (B,) which of the fitted series each is of, -1 for none of them.
        """
        of_values, of_errors = self._shared
        x = window[:, -self.values.shape[1] :]
        if self.own is None or series is None:
            forecast: Array = x @ of_values + e.reshape(-1, len(of_errors)) @ of_errors
            return forecast
        weights, (M, G, K) = self.own[series], self.errors.shape
        forecast = (e * weights[:, None]).reshape(-1, M * G) @ self.errors.reshape(M * G, K)
        for share, values in zip((weights @ self.saying).T, self.values, strict=True):
            forecast += (share[:, None] * x) @ values
        return forecast

    @cached_property
    def _shared(self) -> tuple[Array, Array]:
        """The matrices of values (M, K) and of errors (M * G, K) under the weights of the model."""
        M, G, K = self.errors.shape
        of_values = np.tensordot(self.weights @ self.saying, self.values, 1)
        return of_values, (self.errors * self.weights[:, None]).reshape(M * G, K)


def subset(model: Smoothing, kept: Array, weights: Array) -> Smoothing:
    """Some members with new weights, scaled to a sum of 1."""
    return Smoothing(model.lags[kept], model.ar[kept], model.ma[kept], weights / weights.sum())


def shares(losses: Array) -> Array:
    """(G,) weights `loss ** -8` of the few members of least loss, 0 for the others; of sum 1.

    Args:
        losses: (G,) mean absolute errors over the horizon.
    """
    least = float(losses.min())
    weights: Array = (least / losses) ** POWER if least > 0 else (losses == least).astype(float)
    weights[np.argsort(-weights, kind="stable")[KEPT:]] = 0
    weights[weights < 0.01 * weights.max()] = 0
    weights /= weights.sum()
    return weights
