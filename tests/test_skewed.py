"""Errors that reach further on one side: when each side gets a width of its own, and what follows from it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from carousel import Forecaster
from carousel.series.conformal import are_skewed, interval_errors, quantile_errors, scores_table
from carousel.stream.forecaster import ForecasterModel
from forecast_models import forecast_model

LAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), False),
    "Student's t": (lambda rng, n: rng.standard_t(3, size=n), False),
    "normal, all too high": (lambda rng, n: rng.normal(size=n) + 2, False),
    "exponential": (lambda rng, n: rng.exponential(size=n) - 1, True),
    "exponential, turned": (lambda rng, n: 1 - rng.exponential(size=n), True),
    "rare counts": (lambda rng, n: rng.poisson(0.2, n) - rng.uniform(0.1, 0.3, n), True),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("law", LAWS)
def test_skewed_errors_are_told_from_others(law: str) -> None:
    draw, expected = LAWS[law]
    for seed in range(20):
        errors = draw(np.random.default_rng(seed), 2000).reshape(1000, 2)
        assert are_skewed(errors, np.ones_like(errors, bool), np.full(2, 1000.0)) == expected


def test_few_errors_are_never_called_skewed(rng: np.random.Generator) -> None:
    errors, everywhere = rng.exponential(size=(1000, 1)) ** 2, np.ones((1000, 1), bool)
    assert are_skewed(errors, everywhere, np.array([1000.0]))
    assert not are_skewed(errors, everywhere, np.array([19.0]))
    assert not are_skewed(errors, np.zeros_like(everywhere), np.array([1000.0]))


def test_normal_errors_are_called_skewed_once_in_hundreds_of_times() -> None:
    found = 0
    for seed in range(400):
        errors = np.random.default_rng(seed).normal(size=(60, 1))
        found += are_skewed(errors, np.ones_like(errors, bool), np.array([60.0]))
    assert found <= 6


def test_quantiles_of_signed_errors_cover_what_they_say() -> None:
    rng, quantiles = np.random.default_rng(0), np.array([0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
    below = np.zeros(7)
    for _ in range(400):
        errors = rng.exponential(size=(100, 1))
        table = scores_table(errors, np.ones_like(errors, bool), sided=True)
        found = quantile_errors(table, np.array([100.0]), quantiles, True)
        assert (np.diff(found, axis=0) >= 0).all()
        below += (rng.exponential(size=50) <= found).mean(1)
    # Of n errors rank ⌈(n + 1) q⌉ above the median, and its mirror image below: 1 / n beside q at most.
    np.testing.assert_allclose(below / 400, quantiles, atol=0.015)


def test_an_interval_holds_the_forecast_whatever_the_errors() -> None:
    table = scores_table(np.linspace(1, 9, 99)[:, None], np.ones((99, 1), bool), sided=True)  # all too low
    lower, upper = interval_errors(table, np.array([99.0]), (10.0, 80.0), True)
    assert lower.ravel().tolist() == [0, 0]
    assert (upper.ravel() == np.linspace(1, 9, 99)[[54, 89]]).all()  # ranks 100 * 0.55 and 100 * 0.9
    assert (quantile_errors(table, np.array([99.0]), np.array([0.1, 0.5]), True) > 1).all()


def test_errors_alike_on_both_sides_have_the_same_bounds_either_way(rng: np.random.Generator) -> None:
    half = rng.normal(size=(200, 3))
    errors = np.concatenate([half, -half])
    everywhere, counts = np.ones_like(errors, bool), np.full(3, 400.0)
    one = interval_errors(scores_table(errors, everywhere), counts, (50.0, 80.0, 95.0), False)
    two = interval_errors(scores_table(errors, everywhere, sided=True), counts, (50.0, 80.0, 95.0), True)
    np.testing.assert_allclose(two, one, rtol=0.02)


def test_intervals_quantiles_and_samples_lean_to_one_side_together(rng: np.random.Generator) -> None:
    value, _ = forecast_model(rng)
    signed = np.sort(rng.exponential(size=(500, value.horizon)) - 0.4, axis=0)
    paths = rng.normal(size=(9, value.horizon)).astype(np.float32)
    calibration = replace(
        value.calibration, scores=signed, counts=np.full(value.horizon, 500.0), sided=True, paths=paths
    )
    runner = ForecasterModel(replace(value, calibration=calibration))
    state = runner.last()
    forecast = runner.forecast(state, level=80)
    low, median, high = runner.quantiles(forecast, state, (0.1, 0.5, 0.9))
    np.testing.assert_allclose(low, forecast.lower[0])
    np.testing.assert_allclose(high, forecast.upper[0])
    assert (high - forecast.mean > 3 * (forecast.mean - low)).all()
    samples = runner.samples(forecast, state, 1001, 0)
    np.testing.assert_allclose(np.quantile(samples, (0.1, 0.5, 0.9), 0), (low, median, high), rtol=0.02)


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_upper_quantiles_of_counts_cover_what_they_say(rate: float) -> None:
    """With one width for both sides, the 0.9 quantile of a series of 82 % zeros covered 81 %."""
    below, asked = [], (0.8, 0.9, 0.95)
    for seed in range(3):
        y = np.random.default_rng(seed).poisson(rate, 1400).astype(float)
        forecaster = Forecaster(5, season=7, hidden_size=4, max_steps=1, seed=0).fit(y[:600])
        assert "intervals: a width of its own above and below, for errors are skewed" in forecaster.notes_
        for start in range(600, 1400, 5):
            found = forecaster.predict(quantiles=asked)
            bounds = found[[f"carousel-q-{100 * q:.0f}" for q in asked]].to_numpy()
            below.append(y[start : start + 5, None] <= bounds)
            forecaster = forecaster.update(
                pd.DataFrame({"ds": range(start, start + 5), "y": y[start : start + 5]})
            )
    covered = np.concatenate(below).mean(0)
    assert (np.abs(covered[1:] - asked[1:]) < 0.03).all()  # 2,400 rows: 0.6 % is a standard error
    assert covered[0] >= 0.79
