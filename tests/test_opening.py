"""Opening hours as a frequency: rows at some times of the week only, and forecasts at these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from carousel import Forecaster
from carousel.errors import ArgumentError, DataError
from carousel.series.calendar import Frequency
from carousel.series.features import calendar_features, phase, phases

WEEKS = [
    "h Mon-Fri 09:00-16:00",
    "min Mon-Fri 09:30-15:59",
    "30min Mon-Thu 08:00-11:30,13:00-16:30; Sat 09:00-10:30",
    "2h Mon-Sun 08:00-20:00",
    "15min Tue 06:00-07:45",
    "20s Mon 00:00-00:03:20; Sun 23:59-23:59:40",
]


@pytest.mark.parametrize("text", WEEKS)
def test_rows_are_those_of_the_week(text: str) -> None:
    """Against a filter of all time stamps; back and forth, and from and to its own text."""
    frequency = Frequency.parse(text)
    assert str(frequency) == text
    assert Frequency.parse(str(frequency)) == frequency
    start = frequency.shift(np.datetime64("2024-02-20T13:07"), np.int64(0))
    grid = frequency.grid(start, 500)
    assert (np.diff(grid) > np.timedelta64(0)).all()
    np.testing.assert_array_equal(frequency.positions(start, grid), np.arange(500))
    np.testing.assert_array_equal(frequency.shift(grid[250], np.arange(-250, 250)), grid)
    every = pd.date_range(grid[0], grid[-1], freq=pd.Timedelta(frequency.step, "us"))
    week = frequency.grid(start, 1 + frequency.seasons[-1])
    assert week[-1] - week[0] == np.timedelta64(7, "D")
    within = {(t - t.normalize(), t.weekday()) for t in pd.DatetimeIndex(week)}
    kept = [t for t in every if (t - t.normalize(), t.weekday()) in within]
    np.testing.assert_array_equal(grid, np.array(kept, "datetime64[us]"))
    P = phases(frequency, frequency.season)
    place = phase(frequency, frequency.season, grid)
    assert (np.diff(place) % max(P, 2) == (1 if P > 1 else 0)).all()
    assert calendar_features(frequency, grid).shape == (500, 8 + 7 + 6)


def test_business_hours_have_a_short_name() -> None:
    frequency = Frequency.parse("bh")
    assert str(frequency) == "h Mon-Fri 09:00-16:00"
    assert frequency.seasons == (8, 40)
    assert Frequency.parse("h mon-fri 09:00-11:00,12:00-16:00") == frequency  # one stretch, in one writing
    friday = np.datetime64("2024-02-23T16:00")
    assert str(frequency.after(friday, 1)[0]) == "2024-02-26T09:00:00.000000"
    np.testing.assert_array_equal(
        frequency.grid(friday, 30)[1:], pd.date_range(friday, periods=30, freq="bh")[1:]
    )


@pytest.mark.parametrize("text", WEEKS[:4])
def test_opening_hours_are_found_where_few_rows_are_missing(text: str) -> None:
    rng, frequency = np.random.default_rng(3), Frequency.parse(text)
    rows = 5 * frequency.seasons[-1]
    grid = frequency.grid(frequency.shift(np.datetime64("2024-02-20T13:07"), np.int64(0)), rows)
    assert Frequency.infer(grid) == frequency
    assert Frequency.infer(grid[rng.random(rows) < 0.9]) == frequency
    two = np.concatenate([grid, grid[rows // 2 :]])
    assert Frequency.infer(two, np.array([0, rows, len(two)])) == frequency
    assert Frequency.infer(grid[rng.random(rows) < 0.5]) != frequency
    assert Frequency.infer(grid[: rows // 3]).unit == "us"  # less than three weeks may be an accident


def test_other_rows_keep_the_whole_week() -> None:
    rng = np.random.default_rng(4)
    hours = np.datetime64("2024-01-01") + np.arange(2000).astype("timedelta64[h]")
    for kept in (np.ones(2000, bool), rng.random(2000) < 0.6, np.arange(2000) % 24 != 3):
        assert str(Frequency.infer(hours[kept].astype("datetime64[us]"))) == "h"


@pytest.mark.parametrize(
    "text",
    ["h Mon-Fri 16:00-09:00", "h Xxx-Fri 09:00-10:00", "h Mon 09:00-16:30", "h Mon 25:00-26:00", "D Mon 09:00-09:00",
     "us Mon-Sun 00:00-23:59", "ms Mon 00:00-23:59", "h " + "Mon 09:00-10:00; " * 100_000 + "Tue 09:00-10:00",
     "h Mon-Tue 09:00-12:00; Tue 11:00-13:00", "h Fri-Mon 09:00-10:00", "h Mon 09:00", "h Mon 09:00-10:75"],
)  # fmt: skip
def test_texts_that_are_no_week(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"`freq` of opening hours must"):
        Frequency.parse(text)


def test_a_row_outside_is_refused() -> None:
    frequency = Frequency.parse("bh")
    stamps = np.array(["2024-02-23T09:00", "2024-02-24T09:00"], "datetime64[us]")
    with pytest.raises(
        DataError, match=r"1 of 2 time stamps are off the h Mon-Fri 09:00-16:00 grid, first 2024-02-24"
    ):
        frequency.positions(stamps[0], stamps)


QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "progress": False}


def test_forecasts_are_at_opening_hours() -> None:
    """Found in the data, a holiday apart; the same as of rows that are only counted, calendar aside."""
    rng = np.random.default_rng(5)
    grid = Frequency.parse("bh").grid(np.datetime64("2024-01-01T09:00"), 480)
    t = np.arange(len(grid))
    y = 100 + 20 * np.sin(2 * np.pi * t / 8) + 10 * (t // 8 % 5) + rng.normal(size=len(t))
    frame = pd.DataFrame({"ds": grid, "y": y})
    there = frame[~frame["ds"].dt.strftime("%m-%d").isin(["01-15", "02-19"])]
    forecaster = Forecaster(16, **QUICK).fit(there[there["ds"] < "2024-03-16"])
    assert forecaster.notes_[0].startswith("time column: ds (h Mon-Fri 09:00-16:00, ")
    assert "16 gaps are treated as missing" in forecaster.notes_
    found = forecaster.predict()
    truth = frame[frame["ds"] >= "2024-03-16"][:16]
    assert found["ds"].tolist() == truth["ds"].tolist()
    assert np.abs(found["carousel"].to_numpy() - truth["y"].to_numpy()).mean() < 3
    hourly = Forecaster(16, freq="h", **QUICK).fit(there[there["ds"] < "2024-03-16"])
    assert hourly.predict()["ds"].iloc[0] == pd.Timestamp(
        "2024-03-15 17:00"
    )  # who asks for all hours has them
