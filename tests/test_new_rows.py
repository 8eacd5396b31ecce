"""New rows for a fitted forecaster: with gaps, without a time, in another layout, across a change of clocks."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from carousel import Forecaster
from carousel.errors import ArgumentError, DataError

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 4, "max_steps": 3, "progress": False}
BERLIN = "Europe/Berlin"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def days(rng: np.random.Generator, rows: int = 104) -> pd.DataFrame:
    y = 50 + 5 * np.sin(np.arange(rows) * 2 * np.pi / 7) + rng.normal(size=rows)
    return pd.DataFrame({"ds": pd.date_range("2023-01-02", periods=rows), "y": y})


def hours(rng: np.random.Generator, start: str, rows: int = 240) -> pd.DataFrame:
    ds = pd.date_range(start, periods=rows, freq="h", tz=BERLIN)
    x = (rng.random(rows) < 0.3).astype(float)
    y = 50 + 20 * np.sin(np.asarray(ds.hour) * np.pi / 12) + 30 * x + rng.normal(size=rows)
    return pd.DataFrame({"ds": ds, "y": y, "x": x})


def before(df: pd.DataFrame, moment: str) -> int:
    """How many rows come before a moment of Berlin."""
    return int((df["ds"] < pd.Timestamp(moment, tz=BERLIN)).sum())


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert one["ds"].tolist() == other["ds"].tolist()
    np.testing.assert_allclose(one["carousel"], other["carousel"], rtol=1e-9)


@pytest.mark.parametrize("places", [(100, 102), (101, 103), (100, 103)])
def test_few_new_rows_may_have_gaps(rng: np.random.Generator, places: tuple[int, ...]) -> None:
    df = days(rng)
    known, new = df[:100], df.iloc[list(places)]
    forecaster = Forecaster(4, **QUICK).fit(known)
    expected = forecaster.predict(pd.concat([known, new]))
    if places[0] > 100:
        new = pd.concat([df[100:101].assign(y=np.nan), new])
    assert_same(forecaster.update(new).predict(), expected)


def test_rows_of_a_wider_step_are_refused(rng: np.random.Generator) -> None:
    df = days(rng)
    forecaster = Forecaster(4, **QUICK).fit(df)
    with pytest.raises(
        DataError, match=r"step of the rows is 2D, not D .* empty cells where values are missing"
    ):
        forecaster.predict(df.iloc[::2])


def test_numbers_without_a_time_go_on(rng: np.random.Generator) -> None:
    y = days(rng)["y"].to_numpy()
    forecaster = Forecaster(4, **QUICK).fit(y[:100])
    expected = forecaster.predict(y)
    assert_same(forecaster.update(y[100:102]).update(list(y[102:])).predict(), expected)


def test_a_wide_model_takes_wide_rows(rng: np.random.Generator) -> None:
    wide = days(rng).rename(columns={"y": "north"}).assign(south=lambda df: df["north"] * 2 + 1)
    forecaster = Forecaster(4, **QUICK).fit(wide[:100], layout="wide")
    expected = forecaster.predict(wide[:102], layout="wide")
    assert_same(forecaster.update(wide[100:102], layout="wide").predict(), expected)
    late = wide[102:].assign(south=np.nan)
    forecaster.update(late, layout="wide")
    first = forecaster.predict().groupby("unique_id")["ds"].min()
    assert first["north"] - first["south"] == pd.Timedelta(days=2)
    forecaster.update(wide[102:].drop(columns="north"), layout="wide")
    assert_same(forecaster.predict(), forecaster.predict(wide, layout="wide"))


def test_what_is_masked_is_missing(rng: np.random.Generator) -> None:
    y, hidden = days(rng)["y"].to_numpy(), np.arange(104) % 10 == 5
    masked = np.ma.masked_array(np.where(hidden, -999.0, y), hidden)
    forecaster = Forecaster(4, **QUICK).fit(masked)
    assert_same(forecaster.predict(), Forecaster(4, **QUICK).fit(np.where(hidden, np.nan, y)).predict())


def test_the_hour_that_the_clock_leaves_out_need_not_be_given(rng: np.random.Generator) -> None:
    df = hours(rng, "2023-03-17")
    k = before(df, "2023-03-26 03:00")
    forecaster = Forecaster(6, **QUICK).fit(df[:k], future="x")
    future = df[["ds", "x"]]
    spring = forecaster.predict(future=future[k : k + 6])
    assert spring["ds"].tolist() == df["ds"][k : k + 5].tolist()
    expected = forecaster.predict(df[: k + 1], future=future[k + 1 : k + 7])
    assert_same(forecaster.update(df[k : k + 1]).predict(future=future[k + 1 : k + 7]), expected)
    with pytest.raises(DataError, match="begins at 2023-03-26 06:00, but its next row is 2023-03-26 04:00"):
        forecaster.update(df[k + 3 : k + 4])


def test_the_hour_that_the_clock_shows_twice_is_said(rng: np.random.Generator) -> None:
    df = hours(rng, "2023-10-19", 300)
    k = int((df["ds"] < pd.Timestamp("2023-10-29 01:00", tz="UTC")).sum())
    forecaster = Forecaster(6, **QUICK).fit(df[:k][["ds", "y"]])
    with pytest.raises(DataError, match=rf"02:00 \(the clock of {BERLIN} shows it twice"):
        forecaster.update(df[k : k + 1])


def test_another_zone_is_read_by_the_clock_of_the_fitted_one(rng: np.random.Generator) -> None:
    df = hours(rng, "2023-06-19")
    forecaster = Forecaster(6, **QUICK).fit(df[:230], future="x")
    expected = forecaster.predict(df[:-6], future=df[["ds", "x"]][-6:])
    elsewhere = df.assign(ds=df["ds"].dt.tz_convert("UTC"))
    for frame in (elsewhere, pl.from_pandas(elsewhere)):
        found = forecaster.predict(frame[:-6], future=frame[["ds", "x"]][-6:])
        np.testing.assert_array_equal(np.asarray(found["carousel"]), expected["carousel"])
        assert list(found["ds"]) == expected["ds"].tolist()
    assert_same(forecaster.update(elsewhere[230:-6]).predict(future=elsewhere[["ds", "x"]][-6:]), expected)


def test_values_without_a_logarithm_are_said(rng: np.random.Generator) -> None:
    t = np.arange(200)
    growth = 0.02 * t + 0.3 * np.sin(t * 2 * np.pi / 7)
    frames = [
        pd.DataFrame(
            {
                "unique_id": f"s{i}",
                "ds": pd.date_range("2023-01-02", periods=200),
                "y": 100 * i * np.exp(growth + 0.1 * rng.normal(size=200)),
            }
        )
        for i in (1, 2, 3)
    ]
    forecaster = Forecaster(4, **QUICK).fit(pd.concat(frames))
    assert forecaster.model_.scaling.unit == "log"
    with pytest.raises(DataError, match="Series 'new' has no value with a logarithm"):
        forecaster.predict(frames[0].assign(unique_id="new", y=0.0))
    zeros = pd.DataFrame({"unique_id": "s1", "ds": pd.date_range("2023-07-21", periods=3), "y": 0.0})
    forecaster.update(zeros)
    assert forecaster.notes_[-1].startswith(
        "updated without fitting: rows to 2023-07-23; 3 values have no log"
    )
    more = zeros.assign(ds=pd.date_range("2023-07-24", periods=3), y=9000.0)
    assert forecaster.update(more).notes_[-1] == "updated without fitting: rows to 2023-07-26"


@pytest.mark.parametrize("name", ["sample", "carousel", "carousel-lo-80", "cutoff", "ridge"])
@pytest.mark.parametrize("kind", ["id_col", "time_col"])
def test_columns_that_a_forecast_has_are_refused(rng: np.random.Generator, name: str, kind: str) -> None:
    df = days(rng).assign(unique_id="a")
    old = "unique_id" if kind == "id_col" else "ds"
    options: dict[str, Any] = {kind: name}
    with pytest.raises(DataError, match=rf"Column {name!r} names the series or times, .* rename it"):
        Forecaster(2, **QUICK).fit(df.rename(columns={old: name}), **options)


def test_ids_that_differ_in_white_space_alone_are_said(rng: np.random.Generator) -> None:
    df = days(rng)
    frame = df.assign(unique_id=np.where(np.arange(104) < 60, "a", "a "))
    notes = Forecaster(2, **QUICK).fit(frame).notes_
    assert "ids of column unique_id that differ in white space alone are one series" in notes


def test_whole_ids_may_be_floats(rng: np.random.Generator) -> None:
    frame = pd.concat([days(rng).assign(unique_id=float(i)) for i in (1, 2)])
    forecast = Forecaster(2, **QUICK).fit(frame).predict()
    assert forecast["unique_id"].tolist() == [1, 1, 2, 2]
    assert len(frame.merge(forecast[["unique_id"]].drop_duplicates())) == len(frame)


@pytest.mark.parametrize("holidays", [["US", "DE"], True, 3])
def test_holidays_are_of_one_country(rng: np.random.Generator, holidays: Any) -> None:
    with pytest.raises(ArgumentError, match="`holidays` must be one country"):
        Forecaster(2, **QUICK).fit(days(rng), holidays=holidays)


def test_messages_name_the_argument(rng: np.random.Generator) -> None:
    df = days(rng).assign(x=1.0)
    with pytest.raises(DataError, match=r"`static`: expected a frame .* got int"):
        Forecaster(2, **QUICK).fit(df, static=3)
    with pytest.raises(DataError, match=r"give numbers, or with a column for each series .*layout='wide'"):
        Forecaster(2, **QUICK).fit(rng.normal(size=(50, 2)))
    with pytest.raises(ArgumentError, match="`progress` must be True, False, None or a function, got 'x'"):
        Forecaster(2, **{**QUICK, "progress": "x"}).fit(df)
