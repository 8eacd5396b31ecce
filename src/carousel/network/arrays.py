"""Arrays that belong to a value: contiguous, never written to again."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from carousel.errors import ArgumentError, ShapeError, check_dtype

__all__ = ["Floats", "check_same_dtype", "finite", "read_only"]

Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
"""What the kernels compute with."""


def read_only(array: ArrayLike) -> NDArray[Any]:
    """`array` as a contiguous array that nobody can write to; a copy, unless it is one already.

    Example:
        >>> mine = np.zeros(2)
        >>> kept = read_only(mine)
        >>> mine[0] = 1
        >>> kept.tolist(), kept.flags.writeable, read_only(kept) is kept
        ([0.0, 0.0], False, True)
    """
    array = np.asarray(array)
    if array.base is None and array.flags.c_contiguous and not array.flags.writeable:
        return array
    array = np.array(array, order="C", copy=True, subok=False)
    array.flags.writeable = False
    return array


def finite(name: str, array: ArrayLike) -> Floats:
    """`array`, read-only, for what must be float32 or float64 without NaN or infinity.

    Raises:
        ShapeError: another dtype.
        ArgumentError: an element that is not finite; the text says where.
    """
    kept = read_only(array)
    check_dtype(name, kept, ("float32", "float64"))
    if not np.isfinite(kept).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(kept))[0])
        raise ArgumentError(f"`{name}` must be finite, got {kept[where]} at {list(where)}.")
    return kept


def check_same_dtype(**arrays: Floats) -> None:
    """Raises a ShapeError unless all have one dtype."""
    if len({array.dtype for array in arrays.values()}) > 1:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise ShapeError(f"All arrays must have the same dtype, float32 or float64, got {listed}.")
