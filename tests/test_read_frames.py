"""Frames in memory, of pandas, polars and pyarrow, long and wide, with zones."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from carousel.errors import ArgumentError, CarouselError, DataError
from carousel.forecast.read import Names, read_frame
from readings import DAYS, values


def long_frame() -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=4, freq="h")
    return pd.DataFrame({"unique_id": ["a"] * 4 + ["b"] * 4, "ds": [*times, *times], "y": np.arange(8.0)})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_frames_of_three_libraries_are_one_panel(unit: str) -> None:
    frame = long_frame()
    frame["ds"] = frame["ds"].astype(f"datetime64[{unit}]")
    for kind in (frame, pl.from_pandas(frame), pl.from_pandas(frame).lazy(), pa.Table.from_pandas(frame)):
        reading = read_frame(kind)
        assert reading.panel.ids == ("a", "b")
        assert reading.panel.offsets.tolist() == [0, 4, 8]
        assert values(reading) == list(range(8))
        assert reading.panel.starts.dtype == "datetime64[us]"


def test_an_index_of_pandas_is_a_column() -> None:
    frame = long_frame()
    unit = frame["ds"].dt.unit
    assert read_frame(frame.set_index("ds")).names == Names("unique_id", "ds", "y", unit=unit)
    assert read_frame(frame.set_index(["unique_id", "ds"])).names == Names("unique_id", "ds", "y", unit=unit)
    series = frame.set_index("ds")["y"].iloc[:4]
    assert read_frame(series).names == Names(None, "ds", "y", unit=unit)
    months = pd.Series([1.0, 2.0], index=pd.period_range("2024-01", periods=2, freq="M"))
    assert str(read_frame(months).panel.frequency) == "MS"


def test_a_time_zone_leaves_its_wall_clock() -> None:
    times = pd.date_range("2024-07-01", periods=3, freq="h", tz="Europe/Berlin")
    for kind in (pd.DataFrame, lambda columns: pl.from_pandas(pd.DataFrame(columns))):
        reading = read_frame(kind({"ds": times, "y": [1, 2, 3]}))
        assert str(reading.panel.starts[0]) == "2024-07-01T00:00:00.000000"
        assert reading.names.zone == "Europe/Berlin"
        assert "times are read as the wall clock of Europe/Berlin shows them" in reading.notes


@pytest.mark.parametrize(
    "numbers", [[1, 2, 3], np.array([1, 2, 3]), pl.Series([1, 2, 3]), pd.Series([1, 2, 3])]
)
def test_a_sequence_of_numbers_is_a_series(numbers: object) -> None:
    reading = read_frame(numbers)
    assert values(reading) == [1, 2, 3]
    assert reading.names == Names(None, None, "y")


def test_nullable_columns_and_columns_of_objects() -> None:
    days = [str(day) for day in DAYS]
    for column in (
        pd.array([1, None, 3], "Int64"),
        pd.Series(["1", None, "3"], dtype=object),
        pd.Series([1, "NA", 3.0], dtype=object),
    ):
        np.testing.assert_array_equal(
            values(read_frame(pd.DataFrame({"ds": days, "y": column}))), [1, np.nan, 3]
        )


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({"ds": [], "y": []}), "there are no rows"),
        (pd.DataFrame([[1, 2]], columns=["y", "y"]), "same name"),
        (
            pd.DataFrame({"ds": pd.to_datetime(["2024-01-01", None]), "y": [1, 2]}),
            "row 1, column 'ds': expected a date",
        ),
        (pd.DataFrame({"ds": [1.0, 1.5], "y": [1, 2]}), "row 1, column 'ds': expected a date .*, got 1.5"),
        (pd.DataFrame({"ds": ["2024-01-01"] * 2, "y": [1, 2]}), "rows 0 and 1 have the same time"),
        (
            pd.DataFrame({"ds": pd.to_datetime([1_000, 1_300], unit="ns"), "y": [1, 2]}),
            "row 1, column 'ds': expected a time of whole microseconds, got 1970-01-01T00:00:00.000001300; round",
        ),
        (pd.DataFrame({"ds": pd.to_timedelta([1, 2], "h"), "y": [1, 2]}), "'ds' holds Duration.*, not dates"),
        (pd.DataFrame({"y": [True, False]}), "'y' holds Boolean, not numbers"),
        (np.zeros((2, 2)), r"one sequence of numbers, got float64 of shape \(2, 2\)"),
        ({"y": [1, 2]}, "Expected a frame of pandas, polars or pyarrow .* got dict; make a frame of it"),
        (memoryview(b"12"), "Expected a frame of pandas, polars or pyarrow .* got memoryview.$"),
    ],
)
def test_unusable_frames_are_refused(frame: object, says: str) -> None:
    with pytest.raises(CarouselError, match=says):
        read_frame(frame)


def test_the_way_out_for_a_tensor_and_for_two_names() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(DataError, match=r"got Tensor; numpy.asarray makes one of it\.$"):
        read_frame(torch.zeros(3))
    with pytest.raises(DataError, match=r"named by one text, got \['y', 'z'\]; .* layout='wide'"):
        read_frame(pd.DataFrame({"y": [1, 2], "z": [1, 2]}), target=["y", "z"])  # type: ignore[arg-type]


def test_large_integers_are_rounded_to_float64() -> None:
    assert values(read_frame(pd.DataFrame({"y": [2**60 + 1, 2**60 + 3]}))) == [2.0**60, 2.0**60]


def test_a_frame_is_left_as_it_was() -> None:
    frame = long_frame().iloc[::-1]
    before = frame.copy()
    read_frame(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_a_wide_frame_has_a_series_per_column() -> None:
    days = pd.date_range("2024-01-01", periods=6)
    wide = pd.DataFrame({"ds": days, "n": [np.nan, 1, 2, np.nan, 4, 5], "s": [9, 8, 7, 6, np.nan, np.nan]})
    for frame in (wide, pl.from_pandas(wide), pl.from_pandas(wide).to_arrow(), wide.set_index("ds")):
        panel = read_frame(frame, layout="wide").panel
        assert panel.ids == ("n", "s")
        np.testing.assert_array_equal(panel.series(0), [1, 2, np.nan, 4, 5])
        np.testing.assert_array_equal(panel.series(1), [9, 8, 7, 6])
        assert panel.starts.astype("datetime64[D]").astype(str).tolist() == ["2024-01-02", "2024-01-01"]
    array = read_frame(np.arange(12.0).reshape(6, 2), layout="wide").panel
    assert array.ids == ("0", "1")
    assert array.series(1).tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({"s": ["x"] * 6}, {}, "row 0, column 's': expected a number, got 'x'"),
        ({"s": [np.nan] * 6}, {}, "series 's' has no value in any row"),
        ({}, {"id": "s"}, "layout='wide' has a column per series"),
        ({}, {"time": "when"}, "there is no column 'when'"),
        ({}, {"layout": "broad"}, "`layout` must be 'long' or 'wide', got 'broad'"),
    ],
)
def test_a_wide_frame_that_cannot_be_read(
    change: dict[str, Any], arguments: dict[str, Any], says: str
) -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=6), "s": range(6)}).assign(**change)
    with pytest.raises((DataError, ArgumentError), match=says):
        read_frame(frame, **({"layout": "wide"} | arguments))


@pytest.mark.parametrize(
    ("zone", "named"),
    [
        ("America/New_York", None),
        ("Etc/GMT+5", None),
        ("UTC", None),
        ("+05:30", "+05:30"),
        ("Asia/Kolkata", None),
    ],
)
def test_any_zone_of_pandas_is_read(zone: str, named: str | None) -> None:
    times = pd.date_range("2024-07-01", periods=3, freq="h", tz=zone)
    reading = read_frame(pd.DataFrame({"when": times, "y": [1, 2, 3]}))
    assert reading.names == Names(None, "when", "y", named or zone, unit=times.unit)
    assert str(reading.panel.starts[0]) == "2024-07-01T00:00:00.000000"


@pytest.mark.parametrize(("start", "gaps"), [("2024-03-30", 1), ("2024-06-01", 0)])
def test_zones_are_read_by_the_wall_clock(start: str, gaps: int) -> None:
    hours = pd.date_range(start, periods=48, freq="h", tz="Europe/Berlin")
    reading = read_frame(pd.DataFrame({"ds": hours, "y": np.arange(48.0)}))
    assert len(reading.panel.values) == 48 + gaps
    assert any("the wall clock of Europe/Berlin" in note for note in reading.notes)


def test_the_repeated_hour_of_autumn_is_refused_with_the_way_out() -> None:
    hours = pd.date_range("2024-10-26", periods=48, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"ds": hours, "y": np.arange(48.0)})
    texts = frame.assign(ds=[str(hour) for hour in hours])
    zoned = "the clock of Europe/Berlin", "df['ds'].dt.tz_convert('UTC')"
    written = "a clock at +02:00, then +01:00", "pd.to_datetime(df['ds'], utc=True)"
    for given, (clock, utc) in (
        (frame, zoned),
        (pl.from_pandas(frame), zoned),
        (pa.Table.from_pandas(frame), zoned),
        (texts, written),
    ):
        message = (
            f"rows 26 and 27 have the same time 2024-10-27 02:00 by {clock}, which shows this hour twice as "
            "daylight saving ends; average them (--duplicates mean, in Python duplicates='mean'), or give "
            f"times in UTC (in pandas {utc})."
        )
        with pytest.raises(DataError, match=re.escape(message)):
            read_frame(given)
    same_hour = frame.assign(ds=frame["ds"].mask(frame.index == 3, frame["ds"][2]))
    with pytest.raises(
        DataError, match=r"rows 2 and 3 have the same time .*; remove one of them, or average"
    ):
        read_frame(same_hour)
    assert len(read_frame(texts.assign(ds=pd.to_datetime(texts["ds"], utc=True))).panel.values) == 48
    assert len(read_frame(frame, duplicates="mean").panel.values) == 47
    assert len(read_frame(frame.assign(ds=frame["ds"].dt.tz_convert("UTC"))).panel.values) == 48
