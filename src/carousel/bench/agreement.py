"""Do two modules compute the same? Nothing is timed before this is known."""

from __future__ import annotations

from torch import Tensor

from carousel.bench.errors import BenchmarkError

__all__ = ["check_equal"]

# Of the largest value. A float32 sum of n terms is off by about sqrt(n) * 6e-8 of its terms' size; outputs sum
# up to 2048 terms and carry the error through the steps, gradients sum up to 6144 that partly cancel. A wrong gate
# is off by 1e-1.
_OUTPUT, _GRADIENT = 1e-4, 1e-3


def check_equal(what: str, ours: Tensor, theirs: Tensor, *, gradient: bool = False) -> None:
    """Raises a BenchmarkError unless two tensors agree up to the rounding of float32.

    Example:
        >>> check_equal("y", Tensor([1.0]), Tensor([0.0]))
        Traceback (most recent call last):
            ...
        carousel.bench.errors.BenchmarkError: y differs by 1 where 0.0001 is allowed; times would mean nothing.
    """
    allowed = (_GRADIENT if gradient else _OUTPUT) * max(float(theirs.abs().max()), 1e-30)
    if not gradient:
        allowed = max(allowed, _OUTPUT)  # outputs are of the size of 1, whatever these are
    if ours.shape != theirs.shape:
        raise BenchmarkError(f"{what} has shape {tuple(ours.shape)} and {tuple(theirs.shape)}.")
    difference = float((ours - theirs).abs().max())
    if not difference <= allowed:  # NaN too
        raise BenchmarkError(
            f"{what} differs by {difference:.2g} where {allowed:.2g} is allowed; times would mean nothing."
        )
