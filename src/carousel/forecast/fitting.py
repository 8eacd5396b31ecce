"""From a panel to a learned value, in two rounds.

Round one fits on the rows before the cut; the held-out rows choose penalties, epochs and how much of each
path is kept, calibrate the intervals and score model and baselines. Round two fits what was chosen again on
all rows, for the latest rows are the ones that matter most to a forecast; nothing is chosen any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.closed_form import choose_linear, fit_linear, fit_smoothing, out_of_fold
from carousel.forecast.plan import Plan, plan
from carousel.forecast.recurrent_fit import Job, fit_plain, fit_segments
from carousel.forecast.scores import Scores, score
from carousel.forecast.settings import Settings
from carousel.forecast.split import Split, every_origin, split, thinned
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
from carousel.series.conformal import scores_table
from carousel.series.history import History, Origins, in_model_unit, normalise, own_scale
from carousel.series.panel import Panel
from carousel.stream.forecaster import ForecasterModel

__all__ = ["Fitted", "fit"]

Array = np.ndarray[Any, Any]
Report = Callable[[dict[str, float]], None]

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


def fit(panel: Panel, columns: Columns, settings: Settings, report: Report) -> Fitted:
    """Fits a forecaster; Ctrl-C during training keeps the best so far and is told by `interrupted`.

    Raises:
        DataError: too few rows for the horizon.
    """
    shape = plan(
        panel, settings.horizon, settings.season, settings.lookback, settings.architecture == "plain"
    )
    parts = split(panel, settings.horizon, shape.lookback)
    work = _Work(panel, shape, settings, parts, report, columns)
    return work.plain() if settings.architecture == "plain" else work.auto()


@dataclass(frozen=True)
class _Work:
    panel: Panel
    plan: Plan
    settings: Settings
    split: Split
    report: Report
    columns: Columns

    def auto(self) -> Fitted:
        shape, cut = self.plan, self.split
        scaling, smoothing = fit_smoothing(self.panel.head(cut.cut), shape)
        history = self._history(scaling, smoothing)
        choice, linear = choose_linear(history, smoothing, shape, cut.train, cut.choose)
        parts = _Parts(scaling, smoothing, linear)
        unseen = None
        if choice is not None and smoothing is not None:
            unseen = out_of_fold(history, smoothing, shape, cut.train, choice)
        job = self._job(history, parts, cut.train, cut.choose, self.settings.epochs, unseen)
        recurrent, run = fit_segments(job)
        parts = replace(parts, recurrent=recurrent)
        notes = self._notes(parts, run.best_epoch)
        calibration, scores, shifted = self._judge(history, parts, notes)

        interrupted = run.interrupted
        if not interrupted:
            everything = self._all_origins()
            scaling, smoothing = fit_smoothing(self.panel, shape, scaling.log)
            history = self._history(scaling, smoothing)
            final = _Parts(scaling, smoothing, fit_linear(history, smoothing, shape, everything, choice))
            if recurrent is not None:
                if choice is not None:
                    unseen = out_of_fold(history, smoothing, shape, everything, choice)
                job = self._job(history, final, everything, everything[:0], run.best_epoch, unseen)
                again, second = fit_segments(job)
                interrupted = second.interrupted
                if again is not None:
                    final = replace(final, recurrent=replace(again, shrink=recurrent.shrink))
            if not interrupted:
                parts = final
        model = self._model(parts, calibration, notes)
        return Fitted(model, shape, tuple(run.history), scores, shifted, interrupted)

    def plain(self) -> Fitted:
        cut = self.split
        history = self._history(_unit(self.panel.head(cut.cut), self.plan), None)
        parts = _Parts(Scaling(False, history.center, history.scale))
        path, run = fit_plain(self._job(history, parts, cut.train, cut.choose, self.settings.epochs))
        parts = replace(parts, plain=path)
        notes = self._notes(parts, run.best_epoch)
        calibration, scores, shifted = self._judge(history, parts, notes)

        interrupted = run.interrupted
        if not interrupted:
            scaling = _unit(self.panel, self.plan)
            everything = self._all_origins()
            job = self._job(
                self._history(scaling, None), _Parts(scaling), everything, everything[:0], run.best_epoch
            )
            path, second = fit_plain(job)
            interrupted = second.interrupted
            if not interrupted:
                parts = _Parts(scaling, plain=path)
        model = self._model(parts, calibration, notes)
        return Fitted(model, self.plan, tuple(run.history), scores, shifted, interrupted)

    def _history(self, scaling: Scaling, smoothing: Smoothing | None) -> History:
        return History.of(self.panel, self.plan.season, scaling, smoothing, self.panel.ids)

    def _all_origins(self) -> Origins:
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
        if parts.smoothing is None:

            def base(origins: Origins) -> Array:
                context = history.context(origins, self.plan.lookback, 0)
                return np.repeat(normalise(context, self.plan.season)[1], self.plan.horizon, 1)
        else:
            runner = ForecasterModel(self._model(parts, _uncalibrated(self.plan.horizon), ()))

            def base(origins: Origins) -> Array:
                return runner.points(history, origins)

        return Job(
            history, self.plan, self.settings, base, unseen or base, train, choose, epochs, self.report
        )

    def _judge(
        self, history: History, parts: _Parts, notes: tuple[str, ...]
    ) -> tuple[Calibration, dict[str, Scores], int]:
        """From the held-out origins: intervals, scores of model and baselines, and a shift (`is_shifted`)."""
        origins = thinned(self.split.judge, JUDGED)
        runner = ForecasterModel(self._model(parts, _uncalibrated(self.plan.horizon), notes))
        truth, observed = history.targets(origins, self.plan.horizon)
        rest = (truth - runner.points(history, origins)) / history.scale[origins.series][:, None]
        calibration = Calibration(scores_table(rest, observed))
        runner = ForecasterModel(self._model(parts, calibration, notes))
        forecast = runner.forecasts(history, origins)
        known = np.where(observed, np.exp(truth) if parts.scaling.log else truth, np.nan)
        unit = seasonal_unit(self.panel, self.plan.season, self.split.cut)[origins.series]
        others = baselines(self.panel, self.plan, self.split.train, origins)
        scores = {"carousel": score(known, forecast.mean, unit, forecast.intervals())}
        scores |= {name: score(known, f, unit) for name, f in others.items()}
        window = history.context(origins, self.plan.lookback, 0).window
        window = np.exp(window) if parts.scaling.log else window
        return calibration, scores, is_shifted(forecast.mean[:, 0], known[:, 0], window)

    def _model(self, parts: _Parts, calibration: Calibration, notes: tuple[str, ...]) -> ForecastModel:
        shape = self.plan
        history = self._history(parts.scaling, parts.smoothing)
        memory = 0 if parts.smoothing is None else parts.smoothing.memory
        end = history.context(history.ends(), shape.lookback, memory)
        return ForecastModel(
            horizon=shape.horizon,
            frequency=str(shape.frequency),
            season=shape.season,
            seasons=shape.seasons,
            lookback=shape.lookback,
            level=self.settings.level,
            columns=self.columns,
            ids=self.panel.ids,
            scaling=parts.scaling,
            smoothing=parts.smoothing,
            linear=parts.linear,
            recurrent=parts.recurrent,
            plain=parts.plain,
            calibration=calibration,
            tail=Tail(end.window, end.errors, end.next),
            notes=notes,
        )

    def _notes(self, parts: _Parts, epochs: int) -> tuple[str, ...]:
        shape, lengths, held = self.plan, self.panel.lengths, self.panel.lengths - self.split.cut
        season = f"season {', '.join(map(str, shape.seasons))}" if shape.season > 1 else "no season"
        notes = [
            f"{lengths.sum()} rows in {len(lengths)} series; frequency {shape.frequency}, {season}, "
            f"look-back {shape.lookback}, horizon {shape.horizon}",
            f"the last {held.sum()} rows were held out to choose, calibrate and score",
        ]
        if self.split.choose is self.split.judge:
            notes.append("the held-out rows are few: the same ones chose and scored, which flatters a little")
        missing = int(np.isnan(self.panel.values).sum())
        if missing:
            notes.append(f"{missing} missing values: filled from the past as input, left out of errors")
        if parts.smoothing is not None:
            notes.append("unit: logarithm" if parts.scaling.log else "unit: as given (no logarithm)")
            share = "not used" if parts.linear is None else "used"
            notes.append(f"linear path {share}")
            kept = 0.0 if parts.recurrent is None else parts.recurrent.shrink
            notes.append(
                f"recurrent path: {kept:.0%} kept after {epochs} epochs"
                if kept
                else "recurrent path: no gain on the held-out rows, left out"
            )
        notes.append("fitted again on all rows with what was chosen")
        return tuple(notes)


def _uncalibrated(horizon: int) -> Calibration:
    return Calibration(np.zeros((0, horizon)))


def _unit(panel: Panel, plan: Plan) -> Scaling:
    """The user's unit, and the centre and scale of each series."""
    return Scaling(False, *own_scale(panel, in_model_unit(panel, plan.season, False), plan.season))
