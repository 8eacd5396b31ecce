"""Forecasts come back in the zone of the rows, and with their ids."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import carousel
from carousel import Forecaster, network
from carousel.errors import DataError
from carousel.forecast.frames import to_frame
from carousel.series.zones import instants, wall_clock
from carousel.stream.forecaster import ForecasterModel
from carousel.stream.rows import rows, shown
from forecast_models import forecast_model
from serve_requests import infer
from serve_requests import rows as request_rows

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


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_day_that_begins_with_the_hour_that_is_left_out_is_a_day(horizon: int) -> None:
    """Clocks in Chile leave out the first hour of 2024-09-08."""
    begins = pd.date_range("2024-06-01", "2024-09-07", tz="America/Santiago", freq="D")
    frame = pd.DataFrame({"ds": begins, "y": np.arange(len(begins)) % 7.0})
    forecast = Forecaster(horizon, **QUICK).fit(frame).predict()
    expected = [
        "2024-09-08 01:00",
        "2024-09-09 00:00",
        "2024-09-10 00:00",
        "2024-09-11 00:00",
        "2024-09-12 00:00",
    ]
    assert [str(time)[:16] for time in forecast.ds] == expected[:horizon]
    # Days as pandas resamples them: that one at 01:00.
    hours = pd.date_range("2024-08-01", "2024-09-30", tz="America/Santiago", freq="h")
    days = pd.Series(1.0, hours).resample("D").mean().reset_index(name="y").rename(columns={"index": "ds"})
    assert (days.ds.dt.hour == 1).sum() == 1
    fitted = Forecaster(horizon, **QUICK).fit(days.assign(y=np.arange(len(days)) % 7.0))
    assert fitted.model_.frequency == "D"
    assert len(fitted.predict()) == horizon


def test_rows_that_are_regular_in_utc_alone_are_told_the_way_out() -> None:
    times = pd.date_range("2024-01-01", periods=300, freq="12h", tz="UTC").tz_convert("Europe/Berlin")
    frame = pd.DataFrame({"ds": times, "y": np.arange(300.0)})
    with pytest.raises(
        DataError, match=r"such as 13h.*in UTC all steps are 12h: .*the clock of Europe/Berlin is"
    ):
        Forecaster(4, **QUICK).fit(frame)
    Forecaster(4, **QUICK).fit(frame.assign(ds=frame.ds.dt.tz_convert("UTC")))


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


# Streams and servers of a model that knows its zone

K, SPRING = 6, "2024-03-31T02:00:00"  # the hour that Berlin's clock leaves out


@pytest.fixture(scope="module")
def spring() -> tuple[ForecasterModel, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A model whose next rows go across the night of 2024-03-31 in Berlin; their times and values, as they are."""
    rng = np.random.default_rng(5)
    value, _ = forecast_model(
        rng, freq="h", lookback=336, horizon=K, length=90 * 24 - 4, series=1, promo=True
    )
    model = ForecasterModel(replace(value, columns=replace(value.columns, zone="Europe/Berlin")))
    grid = model.frequency.grid(model.last().next[0], 30)
    assert str(grid[0])[:16] == "2024-03-30T20:00"
    there = grid[shown(grid) != np.array(SPRING)]
    return model, there, rng.normal(100, 5, len(there))


def after(model: ForecasterModel, y: Any, promo: Any) -> Any:
    """The forecast after rows of the whole grid, of which that at the hour that is left out is missing."""
    state = model.start()
    for value in y:
        never = shown(state.next)[0] == SPRING
        given = {"promo": [np.nan if never else promo[shown(state.next)[0]]]}
        if never:
            state = model.observe(state.next, np.nan, state, given)
            given = {"promo": [promo[shown(state.next)[0]]]}
        state = model.observe(state.next, value, state, given)
    times = shown(model.frequency.grid(state.next[0], K))
    forecast = model.forecast(state, future={"promo": [[promo.get(time, np.nan) for time in times]]})
    there = [time != SPRING for time in times]
    return [time for time in times if time != SPRING], forecast.mean[0][there]


def plan(there: Any) -> dict[str, float]:
    return {time: float(k % 3) for k, time in enumerate(shown(there))}


def offset(time: str) -> str:
    """The text of a time by Berlin's clock with its offset."""
    return f"{time}{'+01:00' if time < SPRING else '+02:00'}"


def utc(time: str) -> str:
    hours = np.timedelta64(1 if time < SPRING else 2, "h")
    return f"{np.datetime64(time) - hours}Z"


