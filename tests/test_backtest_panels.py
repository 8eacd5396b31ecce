"""Backtests of panels whose series begin late, end early or are short, and with covariates that fits choose from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from carousel import Forecaster
from carousel.errors import ArgumentError, DataError
from carousel.forecast.holdout import backtest_from_start
from carousel.forecast.read import read_frame
from carousel.series.history import own_scale
from carousel.series.panel import Panel

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 1, "max_steps": 5, "hidden_size": 4, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def days(rng: np.random.Generator, name: str, rows: int, start: str = "2023-01-01") -> pd.DataFrame:
    t = np.arange(rows)
    y = 20 + 5 * np.sin(2 * np.pi * t / 7) + rng.normal(size=rows)
    return pd.DataFrame({"unique_id": name, "ds": pd.date_range(start, periods=rows), "y": y})


def widths(forecasts: pd.DataFrame) -> dict[str, float]:
    """Of the 80 % intervals, by the first letter of the series."""
    wide = forecasts["carousel-hi-80"] - forecasts["carousel-lo-80"]
    found: dict[str, float] = wide.groupby(forecasts.unique_id.str[0]).mean().to_dict()
    return found


def test_a_series_that_begins_after_the_fit_is_scaled_by_its_own_rows(rng: np.random.Generator) -> None:
    whole = [days(rng, f"whole{k}", 120) for k in range(6)]
    late = [days(rng, f"late{k}", 120).tail(40) for k in range(3)]
    frame = pd.concat(whole + late)
    once = Forecaster(5, **QUICK).backtest(frame, origins=10, refit=1000).forecasts
    from_start = backtest_from_start(Forecaster(5, **QUICK), read_frame(frame), origins=10).forecasts
    for forecasts in (once, from_start):
        found = widths(forecasts)
        assert 0.6 < found["l"] / found["w"] < 1.6


def test_the_last_series_may_begin_after_the_fit(rng: np.random.Generator) -> None:
    frame = pd.concat([days(rng, "a", 120), days(rng, "b", 120), days(rng, "c", 120).tail(30)])
    result = backtest_from_start(Forecaster(5, **QUICK), read_frame(frame))
    assert set(result.forecasts.unique_id) == {"a", "b", "c"}


def test_a_series_that_ended_long_ago_does_not_age_the_fit_of_the_others(rng: np.random.Generator) -> None:
    """What the others do changes on day 200, long after the closed one's last row."""
    live = [days(rng, f"s{k}", 400) for k in range(3)]
    for one in live:
        one.loc[200:, "y"] += 15 * (np.arange(200, 400) % 7 == 0)
    closed = days(rng, "closed", 100)
    alone = Forecaster(7, **QUICK).backtest(pd.concat(live), origins=3, refit=2)
    beside = Forecaster(7, **QUICK).backtest(pd.concat([*live, closed]), origins=3, refit=2)

    def error(forecasts: pd.DataFrame) -> float:
        of_live = forecasts[forecasts.unique_id != "closed"]
        return float(((of_live.y - of_live.carousel) ** 2).mean() ** 0.5)

    assert error(beside.forecasts) < 1.2 * error(alone.forecasts)
    assert beside.fits > alone.fits
    fitted = Forecaster(7, **QUICK).fit(pd.concat([*live, closed]))
    assert "fitted anew" in fitted.report(pd.concat([*live, closed]), origins=3)


def test_one_fit_for_any_number_of_moments(rng: np.random.Generator) -> None:
    """A number that no date can bear, and series whose grids lie between each other's rows."""
    even, odd = days(rng, "even", 120), days(rng, "odd", 120)
    even["ds"] = pd.date_range("2023-01-01", periods=120, freq="2h")
    odd["ds"] = pd.date_range("2023-01-01 01:00", periods=120, freq="2h")
    forecaster = Forecaster(5, freq="2h", **QUICK)
    assert [forecaster.backtest(pd.concat([even, odd]), origins=3, refit=k).fits for k in (10**15, 2)] == [
        1,
        3,
    ]


