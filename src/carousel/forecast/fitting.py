"""From a panel to a learned value, in two rounds.

Round one fits on the rows before the cut; the held-out rows choose penalties, epochs and how much of each
path is kept, and score model and baselines; with what else was forecast and not fitted they calibrate the
intervals. Round two fits what was chosen again on all rows, for the latest rows are the ones that matter most to
a forecast; nothing is chosen any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.forecast.closed_form import (
    LinearChoice,
    choose_linear,
    fit_linear,
    out_of_fold,
)
from carousel.forecast.covariate_fit import (
    EFFECT_PENALTIES,
    CorrectionChoice,
    EffectChoice,
    choose_correction,
    choose_effect,
    fit_correction,
    fit_effect,
    learned,
    needed,
)
from carousel.forecast.dates import moment
from carousel.forecast.gaps import missing_places, observed_ends
from carousel.forecast.judging import JUDGED, judge
from carousel.forecast.linear_share import choose_share, own_share
from carousel.forecast.memory import give_back
from carousel.forecast.notes import of_intervals, of_sums, sentences
from carousel.forecast.plan import Plan, plan
from carousel.forecast.quarters import Quarter
from carousel.forecast.recurrent_fit import Job, fit_deepar, fit_plain, fit_segments
from carousel.forecast.scores import Scores
from carousel.forecast.session import Session
from carousel.forecast.settings import Settings
from carousel.forecast.smoothing_fit import fit_smoothing
from carousel.forecast.split import Spans, Split, split, thinned
from carousel.forecast.training import Run
from carousel.forecast.units import Tried, choose_unit, is_bounded, try_units
from carousel.network.forecaster import (
    Calibration,
    Columns,
    Covariate,
    CovariatePaths,
    DeepARPath,
    ForecastModel,
    LinearPath,
    PlainPath,
    RecurrentPath,
    Scaling,
    Smoothing,
    Tail,
    Unit,
)
from carousel.series.covariates import Seen, correction, encoded
from carousel.series.history import History, Origins, in_model_unit, normalise, own_scale, without_effect
from carousel.series.panel import Panel
from carousel.stream.forecaster import ForecasterModel

__all__ = ["Fitted", "fit"]

Array = np.ndarray[Any, Any]

YEARS = 2  # that training rows must span for features of the time of the year
WORTH = 0.99  # of the squared error, below which the effect of covariates is worth having
BLOCK = 4096


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
    deepar: DeepARPath | None = None
    covariates: CovariatePaths | None = None


@dataclass(frozen=True)
class Exogenous:
    """The covariates of a panel: their columns, not yet measured, and the country of `holiday`, if it is one."""

    columns: tuple[Covariate, ...] = ()
    holidays: str | None = None


def fit(
    panel: Panel, columns: Columns, settings: Settings, session: Session, exogenous: Exogenous = Exogenous()
) -> Fitted:
    """Fits a forecaster; Ctrl-C during training keeps the best so far and is told by `interrupted`.

    Raises:
        DataError: too few rows for the horizon.
    """
    _check_nonnegative(panel, settings)
    shape = plan(panel, settings.horizon, settings.season, settings.lookback, settings.architecture != "auto")
    parts = split(panel, settings.horizon, shape.lookback)
    work = _Work(panel, shape, settings, parts, session, columns, exogenous)
    first, again = work.auto() if settings.architecture == "auto" else work.one_network()
    model, run = work.value(first), first.run
    notes = sentences(model, panel, parts, run, settings.nonnegative)
    judged = judge(panel, shape, parts, first.history, model, first.unseen)
    del first  # with its history, which for many rows is most of the memory
    give_back()
    session.second_round()
    try:
        last = None if run.interrupted else again()
    except KeyboardInterrupt:
        last = None
    interrupted = last is None or last.run.interrupted
    if last is not None and not interrupted and not (last.run.spent and session.late()):
        model, end = work.value(last), "fitted again on all rows as chosen"
    else:
        end = "stopped: fitted without the held-out rows"
    # The errors are those of round one, but in units of the scale that the model keeps.
    calibration, covariates = judged.calibration(model.scaling.scale), needed(model.covariates)
    model = replace(model, calibration=calibration, covariates=covariates)
    model = replace(model, notes=(*notes, *of_intervals(calibration), *of_sums(model), end))
    return Fitted(model, shape, tuple(run.history), judged.scores, judged.shifted, interrupted)


def _check_nonnegative(panel: Panel, settings: Settings) -> None:
    below = np.flatnonzero(panel.values < 0)
    if settings.nonnegative and len(below):
        s = int(np.searchsorted(panel.offsets, below[0], side="right")) - 1
        when = moment(panel.times(s)[below[0] - panel.offsets[s]])
        raise DataError(
            f"`nonnegative` is asked for, but series {panel.ids[s]!r} has {panel.values[below[0]]:g} at {when}; "
            "repair the value, or leave the option out."
        )


@dataclass(frozen=True)
class _Round:
    """A history in the unit that was learned, what was learned on it, the training, and `_Base.unseen`."""

    history: History
    parts: _Parts
    run: Run
    unseen: Callable[[Origins], Array] | None = None


@dataclass(frozen=True)
class _Base:
    """All but the recurrent path.

    Args:
        history: in the unit that was learned.
        choice: of the linear path.
        unseen: forecasts (B, K) of training origins by linear paths that have not seen them.
    """

    history: History
    parts: _Parts
    choice: LinearChoice | None = None
    unseen: Callable[[Origins], Array] | None = None

    @property
    def smoothing(self) -> Smoothing:
        assert self.parts.smoothing is not None
        return self.parts.smoothing


@dataclass(frozen=True)
class _Chosen:
    """What round one chose and round two keeps."""

    unit: Unit
    effect: EffectChoice | None = None
    correction: CorrectionChoice | None = None


@dataclass(frozen=True)
class _Work:
    panel: Panel
    plan: Plan
    settings: Settings
    split: Split
    session: Session
    columns: Columns
    exogenous: Exogenous

    def auto(self) -> tuple[_Round, Callable[[], _Round]]:
        """Round one of smoothing, linear and recurrent path; and a function that does round two."""
        split = self.split
        base = self._base(None, choose_unit(self._units))
        history, parts, recurrent, run = base.history, base.parts, None, Run(interrupted=True)
        chosen = _Chosen(base.parts.scaling.unit)
        try:
            base = self._linear(base)
            base, chosen = self._with_effect(base, chosen)
            base, chosen = self._with_correction(base, chosen)
            history, parts = base.history, base.parts
            job = self._job(base, split.train, split.choose, self.settings.epochs)
            recurrent, run, paths = self._best_recurrent(job, parts)
            parts = replace(parts, covariates=paths)
        except KeyboardInterrupt:
            pass  # what was learned until now is a forecaster

        def again() -> _Round:
            every = self._every_origin()
            second = self._again(choice, chosen, every)
            history, parts = second.history, second.parts
            if recurrent is None:
                return _Round(history, parts, Run())
            if parts.covariates is not None and reads:
                parts = replace(parts, covariates=replace(parts.covariates, recurrent=True))
            path, training = fit_segments(
                self._job(replace(second, parts=parts), every, every.none(), run.best_epoch)
            )
            path = None if path is None else replace(path, shrink=recurrent.shrink)
            return _Round(history, replace(parts, recurrent=path), training)

        choice, reads = base.choice, parts.covariates is not None and parts.covariates.recurrent
        return _Round(history, replace(parts, recurrent=recurrent), run, base.unseen), again

    @cached_property
    def _units(self) -> tuple[Tried, ...]:
        bounded = self.settings.nonnegative is not False
        root = bounded and not self.exogenous.columns
        choose = self.settings.architecture == "auto"
        tried = try_units(self._without_guess, self.panel, self.plan, root, log=bounded, choose=choose)
        give_back()
        return tried

    @cached_property
    def _bounded(self) -> bool:
        """Whether forecasts and bounds are cut at 0."""
        asked = self.settings.nonnegative
        return is_bounded(self.panel, self.plan, self._units) if asked is None else asked

    def _base(self, paths: CovariatePaths | None, unit: Unit) -> _Base:
        """Scales and smoothing, fitted on rows before the cut."""
        before = self._adjusted(paths, unit).head(self.split.cut)
        scaling, smoothing = fit_smoothing(before, self.plan, unit)
        return _Base(self._history(scaling, smoothing, paths), _Parts(scaling, smoothing, covariates=paths))

    def _without_guess(self, unit: Unit) -> Panel:
        """Rows before the cut, without a first guess of what future covariates do to them."""
        before = self.panel.head(self.split.cut)
        if not self.exogenous.columns:
            return before
        paths = self._learned(before, unit)
        if before.covariates is None or not paths.of("future"):
            return before
        paths = fit_effect(before, paths, self.plan, unit, EffectChoice(EFFECT_PENALTIES[0], False, 1.0))
        return without_effect(
            before, encoded(paths, before.covariates, before, paths.unit), paths.effect, unit
        )

    def _linear(self, base: _Base) -> _Base:
        """With the linear path that held-out rows choose, and what it forecasts of rows that it has not seen."""
        plan, split = self.plan, self.split
        smoothing = base.smoothing
        choice, linear, quarters = choose_linear(
            base.history, smoothing, plan, split.train, split.choose, self._with_year
        )
        base = replace(base, parts=replace(base.parts, linear=linear), choice=choice)
        base = self._unseen(base, split.train, quarters)
        if choice is not None and base.unseen is not None and len(self.panel) > 1:
            drawn = choose_share(base.history, smoothing, plan, split.train, base.unseen)
            base = replace(base, choice=replace(choice, drawn=drawn))
            base = self._each(base, split.train, quarters)
        del quarters
        give_back()
        return base

    def _unseen(self, base: _Base, train: Spans, quarters: tuple[Quarter, ...]) -> _Base:
        if base.choice is None or base.parts.linear is None:
            return base
        own = base.parts.linear.own
        unseen = out_of_fold(base.history, base.smoothing, self.plan, train, base.choice, quarters, own)
        return replace(base, unseen=unseen)

    def _each(self, base: _Base, train: Spans, quarters: tuple[Quarter, ...]) -> _Base:
        """With what each series keeps of the linear path, if that was chosen."""
        choice, linear = base.choice, base.parts.linear
        if choice is None or choice.drawn is None or linear is None or base.unseen is None:
            return base
        own = own_share(base.history, base.smoothing, self.plan, train, base.unseen, choice.drawn)
        base = replace(base, parts=replace(base.parts, linear=replace(linear, own=own)))
        return self._unseen(base, train, quarters)

    def _with_effect(self, base: _Base, chosen: _Chosen) -> tuple[_Base, _Chosen]:
        """Without the effect of future covariates, if what is left is then forecast better."""
        if not self.exogenous.columns:
            return base, chosen
        unit, split = base.parts.scaling.unit, self.split
        paths = self._learned(self.panel.head(split.cut), unit)
        plain = replace(
            base, history=self._with_paths(base, paths), parts=replace(base.parts, covariates=paths)
        )
        if not paths.of("future"):
            return plain, chosen
        found = choose_effect(self.panel, split.cut, paths, base.parts.scaling, base.smoothing, self.plan)
        if found is None:
            return plain, chosen
        tried = self._linear(self._base(found[1], unit))
        if self._loss(tried) < WORTH * self._loss(plain):
            return tried, replace(chosen, effect=found[0])
        return plain, chosen

    def _with_correction(self, base: _Base, chosen: _Chosen) -> tuple[_Base, _Chosen]:
        """With what past and static covariates add, if held-out rows bear it out."""
        paths, split = base.parts.covariates, self.split
        if paths is None or not (paths.of("past") or paths.of("static")):
            return base, chosen
        points = self._points(base)
        found = choose_correction(
            base.history,
            paths,
            self.plan,
            (split.train, base.unseen or points),
            (thinned(split.choose, JUDGED), points),
        )
        if found is None:
            return base, chosen
        base = replace(base, parts=replace(base.parts, covariates=found[1]))
        return base, replace(chosen, correction=found[0])

    def _again(self, choice: LinearChoice | None, chosen: _Chosen, every: Spans) -> _Base:
        """All but the recurrent path, as chosen, fitted on all rows."""
        paths = None
        if self.exogenous.columns:
            paths = self._learned(self.panel, chosen.unit)
            if chosen.effect is not None:
                paths = fit_effect(self.panel, paths, self.plan, chosen.unit, chosen.effect)
        scaling, smoothing = fit_smoothing(self._adjusted(paths, chosen.unit), self.plan, chosen.unit)
        history = self._history(scaling, smoothing, paths)
        linear, quarters = fit_linear(history, smoothing, self.plan, every, choice)
        second = _Base(history, _Parts(scaling, smoothing, linear, covariates=paths), choice)
        second = self._each(self._unseen(second, every, quarters), every, quarters)
        if paths is not None and chosen.correction is not None:
            train = every, second.unseen or self._points(second)
            paths = fit_correction(history, paths, self.plan, train, chosen.correction)
            second = replace(second, parts=replace(second.parts, covariates=paths))
        return second

    def _best_recurrent(
        self, job: Job, parts: _Parts
    ) -> tuple[RecurrentPath | None, Run, CovariatePaths | None]:
        """The recurrent path, reading covariates if the held-out rows are then forecast better."""
        path, run = fit_segments(job)
        paths = parts.covariates
        if paths is None or run.interrupted or not len(job.choose):
            return path, run, paths
        reading = replace(paths, recurrent=True)
        with_them, second = fit_segments(replace(job, paths=reading))
        if with_them is not None and (path is None or second.least < run.least):
            return with_them, second, reading
        return path, replace(run, interrupted=second.interrupted), paths

    def _learned(self, panel: Panel, unit: Unit) -> CovariatePaths:
        return learned(self.exogenous.columns, self.exogenous.holidays, panel, self.plan, unit)

    def _adjusted(self, paths: CovariatePaths | None, unit: Unit) -> Panel:
        """The panel without the effect of its future covariates."""
        if paths is None or paths.effect is None or self.panel.covariates is None:
            return self.panel
        covariates = encoded(paths, self.panel.covariates, self.panel, paths.unit)
        return without_effect(self.panel, covariates, paths.effect, unit)

    def _with_paths(self, base: _Base, paths: CovariatePaths) -> History:
        """The history of a base, with covariates that take no effect off."""
        assert self.panel.covariates is not None
        covariates = encoded(paths, self.panel.covariates, self.panel, paths.unit)
        return replace(base.history, covariates=covariates, horizon=self.plan.horizon)

    def _points(self, base: _Base) -> Callable[[Origins], Array]:
        """The point forecasts of a base, in the model's unit."""
        fitted = _Round(base.history, base.parts, Run())
        runner = ForecasterModel(self.value(fitted))
        return partial(runner.points, base.history)

    def _loss(self, base: _Base) -> float:
        """Squared error on held-out origins, in units of the series; the effect is on both sides of it."""
        origins = thinned(self.split.choose, JUDGED)
        truth, observed = base.history.targets(origins, self.plan.horizon)
        assert base.parts.covariates is not None
        rest = (truth - self._points(base)(origins)) / base.parts.covariates.unit[origins.series][:, None]
        return float((rest[observed] ** 2).sum())

    def one_network(self) -> tuple[_Round, Callable[[], _Round]]:
        """Round one of a network without other paths; and a function that does round two."""
        split, before = self.split, self.panel.head(self.split.cut)
        first = self._learn(before, split.train, split.choose, self.settings.epochs)

        def again() -> _Round:
            every = self._every_origin()
            return self._learn(self.panel, every, every.none(), max(1, first.run.best_epoch))

        return first, again

    def _learn(self, known: Panel, train: Spans, choose: Spans, epochs: int) -> _Round:
        """A network without other paths.

        Args:
            known: rows that set the unit.
        """
        scaling = _unit(known, self.plan)
        parts = _Parts(scaling)
        history = self._history(scaling, None)
        job = self._job(_Base(history, parts), train, choose, epochs)
        if self.settings.architecture == "deepar":
            path, run = fit_deepar(job, scaling, self._counts)
            return _Round(history, replace(parts, deepar=path), run)
        plain, run = fit_plain(job)
        return _Round(history, replace(parts, plain=plain), run)

    @cached_property
    def _counts(self) -> bool:
        """Whether all values are whole numbers from 0 on."""
        values = self.panel.values[~np.isnan(self.panel.values)]
        return bool(((values >= 0) & (values == np.floor(values))).all())

    def _history(
        self, scaling: Scaling, smoothing: Smoothing | None, paths: CovariatePaths | None = None
    ) -> History:
        season, ids = self.plan.season, self.panel.ids
        return History.of(self.panel, season, scaling, smoothing, ids, paths=paths, horizon=self.plan.horizon)

    def _every_origin(self) -> Spans:
        lengths = self.panel.lengths
        first = np.minimum(self.plan.lookback, np.maximum(lengths // 3, 1))
        return Spans(first, lengths - self.plan.horizon + 1)

    def _job(self, base: _Base, train: Spans, choose: Spans, epochs: int) -> Job:
        points = self._level(base.history) if base.parts.smoothing is None else self._points(base)
        unseen, paths = base.unseen, base.parts.covariates
        if unseen is not None and paths is not None and paths.path is not None:
            unseen = partial(self._corrected, base.history, paths, unseen)
        reading = paths if paths is not None and paths.recurrent else None
        return Job(
            base.history,
            self.plan,
            self.settings,
            points,
            unseen or points,
            train,
            choose,
            epochs,
            self.session,
            self._with_year,
            reading,
            few=self.split.choose is self.split.judge,
        )

    @property
    def _with_year(self) -> bool:
        """What the time of the year does cannot be told from a trend before a second year was seen."""
        return self.panel.years(self.split.cut) >= YEARS

    def _corrected(
        self, history: History, paths: CovariatePaths, base: Callable[[Origins], Array], origins: Origins
    ) -> Array:
        """A base forecast with what past and static covariates add."""
        out = base(origins)
        for b in range(0, len(origins), BLOCK):
            context = history.context(origins[slice(b, b + BLOCK)], self.plan.lookback, 0)
            assert context.covariates is not None
            added = correction(paths, context.covariates, self.plan.lookback)
            out[b : b + BLOCK] += context.scale[:, None] * added
        return out

    def _level(self, history: History) -> Callable[[Origins], Array]:
        """What a network without other paths starts from: the level of the last season."""

        def base(origins: Origins) -> Array:
            _, level = normalise(history.context(origins, self.plan.lookback, 0), self.plan.season)
            return np.repeat(level, self.plan.horizon, 1)

        return base

    def value(self, fitted: _Round) -> ForecastModel:
        """The learned value of a round that nobody has judged yet."""
        plan, history, parts = self.plan, fitted.history, fitted.parts
        memory = 0 if parts.smoothing is None else parts.smoothing.memory
        end = history.context(history.ends(), plan.lookback, memory)
        missing = missing_places(observed_ends(self.panel, plan.lookback))
        lengths = self.panel.lengths
        rows = lengths if end.rows is not None else None
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
            deepar=parts.deepar,
            calibration=Calibration(np.zeros((0, plan.horizon)), np.zeros(plan.horizon)),
            tail=Tail(end.window, end.errors, end.next, rows, missing=missing),
            notes=(),
            covariates=self._covariates(parts.covariates, end.covariates),
            nonnegative=parts.scaling.unit == "identity" and self._bounded,
        )

    def _covariates(self, paths: CovariatePaths | None, end: Seen | None) -> CovariatePaths | None:
        """With the rows that a forecast without new data needs."""
        if paths is None or end is None:
            return None
        return replace(paths, past=end.past, future=end.future[:, : self.plan.lookback])


def _unit(panel: Panel, plan: Plan) -> Scaling:
    """The user's unit, and the centre and scale of each series."""
    x = in_model_unit(panel, plan.of_gaps, "identity")
    return Scaling.of("identity", *own_scale(panel, x, plan.season), plan.carried)
