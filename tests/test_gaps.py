"""Missing values of series with a season and without, and series that never change."""

import numpy as np
import pandas as pd
import pytest

from carousel import Forecaster, stream
from carousel.forecast.baselines import baselines
from carousel.forecast.plan import plan
from carousel.forecast.split import Spans
from carousel.network.forecaster import Scaling
from carousel.series import Panel
from carousel.series.filling import carried_on, is_level
from carousel.series.history import History, Origins, own_scale

T = np.arange(300)
QUICK = {"hidden_size": 8, "epochs": 1, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def holed(y: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    y = y.copy()
    y[1:][np.random.default_rng(seed).random(len(y) - 1) < share] = np.nan
    return y


def test_it_is_told_whether_gaps_follow_the_season(rng: np.random.Generator) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        week = 5 * rng.normal(size=7)[T % 7] + rng.normal(size=300)
        walk = np.cumsum(rng.normal(size=300))
        for share in (0, 0.3):
            assert not is_level([holed(week, share)], 7)
            assert is_level([holed(walk, share)], 7)
        assert is_level([week, *[walk] * 20], 7)
    assert not is_level([np.arange(5.0)], 7)  # too short to tell


def test_values_are_carried_on_by_a_season() -> None:
    x = np.array([np.nan, 2.0, 3.0, np.nan, np.nan, np.nan, 7.0, np.nan])
    assert carried_on(x, 1).tolist() == [2, 2, 3, 3, 3, 3, 7, 7]
    assert carried_on(x, 3).tolist() == [2, 2, 3, 3, 2, 3, 7, 2]
    assert carried_on(x[1:3], 3).tolist() == [2, 3]


def test_persistence_is_the_last_value_that_was_observed(rng: np.random.Generator) -> None:
    """It was the fill of the model: on a walk with a third of its rows missing, a tenth worse than the real one."""
    y = np.cumsum(rng.normal(size=60))
    y[[56, 57, 58, 59]] = np.nan
    panel = Panel.of([y], starts=["2024-01-01"], freq="D")
    shape = plan(panel, 9, None, None)
    found = baselines(
        panel, shape, Spans(np.zeros(1, int), np.zeros(1, int)), Origins(np.zeros(1, int), np.full(1, 60))
    )
    assert (found["persistence"] == y[55]).all()
    assert found["seasonal naive"][0].tolist() == [*y[[53, 54, 55, 49, 50, 51, 52]], *y[[53, 54]]]


@pytest.mark.parametrize("kind", ["walk", "week"])
def test_forecasts_after_a_gap_go_on_from_what_was_observed(kind: str, rng: np.random.Generator) -> None:
    season = 8 * rng.normal(size=7)
    y = np.cumsum(rng.normal(size=300)) if kind == "walk" else 50 + season[T % 7] + rng.normal(size=300)
    y = holed(y, 0.2)
    last = float(y[295]) if not np.isnan(y[295]) else 1.0
    y[295], y[296:] = last if kind == "walk" else y[288], np.nan
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=300), "y": y})
    forecaster = Forecaster(7, **QUICK).fit(frame)
    assert forecaster.model_.scaling.carried == (kind == "walk")
    forecast = forecaster.predict()["carousel"].to_numpy()
    if kind == "walk":
        assert np.abs(forecast - last).max() < 1.5
    else:
        assert np.corrcoef(forecast, season[(300 + np.arange(7)) % 7])[0, 1] > 0.9


def test_a_stream_fills_as_the_fit_did(rng: np.random.Generator) -> None:
    y = holed(np.cumsum(rng.normal(size=200)), 0.2)
    y[-6:-3] = np.nan
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=200), "y": y})
    forecaster = Forecaster(5, **QUICK).fit(frame[:190])
    assert forecaster.model_.scaling.carried
    model = stream.Model(forecaster.model_)
    state = model.start()
    for ds, value in zip(frame.ds[190:], y[190:], strict=True):
        state = model.observe(np.datetime64(ds), value, state)
    expected = forecaster.predict(frame)["carousel"]
    np.testing.assert_allclose(model.forecast(state).mean[0], expected, rtol=1e-9)
    np.testing.assert_allclose(forecaster.update(frame[190:]).predict()["carousel"], expected, rtol=1e-9)


