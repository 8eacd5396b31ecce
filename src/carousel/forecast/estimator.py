"""`Forecaster`: fit, predict, backtest, plot and save, with scikit-learn's manners."""

from __future__ import annotations

import inspect
import os
from dataclasses import asdict, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from carousel import network
from carousel.errors import ArgumentError, NotFittedError, check_choice, check_integer
from carousel.forecast.backtest import Backtest, Schedule, fitted_backtest, parse_start
from carousel.forecast.covariates import Ahead
from carousel.forecast.frames import (
    check_apart,
    forecast_columns,
    kind_of,
    quantile_columns,
    sample_columns,
    to_frame,
)
from carousel.forecast.inputs import continued, read_future, read_rows, with_future
from carousel.forecast.progress import progress_report
from carousel.forecast.read import Reading, Wanted, read_frame
from carousel.forecast.refit import refitted_backtest
from carousel.forecast.scores import Scores
from carousel.forecast.settings import Settings, options_of
from carousel.forecast.verdict import verdict
from carousel.network.forecaster import ForecastModel
from carousel.series.history import Context
from carousel.stream.forecast import check_quantiles
from carousel.stream.forecaster import ForecasterModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Forecaster"]


class Forecaster:
    """Forecasts one series or many: exponential smoothing, a linear path and a recurrent one, whichever help.

    It starts from exponential smoothing, adds a linear path where that helps on held-out rows, and a
    recurrent path where that helps again; each is kept only as far as the held-out rows bear it out. The
    same defaults serve ten years of hours and three years of months. Intervals are conformal.

    Args:
        horizon: rows to forecast, K.
        freq: alias of the step, such as "h", "D" or "MS", or an integer; found in the data without.
        season: rows of the season; follows from the frequency without.
        architecture: "auto"; "plain" for the tutorials' network, window -> recurrent layers -> last state ->
            Dense; or "deepar" for the autoregressive network of Salinas et al. 2020, whose forecast is the
            mean of paths that it draws.
        cell: "gru", "lstm" or "rnn".
        level: of the intervals, in per cent.
        seed: same seed, same data, same bits.
        lookback: rows that a forecast looks back on; two to four long seasons without.
        hidden_size, layers, dropout, epochs, batch_size, learning_rate, patience: of the network and its
            training; None is the default of the architecture.
        minutes: budget of a fit; the networks' training is ended so that both rounds fit into it, and the best
            until then is kept. The closed-form parts are fitted in any case.
        max_steps: of the optimiser in one training, at most.
        nonnegative: True cuts forecasts and bounds at 0; False lets them go below and takes the values as they are.
            None is what the values show: zeros that come again, whole numbers, errors that shrink near 0.
        progress: True for a bar, False for none, None for one on a terminal; or a function that is called
            with a dict of epoch, train and valid.

    After `fit`:
        model_: what was learned, a `ForecastModel`; `carousel.stream.Model` runs it without torch.
        scores_: of the model and the baselines on the held-out rows; not kept in a file.
        verdict_: what these scores say, in sentences; not kept in a file.
        history_: loss of every epoch; not kept in a file.
        notes_: what was found in the data and decided.

    Example:
        >>> import numpy as np
        >>> series = 100 + 10 * np.sin(np.arange(120) * np.pi / 6)
        >>> forecaster = Forecaster(12, season=12, epochs=1, progress=False).fit(series)
        >>> bool(abs(forecaster.predict()["carousel"][3] - 100 - 10 * np.sin(123 * np.pi / 6)) < 1)
        True
    """

    model_: ForecastModel
    scores_: dict[str, Scores]
    verdict_: tuple[str, ...]
    history_: tuple[dict[str, float], ...]
    notes_: tuple[str, ...]

    def __init__(
        self,
        horizon: int,
        *,
        freq: str | int | None = None,
        season: int | None = None,
        architecture: str = "auto",
        cell: str = "gru",
        level: Any = (80, 95),
        seed: int = 0,
        lookback: int | None = None,
        hidden_size: int | None = None,
        layers: int | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int = 256,
        learning_rate: float | None = None,
        patience: int | None = None,
        minutes: float | None = None,
        max_steps: int | None = None,
        nonnegative: bool | None = None,
        progress: Any = None,
    ) -> None:
        self.horizon = horizon
        self.freq = freq
        self.season = season
        self.architecture = architecture
        self.cell = cell
        self.level = level
        self.seed = seed
        self.lookback = lookback
        self.hidden_size = hidden_size
        self.layers = layers
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.minutes = minutes
        self.max_steps = max_steps
        self.nonnegative = nonnegative
        self.progress = progress

    def fit(
        self,
        df: Any,
        *,
        id_col: str | None = None,
        time_col: str | None = None,
        target_col: str | None = None,
        past: Any = (),
        future: Any = (),
        static: Any = (),
        holidays: str | None = None,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool | str | os.PathLike[str] = False,
    ) -> Forecaster:
        """Learns from a frame of pandas, polars or pyarrow, or from one sequence of numbers.

        Covariates are columns of numbers or of categories beside the target. They are kept as far as held-out rows
        are forecast better with them; `notes_` says what became of each.

        Ctrl-C keeps the best model so far: the fitted attributes are set before KeyboardInterrupt goes on.

        Args:
            df: rows of id, time and value; `unique_id`, `ds` and `y`, or what the names below say.
            id_col: column of the series' names; none is needed for one series.
            time_col: column of time stamps or integers.
            target_col: column of values.
            past: names of columns that are known up to the last row.
            future: names of columns that are known in advance; `predict` needs them for the rows to come.
            static: names of columns with one value per series, or a frame of such columns, one row per series.
            holidays: country, such as "US" or "DE-BY", whose holidays are a future column of dates.
            layout: "long", or "wide" for one column per series beside the time.
            duplicates: "error" refuses two rows of one series at one time, "mean" averages them.
            checkpoint: file that is written after every epoch, atomically; it holds best and last weights.
            resume: a checkpoint to go on from: a fit that was killed at any moment ends with the same bits as
                one that was not. It is written on to `checkpoint`, or without to the same file. True for
                `checkpoint` itself, if it is there: the same call then starts a fit and goes on with it.

        Raises:
            ArgumentError: a constructor argument that cannot be, or a checkpoint of other data or settings.
            DataError: a frame that cannot be used, or too short a series.
        """
        from carousel.forecast.checkpoint import open_checkpoint
        from carousel.forecast.fitting import Exogenous, fit
        from carousel.forecast.session import Session
        from carousel.forecast.threads import fitting_threads
        from carousel.forecast.training import own_settings

        start = monotonic()
        settings = Settings.of(self.get_params())
        by_name, frame = _statics(static)
        wanted = Wanted.of(past, future, by_name, holidays)
        reading = read_frame(
            df,
            id=id_col,
            time=time_col,
            target=target_col,
            freq=self.freq,
            duplicates=duplicates,
            layout=layout,
            wanted=wanted,
            static=frame,
        )
        if reading.covariates and settings.architecture != "auto":
            raise ArgumentError(
                f"architecture={settings.architecture!r} reads the target alone; covariates need 'auto'."
            )
        columns = reading.columns(kind_of(df))
        check_apart(columns)
        with (
            reading.blamed(),
            fitting_threads(settings.hidden_size),
            own_settings(),
            progress_report(self.progress, settings.epochs) as report,
        ):
            exogenous = Exogenous(reading.covariates, reading.holidays)
            trainings = open_checkpoint(reading.panel, settings, checkpoint, resume, exogenous)
            session = Session(report, trainings, self.minutes, settings.max_steps, start=start)
            fitted = fit(reading.panel, columns, settings, session, exogenous)
        self._set(replace(fitted.model, options=options_of(self.get_params())))
        self._given = wanted, frame
        paths = fitted.model.covariates
        blind = paths is not None and bool(paths.of("past") + paths.of("future"))
        self.scores_, self.verdict_ = fitted.scores, verdict(fitted.scores, fitted.shifted, blind=blind)
        self.history_ = fitted.history
        self.notes_ = (*reading.notes, *fitted.model.notes)
        if fitted.interrupted:
            raise KeyboardInterrupt
        return self

    def update(
        self,
        df: Any,
        *,
        static: Any = None,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
    ) -> Forecaster:
        """Takes in rows that came after the fitted ones; nothing is fitted again.

        `predict()` then forecasts what `predict(all_rows)` would, up to rounding. Only the series in `df` are
        touched; one that is new is scaled by its own rows. What was learned from old rows fits new ones for a
        while; `backtest` on the new rows, before they are taken in, says for how long.

        Args:
            df: the new rows, in the columns that were fitted, covariates too; those of a known series begin at its
                next row, and are counted on from there where they have no time, as in an array; an array has no dates.
            static: as for `predict`, of new series.
            layout: of `df`.
            duplicates: as in `fit`.

        Raises:
            ArgumentError: an argument that cannot be.
            DataError: a series that begins too early or too late, or a new one that is too short.
        """
        from carousel.forecast.update import update

        known = set(self._fitted().ids)
        reading = self._read(df, static=static, duplicates=duplicates, layout=layout, known=known)
        with reading.blamed():
            self._set(update(self._runner, continued(reading, self.model_), reading.lost))
        self.notes_ = self.model_.notes
        return self

    def predict(
        self,
        df: Any = None,
        *,
        future: Any = None,
        static: Any = None,
        level: Any = None,
        quantiles: Any = None,
        samples: int | None = None,
        seed: int = 0,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
    ) -> Any:
        """The next `horizon` rows of every series.

        Args:
            df: history to forecast from, in the columns that were fitted; the end of the fitted data without.
            future: a frame of id, time and the future covariates of the rows to forecast, if the model reads any.
            static: a frame of static covariates of series that were not fitted, if the model reads any.
            level: of the intervals, in per cent; the constructor's without.
            quantiles: between 0 and 1; they take the place of the intervals, in columns `carousel-q-10`, ….
            samples: paths to draw instead, one under the other, with their number in a column `sample`. At
                every step they spread as the intervals do, from step to step they go as held-out errors went;
                those of different series are independent.
            seed: of the samples.
            layout: of `df`.
            duplicates: as in `fit`.

        Returns:
            A frame of the kind of `df`, or without one of that which was fitted: id, time, `carousel`,
            `carousel-lo-80`, `carousel-hi-80`, ….

        Raises:
            ArgumentError: an argument that cannot be, or two that exclude each other.
            DataError: `df`, `future` or `static` lacks what the model reads; the text names series and rows.
        """
        given = [
            name
            for name, x in (("level", level), ("quantiles", quantiles), ("samples", samples))
            if x is not None
        ]
        if len(given) > 1:
            raise ArgumentError(
                f"`{given[0]}` and `{given[1]}` are two forms of one answer; give one of them."
            )
        if samples is not None:
            check_integer("samples", samples, 1)
            check_integer("seed", seed, 0)
        model = self._fitted()
        if df is None:
            state, ids, kind = self._ahead(future), model.ids, model.columns.frame
            zone, unit = model.columns.zone, model.columns.unit
            forecast = self._runner.forecast(state, level)
        else:
            reading = self._read(df, duplicates=duplicates, layout=layout, static=static)
            panel = with_future(reading, model, future)
            history = self._runner.history(panel)
            forecast = self._runner.forecasts(history, history.ends(), level)
            if samples is not None or quantiles is not None:
                state = history.context(history.ends(), model.lookback, model.memory)
            ids, kind = panel.ids, kind_of(df)
            zone, unit = reading.names.zone, reading.names.unit
        if samples is not None:
            paths = self._runner.samples(forecast, state, samples, seed)
            columns = sample_columns(forecast.ds, paths, ids, model.columns)
        elif quantiles is not None:
            values = self._runner.quantiles(forecast, state, quantiles)
            columns = quantile_columns(forecast, values, check_quantiles(quantiles), ids, model.columns)
        else:
            columns = forecast_columns(forecast, ids, model.columns)
        return to_frame(columns, kind, zone, unit, days=not self._runner.frequency.within_a_day)

    def backtest(
        self,
        df: Any,
        *,
        origins: int | None = None,
        step: int | None = None,
        start: Any = None,
        refit: int = 0,
        jobs: int = 1,
        fitted_rows: Literal["refuse", "allow"] = "refuse",
        static: Any = None,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
    ) -> Backtest:
        """Forecasts from many origins in `df`, beside the baselines at the same ones, and who wins, how surely.

        Without `refit` the fitted model forecasts from all of them. Rows that it was fitted on flatter it, so
        origins before their end are refused: fit on `df` up to `start`, or let `refit` fit.

        Args:
            df: rows before and after the origins.
            origins: how many, per series; without `start` the last ones that have `horizon` rows after them, 10 or
                what the rows allow.
            step: rows from one origin to the next; `horizon` without.
            start: time of the first forecast row.
            refit: k fits anew, with these settings, at every k-th moment that has an origin, and k times `step` rows
                after the last fit, on the rows of all series before that moment; this needs no fitted model, and
                leaves one as it is. It chooses among the covariates that `fit` was given; a model from a file knows
                of those that it reads alone. 0 for never.
            jobs: processes for the fits of `refit`; the result is the same for any number.
            fitted_rows: "allow" takes origins within the rows that were fitted, too, and says so in the verdict.
            static: a frame of static covariates of series that were not fitted.
            layout: of `df`.
            duplicates: as in `fit`.

        Raises:
            ArgumentError: an argument that cannot be, or origins within the fitted rows.
            DataError: rows that cannot be used, or too few; a future covariate that is not known at an origin.
        """
        check_integer("refit", refit, 0)
        check_integer("jobs", jobs, 1)
        check_choice("fitted_rows", fitted_rows, ("refuse", "allow"))
        schedule, kind = Schedule(origins, step, start), kind_of(df)
        if not refit:
            reading = self._read(df, duplicates=duplicates, layout=layout, static=static, short=True)
        elif self.__sklearn_is_fitted__():
            reading = self._read_to_fit(df, duplicates=duplicates, layout=layout, static=static)
        else:
            reading = read_frame(df, freq=self.freq, duplicates=duplicates, layout=layout, static=static)
        if start is not None:
            schedule = replace(
                schedule, start=parse_start(start, reading.panel.starts.dtype, reading.names.zone)
            )
        if refit:
            return refitted_backtest(self.get_params(), reading, schedule, kind, every=refit, jobs=jobs)
        return fitted_backtest(self._runner, reading, schedule, kind, fitted_rows=fitted_rows == "allow")

    def plot(
        self,
        df: Any = None,
        path: str | os.PathLike[str] | None = None,
        *,
        future: Any = None,
        static: Any = None,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
        **options: Any,
    ) -> Figure:
        """History, forecast and intervals as a matplotlib figure.

        Args:
            df: history to forecast from; the end of the fitted data without.
            path: file to write; its suffix names the format.
            future: as for `predict`; not needed with `truth=True`.
            static, layout: as for `predict`.
            **options: `truth`, `with_baselines`, `series`, `history`, `level`: see `carousel.forecast.plot`.
        """
        from carousel.forecast.plot import plot

        self._fitted()
        if df is None:
            return plot(self._runner, None, path, last=self._ahead(future), **options)
        reading = self._read(df, duplicates=duplicates, static=static, layout=layout)
        panel = reading.panel if options.get("truth") else with_future(reading, self.model_, future)
        return plot(self._runner, panel, path, **options)

    def report(
        self,
        df: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        future: Any = None,
        static: Any = None,
        origins: int | None = None,
        step: int | None = None,
        start: Any = None,
        layout: Literal["long", "wide"] = "long",
        duplicates: Literal["error", "mean"] = "error",
    ) -> str:
        """One HTML page on what is forecast, how good that is, against what, and how sure; it needs no network.

        The scores are those of a backtest. Where its origins lie in rows that the model was fitted on, these
        settings are fitted once more for it, on the rows before the first origin.

        Args:
            df: history to forecast from, and to backtest on.
            path: file to write, atomically.
            future, static, layout: as for `predict`.
            origins, step, start, duplicates: as in `backtest`.

        Returns:
            The page.
        """
        from carousel.forecast.holdout import fair_backtest
        from carousel.forecast.report import report_page
        from carousel.network import atomic

        reading = self._read(df, duplicates=duplicates, static=static, layout=layout)
        panel = with_future(reading, self.model_, future)

        def to_fit() -> Reading:
            return self._read_to_fit(df, duplicates=duplicates, static=static, layout=layout)

        if start is not None:
            start = parse_start(start, panel.starts.dtype, reading.names.zone)
        result, how = fair_backtest(self, reading, to_fit, origins=origins, step=step, start=start)
        page = report_page(self._runner, panel, result, how, self.notes_, self.__dict__.get("history_", ()))
        if path is not None:
            atomic.write(path, [page.encode()])
        return page

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to exactly `path`, atomically; `carousel.load(path)` forecasts the same bits."""
        network.save(self._fitted(), path)

    @classmethod
    def from_model(cls, model: ForecastModel) -> Forecaster:
        """A fitted forecaster of a learned value, such as one from a file, with the parameters of its fit.

        Where the value has not kept them, they are the defaults.
        """
        forecaster = cls(
            model.horizon,
            freq=model.frequency,
            architecture="plain" if model.plain else "deepar" if model.deepar else "auto",
            level=model.level,
        )
        if model.options is not None:
            forecaster.set_params(**asdict(model.options))
        forecaster._set(model)
        forecaster.notes_ = model.notes
        return forecaster

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **params: Any) -> Forecaster:
        """Changes constructor arguments; `fit` reads them."""
        for name, value in params.items():
            if name not in _parameters():
                raise ArgumentError(
                    f"`{name}` is no parameter of Forecaster; there are {', '.join(_parameters())}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        shown = [repr(self.horizon)] + [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in list(_parameters().items())[1:]
            if getattr(self, name) != parameter.default
        ]
        return f"Forecaster({', '.join(shown)})"

    def __getattr__(self, name: str) -> Any:
        if name not in ("model_", "scores_", "verdict_", "history_", "notes_"):
            raise AttributeError(f"'Forecaster' object has no attribute {name!r}")
        if "model_" in self.__dict__:
            raise NotFittedError(
                f"`{name}` is left by `fit` and not kept in a file; call `backtest` for scores."
            )
        raise NotFittedError("This Forecaster has not been fitted; call `fit` first.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn (since 1.6, which alone calls this) asks before `check_is_fitted` and the like."""
        from sklearn.utils import InputTags, Tags, TargetTags

        reads = InputTags(one_d_array=True, categorical=True, string=True, allow_nan=True)
        return Tags(estimator_type=None, target_tags=TargetTags(required=False), input_tags=reads)

    def _set(self, model: ForecastModel) -> None:
        self.model_ = model
        self._runner = ForecasterModel(model)

    def _fitted(self) -> ForecastModel:
        if not hasattr(self, "model_"):
            raise NotFittedError("This Forecaster has not been fitted; call `fit` first.")
        return self.model_

    def _read(self, df: Any, **options: Any) -> Reading:
        return read_rows(df, self._fitted(), **options)

    def _read_to_fit(
        self, df: Any, *, static: Any, layout: Literal["long", "wide"] = "long", **options: Any
    ) -> Reading:
        """Rows for a new fit: with all covariates that `fit` was given, where this forecaster still knows them."""
        wanted, frame = self.__dict__.get("_given", (Wanted(), None))
        static = frame if static is None else static
        if isinstance(df, Reading):
            return df
        if wanted == Wanted() and static is None:
            return self._read(df, layout=layout, static=static, **options)
        model = self._fitted()
        columns = model.columns
        return read_frame(
            df,
            id=columns.id,
            time=columns.time,
            target=columns.target,
            freq=model.frequency,
            layout=layout,
            wanted=wanted,
            static=static,
            zone=columns.zone,
            **options,
        )

    def _ahead(self, future: Any) -> Context:
        """The end of the fitted data, with the future covariates of the rows to forecast."""
        model, last = self._fitted(), self._runner.last()
        if model.covariates is None or not model.covariates.of("future"):
            return last
        ahead = Ahead(model.ids, last.next, self._runner.frequency, model.horizon, model.columns.zone)
        return self._runner.ahead(last, read_future(future, model, ahead))


def _parameters() -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(Forecaster.__init__).parameters)
    del parameters["self"]
    return parameters


def _statics(static: Any) -> tuple[Any, Any]:
    """Names of columns, or a frame of them; the other is nothing."""
    if isinstance(static, (str, tuple, list)) or static is None:
        return static or (), None
    return (), static
