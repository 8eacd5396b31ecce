"""A panel in the model's unit, and what is known at an origin: for training, backtest and forecast alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import FormatError
from carousel.network import document
from carousel.network.document import later
from carousel.network.forecaster import CovariatePaths, Scaling, Smoothing, Unit
from carousel.series.covariates import Encoded, Seen, effect, encoded
from carousel.series.filling import fill
from carousel.series.panel import Panel
from carousel.series.smoothing import Mixture
from carousel.series.smoothing_errors import SmoothingErrors
from carousel.series.starting import starting_rows
from carousel.series.unit import in_unit

__all__ = [
    "ENOUGH",
    "Context",
    "History",
    "Origins",
    "enough",
    "few",
    "normalise",
    "steps_before",
    "without_effect",
]

Array = np.ndarray[Any, Any]

STILL = 0.01  # of a typical scale: of a series that has never changed
BLOCK = 512  # origins whose smoothing errors are held at a time
FLOOR = 0.2  # of the spread: a series that repeats its season exactly must not have a scale of 0
MEASURED = 8  # changes from which on a scale is the series' own
ENOUGH = 2**62  # rows of a series of which nobody counts them
PRIOR = 2  # changes that what is typical counts for in a series of fewer


@dataclass(frozen=True)
class Origins:
    """B origins: the first row to forecast, `row[b]`, of series `series[b]`."""

    series: Array
    row: Array

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: Any) -> Origins:
        return Origins(self.series[index], self.row[index])

    def row_quantiles(self, q: Array) -> Array:
        """The rows below which these shares of the origins lie."""
        quantiles: Array = np.quantile(self.row, q)
        return quantiles


@document("forecaster.state", since=2)
@dataclass(frozen=True)
class Context:
    """What a model may know at B origins; the state of B streams. A plain value, to be kept or sent.

    Args:
        window: (B, L) the last rows, in the model's unit, filled.
        errors: (B, M, G) the last smoothing errors; (B, 0, 0) without smoothing.
        next: (B,) time stamps of the first forecasts.
        center: (B,) of the series.
        scale: (B,) of the series.
        covariates: what is known of them; None for a model without.
        series: (B,) which of the fitted series each is, -1 for none of them; None where nobody asks.
        rows: (B,) how many rows each has had, where one has had so few that some of what stands here was made up before
            its first one, or that the next one says where its smoothing started; None where all have had enough.
    """

    window: NDArray[np.float64]
    errors: NDArray[np.float64]
    next: NDArray[np.datetime64] | NDArray[np.int64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    covariates: Seen | None = later(None, since=3)
    series: NDArray[np.int64] | None = later(None, since=3)
    rows: NDArray[np.int64] | None = later(None, since=3)

    def __post_init__(self) -> None:
        B = len(self.window)
        axes = (self.window.ndim, self.errors.ndim, self.next.ndim, self.center.ndim, self.scale.ndim)
        if axes != (2, 3, 1, 1, 1) or not (
            B == len(self.errors) == len(self.next) == len(self.center) == len(self.scale)
            and (self.covariates is None or len(self.covariates) == B)
            and (self.series is None or self.series.shape == (B,))
            and (self.rows is None or self.rows.shape == (B,))
        ):
            raise FormatError(
                "the state of a forecaster: window must be (B, L), errors (B, M, G), the others (B,)."
            )

    def __len__(self) -> int:
        return len(self.window)

    @staticmethod
    def join(parts: Sequence[Context]) -> Context:
        """Those of `parts`, which are not none, one after the other."""
        seen = [part.covariates for part in parts if part.covariates is not None]
        joined: dict[str, Any] = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(Context)
            if f.name not in ("covariates", "rows") and getattr(parts[0], f.name) is not None
        }
        few = any(part.rows is not None for part in parts)
        rows = [np.full(len(part), ENOUGH) if part.rows is None else part.rows for part in parts]
        return Context(
            **joined,
            covariates=Seen.join(seen) if seen else None,
            rows=np.concatenate(rows) if few else None,
        )

    def __getitem__(self, index: Any) -> Context:
        return Context(
            self.window[index],
            self.errors[index],
            self.next[index],
            self.center[index],
            self.scale[index],
            None if self.covariates is None else self.covariates[index],
            None if self.series is None else self.series[index],
            None if self.rows is None else self.rows[index],
        )


@dataclass(frozen=True)
class History:
    """A panel in the model's unit: without the effect of future covariates, square roots or logarithms where the
    scaling says so.

    Args:
        panel: as the user gave it.
        x: (N,) its values in the model's unit, missing ones filled from the past.
        observed: (N,) False where a value was missing.
        errors: of the smoothing models; None without.
        center: (S,) per series.
        scale: (S,) per series.
        season: m.
        covariates: as the paths read them; None for a model without.
        horizon: K, as far as a context holds future covariates.
        known: (S,) which of the fitted series each is, -1 for none of them.
    """

    panel: Panel
    x: Array
    observed: Array
    errors: SmoothingErrors | None
    center: Array
    scale: Array
    season: int
    covariates: Encoded | None = None
    horizon: int = 0
    known: Array | None = None

    @classmethod
    def of(
        cls,
        panel: Panel,
        season: int,
        scaling: Scaling,
        smoothing: Smoothing | None,
        ids: tuple[str, ...],
        rows: Any = None,
        paths: CovariatePaths | None = None,
        horizon: int = 0,
    ) -> History:
        """A panel under what was learned from series `ids`.

        Other series get a scale of their own, from their first `rows` (S,) rows; from all without.
        """
        covariates, of_gaps = None, scaling.of_gaps(season)
        if paths is not None:
            covariates = _encoded(panel, season, scaling, paths, ids, rows)
            adjusted = without_effect(panel, covariates, paths.effect, scaling.unit)
            x = in_model_unit(adjusted, of_gaps, scaling.unit)
        else:
            x = in_model_unit(panel, of_gaps, scaling.unit)
        places = {name: s for s, name in enumerate(ids)}
        known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
        center, scale = own_scale(panel, x, season, rows, scaling)
        if len(ids):
            center = np.where(known >= 0, scaling.center[known], center)
            scale = np.where(known >= 0, scaling.scale[known], scale)
        e = None if smoothing is None else SmoothingErrors.of(smoothing, x, panel.offsets)
        return cls(panel, x, ~np.isnan(panel.values), e, center, scale, season, covariates, horizon, known)

    def ends(self) -> Origins:
        """The origin after the last row of every series."""
        return Origins(np.arange(len(self.panel)), self.panel.lengths)

    def context(self, origins: Origins, lookback: int, memory: int) -> Context:
        """What is known at these origins: nothing of a row at or after the origin enters."""
        s, t = origins.series, origins.row
        known = self.covariates
        seen = None if known is None else known.seen(self.panel, s, t, lookback, self.horizon)
        return Context(
            window=self.x[self._before(origins, lookback)],
            errors=self._errors_before(origins, memory),
            next=self.panel.frequency.shift(self.panel.starts[s], t),
            center=self.center[s],
            scale=self.scale[s],
            covariates=seen,
            series=None if self.known is None else self.known[s],
            rows=few(t, enough(lookback, None if self.errors is None else self.errors.model, self.season)),
        )

    def smoothed(self, origins: Origins, mixture: Mixture) -> Array:
        """(B, K) what a mixture of the smoothing models forecasts."""
        M, _, K = mixture.errors.shape
        parts = [np.zeros((0, K))]
        for b in range(0, len(origins), BLOCK):  # M errors of every model for one origin
            some = origins[slice(b, b + BLOCK)]
            known = None if self.known is None else self.known[some.series]
            parts.append(mixture(self.x[self._before(some, M)], self._errors_before(some, M), known))
        return np.concatenate(parts)

    def targets(self, origins: Origins, horizon: int) -> tuple[Array, Array]:
        """(B, K) the rows from each origin on, in the model's unit, and where they were observed."""
        index, inside = self._after(origins, horizon)
        return np.where(inside, self.x[index], 0.0), inside & self.observed[index]

    def given(self, origins: Origins, horizon: int) -> Array:
        """(B, K) the rows from each origin on, in the user's unit; NaN where there are none."""
        index, inside = self._after(origins, horizon)
        return np.where(inside, self.panel.values[index], np.nan)

    def _after(self, origins: Origins, rows: int) -> tuple[Array, Array]:
        """(B, rows) indices of the rows from each origin on, 0 where there are none, and where there are some."""
        index = origins.row[:, None] + np.arange(rows)
        inside = index < self.panel.lengths[origins.series][:, None]
        index += self.panel.offsets[origins.series][:, None]
        index[~inside] = 0
        return index, inside

    def _before(self, origins: Origins, rows: int) -> Array:
        """(B, rows) indices of the rows before each origin; the first season is repeated backwards."""
        steps = steps_before(origins.row, rows, self.season)
        steps += self.panel.offsets[origins.series][:, None]
        return steps

    def _errors_before(self, origins: Origins, rows: int) -> Array:
        """(B, rows, G) the errors before each origin, 0 before the first row."""
        if self.errors is None:
            return np.zeros((len(origins), rows, 0))
        if rows == 0:  # a network is trained on windows alone, in many small batches
            return np.zeros((len(origins), 0, len(self.errors.model.weights)))
        return self.errors.before(origins.series, origins.row, rows)


