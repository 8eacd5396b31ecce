"""The unit that a model forecasts in: the user's, its square root or its logarithm."""

from typing import Any

import numpy as np

from carousel.network.forecaster import Unit

__all__ = ["from_unit", "in_unit"]

Array = np.ndarray[Any, Any]


def in_unit(values: Array, unit: Unit) -> Array:
    """The user's values in a model's unit; NaN below 0 for a square root, and at 0 too for a logarithm."""
    if unit == "identity":
        return values
    x = np.full(values.shape, np.nan)
    return (
        np.log(values, out=x, where=values > 0)
        if unit == "log"
        else np.sqrt(values, out=x, where=values >= 0)
    )


def from_unit(x: Array, unit: Unit) -> Array:
    """Values of a model's unit in the user's. A forecast of a root may be below 0: it stands for 0."""
    if unit == "identity":
        return x
    found: Array = np.exp(x) if unit == "log" else np.maximum(x, 0.0) ** 2
    return found
