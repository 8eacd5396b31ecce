"""A forecaster without torch: the learned value, run on NumPy and the compiled layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError, FormatError, check_shape
from carousel.network.forecaster import ForecastModel
from carousel.series.autoregression import row_size
from carousel.series.calendar import Frequency
from carousel.series.conformal import drawn_errors, interval_errors, quantile_errors
from carousel.series.covariates import Seen, correction, encode
from carousel.series.features import CalendarTable, phases
from carousel.series.filling import filled
from carousel.series.history import Context, History, Origins, enough, few, normalise, steps_before
from carousel.series.linear import linear_path, sizes
from carousel.series.panel import Panel
from carousel.series.segments import segment_inputs, segments
from carousel.series.smoothing import Mixture, expected
from carousel.series.starting import Start
from carousel.series.unit import from_unit, in_unit
from carousel.series.volatility import measures, volatility
from carousel.stream.covariates import CovariateReader
from carousel.stream.decoder import SegmentDecoder
from carousel.stream.forecast import Forecast, check_levels, check_quantiles
from carousel.stream.network import NetworkModel
from carousel.stream.sampler import PathSampler
from carousel.stream.sizes import check_sizes, check_squares

__all__ = ["ForecasterModel"]

Array = np.ndarray[Any, Any]

MOST = 10**9  # numbers of all paths of one call: 8 GB
BLOCK = 4096  # origins at a time: bounds the memory of a long backtest


class ForecasterModel:
    """Runs a `ForecastModel`; immutable, safe from several threads.

    A stream of rows is a chain of states: `state = model.start()`, `state = model.observe(ds, y, state)`,
    `model.forecast(state)`. A state holds any number of series; one call takes all of them.

    Args:
        value: what a model file or `Forecaster.model_` holds.
    """

    def __init__(self, value: ForecastModel) -> None:
        self.value = value
        self.frequency = _frequency(value)
        _check_features(value, self.frequency)
        self.covariates = None
        if value.covariates is not None:
            self.covariates = CovariateReader(
                value.covariates, self.frequency, value.lookback, value.horizon, value.columns.zone
            )
        self._calendar = CalendarTable(self.frequency)
        self._recurrent = None if value.recurrent is None else SegmentDecoder(value.recurrent)
        self._plain = None if value.plain is None else NetworkModel(value.plain.network)
        self._sampler = None
        if value.deepar is not None:
            self._sampler = PathSampler(
                value.deepar,
                value.scaling.first(value.deepar.fitted),
                self._calendar,
                value.season,
                value.horizon,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the value that it runs."""
        return type(self), (self.value,)

    def history(self, panel: Panel, known: Any = None) -> History:
        """A panel in the model's unit; `known` (S,) are the rows that may set the scale of a new series."""
        v = self.value
        return History.of(panel, v.season, v.scaling, v.smoothing, v.ids, known, v.covariates, v.horizon)

    def start(
        self,
        ids: Sequence[str] | None = None,
        *,
        y: Sequence[Any] | None = None,
        ds: Any = None,
        covariates: Mapping[str, Any] | None = None,
    ) -> Context:
        """The state of some series: after their last fitted row, or after rows of their own.

        Args:
            ids: (B,) names; without, those that were fitted, in their order, or with `y` new ones.
            y: B arrays (N_b,) in the user's unit, NaN where missing: rows to begin with, of series that need not
                have been fitted; one that was keeps its scale, another gets that of its rows.
            ds: (B,) time stamps of the first row of each, or one for all.
            covariates: of these rows, past and future ones: B arrays (N_b,) by name; static ones, which only series
                that were not fitted need: (B,) by name.

        Raises:
            ArgumentError: a name that was not fitted, and no `y`; `ds` without `y`, or `y` without `ds`;
                covariates that are not of these rows.
            DataError: rows that are no numbers, or too few of them.
        """
        _check_named("covariates", covariates)
        if (y is None) != (ds is None):
            raise ArgumentError(
                "`y` and `ds` must be given together: rows, and the time of the first of each."
            )
        if y is not None:
            return self._after(y, ds, ids, covariates or {})
        if ids is None:
            return self.last()
        missing = [name for name in ids if name not in self._places]
        if missing:
            raise ArgumentError(
                f"`ids` must be series that were fitted, got {missing[0]!r}; another one needs rows to begin "
                "with: `y` and `ds`."
            )
        return self.last()[[self._places[name] for name in ids]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: s for s, name in enumerate(self.value.ids)}

    def _after(
        self, y: Sequence[Any], ds: Any, ids: Sequence[str] | None, covariates: Mapping[str, Any]
    ) -> Context:
        """The state after the rows of a panel that the user has spelt out."""
        v = self.value
        try:
            rows = [np.asarray(part, np.float64) for part in y]
        except (TypeError, ValueError):
            raise DataError(
                "`y` must be arrays of numbers, the rows of each series; NaN is missing."
            ) from None
        first = "the time of its first row for each series, or one for all"
        try:
            starts = self._stamps(ds)
        except (TypeError, ValueError) as error:
            reason = f"{error}" if f"{error}".startswith("it ") else f"got {str(ds)[:60]}"
            raise DataError(f"`ds` must be {first}: {reason}.") from None
        if starts.shape not in ((), (1,), (len(rows),)):
            raise DataError(f"`ds` must be {first}: (B,) = ({len(rows)},), got {starts.shape}.")
        starts = np.broadcast_to(starts, (len(rows),))
        names = [f"{b}" for b in range(len(rows))] if ids is None else list(ids)
        if len(names) != len(rows):
            raise ArgumentError(f"`ids` must be one for each of {len(rows)} arrays of `y`, got {len(names)}.")
        least = min(v.season + 1, v.lookback)
        for name, part in zip(names, rows, strict=True):
            if part.ndim != 1 or len(part) < least or np.isinf(part).any():
                raise DataError(
                    f"`y` of series {name!r} must be at least {least} numbers, finite or NaN, got "
                    f"{'Inf among them' if np.isinf(part).any() else f'shape {part.shape}'}."
                )
            check_squares(f"`y` of series {name!r}", part)
            if np.isnan(in_unit(part, v.scaling.unit)).all():
                raise DataError(f"`y` of series {name!r} must hold a value that the model sees, got none.")
        panel = Panel.of(rows, ids=names, starts=list(starts), freq=self.frequency)
        if self.covariates is not None:
            panel = self.covariates.beside(panel, covariates, v.ids)
        history = self.history(panel)
        state = history.context(history.ends(), v.lookback, v.memory)
        if (seen := state.covariates) is not None:  # of the rows to come nothing is known
            state = replace(state, covariates=replace(seen, future=seen.future[:, : v.lookback]))
        return state

    def _stamps(self, ds: Any) -> Array:
        """Time stamps as the model counts them; a ValueError or TypeError says what is wrong."""
        if getattr(ds, "tzinfo", None) is not None:  # NumPy would warn and count in UTC
            raise ValueError("it has a time zone; give the time that its clock shows, without one")
        given = np.asarray(ds)
        stamps: Array = given.astype(self.value.tail.next.dtype)
        if given.dtype.kind == "f" and (stamps.astype(np.float64) != given).any():
            raise ValueError("it is a fraction, but the rows that were fitted are counted")
        return self.frequency.placed(stamps)

    def last(self) -> Context:
        """The state after the last row of every series that was fitted."""
        return self._last

    @cached_property
    def _last(self) -> Context:
        v = self.value
        seen = None
        if (paths := v.covariates) is not None:
            static = encode(paths.of("static"), paths.static, np.arange(len(v.ids)))
            seen = Seen(paths.past, paths.future, static, paths.unit)
        series = np.arange(len(v.ids))
        rows = None if v.tail.rows is None else few(v.tail.rows, self._enough)
        return Context(
            v.tail.window, v.tail.errors, v.tail.next, v.scaling.center, v.scaling.scale, seen, series, rows
        )

    @cached_property
    def _start(self) -> Start:
        assert self.value.smoothing is not None
        return Start(self.value.smoothing)

    @cached_property
    def _enough(self) -> int:
        return enough(self.value.lookback, self.value.smoothing, self.value.season)

    def missing(self, ds: Any, state: Context) -> Array:
        """(B,) how many rows are missing before rows at `ds`; below 0 where those were observed already.

        Raises:
            ArgumentError: `state` is not one of this model.
            DataError: `ds` are no times, or lie between two rows.
        """
        self._check_state(state)
        rows: Array = self.frequency.positions(state.next, self._one_each(ds, len(state)))
        return rows

    def observe(
        self, ds: Any, y: Any, state: Context, covariates: Mapping[str, Any] | None = None
    ) -> Context:
        """The state after one more row of every series; states are values, the old one stays good.

        Args:
            ds: (B,) time stamps of the rows, or one for all; they must be `state.next`.
            y: (B,) values in the user's unit; NaN where missing.
            state: of `last`, or of an earlier call.
            covariates: of these rows, past and future ones: an array (B,) by name; NaN where missing.

        Raises:
            ArgumentError: `state` is not one of this model.
            ShapeError: not one value per series.
            DataError: rows at another time than the next (a row that is missing is observed as NaN), times
                that are none, or values that are not finite, or too large or too small to count with.
        """
        self._check_state(state)
        _check_named("covariates", covariates)
        B = len(state)
        stamps = self._one_each(ds, B)
        try:
            y = np.asarray(y, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"`y` must be numbers, one for each of {B} series: {error}.") from None
        y = np.broadcast_to(y, (B,)) if y.ndim == 0 else y
        if y.shape != (B,):  # the check spells a shape out in 10 us
            check_shape("y", y, "B", B=B)
        if np.isinf(y).any():
            raise DataError("`y` must be finite, or NaN where a value is missing, got Inf.")
        wrong = stamps != state.next
        if wrong.any():
            raise DataError(
                f"`ds` must be the next row, {state.next[wrong][0]}, got {stamps[wrong][0]}; "
                "a missing row is observed as NaN."
            )
        self.check_values("`y`", y, state)
        v, m = self.value, self.value.season
        last = state.window[:, -1]
        x, seen = in_unit(y, v.scaling.unit), None
        if self.covariates is not None:
            seen, added = self.covariates.observed(state, covariates or {})
            x = x - added
        missing = np.isnan(x)
        if missing.any():
            seasonal = v.scaling.of_gaps(m) > 1
            before = filled(state.window[:, -m], last, state.window[:, -1 - m]) if seasonal else last
            if state.rows is not None:  # no season before the first row
                before = np.where(state.rows > m, before, last)
            x = np.where(missing, before, x)
        errors, rows = state.errors, state.rows
        if v.smoothing is not None:
            e = x[:, None] - expected(v.smoothing, state.window, errors)
            if rows is None:
                errors = np.concatenate([errors[:, 1:], e[:, None]], 1)
            else:  # a new row says more of where a short series started, and nothing of rows that were made up
                errors = np.concatenate([errors[:, 1:], np.zeros_like(e[:, None])], 1)
                errors += self._start.gain(rows) * e[:, None]
        window = np.concatenate([state.window[:, 1:], x[:, None]], 1)
        if rows is not None:
            window, rows = self._made_up(window, rows + 1), few(rows + 1, self._enough)
        return Context(
            window=window,
            errors=errors,
            next=self.frequency.shift(state.next, np.int64(1)),
            center=state.center,
            scale=state.scale,
            covariates=seen,
            series=state.series,
            rows=rows,
        )

    def _made_up(self, window: Array, rows: Array) -> Array:
        """Windows in which what stands before the first row is made of the rows that each series has had."""
        L, m = window.shape[1], self.value.season
        some = np.flatnonzero(rows <= m)  # of more than a season, the first one is repeated already
        if len(some):
            had = np.minimum(rows[some], L)
            window[some] = np.take_along_axis(window[some], steps_before(had, L, m) + (L - had)[:, None], 1)
        return window

    def check_values(self, what: str, y: Array, state: Context) -> None:
        """Refuses values of the series in `state`, (B,) or (N,) of one, that `observe` could not go on from.

        Raises:
            DataError: one is too large or too small; the text calls it `what`.
        """
        check_sizes(what, y, in_unit(y, self.value.scaling.unit), state.scale)

    def ahead(self, context: Context, future: Array) -> Context:
        """A state with the future covariates of the rows to forecast.

        Args:
            future: (B, K, F) as given, numbers and codes of categories.
        """
        assert self.covariates is not None
        return self.covariates.ahead(context, future)

    def user_window(self, context: Context) -> Array:
        """(B, L) the windows in the user's unit."""
        window = context.window
        if self.covariates is not None:
            window = window + self.covariates.in_window(context)
        return from_unit(window, self.value.scaling.unit)

    def _one_each(self, ds: Any, B: int) -> Array:
        """(B,) time stamps."""
        try:
            stamps = self._stamps(ds)
            return stamps if stamps.shape == (B,) else np.broadcast_to(stamps, (B,))
        except (TypeError, ValueError) as error:
            raise DataError(f"`ds` must be times, one for each of {B} series, got {ds!r}: {error}.") from None

    def _check_state(self, state: Context) -> None:
        v = self.value
        G = v.tail.errors.shape[2]
        if not isinstance(state, Context) or (
            state.window.shape[1:] != (v.lookback,)
            or state.errors.shape[1:] != (v.memory, G)
            or state.next.dtype.kind != v.tail.next.dtype.kind
            or (state.covariates is None) != (v.covariates is None)
            or not self._knows(state.series)
            or (state.rows is not None and (state.rows < 1).any())
        ):
            raise ArgumentError("`state` must be of this model: what `start` or `observe` gave.")

    def _knows(self, series: Array | None) -> bool:
        """Whether these may be places of fitted series; states of models that do not ask need not say."""
        if series is None:
            return not self.value.tells_apart
        return bool(((series >= -1) & (series < len(self.value.ids))).all())

    def points(self, history: History, origins: Origins) -> Array:
        """(B, K) the point forecasts at many origins, in the model's unit."""
        blocks = [self._point(context) for context in self._contexts(history, origins)]
        return np.concatenate([np.zeros((0, self.value.horizon)), *blocks])

    def forecasts(
        self,
        history: History,
        origins: Origins,
        level: tuple[float, ...] | None = None,
        points: Array | None = None,
    ) -> Forecast:
        """The forecasts at many origins of a history, in the user's unit.

        Args:
            points: (B, K) of `points`, where they are known.
        """
        parts = []
        for b in range(0, max(len(origins), 1), BLOCK):
            block = slice(b, b + BLOCK)
            context = history.context(origins[block], self.value.lookback, self.value.memory)
            if self.covariates is not None:
                context = self.covariates.complete(context, None)
            known = self._point(context) if points is None else points[block]
            parts.append(self._around(known, context, level))
        return Forecast.join(parts)

    def forecast(
        self, context: Context, level: Any = None, future: Mapping[str, Any] | None = None
    ) -> Forecast:
        """The forecast in the user's unit, with its intervals.

        Args:
            context: the state of B series.
            level: in per cent; those of the model without.
            future: of a model with future covariates: arrays (B, K) of the rows to forecast, by name.

        Raises:
            ArgumentError: `context` is not a state of this model, a level that is not from 1 to below 100, or
                `future` is no dictionary.
            DataError: a future covariate is missing.
        """
        self._check_state(context)
        _check_named("future", future)
        if self.covariates is not None:
            context = self.covariates.complete(context, future)
        return self._around(self._point(context), context, level)

    def _around(self, x: Array, context: Context, level: Any) -> Forecast:
        """The forecast in the user's unit, with its intervals, of points x (B, K) in the model's."""
        v = self.value
        levels = v.level if level is None else check_levels(level)
        if self.covariates is not None:
            x = x + self.covariates.in_forecast(context)
        errors = self._ends if level is None else self._interval_errors(levels)
        ds = self.frequency.shift(context.next[:, None], np.arange(v.horizon))
        below, above = errors * self._unit(context)[:, None]
        mean, lower, upper = map(self._back, (x, x + below, x + above))
        return Forecast(ds, mean, levels, lower, upper, x)

    def _back(self, x: Array) -> Array:
        """From the model's unit, effects included, to the user's."""
        x = from_unit(x, self.value.scaling.unit)
        return np.maximum(x, 0.0) if self.value.nonnegative else x

    def _unit(self, context: Context) -> Array:
        """(B,) the unit of the errors of the calibration, in the model's."""
        unit, c = context.scale, self.value.calibration
        if c.volatility is not None:
            unit = unit * volatility(measures(context.window, self.value.season), unit, c.volatility)
        if c.own is not None:
            unit = unit * (c.own[-1] if context.series is None else c.own[context.series])
        return unit

    @cached_property
    def _ends(self) -> Array:
        return self._interval_errors(self.value.level)

    def _interval_errors(self, levels: tuple[float, ...]) -> Array:
        """(2, Q, 1, K) in units of `_unit`."""
        c = self.value.calibration
        return interval_errors(c.scores, c.counts, levels, c.sided)[:, :, None]

    @cached_property
    def _mixture(self) -> Mixture:
        assert self.value.smoothing is not None
        return Mixture.of(self.value.smoothing, self.value.horizon)

    def quantiles(self, forecast: Forecast, context: Context, quantiles: Any) -> Array:
        """(Q, B, K) in the user's unit, rising along Q; those of the paths where the model draws paths.

        Args:
            forecast: of B origins.
            context: their states.
            quantiles: between 0 and 1.

        Raises:
            ArgumentError: a quantile that is not between 0 and 1.
        """
        c, chosen = self.value.calibration, check_quantiles(quantiles)
        if self._sampler is not None:
            return self._back(self._sampler.quantiles(context, chosen))
        errors = quantile_errors(c.scores, c.counts, np.array(chosen), c.sided)
        return self._with_errors(forecast, errors[:, None] * self._unit(context)[:, None])

    def samples(self, forecast: Forecast, context: Context, number: int, seed: int = 0) -> Array:
        """(number, B, K) paths in the user's unit; those of different origins are independent.

        At every step they spread as the intervals do; from step to step they go as held-out errors went. A model
        that draws paths gives its own.

        Args:
            forecast: of B origins.
            context: their states.

        Raises:
            ArgumentError: the model has no held-out errors to go by, or more than `MOST` numbers are asked for.
        """
        size = number * len(context) * self.value.horizon
        if size > MOST:
            raise ArgumentError(
                f"`samples` must be few enough for {MOST:.0e} numbers (8 GB) in all, got {number} paths x "
                f"{len(context)} series x {self.value.horizon} rows, which are {8 * size / 1e9:,.0f} GB; ask for fewer "
                "paths, or for fewer series at a time."
            )
        if self._sampler is not None:
            return self._back(self._sampler.samples(context, number, seed))
        c, unit = self.value.calibration, self._unit(context)
        if c.paths is None:
            raise ArgumentError(
                "`samples` need at least two held-out forecasts whose rows are all known, but this model has "
                "none; fit again on more rows, or ask for quantiles."
            )
        rng = np.random.default_rng(seed)
        count = min(max(number, 100), 1000)
        levels = (np.arange(count) + 0.5) / count
        spread = quantile_errors(c.scores, c.counts, levels, c.sided)
        errors = np.zeros((number, len(unit), self.value.horizon))
        for b in range(len(unit)):
            errors[:, b] = unit[b] * drawn_errors(number, levels, spread, c.paths, rng)
        return self._with_errors(forecast, errors)

    def _with_errors(self, forecast: Forecast, errors: Array) -> Array:
        """The forecast plus errors (…, B, K) in the model's unit."""
        return self._back(forecast.point + errors)

    def _contexts(self, history: History, origins: Origins) -> Iterator[Context]:
        for b in range(0, len(origins), BLOCK):
            yield history.context(origins[slice(b, b + BLOCK)], self.value.lookback, self.value.memory)

    def _point(self, context: Context) -> Array:
        v, frequency = self.value, self.frequency
        if self._sampler is not None:
            return self._sampler.point(context)
        scale = context.scale[:, None]
        normal, calendar = normalise(context, v.season), None
        if self._plain is not None:
            z, level = normal
            y = self._plain.run(np.ascontiguousarray(z.T[..., None], np.float32))
            forecast: Array = level + y * scale
            return forecast
        x = self._mixture(context.window, context.errors, context.series)
        if v.recurrent is not None:
            seen = context.covariates if v.covariates is not None and v.covariates.recurrent else None
            past, future, calendar = segments(
                context, normal, self._calendar, v.recurrent.segment, v.horizon, seen
            )
        if v.linear is not None:
            x = linear_path(v.linear, context, x, frequency, v.season, normal, calendar)
        if v.covariates is not None and context.covariates is not None:
            x = x + scale * correction(v.covariates, context.covariates, v.lookback)
        if v.recurrent is not None:
            assert self._recurrent is not None
            x = x + scale * v.recurrent.shrink * self._recurrent.run(past, future)[:, : v.horizon]
        return x