WRITTEN = {"as shown": str, "with offsets": offset, "of UTC": utc}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_stream_reads_times_by_the_clock_of_the_model(spring: Any, written: str, tmp_path: Path) -> None:
    """Rows and what is known ahead; no forecast has the hour that is left out, which no remark misses."""
    model, there, y = spring
    promo, text = plan(there), WRITTEN[written]
    path = tmp_path / "plan.csv"
    path.write_text("ds,promo\n" + "".join(f"{text(time)},{value}\n" for time, value in promo.items()))
    taken = rows(model, "auto", None, str(path))
    assert taken.first(b"ds,y")
    for n in range(10):
        answer = taken.answer(n + 2, f"{text(shown(there)[n])},{y[n]}".encode())
        taken.keep(answer)
        fields = json.loads(answer.text)
        ds, mean = after(model, y[: n + 1], promo)
        assert answer.remark == ""
        assert fields["ds"] == ds
        np.testing.assert_allclose(fields["carousel"], mean)
        assert {len(column) for name, column in fields.items() if name != "line"} == {len(ds)}


def test_a_stream_forecasts_what_predict_does_across_the_hour_that_is_left_out() -> None:
    frame = hours("Europe/Berlin", "2024-03-31 05:00", 250)
    forecaster = Forecaster(6, **QUICK).fit(frame[:-8])
    assert str(frame["ds"].iloc[-9]) == "2024-03-30 20:00:00+01:00"
    taken = rows(ForecasterModel(forecaster.model_), "no", None)
    for n in range(-8, 0):
        time = frame["ds"].iloc[n].tz_convert("UTC")
        answer = taken.answer(1, f"7,{time},{frame['y'].iloc[n]}".encode())
        taken.keep(answer)
        assert answer.remark == ""
        wanted = forecaster.predict(frame[: len(frame) + n + 1])
        fields = json.loads(answer.text)
        assert fields["ds"] == [str(ds)[:19].replace(" ", "T") for ds in wanted["ds"]]
        np.testing.assert_allclose(fields["carousel"], wanted["carousel"], rtol=1e-5)


def test_of_an_hour_that_is_shown_twice_the_second_is_left_out() -> None:
    rng = np.random.default_rng(7)
    value, _ = forecast_model(rng, freq="h", horizon=K, length=300 * 24 + 2, series=1)
    taken = rows(
        ForecasterModel(replace(value, columns=replace(value.columns, zone="Europe/Berlin"))), "no", None
    )
    taken.keep(first := taken.answer(1, b"2024-10-27 00:00:00+00:00,100"))
    assert json.loads(first.text)["ds"][0] == "2024-10-27T03:00:00"
    with pytest.raises(DataError, match="the row at 2024-10-27T02:00:00 was observed already"):
        taken.answer(2, b"2024-10-27 01:00:00+00:00,100")
    assert taken.answer(3, b"2024-10-27 02:00:00+00:00,100").remark == ""


def test_a_gap_is_counted_without_the_hour_that_is_left_out(spring: Any, tmp_path: Path) -> None:
    model, there, _ = spring
    path = tmp_path / "plan.csv"
    path.write_text("ds,promo\n" + "".join(f"{time},{value}\n" for time, value in plan(there).items()))
    taken = rows(model, "auto", None, str(path))
    taken.first(b"ds,y")
    assert shown(there)[6][:13] == "2024-03-31T03"
    assert taken.answer(2, f"{shown(there)[6]},100".encode()).remark == "6 rows before it are missing"


def test_what_is_known_ahead_goes_on_over_the_hour_that_is_left_out() -> None:
    """As in predict: there is a value, for other rows of a segment see it, and it is that of the row before."""
    value, _ = forecast_model(np.random.default_rng(6), freq="h", horizon=K, length=90 * 24 - 1, beside=True)
    model = ForecasterModel(replace(value, columns=replace(value.columns, zone="Europe/Berlin")))
    assert shown(model.last().next)[0] == "2024-03-30T23:00:00"
    assert model.covariates is not None
    news, mood = [3.0] * K, ["open", "none", "open"] + ["none"] * 3
    given = {"promo": [news] * 3, "shop": [mood] * 3}
    whole = model.covariates.complete(model.last(), given).covariates
    lost = {"promo": [[*news[:3], np.nan, *news[4:]]] * 3, "shop": [[*mood[:3], None, *mood[4:]]] * 3}
    given["shop"] = [[*mood[:3], "open", *mood[4:]]] * 3
    found = model.covariates.complete(model.last(), lost).covariates
    wanted = model.covariates.complete(model.last(), given).covariates
    assert found is not None
    assert wanted is not None
    assert whole is not None
    np.testing.assert_array_equal(found.future, wanted.future)
    assert (found.future != whole.future).any()


