"""A panel in the model's unit, and what is known at an origin: for training, backtest and forecast alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.network.forecaster import Scaling, Smoothing
from carousel.series.filling import fill
from carousel.series.panel import Panel
from carousel.series.smoothing import errors

__all__ = ["Context", "History", "Origins", "normalise"]

Array = np.ndarray[Any, Any]

FLOOR = 0.2  # of the spread: a series that repeats its season exactly must not have a scale of 0


@dataclass(frozen=True)
class Origins:
    """B origins: the first row to forecast, `row[b]`, of series `series[b]`."""

    series: Array
    row: Array

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: Any) -> Origins:
        return Origins(self.series[index], self.row[index])


@dataclass(frozen=True)
class Context:
    """What a model may know at B origins.

    Args:
        window: (B, L) the last rows, in the model's unit, filled.
        errors: (B, M, G) the last smoothing errors; (B, 0, 0) without smoothing.
        next: (B,) time stamps of the first forecasts.
        center: (B,) of the series.
        scale: (B,) of the series.
    """

    window: Array
    errors: Array
    next: Array
    center: Array
    scale: Array

    def __len__(self) -> int:
        return len(self.window)

    def __getitem__(self, index: Any) -> Context:
        return Context(
            self.window[index], self.errors[index], self.next[index], self.center[index], self.scale[index]
        )


@dataclass(frozen=True)
class History:
    """A panel in the model's unit.

    Args:
        panel: as the user gave it.
        x: (N,) its values in the model's unit, missing ones filled from the past.
        observed: (N,) False where a value was missing.
        errors: (N, G) of the smoothing models.
        center: (S,) per series.
        scale: (S,) per series.
        season: m.
    """

    panel: Panel
    x: Array
    observed: Array
    errors: Array
    center: Array
    scale: Array
    season: int

    @classmethod
    def of(
        cls,
        panel: Panel,
        season: int,
        scaling: Scaling,
        smoothing: Smoothing | None,
        ids: tuple[str, ...],
        rows: Any = None,
    ) -> History:
        """A panel under what was learned from series `ids`.

        Other series get a scale of their own, from their first `rows` (S,) rows; from all without.
        """
        x = in_model_unit(panel, season, scaling.log)
        places = {name: s for s, name in enumerate(ids)}
        known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
        center, scale = own_scale(panel, x, season, rows)
        if len(ids):
            center = np.where(known >= 0, scaling.center[known], center)
            scale = np.where(known >= 0, scaling.scale[known], scale)
        e = np.zeros((len(x), 0)) if smoothing is None else panel_errors(panel, x, smoothing)
        return cls(panel, x, ~np.isnan(panel.values), e, center, scale, season)

    def ends(self) -> Origins:
        """The origin after the last row of every series."""
        return Origins(np.arange(len(self.panel)), self.panel.lengths)

    def context(self, origins: Origins, lookback: int, memory: int) -> Context:
        """What is known at these origins: nothing of a row at or after the origin enters."""
        s, t = origins.series, origins.row
        e, inside = self._errors_before(origins, memory)
        return Context(
            window=self.x[self._before(origins, lookback)],
            errors=np.where(inside[..., None], e, 0),
            next=self.panel.frequency.shift(self.panel.starts[s], t),
            center=self.center[s],
            scale=self.scale[s],
        )

    def targets(self, origins: Origins, horizon: int) -> tuple[Array, Array]:
        """(B, K) the rows from each origin on, in the model's unit, and where they were observed."""
        steps = origins.row[:, None] + np.arange(horizon)
        inside = steps < self.panel.lengths[origins.series][:, None]
        index = np.where(inside, self.panel.offsets[origins.series][:, None] + steps, 0)
        return np.where(inside, self.x[index], 0.0), inside & self.observed[index]

    def _before(self, origins: Origins, rows: int) -> Array:
        """(B, rows) indices of the rows before each origin; the first season is repeated backwards."""
        steps = origins.row[:, None] + np.arange(-rows, 0)
        period = np.minimum(self.season, np.maximum(origins.row, 1))[:, None]
        steps = np.where(steps < 0, steps % period, steps)
        return self.panel.offsets[origins.series][:, None] + steps

    def _errors_before(self, origins: Origins, memory: int) -> tuple[Array, Array]:
        steps = origins.row[:, None] + np.arange(-memory, 0)
        index = np.maximum(steps, 0) + self.panel.offsets[origins.series][:, None]
        return self.errors[index], steps >= 0


def normalise(context: Context, season: int) -> tuple[Array, Array]:
    """The window around the level of its last season, and that level: `window = level + scale * z`.

    Returns:
        z (B, L) and level (B, 1).
    """
    level = context.window[:, -season:].mean(1, keepdims=True)
    return (context.window - level) / context.scale[:, None], level


def in_model_unit(panel: Panel, season: int, log: bool) -> Array:
    """(N,) the panel's values, or their logarithms, filled; a value without a logarithm is missing."""
    values = panel.values
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(values > 0, np.log(values), np.nan)
    parts = [fill(values[a:b], season) for a, b in zip(panel.offsets[:-1], panel.offsets[1:], strict=True)]
    return np.concatenate([np.zeros(0), *parts])


def own_scale(panel: Panel, x: Array, season: int, rows: Any = None) -> tuple[Array, Array]:
    """(S,) mean and scale of each series.

    The scale is the root mean square change from one season to the next, so that series count by how hard
    they are to forecast, and at least a fifth of the distance from the level; 1 for a constant series.
    """
    center, scale = np.zeros(len(panel)), np.ones(len(panel))
    stops = panel.offsets[:-1] + (panel.lengths if rows is None else np.minimum(rows, panel.lengths))
    for s, (a, b) in enumerate(zip(panel.offsets[:-1], stops, strict=True)):
        if a == b:
            continue
        part = x[a:b]
        center[s] = part.mean()
        m = max(min(season, len(part)), 1)
        sums = np.concatenate([[0.0], np.cumsum(part - center[s])])
        level = (sums[m:] - sums[:-m]) / m + center[s]
        spread = float(np.sqrt(np.mean((part[m - 1 :] - level) ** 2))) if m > 1 else float(part.std())
        change = float(np.sqrt(np.mean((part[m:] - part[:-m]) ** 2))) if len(part) > m else spread
        scale[s] = max(change, FLOOR * spread)
        if scale[s] <= 1e-12 * abs(center[s]) or scale[s] == 0:  # relative: a unit may be small
            scale[s] = 1.0
    return center, scale


def panel_errors(panel: Panel, x: Array, smoothing: Smoothing) -> Array:
    """(N, G) the errors of every series, 64 series of similar length at a time."""
    out = np.zeros((len(x), len(smoothing.weights)))
    order = np.argsort(panel.lengths, kind="stable")
    for some in np.array_split(order, max(1, -(-len(order) // 64))):
        longest = int(panel.lengths[some].max(initial=0))
        block = np.zeros((len(some), longest))
        for j, s in enumerate(some):
            block[j, : panel.lengths[s]] = x[panel.offsets[s] : panel.offsets[s + 1]]
        e = errors(smoothing, block)
        for j, s in enumerate(some):
            out[panel.offsets[s] : panel.offsets[s + 1]] = e[j, : panel.lengths[s]]
    return out
