"""Rows that judge what was not fitted on them: the training time in quarters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np

from carousel.forecast.moments import Moments
from carousel.forecast.plan import Plan
from carousel.forecast.split import Spans, thinned
from carousel.forecast.threads import side_by_side
from carousel.network.forecaster import Smoothing
from carousel.series.features import phase
from carousel.series.history import History, Origins, normalise
from carousel.series.linear import linear_features, of_the_level, sizes
from carousel.series.smoothing import Mixture

__all__ = ["Fill", "Quarter", "Selected", "moments", "quarter_of", "quarters", "total"]

Array = np.ndarray[Any, Any]
Fill = Callable[[Origins], Array]  # of B origins (B, K), in the model's unit

ORIGINS = 150_000  # that the linear path is fitted on
QUARTERS = 4
BLOCK = 2048  # origins at a time


@dataclass(frozen=True)
class Selected:
    """The sums of some features, given by their numbers, which are taken when they are needed."""

    sums: Moments
    columns: Array

    def of(self, columns: Array) -> Moments:
        """The sums of some of them."""
        return self.sums.of(self.columns[columns])

    def all(self) -> Moments:
        """The sums of all of them."""
        return self.sums.of(self.columns)

    def at(self, steps: Array) -> Selected:
        """Of some steps."""
        return replace(self, sums=self.sums.at(steps))

    def pooled(self) -> Selected:
        """Of all phases as of one."""
        return replace(self, sums=self.sums.pooled())


@dataclass(frozen=True)
class Quarter:
    """A quarter of the training time.

    Args:
        origins: of it.
        own: their sums.
        judging: those with the features that they have in `unseen`; None where nothing is to be judged.
        beside: the sums of origins of its neighbours whose targets reach into it, or that its targets reach.
        unseen: the history with means of earlier rows only (for the first quarter, of later ones), as a forecast
            knows them. With the mean of all rows, a path that goes back to it would be told part of what it is
            asked; the mean of the rows on both sides of a quarter is nearer to it than that of any past.
    """

    origins: Origins
    own: Selected
    judging: Selected | None
    beside: Moments
    unseen: History

    def of(self, columns: Array) -> Quarter:
        """The sums of some features; without those that judge."""
        own = Selected(self.own.of(columns), np.arange(len(columns)))
        return replace(self, own=own, judging=None, beside=self.beside.of(columns))


def quarters(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Origins | Spans,
    upto: int,
    judge: bool = False,
    fill: Fill | None = None,
) -> tuple[Quarter, ...]:
    """The quarters of the training time.

    Args:
        upto: as for `linear_features`.
        judge: with the sums that judge.
        fill: as for `moments`.
    """
    origins, (*edges, last) = thinned(train, ORIGINS), _edges(train)
    near = min(plan.horizon, int(np.diff(edges).min()) // 2)
    # Three pieces between two edges: origins near the one, near none, near the other.
    piece = np.searchsorted([edge + away for edge in edges for away in (-near, 0, near)], origins.row)
    between = [0, *map(int, edges), int(last)]
    unseen = [
        replace(history, center=_means_before(history, first, stop + plan.horizon, between[-1]))
        for first, stop in pairwise(between)
    ]
    own, there = _columns(plan, upto)

    def sums(k: int) -> tuple[Moments, dict[int, Moments]]:
        """A quarter's sums, and those of its pieces near an edge."""
        whole, near_edges = None, {}
        for p in _pieces(k):
            of_unseen = unseen[k] if judge else None
            part = moments(history, smoothing, plan, origins[piece == p], upto, of_unseen, fill)
            whole = part if whole is None else whole + part
            if p % 3:
                near_edges[p] = part.of(own)
        assert whole is not None
        return whole, near_edges

    wholes, some = zip(*side_by_side(sums, range(QUARTERS)), strict=True)
    near_edges = {p: part for pieces in some for p, part in pieces.items()}
    return tuple(
        Quarter(
            origins[np.isin(piece, _pieces(k))],
            Selected(whole, own),
            Selected(whole, there) if judge else None,
            reduce(add, (near_edges[p] for p in (3 * k - 2, 3 * k + 2) if p in near_edges)),
            unseen[k],
        )
        for k, whole in enumerate(wholes)
    )


