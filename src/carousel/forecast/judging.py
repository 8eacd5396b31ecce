"""What was forecast and not fitted judges a forecaster: its intervals, its scores beside the baselines', a shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.backtest import forecasts_with_crps
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.by_series import own_widths
from carousel.forecast.plan import Plan
from carousel.forecast.scores import Scores, score
from carousel.forecast.split import Split, thinned
from carousel.forecast.verdict import is_shifted
from carousel.network.forecaster import Calibration, ForecastModel
from carousel.series.conformal import are_skewed, error_paths, independent_counts, scores_table
from carousel.series.history import History, Origins
from carousel.series.panel import Panel
from carousel.series.volatility import exponents, measures, volatility
from carousel.stream.forecaster import ForecasterModel

__all__ = ["JUDGED", "Judged", "judge"]

Array = np.ndarray[Any, Any]
Forecasts = Callable[[Origins], Array]
"""Point forecasts (B, K) of B origins, in the model's unit."""

JUDGED = 5000  # held-out origins that score, and origins that calibrate
SAMPLED = 200  # held-out origins, at least, of a forecast that is drawn, 200 paths each,
DRAWN = 60_000  # and rows of all of them: 10 s on one core


@dataclass(frozen=True)
class Judged:
    """What was found.

    Args:
        scores: of the model and the baselines, on held-out origins.
        shifted: see `is_shifted`.
    """

    unfitted: _Unfitted
    scores: dict[str, Scores]
    shifted: int

    def calibration(self, scale: Array) -> Calibration:
        """The errors in units of a scale (S,) per series."""
        return self.unfitted.calibration(scale)


@dataclass(frozen=True)
class _Errors:
    """Of B forecasts, in the model's unit.

    Args:
        origins: (B,).
        errors: (B, K).
        observed: (B, K) where the truth is known.
        unrest: (B, 2) `measures` of the rows before them.
    """

    origins: Origins
    errors: Array
    observed: Array
    unrest: Array

    def __len__(self) -> int:
        return len(self.origins)

    def unit(self, scale: Array) -> Array:
        """(B,) what `scale`, (S,) or longer, says of their series."""
        of_origins: Array = scale[self.origins.series]
        return of_origins

    def rest(self, scale: Array, powers: Array | None) -> Array:
        """(B, K) the errors in units of the scale, and of the unrest before them."""
        unit = self.unit(scale)
        rest: Array = self.errors / (unit * volatility(self.unrest, unit, powers))[:, None]
        return rest

    def counts(self, rest: Array) -> Array:
        """(K,) how many independent errors they are worth, who are one row apart."""
        row, series = self.origins.row, self.origins.series
        follows = (np.diff(row, prepend=-2) == 1) & (np.diff(series, prepend=-1) == 0)
        return independent_counts(rest, self.observed, follows)

    def some(self, count: int) -> _Errors:
        """So many of them, evenly spaced."""
        kept = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return _Errors(self.origins[kept], self.errors[kept], self.observed[kept], self.unrest[kept])

    def joined(self, other: _Errors) -> _Errors:
        s, t = self.origins, other.origins
        return _Errors(
            Origins(np.concatenate([s.series, t.series]), np.concatenate([s.row, t.row])),
            np.concatenate([self.errors, other.errors]),
            np.concatenate([self.observed, other.observed]),
            np.concatenate([self.unrest, other.unrest]),
        )


@dataclass(frozen=True)
class _Unfitted:
    """The errors of all that was forecast and not fitted.

    Args:
        held: on held-out origins.
        every: on origins of all weeks, held-out ones among them as often as they are among the weeks.
        times: how many times as many weeks as the held-out ones those are.
        powers: (2,) with which errors grow with the unrest before them; None where they do not.
    """

    held: _Errors
    every: _Errors
    times: float
    powers: Array | None

    def calibration(self, scale: Array) -> Calibration:
        held, every = self.held.rest(scale, self.powers), self.every.rest(scale, self.powers)
        own = own_widths(every, self.every.observed, self.every.origins, len(scale))
        if own is not None:
            held, every = held / self.held.unit(own)[:, None], every / self.every.unit(own)[:, None]
        counts = self.times * self.held.counts(held)
        sided = are_skewed(every, self.every.observed, counts)
        return Calibration(
            scores_table(every, self.every.observed, sided),
            counts,
            error_paths(held, self.held.observed),
            self.powers,
            sided,
            own,
        )


