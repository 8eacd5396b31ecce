"""The linear path, fitted without gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import sub
from typing import Any

import numpy as np

from carousel.forecast.moments import Moments, missing, refills
from carousel.forecast.plan import Plan
from carousel.forecast.quarters import Fill, Quarter, Selected, moments, quarter_of, quarters, total
from carousel.forecast.shrinkage import jackknifed
from carousel.forecast.split import Spans, thinned
from carousel.forecast.threads import side_by_side
from carousel.network.forecaster import LinearPath, Smoothing
from carousel.series.features import has_interplay
from carousel.series.history import History, Origins
from carousel.series.linear import linear_path, of_the_year, sizes
from carousel.series.smoothing import Mixture

__all__ = [
    "LinearChoice",
    "choose_linear",
    "fit_linear",
    "out_of_fold",
    "sketched_linear",
]

Array = np.ndarray[Any, Any]

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)  # of features whose mean square is about 1
SHARES = (0.0, 0.5, 1.0)  # of the smoothing in what the linear path starts from
CHOOSING = 20_000  # that choose its penalty
STEPS = 128  # of a horizon, at most, by which one path is told from another
FEW = 6  # rows, the fewest that a linear path reads
POWER = 40  # weights fall with the 40th power of the squared error: 2 % more of it is a bit less than half the weight
ROUNDING = 1e-12  # of the squares: losses are differences of sums
LIGHT = 0.02  # of the largest weight, below which a member is left out
BLOCK = 4096


@dataclass(frozen=True)
class Member:
    """One ridge regression of a mixture.

    Args:
        columns: the features that it reads.
        penalty: λ.
        phased: one matrix per phase of the season.
        share: what it starts from, 1 the smoothing, 0 the level, or between them.
        weight: in the mixture.
    """

    columns: Array
    penalty: float
    phased: bool
    share: float
    weight: float


@dataclass(frozen=True)
class LinearChoice:
    """A mixture of ridge regressions, which is one linear path, too.

    Args:
        upto: of the features that they read (see `linear_features`).
        features: F, how many those are.
        members: what is not of them is the smoothing's.
        shrink: how far the mixture may go from the smoothing, 0 to 1.
        drawn: of `choose_share`.
    """

    upto: int
    features: int
    members: tuple[Member, ...]
    shrink: float = 1.0
    drawn: float | None = None

    def path(self, moments: Moments, plan: Plan) -> LinearPath:
        """The path of these sums: smoothing + shrink * (mixture - smoothing)."""
        of_phases, pooled = moments, moments.pooled()
        P = of_phases.phases if any(member.phased for member in self.members) else 1
        A, kept = np.zeros((P, self.features, moments.truth.shape[2])), 1.0
        for member in self.members:
            sums = (of_phases if member.phased else pooled).of(member.columns)
            fitted = sums.coefficients(member.penalty, member.share)
            A[:, member.columns] += self.shrink * member.weight * fitted
            kept -= self.shrink * member.weight * (1 - member.share)
        interplay = self.upto == 2 and has_interplay(plan.frequency, plan.season)
        return LinearPath(A, kept, self.upto >= 1, interplay, level=self.upto >= 1)


@dataclass(frozen=True)
class _Held:
    """The sums of rows that judge, of all rows, and of those that may not be fitted for them; of some steps.

    What is left is taken when it is needed: with a matrix for every phase a sum takes some ten megabytes.
    """

    judging: Selected
    every: Moments
    without: tuple[Selected | Moments, ...] = ()

    def of(self, columns: Array) -> tuple[Moments, Moments]:
        """Of some features, the rows that may be fitted and those that judge."""
        fitted = reduce(sub, (rows.of(columns) for rows in self.without), self.every.of(columns))
        return fitted, self.judging.of(columns)

    def at(self, steps: Array) -> _Held:
        """Of some steps."""
        without = tuple(rows.at(steps) for rows in self.without)
        return _Held(self.judging.at(steps), self.every.at(steps), without)

    def pooled(self) -> _Held:
        """Of all phases as of one."""
        return _Held(
            self.judging.pooled(), self.every.pooled(), tuple(rows.pooled() for rows in self.without)
        )


def choose_linear(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Spans,
    choose: Spans,
    with_year: bool,
) -> tuple[LinearChoice | None, LinearPath | None, tuple[Quarter, ...]]:
    """The mixture of linear paths of least squared error, and the sums of each quarter that it comes from.

    Every path is judged by rows that it was not fitted on: the held-out origins, and each quarter of the
    training time by the other three, without the origins whose targets reach into it. Held-out rows alone are few
    and of one part of the year, and what is best on them is often luck. The weights of the mixture fall with a high
    power of the error. There is no path if the smoothing alone is better.

    Args:
        with_year: features of the time of the year may be used.
    """
    if not len(choose) or not len(train):
        return None, None, ()
    found = _chosen(history, smoothing, plan, train, choose, with_year, None)
    for _ in range(refills(missing(history, train, plan.horizon))):
        choice, _, parts = found
        if choice is None:
            break
        fill = out_of_fold(history, smoothing, plan, train, choice, parts)
        found = _chosen(history, smoothing, plan, train, choose, with_year, fill)
    return found


def _chosen(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Spans,
    choose: Spans,
    with_year: bool,
    fill: Fill | None,
) -> tuple[LinearChoice | None, LinearPath | None, tuple[Quarter, ...]]:
    counts = sizes(plan.frequency, plan.season, plan.lookback)
    upto = len(counts) - 1
    usable = with_year | ~of_the_year(plan.frequency, plan.season, plan.lookback)
    parts = quarters(history, smoothing, plan, train, upto, judge=True, fill=fill)
    every = total(parts)
    judges = [_Held(part.judging, every, (part.own, part.beside)) for part in parts if part.judging]
    chosen = moments(history, smoothing, plan, thinned(choose, CHOOSING), upto, fill=fill)
    judges.append(_Held(Selected(chosen, np.arange(counts[upto])), every))
    judges = [judge.at(_some_steps(plan)) for judge in judges]
    pooled = [judge.pooled() for judge in judges]
    found = [_best(pooled, counts, n, rows, usable) for n in range(len(counts)) for rows in _lengths(plan)]
    if every.phases > 1:  # P solutions each: tried on the features that proved best, and on all
        best = min(found, key=lambda scored: scored.loss)
        found += [_best(judges, counts, n, plan.lookback, usable) for n in sorted({best.upto, upto})]
    losses = np.array(
        [sum(_of_smoothing(judge.judging.sums) for judge in pooled), *(one.loss for one in found)]
    )
    losses = np.maximum(losses, 0) + ROUNDING * judges[0].every.squares.sum(2).max() + 1e-300
    weights = (losses.min() / losses) ** POWER
    weights[weights < LIGHT * weights.max()] = 0
    weights /= weights.sum()
    kept = [
        (one.upto, replace(one.member, weight=float(weight)))
        for one, weight in zip(found, weights[1:], strict=True)
        if weight > 0
    ]
    if not kept:
        return None, None, ()
    upto = max(n for n, _ in kept)
    choice = LinearChoice(upto, counts[upto], tuple(member for _, member in kept))
    used = np.arange(counts[upto])
    choice = replace(choice, shrink=_shrink(choice, plan, judges))
    if choice.shrink == 0:
        return None, None, ()
    return choice, choice.path(every.of(used), plan), tuple(part.of(used) for part in parts)


@dataclass(frozen=True)
class _Scored:
    loss: float
    upto: int
    member: Member


def _best(judges: list[_Held], counts: tuple[int, ...], upto: int, rows: int, usable: Array) -> _Scored:
    """The penalty and the share of least loss for the last `rows` rows of the window and what goes with them."""
    columns = np.flatnonzero(usable[: counts[upto]])
    columns = columns[columns >= counts[0] - 1 - rows]
    phased = judges[0].every.phases > 1
    # Taken anew for every penalty where they are large.
    pairs = judges if phased else [judge.of(columns) for judge in judges]
    best = None
    for penalty in reversed(PENALTIES):
        judged = partial(_losses, penalty, columns)
        losses = np.sum(side_by_side(judged, pairs), 0)
        j = int(np.argmin(losses))
        if best is not None and losses[j] > best.loss:
            break  # it only rises from here on
        best = _Scored(float(losses[j]), upto, Member(columns, penalty, phased, SHARES[j], 1.0))
    assert best is not None
    return best


def _losses(penalty: float, columns: Array, judge: _Held | tuple[Moments, Moments]) -> Array:
    """Of every share, at the rows that judge."""
    fitted, rows = judge.of(columns) if isinstance(judge, _Held) else judge
    return rows.losses(SHARES, *fitted.solve(penalty))


def _shrink(choice: LinearChoice, plan: Plan, judges: Sequence[_Held]) -> float:
    """The shrink factor of a mixture's corrections of the smoothing, at rows that it was not fitted on."""
    columns = np.arange(choice.features)

    def gain(judge: _Held) -> tuple[float, float]:
        fitted, rows = judge.of(columns)
        path = choice.path(fitted, plan)
        rows = rows if len(path.coefficients) > 1 else rows.pooled()
        size = rows.around_smoothing().loss(path.share, path.coefficients)
        return (_of_smoothing(rows) + size - rows.loss(path.share, path.coefficients)) / 2, size

    gains, sizes = np.array(side_by_side(gain, judges)).T
    if sizes.sum() <= 0:
        return 0.0
    s = float(gains.sum() / sizes.sum())
    return jackknifed(s, gains - s * sizes, sizes)


