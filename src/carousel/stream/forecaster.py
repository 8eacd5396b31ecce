"""A forecaster without torch: the learned value, run on NumPy and the compiled layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.errors import ArgumentError
from carousel.network.forecaster import ForecastModel
from carousel.series.calendar import Frequency
from carousel.series.conformal import half_widths
from carousel.series.history import Context, History, Origins, normalise
from carousel.series.linear import linear_path
from carousel.series.panel import Panel
from carousel.series.segments import future_segments, past_segments
from carousel.series.smoothing import smoothed
from carousel.stream.decoder import SegmentDecoder
from carousel.stream.network import NetworkModel

__all__ = ["Forecast", "ForecasterModel"]

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


class ForecasterModel:
    """Runs a `ForecastModel`; immutable, safe from several threads.

    Args:
        value: what `carousel.load` or `Forecaster.model_` holds.
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
        """The ends of the series that were fitted."""
        v = self.value
        return Context(v.tail.window, v.tail.errors, v.tail.next, v.scaling.center, v.scaling.scale)

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
            [half_widths(v.calibration.scores, a) for a in levels], (len(levels), 1, v.horizon)
        )
        back = np.exp if v.scaling.log else np.asarray
        ds = self.frequency.shift(context.next[:, None], np.arange(v.horizon))
        return Forecast(ds, back(x), levels, back(x - widths * scale), back(x + widths * scale))

    def _contexts(self, history: History, origins: Origins) -> Iterator[Context]:
        for b in range(0, len(origins), BLOCK):
            yield history.context(origins[slice(b, b + BLOCK)], self.value.lookback, self.value.memory)

    def _point(self, context: Context) -> Array:
        v, frequency = self.value, self.frequency
        scale = context.scale[:, None]
        if self._plain is not None:
            z, level = normalise(context, v.season)
            y = self._plain.run(np.ascontiguousarray(z.T[..., None], np.float32))
            return level + y * scale
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


def check_levels(level: Any) -> tuple[float, ...]:
    """Levels in per cent, rising and each once; an integer stays one, for the names of columns.

    Raises:
        ArgumentError: a level that is not between 0 and 100.
    """
    given = level if isinstance(level, (tuple, list, np.ndarray)) else (level,)
    for a in given:
        if isinstance(a, (bool, str)) or not 0 < a < 100:
            raise ArgumentError(
                f"`level` must be per cent between 0 and 100, such as (80, 95), got {level!r}."
            )
    return tuple(sorted({float(a) for a in given}))
