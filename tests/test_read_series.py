"""Rows as series on regular grids: ids, order, gaps, duplicates, steps, and what is odd about values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from carousel.errors import ArgumentError, DataError
from carousel.forecast import columns
from carousel.forecast.read import columns_of, read_frame
from readings import DAYS, daily, read, refused, values


def test_many_series_keep_their_names_and_their_order(tmp_path: Path) -> None:
    rows = [f"{name},{day},{k}" for k, day in enumerate(DAYS) for name in ("007", "b", "7")]
    panel = read(tmp_path, "\n".join(["unique_id,ds,y", *rows])).panel
    assert panel.ids == ("007", "b", "7")
    assert panel.series(2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_row_without_a_series_is_refused(tmp_path: Path, blank: str) -> None:
    content = f"unique_id,ds,y\na,2024-01-01,1\n{blank},2024-01-02,2\n"
    refused(tmp_path, content, "line 3, column 'unique_id': expected the name of a series, got nothing")


def test_ids_of_other_kinds() -> None:
    day = pd.Timestamp("2024-01-01")
    for ids, expected in [
        ([1, 2], ("1", "2")),
        ([1.0, 2.0], ("1", "2")),
        (pd.Categorical(["b", "a"]), ("b", "a")),
        ([1, "a"], ("1", "a")),
    ]:
        frame = pd.DataFrame({"unique_id": ids, "ds": day, "y": 1.0})
        assert read_frame(frame, freq="D").panel.ids == expected
    with pytest.raises(DataError, match=r"row 1, column 'unique_id': expected the name of a series"):
        read_frame(pd.DataFrame({"unique_id": [1, None], "ds": day, "y": 1.0}), freq="D")


def test_ids_are_numbered_as_they_appear_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_BLOCK", 2)
    ids = ["b ", "c", " b", "a", "c", "d", "a"]
    frame = pd.DataFrame({"unique_id": ids, "ds": range(7), "y": 1.0})
    sorted_ones = pd.Categorical(ids, categories=["unused", *sorted(set(ids))])
    as_polars = pl.from_pandas(frame)
    kinds = [
        frame,
        frame.assign(unique_id=np.array(ids, object)),
        frame.assign(unique_id=sorted_ones),
        as_polars,
        as_polars.with_columns(pl.col("unique_id").cast(pl.Categorical)),
        as_polars.with_columns(pl.col("unique_id").cast(pl.Enum(sorted(set(ids))))),
        pa.Table.from_pandas(frame),
        pa.table({"unique_id": pa.array(ids, pa.string_view()), "y": [1.0] * 7}),
    ]
    for kind in kinds:
        codes, names = columns_of(kind).ids("unique_id")
        assert (codes.tolist(), names) == ([0, 1, 0, 2, 1, 3, 2], ("b", "c", "a", "d"))
    whole = frame.assign(unique_id=[3.0, 1.0, 3.0, 2.0, 1.0, 0.0, 2.0])
    assert columns_of(whole).ids("unique_id")[1] == ("3", "1", "2", "0")
    nothing = pa.table({"unique_id": pa.nulls(7), "y": [1.0] * 7})
    with pytest.raises(DataError, match=r"row 0, column 'unique_id': expected the name of a series"):
        columns_of(nothing).ids("unique_id")
    for missing in (None, "  "):
        with pytest.raises(DataError, match=r"row 5, column 'unique_id': expected the name of a series"):
            columns_of(frame.assign(unique_id=[*ids[:5], missing, "a"])).ids("unique_id")


def test_rows_out_of_order_are_sorted_and_said(tmp_path: Path) -> None:
    reading = read(tmp_path, "ds,y\n2024-01-02,2\n2024-01-01,1\n2024-01-03,3\n")
    assert values(reading) == [1, 2, 3]
    assert "sorted: 1 row was out of order" in reading.notes


def test_series_side_by_side_in_time_are_in_order(tmp_path: Path) -> None:
    rows = [f"{name},{day},{k}" for k, day in enumerate(DAYS) for name in "ba"]
    reading = read(tmp_path, "\n".join(["unique_id,ds,y", *rows]))
    assert not any("sorted" in note for note in reading.notes)


def test_gaps_become_missing_values(tmp_path: Path) -> None:
    reading = read(tmp_path, daily("2024-01-01", "2024-01-02", "2024-01-05", "2024-01-06"))
    np.testing.assert_array_equal(values(reading), [0, 1, np.nan, np.nan, 2, 3])
    assert "2 gaps are treated as missing" in reading.notes


def test_constant_series_are_said(tmp_path: Path) -> None:
    assert "series y is constant (5)" in read(tmp_path, "y\n5\n5\n5\n").notes


DOUBLE = "ds,y\n2024-10-27 01:00,1\n2024-10-27 02:00,2\n2024-10-27 02:00,4\n2024-10-27 03:00,3\n"


def test_duplicates_are_refused_with_both_lines(tmp_path: Path) -> None:
    refused(
        tmp_path, DOUBLE, "lines 3 and 4 have the same time 2024-10-27 02:00; remove one of them, or average"
    )
    two = "unique_id,ds,y\nb,2024-01-01,1\na,2024-01-01,1\nb,2024-01-02,1\na,2024-01-01,1\n"
    refused(tmp_path, two, "lines 3 and 5 of series 'a' have the same time 2024-01-01;")


def test_duplicates_are_averaged_on_request(tmp_path: Path) -> None:
    reading = read(tmp_path, DOUBLE.replace("02:00,4", "02:00,"), duplicates="mean")
    assert values(reading) == [1, 2, 3]
    reading = read(tmp_path, DOUBLE, duplicates="mean")
    assert values(reading) == [1, 3, 3]
    assert "1 duplicate averaged" in reading.notes
    with pytest.raises(ArgumentError, match="`duplicates` must be 'error' or 'mean'"):
        read(tmp_path, DOUBLE, duplicates="sum")


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("ds,y\n2024-01-01,1\n", {}, "fewer than two rows"),
        (daily("2024-01-01", "2024-01-02"), {"freq": 1}, "does not fit a time column of dates"),
        ("y\n1\n2\n", {"freq": "h"}, "does not fit a time column of whole numbers"),
        (daily("2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 01:30"), {"freq": "h"}, "off the h grid"),
        (
            "ds,y\n2024-01-01 00:00,1\n2204-01-01 00:00,2\n2204-01-01 01:00,2\n",
            {},
            "line 3 (2204-01-01) lies 1577",
        ),
        ("unique_id,ds,y\na,2024-01-01,1\na,2024-01-02,1\nb,2024-01-01,\n", {}, "series 'b' has no value"),
    ],
)
def test_times_on_no_grid_are_refused(
    tmp_path: Path, content: str, options: dict[str, object], says: str
) -> None:
    refused(tmp_path, content, says, **options)


def season_of_days(rows: int = 100) -> np.ndarray[Any, Any]:
    return 100 + 10 * np.sin(np.arange(rows) * 2 * np.pi / 7) + np.random.default_rng(0).normal(size=rows)


def far(y: Any, **columns: Any) -> list[str]:
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=len(y)), "y": y, **columns})
    return [note for note in read_frame(frame).notes if "far from" in note]


def test_a_value_that_nothing_comes_near_is_named() -> None:
    y = season_of_days()
    y[97] *= 10
    assert far(y) == [
        "1 value lies far from all others of the season, first 915.962 at 2024-04-07: "
        "if it is an error, leave its cell empty"
    ]
    y[40] = -5000
    assert far(y)[0].startswith("2 values lie far from all others of the season, first -5000 at 2024-02-10: ")


def test_seasons_steps_jumps_and_few_rows_are_nothing_odd() -> None:
    y = season_of_days()
    assert far(y) == []
    assert far(np.where(np.arange(100) < 60, y, y + 1000)) == []  # a new level
    assert far(np.where(np.arange(100) % 7 == 3, 5000, y)) == []  # a high day every week
    assert far(np.where(np.isin(np.arange(100), (50, 51)), 5000, y)) == []  # two days alike
    assert far(np.where(np.arange(100) % 10 == 0, y, 0)) == []  # mostly zero
    assert far(y[:20]) == []


def test_a_series_of_another_step_is_named() -> None:
    days = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=50), "y": 1.0})
    hours = pd.DataFrame(
        {"unique_id": "b", "ds": pd.date_range("2024-01-01", periods=1200, freq="h"), "y": 1.0}
    )
    notes = read_frame(pd.concat([days, hours])).notes
    assert "series a: 50 of 1,177 rows of the step h are there; is its own step another?" in notes


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            pd.DataFrame(
                {"unique_id": np.repeat(["a", "b"], 60), "ds": [*pd.date_range("2024-01-01", periods=60)] * 2}
            ),
            r"No regular frequency: .* row 83 of series 'b', 2024-01-24 05:00, is the first that is off\.$",
        ),
        (
            pd.DataFrame({"ds": pd.date_range("2018-01-01", periods=63, freq="MS")}),
            r"No regular frequency: .* row 23, 2019-12-01 05:00, is the first that is off\.$",
        ),
    ],
)
def test_the_row_that_breaks_the_step_is_named(frame: pd.DataFrame, says: str) -> None:
    row = 83 if len(frame) > 100 else 23
    frame = frame.assign(y=1.0)
    frame.loc[row, "ds"] += pd.Timedelta(hours=5)
    with pytest.raises(DataError, match=says):
        read_frame(frame)


def test_months_on_varying_days_are_months_and_that_is_said() -> None:
    days = pd.date_range("2018-01-01", periods=48, freq="BME") - pd.to_timedelta(
        (np.arange(48) % 9 == 4).astype(int), "D"
    )
    frame = pd.DataFrame({"ds": days, "y": np.arange(48.0)})
    reading = read_frame(frame)
    assert reading.notes[0] == "time column: ds (ME any day, 2018-01-31 to 2021-12-31)"
    assert "one row a month, on varying days: read as months, dated by their last day" in reading.notes
    assert values(reading) == frame["y"].tolist()
    gap = read_frame(frame.drop(index=[7, 8]), freq="MS any day")  # who says so may leave out some
    assert gap.notes[0] == "time column: ds (MS any day, 2018-01-01 to 2021-12-01)"
    assert np.flatnonzero(np.isnan(gap.panel.values)).tolist() == [7, 8]
    twice = pd.concat([frame, pd.DataFrame({"ds": [pd.Timestamp("2019-03-04")], "y": [1.0]})])
    with pytest.raises(
        DataError,
        match=r"^rows 14 and 48 lie in one month, 2019-03, of which ME any day has one row; remove one of them\.$",
    ):
        read_frame(twice, freq="ME any day")


def test_a_day_that_is_off_among_months_is_named() -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2018-01-01", periods=63, freq="MS"), "y": 1.0})
    frame.loc[26, "ds"] += pd.Timedelta(days=1)
    with pytest.raises(DataError, match=r"row 26, 2020-03-02, is the first that is off\.$"):
        read_frame(frame)
