"""Missing values: filled from the past alone, so that no forecast can see its own future."""

from typing import Any

import numpy as np

__all__ = ["carried_on", "fill", "filled", "is_level"]

Array = np.ndarray[Any, Any]


DAMPING = 0.9  # of the distance from the last season: at 1 a long gap repeats the noise of one row for ever
# (mean error in gaps of three seasons, of that at 1: hourly loads 0.57, daily temperatures 0.62, but 1.6 for
# the airline passengers; at 0.5 gaps of one row suffer: 3.2 for the loads)


def fill(x: Array, season: int) -> Array:
    """A series without NaN: a missing value is the value of one season ago, moved towards the present level.

        x[t] = x[t - m] + 0.9 (x[t - 1] - x[t - 1 - m])        with m = 1 or no season yet: x[t] = x[t - 1]

    Values before the first observed one are the first observed one; a series of NaN only becomes zeros.

    Args:
        x: (N,).
        season: m.

    Example:
        >>> fill(np.array([1.0, 5.0, 2.0, np.nan, np.nan]), 2).round(2)
        array([1.  , 5.  , 2.  , 5.9 , 2.81])
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
        x[t] = filled(x[t - season], x[t - 1], x[t - 1 - season]) if seasonal else x[t - 1]
    return x


def carried_on(x: Array, m: int) -> Array:
    """A series in which a missing value is that of m rows before; with m = 1 the last one that was observed.

    Where there is none, it is the value before it, and before the first one the first.

    Example:
        >>> carried_on(np.array([1.0, 5.0, np.nan, np.nan, np.nan]), 2)
        array([1., 5., 1., 5., 1.])
    """
    missing = np.isnan(x)
    if not missing.any():
        return x
    x = x.copy()
    for t in np.flatnonzero(missing[m:]) + m:
        x[t] = x[t - m]
    return fill(x, 1)


def is_level(series: list[Array], season: int) -> bool:
    """Whether the last value tells more of missing ones than a season ago does: a series without that season.

    Both fill gaps of up to a season in rows that are known; every series has one vote, as large as it is clear.

    Args:
        series: of rows, NaN where missing.
        season: m of `fill`.
    """
    votes = 0.0
    for x in series:
        last = seasonal = 0.0
        for h in range(1, min(season, len(x) - season - 1) + 1):
            now, before = x[season:-h], x[: -season - h]
            truth, ago = x[season + h :], x[h:-season]
            off = np.abs(truth - now), np.abs(truth - ago - DAMPING**h * (now - before))
            known = ~np.isnan(off[0] + off[1])
            last += float(off[0][known].sum())
            seasonal += float(off[1][known].sum())
        if last + seasonal > 0:
            votes += seasonal / (last + seasonal) - 0.5
    return votes > 0


def filled(season: Any, last: Any, before: Any) -> Any:
    """A missing value: of one season ago, moved towards the present level.

    Args:
        season: x[t - m].
        last: x[t - 1].
        before: x[t - 1 - m].
    """
    return season + DAMPING * (last - before)
