"""Forecasts come back in the zone of the rows, and with their ids."""

from __future__ import annotations

import copy
import datetime
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import carousel
from carousel import Forecaster
from carousel.forecast.frames import to_frame
from carousel.series.zones import instants, wall_clock

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "lookback": 48, "progress": False}


def hours(zone: str | None, end: str = "2024-03-30 21:00", rows: int = 240, id: Any = 7) -> pd.DataFrame:
    ds = pd.date_range(end=end, periods=rows, freq="h", tz=zone)
    y = 10 + np.sin(np.arange(rows) * np.pi / 12) + np.random.default_rng(0).normal(size=rows) / 10
    return pd.DataFrame({"unique_id": id, "ds": ds, "y": y})


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Etc/GMT+5", "+05:30"])
def test_forecasts_follow_on_the_last_row(zone: str, tmp_path: Path) -> None:
    frame = hours(zone)
    forecaster = Forecaster(5, **QUICK).fit(frame)
    found = forecaster.predict()
    wanted = pd.date_range(frame["ds"].iloc[-1], periods=6, freq="h")[1:]
    assert found["ds"].tolist() == wanted.tolist()
    assert found["ds"].dt.tz is not None
    assert forecaster.predict(hours(None))["ds"].dt.tz is None
    forecaster.save(tmp_path / "model")
    pd.testing.assert_frame_equal(carousel.load(tmp_path / "model").predict(), found)
    assert forecaster.predict(hours(zone))["ds"].tolist() == wanted.tolist()
    ours = Forecaster(5, **QUICK).fit(pl.from_pandas(frame)) if zone[0] != "+" else None
    assert ours is None or ours.predict()["ds"].to_list() == wanted.tolist()


def test_the_hour_that_is_left_out_in_spring_is_no_row() -> None:
    frame = hours("Europe/Berlin")
    forecaster = Forecaster(6, **QUICK).fit(frame)
    found = forecaster.predict()
    assert (
        found["ds"].tolist()
        == pd.date_range("2024-03-30 22:00", periods=5, freq="h", tz="Europe/Berlin").tolist()
    )
    later = hours("Europe/Berlin", "2024-04-05 00:00", 240)
    result = forecaster.backtest(later, start="2024-03-30 22:00", origins=2)
    start = pd.Timestamp("2024-03-30 22:00", tz="Europe/Berlin")
    assert forecaster.backtest(later, start=start, origins=2).cutoffs.tolist() == result.cutoffs.tolist()
    lost = result.forecasts["ds"].isna()
    assert lost.sum() == 1  # a row without a time, for it has no truth
    assert result.forecasts["y"][lost].isna().all()
    result.plot(kind="origin")


def test_an_hour_shown_twice_is_the_first() -> None:
    stamps = np.array(["2024-10-27T01:00", "2024-10-27T02:00", "2024-10-27T03:00"], "datetime64[us]")
    answer = instants(stamps, "Europe/Berlin")
    assert answer is not None
    found, shown = answer
    assert shown.all()
    assert found.astype("datetime64[m]").astype(str).tolist() == [
        "2024-10-26T23:00", "2024-10-27T00:00", "2024-10-27T02:00",
    ]  # fmt: skip
    np.testing.assert_array_equal(wall_clock(found, "Europe/Berlin"), stamps)
    np.testing.assert_array_equal(
        wall_clock(np.array(["NaT"], "datetime64[us]"), "UTC"), np.array(["NaT"], "M8[us]")
    )
    assert instants(stamps, "Nowhere/Else") is None


def test_times_are_of_the_type_of_the_rows(tmp_path: Path) -> None:
    """So that a forecast can be joined with them; dates are dates as long as all times are midnights."""
    days = hours(None, "2024-07-18 00:00", rows=200).drop(columns="unique_id")
    days["ds"] = pd.date_range("2024-01-01", periods=200)
    table = pl.from_pandas(days)
    types = (pl.Date, pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("ms", "UTC"))
    for wanted in types:
        zone = getattr(wanted, "time_zone", None)
        rows = table.with_columns(pl.col("ds").dt.replace_time_zone(zone).cast(wanted))
        forecaster = Forecaster(5, **QUICK).fit(rows[:190])
        found = forecaster.predict()
        assert len(found.join(rows, on="ds")) == 5
        forecaster.save(tmp_path / "model")
        assert carousel.load(tmp_path / "model").predict().schema["ds"] == wanted
        assert forecaster.predict(table).schema["ds"] == table.schema["ds"]
        assert forecaster.predict(rows.to_arrow())["ds"].type == rows.to_arrow()["ds"].type
        tested = forecaster.backtest(rows, start="2024-07-09")
        assert tested.forecasts.schema["ds"] == tested.forecasts.schema["cutoff"] == wanted
    for unit in ("s", "ns"):
        rows = days.assign(ds=days["ds"].astype(f"datetime64[{unit}]"))
        assert Forecaster(5, **QUICK).fit(rows).predict()["ds"].dtype == rows["ds"].dtype
    dates = days.assign(ds=days["ds"].dt.date)  # Python's own, in a column of objects
    for rows in (dates, dates.astype({"ds": "date32[day][pyarrow]"})):
        forecaster = Forecaster(5, **QUICK).fit(rows[:190])
        forecaster.save(tmp_path / "model")
        tested = forecaster.backtest(rows, start="2024-07-09").forecasts
        for found in (forecaster.predict(), carousel.load(tmp_path / "model").predict(), tested):
            assert all(
                type(day) is datetime.date
                for column in found
                if column in ("ds", "cutoff")
                for day in found[column]
            )
            assert len(found.merge(rows, on="ds")) == len(found)
        assert forecaster.predict(days[:190])["ds"].dtype == days["ds"].dtype
    noon = np.array(["2024-01-01T00", "2024-01-01T12"], "datetime64[us]")
    assert to_frame({"ds": noon}, "polars", unit="D").schema["ds"] == pl.Datetime("us")
    assert to_frame({"ds": noon}, "pandas", unit="D")["ds"].dtype.kind == "M"


def test_ids_are_of_the_kind_that_was_fitted() -> None:
    """Whole numbers come back as such, and as text where a new series has a name."""
    frame = pd.concat([hours(None, id=10), hours(None, id=-2)])
    forecaster = Forecaster(5, **QUICK).fit(frame)
    found = forecaster.predict()
    assert found["unique_id"].unique().tolist() == [10, -2]
    found.merge(frame, on="unique_id")
    assert forecaster.predict(samples=2)["unique_id"].dtype == np.int64
    assert forecaster.predict(hours(None, id="new"))["unique_id"].unique().tolist() == ["new"]
    text = Forecaster(5, **QUICK).fit(hours(None, id="10")).predict()["unique_id"]
    assert text.unique().tolist() == ["10"]


def test_a_forecaster_that_has_forecast_is_copied_and_pickled() -> None:
    rng = np.random.default_rng(3)
    frame = hours("UTC", rows=600)
    frame["y"] = np.sin(np.arange(600) / 3) * np.cos(np.arange(600) / 7) + rng.normal(size=600) / 50
    for options in (QUICK, {**QUICK, "architecture": "plain"}):
        forecaster = Forecaster(5, **options).fit(frame)
        found = forecaster.predict()
        for again in (copy.deepcopy(forecaster), pickle.loads(pickle.dumps(forecaster))):
            pd.testing.assert_frame_equal(again.predict(), found)
