"""Which unit a model forecasts in: the one given, its square root or its logarithm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from carousel.forecast.closed_form import fit_smoothing, scored, sketched_linear
from carousel.forecast.plan import Plan
from carousel.forecast.split import every_origin, thinned
from carousel.network.forecaster import Unit
from carousel.series.history import History, in_model_unit, own_scale
from carousel.series.panel import Panel
from carousel.series.unit import from_unit

__all__ = ["choose_unit"]

GAIN = 0.98  # of the error, below which a unit is worth its asymmetric intervals
ORIGINS = 10_000  # that a sketch of the linear path is fitted and judged on


def choose_unit(rows: Callable[[Unit], Panel], plan: Plan, least: float, root: bool) -> Unit:
    """The unit in which smoothing and a linear path would have forecast these rows best.

    What grows by a part of itself each year, with noise in proportion, is straight as a logarithm; counts, whose
    noise grows as the root of their size, are as even as noise gets as a square root (Bartlett 1936). Judged is the
    mean absolute error in the user's unit, in units of the scale, of rows that the path was not fitted on.

    Args:
        rows: gives the panel, in the user's unit, as it would be without its future covariates under a unit.
        least: the least value of all, held-out rows too: one without a root or logarithm would count as missing.
        root: a square root may be taken; with covariates it may not, whose effect is added or a factor.
    """
    units: list[Unit] = ["identity"]
    units += ["root"] * (root and least >= 0)
    units += ["log"] * (least > 0)
    if len(units) == 1:
        return "identity"
    panels = {unit: scored(rows(unit)) for unit in units}
    panel = panels["identity"]
    first = np.minimum(plan.lookback, np.maximum(panel.lengths // 3, 1))
    origins = thinned(every_origin(first, panel.lengths - plan.horizon + 1), ORIGINS)
    if not len(origins):
        return "identity"
    scale = own_scale(panel, in_model_unit(panel, plan.season, "identity"), plan.season)[1]

    def loss(unit: Unit) -> float:
        panel = panels[unit]
        scaling, smoothing = fit_smoothing(panel, plan, unit)
        history = History.of(panel, plan.season, scaling, smoothing, panel.ids)
        forecast = sketched_linear(history, smoothing, plan, origins)(origins)
        error = np.abs(from_unit(forecast, unit) - history.given(origins, plan.horizon))
        known = ~np.isnan(error)
        return float((error / scale[origins.series][:, None])[known].mean()) if known.any() else np.inf

    kept, error = units[0], loss(units[0])
    for unit in units[1:]:
        tried = loss(unit)
        if tried < GAIN * error:
            kept, error = unit, tried
    return kept
