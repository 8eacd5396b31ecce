"""Which numbers a forecaster can go on with: what is larger or smaller would spoil its state for many rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from carousel.errors import DataError

__all__ = ["LARGEST", "SMALLEST", "check_sizes", "check_squares"]

Array = np.ndarray[Any, Any]

LARGEST, SMALLEST = 1e100, 1e-100  # squares and their sums must neither overflow nor vanish
FURTHEST = 1e30  # scales: the recurrent path reads float32, to 3.4e38, and adds up many of them


def check_sizes(what: str, values: Array, inside: Array, scale: Any) -> None:
    """Refuses numbers that no path could count with; NaN passes.

    Args:
        what: names the values.
        values: as the user gave them.
        inside: the same in the model's unit.
        scale: that they are divided by.

    Raises:
        DataError: one of them is too large or too small.
    """
    check_squares(what, values)
    far = np.abs(inside) > FURTHEST * scale
    if far.any():
        raise DataError(
            f"{what}, {values[far][0]:g}, is beyond what this model counts: {FURTHEST:g} times the scale of the "
            "rows that it was fitted on."
        )


def check_squares(what: str, values: Array) -> None:
    """Refuses numbers whose squares a computer cannot count; NaN passes.

    Raises:
        DataError: one of them is too large or too small.
    """
    sizes = np.abs(values)
    wrong = (sizes > LARGEST) | ((sizes < SMALLEST) & (sizes > 0))
    if wrong.any():
        raise DataError(f"the square of {what}, {values[wrong][0]:g}, is beyond what a computer counts.")