@pytest.mark.parametrize("time", ["2024-03-30T20:00:00Z", "30.03.2024 20:00+01:00", "2024-03-30 20:00+0530"])
def test_offsets_that_are_dropped_are_said_once(spring: Any, time: str, tmp_path: Path) -> None:
    """Of a model without a zone, or of one that this machine does not know; a row that is refused does not count."""
    path = tmp_path / "plan.csv"
    path.write_text("ds,promo\n" + "".join(f"{time},{value}\n" for time, value in plan(spring[1]).items()))
    for zone in (None, "Nowhere/Else"):
        value = replace(spring[0].value, columns=replace(spring[0].value.columns, zone=zone))
        taken = rows(ForecasterModel(value), "auto", None, str(path))
        taken.first(b"ds,y")
        with pytest.raises(DataError, match="must be a finite number"):
            taken.answer(2, f"{time},high".encode())
        answer = taken.answer(3, f"{time},100".encode())
        taken.keep(answer)
        assert answer.remark.startswith(
            "UTC offsets are dropped here and below: times are read as the wall clock"
        )
        assert "UTC" not in taken.answer(4, f"{time.replace('20:00', '21:00')},100".encode()).remark


def test_offsets_that_are_dropped_of_what_is_known_ahead_are_said(spring: Any, tmp_path: Path) -> None:
    path, times = tmp_path / "plan.csv", shown(spring[1])
    path.write_text(
        "ds,promo\n" + "".join(f"{offset(time)},{value}\n" for time, value in plan(spring[1]).items())
    )
    value = replace(spring[0].value, columns=replace(spring[0].value.columns, zone=None))
    taken = rows(ForecasterModel(value), "auto", None, str(path))
    taken.first(b"ds,y")
    remarks = []
    for n in range(2):
        taken.keep(answer := taken.answer(n + 2, f"{times[n]},100".encode()))
        remarks.append(answer.remark.partition(":")[0])
    assert remarks[0] == "UTC offsets are dropped here and below"
    assert "UTC" not in remarks[1]


@pytest.fixture
def served(spring: Any, tmp_path: Path) -> Any:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    testclient = pytest.importorskip("fastapi.testclient")
    from carousel.serve import create_app

    network.save(spring[0].value, tmp_path / "model")
    with testclient.TestClient(create_app({"m": tmp_path / "model"})) as client:
        yield client


def ahead(promo: dict[str, float], times: Any) -> list[float | None]:
    return [promo.get(time) for time in times]


@pytest.mark.parametrize("written", [*WRITTEN, "without times"])
def test_a_server_reads_times_by_the_clock_of_the_model(spring: Any, served: Any, written: str) -> None:
    """No row is asked for at the hour that is left out, and none is given back."""
    model, there, y = spring
    promo, times = plan(there), shown(there)
    grid = shown(model.frequency.grid(model.last().next[0], 40))
    (kind,) = {o["shape"][-1] for o in served.get("/v2/models/m").json()["outputs"] if o["name"] != "level"}
    assert kind == -1
    done = 0
    for n in (3, 4, 3):  # the second of them goes across the hour
        rows_of, done = times[done : done + n], done + n
        coming = grid[grid.index(rows_of[-1]) + 1 :][:K]
        given = [promo[time] for time in rows_of] + ahead(promo, coming)
        inputs = request_rows(y[done - n : done].tolist(), None)
        if written != "without times":
            inputs = request_rows(y[done - n : done].tolist(), [WRITTEN[written](time) for time in rows_of])
        inputs.append({"name": "promo", "datatype": "FP64", "shape": [len(given)], "data": given})
        answer = infer(served, "m", inputs, sequence_id=1, sequence_start=done == n)
        ds, mean = after(model, y[:done], promo)
        assert answer["ds"].tolist() == ds
        np.testing.assert_allclose(answer["mean"], mean)
        assert answer["lower"].shape == answer["upper"].shape == (2, len(ds))


def test_a_message_is_read_by_the_clock_of_the_model(spring: Any, served: Any) -> None:
    model, there, y = spring
    promo, times = plan(there), shown(there)
    grid = shown(model.frequency.grid(model.last().next[0], 40))
    with served.websocket_connect("/v2/models/m/stream") as socket:
        for n, time in enumerate(times[:9]):
            coming = grid[grid.index(time) + 1 :][:K]
            given = {"promo": [promo[time], *ahead(promo, coming)]}
            socket.send_json({"ds": utc(time), "y": y[n], "covariates": given})
            reply = socket.receive_json()
            ds, mean = after(model, y[: n + 1], promo)
            assert reply["ds"] == ds
            np.testing.assert_allclose(reply["carousel"], mean)
        socket.send_json({"ds": times[8], "y": 1.0, "covariates": {"promo": [0.0] * (K + 1)}})
        said = socket.receive_json()["error"]
        assert said.startswith(f"`ds`: the next row is {times[9]}, got {times[8]}")


def test_what_is_not_known_of_another_hour_is_asked_for(spring: Any, served: Any) -> None:
    model, _, _ = spring
    given = {"name": "promo", "datatype": "FP64", "shape": [K], "data": [0.0] * (K - 1) + [None]}
    assert shown(model.frequency.grid(model.last().next[0], K))[-1] == "2024-03-31T01:00:00"
    assert "'promo' must be known for all of the 6 next rows" in infer(served, "m", [given], 400)
    given["data"] = [None] * K
    assert "'promo' must be known" in infer(served, "m", [given], 400)