@pytest.mark.parametrize("unit", [1.0, 1e-8, 1e6])
@pytest.mark.parametrize("constant", [5.0, 0.0, -0.3, 1e-4])
def test_a_series_that_never_changes_stays_what_it_is(constant: float, unit: float) -> None:
    """Its scale was 1 in whatever unit: among series of 1e-5 it was forecast 6,000 times too large."""
    rng, days = np.random.default_rng(0), pd.date_range("2024-01-01", periods=100)
    t = np.arange(100)
    others = [10 + 3 * np.sin(2 * np.pi * t / 7) + rng.normal(size=100) for _ in range(4)]
    frames = [
        pd.DataFrame({"unique_id": name, "ds": days, "y": unit * y})
        for name, y in [("still", np.full(100, constant)), *((f"s{k}", y) for k, y in enumerate(others))]
    ]
    forecast = Forecaster(7, **QUICK).fit(pd.concat(frames)).predict()
    still = forecast[forecast.unique_id == "still"]
    for column in ("carousel", "carousel-lo-80", "carousel-hi-80"):
        np.testing.assert_allclose(
            still[column], unit * constant, atol=0.03 * unit
        )  # others change by 1 to 5


def test_the_scale_of_what_never_changes_follows_the_others() -> None:
    still, moving = np.full(20, 3.0), np.arange(20) % 2 * 8.0
    for unit in (1.0, 1e-9):
        panel = Panel.of([unit * still, unit * moving, unit * moving / 2])
        _, scale = own_scale(panel, panel.values, 1)
        assert scale[0] == pytest.approx(0.01 * np.median(scale[1:]))
    alone = Panel.of([still])
    assert own_scale(alone, alone.values, 1)[1].tolist() == [3]
    learned = Scaling(False, np.zeros(3), np.array([2.0, 4, 600]))
    assert History.of(alone, 1, learned, None, ("a", "b", "c")).scale.tolist() == [0.04]


def test_the_ridge_baseline_is_fitted_on_what_was_observed() -> None:
    """A missing target was fitted as no change: of a fifth of the rows missing, errors three times as large."""
    rng = np.random.default_rng(3)
    y = 100 + 10 * np.sin(2 * np.pi * np.arange(400) / 7) + 0.5 * rng.normal(size=400)
    errors = []
    for share in (0.0, 0.2):
        known = np.concatenate([holed(y[:300], share), y[300:]])
        panel = Panel.of([known], starts=["2024-01-01"], freq="D")
        shape, rows = plan(panel, 7, None, None), np.arange(330, 390)
        train = Spans(np.array([shape.lookback]), np.array([290]))
        found = baselines(panel, shape, train, Origins(np.zeros(60, int), rows))["ridge"]
        errors.append(np.sqrt(np.mean((found - y[rows[:, None] + np.arange(7)]) ** 2)))
    assert errors[1] < 1.2 * errors[0]


def cycle(seed: int) -> np.ndarray:
    """An autoregression of second order, with a cycle of 17 rows that no smoothing knows."""
    y, noise = np.zeros(800), np.random.default_rng(seed).normal(size=800)
    for t in range(2, 800):
        y[t] = 1.9 * np.cos(2 * np.pi / 17) * y[t - 1] - 0.9 * y[t - 2] + noise[t]
    return y


def test_the_linear_path_is_fitted_on_what_was_observed() -> None:
    """A missing target counted as what the smoothing says, which held the path back: errors 1.35 times as large."""
    errors = []
    for share in (0.0, 0.6):
        series = {str(k): cycle(k) for k in range(4)}
        ds = pd.date_range("2022-01-01", periods=800)
        parts = []
        for id, y in series.items():
            known = np.concatenate([holed(y[:600], share, int(id)), y[600:]])
            parts.append(pd.DataFrame({"unique_id": id, "ds": ds, "y": known}))
        frame = pd.concat(parts)
        model = Forecaster(7, max_steps=1, progress=False).fit(frame[frame.ds < ds[600]])
        errors.append(model.backtest(frame, start=ds[640], step=4).parts["linear path"])
    assert errors[1] < 1.28 * errors[0]
