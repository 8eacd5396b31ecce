"""The smoothing that would have forecast the rows best, and the weights that each series gives its members.

One panel may hold loads, whose season is a day, and traffic, whose season is a week: what is best for all is good for
none (M4 Hourly). So each series has weights of its own, where rows that had no part in them are then forecast better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.by_series import QUARTERS, Losses, origins_of_each, relative, spread
from carousel.forecast.plan import Plan
from carousel.forecast.split import Spans, thinned
from carousel.network.forecaster import Scaling, Smoothing, Unit
from carousel.series.history import History, Origins, in_model_unit, own_scale
from carousel.series.panel import Panel
from carousel.series.smoothing import KEPT, POWER, ahead, candidates, shares, subset
from carousel.series.smoothing_errors import SmoothingErrors

__all__ = ["fit_smoothing", "scored"]

Array = np.ndarray[Any, Any]

SERIES, ROWS, ORIGINS = 64, 4000, 400  # that weight the members for all
WORTH = 0.98  # of the loss with common weights, below which own ones are worth having
ROUNDS = 3  # in which the weights of all and of each tell one another
HOPELESS = 10.0  # of the least loss
LIGHT = 0.01  # of the largest weight, below which a member is left out
BLOCK = 100  # origins at a time that every member, of a hundred, forecasts from


def fit_smoothing(panel: Panel, plan: Plan, unit: Unit) -> tuple[Scaling, Smoothing]:
    """The smoothing that would have forecast these rows best, and the scales of the series, in a unit."""
    center, scale = own_scale(panel, in_model_unit(panel, plan.of_gaps, unit), plan.season)
    return Scaling.of(unit, center, scale, plan.carried), _smoothing(panel, plan, unit)


def scored(panel: Panel) -> Panel:
    """As many of these rows as it takes to tell one smoothing or unit from another."""
    series = np.unique(np.linspace(0, len(panel) - 1, min(len(panel), SERIES)).astype(int))
    return panel.select(series).tail(ROWS)


def _smoothing(panel: Panel, plan: Plan, unit: Unit) -> Smoothing:
    some = scored(panel)
    longest = int(some.lengths.max())
    members = candidates(plan.smoothed_seasons)
    memory = members.lags.max(1)
    known = np.flatnonzero((memory + 2 <= longest) | (memory <= 2))
    members = subset(members, known, np.ones(len(known)))
    trial = _Trial.of(some, members, plan, unit)
    trial = replace(trial, origins=thinned(Spans(trial.first, some.lengths), ORIGINS))
    rows = trial.observed().sum()
    if not rows:
        return members
    weights = shares(trial.losses().sum(0) / rows)
    kept = np.flatnonzero(weights)
    if len(panel) == 1:
        return subset(members, kept, weights[kept])
    return _with_own(panel, plan, unit, members, kept, weights[kept])


@dataclass(frozen=True)
class _Trial:
    """Forecasts of every member of rows that are known.

    Args:
        first: (S,) the row of each series from which on members have their lags and, in longer series, some errors.
        origins: B of them.
        horizon: K.
    """

    history: History
    members: Smoothing
    first: Array
    origins: Origins
    horizon: int

    @classmethod
    def of(cls, panel: Panel, members: Smoothing, plan: Plan, unit: Unit) -> _Trial:
        """Without an origin so far."""
        x = in_model_unit(panel, plan.of_gaps, unit)
        center, scale = own_scale(panel, x, plan.season)
        e = SmoothingErrors.of(members, x, panel.offsets)
        history = History(panel, x, ~np.isnan(panel.values), e, center, scale, plan.season)
        M, longest = members.memory, int(panel.lengths.max())
        first = np.minimum(M + max(1, min(M, (longest - M) // 3)), panel.lengths)
        none = np.zeros(0, np.int64)
        return cls(history, members, first, Origins(none, none), plan.horizon)

    def errors(self) -> Iterator[Array]:
        """Blocks of errors (b, K, G) in units of the scale, 0 where nothing was observed."""
        M = self.members.memory
        for b in range(0, len(self.origins), BLOCK):
            some = self.origins[slice(b, b + BLOCK)]
            truth, observed = self.history.targets(some, self.horizon)
            context = self.history.context(some, M, M)
            off = ahead(self.members, context.window, context.errors, self.horizon) - truth[..., None]
            yield off * (observed / context.scale[:, None])[..., None]

    def losses(self) -> Array:
        """(B, G) sums of absolute errors."""
        none = np.zeros((0, len(self.members.weights)))
        return np.concatenate([none, *(np.abs(off).sum(1) for off in self.errors())])

    def observed(self) -> Array:
        """(B,) how many rows of each horizon were observed."""
        count: Array = self.history.targets(self.origins, self.horizon)[1].sum(1)
        return count


def _with_own(
    panel: Panel, plan: Plan, unit: Unit, members: Smoothing, kept: Array, weights: Array
) -> Smoothing:
    """The members `kept`, weighted for all series; or for each, where unseen rows are then forecast better by far.

    Those of which each series has weights of its own are some of which each finds a good one.
    """
    some = panel.tail(min(ROWS, 2 * members.memory + origins_of_each(len(panel)) * plan.horizon))
    trial = _Trial.of(some, members, plan, unit)
    last = np.maximum(some.lengths - plan.horizon, trial.first)
    origins = spread(Spans(trial.first, np.minimum(last + 1, some.lengths)))
    trial = replace(trial, origins=origins)
    known = Losses.of(origins, trial.losses(), trial.observed(), len(panel), plan.horizon)
    common = subset(members, kept, weights)
    without = [known.without(q) for q in range(QUARTERS)]
    if not all(others.known.any() for others in without):
        return common
    chosen = _complementary(known.means())
    used = np.union1d(kept, chosen)
    ways = np.zeros((len(panel), QUARTERS, len(used), 2))
    ways[:, :, np.searchsorted(used, kept), 0] = weights / weights.sum()
    for q, others in enumerate(without):
        ways[:, q, np.searchsorted(used, chosen), 1] = _weights(others.of_some(chosen))[:-1]
    losses, b = np.zeros((2, len(origins))), 0
    judging = _Trial.of(some, subset(members, used, np.ones(len(used))), plan, unit)
    for off in replace(judging, origins=origins).errors():
        block = slice(b, b + len(off))
        of_each = ways[origins.series[block], known.quarter[block]]
        losses[:, block] = np.abs(off @ of_each).sum(1).T
        b += len(off)
    if relative(losses[1:], losses[0], origins.series)[0] > WORTH:
        return common
    own = _weights(known.of_some(chosen))
    return replace(subset(members, chosen, own[-1]), own=own[:-1])


def _weights(losses: Losses) -> Array:
    """(S + 1, G) weights of each series, and of one of which nothing is known.

    A weight falls with a power of the loss, as in `shares`, and counts as much more as other series give weight to the
    member: what is good for none but one is luck (empirical Bayes, Robbins 1956).
    """
    means = losses.means()
    with np.errstate(invalid="ignore", divide="ignore"):
        least = means.min(1, keepdims=True)
        likely = np.where(least > 0, (least / means) ** POWER, means == least)
    typical = np.full(means.shape[1], 1 / means.shape[1])
    for _ in range(ROUNDS):
        weights = typical * likely
        weights /= weights.sum(1, keepdims=True)
        typical = weights.mean(0)
    weights = typical * likely
    weights[weights < LIGHT * weights.max(1, keepdims=True)] = 0
    found = np.repeat(typical[None], len(losses.rows) + 1, 0)
    found[:-1][losses.known] = weights / weights.sum(1, keepdims=True)
    return found


def _complementary(losses: Array) -> Array:
    """Places of few members of which each series finds a good one: greedily, by the mean of the least losses.

    Args:
        losses: (S, G), of which each series counts alike.
    """
    with np.errstate(over="ignore"):
        # One is as good as none from there on; a series without any error must not decide alone.
        relative = np.minimum(losses / np.maximum(losses.min(1, keepdims=True), 1e-300), HOPELESS)
    chosen: list[int] = []
    least = np.full(len(relative), np.inf)
    for _ in range(min(KEPT, relative.shape[1])):
        mean = np.minimum(least[:, None], relative).mean(0)
        best = int(mean.argmin())
        if best in chosen:
            break
        chosen.append(best)
        least = np.minimum(least, relative[:, best])
    return np.sort(chosen)
