"""What covariates add: fitted on training rows, kept as far as held-out rows bear it out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from carousel.forecast.closed_form import PENALTIES
from carousel.forecast.moments import Moments, missing, refills
from carousel.forecast.plan import Plan
from carousel.forecast.shrinkage import shrink_factor
from carousel.forecast.split import BLOCKS, Spans, thinned
from carousel.network.forecaster import Covariate, CovariatePaths, Scaling, Smoothing, Unit
from carousel.series.covariates import effect, encoded, regressors
from carousel.series.history import History, Origins, in_model_unit, own_scale
from carousel.series.panel import Panel
from carousel.series.smoothing import Mixture

__all__ = [
    "EFFECT_PENALTIES",
    "CorrectionChoice",
    "EffectChoice",
    "choose_correction",
    "choose_effect",
    "fit_correction",
    "fit_effect",
    "learned",
    "needed",
]

Array = np.ndarray[Any, Any]
C = TypeVar("C")

EFFECT_PENALTIES = (1.0, 100.0)
SERIES, ROWS, ORIGINS = 64, 4000, 400  # on which the effect is judged
FITTED = 50_000  # origins that the correction is fitted on
BLOCK = 4096


@dataclass(frozen=True)
class EffectChoice:
    """What the held-out rows chose: the ridge penalty, squares of the features or not, how much is kept."""

    penalty: float
    squares: bool
    shrink: float


@dataclass(frozen=True)
class CorrectionChoice:
    """What the held-out rows chose: the ridge penalty, and how much is kept."""

    penalty: float
    shrink: float


def learned(
    columns: tuple[Covariate, ...], holidays: str | None, panel: Panel, plan: Plan, unit: Unit
) -> CovariatePaths:
    """How the columns are read, from the rows of `panel`; nothing is added yet."""
    given = panel.covariates
    assert given is not None
    rows = np.concatenate([np.arange(n) + a for n, a in zip(panel.lengths, given.offsets[:-1], strict=True)])
    blocks = {"past": given.past, "future": given.future[rows], "static": given.static}
    places = {role: iter(range(block.shape[1])) for role, block in blocks.items()}
    kept = tuple(_measured(column, blocks[column.role][:, next(places[column.role])]) for column in columns)
    _, scale = own_scale(panel, in_model_unit(panel, plan.of_gaps, unit), plan.season)
    none = np.zeros((len(panel), plan.lookback, 0))
    return CovariatePaths(kept, holidays, scale, None, None, False, given.static, none, none)


def _measured(column: Covariate, x: Array) -> Covariate:
    """A column with its centre and scale; a constant, or one without values, has the scale 1."""
    known = x[~np.isnan(x)]
    if column.categories is not None or not len(known):
        return column
    scale = float(known.std())
    center = float(known.mean())
    return replace(column, center=center, scale=scale or 1.0, gaps=len(known) < len(x))


def fit_effect(
    panel: Panel, paths: CovariatePaths, plan: Plan, unit: Unit, choice: EffectChoice
) -> CovariatePaths:
    """The effect of future covariates, by ridge regression of the target on them and on what came before:

        y[t] = x[t] b + Σ_l (a_l y[t-l] + x[t-l] b_l) + c        l = 1, m, m + 1

    The rows before, of target and covariates, stand for whatever else moves the target (its level, its season), so
    that b is what a change of x changes.
    """
    lags = (1, plan.season, plan.season + 1) if plan.season > 1 else (1, 2)
    count = paths.size("future") * (1 + choice.squares)
    size = count * (1 + len(lags)) + len(lags) + 1
    gram, truth = np.zeros((size, size)), np.zeros(size)
    for F, y in _changes(panel, paths, plan.of_gaps, unit, lags, choice.squares):
        gram += F.T @ F
        truth += F.T @ y
    ridge = np.full(size, 1e-9 * max(gram.trace(), 1.0))
    ridge[: count * (1 + len(lags))] += choice.penalty
    b = np.linalg.solve(gram + np.diag(ridge), truth)[:count]
    effect: Array = choice.shrink * b
    return replace(paths, effect=effect)


def _changes(
    panel: Panel, paths: CovariatePaths, of_gaps: int, unit: Unit, lags: tuple[int, ...], squares: bool
) -> Iterator[tuple[Array, Array]]:
    """Rows of the regression: features [x, lagged x, lagged y, 1] and targets, in units of the series."""
    assert panel.covariates is not None
    x = in_model_unit(panel, of_gaps, unit)
    features = encoded(paths, panel.covariates, panel, paths.unit)
    curved = _has_third_value(features.future)  # of two values the square is the column itself
    for s, (a, b) in enumerate(zip(panel.offsets[:-1], panel.offsets[1:], strict=True)):
        if b - a <= max(lags):
            continue
        y = (x[a:b] - x[a:b].mean()) / paths.unit[s]
        X = features.future[features.offsets[s] : features.offsets[s] + b - a]
        X = np.concatenate([X, X**2 * curved], 1) if squares else X
        observed = ~np.isnan(panel.values[a:b])
        for first in range(max(lags), len(y), BLOCK):
            t = np.arange(first, min(first + BLOCK, len(y)))
            t = t[observed[t]]
            before = t[:, None] - np.array(lags)
            columns = [
                X[t],
                X[before].reshape(len(t), before.shape[1] * X.shape[1]),
                y[before],
                np.ones((len(t), 1)),
            ]
            yield np.concatenate(columns, 1), y[t]


def _has_third_value(X: Array) -> Array:
    """(F,) whether a column of X (N, F) has more than two values."""
    found: Array = ((X.min(0, initial=np.inf) != X) & (X.max(0, initial=-np.inf) != X)).any(0)
    return found


def choose_effect(
    panel: Panel, cut: Array, paths: CovariatePaths, scaling: Scaling, smoothing: Smoothing, plan: Plan
) -> tuple[EffectChoice, CovariatePaths] | None:
    """The effect of least squared error on rows after the cut, beside the smoothing; None where none helps."""
    some = np.unique(np.linspace(0, len(panel) - 1, min(len(panel), SERIES)).astype(int))
    judged, first = panel.select(some), cut[some]
    dropped = np.maximum(judged.lengths - ROWS, 0)
    judged, first = judged.tail(ROWS), np.maximum(first - dropped, 1)
    origins = thinned(Spans(first, judged.lengths), ORIGINS)

    mixture = Mixture.of(smoothing, plan.horizon)

    def forecasts(tried: CovariatePaths) -> tuple[Array, Array, Array, Array]:
        history = History.of(
            judged, plan.season, scaling, smoothing, panel.ids, paths=tried, horizon=plan.horizon
        )
        context = history.context(origins, plan.lookback, smoothing.memory)
        truth, observed = history.targets(origins, plan.horizon)
        seen = context.covariates
        assert seen is not None
        x = mixture(context.window, context.errors, context.series)
        added = seen.unit[:, None] * effect(tried.effect, seen.future[:, plan.lookback :])
        return (x + added) / seen.unit[:, None], (truth + added) / seen.unit[:, None], observed, added

    without, truth, observed, _ = forecasts(paths)
    training = panel.head(cut)

    def tries() -> Iterator[tuple[tuple[EffectChoice, CovariatePaths], Array]]:
        for squares in (False, True):
            for penalty in EFFECT_PENALTIES:
                choice = EffectChoice(penalty, squares, 1.0)
                tried = fit_effect(training, paths, plan, scaling.unit, choice)
                yield (choice, tried), forecasts(tried)[0] - without

    if (best := _best(tries(), truth - without, observed)) is None:
        return None
    (choice, tried), shrink = best
    assert tried.effect is not None
    return replace(choice, shrink=shrink), replace(tried, effect=shrink * tried.effect)


def _best(tries: Iterable[tuple[C, Array]], rest: Array, observed: Array) -> tuple[C, float] | None:
    """The candidate that leaves least of `rest` (B, K), and how much of it is kept; None where none helps.

    Args:
        tries: candidates, and what each takes off the rest, (B, K).
    """
    least, best = float((rest[observed] ** 2).sum()), None
    for candidate, gain in tries:
        blocks = max(2, min(BLOCKS, len(gain) // max(1, rest.shape[1] // 2)))
        shrink = shrink_factor(gain, rest, observed, blocks)
        loss = float(((rest - shrink * gain)[observed] ** 2).sum())
        if shrink > 0 and loss < least:
            least, best = loss, (candidate, shrink)
    return best


def choose_correction(
    history: History,
    paths: CovariatePaths,
    plan: Plan,
    train: tuple[Spans, Callable[[Origins], Array]],
    choose: tuple[Origins, Callable[[Origins], Array]],
) -> tuple[CorrectionChoice, CovariatePaths] | None:
    """The correction by past and static covariates of least squared error; None where none helps.

    Args:
        train: origins, and the forecast (B, K) that is corrected, by paths that have not seen them.
        choose: the same of held-out origins.
    """
    if not len(choose[0]) or not len(train[0]):
        return None
    G, rest, observed = _rows(history, plan, *choose)
    A = None
    for _ in range(1 + refills(missing(history, train[0], plan.horizon))):
        moments = _moments(history, plan, *train, A)
        solved = [(penalty, _solved(moments, penalty)) for penalty in PENALTIES]
        if (best := _best((((penalty, A), G @ A) for penalty, A in solved), rest, observed)) is None:
            return None
        (penalty, A), shrink = best
    assert A is not None
    return CorrectionChoice(penalty, shrink), replace(paths, path=shrink * A)


def fit_correction(
    history: History,
    paths: CovariatePaths,
    plan: Plan,
    train: tuple[Spans, Callable[[Origins], Array]],
    choice: CorrectionChoice,
) -> CovariatePaths:
    """The correction as chosen, fitted on other rows."""
    A = None
    for _ in range(1 + refills(missing(history, train[0], plan.horizon))):
        A = _solved(_moments(history, plan, *train, A), choice.penalty)
    assert A is not None
    return replace(paths, path=choice.shrink * A)


def _solved(moments: Moments, penalty: float) -> Array:
    coefficients: Array = moments.coefficients(penalty)[0]
    return coefficients


def _moments(
    history: History, plan: Plan, train: Spans, base: Callable[[Origins], Array], A: Array | None
) -> Moments:
    """The sums of all these origins; a missing target is what A says, without it the base's."""
    moments, origins = None, thinned(train, FITTED)
    for b in range(0, len(origins), BLOCK):
        G, rest, observed = _rows(history, plan, origins[slice(b, b + BLOCK)], base)
        moments = moments or Moments.zero(1, G.shape[1], plan.horizon)
        if not observed.all():
            rest = np.where(observed, rest, 0 if A is None else G @ A)
        moments.add(G, rest, np.zeros_like(rest), np.zeros(len(G), np.int64))
    assert moments is not None
    return moments


def _rows(
    history: History, plan: Plan, origins: Origins, base: Callable[[Origins], Array]
) -> tuple[Array, Array, Array]:
    """Regressors (B, E), what the base leaves in units of the scale (B, K), and where that was observed."""
    context = history.context(origins, plan.lookback, 0)
    assert context.covariates is not None
    truth, observed = history.targets(origins, plan.horizon)
    rest = (truth - base(origins)) / context.scale[:, None]
    return regressors(context.covariates, plan.lookback), rest, observed


def needed(paths: CovariatePaths | None) -> CovariatePaths | None:
    """Without the columns that nothing reads: a forecast then does not ask for them."""
    if paths is None:
        return None
    used = set()
    if paths.recurrent or paths.effect is not None:
        used.add("future")
    if paths.recurrent or paths.path is not None:
        used |= {"past", "static"}
    columns = tuple(column for column in paths.columns if column.role in used)
    if not columns:
        return None
    return replace(
        paths,
        columns=columns,
        holidays=paths.holidays if "future" in used else None,
        static=paths.static if "static" in used else paths.static[:, :0],
        past=paths.past if "past" in used else paths.past[..., :0],
        future=paths.future if "future" in used else paths.future[..., :0],
    )
