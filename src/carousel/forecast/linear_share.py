"""How far each series follows the linear path from its smoothing.

One matrix serves all series, and those that move most decide on it. Where a panel is of several kinds it is wrong for
some: traffic whose week-ends are quiet is forecast half as busy then as on working days, as loads are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from carousel.forecast.by_series import DRAWN, QUARTERS, WORTH, Losses, relative, spread
from carousel.forecast.plan import Plan
from carousel.forecast.split import Spans
from carousel.network.forecaster import Smoothing
from carousel.series.history import History, Origins
from carousel.series.smoothing import Mixture

__all__ = ["choose_share", "own_share"]

Array = np.ndarray[Any, Any]

GRID = np.linspace(0, 1, 11)
ALIKE = (*DRAWN, np.inf)  # infinite: the same for all series


def choose_share(
    history: History, smoothing: Smoothing, plan: Plan, train: Spans, unseen: Callable[[Origins], Array]
) -> float | None:
    """As how many horizons of a series the losses of all count, if each then forecasts unseen rows better; else None.

    Args:
        unseen: (B, K) the linear path at training origins that it was not fitted on.
    """
    origins = spread(train)
    errors = _errors(history, smoothing, plan, origins, unseen)
    losses = _losses(errors)
    known = Losses.of(origins, losses, errors[2].sum(1), len(history.panel), plan.horizon)
    without = [known.without(q) for q in range(QUARTERS)]
    if not all(others.known.any() for others in without):
        return None
    tried = []
    for drawn in ALIKE:
        places = np.stack([_places(others, drawn) for others in without], 1)
        tried.append(losses[np.arange(len(losses)), places[origins.series, known.quarter]])
    found = relative(np.array(tried), losses[:, -1], origins.series)
    best = int(np.argmin(found))
    return ALIKE[best] if found[best] < WORTH else None


def own_share(
    history: History,
    smoothing: Smoothing,
    plan: Plan,
    train: Spans,
    unseen: Callable[[Origins], Array],
    drawn: float,
) -> Array:
    """(S + 1,) how far each series goes, 0 to 1; and one that was not fitted."""
    origins = spread(train)
    errors = _errors(history, smoothing, plan, origins, unseen)
    known = Losses.of(origins, _losses(errors), errors[2].sum(1), len(history.panel), plan.horizon)
    if not known.known.any():
        return np.ones(len(history.panel) + 1)
    shares: Array = GRID[np.append(_places(known, drawn), np.argmin(known.of_all()))]
    return shares


def _places(losses: Losses, drawn: float) -> Array:
    """(S,) the place in the grid of each series."""
    of_all = losses.of_all()
    if np.isinf(drawn):
        return np.full(len(losses.rows), np.argmin(of_all))
    places: Array = np.argmin(losses.drawn(drawn), 1)
    return places


def _errors(
    history: History, smoothing: Smoothing, plan: Plan, origins: Origins, unseen: Callable[[Origins], Array]
) -> tuple[Array, Array, Array]:
    """(B, K) how far the path goes from the smoothing and how far the truth is, by the scale; what was observed."""
    smooth = history.smoothed(origins, Mixture.of(smoothing, plan.horizon))
    truth, observed = history.targets(origins, plan.horizon)
    scale = history.scale[origins.series][:, None]
    return (unseen(origins) - smooth) / scale, (truth - smooth) / scale, observed


def _losses(errors: tuple[Array, Array, Array]) -> Array:
    """(B, 11) sums of absolute errors of every share."""
    path, truth, observed = errors
    return np.stack([(np.abs(truth - share * path) * observed).sum(1) for share in GRID], 1)