def _check_named(argument: str, given: Any) -> None:
    """Refuses a frame, whose rows have times and ids that nobody would look at."""
    if not (given is None or isinstance(given, Mapping)):
        raise ArgumentError(
            f"`{argument}` must be a dictionary of arrays by name, got {type(given).__name__}."
        )


def _frequency(value: ForecastModel) -> Frequency:
    try:
        return Frequency.parse(value.frequency)
    except ArgumentError as error:
        raise FormatError(f"forecaster: `frequency`: {error}") from None


def _check_features(value: ForecastModel, frequency: Frequency) -> None:
    """Refuses a model whose matrices are not of its calendar: what only a damaged or hostile file can hold."""
    path, read, m = value.linear, value.recurrent, value.season
    if value.deepar is not None and value.deepar.network.input_size != row_size(frequency):
        raise FormatError(
            f"forecaster: the deepar network takes {value.deepar.network.input_size} inputs, "
            f"its rows have {row_size(frequency)}."
        )
    if path is not None:
        P, F, _ = path.coefficients.shape
        counts = sizes(frequency, m, value.lookback)
        upto = 2 if path.interplay else int(path.calendar)
        wanted = counts[min(upto, len(counts) - 1)] - (upto > 0 and not path.level)
        if P not in (1, phases(frequency, m)) or wanted != F:
            raise FormatError(
                f"forecaster: `linear.coefficients` has shape {path.coefficients.shape}, not that of its window."
            )
    if read is not None:
        inputs = (read.embed.input_size, read.position.input_size)
        known = value.covariates if value.covariates is not None and value.covariates.recurrent else None
        expected = segment_inputs(frequency, read.segment, value.horizon, known)
        if inputs != expected or read.segment > value.lookback:
            raise FormatError(
                f"forecaster: the recurrent path takes {inputs} inputs, its segments have {expected}."
            )
