"""The unit that a model forecasts in, and how it is chosen."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from carousel import Forecaster, stream
from carousel.errors import FormatError
from carousel.forecast.inputs import read_rows
from carousel.forecast.plan import plan
from carousel.forecast.units import choose_unit, try_units
from carousel.network.forecaster import Scaling, Unit
from carousel.series import Panel
from carousel.series.history import Origins
from carousel.series.unit import from_unit, in_unit
from carousel.stream.forecaster import ForecasterModel
from carousel.stream.rows import rows

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "progress": False}
T = np.arange(400)
SEASON = np.sin(2 * np.pi * T / 12)
RATE = (6 + 3 * np.sin(2 * np.pi * T / 97) + 2.5 * SEASON) ** 2  # of counts: 0.3 to 130 a month


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def chosen(y: np.ndarray, root: bool = True) -> Unit:
    panel = Panel.of([y], starts=["1980-01"], freq="MS")
    return choose_unit(try_units(lambda unit: panel, panel, plan(panel, 6, None, None), root))


def test_where_none_is_chosen_none_forecasts(rng: np.random.Generator) -> None:
    panel = Panel.of([np.exp(SEASON + 0.1 * rng.normal(size=len(T)))], starts=["1980-01"], freq="MS")
    shape = plan(panel, 6, None, None)
    asked, spared = (
        try_units(lambda _: panel, panel, shape, True, choose=choose) for choose in (True, False)
    )
    assert len(asked) == 3
    assert all(np.isfinite(one.error) for one in asked)
    assert spared == tuple(replace(one, error=np.inf) for one in asked)


def test_there_and_back() -> None:
    y = np.array([0.0, 1e-300, 0.25, 4.0, 1e12])
    for unit in ("identity", "root", "log"):
        positive = y[1:] if unit == "log" else y
        np.testing.assert_allclose(from_unit(in_unit(positive, unit), unit), positive, rtol=1e-12)


def test_what_has_no_root_or_logarithm_is_missing() -> None:
    y = np.array([-1.0, -0.0, 0.0, np.nan, np.inf])
    np.testing.assert_array_equal(in_unit(y, "root"), [np.nan, 0, 0, np.nan, np.inf])
    np.testing.assert_array_equal(in_unit(y, "log"), [np.nan, np.nan, np.nan, np.nan, np.inf])
    assert in_unit(y, "identity") is y


def test_a_forecast_below_the_root_of_zero_stands_for_zero() -> None:
    np.testing.assert_array_equal(from_unit(np.array([-3.0, 0.0, 3.0]), "root"), [0, 0, 9])


def test_a_model_sees_one_of_them() -> None:
    one = np.ones(1)
    assert [Scaling.of(unit, one, one).unit for unit in ("identity", "root", "log")] == [
        "identity",
        "root",
        "log",
    ]
    with pytest.raises(FormatError, match="logarithm or the square root, not both"):
        Scaling(True, one, one, True)


def test_each_kind_of_series_has_its_unit(rng: np.random.Generator) -> None:
    assert chosen(50 + 10 * SEASON + rng.normal(size=400)) == "identity"
    assert chosen(rng.poisson(RATE).astype(float)) == "root"
    assert chosen(np.exp(0.02 * T + 0.8 * SEASON + rng.normal(scale=0.1, size=400))) == "log"


def test_values_decide_what_can_be_taken(rng: np.random.Generator) -> None:
    growing = np.exp(0.02 * T + 0.8 * SEASON + rng.normal(scale=0.1, size=400))
    below, zero = growing.copy(), growing.copy()
    below[7], zero[7] = -1, 0
    assert chosen(below) == "identity"
    assert chosen(zero) == "root"
    assert chosen(zero, root=False) == "identity"


def test_a_value_that_no_judge_sees_counts_too(rng: np.random.Generator) -> None:
    """Held-out rows, and series beyond those that are scored."""
    growing = np.exp(0.02 * T + 0.8 * SEASON + rng.normal(scale=0.1, size=400))
    growing[-1] = -1
    forecaster = Forecaster(6, season=12, **QUICK).fit(growing)
    assert "unit: as given" in forecaster.notes_


def test_a_forecast_of_counts_takes_their_root(rng: np.random.Generator) -> None:
    """From fit to stream: the note, the intervals, and the same numbers after more rows."""
    y = rng.poisson(RATE).astype(float)
    forecaster = Forecaster(6, season=12, **QUICK).fit(y[:-5])
    assert "unit: square root" in forecaster.notes_
    assert forecaster.model_.scaling.root
    forecast = forecaster.predict(level=99)
    assert forecast["carousel-lo-99"].min() >= 0
    low, high = (
        forecast["carousel"] - forecast["carousel-lo-99"],
        forecast["carousel-hi-99"] - forecast["carousel"],
    )
    assert (high > low).all()
    model = stream.Model(forecaster.model_)
    state = model.start()
    for t in range(len(y) - 5, len(y)):
        state = model.observe(t, y[t], state)
    np.testing.assert_allclose(model.forecast(state).mean[0], forecaster.predict(y)["carousel"], rtol=1e-5)


def test_a_note_says_how_far_sums_of_forecasts_fall_short(rng: np.random.Generator) -> None:
    """Of wild values a median is far below the mean; of tame ones nothing is said."""
    wild = 20 * (1.3 + SEASON) * rng.exponential(size=400)
    forecaster = Forecaster(12, season=12, **QUICK).fit(wild[:300])
    (note,) = (note for note in forecaster.notes_ if "nearer a median" in note)
    said = int(re.search(r"some (\d+)% too small", note)[1]) / 100
    found = forecaster.backtest(wild, start=300, step=1).forecasts
    assert said == pytest.approx(1 - found["carousel"].sum() / found["y"].sum(), abs=0.1)
    samples = forecaster.predict(wild, samples=500)
    assert samples["carousel"].sum() / 500 > (1 + said) * forecaster.predict(wild)["carousel"].sum()
    tame = Forecaster(12, season=12, **QUICK).fit(
        np.exp(0.01 * T + 0.3 * SEASON + 0.03 * rng.normal(size=400))
    )
    assert "unit: logarithm" in tame.notes_
    assert not any("median" in note for note in tame.notes_)


def test_a_later_value_without_a_root_is_missing_and_that_is_said(rng: np.random.Generator) -> None:
    y = rng.poisson(RATE).astype(float)
    model = Forecaster(6, season=12, **QUICK).fit(pl.DataFrame({"ds": T, "y": y})).model_
    assert model.scaling.root
    bad, gap = y.copy(), y.copy()
    bad[[390, 395]], gap[[390, 395]] = -1, np.nan
    reading, expected = (read_rows(pl.DataFrame({"ds": T, "y": rows}), model) for rows in (bad, gap))
    assert reading.notes[-1].startswith(
        "2 values have no square root, which this model sees: counted as missing"
    )
    assert reading.notes[-1].endswith("at 390")
    assert not any("square root" in note for note in expected.notes)
    runner = ForecasterModel(model)
    forecasts = [
        runner.forecasts(runner.history(r.panel), Origins(np.zeros(1, int), np.full(1, 400)))
        for r in (reading, expected)
    ]
    np.testing.assert_array_equal(forecasts[0].mean, forecasts[1].mean)


def test_a_stream_says_which_row_has_no_root(rng: np.random.Generator) -> None:
    model = (
        Forecaster(6, season=12, **QUICK)
        .fit(pl.DataFrame({"ds": T, "y": rng.poisson(RATE).astype(float)}))
        .model_
    )
    taken = rows(stream.Model(model), "no", None)
    assert taken.answer(1, b"400,0").remark == ""
    assert (
        taken.answer(1, b"400,-3").remark
        == "-3 has no square root, which this model sees: counted as missing"
    )
    assert taken.answer(1, b"401,-3").remark.startswith("1 row before it is missing; -3 has no square root")


@pytest.mark.parametrize("unit", ["identity", "root"])
def test_quantiles_and_bounds_agree_near_zero(rng: np.random.Generator, unit: Unit) -> None:
    """Where the point forecast itself stands for 0, too."""
    model = Forecaster(6, season=12, **QUICK).fit(rng.poisson(RATE).astype(float)).model_
    assert model.scaling.root
    if unit == "identity":
        model = replace(model, scaling=replace(model.scaling, root=False), nonnegative=True)
    runner = stream.Model(model)
    state = runner.start()
    forecast = runner.forecast(state, 80)
    step = (in_unit(forecast.upper[0], unit) - forecast.point).min() / 8
    for _ in range(200):
        if (forecast.mean == 0).any():
            break
        state = replace(state, window=state.window - step)
        forecast = runner.forecast(state, 80)
    assert (forecast.mean == 0).any()
    assert (forecast.upper > 0).any()
    low, high = runner.quantiles(forecast, state, (0.1, 0.9))
    np.testing.assert_allclose(low, forecast.lower[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(high, forecast.upper[0], rtol=1e-9, atol=1e-12)