def test_a_short_series_that_ended_does_not_forbid_to_fit_anew(rng: np.random.Generator) -> None:
    frame = pd.concat([days(rng, "a", 120), days(rng, "closed", 20)])
    result = Forecaster(5, **QUICK).backtest(frame, refit=5)
    assert "a" in set(result.forecasts.unique_id)


def with_covariates(rng: np.random.Generator, rows: int = 300) -> pd.DataFrame:
    """Visits act only in the second half, so that early fits leave them out."""
    frame = days(rng, "a", rows).drop(columns="unique_id")
    promo, visits = (rng.random(rows) < 0.2) * 1.0, rng.normal(size=rows).cumsum() * 0.3
    second = np.arange(rows) > rows / 2
    frame["y"] += 20 * promo + 8 * np.roll(visits, 1) * second
    return frame.assign(promo=promo, visits=visits)


def test_a_new_fit_may_keep_other_covariates(rng: np.random.Generator) -> None:
    frame = with_covariates(rng)
    fitted = Forecaster(2, **QUICK).fit(frame, past="visits", future="promo")
    assert fitted.model_.covariates is not None
    result = fitted.backtest(frame, start="2023-05-01", refit=50)
    assert result.fits > 1
    assert "fitted anew" in fitted.report(frame.iloc[:-2], future=frame.iloc[-2:], origins=3)


def test_a_new_fit_is_given_what_the_whole_fit_left_out(rng: np.random.Generator) -> None:
    """The effect turns over in the end: all rows show none, those before the origins do."""
    frame = days(rng, "a", 300).drop(columns="unique_id")
    frame["promo"] = (rng.random(300) < 0.3) * 1.0
    frame["y"] += np.where(np.arange(300) < 200, 15, -15) * frame.promo
    fitted = Forecaster(3, **QUICK).fit(frame, future="promo")
    assert fitted.model_.covariates is None
    arguments = {"start": "2023-05-20", "origins": 8}
    anew = fitted.backtest(frame, **arguments, refit=100)
    before = Forecaster(3, **QUICK).fit(frame[frame.ds < "2023-05-20"], future="promo")
    assert before.model_.covariates is not None
    np.testing.assert_allclose(
        anew.scores["carousel"].rmse, before.backtest(frame, **arguments).scores["carousel"].rmse
    )


def test_a_start_with_an_offset_is_read_by_the_clock_of_the_rows(rng: np.random.Generator) -> None:
    frame = days(rng, "a", 24 * 30).assign(ds=pd.date_range("2024-03-01", periods=24 * 30, freq="h"))
    local = frame.assign(
        ds=frame.ds.dt.tz_localize("Europe/Berlin", ambiguous="NaT", nonexistent="shift_forward")
    )
    forecaster = Forecaster(24, **QUICK).fit(frame.iloc[: 24 * 20])
    zoned = Forecaster(24, **QUICK).fit(local.iloc[: 24 * 20])

    def first(fitted: Forecaster, rows: pd.DataFrame, start: Any) -> str:
        return str(fitted.backtest(rows, start=start, origins=1).cutoffs[0])[:16]

    assert first(forecaster, frame, "2024-03-22T00:00+05:00") == "2024-03-21T23:00"
    rows = local.iloc[: 24 * 26]
    assert first(zoned, rows, "2024-03-22T00:00Z") == "2024-03-22T00:00"
    assert first(zoned, rows, pd.Timestamp("2024-03-22", tz="UTC")) == "2024-03-22T00:00"
    with pytest.raises(ArgumentError, match="`start` must be a date such as 2024-01-31, got 'soon'"):
        forecaster.backtest(frame, start="soon")


# Short series


