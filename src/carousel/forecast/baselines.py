"""The forecasts that a model must beat, at the same origins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from carousel.forecast.closed_form import PENALTIES
from carousel.forecast.moments import Moments, missing, refills
from carousel.forecast.plan import Plan
from carousel.forecast.split import Spans, thinned
from carousel.network.forecaster import Scaling
from carousel.series.filling import carried_on
from carousel.series.history import History, Origins
from carousel.series.panel import Panel

__all__ = ["baselines", "seasonal_unit"]

Array = np.ndarray[Any, Any]

ORIGINS = 50_000  # that the ridge baseline is fitted on


def baselines(panel: Panel, plan: Plan, train: Spans, origins: Origins) -> dict[str, Array]:
    """Persistence, seasonal naive (of every season) and ridge: (B, K) each, in the user's unit.

    Args:
        train: origins whose horizons end before the first of `origins`; ridge is fitted on them.
    """
    ends = np.where(train.stop > train.first, train.stop - 1 + plan.horizon, 0)
    first = np.full(len(panel), np.iinfo(np.int64).max)
    np.minimum.at(first, origins.series, origins.row)
    rows = np.minimum(np.maximum(ends, plan.lookback), first)
    unit = Scaling(False, np.zeros(0), np.zeros(0), carried=plan.carried)
    history = History.of(panel, plan.season, unit, None, (), rows)  # scales from training rows only
    out = {}
    for m in sorted({1, *plan.seasons}):
        name = "persistence" if m == 1 else "seasonal naive" if m == plan.season else f"seasonal naive {m}"
        out[name] = _repeated(history, origins, m)[:, np.arange(plan.horizon) % m]
    if len(train) >= 10:
        out["ridge"] = _ridge(history, plan, train, origins)
    return out


def _repeated(history: History, origins: Origins, m: int) -> Array:
    """(B, m) the last m rows; where one is missing, that of m rows before it."""
    if not history.observed.all():
        x = np.concatenate([np.zeros(0), *(carried_on(series, m) for series in history.panel)])
        history = replace(history, x=x)
    return history.context(origins, m, 0).window


def seasonal_unit(panel: Panel, season: int, rows: Array) -> Array:
    """(S,) the mean absolute seasonal difference of the first `rows[s]` rows: the unit of MASE."""
    units = np.zeros(len(panel))
    for s in range(len(panel)):
        x = panel.series(s)[: rows[s]]
        if len(x) > season:
            difference = np.abs(x[season:] - x[:-season])
            units[s] = np.nanmean(difference) if not np.isnan(difference).all() else 0.0
    return units


def _ridge(history: History, plan: Plan, spans: Spans, origins: Origins) -> Array:
    """Direct ridge of the window around its last value; its penalty is chosen on the last fifth."""
    train = thinned(spans, ORIGINS)
    late = train.row > np.quantile(train.row, 0.8)
    early = train[~late] if late.any() and not late.all() else train
    F, y, _, _ = _rows(history, plan, thinned(train[late] if late.any() else train, 5000))
    known = ~np.isnan(y)
    A = np.zeros((plan.lookback + 1, plan.horizon))
    for _ in range(1 + refills(missing(history, spans, plan.horizon))):
        first = _sums(history, plan, early, A)
        tried = [first.coefficients(p)[0] for p in PENALTIES]
        best = int(np.argmin([float(((F @ one - y)[known] ** 2).sum()) for one in tried]))
        A = tried[best]
    A = _sums(history, plan, train, A).coefficients(PENALTIES[best])[0]
    forecasts = [np.zeros((0, plan.horizon))]
    for some in _blocks(origins):
        F, _, last, scale = _rows(history, plan, some)
        forecasts.append(last + scale * (F @ A))
    return np.concatenate(forecasts)


def _sums(history: History, plan: Plan, origins: Origins, A: Array) -> Moments:
    """Sums in which a missing target is what A (L + 1, K) says."""
    moments = Moments.zero(1, plan.lookback + 1, plan.horizon)
    for some in _blocks(origins):
        F, y, _, _ = _rows(history, plan, some)
        y = np.where(np.isnan(y), F @ A, y)
        moments.add(F, y, np.zeros_like(y), np.zeros(len(F), np.int64))
    return moments


def _rows(history: History, plan: Plan, origins: Origins) -> tuple[Array, Array, Array, Array]:
    """Features (B, L + 1), targets (B, K), NaN where missing, last values (B, 1) and scales (B, 1)."""
    context = history.context(origins, plan.lookback, 0)
    truth, observed = history.targets(origins, plan.horizon)
    last, scale = context.window[:, -1:], context.scale[:, None]
    F = np.concatenate([(context.window - last) / scale, np.ones((len(last), 1))], 1)
    return F, np.where(observed, (truth - last) / scale, np.nan), last, scale


def _blocks(origins: Origins) -> Iterator[Origins]:
    return (origins[slice(b, b + 4096)] for b in range(0, len(origins), 4096))
