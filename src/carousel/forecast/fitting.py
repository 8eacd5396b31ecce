"""From a panel to a learned value, in two rounds.

Round one fits on the rows before the cut; the held-out rows choose penalties, epochs and how much of each
path is kept, calibrate the intervals and score model and baselines. Round two fits what was chosen again on
all rows, for the latest rows are the ones that matter most to a forecast; nothing is chosen any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from carousel.forecast.backtest import forecasts_with_crps
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.closed_form import choose_linear, fit_linear, fit_smoothing, out_of_fold
from carousel.forecast.plan import Plan, plan
from carousel.forecast.recurrent_fit import Job, fit_plain, fit_segments
from carousel.forecast.scores import Scores, score
from carousel.forecast.session import Session
from carousel.forecast.settings import Settings
from carousel.forecast.split import Split, every_origin, split, thinned
from carousel.forecast.training import Run
from carousel.forecast.verdict import is_shifted
from carousel.network.forecaster import (
    Calibration,
    Columns,
    ForecastModel,
    LinearPath,
    PlainPath,
    RecurrentPath,
    Scaling,
    Smoothing,
    Tail,
)
from carousel.series.conformal import error_paths, independent_counts, scores_table
from carousel.series.history import History, Origins, in_model_unit, normalise, own_scale
from carousel.series.panel import Panel
from carousel.stream.forecaster import ForecasterModel

__all__ = ["Fitted", "fit"]

Array = np.ndarray[Any, Any]

JUDGED = 5000  # held-out origins that calibrate and score


@dataclass(frozen=True)
class Fitted:
    """All that a fit leaves behind."""

    model: ForecastModel
    plan: Plan
    history: tuple[dict[str, float], ...]
    scores: dict[str, Scores]
    shifted: int
    interrupted: bool


@dataclass(frozen=True)
class _Parts:
    scaling: Scaling
    smoothing: Smoothing | None = None
    linear: LinearPath | None = None
    recurrent: RecurrentPath | None = None
    plain: PlainPath | None = None


def fit(panel: Panel, columns: Columns, settings: Settings, session: Session) -> Fitted:
    """Fits a forecaster; Ctrl-C during training keeps the best so far and is told by `interrupted`.

    Raises:
        DataError: too few rows for the horizon.
    """
    shape = plan(
        panel, settings.horizon, settings.season, settings.lookback, settings.architecture == "plain"
    )
    parts = split(panel, settings.horizon, shape.lookback)
    work = _Work(panel, shape, settings, parts, session, columns)
    first, again = work.plain() if settings.architecture == "plain" else work.auto()
    notes = work.notes(first)
    judged = work.judge(first)
    session.second_round()
    try:
        last = None if first.run.interrupted else again()
    except KeyboardInterrupt:
        last = None
    interrupted = last is None or last.run.interrupted
    whole = last is not None and not interrupted and not (last.run.spent and session.late())
    kept = last if last is not None and whole else first
    end = "fitted again on all rows as chosen" if whole else "stopped: fitted without the held-out rows"
    # The errors are those of round one, but in units of the scale that the model keeps.
    calibration = judged.calibration(kept.parts.scaling.scale)
    model = work.model(kept, calibration, (*notes, end))
    return Fitted(model, shape, tuple(first.run.history), judged.scores, judged.shifted, interrupted)


@dataclass(frozen=True)
class _Round:
    """A history in the unit that was learned, what was learned on it, and the training."""

    history: History
    parts: _Parts
    run: Run


@dataclass(frozen=True)
class _Judged:
    """What held-out origins say.

    Args:
        errors: (B, K) of the forecasts, in the model's unit.
        observed: (B, K) where the truth is known.
        origins: (B,).
        scores: of the model and the baselines.
        shifted: see `is_shifted`.
    """

    errors: Array
    observed: Array
    origins: Origins
    scores: dict[str, Scores]
    shifted: int

    def calibration(self, scale: Array) -> Calibration:
        """The errors in units of a scale (S,) per series."""
        return _calibration(self.errors, self.observed, self.origins, scale)


def _calibration(errors: Array, observed: Array, origins: Origins, scale: Array) -> Calibration:
    rest = errors / scale[origins.series][:, None]
    follows = (np.diff(origins.row, prepend=-2) == 1) & (np.diff(origins.series, prepend=-1) == 0)
    counts = independent_counts(rest, observed, follows)
    return Calibration(scores_table(rest, observed), counts, error_paths(rest, observed))


@dataclass(frozen=True)
class _Work:
    panel: Panel
    plan: Plan
    settings: Settings
    split: Split
    session: Session
    columns: Columns

    def auto(self) -> tuple[_Round, Callable[[], _Round]]:
        """Round one of smoothing, linear and recurrent path; and a function that does round two."""
        plan, split = self.plan, self.split
        scaling, smoothing = fit_smoothing(self.panel.head(split.cut), plan)
        history = self._history(scaling, smoothing)
        parts, choice, recurrent, run = _Parts(scaling, smoothing), None, None, Run(interrupted=True)
        try:
            choice, linear, sums = choose_linear(history, smoothing, plan, split.train, split.choose)
            parts, unseen = replace(parts, linear=linear), None
            if choice is not None and sums is not None:
                unseen = out_of_fold(history, smoothing, plan, split.train, choice, sums)
            job = self._job(history, parts, split.train, split.choose, self.settings.epochs, unseen)
            recurrent, run = fit_segments(job)
        except KeyboardInterrupt:
            pass  # what was learned until now is a forecaster

        def again() -> _Round:
            every = self._every_origin()
            scaling_, smoothing = fit_smoothing(self.panel, plan, scaling.log)
            history = self._history(scaling_, smoothing)
            linear, sums = fit_linear(history, smoothing, plan, every, choice)
            parts = _Parts(scaling_, smoothing, linear)
            if recurrent is None:
                return _Round(history, parts, Run())
            unseen = None
            if choice is not None and sums is not None:
                unseen = out_of_fold(history, smoothing, plan, every, choice, sums)
            path, second = fit_segments(self._job(history, parts, every, every[:0], run.best_epoch, unseen))
            path = None if path is None else replace(path, shrink=recurrent.shrink)
            return _Round(history, replace(parts, recurrent=path), second)

        return _Round(history, replace(parts, recurrent=recurrent), run), again

    def plain(self) -> tuple[_Round, Callable[[], _Round]]:
        """Round one of the tutorials' network; and a function that does round two."""
        split = self.split
        scaling = _unit(self.panel.head(split.cut), self.plan)
        history = self._history(scaling, None)
        job = self._job(history, _Parts(scaling), split.train, split.choose, self.settings.epochs)
        path, run = fit_plain(job)

        def again() -> _Round:
            scaling, every = _unit(self.panel, self.plan), self._every_origin()
            history = self._history(scaling, None)
            job = self._job(history, _Parts(scaling), every, every[:0], max(1, run.best_epoch))
            path, second = fit_plain(job)
            return _Round(history, _Parts(scaling, plain=path), second)

        return _Round(history, _Parts(scaling, plain=path), run), again

    def _history(self, scaling: Scaling, smoothing: Smoothing | None) -> History:
        return History.of(self.panel, self.plan.season, scaling, smoothing, self.panel.ids)

    def _every_origin(self) -> Origins:
        lengths = self.panel.lengths
        first = np.minimum(self.plan.lookback, np.maximum(lengths // 3, 1))
        return every_origin(first, lengths - self.plan.horizon + 1)

    def _job(
        self,
        history: History,
        parts: _Parts,
        train: Origins,
        choose: Origins,
        epochs: int,
        unseen: Callable[[Origins], Array] | None = None,
    ) -> Job:
        base = self._level(history)
        if parts.smoothing is not None:
            runner = ForecasterModel(self.model(_Round(history, parts, Run()), self._uncalibrated(), ()))
            base = partial(runner.points, history)
        return Job(
            history, self.plan, self.settings, base, unseen or base, train, choose, epochs, self.session
        )

    def _level(self, history: History) -> Callable[[Origins], Array]:
        """What the plain network starts from: the level of the last season."""

        def base(origins: Origins) -> Array:
            _, level = normalise(history.context(origins, self.plan.lookback, 0), self.plan.season)
            return np.repeat(level, self.plan.horizon, 1)

        return base

    def judge(self, fitted: _Round) -> _Judged:
        """The held-out origins: errors for the intervals, scores of model and baselines, a shift."""
        plan, history = self.plan, fitted.history
        origins = thinned(self.split.judge, JUDGED)
        truth, observed = history.targets(origins, plan.horizon)
        if not observed.any():
            # All held-out rows are missing: training origins are better than no intervals at all.
            origins = thinned(self.split.train, JUDGED)
            truth, observed = history.targets(origins, plan.horizon)
        runner = ForecasterModel(self.model(fitted, self._uncalibrated(), ()))
        errors = truth - runner.points(history, origins)
        calibration = _calibration(errors, observed, origins, history.scale)

        runner = ForecasterModel(self.model(fitted, calibration, ()))
        back = np.exp if fitted.parts.scaling.log else np.asarray
        known = np.where(observed, back(truth), np.nan)
        forecast, losses = forecasts_with_crps(runner, history, origins, known)
        unit = seasonal_unit(self.panel, plan.season, self.split.cut)[origins.series]
        scores = {"carousel": score(known, forecast.mean, unit, forecast.intervals(), losses)}
        others = baselines(self.panel, plan, self.split.train, origins)
        scores |= {name: score(known, f, unit) for name, f in others.items()}
        window = back(history.context(origins, plan.lookback, 0).window)
        shifted = is_shifted(forecast.mean[:, 0], known[:, 0], window)
        return _Judged(errors, observed, origins, scores, shifted)

    def model(self, fitted: _Round, calibration: Calibration, notes: tuple[str, ...]) -> ForecastModel:
        """The learned value of a round."""
        plan, history, parts = self.plan, fitted.history, fitted.parts
        memory = 0 if parts.smoothing is None else parts.smoothing.memory
        end = history.context(history.ends(), plan.lookback, memory)
        lengths = self.panel.lengths
        rows = lengths if (lengths < max(memory, plan.season)).any() else None
        return ForecastModel(
            horizon=plan.horizon,
            frequency=str(plan.frequency),
            season=plan.season,
            seasons=plan.seasons,
            lookback=plan.lookback,
            level=self.settings.level,
            columns=self.columns,
            ids=self.panel.ids,
            scaling=parts.scaling,
            smoothing=parts.smoothing,
            linear=parts.linear,
            recurrent=parts.recurrent,
            plain=parts.plain,
            calibration=calibration,
            tail=Tail(end.window, end.errors, end.next, rows),
            notes=notes,
        )

    def notes(self, first: _Round) -> tuple[str, ...]:
        """What was found and decided, in sentences."""
        plan, lengths, parts = self.plan, self.panel.lengths, first.parts
        held = int((lengths - self.split.cut).sum())
        season = f"season {', '.join(map(str, plan.seasons))}" if plan.season > 1 else "no season"
        notes = [
            f"{lengths.sum()} rows in {len(lengths)} series; frequency {plan.frequency}, {season}, "
            f"look-back {plan.lookback}, horizon {plan.horizon}",
            f"the last {held} rows were held out to choose, calibrate and score",
        ]
        if self.split.choose is self.split.judge:
            notes.append("few held-out rows: the same ones chose and scored, which flatters a little")
        missing = int(np.isnan(self.panel.values).sum())
        if missing:
            notes.append(f"{missing} missing values: filled from the past as input, left out of errors")
        if parts.smoothing is not None:
            notes.append("unit: logarithm" if parts.scaling.log else "unit: as given, no logarithm")
            none = "no gain on the held-out rows, left out"
            line = "" if parts.linear is None else f"on {parts.linear.share:.0%} of the smoothing"
            notes.append(f"linear path: {line or none}")
            path = parts.recurrent
            line = "" if path is None else f"{path.shrink:.0%} kept after {first.run.best_epoch} epochs"
            notes.append(f"recurrent path: {line or none}")
        if first.run.spent:
            epochs = len(first.run.history)
            when = f"in epoch {epochs}" if epochs else "before its first epoch"
            notes.append(f"the budget ended the training {when}; the best until then is kept")
        return tuple(notes)

    def _uncalibrated(self) -> Calibration:
        return Calibration(np.zeros((0, self.plan.horizon)), np.zeros(self.plan.horizon))


def _unit(panel: Panel, plan: Plan) -> Scaling:
    """The user's unit, and the centre and scale of each series."""
    return Scaling(False, *own_scale(panel, in_model_unit(panel, plan.season, False), plan.season))