def _some_steps(plan: Plan) -> Array:
    """Steps of the horizon, evenly apart."""
    return np.unique(np.linspace(0, plan.horizon - 1, min(plan.horizon, STEPS)).astype(int))


def _lengths(plan: Plan) -> list[int]:
    """How many of the last rows a linear path may read: all of the window, a half, a quarter, an eighth, a season."""
    L, least = plan.lookback, max(plan.season, FEW)
    parts = {L // k for k in (2, 4, 8) if L // k >= least}
    return sorted({L, *parts, min(L, least)}, reverse=True)


def _of_smoothing(moments: Moments) -> float:
    """The loss of the smoothing alone."""
    (yy, ys), (sy, ss) = moments.squares.sum(2)
    return float(yy - ys - sy + ss)


def fit_linear(
    history: History, smoothing: Smoothing, plan: Plan, train: Spans, choice: LinearChoice | None
) -> tuple[LinearPath | None, tuple[Quarter, ...]]:
    """The linear path as chosen, fitted on other rows, and the sums of each quarter that it comes from."""
    if choice is None:
        return None, ()
    parts = quarters(history, smoothing, plan, train, choice.upto)
    for _ in range(refills(missing(history, train, plan.horizon))):
        fill = out_of_fold(history, smoothing, plan, train, choice, parts)
        parts = quarters(history, smoothing, plan, train, choice.upto, fill=fill)
    return choice.path(total(parts), plan), parts


def out_of_fold(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Origins | Spans,
    choice: LinearChoice,
    parts: tuple[Quarter, ...],
    own: Array | None = None,
) -> Callable[[Origins], Array]:
    """The linear path at training origins, fitted without their own quarter of time.

    A path fitted with its own rows leaves residuals that are smaller than those of new rows: a network that
    learned from them would learn what the path has overfitted (stacking, Wolpert 1992).

    Args:
        parts: the quarters.
        own: of the whole path.

    Returns:
        A function of origins, (B,) to (B, K) in the model's unit.
    """
    whole = total(parts)
    paths = side_by_side(lambda part: choice.path(whole - part.own.all() - part.beside, plan), parts)
    paths = [replace(path, own=own) for path in paths]
    histories = [part.unseen for part in parts]
    mixture = Mixture.of(smoothing, plan.horizon)

    def base(origins: Origins) -> Array:
        out = np.empty((len(origins), plan.horizon))
        within = quarter_of(origins, train)

        def block(first: int) -> None:
            rows = np.arange(first, min(first + BLOCK, len(origins)))
            for k in np.unique(within[rows]):
                some = rows[within[rows] == k]
                context = histories[k].context(origins[some], plan.lookback, 0)
                smooth = histories[k].smoothed(origins[some], mixture)
                out[some] = linear_path(paths[k], context, smooth, plan.frequency, plan.season)

        side_by_side(block, range(0, len(origins), BLOCK))
        return out

    return base


def sketched_linear(
    history: History, smoothing: Smoothing, plan: Plan, train: Origins
) -> Callable[[Origins], Array]:
    """As `out_of_fold`, of one ridge regression of the window alone: a rough path, quickly found."""
    columns = np.arange(sizes(plan.frequency, plan.season, plan.lookback)[0])
    parts = quarters(history, smoothing, plan, train, 0)
    every = total(parts)
    # The window says nothing of the mean of its series: a quarter's own sums are those of the unseen.
    judges = [_Held(part.own, every, (part.own, part.beside)).pooled() for part in parts]
    best = _best(judges, (len(columns),), 0, plan.lookback, np.ones(len(columns), bool))
    choice = LinearChoice(0, len(columns), (best.member,))
    choice = replace(choice, shrink=_shrink(choice, plan, judges))
    return out_of_fold(history, smoothing, plan, train, choice, parts)
