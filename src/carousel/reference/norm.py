"""Layer normalisation over the last axis.

    x̂ = (s - μ) / √(σ² + ε)      y = gain ∘ x̂

μ and σ² are the mean and the (biased) variance of the sums s of one row. A gain of None means that nothing is
normalised: y = s.

Source: Ba, Kiros and Hinton (2016), equations 3 and 4.
"""

import numpy as np

from carousel.layout import Array


def forward(s: Array, gain: Array | None, epsilon: float) -> Array:
    """y of s, both (..., N); the gain is (N,).

    Example:
        >>> forward(np.array([1.0, 3.0]), np.array([1.0, 10.0]), 0.0)
        array([-1., 10.])
    """
    if gain is None:
        return s
    x_hat, _ = _normalised(s, epsilon)
    return gain * x_hat


def backward(dy: Array, s: Array, gain: Array | None, epsilon: float) -> tuple[Array, Array | None]:
    """ds, shaped as s, and the gain's gradient (N,), the sum over all rows; dy and s are (..., N)."""
    if gain is None:
        return dy, None
    x_hat, deviation = _normalised(s, epsilon)
    dx_hat = dy * gain
    ds = (dx_hat - _mean(dx_hat) - x_hat * _mean(dx_hat * x_hat)) / deviation
    return ds, (dy * x_hat).sum(axis=tuple(range(dy.ndim - 1)))


def _normalised(s: Array, epsilon: float) -> tuple[Array, Array]:
    """x̂ and the √(σ² + ε) that it was divided by."""
    centred = s - _mean(s)
    deviation = np.sqrt(_mean(centred**2) + epsilon)  # not np.var, which is |·|² of complex numbers
    return centred / deviation, deviation


def _mean(s: Array) -> Array:
    """The mean over the last axis, which is kept; 0 of nothing."""
    mean: Array = s.sum(axis=-1, keepdims=True) / max(s.shape[-1], 1)
    return mean
