"""Opening hours and days as a frequency: rows at some times of the week only, and forecasts at these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, DataError
from carousel.series.calendar import Frequency
from carousel.series.features import calendar_features, phase, phases
from carousel.stream import load

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
    ["h Mon-Fri 16:00-09:00", "h Xxx-Fri 09:00-10:00", "h Mon 09:00-16:30", "h Mon 25:00-26:00", "h Mon", "W Mon-Sat",
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


DAYS = ["D Mon-Sat", "D Sun-Thu", "D Tue,Thu", "D Mon-Thu,Sat", "D Sat-Sun", "D Sat-Thu", "D Wed,Sun-Mon"]
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def open_days(text: str, start: str, count: int) -> pd.DatetimeIndex:
    """`count` days from `start` on, those that the text names, by their names alone."""
    named: set[str] = set()
    for part in text.removeprefix("D ").split(","):
        first, _, last = part.partition("-")
        low, span = NAMES.index(first), (NAMES.index(last or first) - NAMES.index(first)) % 7
        named |= {NAMES[(low + k) % 7] for k in range(span + 1)}
    every = pd.date_range(start, periods=7 * count, freq="D")
    return every[[day.strftime("%a") in named for day in every]][:count]


@pytest.mark.parametrize("clock", ["00:00", "06:30:00.5"])
@pytest.mark.parametrize("text", DAYS)
def test_rows_are_those_of_the_days(text: str, clock: str) -> None:
    """Against a filter of all days; at any time of the day, which is that of the first row."""
    frequency = Frequency.parse(text)
    assert str(frequency) == text
    assert Frequency.parse(str(frequency)) == frequency
    grid = open_days(text, f"1969-11-20 {clock}", 500).to_numpy().astype("datetime64[us]")
    np.testing.assert_array_equal(frequency.grid(grid[0], 500), grid)
    np.testing.assert_array_equal(frequency.shift(grid[250], np.arange(-250, 250)), grid)
    np.testing.assert_array_equal(frequency.positions(grid[0], grid), np.arange(500))
    n = frequency.season
    assert frequency.seasons == (len(set(grid.astype("datetime64[D]").astype(int) % 7)),)
    np.testing.assert_array_equal(np.diff(phase(frequency, n, grid)) % n, 1)
    features = calendar_features(frequency, grid)
    assert features.shape == (500, 7 + 6)
    assert np.count_nonzero(features[:, :7].any(0)) == n
    assert Frequency.infer(grid) == frequency


def test_days_in_one_writing() -> None:
    for text in ("D mon-sat", "1D Mon-Sat", "daily Mon-Thu,Fri-Sat", " D Mon, Tue, Wed, Thu, Fri, Sat "):
        assert str(Frequency.parse(text)) == "D Mon-Sat"
    assert Frequency.parse("D Mon-Fri") == Frequency.parse("B")
    assert Frequency.parse("D Fri-Thu") == Frequency.parse("D Mon-Sun") == Frequency.parse("D")
    assert str(Frequency.parse("D Fri-Mon")) == "D Fri-Mon"


@pytest.mark.parametrize(
    "text",
    ["D Mon", "D Xxx-Sat", "D Mon-Sat,", "D Mon-Tue,Tue-Wed", "D Mon;Tue", "D Mon-Sat 09:00-09:00", "D Mon Tue",
     "D Mon-Tue-Wed", "D Mon," * 1000],
)  # fmt: skip
def test_texts_that_are_no_days(text: str) -> None:
    with pytest.raises(ArgumentError, match=r'`freq` of days must be .* "D Mon-Sat" .* got ') as caught:
        Frequency.parse(text)
    assert len(str(caught.value)) < 250


def test_several_days_are_no_step_of_days_of_the_week() -> None:
    for text in ("2D Mon-Sat", "B Mon-Sat", "MS Mon-Sat", "5 Mon-Sat"):
        with pytest.raises(ArgumentError, match="`freq`"):
            Frequency.parse(text)
    with pytest.raises(ArgumentError, match="must be an alias"):
        Frequency.parse("MinMon-Sat")
    assert str(Frequency.parse("5 min")) == "5min"


def unit_of(stamps: np.ndarray) -> str:
    """That of the frequency that is found; "none" where there is none."""
    try:
        return Frequency.infer(stamps).unit
    except DataError:
        return "none"


@pytest.mark.parametrize("text", [*DAYS, "B"])
def test_days_are_found_where_few_are_missing(text: str) -> None:
    """Holidays, and series that begin on different days at different times; not where chance could leave out a day."""
    rng = np.random.default_rng(6)
    frequency = Frequency.parse(text)
    grid = (
        open_days(text.replace("B", "D Mon-Fri"), "2024-01-03 06:00", 200).to_numpy().astype("datetime64[us]")
    )
    assert Frequency.infer(grid[rng.random(200) < 0.9]) == frequency
    two = np.concatenate([grid, grid[30:] + np.timedelta64(90, "m")])
    assert Frequency.infer(two, np.array([0, 200, len(two)])) == frequency
    month = grid[grid < grid[0] + np.timedelta64(28, "D")]
    assert Frequency.infer(grid[: len(month) + 1]) == frequency
    if text != "B":
        assert unit_of(grid[rng.random(200) < 0.6]) != "open"
        if frequency.season > 4:
            assert str(Frequency.infer(month)) in ("D", "B")


def test_days_that_are_no_days_of_the_week() -> None:
    rng = np.random.default_rng(8)
    every = pd.date_range("2024-01-01", periods=300).to_numpy().astype("datetime64[us]")
    for kept in (
        rng.random(300) < 0.9,
        np.arange(300) % 8 != 3,
        (np.arange(300) % 7 != 6) | (np.arange(300) == 20),
    ):
        assert str(Frequency.infer(every[kept])) == "D"
    assert str(Frequency.infer(every[::2])) == "2D"
    assert str(Frequency.infer(every[::7])) == "W-MON"
    weekly = np.concatenate([every[::7], every[2::7]])  # two series, each on a day of its own
    assert str(Frequency.infer(weekly, np.array([0, 43, len(weekly)]))) == "W-MON"


def test_a_row_on_a_closed_day_is_refused() -> None:
    frequency = Frequency.parse("D Mon-Sat")
    stamps = np.array(["2024-02-24T06:00", "2024-02-25T06:00", "2024-02-26T06:00"], "datetime64[us]")
    for rows in (stamps, stamps[1:]):
        with pytest.raises(
            DataError, match=r"time stamps are off the D Mon-Sat grid, first 2024-02-25 06:00:00;"
        ):
            frequency.positions(rows[0], rows)
    with pytest.raises(DataError, match="1 of 3"):  # nor may the time of the day change
        frequency.positions(
            stamps[0], np.array(["2024-02-26T06:00", "2024-02-26T07:00", "2024-02-27T06:00"], "M8[us]")
        )


def test_forecasts_are_on_open_days(tmp_path: Path) -> None:
    """Found in the data, a holiday apart; then the file, new rows, rows of a stream, and the refusal of a Sunday."""
    rng = np.random.default_rng(9)
    days = open_days("D Mon-Sat", "2024-01-01 06:00", 206)
    t = np.arange(len(days))
    frame = pd.DataFrame({"ds": days, "y": 100 + 20 * (t % 6) + rng.normal(size=len(t))})
    there = frame[~frame["ds"].dt.strftime("%m-%d").isin(["01-15", "05-01"])]
    past, new = there[there.index < 200], there[there.index >= 200]
    forecaster = Forecaster(6, **QUICK).fit(past)
    assert forecaster.notes_[0] == "time column: ds (D Mon-Sat, 2024-01-01 06:00 to 2024-08-20 06:00)"
    assert "2 gaps are treated as missing" in forecaster.notes_
    found = forecaster.predict()
    assert found["ds"].tolist() == new["ds"].tolist()
    assert np.abs(found["carousel"].to_numpy() - new["y"].to_numpy()).mean() < 5
    path = tmp_path / "shop.carousel"
    forecaster.save(path)
    again = carousel.load(path)
    pd.testing.assert_frame_equal(again.predict(), found)
    model = load(path)
    state = model.start()
    np.testing.assert_allclose(model.forecast(state).mean[0], found["carousel"], rtol=1e-5)
    for ds, y in new.itertuples(index=False):
        state = model.observe(np.datetime64(ds, "us"), y, state)
    after = again.update(new).predict()
    np.testing.assert_array_equal(model.forecast(state).ds[0], after["ds"].to_numpy())
    np.testing.assert_allclose(model.forecast(state).mean[0], after["carousel"], rtol=1e-5)
    sunday = pd.DataFrame({"ds": [pd.Timestamp("2024-09-01 06:00")], "y": [1.0]})
    with pytest.raises(
        DataError, match=r"1 of 1 time stamps are off the D Mon-Sat grid, first 2024-09-01 06:00:00"
    ):
        again.predict(sunday)
    every = Forecaster(6, freq="D", **QUICK).fit(past)  # who asks for all days has them
    assert every.predict()["ds"].iloc[4] == pd.Timestamp("2024-08-25 06:00")