def steps_before(row: Array, rows: int, season: int) -> Array:
    """(B, rows) the rows before row `row[b]` of a series; before its first one, the first season repeated backwards.

    Example:
        >>> steps_before(np.array([2, 5]), 6, season=4)
        array([[0, 1, 0, 1, 0, 1],
               [3, 0, 1, 2, 3, 4]])
    """
    steps = row[:, None] + np.arange(-rows, 0)
    early = np.flatnonzero(row < rows)
    if len(early):
        some, period = steps[early], np.minimum(season, np.maximum(row[early], 1))
        steps[early] = np.where(some < 0, some % period[:, None], some)
    return steps


def enough(lookback: int, smoothing: Smoothing | None, season: int) -> int:
    """Rows of a series from which on a state sees nothing before the first one, and rows move no start any more."""
    return max(lookback, starting_rows(smoothing), season + 1)


def few(rows: Array, whole: int) -> Array | None:
    """Numbers of rows, `whole` at most; None where all are."""
    return np.minimum(rows, whole) if (rows < whole).any() else None


def normalise(context: Context, season: int) -> tuple[Array, Array]:
    """The window around the level of its last season, and that level: `window = level + scale * z`.

    Returns:
        z (B, L) and level (B, 1).
    """
    level = context.window[:, -season:].sum(1, keepdims=True) / min(season, context.window.shape[1])
    return (context.window - level) / context.scale[:, None], level


