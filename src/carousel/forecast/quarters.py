"""Rows that judge what was not fitted on them: the training time in quarters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from carousel.forecast.plan import Plan
from carousel.forecast.split import thinned
from carousel.forecast.threads import side_by_side
from carousel.network.forecaster import Smoothing
from carousel.series.features import phase, phases
from carousel.series.history import History, Origins, normalise
from carousel.series.linear import Moments, linear_features, sizes
from carousel.series.smoothing import mixed, mixture

__all__ = ["Quarter", "moments", "quarter_of", "quarters", "total"]

Array = np.ndarray[Any, Any]

ORIGINS = 150_000  # that the linear path is fitted on
PHASED_NUMBERS = 6e6  # of sums, beyond which one matrix per phase would take too much memory and time
QUARTERS = 4
BLOCK = 4096  # origins at a time


@dataclass(frozen=True)
class Quarter:
    """A quarter of the training time.

    Args:
        origins: of it.
        own: their sums.
        beside: the sums of origins of its neighbours whose targets reach into it, or that its targets reach.
        unseen: the history as the other quarters know it: the mean of each series is that of rows outside. With
            the mean of all rows, a path that goes back to it would be told part of what it is asked.
    """

    origins: Origins
    own: Moments
    beside: Moments
    unseen: History

    def of(self, columns: Array) -> Quarter:
        """The sums of some features."""
        return replace(self, own=self.own.of(columns), beside=self.beside.of(columns))


def quarters(
    history: History, smoothing: Smoothing, plan: Plan, train: Origins, upto: int
) -> tuple[Quarter, ...]:
    """The quarters of the training time; `upto` as for `linear_features`."""
    origins, edges = thinned(train, ORIGINS), _edges(train)
    near = min(plan.horizon, int(np.diff(edges).min()) // 2)
    # Three pieces between two edges: origins near the one, near none, near the other.
    piece = np.searchsorted(np.sort([*(edges - near), *edges, *(edges + near)]), origins.row)
    sums = side_by_side(
        lambda p: moments(history, smoothing, plan, origins[piece == p], upto), range(3 * QUARTERS - 2)
    )
    found = []
    for k in range(QUARTERS):
        inside = slice(max(3 * k - 1, 0), 3 * k + 2)
        beside = [sums[p] for p in (3 * k - 2, 3 * k + 2) if 0 <= p < len(sums)]
        first = 0 if k == 0 else int(edges[k - 1])
        stop = int(edges[k] if k < QUARTERS - 1 else train.row.max()) + plan.horizon
        found.append(
            Quarter(
                origins[(piece >= inside.start) & (piece < inside.stop)],
                reduce(add, sums[inside]),
                reduce(add, beside),
                replace(history, center=_means_outside(history, first, stop, int(train.row.max()))),
            )
        )
    return tuple(found)


def total(parts: tuple[Quarter, ...]) -> Moments:
    """The sums of all quarters."""
    return reduce(add, (quarter.own for quarter in parts))


def quarter_of(origins: Origins, train: Origins) -> Array:
    """(B,) which quarter of the training time each origin lies in."""
    return np.searchsorted(_edges(train), origins.row)


def _edges(train: Origins) -> Array:
    """The rows between the quarters."""
    return np.quantile(train.row, np.linspace(0, 1, QUARTERS + 1)[1:-1])


def _means_outside(history: History, first: int, stop: int, end: int) -> Array:
    """(S,) the mean of each series over its rows before `end` that are not from `first` to `stop`.

    A series that has less than a season of them keeps its mean.
    """
    lengths, offsets = np.minimum(history.panel.lengths, end), history.panel.offsets[:-1]
    # Around the mean, so that the sums of a long series stay exact.
    sums = np.concatenate([[0.0], np.cumsum(history.x - np.repeat(history.center, history.panel.lengths))])
    a, b = np.minimum(first, lengths), np.minimum(stop, lengths)
    outside = lengths - (b - a)
    deviation = (sums[offsets + lengths] - sums[offsets]) - (sums[offsets + b] - sums[offsets + a])
    enough = outside >= max(history.season, 1)
    return history.center + np.where(enough, deviation / np.maximum(outside, 1), 0.0)


def moments(history: History, smoothing: Smoothing, plan: Plan, origins: Origins, upto: int) -> Moments:
    """The sums of all these origins. A missing target counts as what the smoothing says."""
    counts = sizes(plan.frequency, plan.season, plan.lookback)
    P = phases(plan.frequency, plan.season)
    P = P if P * counts[-1] * (counts[-1] + plan.horizon) <= PHASED_NUMBERS else 1
    found = Moments.zero(P, counts[upto], plan.horizon)
    for features, smooth, truth, which in _blocks(history, smoothing, plan, origins, upto):
        found.add(features, truth, smooth, which if P > 1 else np.zeros_like(which))
    return found


def _blocks(history: History, smoothing: Smoothing, plan: Plan, origins: Origins, upto: int) -> Iterator[Any]:
    """Blocks of features (B, F), smoothing and truth around the level in units of the scale (B, K), phases (B,)."""
    matrices = mixture(smoothing, plan.horizon)
    for b in range(0, len(origins), BLOCK):
        some = origins[slice(b, b + BLOCK)]
        context = history.context(some, plan.lookback, smoothing.memory)
        _, level = normalise(context, plan.season)
        scale = context.scale[:, None]
        truth, observed = history.targets(some, plan.horizon)
        smooth = mixed(matrices, context.window, context.errors)
        truth = np.where(observed, truth, smooth)
        features = linear_features(context, plan.frequency, plan.season, upto)
        which = phase(plan.frequency, plan.season, context.next)
        yield features, (smooth - level) / scale, (truth - level) / scale, which
