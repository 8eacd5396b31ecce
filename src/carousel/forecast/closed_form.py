"""What is fitted without gradients: the unit, the smoothing, the linear path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.plan import Plan
from carousel.forecast.split import every_origin, thinned
from carousel.network.forecaster import LinearPath, Scaling, Smoothing
from carousel.series.features import has_interplay, phase, phases
from carousel.series.history import History, Origins, in_model_unit, normalise, own_scale, panel_errors
from carousel.series.linear import Moments, by_phase, linear_features, linear_path, sizes
from carousel.series.panel import Panel
from carousel.series.smoothing import ahead, candidates, shares, smoothed, subset

__all__ = ["LinearChoice", "choose_linear", "fit_linear", "fit_smoothing", "out_of_fold", "shrink_factor"]

Array = np.ndarray[Any, Any]

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)  # of features whose mean square is about 1
WORTH = 0.99  # of the squared error, below which more features or one matrix per phase are worth having
SHARES = (0.0, 0.5, 1.0)  # of the smoothing in what the linear path starts from
ORIGINS = 150_000  # that the linear path is fitted on
CHOOSING = 20_000  # that choose its penalty
LOG_GAIN = 0.95  # of the error, below which logarithms are worth their asymmetric intervals
SCORED_SERIES, SCORED_ROWS, SCORED_ORIGINS = 64, 4000, 400  # that weight the smoothing models
PHASED_FEATURES = 1300  # beyond which one matrix per phase would take too much memory
FOLDS = 4  # of time, for a linear path that has not seen the row it forecasts
BLOCK = 4096


def fit_smoothing(panel: Panel, plan: Plan, log: bool | None = None) -> tuple[Scaling, Smoothing]:
    """The unit and the smoothing that would have forecast these rows best.

    The logarithm is taken where all values are positive and the smoothing of logarithms has the smaller
    mean absolute error, in the user's unit, over origins inside these rows; or as `log` says.
    """
    series = np.unique(np.linspace(0, len(panel) - 1, min(len(panel), SCORED_SERIES)).astype(int))
    some = panel.select(series).tail(SCORED_ROWS)
    positive = bool(np.all(panel.values[~np.isnan(panel.values)] > 0))
    units = [log] if log is not None else [False, True] if positive else [False]
    fits = {unit: _mix(some, plan, unit) for unit in units}
    log = units[-1] if fits[units[-1]][1] < LOG_GAIN * fits[units[0]][1] or len(units) == 1 else units[0]
    center, scale = own_scale(panel, in_model_unit(panel, plan.season, log), plan.season)
    return Scaling(log, center, scale), fits[log][0]


def _mix(panel: Panel, plan: Plan, log: bool) -> tuple[Smoothing, float]:
    """The mixture in one unit, and its mean absolute error in the user's, in units of the scale."""
    longest = int(panel.lengths.max())
    members = candidates(plan.smoothed_seasons)
    memory = members.lags.max(1)
    known = np.flatnonzero((memory + 2 <= longest) | (memory <= 2))
    members = subset(members, known, np.ones(len(known)))
    x = in_model_unit(panel, plan.season, log)
    center, scale = own_scale(panel, x, plan.season)
    e = panel_errors(panel, x, members)
    history = History(panel, x, ~np.isnan(panel.values), e, center, scale, plan.season)
    # From the row on where every member has its lags and, in longer series, some errors to start from.
    M = members.memory
    first = np.minimum(M + max(1, min(M, (longest - M) // 3)), panel.lengths)
    origins = thinned(every_origin(first, panel.lengths), SCORED_ORIGINS)
    truth, observed = history.targets(origins, plan.horizon)
    if not observed.any():
        return members, 0.0
    context = history.context(origins, M, M)
    forecasts = ahead(members, context.window, context.errors, plan.horizon)
    weight = observed / context.scale[:, None]
    weights = shares(np.einsum("bkg,bk->g", np.abs(forecasts - truth[..., None]), weight) / observed.sum())
    kept = np.flatnonzero(weights)
    mean = forecasts[..., kept] @ weights[kept]
    if log:
        mean, truth = np.exp(mean), np.exp(truth)
    unit = own_scale(panel, in_model_unit(panel, plan.season, False), plan.season)[1]
    loss = np.abs(mean - truth) / unit[origins.series][:, None]
    return subset(members, kept, weights[kept]), float(loss[observed].mean())


@dataclass(frozen=True)
class LinearChoice:
    """What the held-out rows chose.

    Args:
        upto: 0 window, 1 and calendar, 2 and interplay (see `linear_features`).
        features: F, how many that are.
        penalty: λ.
        phased: one matrix per phase of the season.
        share: what the path starts from, 1 the smoothing, 0 the level, or between them.
        shrink: how far it may go from the smoothing, 0 to 1.
    """

    upto: int
    features: int
    penalty: float
    phased: bool
    share: float
    shrink: float

    def path(self, moments: Moments, plan: Plan) -> LinearPath:
        """The path of these sums: smoothing + shrink * (chosen path - smoothing)."""
        A = moments.solve(self.penalty, self.features, self.phased, self.share)
        interplay = self.upto == 2 and has_interplay(plan.frequency, plan.season)
        return LinearPath(A * self.shrink, 1 - self.shrink * (1 - self.share), self.upto >= 1, interplay)


def choose_linear(
    history: History, smoothing: Smoothing, plan: Plan, train: Origins, choose: Origins
) -> tuple[LinearChoice | None, LinearPath | None, Moments | None]:
    """The linear path of least squared error on held-out origins, and the sums that it comes from.

    There is none if the smoothing alone is better.
    """
    counts = sizes(plan.frequency, plan.season, plan.lookback)
    moments = _moments(history, smoothing, plan, thinned(train, ORIGINS), len(counts) - 1)
    held = list(_blocks(history, smoothing, plan, thinned(choose, CHOOSING), len(counts) - 1))
    if not held or not len(train):
        return None, None, None
    F, smooth, truth, observed, which = (np.concatenate(parts) for parts in zip(*held, strict=True))
    truth = np.where(observed, truth, smooth)
    choice, least, correction = None, float(((truth - smooth) ** 2).sum()), smooth
    # One matrix per phase costs P solutions each: it is tried on the chosen features and on all of them.
    for phased in (False, True)[: 1 + (len(moments.gram) > 1)]:
        chosen = 0 if choice is None else choice.upto
        for upto in sorted({chosen, len(counts) - 1}) if phased else range(len(counts)):
            count, enough = counts[upto], least if choice is None else WORTH * least
            for penalty in PENALTIES:
                for share, A in zip(SHARES, moments.solves(penalty, count, phased, SHARES), strict=True):
                    rest = share * smooth + by_phase(A, F[:, :count], which) - smooth
                    loss = float(((truth - smooth - rest)[observed] ** 2).sum())
                    if loss < enough:
                        choice = LinearChoice(upto, count, penalty, phased, share, 1.0)
                        enough = least = loss
                        correction = rest
    if choice is None:
        return None, None, None
    choice = replace(choice, shrink=shrink_factor(correction, truth - smooth, observed, plan.horizon))
    if choice.shrink == 0:
        return None, None, None
    return choice, choice.path(moments, plan), moments.first(choice.features)


def fit_linear(
    history: History, smoothing: Smoothing, plan: Plan, train: Origins, choice: LinearChoice | None
) -> tuple[LinearPath | None, Moments | None]:
    """The linear path as chosen, fitted on other rows, and the sums that it comes from."""
    if choice is None:
        return None, None
    moments = _moments(history, smoothing, plan, thinned(train, ORIGINS), choice.upto)
    return choice.path(moments, plan), moments


def out_of_fold(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Origins,
    choice: LinearChoice,
    whole: Moments,
) -> Callable[[Origins], Array]:
    """The linear path at training origins, fitted without their own quarter of time.

    A path fitted with its own rows leaves residuals that are smaller than those of new rows: a network that
    learned from them would learn what the path has overfitted (stacking, Wolpert 1992).

    Args:
        whole: the sums of all training origins.

    Returns:
        A function of origins, (B,) to (B, K) in the model's unit.
    """
    edges = np.quantile(train.row, np.linspace(0, 1, FOLDS + 1)[1:-1])
    fitted = thinned(train, ORIGINS)
    fold = np.searchsorted(edges, fitted.row)
    paths = []
    for k in range(FOLDS):
        part = _moments(history, smoothing, plan, fitted[fold == k], choice.upto)
        paths.append(choice.path(whole - part, plan))

    def base(origins: Origins) -> Array:
        out = np.empty((len(origins), plan.horizon))
        fold = np.searchsorted(edges, origins.row)
        for b in range(0, len(origins), BLOCK):
            rows = np.arange(b, min(b + BLOCK, len(origins)))
            for k in np.unique(fold[rows]):
                some = rows[fold[rows] == k]
                context = history.context(origins[some], plan.lookback, smoothing.memory)
                smooth = smoothed(smoothing, context.window, context.errors, plan.horizon)
                out[some] = linear_path(paths[k], context, smooth, plan.frequency, plan.season)
        return out

    return base


def shrink_factor(forecast: Array, rest: Array, observed: Array, horizon: int) -> float:
    """What to multiply a correction with so that noise in the held-out rows cannot make it a loss.

        s = Σ f r / Σ f²        clip(s - SE(s), 0, 1)        SE by a jackknife over blocks of origins

    Args:
        forecast: (B, K) f, the correction.
        rest: (B, K) r, what it should have been.
        observed: (B, K).
    """
    f, r = np.where(observed, forecast, 0), np.where(observed, rest, 0)
    blocks = max(2, min(20, len(f) // max(1, horizon // 2)))
    fr = np.array([part.sum() for part in np.array_split((f * r).sum(1), blocks)])
    ff = np.array([part.sum() for part in np.array_split((f * f).sum(1), blocks)])
    if ff.sum() == 0:
        return 0.0
    s = fr.sum() / ff.sum()
    without = (fr.sum() - fr) / np.maximum(ff.sum() - ff, 1e-300)
    error = np.sqrt((blocks - 1) / blocks * ((without - without.mean()) ** 2).sum())
    return float(np.clip(s - error, 0, 1))


def _blocks(history: History, smoothing: Smoothing, plan: Plan, origins: Origins, upto: int) -> Iterator[Any]:
    """Blocks of features (B, F), smoothing and truth around the level in units of the scale (B, K), where the
    truth was observed (B, K), and phases (B,)."""
    for b in range(0, len(origins), BLOCK):
        some = origins[slice(b, b + BLOCK)]
        context = history.context(some, plan.lookback, smoothing.memory)
        _, level = normalise(context, plan.season)
        scale = context.scale[:, None]
        truth, observed = history.targets(some, plan.horizon)
        smooth = smoothed(smoothing, context.window, context.errors, plan.horizon)
        F = linear_features(context, plan.frequency, plan.season, upto)
        which = phase(plan.frequency, plan.season, context.next)
        yield F, (smooth - level) / scale, (truth - level) / scale, observed, which


def _moments(history: History, smoothing: Smoothing, plan: Plan, train: Origins, upto: int) -> Moments:
    """The sums that ridge needs. A missing target counts as what the smoothing says."""
    counts = sizes(plan.frequency, plan.season, plan.lookback)
    F, P = counts[upto], phases(plan.frequency, plan.season) if counts[-1] <= PHASED_FEATURES else 1
    moments = Moments.zero(P, F, plan.horizon)
    for features, smooth, truth, observed, which in _blocks(history, smoothing, plan, train, upto):
        truth = np.where(observed, truth, smooth)
        moments.add(features, truth, smooth, which if P > 1 else np.zeros_like(which))
    return moments
