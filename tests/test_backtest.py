"""Backtests: what they compare, how sure they are, what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from carousel import Forecaster
from carousel.errors import ArgumentError, DataError, NotFittedError
from carousel.forecast.comparison import gain
from carousel.forecast.scores import LEVELS, Scores, crps, score
from carousel.forecast.verdict import table, verdict

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 4, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def months(rng: np.random.Generator, rows: int = 60, name: str = "a", start: str = "2010-01") -> pd.DataFrame:
    t = np.arange(rows)
    y = 100 + t + 10 * np.sin(t * np.pi / 6) + rng.normal(size=rows)
    ds = pd.date_range(start, periods=rows, freq="MS")
    return pd.DataFrame({"unique_id": name, "ds": ds, "y": y})


# Comparison


def errors(rng: np.random.Generator, size: float, rows: int, steps: int = 1) -> Any:
    return size * rng.normal(size=(rows, steps))


def test_a_clear_gain_is_sure_and_its_interval_holds_it(rng: np.random.Generator) -> None:
    truth = np.zeros((200, 1))
    found = gain(truth, errors(rng, 1, 200), errors(rng, 2, 200), np.arange(200), np.zeros(200), 1)
    assert found.lower < 0.5 < found.upper
    assert found.sure
    assert found.drawn == "200 origins in blocks of 6"


def test_equal_forecasts_are_sure_of_nothing_in_19_of_20_cases(rng: np.random.Generator) -> None:
    times, one = np.arange(100), np.zeros(100)
    found = [
        gain(one[:, None], errors(rng, 1, 100), errors(rng, 1, 100), times, one, 1).sure for _ in range(200)
    ]
    assert np.mean(found) < 0.12  # percentile intervals of 20 blocks are a little too narrow


def test_overlapping_forecasts_widen_the_interval(rng: np.random.Generator) -> None:
    """Twelve neighbouring origins make one error: what counts is how many errors there are."""
    a, b = (np.repeat(rng.normal(size=40), 12)[:, None] for _ in range(2))
    truth, times, one = np.zeros_like(a), np.arange(len(a)), np.zeros(len(a))
    narrow, wide = (gain(truth, a, b, times, one, span) for span in (1, 24))
    assert wide.upper - wide.lower > 1.1 * (narrow.upper - narrow.lower)
    assert "in blocks of 24" in wide.drawn


def test_series_are_drawn_where_moments_are_few(rng: np.random.Generator) -> None:
    truth, series = np.zeros((40, 3)), np.arange(40)
    found = gain(truth, errors(rng, 1, 40, 3), errors(rng, 2, 40, 3), np.zeros(40), series, 1)
    assert found.drawn == "40 series"
    assert found.sure


def test_too_few_origins_say_nothing(rng: np.random.Generator) -> None:
    truth, times = np.zeros((36, 12)), np.arange(36)
    found = gain(truth, errors(rng, 1, 36, 12), errors(rng, 2, 36, 12), times, np.zeros(36), 12)
    assert np.isnan([found.lower, found.upper]).all()
    assert not found.sure


def test_missing_truth_counts_for_neither(rng: np.random.Generator) -> None:
    truth, a, b = np.zeros((60, 2)), errors(rng, 1, 60, 2), errors(rng, 2, 60, 2)
    truth[::3, 1] = np.nan
    holes = gain(truth, a, b, np.arange(60), np.zeros(60), 1)
    a[::3, 1], b[::3, 1], truth[::3, 1] = 1e9, -1e9, np.nan
    assert gain(truth, a, b, np.arange(60), np.zeros(60), 1) == holes


def scores(rmse: float) -> Scores:
    return Scores(rmse, rmse, rmse, rmse, {80.0: 0.8, 95.0: 0.95}, rmse)


def test_the_verdict_says_how_sure_it_is(rng: np.random.Generator) -> None:
    truth, times, one = np.zeros((100, 1)), np.arange(100), np.zeros(100)
    model, other = errors(rng, 1, 100), errors(rng, 2, 100)
    both = {"carousel": scores(1), "ridge": scores(2)}
    won = verdict(both, 0, {"ridge": gain(truth, model, other, times, one, 1)})
    assert won[1].startswith("95 % interval of the difference ")
    assert won[1].endswith(" %, 100 origins in blocks of 5.") or won[1].endswith(
        "100 origins in blocks of 5."
    )
    lost = verdict(
        {"carousel": scores(2), "ridge": scores(1)}, 0, {"ridge": gain(truth, other, model, times, one, 1)}
    )
    assert lost[0].startswith("Ridge wins")
    assert "difference" in lost[-1]
    chance = verdict(both, 0, {"ridge": gain(truth, model, -model, times, one, 1)})
    assert chance[1].startswith("That may be chance: 95 % interval of the difference ")
    few = verdict(both, 0, {"ridge": gain(truth[:8], model[:8], other[:8], times[:8], one[:8], 8)})
    assert few[1] == "How sure that is cannot be said from 8 origins: too few that do not overlap."


def test_the_table_fits_a_terminal() -> None:
    names = ("carousel", "seasonal naive 168", "persistence", "ridge")
    large = Scores(123456.789, 98765.4321, 1.23456, 12.3456, {80.0: 0.8, 95.0: 1.0}, 87654.321)
    lines = table({name: large for name in names}).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["RMSE", "MAE"]


# CRPS


def test_crps_of_a_normal_distribution_is_the_closed_form(rng: np.random.Generator) -> None:
    from statistics import NormalDist

    normal, y = NormalDist(), rng.normal(size=(4000, 1))
    ends = {float(a): normal.inv_cdf((1 + a / 100) / 2) for a in LEVELS}
    intervals = {a: (np.full_like(y, -end), np.full_like(y, end)) for a, end in ends.items()}
    density = np.array([[normal.pdf(v), normal.cdf(v)] for v in y[:, 0]])
    exact = y[:, 0] * (2 * density[:, 1] - 1) + 2 * density[:, 0] - 1 / np.sqrt(np.pi)
    # 19 quantiles, the tails beyond them left out, are a little above the integral over all.
    assert crps(y, np.zeros_like(y), intervals).mean() == pytest.approx(exact.mean(), rel=0.06)


def test_crps_of_a_point_is_its_absolute_error(rng: np.random.Generator) -> None:
    truth, point = rng.normal(size=(2, 30, 4))
    at_once = {float(a): (point, point) for a in LEVELS}
    np.testing.assert_allclose(crps(truth, point, at_once), np.abs(truth - point))
    found = score(truth, point, np.ones(30))
    assert found.crps == pytest.approx(found.mae)


# Backtests


def test_every_forecast_is_scored_on_the_same_origins(rng: np.random.Generator) -> None:
    frame = months(rng)
    result = Forecaster(4, **QUICK).fit(frame[:40]).backtest(frame, start="2013-05", step=4)
    assert set(result.gains) == {"persistence", "seasonal naive", "ridge"}
    ours = result.scores["carousel"]
    assert 0 < ours.crps < ours.mae
    for name, gains in result.gains.items():
        assert gains.share == pytest.approx(1 - ours.rmse / result.scores[name].rmse)
    error = result.forecasts["carousel"] - result.forecasts["y"]
    assert ours.rmse == pytest.approx(np.sqrt((error**2).mean()))


def test_origins_in_fitted_rows_are_refused_or_said(rng: np.random.Generator) -> None:
    frame = months(rng)
    fitted = Forecaster(4, **QUICK).fit(frame[:52])
    with pytest.raises(
        ArgumentError, match=r"2 of 4 origins lie in rows that .* series 'a' go to 2014-04-01\. Give"
    ):
        fitted.backtest(frame, origins=4, step=4)
    allowed = fitted.backtest(frame, origins=4, step=4, fitted_rows="allow")
    assert allowed.verdict[-1].startswith("2 of 4 origins lie in rows that the model was fitted on")
    assert fitted.backtest(frame, origins=2, step=4).origins == 2
    fitted.update(frame[52:56])  # rows that were taken in were not fitted
    assert fitted.backtest(frame, origins=2, step=4).origins == 2


def test_refit_sees_only_what_was_known(rng: np.random.Generator) -> None:
    """At every second origin a model of the rows before it: the one that a user would have had."""
    frame = pd.concat([months(rng), months(rng, 40, "b", "2011-09")], ignore_index=True)
    forecaster = Forecaster(3, **QUICK)
    result = forecaster.backtest(frame, start="2014-01", step=3, refit=2)
    assert (result.fits, result.origins) == (2, 8)
    assert not forecaster.__sklearn_is_fitted__()
    assert "8 origins, 2 fits" in str(result)
    for start, cutoffs in (("2014-01", ("2013-12", "2014-03")), ("2014-07", ("2014-06", "2014-09"))):
        known = Forecaster(3, **QUICK).fit(frame[frame["ds"] < start])
        for cutoff in cutoffs:
            expected = known.predict(frame[frame["ds"] <= cutoff])
            found = result.forecasts[result.forecasts["cutoff"] == cutoff]
            np.testing.assert_allclose(found["carousel"], expected["carousel"], rtol=1e-9)
            np.testing.assert_allclose(found["carousel-lo-80"], expected["carousel-lo-80"], rtol=1e-9)


def test_processes_change_nothing(rng: np.random.Generator) -> None:
    frame, forecaster = months(rng), Forecaster(3, **QUICK)
    serial = forecaster.backtest(frame, origins=3, refit=1)
    parallel = forecaster.backtest(frame, origins=3, refit=1, jobs=2)
    pd.testing.assert_frame_equal(parallel.forecasts, serial.forecasts, check_exact=True)
    assert parallel.scores == serial.scores
    assert parallel.verdict == serial.verdict


def test_a_shift_is_said_in_a_backtest(rng: np.random.Generator) -> None:
    walk = rng.normal(size=200).cumsum() + 100
    fitted = Forecaster(1, season=1, **QUICK).fit(walk[:150])
    result = fitted.backtest(walk, start=150, step=1)
    assert any("One step ahead the forecast equals the last value" in line for line in result.verdict)


def test_arguments_of_a_backtest(rng: np.random.Generator) -> None:
    frame, forecaster = months(rng), Forecaster(4, **QUICK)
    with pytest.raises(NotFittedError):
        forecaster.backtest(frame)
    for arguments, name in (
        ({"refit": -1}, "refit"),
        ({"jobs": 0}, "jobs"),
        ({"fitted_rows": "some"}, "fitted_rows"),
    ):
        with pytest.raises(ArgumentError, match=f"`{name}`"):
            forecaster.backtest(frame, **arguments)
    with pytest.raises(DataError, match="with 1 origin: the longest series has 12 rows; give more history"):
        forecaster.backtest(frame[:12], refit=1)


# Quantiles and samples


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    rng = np.random.default_rng(7)
    frame = pd.concat([months(rng, 90), months(rng, 90, "b")], ignore_index=True)
    return Forecaster(6, **QUICK).fit(frame)


def test_quantiles_are_the_ends_of_the_intervals_and_never_cross(fitted: Forecaster) -> None:
    quantiles = np.linspace(0.005, 0.995, 100)
    frame = fitted.predict(quantiles=[*quantiles, 0.1, 0.5, 0.9])
    assert list(frame.columns[:4]) == ["unique_id", "ds", "carousel", "carousel-q-0.5"]
    values = frame.filter(like="-q-").to_numpy()
    assert values.shape == (12, 103)
    assert (np.diff(values, axis=1) >= 0).all()
    intervals = fitted.predict(level=80)
    np.testing.assert_allclose(frame["carousel-q-10"], intervals["carousel-lo-80"])
    np.testing.assert_allclose(frame["carousel-q-90"], intervals["carousel-hi-80"])
    np.testing.assert_allclose(frame["carousel-q-50"], frame["carousel"])


def test_samples_spread_as_the_intervals_and_hang_together(fitted: Forecaster) -> None:
    number = 400
    frame = fitted.predict(samples=number)
    assert list(frame.columns) == ["unique_id", "ds", "sample", "carousel"]
    assert frame["sample"].tolist() == np.tile(np.repeat(np.arange(number), 6), 2).tolist()
    paths = frame["carousel"].to_numpy().reshape(2, number, 6)
    for level in (50, 80):
        ends = fitted.predict(level=level)
        lower, upper = (ends[f"carousel-{end}-{level}"].to_numpy().reshape(2, 1, 6) for end in ("lo", "hi"))
        inside = ((paths >= lower - 1e-9) & (paths <= upper + 1e-9)).mean(1)
        assert (inside >= level / 100 - 0.006).all()
        assert (inside <= level / 100 + 0.1).all()  # errors are few: several quantiles have the same
    again = fitted.predict(samples=number)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    other = fitted.predict(samples=number, seed=1)["carousel"].to_numpy().reshape(2, number, 6)
    assert not (np.sort(other, 1) == np.sort(paths, 1)).all()
    assert abs(np.corrcoef(paths[0, :, 0], paths[1, :, 0])[0, 1]) < 0.2  # series are independent


def test_a_few_samples_are_draws_too(fitted: Forecaster) -> None:
    ends = fitted.predict(level=80).iloc[:6]
    low, high = (ends[f"carousel-{end}-80"].to_numpy() for end in ("lo", "hi"))
    singles = np.stack([fitted.predict(samples=1, seed=k)["carousel"].to_numpy()[:6] for k in range(200)])
    inside = ((singles >= low) & (singles <= high)).mean(0)
    assert (np.abs(inside - 0.8) < 0.13).all()
    pairs = np.stack([fitted.predict(samples=2, seed=k)["carousel"].to_numpy()[:12] for k in range(3)])
    assert len(np.unique(pairs[:, 0])) == 3


def test_drawn_errors_keep_the_margins_and_the_dependence_of_their_paths(rng: np.random.Generator) -> None:
    from carousel.series.conformal import drawn_errors

    paths = rng.normal(size=(200, 8)).cumsum(1)
    levels, spread = (np.arange(500) + 0.5) / 500, np.sort(rng.normal(size=(500, 8)), 0)
    errors = drawn_errors(1000, levels, spread, paths, rng)
    np.testing.assert_allclose(
        np.quantile(errors, (0.1, 0.5, 0.9), 0), np.quantile(spread, (0.1, 0.5, 0.9), 0), atol=0.05
    )
    theirs, ours = (np.corrcoef(x.argsort(0).argsort(0).T) for x in (paths, errors))  # of ranks
    np.testing.assert_allclose(ours, theirs, atol=0.06)
    assert ours[0, 1] > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantiles": 1.0}, "`quantiles` must be numbers between 0 and 1"),
        ({"quantiles": [0.5, "0.9"]}, "`quantiles` must be numbers between 0 and 1"),
        ({"samples": 0}, "`samples` must be an integer of at least 1"),
        ({"samples": 3, "level": 80}, "`level` and `samples` are two forms of one answer"),
    ],
)
def test_answers_that_cannot_be(fitted: Forecaster, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fitted.predict(**arguments)


def test_samples_need_errors_of_whole_forecasts(rng: np.random.Generator) -> None:
    frame = months(rng)
    frame.loc[frame.index[40::3], "y"] = np.nan
    with pytest.raises(ArgumentError, match="`samples` need at least two held-out forecasts"):
        Forecaster(6, **QUICK).fit(frame).predict(samples=5)