def in_model_unit(panel: Panel, of_gaps: int, unit: Unit) -> Array:
    """(N,) the panel's values in a unit, filled by this season; a value without a root or logarithm is missing."""
    values = in_unit(panel.values, unit)
    if not np.isnan(values).any():
        return values
    parts = [fill(values[a:b], of_gaps) for a, b in zip(panel.offsets[:-1], panel.offsets[1:], strict=True)]
    return np.concatenate([np.zeros(0), *parts])


def without_effect(panel: Panel, covariates: Encoded, coefficients: Array | None, unit: Unit) -> Panel:
    """The panel, in the user's unit, as it would be without its future covariates; not of square roots."""
    if coefficients is None:
        return panel
    parts = [np.zeros(0)]
    for s, length in enumerate(panel.lengths):
        first = covariates.offsets[s]
        added = covariates.unit[s] * effect(coefficients, covariates.future[first : first + length])
        parts.append(panel.series(s) * np.exp(-added) if unit == "log" else panel.series(s) - added)
    return replace(panel, values=np.concatenate(parts))


def _encoded(
    panel: Panel, season: int, scaling: Scaling, paths: CovariatePaths, ids: tuple[str, ...], rows: Any
) -> Encoded:
    """The covariates as learned; a series that was not fitted has its own unit, as it has its own scale."""
    assert panel.covariates is not None
    places = {name: s for s, name in enumerate(ids)}
    known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
    if (known >= 0).all():
        scale = paths.unit[known]
    else:
        x = in_model_unit(panel, scaling.of_gaps(season), scaling.unit)
        _, scale = own_scale(panel, x, season, rows, scaling)
        scale = np.where(known >= 0, paths.unit[known], scale) if len(ids) else scale
    return encoded(paths, panel.covariates, panel, scale)


def own_scale(
    panel: Panel, x: Array, season: int, rows: Any = None, learned: Scaling | None = None
) -> tuple[Array, Array]:
    """(S,) mean and scale of each series.

    The scale is the root mean square change from one season to the next, so that series count by how hard
    they are to forecast, and at least a fifth of the distance from the level. Of few changes it is drawn to what is
    typical of series of that size, for a few rows may be alike by chance. A constant series gets a hundredth of what is
    typical, or else its own size. Typical are the series that were `learned`, or else the others.
    """
    center, scale, spreads, changes = np.zeros((4, len(panel)))
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
        spreads[s] = spread
        changes[s] = max(len(part) - m, int(m > 1))
        scale[s] = max(change, FLOOR * spread)
        if scale[s] <= 1e-12 * abs(center[s]):  # relative: a unit may be small
            scale[s] = 0.0
    whole = (changes >= MEASURED) & (scale > 0)
    known = (center[whole], scale[whole]) if learned is None else (learned.center, learned.scale)
    if len(known[1]) and (changes < MEASURED).any():
        like = _alike(np.abs(center), *known)
        if learned is None:  # of less than a season nobody knows the season
            apart = _alike(np.abs(center), center[whole], np.maximum(scale, spreads)[whole])
            like = np.where(stops - panel.offsets[:-1] < season, apart, like)
        drawn = np.sqrt((changes * scale**2 + PRIOR * like**2) / (changes + PRIOR))
        scale = np.where(changes < MEASURED, drawn, scale)
    still = scale == 0
    if still.any():
        others = known[1] if len(known[1]) else scale[~still]
        size = np.where(center == 0, 1.0, np.abs(center))
        scale = np.where(still, STILL * np.median(others) if len(others) else size, scale)
    return center, scale


def _alike(sizes: Array, center: Array, scale: Array) -> Array:
    """(S,) the scale that is typical of series of these sizes, by that of others; without rows the median."""
    size = float(np.median(np.abs(center)))
    share = np.clip(sizes / size, STILL, 1 / STILL) if size > 0 else np.ones(len(sizes))
    like: Array = float(np.median(scale)) * np.where(sizes == 0, 1.0, share)
    return like
