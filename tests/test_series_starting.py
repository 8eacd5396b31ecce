"""Where a smoothing starts from, against least squares spelt out, and against streams that go on row by row."""

from dataclasses import replace

import numpy as np
import pytest

from carousel.series.smoothing import candidates, expected, subset
from carousel.series.smoothing_errors import SmoothingErrors
from carousel.series.starting import Start, starting_rows
from smoothing_definitions import by_definition, by_least_squares, some


@pytest.mark.parametrize("seasons", [(1,), (2,), (4, 9), (12,)])
def test_the_first_errors_are_those_of_least_squares(seasons: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    model = candidates(seasons)
    start, M = Start(model), model.memory
    x = 100 + rng.normal(size=(2, start.rows)).cumsum(1)
    zero = np.stack([by_definition(model, one) for one in x])
    for row in (1, 2, M - 1, M, M + 1, M + 2, 2 * M, start.rows - 1, start.rows):
        found = start.of(zero).before(np.array([1, 0]), np.array([row, row]), M)
        for e, one in zip(found, x[::-1], strict=True):
            known = np.concatenate([np.zeros((M, len(model.weights))), by_least_squares(model, one[:row])])
            np.testing.assert_allclose(e, known[-M:], atol=1e-8)


@pytest.mark.parametrize("seasons", [(1,), (4, 9), (12,)])
def test_a_stream_starts_from_where_least_squares_does(seasons: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    model = some(rng, seasons)
    start, M = Start(model), model.memory
    x = 10 + rng.normal(size=start.rows + 20)
    found = SmoothingErrors.of(model, x, np.array([0, len(x)]))
    e, padded = np.zeros((1, M, 7)), np.concatenate([np.zeros(M), x])
    for t in range(len(x)):
        np.testing.assert_allclose(e, found.before(np.array([0]), np.array([t]), M), atol=1e-11)
        off = x[t] - expected(model, padded[None, t : t + M], e)
        np.testing.assert_allclose(
            found.of_series(0)[t], np.where(t < model.lags.max(1), 0, off[0]), atol=1e-11
        )
        e = np.concatenate([e[:, 1:], np.zeros((1, 1, 7))], 1) + start.gain(np.array([t])) * off[:, None]


def test_nothing_after_an_origin_moves_what_is_known_there() -> None:
    rng = np.random.default_rng(2)
    model = some(rng, (12,))
    x = rng.normal(size=80)
    other = np.concatenate([x[:30], rng.normal(size=50)])
    found, again = (SmoothingErrors.of(model, z, np.array([0, 80])) for z in (x, other))
    zero, rows = np.zeros(31, int), np.arange(31)
    np.testing.assert_array_equal(found.before(zero, rows, 13), again.before(zero, rows, 13))


def test_a_straight_line_with_noise_is_continued_nearly_as_by_regression() -> None:
    """With 20 rows and slow weights, Holt's trend is the line of least squares, not that through two rows."""
    every = candidates((1,))
    slow = subset(every, np.flatnonzero((every.ma[:, 0] == -0.9) & (every.ma[:, 1] == -0.9)), np.ones(1))
    rng, t = np.random.default_rng(3), np.arange(starting_rows(slow))
    off = []
    for _ in range(200):
        x = 3.0 * t + rng.normal(size=len(t))
        e = SmoothingErrors.of(slow, x, np.array([0, len(x)])).before(np.array([0]), np.array([len(x)]), 2)
        ahead = expected(slow, x[None, -2:], e)[0, 0]
        off.append(np.polyval(np.polyfit(t, x, 1), len(t)) - ahead)
    assert np.std(off) < 0.1  # of a line through the first two rows: 5.5


def test_members_that_are_no_product_start_with_errors_of_zero() -> None:
    model = some(np.random.default_rng(4), (4,))
    other = replace(model, ma=model.ma + np.array([0.0, 0.0, 0.1]))
    x = np.random.default_rng(5).normal(size=60)
    found = SmoothingErrors.of(other, x, np.array([0, 60]))
    np.testing.assert_allclose(found.of_series(0), by_definition(other, x), atol=1e-10)
    assert (Start(other).gain(np.array([20]))[0] == Start(other).gain(np.array([10**6]))[0]).all()
