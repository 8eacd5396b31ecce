"""Which rows at the end of a series were missing: a model remembers them filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel.series.panel import Panel

__all__ = ["missing_places", "observed_ends"]

Array = np.ndarray[Any, Any]


def observed_ends(panel: Panel, rows: int) -> Array:
    """(S, rows) False where one of the last rows is missing; True before the first row, where none is due.

    Example:
        >>> observed_ends(Panel.of([[np.nan, 1.0, np.nan], [2.0]]), 2)
        array([[ True, False],
               [ True,  True]])
    """
    steps = panel.lengths[:, None] + np.arange(-rows, 0)
    values = panel.values[np.maximum(steps, 0) + panel.offsets[:-1, None]]
    observed: Array = ~np.isnan(values) | (steps < 0)
    return observed


def missing_places(observed: Array) -> Array | None:
    """`missing` of `carousel.network.forecaster.Tail`, of rows (S, L)."""
    places = np.flatnonzero(~observed)
    return places if len(places) else None
