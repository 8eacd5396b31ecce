"""A forecaster without torch: the learned value, run on NumPy and the compiled layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError, check_shape
from carousel.network.forecaster import ForecastModel
from carousel.series.calendar import Frequency
from carousel.series.conformal import half_widths, quantile_errors, shuffled_errors
from carousel.series.filling import filled
from carousel.series.history import Context, History, Origins, normalise
from carousel.series.linear import linear_path
from carousel.series.panel import Panel
from carousel.series.segments import future_segments, past_segments
from carousel.series.smoothing import ahead, smoothed
from carousel.stream.decoder import SegmentDecoder
from carousel.stream.network import NetworkModel

__all__ = ["Forecast", "ForecasterModel", "check_levels", "check_quantiles"]

Array = np.ndarray[Any, Any]

BLOCK = 4096  # origins at a time: bounds the memory of a long backtest


@dataclass(frozen=True)
class Forecast:
    """K steps for B origins, in the user's unit.

    Args:
        ds: (B, K) time stamps.
        mean: (B, K) the point forecast.
        level: Q levels in per cent.
        lower: (Q, B, K).
        upper: (Q, B, K).
    """

    ds: Array
    mean: Array
    level: tuple[float, ...]
    lower: Array
    upper: Array

    def intervals(self) -> dict[float, tuple[Array, Array]]:
        """Lower and upper (B, K) per level."""
        return {a: (self.lower[q], self.upper[q]) for q, a in enumerate(self.level)}

    def only(self, level: tuple[float, ...]) -> Forecast:
        """The same with some of the levels."""
        kept = [self.level.index(a) for a in level]
        return replace(self, level=level, lower=self.lower[kept], upper=self.upper[kept])

    def at(self, index: Array) -> Forecast:
        """Some of the origins."""
        return Forecast(
            self.ds[index], self.mean[index], self.level, self.lower[:, index], self.upper[:, index]
        )


class ForecasterModel:
    """Runs a `ForecastModel`; immutable, safe from several threads.

    A stream of rows is a chain of states: `state = model.observe(ds, y, state)`, `model.forecast(state)`.

    Args:
        value: what a model file or `Forecaster.model_` holds.
    """

    def __init__(self, value: ForecastModel) -> None:
        self.value = value
        self.frequency = Frequency.parse(
            int(value.frequency) if value.frequency.isdigit() else value.frequency
        )
        self._recurrent = None if value.recurrent is None else SegmentDecoder(value.recurrent)
        self._plain = None if value.plain is None else NetworkModel(value.plain.network)

    def history(self, panel: Panel, known: Any = None) -> History:
        """A panel in the model's unit; `known` (S,) are the rows that may set the scale of a new series."""
        v = self.value
        return History.of(panel, v.season, v.scaling, v.smoothing, v.ids, known)

    def last(self) -> Context:
        """The state after the last row of every series that was fitted."""
        v = self.value
        return Context(v.tail.window, v.tail.errors, v.tail.next, v.scaling.center, v.scaling.scale)

    def observe(self, ds: Any, y: Any, state: Context) -> Context:
        """The state after one more row of every series; states are values, the old one stays good.

        Args:
            ds: (B,) time stamps of the rows, or one for all; they must be `state.next`.
            y: (B,) values in the user's unit; NaN where missing.
            state: of `last`, or of an earlier call.

        Raises:
            ShapeError: not one value per series.
            DataError: rows at another time than the next (a row that is missing is observed as NaN), times
                that are none, or values that are not finite.
        """
        B = len(state)
        try:
            y = np.asarray(y, np.float64)
            if getattr(ds, "tzinfo", None) is not None:  # NumPy would warn and count in UTC
                raise ValueError("it has a time zone, but the rows that were fitted have none")
            stamps = np.broadcast_to(np.asarray(ds).astype(state.next.dtype), (B,))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"`ds` must be times and `y` numbers, one for each of {B} series: {error}."
            ) from None
        y = np.broadcast_to(y, (B,)) if y.ndim == 0 else y
        check_shape("y", y, "B", B=B)
        if np.isinf(y).any():
            raise DataError("`y` must be finite, or NaN where a value is missing, got Inf.")
        wrong = np.flatnonzero(stamps != state.next)
        if len(wrong):
            raise DataError(
                f"`ds` must be the next row, {state.next[wrong[0]]}, got {stamps[wrong[0]]}; "
                "a missing row is observed as NaN."
            )
        v, m = self.value, self.value.season
        last = state.window[:, -1]
        expected = filled(state.window[:, -m], last, state.window[:, -1 - m]) if m > 1 else last
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(y > 0, np.log(y), np.nan) if v.scaling.log else y
        x = np.where(np.isnan(x), expected, x)
        errors = state.errors
        if v.smoothing is not None:
            expected = ahead(v.smoothing, state.window[:, -v.memory :], errors, 1)
            errors = np.concatenate([errors[:, 1:], x[:, None, None] - expected], 1)
        return Context(
            window=np.concatenate([state.window[:, 1:], x[:, None]], 1),
            errors=errors,
            next=self.frequency.shift(state.next, np.ones(B, np.int64)),
            center=state.center,
            scale=state.scale,
        )

    def points(self, history: History, origins: Origins) -> Array:
        """(B, K) the point forecasts at many origins, in the model's unit."""
        blocks = [self._point(context) for context in self._contexts(history, origins)]
        return np.concatenate([np.zeros((0, self.value.horizon)), *blocks])

    def forecasts(
        self, history: History, origins: Origins, level: tuple[float, ...] | None = None
    ) -> Forecast:
        """The forecasts at many origins of a history, in the user's unit."""
        blocks = [self.forecast(context, level) for context in self._contexts(history, origins)]
        if not blocks:
            blocks = [self.forecast(history.context(origins, self.value.lookback, self.value.memory), level)]
        return Forecast(
            ds=np.concatenate([f.ds for f in blocks]),
            mean=np.concatenate([f.mean for f in blocks]),
            level=blocks[0].level,
            lower=np.concatenate([f.lower for f in blocks], 1),
            upper=np.concatenate([f.upper for f in blocks], 1),
        )

    def forecast(self, context: Context, level: Any = None) -> Forecast:
        """The forecast in the user's unit, with its intervals.

        Args:
            level: in per cent; those of the model without.
        """
        v = self.value
        levels = v.level if level is None else check_levels(level)
        x, scale = self._point(context), context.scale[:, None]
        widths = np.reshape(
            [half_widths(v.calibration.scores, v.calibration.counts, a) for a in levels],
            (len(levels), 1, v.horizon),
        )
        back = np.exp if v.scaling.log else np.asarray
        ds = self.frequency.shift(context.next[:, None], np.arange(v.horizon))
        return Forecast(ds, back(x), levels, back(x - widths * scale), back(x + widths * scale))

    def quantiles(self, forecast: Forecast, scale: Array, quantiles: Any) -> Array:
        """(Q, B, K) in the user's unit, rising along Q.

        Args:
            forecast: of B origins.
            scale: (B,) of their series.
            quantiles: between 0 and 1.

        Raises:
            ArgumentError: a quantile that is not between 0 and 1.
        """
        c = self.value.calibration
        errors = quantile_errors(c.scores, c.counts, np.array(check_quantiles(quantiles)))
        return self._with_errors(forecast, errors[:, None] * scale[:, None])

    def samples(self, forecast: Forecast, scale: Array, number: int, seed: int = 0) -> Array:
        """(number, B, K) paths in the user's unit; those of different origins are independent.

        At every step they spread as the intervals do; from step to step they go as held-out errors went.

        Args:
            forecast: of B origins.
            scale: (B,) of their series.

        Raises:
            ArgumentError: the model has no held-out errors to go by.
        """
        c = self.value.calibration
        if c.paths is None:
            raise ArgumentError(
                "`samples` need at least two held-out forecasts whose rows are all known, but this model has "
                "none; fit again on more rows, or ask for quantiles."
            )
        rng = np.random.default_rng(seed)
        spread = quantile_errors(c.scores, c.counts, (np.arange(number) + 0.5) / number)
        errors = np.zeros((number, len(scale), self.value.horizon))
        for b in range(len(scale)):
            errors[:, b] = scale[b] * shuffled_errors(spread, c.paths, rng)
        return self._with_errors(forecast, errors)

    def _with_errors(self, forecast: Forecast, errors: Array) -> Array:
        """The forecast plus errors (…, B, K) in the model's unit."""
        if self.value.scaling.log:
            moved: Array = np.exp(np.log(forecast.mean) + errors)
        else:
            moved = forecast.mean + errors
        return moved

    def _contexts(self, history: History, origins: Origins) -> Iterator[Context]:
        for b in range(0, len(origins), BLOCK):
            yield history.context(origins[slice(b, b + BLOCK)], self.value.lookback, self.value.memory)

    def _point(self, context: Context) -> Array:
        v, frequency = self.value, self.frequency
        scale = context.scale[:, None]
        if self._plain is not None:
            z, level = normalise(context, v.season)
            y = self._plain.run(np.ascontiguousarray(z.T[..., None], np.float32))
            forecast: Array = level + y * scale
            return forecast
        assert v.smoothing is not None
        x = smoothed(v.smoothing, context.window, context.errors, v.horizon)
        if v.linear is not None:
            x = linear_path(v.linear, context, x, frequency, v.season)
        if v.recurrent is not None:
            assert self._recurrent is not None
            past = past_segments(context, frequency, v.season, v.recurrent.segment)
            future = future_segments(context, frequency, v.season, v.recurrent.segment, v.horizon)
            x = x + scale * v.recurrent.shrink * self._recurrent.run(past, future)[:, : v.horizon]
        return x


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Quantiles, rising and each once.

    Raises:
        ArgumentError: one that is not between 0 and 1.
    """
    given = quantiles if isinstance(quantiles, (tuple, list, np.ndarray)) else (quantiles,)
    for q in given:
        if isinstance(q, bool) or not isinstance(q, (int, float, np.number)) or not 0 < q < 1:
            raise ArgumentError(
                f"`quantiles` must be numbers between 0 and 1, such as (0.1, 0.5, 0.9), got {quantiles!r}."
            )
    return tuple(sorted({float(q) for q in given}))


def check_levels(level: Any) -> tuple[float, ...]:
    """Levels in per cent, rising and each once.

    Raises:
        ArgumentError: a level that is not between 0 and 100.
    """
    given = level if isinstance(level, (tuple, list, np.ndarray)) else (level,)
    for a in given:
        if isinstance(a, bool) or not isinstance(a, (int, float, np.number)) or not 0 < a < 100:
            raise ArgumentError(
                f"`level` must be per cent between 0 and 100, such as (80, 95), got {level!r}."
            )
    return tuple(sorted({float(a) for a in given}))
