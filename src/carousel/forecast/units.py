"""Which unit a model forecasts in, the one given, its square root or its logarithm, and whether zero bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from carousel.forecast.closed_form import sketched_linear
from carousel.forecast.plan import Plan
from carousel.forecast.smoothing_fit import fit_smoothing, scored
from carousel.forecast.split import Spans, thinned
from carousel.network.forecaster import Smoothing, Unit
from carousel.series.history import History, in_model_unit, own_scale
from carousel.series.panel import Panel
from carousel.series.unit import from_unit, log_slope

__all__ = ["Tried", "choose_unit", "is_bounded", "try_units"]

Array = np.ndarray[Any, Any]

GAIN = 0.98  # of the error, below which a unit is worth its asymmetric intervals
ORIGINS = 10_000  # that a sketch of the linear path is fitted and judged on
WORTH = 2.0  # more in the logarithm of the likelihood, of independent rows, for errors to be those of another unit
EXACT = 1e-9  # of the size of the values: errors below that are none
CHANCE = 0.05  # that no value of a series without a bound would have been below 0, under which it has one
EARLY = 0.75  # of the rows, that say so: a series that falls comes near 0 at its end


@dataclass(frozen=True)
class Tried:
    """How well rows were forecast in a unit that were not fitted.

    Args:
        error: mean absolute error in the user's unit, in units of the scale; infinite where it was not asked for.
        likelihood: its logarithm, if errors of the smoothing one row ahead follow Laplace's distribution in this unit,
            of one width for each series; per step of the user's unit, so that units can be compared (Box and Cox 1964).
    """

    unit: Unit
    error: float
    likelihood: float


def try_units(
    rows: Callable[[Unit], Panel], every: Panel, plan: Plan, root: bool, log: bool = True, choose: bool = True
) -> tuple[Tried, ...]:
    """The units that these rows have, the one given first; one alone is not judged.

    Args:
        rows: gives the rows that may choose, as they would be without their future covariates under a unit.
        every: all rows, held-out ones too: a value without a root or logarithm would count as missing, and what a
            unit makes of the noise shows where the values are least, which may be at the end.
        root: a square root may be taken; with covariates it may not, whose effect is added or a factor.
        choose: one of them will be chosen, for which all must forecast.
    """
    least = float(np.nanmin(every.values))
    units: list[Unit] = ["identity"]
    units += ["root"] * (root and least >= 0)
    units += ["log"] * (log and least > 0)
    alone = (Tried("identity", np.inf, -np.inf),)
    if len(units) == 1:
        return alone
    panels = {unit: scored(rows(unit)) for unit in units}
    panel = panels["identity"]
    first = np.minimum(plan.lookback, np.maximum(panel.lengths // 3, 1))
    origins = thinned(Spans(first, panel.lengths - plan.horizon + 1), ORIGINS)
    if not len(origins):
        return alone
    scale = own_scale(panel, in_model_unit(panel, plan.of_gaps, "identity"), plan.season)[1]

    def error(unit: Unit) -> float:
        history, smoothing = _smoothed(panels[unit], plan, unit)
        forecast = sketched_linear(history, smoothing, plan, origins)(origins)
        truth = history.given(origins, plan.horizon)
        found = np.abs(from_unit(forecast, unit) - truth) / scale[origins.series][:, None]
        known = ~np.isnan(found)
        return float(found[known].mean()) if known.any() else np.inf

    return tuple(
        Tried(unit, error(unit) if choose else np.inf, _likelihood(scored(every), plan, unit))
        for unit in units
    )


def choose_unit(tried: tuple[Tried, ...]) -> Unit:
    """The unit in which smoothing and a linear path would have forecast these rows best.

    What grows by a part of itself each year, with noise in proportion, is straight as a logarithm; counts, whose
    noise grows as the root of their size, are as even as noise gets as a square root (Bartlett 1936). Both are asked
    for: the absolute error must be lower, and the errors must be likelier. A series that falls towards 0 may look
    straighter as a logarithm; but noise that is as large there as ever would be a factor of thousands.
    """
    given, *others = tried
    kept = given
    for one in others:
        if one.error < GAIN * kept.error and one.likelihood > given.likelihood:
            kept = one
    return kept.unit


def is_bounded(panel: Panel, plan: Plan, tried: tuple[Tried, ...]) -> bool:
    """Whether a series without a value below 0 cannot have any, as far as its values tell.

    So do whole numbers, which are counts; a 0 that comes again; errors that are smaller near 0, as those of its root or
    logarithm; and rows so near to 0, for so long, that one below would have been seen. That a trend may cross 0 says
    none of them.

    Args:
        tried: of `try_units`.
    """
    values = panel.values[~np.isnan(panel.values)]
    if not len(values) or values.min() < 0:
        return False
    if (values == np.floor(values)).all() or np.count_nonzero(values == 0) > 1:
        return True
    given, *others = tried
    if any(one.likelihood > given.likelihood + WORTH for one in others):
        return True
    return _log_chance(scored(panel), plan) < float(np.log(CHANCE))


def _likelihood(panel: Panel, plan: Plan, unit: Unit) -> float:
    slopes, total = log_slope(panel.values, unit), 0.0
    for some, off in _one_ahead(*_smoothed(panel, plan, unit)):
        if len(off) and (size := float(np.abs(panel.values[some]).max())) > 0:
            # Errors of rounding, and none, are as likely in one unit as in another.
            least = EXACT * size * float(np.exp(slopes[some].mean()))
            width = max(float(np.abs(off).mean()), least)
            total += float(slopes[some].sum() - len(off) * np.log(width))
    return total


def _log_chance(panel: Panel, plan: Plan) -> float:
    """The logarithm of the probability that no early row would be below 0 if errors were the same everywhere."""
    import torch

    early = panel.head((EARLY * panel.lengths).astype(np.int64))
    history, smoothing = _smoothed(early, plan, "identity")
    total = 0.0
    for some, off in _one_ahead(history, smoothing):
        if len(off) and (spread := float(np.sqrt(np.pi / 2) * np.abs(off).mean())) > 0:
            expected = torch.from_numpy((history.x[some] - off) / spread)
            total += float(torch.special.log_ndtr(expected).sum())
    return total


def _smoothed(panel: Panel, plan: Plan, unit: Unit) -> tuple[History, Smoothing]:
    scaling, smoothing = fit_smoothing(panel, plan, unit)
    return History.of(panel, plan.season, scaling, smoothing, panel.ids), smoothing


def _one_ahead(history: History, smoothing: Smoothing) -> Iterator[tuple[Array, Array]]:
    """Of every series, the observed rows of which the smoothing knows all lags, by number, and its errors there."""
    assert history.errors is not None
    for s, (a, b) in enumerate(pairwise(history.panel.offsets)):
        rows = np.arange(min(a + smoothing.memory, b), b)
        rows = rows[history.observed[rows]]
        weights = smoothing.weights if smoothing.own is None else smoothing.own[s]
        yield rows, (history.errors.of_series(s) @ weights)[rows - a]
