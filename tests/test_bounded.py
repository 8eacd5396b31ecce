"""When forecasts are cut at 0: where the values show that none can be below it, or where that is said."""

import numpy as np
import pytest

from carousel import Forecaster
from carousel.errors import ArgumentError, DataError
from carousel.forecast.plan import plan
from carousel.forecast.units import is_bounded, try_units
from carousel.series import Panel

pytest.importorskip("torch")

T = np.arange(200)


def bounded(y: np.ndarray, horizon: int = 14) -> bool:
    panel = Panel.of([y], starts=["2023-07-20"], freq="D")
    shape = plan(panel, horizon, None, None)
    return is_bounded(panel, shape, try_units(lambda unit: panel, panel, shape, True))


KINDS = {  # of series without a value below 0, and whether more of them would be
    "a falling line": (lambda rng: 60 - 0.28 * T + rng.normal(size=200), False),
    "temperatures from July to January": (
        lambda rng: np.maximum(13 + 12 * np.cos(2 * np.pi * (T - 10) / 380) + rng.normal(size=200), 0.1),
        False,
    ),
    "a level far above 0": (lambda rng: 500 + 30 * np.sin(T) + rng.normal(scale=5, size=200), False),
    "counts": (lambda rng: rng.poisson(50, 200).astype(float), True),
    "sun, dark at times": (lambda rng: np.maximum(np.sin(T / 3) + rng.normal(size=200), 0), True),
    "waits": (lambda rng: rng.exponential(2, 200), True),
    "shares": (lambda rng: rng.uniform(0, 1, 200), True),
    "sales that swing by parts of themselves": (
        lambda rng: np.exp(3 + 0.8 * np.sin(T / 9) + rng.normal(scale=0.3, size=200)),
        True,
    ),
    "with one below": (lambda rng: np.r_[-1, rng.poisson(2, 199).astype(float)], False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_is_told_from_values_that_only_are_not_negative(kind: str) -> None:
    draw, expected = KINDS[kind]
    for seed in range(5):
        assert bounded(draw(np.random.default_rng(seed))) == expected


def test_few_rows_are_judged_as_well() -> None:
    for n in (8, 12, 20):
        assert not bounded(np.linspace(9.5, 3.5, n), horizon=2)
        assert bounded(np.arange(n) % 3 * 1.0, horizon=2)


@pytest.mark.parametrize("seed", range(3))
def test_a_fall_through_zero_is_inside_the_intervals(seed: int) -> None:
    """Cut at 0, and as a logarithm, intervals of 95 % covered 14 to 61 % of such rows."""
    y = 60 - 0.3 * np.arange(230) + np.random.default_rng(seed).normal(scale=2, size=230)
    first = int(np.flatnonzero(y < 0.5)[0])
    forecaster = Forecaster(20, season=7, hidden_size=8, epochs=1, progress=False).fit(y[:first])
    assert any("nothing shows that none can be; --nonnegative" in note for note in forecaster.notes_)
    forecast, truth = forecaster.predict(level=95), y[first : first + 20]
    inside = (forecast["carousel-lo-95"] <= truth) & (truth <= forecast["carousel-hi-95"])
    assert inside.mean() >= 0.75


def test_what_is_asked_for_is_done() -> None:
    falling, counts = 30 - 0.25 * np.arange(100), np.random.default_rng(0).poisson(0.5, 100).astype(float)
    quick = {"hidden_size": 8, "epochs": 1, "progress": False, "season": 7}
    cut = Forecaster(40, nonnegative=True, **quick).fit(falling).predict()
    free = Forecaster(40, nonnegative=False, **quick).fit(falling).predict()
    assert cut["carousel"].min() == 0
    assert free["carousel"].min() < -1
    below = Forecaster(7, nonnegative=False, **quick).fit(counts)
    assert below.predict(level=95)["carousel-lo-95"].min() < 0
    assert "unit: as given" in below.notes_
    assert not any("below 0" in note for note in below.notes_)


def test_a_bound_that_values_cross_is_refused() -> None:
    with pytest.raises(DataError, match=r"`nonnegative` is asked for, but series 'y' has -1 at 3; repair"):
        Forecaster(2, nonnegative=True).fit(np.array([1.0, 2, 3, -1, 5, 6, 7, 8, 9, 10]))
    for wrong in ("yes", 1, 0, np.ones(2)):
        with pytest.raises(ArgumentError, match="`nonnegative` must be True, False or None, got "):
            Forecaster(2, nonnegative=wrong).fit(np.arange(30.0))


def test_lines_without_noise_and_constants_are_no_bounds() -> None:
    """Errors of 0 were left out of the likelihood, so that any other unit was likelier."""
    assert not bounded(60.5 - 0.25 * T)
    assert not bounded(60.5 - 0.2501 * T)
    panel = Panel.of(
        [60.5 - 0.25 * T, np.full(200, 7.5), np.full(200, 300.5)], starts=["2023-07-20"] * 3, freq="D"
    )
    shape = plan(panel, 14, None, None)
    assert not is_bounded(panel, shape, try_units(lambda unit: panel, panel, shape, True))