def _pieces(quarter: int) -> list[int]:
    return [p for p in range(3 * quarter - 1, 3 * quarter + 2) if 0 <= p <= 3 * QUARTERS - 3]


def _moved(plan: Plan, upto: int) -> Array:
    """The features that are others where the mean of the series is."""
    count = sizes(plan.frequency, plan.season, plan.lookback)[upto]
    return np.flatnonzero(of_the_level(plan.frequency, plan.season, plan.lookback)[:count])


def _columns(plan: Plan, upto: int) -> tuple[Array, Array]:
    """Which columns of the sums with `unseen` are the features as they are, and which as they are there."""
    own, moved = np.arange(sizes(plan.frequency, plan.season, plan.lookback)[upto]), _moved(plan, upto)
    there = own.copy()
    there[moved] = len(own) + np.arange(len(moved))
    return own, there


def total(parts: tuple[Quarter, ...]) -> Moments:
    """The sums of all quarters."""
    return reduce(add, (quarter.own.all() for quarter in parts))


def quarter_of(origins: Origins, train: Origins | Spans) -> Array:
    """(B,) which quarter of the training time each origin lies in."""
    return np.searchsorted(_edges(train)[:-1], origins.row)


def _edges(train: Origins | Spans) -> Array:
    """The rows between the quarters, and the last one."""
    return train.row_quantiles(np.linspace(0, 1, QUARTERS + 1)[1:])


def _means_before(history: History, first: int, stop: int, end: int) -> Array:
    """(S,) the mean of each series before row `first`; where that is less than a season, from `stop` to `end`.

    A series that has less than a season there, too, keeps its mean.
    """
    means: Array = history.center.copy()
    for s, offset in enumerate(history.panel.offsets[:-1]):
        x = history.x[offset : offset + min(int(history.panel.lengths[s]), end)]
        known = x[:first] if min(first, len(x)) >= history.season else x[stop:]
        if len(known) >= history.season:
            # Around the mean, so that the sums of a long series stay exact.
            means[s] += (known - means[s]).mean()
    return means


def moments(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    origins: Origins,
    upto: int,
    unseen: History | None = None,
    fill: Fill | None = None,
) -> Moments:
    """The sums of all these origins.

    Args:
        unseen: with other means; the features that change with them stand, as they are there, behind all others.
        fill: what missing targets count as; without, what the smoothing says.
    """
    counts = sizes(plan.frequency, plan.season, plan.lookback)
    P = plan.phases
    F = counts[upto] + (0 if unseen is None else len(_moved(plan, upto)))
    found = Moments.zero(P, F, plan.horizon)
    for features, smooth, truth, which in _blocks(history, smoothing, plan, origins, upto, unseen, fill):
        found.add(features, truth, smooth, which if P > 1 else np.zeros_like(which))
    return found


def _blocks(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    origins: Origins,
    upto: int,
    unseen: History | None,
    fill: Fill | None,
) -> Iterator[Any]:
    """Blocks of features (B, F), smoothing and truth around the level in units of the scale (B, K), phases (B,)."""
    mixture, moved = Mixture.of(smoothing, plan.horizon), _moved(plan, upto)
    for b in range(0, len(origins), BLOCK):
        some = origins[slice(b, b + BLOCK)]
        context = history.context(some, plan.lookback, 0)
        _, level = normalise(context, plan.season)
        scale = context.scale[:, None]
        truth, observed = history.targets(some, plan.horizon)
        smooth = history.smoothed(some, mixture)
        if not observed.all():
            truth = np.where(observed, truth, smooth if fill is None else fill(some))
        features = linear_features(context, plan.frequency, plan.season, upto)
        if unseen is not None:
            other = replace(context, center=unseen.center[some.series])
            there = linear_features(other, plan.frequency, plan.season, upto)[:, moved]
            features = np.concatenate([features, there], 1)
        which = phase(plan.frequency, plan.season, context.next)
        yield features, (smooth - level) / scale, (truth - level) / scale, which
