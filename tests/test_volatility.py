"""Intervals that are wide after restless rows and narrow after quiet ones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from carousel.errors import FormatError
from carousel.series.conformal import half_widths, independent_counts, scores_table
from carousel.series.volatility import LEAST, MOST, exponents, measures, volatility
from carousel.stream.forecaster import ForecasterModel
from forecast_models import forecast_model

ONE = np.ones(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_measures_do_not_depend_on_level_and_grow_with_the_unit(rng: np.random.Generator) -> None:
    window = rng.normal(size=(5, 30))
    np.testing.assert_allclose(measures(1000 + 3 * window, 7), 3 * measures(window, 7), rtol=1e-10)


@pytest.mark.parametrize("rows", [3, 7])
def test_a_window_of_a_season_has_one_measure(rng: np.random.Generator, rows: int) -> None:
    change, distance = measures(rng.normal(size=(5, rows)), 7).T
    np.testing.assert_array_equal(change, distance)


def test_neither_a_pause_nor_an_outlier_says_too_much() -> None:
    measured = np.array([[0.0, 0.0], [1e9, 1e9]])
    np.testing.assert_allclose(volatility(measured, np.ones(2), np.array([0.5, 0.5])), [LEAST, MOST])
    assert volatility(measured, np.ones(2), None).tolist() == [1, 1]


def seen(measured: np.ndarray, errors: np.ndarray) -> np.ndarray | None:
    everywhere = np.ones(errors.shape, bool)
    counts = independent_counts(errors, everywhere, np.zeros(len(errors), bool))
    return exponents(errors, everywhere, measured, np.ones(len(errors)), counts)


def test_the_power_that_made_the_errors_is_found(rng: np.random.Generator) -> None:
    measured = np.exp(rng.normal(scale=0.5, size=(4000, 2)))
    errors = rng.standard_t(4, size=(4000, 3)) * np.array([1.0, 2, 5]) * measured[:, :1] ** 0.7
    powers = seen(measured, errors)
    assert powers is not None
    np.testing.assert_allclose(powers, [0.7, 0], atol=0.1)


def test_without_evidence_there_is_none(rng: np.random.Generator) -> None:
    found = []
    for _ in range(200):
        measured = np.exp(rng.normal(scale=0.5, size=(60, 2)))
        found.append(seen(measured, rng.normal(size=(60, 1))))
    assert sum(powers is not None for powers in found) <= 10  # 5 % by chance
    assert (
        exponents(np.zeros((0, 2)), np.zeros((0, 2), bool), np.ones((0, 2)), np.ones(0), np.ones(2)) is None
    )
    nowhere = np.zeros((9, 2), bool)
    assert exponents(np.ones((9, 2)), nowhere, np.ones((9, 2)), np.ones(9), np.ones(2)) is None


def test_dependent_errors_are_less_evidence(rng: np.random.Generator) -> None:
    measured = np.exp(rng.normal(scale=0.5, size=(150, 2)))
    errors = rng.normal(size=(150, 1)) * measured[:, :1] ** 0.5
    everywhere = np.ones(errors.shape, bool)
    assert exponents(errors, everywhere, measured, np.ones(150), np.array([150.0])) is not None
    assert exponents(errors, everywhere, measured, np.ones(150), np.array([5.0])) is None


def test_coverage_holds_in_quiet_and_in_restless_times(rng: np.random.Generator) -> None:
    """Of 80 %, and so it does not without the measures."""
    level = np.exp(rng.normal(scale=0.7, size=3000))
    measured = np.stack([level, np.ones(3000)], 1)
    errors = rng.normal(size=(3000, 1)) * level[:, None]
    everywhere = np.ones(errors.shape, bool)
    powers = seen(measured, errors)
    assert powers is not None
    unit = volatility(measured, np.ones(3000), powers)
    counts = np.array([3000.0])
    adapted = half_widths(scores_table(errors / unit[:, None], everywhere), counts, 80)[0] * unit
    constant = half_widths(scores_table(errors, everywhere), counts, 80)[0]
    restless = level > np.median(level)
    for rows in (restless, ~restless):
        assert 0.76 < (np.abs(errors[rows, 0]) <= adapted[rows]).mean() < 0.84
    assert (np.abs(errors[restless, 0]) <= constant).mean() < 0.72
    assert (np.abs(errors[~restless, 0]) <= constant).mean() > 0.88


def test_bounds_quantiles_and_samples_are_wider_together(rng: np.random.Generator) -> None:
    value, _ = forecast_model(rng)
    paths = rng.normal(size=(9, value.horizon)).astype(np.float32)
    value = replace(value, calibration=replace(value.calibration, paths=paths))
    adaptive = replace(value, calibration=replace(value.calibration, volatility=np.array([0.3, 0.5])))
    same, wider = ForecasterModel(value), ForecasterModel(adaptive)
    state = same.last()
    factor = volatility(measures(state.window, value.season), state.scale, np.array([0.3, 0.5]))
    assert np.abs(np.log(factor)).max() > 0.1
    before, after = same.forecast(state), wider.forecast(state)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_allclose(
        after.upper - after.mean, (before.upper - before.mean) * factor[:, None], rtol=1e-10
    )
    for ask in (lambda m, f: m.quantiles(f, state, (0.1, 0.9)), lambda m, f: m.samples(f, state, 5, 0)):
        plain, scaled = ask(same, before) - before.mean, ask(wider, after) - after.mean
        np.testing.assert_allclose(scaled, plain * factor[:, None], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("powers", [[-0.1, 0.5], [0.5, 1.1], [np.nan, 0.5], [np.inf, 0.0], [0.5]])
def test_powers_without_a_meaning_are_refused(rng: np.random.Generator, powers: list[float]) -> None:
    value, _ = forecast_model(rng)
    with pytest.raises(FormatError, match="volatility"):
        replace(value, calibration=replace(value.calibration, volatility=np.array(powers)))


def calm_and_storm(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A walk with months of small steps and months of large ones, and which row is of which."""
    size = np.where(np.arange(rows) // 100 % 2, 4.0, 0.5)
    return np.cumsum(rng.normal(size=rows) * size), size


def test_a_fit_finds_calm_and_storm(rng: np.random.Generator) -> None:
    pytest.importorskip("torch")
    from carousel import Forecaster
    from carousel.series import Panel
    from carousel.series.history import Origins

    y, size = calm_and_storm(rng, 8000)
    frame = pd.DataFrame({"ds": np.arange(len(y)), "y": y})
    known = 4000
    quick: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "progress": False}
    forecaster = Forecaster(3, lookback=20, season=1, **quick).fit(frame.head(known))
    value = forecaster.model_
    assert value.calibration.volatility is not None
    assert any(note.startswith("intervals: wider after restless rows") for note in forecaster.notes_)

    runner = ForecasterModel(value)
    history = runner.history(Panel.of([y], freq=1), np.array([known]))
    origins = np.arange(known, len(y) - 3)
    origins = origins[
        (origins % 100 > value.lookback) & (origins % 100 < 97)
    ]  # the window and what follows are of one
    forecast = runner.forecasts(history, Origins(np.zeros(len(origins), np.int64), origins), (80.0,))
    truth = y[origins[:, None] + np.arange(3)]
    inside = (truth >= forecast.lower[0]) & (truth <= forecast.upper[0])
    width = (forecast.upper - forecast.lower)[0, :, 0]
    storm = size[origins] > 1
    assert np.median(width[storm]) > 3 * np.median(width[~storm])
    assert 0.72 < inside[storm].mean() < 0.88
    assert 0.72 < inside[~storm].mean() < 0.95  # the step out of the calm widens it
