"""Which column is the time, the target, the id: found where it is obvious, asked for where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from carousel.forecast.read import Names, read_frame
from readings import DAYS, HOURLY, in_shops, read, refused, values


@pytest.mark.parametrize(
    ("header", "row", "names"),
    [
        ("unique_id,ds,y", "a,{day},1", Names("unique_id", "ds", "y")),
        ("y,ds,unique_id", "1,{day},a", Names("unique_id", "ds", "y")),
        ("Month,Passengers", "{day},1", Names(None, "Month", "Passengers")),
        ("when,load", "{day},1", Names(None, "when", "load")),
        ("Series ID,Date,Place,Value", "a,{day},X,1", Names("Series ID", "Date", "Value")),
        ("id,Date,sales", "{k},{day},1", Names(None, "Date", "sales")),
        (",Date,sales", "{k},{day},1", Names(None, "Date", "sales")),
        ("Unnamed: 0,Date,sales", "{k},{day},1", Names(None, "Date", "sales")),
        ("date,value,weight", "{day},1,2", Names(None, "date", "value")),
        ("date,created,y", "{day},2020-01-01,2", Names(None, "date", "y")),
        ("sales", "1", Names(None, None, "sales")),
        ("unique_id,y", "a,1", Names("unique_id", None, "y")),
    ],
)
def test_obvious_columns_are_found(tmp_path: Path, header: str, row: str, names: Names) -> None:
    rows = [row.format(day=day, k=k) for k, day in enumerate(DAYS)]
    if names.id is None and "id" in header.split(","):
        rows = [r.replace("a,", f"{k},") for k, r in enumerate(rows)]
    assert read(tmp_path, "\n".join([header, *rows])).names == names


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (
            "date,a,b\n2024-01-01,1,2\n2024-01-02,1,2\n",
            {},
            "several columns hold numbers (a, b); name the one",
        ),
        (
            "date,a\n2024-01-01,x\n2024-01-02,y\n",
            {},
            "there is no column of numbers to forecast; the other columns are a",
        ),
        ("date\n2024-01-01\n2024-01-02\nx\n", {}, "there is no column of numbers to forecast."),
        ("Year,Month,sales\n2024,1,5\n2024,2,6\n", {}, "the time could be any of Year, Month"),
        ("a,b,y\n2024-01-01,2024-01-01,2\n2024-01-02,2024-01-02,3\n", {}, "the time could be any of a, b"),
        ("when,y\nfoo,1\nbar,2\n", {}, "line 2, column 'when': 'foo' is neither a number nor a date"),
        (HOURLY, {"target": "z"}, "there is no column 'z'; the columns are ds, y."),
        (HOURLY, {"time": "z"}, "there is no column 'z'"),
        (HOURLY, {"id": "z"}, "there is no column 'z'"),
        (HOURLY, {"target": "ds", "time": "ds"}, "must be three different columns"),
        (
            "ds,y,z\n2024-01-01,1,a\n2024-01-02,2,b\n",
            {"target": "z"},
            "line 2, column 'z': expected a number, got 'a'",
        ),
    ],
)
def test_what_is_not_obvious_is_asked(
    tmp_path: Path, content: str, options: dict[str, str], says: str
) -> None:
    refused(tmp_path, content, says, **options)


@pytest.mark.parametrize(
    ("header", "rows", "names"),
    [
        ("day,shop,sales", ("{day},north,1", "{day},south,2"), Names("shop", "day", "sales")),
        ("where,day,sales", ("north,{day},1", "south,{day},2"), Names("where", "day", "sales")),
        ("day,shop,kind,sales", ("{day},a,x,1", "{day},b,x,2"), Names("shop", "day", "sales")),
        ("day,shop,note,sales", ("{day},a,n{k},1", "{day},b,m{k},2"), Names("shop", "day", "sales")),
        ("day,shop,event,sales", ("{day},a,,1", "{day},b,x,2"), Names("shop", "day", "sales")),
        ("day,store_nbr,sales", ("{day},1,5", "{day},2,6"), Names("store_nbr", "day", "sales")),
        ("day,LCLid,load", ("{day},1,5", "{day},2,6"), Names("LCLid", "day", "load")),
        ("day,Product ID,price", ("{day},1,5", "{day},2,6"), Names("Product ID", "day", "price")),
        # Where each time stands once, nothing tells a series' name from any other text.
        ("day,shop,sales", ("{day},north,1",), Names(None, "day", "sales")),
    ],
)
def test_what_alone_tells_rows_of_one_time_apart_is_the_id(
    tmp_path: Path, header: str, rows: tuple[str, ...], names: Names
) -> None:
    reading = read(tmp_path, in_shops(header, *rows))
    assert reading.names == replace(names, whole_ids=reading.names.whole_ids)
    assert reading.panel.lengths.tolist() == [3] * len(rows)
    if names.id is not None:
        assert f"id column: {names.id} (2 series)" in reading.notes


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        (
            "day,shop,city,sales",
            ("{day},a,x,1", "{day},b,y,2"),
            "the id could be any of shop, city; name the column (--id, in Python id_col).",
        ),
        (
            "day,shop,item,sales",
            ("{day},a,x,1", "{day},a,y,2", "{day},b,x,1", "{day},b,y,2"),
            "or name the column that tells several series apart (--id, in Python id_col), which may have to be "
            "joined from several of shop, item.",
        ),
        ("day,grid,sales", ("{day},1,5", "{day},2,6"), "several columns hold numbers (grid, sales)"),
        ("day,PAID,sales", ("{day},1,5", "{day},2,6"), "several columns hold numbers (PAID, sales)"),
        ("day,sales", ("{day},1", "{day},2"), "name the column that tells several series apart (--id, in"),
    ],
)
def test_where_several_or_none_tell_rows_apart_the_id_is_asked_for(
    tmp_path: Path, header: str, rows: tuple[str, ...], says: str
) -> None:
    refused(tmp_path, in_shops(header, *rows), says)


def test_the_id_is_found_in_frames_of_three_libraries() -> None:
    frame = pd.DataFrame(
        {"day": [*DAYS, *DAYS], "shop": list("aaabbb"), "ok": [True] * 3 + [False] * 3, "y": 1.0}
    )
    category = frame.assign(shop=frame["shop"].astype("category"), day=pd.to_datetime(frame["day"]).dt.date)
    for kind in (frame, category, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        assert read_frame(kind).names.id == "shop"


def test_no_id_is_guessed_where_rows_of_one_time_are_to_be_averaged(tmp_path: Path) -> None:
    rows = in_shops("day,shop,sales", "{day},north,1", "{day},south,2")
    reading = read(tmp_path, rows, duplicates="mean")
    assert reading.names.id is None
    assert values(reading) == [1.5, 1.5, 1.5]


def test_names_given_go_before_names_found(tmp_path: Path) -> None:
    content = "ds,y,other,day\n2024-01-01,1,5,2020-01-01\n2024-01-02,2,6,2020-02-01\n"
    reading = read(tmp_path, content, target="other", time="day")
    assert reading.names == Names(None, "day", "other")
    assert reading.panel.ids == ("other",)
    assert "not used: ds, y" in reading.notes


def test_a_first_line_of_numbers_is_a_row(tmp_path: Path) -> None:
    reading = read(tmp_path, "1949-01,112\n1949-02,118\n")
    assert values(reading) == [112, 118]
    assert "no header line: the columns are called column_1, column_2" in reading.notes


def test_in_one_column_a_blank_line_is_a_missing_value(tmp_path: Path) -> None:
    np.testing.assert_array_equal(values(read(tmp_path, "load\n1\n\n3\n\n")), [1, np.nan, 3])
