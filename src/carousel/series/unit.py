"""The unit that a model forecasts in: the user's, its square root or its logarithm."""

from typing import Any

import numpy as np

from carousel.network.forecaster import Unit

__all__ = ["TITLES", "from_unit", "in_unit", "log_slope", "without"]

Array = np.ndarray[Any, Any]

TITLES: dict[Unit, str] = {"identity": "as given", "root": "square root", "log": "logarithm"}


def in_unit(values: Array, unit: Unit) -> Array:
    """The user's values in a model's unit; NaN below 0 for a square root, and at 0 too for a logarithm."""
    if unit == "identity":
        return values
    x = np.full(values.shape, np.nan)
    function = np.log if unit == "log" else np.sqrt
    return function(values, out=x, where=values > 0 if unit == "log" else values >= 0)


def from_unit(x: Array, unit: Unit) -> Array:
    """Values of a model's unit in the user's. A forecast of a root may be below 0: it stands for 0."""
    if unit == "identity":
        return x
    found: Array = np.exp(x) if unit == "log" else np.maximum(x, 0.0) ** 2
    return found


def log_slope(values: Array, unit: Unit) -> Array:
    """The logarithm of the slope of a model's unit at the user's values; of a root at 0, as at half the next one."""
    if unit == "identity":
        return np.zeros(values.shape)
    positive = values[values > 0]
    least = float(positive.min()) / 2 if len(positive) else 1.0
    logs = np.log(np.maximum(values, least))
    found: Array = -logs if unit == "log" else -logs / 2 - np.log(2)
    return found


def without(values: Array, unit: Unit) -> Array:
    """Which of the user's values have no root or logarithm, so that a model counts them as missing."""
    lost: Array = np.isnan(in_unit(values, unit)) & ~np.isnan(values)
    return lost
