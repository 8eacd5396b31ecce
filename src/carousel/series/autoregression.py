"""What an autoregressive network reads at every row: the row before it, its calendar, and what the series is like.

Source: Salinas, Flunkert, Gasthaus and Januschowski 2020, sections 3.1 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.network.forecaster import Scaling
from carousel.series.calendar import Frequency
from carousel.series.features import calendar_features
from carousel.series.history import Context, normalise

__all__ = [
    "LEAST",
    "TINY",
    "Unit",
    "location_and_scale",
    "mean_and_shape",
    "row_inputs",
    "row_size",
    "unit_of",
]

Array = np.ndarray[Any, Any]

TRAITS = 2
LEAST = 1e-3  # of Student's scale: no likelihood grows without bound on rows that repeat
TINY = 1e-6  # of the mean and shape of counts, which are above 0 and must stay there in floating point


@dataclass(frozen=True)
class Unit:
    """How a network sees B windows: `x = level + size * z`.

    Args:
        level: (B, 1) 0 for counts, which have a zero of their own; else the mean of the last season.
        size: (B, 1) 1 + the mean of the window for counts; else the scale of the series.
        traits: (B, TRAITS) how high the window lies in its series, and how large the series is beside others.
    """

    level: Array
    size: Array
    traits: Array

    def inside(self, x: Array) -> Array:
        """Rows (B, T) in this unit."""
        z: Array = (x - self.level) / self.size
        return z


def unit_of(context: Context, scaling: Scaling, season: int, counts: bool) -> Unit:
    """The unit of every window; nothing at or after the origin enters.

    Args:
        scaling: of the series that were fitted.
        counts: whether all values are whole numbers from 0 on.
    """
    if counts:
        level = np.zeros((len(context), 1))
        size = 1 + np.maximum(context.window, 0).mean(1, keepdims=True)
        height = np.log(size[:, 0]) - np.log1p(np.maximum(context.center, 0))
    else:
        _, level = normalise(context, season)
        size = context.scale[:, None]
        height = (level[:, 0] - context.center) / context.scale
    return Unit(level, size, np.stack([height, _largeness(context, scaling, counts)], 1))


def row_inputs(before: Array, calendar: Array, traits: Array) -> Array:
    """The inputs of T rows.

    Args:
        before: (B, T) the row before each, in its unit.
        calendar: (B, T, C) features of the row itself; (1, T, C) where they are the same for all.
        traits: (B, TRAITS) of `Unit`.

    Returns:
        (T, B, 1 + C + TRAITS) in float32.
    """
    (B, T), C = before.shape, calendar.shape[2]
    joined = np.empty((T, B, 1 + C + TRAITS), np.float32)
    joined[..., 0] = before.T
    joined[..., 1 : 1 + C] = calendar.swapaxes(0, 1)
    joined[..., 1 + C :] = traits
    return joined


def row_size(frequency: Frequency) -> int:
    """The number of inputs of a row."""
    C: int = calendar_features(frequency, np.zeros(1, "datetime64[us]")).shape[-1]
    return 1 + C + TRAITS


def location_and_scale(o: Array) -> tuple[Array, Array]:
    """(N,) of the Student's t that outputs o (N, 2) stand for, both in the unit of the window."""
    return o[:, 0], _softplus(o[:, 1]) + LEAST


def mean_and_shape(o: Array, size: Array) -> tuple[Array, Array]:
    """(N,) of the negative binomial that outputs o (N, 2) stand for: variance = mean + shape * mean².

    Args:
        size: (N,) of `Unit`.
    """
    return size * (_softplus(o[:, 0]) + TINY), _softplus(o[:, 1]) / np.sqrt(size) + TINY


def _softplus(o: Array) -> Array:
    y: Array = np.logaddexp(0, o)
    return y


def _largeness(context: Context, scaling: Scaling, counts: bool) -> Array:
    """(B,) the logarithm of the scale around that of all fitted series; 0 where these are all the same."""

    def logarithm(of: Scaling | Context) -> Array:
        found: Array = np.log1p(np.maximum(of.center, 0)) if counts else np.log(of.scale)
        return found

    fitted, own = logarithm(scaling), logarithm(context)
    spread = float(np.ptp(fitted))
    return (own - fitted.mean()) / max(1.0, spread) if spread > 1e-9 else np.zeros_like(own)