def test_a_series_of_few_rows_is_taken_to_change_as_others_do(rng: np.random.Generator) -> None:
    series = [10 + rng.normal(size=100) for _ in range(5)]
    usual = own_scale(Panel.of(series), np.concatenate(series), 1)[1].mean()
    for few in (np.array([10.0]), np.array([10.0, 10.0]), np.full(5, 10.0)):
        panel = Panel.of([*series, few])
        assert 0.4 * usual < own_scale(panel, panel.values, 1)[1][-1] < 1.5 * usual
    large = Panel.of([*series, np.array([1000.0])])
    assert own_scale(large, large.values, 1)[1][-1] == pytest.approx(100 * usual, rel=0.3)
    still = Panel.of([*series, np.full(100, 10.0)])
    assert own_scale(still, still.values, 1)[1][-1] < 0.02 * usual


def test_intervals_of_a_series_with_one_row_are_no_narrower_than_those_of_its_like(
    rng: np.random.Generator,
) -> None:
    frame = pd.concat([*(days(rng, f"s{k}", 100) for k in range(5)), days(rng, "new", 100).tail(1)])
    fitted = Forecaster(4, **QUICK).fit(frame)
    assert "series new has one value, and intervals as series like it" in fitted.notes_
    found = widths(fitted.predict())
    assert found["n"] > found["s"]
    pd.testing.assert_frame_equal(fitted.predict(frame), fitted.predict())


def test_a_series_too_short_for_an_origin_is_no_hindrance(rng: np.random.Generator) -> None:
    """What can be fitted can be judged, and reported on."""
    frame = pd.concat([*(days(rng, f"s{k}", 100) for k in range(3)), days(rng, "new", 100).tail(3)])
    result = backtest_from_start(Forecaster(4, **QUICK), read_frame(frame))
    assert set(result.forecasts.unique_id) == {"s0", "s1", "s2"}
    fitted = Forecaster(4, **QUICK).fit(frame)
    assert "new" in fitted.report(frame, origins=2)
    with pytest.raises(
        DataError, match="No origin has 8 rows before it and 4 after it: the longest series has 3"
    ):
        fitted.backtest(frame[frame.unique_id == "new"], start="2023-04-09")


@pytest.mark.parametrize("what", ["short", "missing"])
def test_no_forecast_or_baseline_knows_what_comes_after_its_origin(
    rng: np.random.Generator, what: str
) -> None:
    """Neither the scale of a series that is shorter than the look-back, nor how many later rows are missing."""
    N, more = 60, 24
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2018-01-01", periods=N + more, freq="MS")})
    frame["y"] = 10 + 3 * np.sin(np.arange(N + more) * np.pi / 6) + rng.normal(size=N + more)
    if what == "short":
        late = frame[N - 16 :].assign(unique_id="b", y=5 + rng.normal(size=more + 16))
        frame = pd.concat([frame, late], ignore_index=True)
    else:
        frame.loc[[30, 31, 45, 46], "y"] = np.nan
    start, changed = frame["ds"][N], frame["ds"][N + 4]
    other = frame.copy()
    if what == "short":
        other.loc[(other["unique_id"] == "b") & (other["ds"] > changed), "y"] *= 20
    else:
        other.loc[N + 5 :, "y"] = np.where(np.arange(more - 5) % 3 == 0, other["y"][N + 5 :], np.nan)
    fitted = Forecaster(3, season=12, **QUICK).fit(frame[frame["ds"] < start])
    one, two = (fitted.backtest(rows, start=start, step=1).forecasts for rows in (frame, other))
    both = one.merge(two, on=["unique_id", "cutoff", "ds"], suffixes=("", "_changed"))
    both = both[both["cutoff"] <= frame["ds"][N + 2]]
    assert len(both) > 5
    for column in ("carousel", "carousel-hi-80", "persistence", "seasonal naive", "ridge"):
        np.testing.assert_array_equal(both[column], both[f"{column}_changed"])
