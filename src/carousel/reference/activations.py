"""Activations that are analytic where the complex step needs them to be."""

import numpy as np

from carousel.layout import Array


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + exp(-a)), written so that nothing overflows; the absolute error is below 2 ULP of 1.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    return 0.5 + 0.5 * np.tanh(0.5 * a)


def relu(a: Array) -> Array:
    """max(0, a), by the real part; NaN stays NaN."""
    return np.where(a.real <= 0, np.zeros_like(a), a)
