"""Gradients judged by the complex step, on trees of tuples and lists of arrays.

The complex step, f'(a) d = Im f(a + iεd) / ε + O(ε²), subtracts nothing: with ε = 1e-30 it is exact to
rounding, so the tolerance is that of float64 sums. Source: Squire and Trapp (1998).
"""

import numpy as np

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64; up to 17 units and 7 steps of sums of numbers near 1


def arrays(tree):
    """The arrays of a tree of tuples and lists, in order."""
    if isinstance(tree, np.ndarray):
        return [tree]
    return [a for part in tree for a in arrays(part)] if isinstance(tree, (tuple, list)) else []


def replaced(tree, leaves):
    """The same tree with other arrays."""
    if isinstance(tree, np.ndarray):
        return next(leaves)
    if isinstance(tree, (tuple, list)):
        parts = [replaced(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def directions(array, rng):
    """Every coordinate of a small array, 12 dense directions of a large one."""
    if array.size <= 40:
        return np.eye(array.size).reshape(array.size, *array.shape)
    return rng.normal(size=(12, *array.shape))


def assert_gradient(loss, arguments, gradients, rng):
    """`gradients` has the arrays of the tree `arguments` and is the derivative of `loss` at them."""
    points, slopes = arrays(arguments), arrays(gradients)
    assert [p.shape for p in points] == [s.shape for s in slopes]
    for k, point in enumerate(points):
        for d in directions(point, rng):
            moved = [*points[:k], point + 1e-30j * d, *points[k + 1 :]]
            derivative = loss(*replaced(arguments, iter(moved))).imag / 1e-30
            np.testing.assert_allclose(np.sum(slopes[k] * d), derivative, **EXACT)


def inner(a, b):
    return sum(np.sum(x * y) for x, y in zip(arrays(a), arrays(b), strict=True))
