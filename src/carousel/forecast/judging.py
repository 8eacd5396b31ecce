"""The held-out origins judge a forecaster: errors for its intervals, its scores beside the baselines', a shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.backtest import forecasts_with_crps
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.plan import Plan
from carousel.forecast.scores import Scores, score
from carousel.forecast.split import Split, thinned
from carousel.forecast.verdict import is_shifted
from carousel.network.forecaster import Calibration, ForecastModel
from carousel.series.conformal import error_paths, independent_counts, scores_table
from carousel.series.history import History, Origins
from carousel.series.panel import Panel
from carousel.series.volatility import exponents, measures, volatility
from carousel.stream.forecaster import ForecasterModel

__all__ = ["JUDGED", "Judged", "judge"]

Array = np.ndarray[Any, Any]

JUDGED = 5000  # held-out origins that calibrate and score
SAMPLED = 200  # held-out origins, at least, of a forecast that is drawn, 200 paths each,
DRAWN = 60_000  # and rows of all of them: 10 s on one core


@dataclass(frozen=True)
class Judged:
    """What held-out origins say.

    Args:
        held: their errors.
        powers: (2,) with which errors grow with the unrest before them; None where they do not.
        scores: of the model and the baselines.
        shifted: see `is_shifted`.
    """

    held: _Errors
    powers: Array | None
    scores: dict[str, Scores]
    shifted: int

    def calibration(self, scale: Array) -> Calibration:
        """The errors in units of a scale (S,) per series."""
        return _calibration(self.held, scale, self.powers)


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

    @property
    def follows(self) -> Array:
        """(B,) whether an origin comes one row after the one before it in the list."""
        row, series = self.origins.row, self.origins.series
        follows: Array = (np.diff(row, prepend=-2) == 1) & (np.diff(series, prepend=-1) == 0)
        return follows


def judge(
    panel: Panel,
    plan: Plan,
    split: Split,
    history: History,
    value: ForecastModel,
    unseen: Callable[[Origins], Array] | None,
) -> Judged:
    """What the held-out origins say of a model.

    Args:
        history: of the rows of `panel`, in the unit that was learned.
        unseen: forecasts (B, K) of training origins by paths that have not seen them.
    """
    runner, K = ForecasterModel(value), plan.horizon
    most = JUDGED if value.deepar is None else max(SAMPLED, DRAWN // K)
    origins = thinned(split.judge, most)
    if not history.targets(origins, K)[1].any():
        # All held-out rows are missing: training origins are better than no intervals at all.
        origins = thinned(split.train, most)
    points = runner.points(history, origins)
    held = _errors(history, plan, origins, points)
    powers = _powers(history, plan, split, held, unseen)

    runner = ForecasterModel(replace(value, calibration=_calibration(held, history.scale, powers)))
    known = np.where(held.observed, history.given(origins, K), np.nan)
    forecast, losses = forecasts_with_crps(runner, history, origins, known, points)
    unit = seasonal_unit(panel, plan.season, split.cut)[origins.series]
    scores = {"carousel": score(known, forecast.mean, unit, forecast.intervals(), losses)}
    others = baselines(panel, plan, split.train, origins)
    scores |= {name: score(known, f, unit) for name, f in others.items()}
    window = runner.user_window(history.context(origins, plan.lookback, 0))
    return Judged(held, powers, scores, is_shifted(forecast.mean[:, 0], known[:, 0], window))


def _errors(history: History, plan: Plan, origins: Origins, forecasts: Array) -> _Errors:
    truth, observed = history.targets(origins, plan.horizon)
    window = history.context(origins, plan.lookback, 0).window
    return _Errors(origins, truth - forecasts, observed, measures(window, plan.season))


def _calibration(held: _Errors, scale: Array, powers: Array | None) -> Calibration:
    unit = scale[held.origins.series]
    rest = held.errors / (unit * volatility(held.unrest, unit, powers))[:, None]
    counts = independent_counts(rest, held.observed, held.follows)
    return Calibration(scores_table(rest, held.observed), counts, error_paths(rest, held.observed), powers)


def _powers(
    history: History,
    plan: Plan,
    split: Split,
    held: _Errors,
    unseen: Callable[[Origins], Array] | None,
) -> Array | None:
    """With which powers errors grow with the unrest before them, in all that was forecast and not fitted.

    Where the paths of a quarter have forecast the others, there are many more weeks than the held-out ones; how
    independent their errors are is taken from these.
    """
    units = history.scale[held.origins.series]
    counts = independent_counts(held.errors / units[:, None], held.observed, held.follows)
    parts = [held]
    if unseen is not None and len(split.train):
        train = thinned(split.train, JUDGED)
        parts.append(_errors(history, plan, train, unseen(train)))
        counts = counts * (1 + len(split.train) / max(len(split.judge), 1))
    scale = np.concatenate([history.scale[part.origins.series] for part in parts])
    return exponents(
        np.concatenate([part.errors for part in parts]) / scale[:, None],
        np.concatenate([part.observed for part in parts]),
        np.concatenate([part.unrest for part in parts]),
        scale,
        counts,
    )