def judge(
    panel: Panel,
    plan: Plan,
    split: Split,
    history: History,
    value: ForecastModel,
    unseen: Forecasts | None,
) -> Judged:
    """What the rows that were not fitted say of a model.

    Args:
        history: of the rows of `panel`, in the unit that was learned.
        unseen: forecasts of training origins by linear paths that have not seen them, where there are some.
    """
    runner, K = ForecasterModel(value), plan.horizon
    most = JUDGED if value.deepar is None else max(SAMPLED, DRAWN // K)
    origins = thinned(split.judge, most)
    if not history.targets(origins, K)[1].any():
        # All held-out rows are missing: training origins are better than no intervals at all.
        origins = thinned(split.train, most)
    points = runner.points(history, origins)
    unfitted = _unfitted(plan, split, history, value, _errors(history, plan, origins, points), unseen)

    runner = ForecasterModel(replace(value, calibration=unfitted.calibration(history.scale)))
    known = np.where(unfitted.held.observed, history.given(origins, K), np.nan)
    forecast, losses = forecasts_with_crps(runner, history, origins, known, points)
    unit = seasonal_unit(panel, plan.season, split.cut)[origins.series]
    scores = {"carousel": score(known, forecast.mean, unit, forecast.intervals(), losses)}
    others = baselines(panel, plan, split.train, origins)
    scores |= {name: score(known, f, unit) for name, f in others.items()}
    window = runner.user_window(history.context(origins, plan.lookback, 0))
    return Judged(unfitted, scores, is_shifted(forecast.mean[:, 0], known[:, 0], window))


def _errors(history: History, plan: Plan, origins: Origins, forecasts: Array) -> _Errors:
    truth, observed = history.targets(origins, plan.horizon)
    window = history.context(origins, plan.lookback, 0).window
    return _Errors(origins, truth - forecasts, observed, measures(window, plan.season))


def _unfitted(
    plan: Plan, split: Split, history: History, value: ForecastModel, held: _Errors, unseen: Forecasts | None
) -> _Unfitted:
    """Held-out errors, and those of training origins by paths fitted on other quarters, of many more weeks.

    Source: Barber, Candès, Ramdas and Tibshirani 2021 (CV+), with quarters of time as folds. What the linear path
    alone has forecast there is scaled by what the whole model makes better on held-out rows.
    """
    every, times = held, 1.0
    if unseen is not None and len(split.train) and len(split.judge):
        train = thinned(split.train, JUDGED)
        of_training = _errors(history, plan, train, unseen(train))
        better = _better(history, value, held)
        of_training = replace(of_training, errors=better * of_training.errors)
        times = 1 + len(split.train) / len(split.judge)
        every = held.some(max(1, round(len(of_training) / (times - 1)))).joined(of_training)
    rest = every.rest(history.scale, None)
    counts = times * held.counts(held.rest(history.scale, None))
    powers = exponents(rest, every.observed, every.unrest, every.unit(history.scale), counts)
    return _Unfitted(held, every, times, powers)


def _better(history: History, value: ForecastModel, held: _Errors) -> float:
    """The errors of the whole model, as a share of those of its linear path."""
    paths = value.covariates
    corrected = paths is not None and paths.path is not None
    if value.recurrent is None and not corrected:
        return 1.0
    linear = replace(value, recurrent=None, covariates=None if paths is None else replace(paths, path=None))
    truth, observed = history.targets(held.origins, value.horizon)
    without = truth - ForecasterModel(linear).points(history, held.origins)
    unit = held.unit(history.scale)[:, None]
    whole, alone = (float(np.abs(e / unit)[observed].sum()) for e in (held.errors, without))
    return whole / alone if alone > 0 else 1.0
