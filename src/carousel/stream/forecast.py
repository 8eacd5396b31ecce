"""A forecast as a value, and what can be asked of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.errors import ArgumentError

__all__ = ["Forecast", "check_levels", "check_quantiles"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Forecast:
    """K steps for B origins, in the user's unit.

    Args:
        ds: (B, K) time stamps.
        mean: (B, K) the point forecast.
        level: Q levels in per cent.
        lower: (Q, B, K).
        upper: (Q, B, K).
        point: (B, K) the point forecast in the model's unit, where it may lie below what stands for 0.
    """

    ds: Array
    mean: Array
    level: tuple[float, ...]
    lower: Array
    upper: Array
    point: Array

    @staticmethod
    def join(parts: Sequence[Forecast]) -> Forecast:
        """Those of `parts`, which are not none and of the same levels, one after the other."""
        return Forecast(
            ds=np.concatenate([part.ds for part in parts]),
            mean=np.concatenate([part.mean for part in parts]),
            level=parts[0].level,
            lower=np.concatenate([part.lower for part in parts], 1),
            upper=np.concatenate([part.upper for part in parts], 1),
            point=np.concatenate([part.point for part in parts]),
        )

    def intervals(self) -> dict[float, tuple[Array, Array]]:
        """Lower and upper (B, K) per level."""
        return {a: (self.lower[q], self.upper[q]) for q, a in enumerate(self.level)}

    def only(self, level: tuple[float, ...]) -> Forecast:
        """The same with some of the levels."""
        kept = [self.level.index(a) for a in level]
        return replace(self, level=level, lower=self.lower[kept], upper=self.upper[kept])

    def at(self, index: Array | slice) -> Forecast:
        """Some of the origins."""
        return Forecast(
            self.ds[index],
            self.mean[index],
            self.level,
            self.lower[:, index],
            self.upper[:, index],
            self.point[index],
        )


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Quantiles, rising and each once.

    Raises:
        ArgumentError: one that is not between 0 and 1.
    """
    return _between(quantiles, 1, "`quantiles` must be numbers between 0 and 1, such as (0.1, 0.5, 0.9)")


def check_levels(level: Any) -> tuple[float, ...]:
    """Levels in per cent, rising and each once.

    Raises:
        ArgumentError: a level that is below 1, as a share of 1 would be, or not below 100.
    """
    levels = _between(level, 100, "`level` must be per cent from 1 to below 100, such as (80, 95)")
    if shares := [f"{100 * a:g}" for a in levels if a < 1]:
        raise ArgumentError(f"`level` must be per cent, got {level!r}; did you mean {' and '.join(shares)}?")
    return levels


def _between(value: Any, end: float, expected: str) -> tuple[float, ...]:
    """The numbers of `value`, one or several, all between 0 and `end`; rising and each once."""
    given = value if isinstance(value, (tuple, list, np.ndarray)) else (value,)
    for a in given:
        if isinstance(a, bool) or not isinstance(a, (int, float, np.number)) or not 0 < a < end:
            raise ArgumentError(f"{expected}, got {value!r}.")
    return tuple(sorted({float(a) for a in given}))
