"""Missing values: filled from the past alone, so that no forecast can see its own future."""

from typing import Any

import numpy as np

__all__ = ["fill"]

Array = np.ndarray[Any, Any]


def fill(x: Array, season: int) -> Array:
    """A series without NaN: a missing value is the value of one season ago, moved to the present level.

        x[t] = x[t - m] + (x[t - 1] - x[t - 1 - m])        with m = 1 or no season yet: x[t] = x[t - 1]

    Values before the first observed one are the first observed one; a series of NaN only becomes zeros.

    Args:
        x: (N,).
        season: m.

    Example:
        >>> fill(np.array([1.0, 5.0, 2.0, np.nan, np.nan]), 2)
        array([1., 5., 2., 6., 3.])
    """
    missing = np.isnan(x)
    if not missing.any():
        return x
    x = x.copy()
    observed = np.flatnonzero(~missing)
    if not len(observed):
        return np.zeros_like(x)
    first = observed[0]
    x[:first] = x[first]
    for t in np.flatnonzero(missing[first:]) + first:
        seasonal = season > 1 and t > first + season
        x[t] = x[t - season] + (x[t - 1] - x[t - 1 - season]) if seasonal else x[t - 1]
    return x
