"""What is decided before anything is fitted."""

import numpy as np
import pytest

pytest.importorskip("torch")

from carousel.forecast.plan import Plan, plan
from carousel.series import Panel


def planned(freq: str, rows: int, horizon: int) -> Plan:
    x = np.sin(np.arange(rows)) + 10
    return plan(Panel.of([x], starts=["2000-01-01"], freq=freq), horizon, None, None)


@pytest.mark.parametrize(
    ("freq", "rows", "horizon", "lookback"),
    [
        ("h", 9000, 96, 4 * 168),
        ("h", 8000, 96, 2 * 168),  # not a year of hours
        ("h", 700, 48, 240),  # a third of what is left, in whole days
        ("15min", 9000, 96, 720),  # two weeks would be too long
        ("D", 4000, 14, 28),
        ("MS", 600, 12, 48),
        ("MS", 570, 12, 24),
        ("QS", 400, 4, 24),
    ],
)
def test_the_look_back_is_longer_where_rows_are_plenty(
    freq: str, rows: int, horizon: int, lookback: int
) -> None:
    assert planned(freq, rows, horizon).lookback == lookback


def test_a_longer_look_back_does_not_cost_the_matrix_per_phase() -> None:
    """A day ahead, each hour has its own; four weeks of look-back would be too many numbers for it."""
    shape = planned("h", 20_000, 24)
    assert (shape.lookback, shape.phases) == (2 * 168, 24)
    shape = planned("h", 20_000, 96)
    assert (shape.lookback, shape.phases) == (4 * 168, 1)
