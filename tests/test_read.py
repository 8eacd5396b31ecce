"""Reading files and frames: what is accepted and said, what is refused and how."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carousel.errors import ArgumentError, CarouselError, DataError, FormatError
from carousel.forecast import columns
from carousel.forecast.dates import parse_dates
from carousel.forecast.read import Names, Reading, columns_of, read_frame, read_table


def read(tmp_path: Path, content: str | bytes, name: str = "data.csv", **options: object) -> Reading:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_frame(read_table(path), **options)


def values(reading: Reading) -> list[float]:
    return reading.panel.values.tolist()


HOURLY = "ds,y\n2024-01-01 00:00:00,1\n2024-01-01 01:00:00,2\n2024-01-01 02:00:00,3\n"
DAYS = ("2024-01-30", "2024-01-31", "2024-02-01")


def daily(*days: str, separator: str = ",") -> str:
    return "ds,y\n".replace(",", separator) + "".join(f"{d}{separator}{i}\n" for i, d in enumerate(days))


# Files


@pytest.mark.parametrize(
    "content",
    [
        HOURLY,
        HOURLY.replace("\n", "\r\n"),
        HOURLY.replace("\n", "\r"),
        HOURLY.replace("y\n", "y\r"),
        HOURLY.replace(",", ";"),
        HOURLY.replace(",", "\t"),
        HOURLY.replace(",", "|"),
        HOURLY.replace("ds,y", '"ds" , "y"').replace(" ,", ","),
        HOURLY.rstrip("\n"),
        HOURLY.replace("\n", ",,\n"),
        HOURLY + "\n\n",
        HOURLY.replace("\n", "\n\n"),
        "\n\n" + HOURLY,
        b"\xef\xbb\xbf" + HOURLY.encode(),
        HOURLY.encode("utf-16"),
        gzip.compress(HOURLY.encode(), mtime=0),
        HOURLY.replace(" 0", "T0"),
        HOURLY.replace(":00,", ":00Z,"),
        HOURLY.replace(":00,", ":00+02:00,"),
        HOURLY.replace(":00:00,", ":00,"),
        HOURLY.replace("2024-01-01", "2024/01/01"),
        HOURLY.replace("2024-01-01", "2024-1-1"),
        HOURLY.replace(":00:00,", ":00:00.000000,"),
        HOURLY.replace("00:00:00,", "12:00 AM,")
        .replace("01:00:00,", "01:00 am,")
        .replace("02:00:00,", "2:00 AM,"),
    ],
)
def test_the_same_series_in_many_dialects(tmp_path: Path, content: str | bytes) -> None:
    reading = read(tmp_path, content)
    assert values(reading) == [1, 2, 3]
    assert reading.names == Names(None, "ds", "y")
    assert str(reading.panel.frequency) == "h"
    assert reading.panel.starts.tolist() == [np.datetime64("2024-01-01", "us").item()]
    assert reading.panel.starts.dtype == "datetime64[us]"


@pytest.mark.parametrize("name", ["data.parquet", "data.bin"])
def test_parquet_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"ds": pd.date_range("2024", periods=3, freq="h"), "y": [1, 2, 3]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / name)
    assert values(read_frame(read_table(tmp_path / name))) == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "data.csv is empty"),
        (b"\n \n", "data.csv is empty"),
        (b"ds,y\n", "has a header (ds, y) and no rows"),
        (b"ds,y\n2024-01-01,1\n2024-01-02,2,3\n", "line 3: 3 values where the first line has 2"),
        (b"ds,y\n\n2024-01-01,1\n2024-01-02\n", "line 4: 1 value where the first line has 2"),
        (b"ds,y,y\n2024-01-01,1,2\n", "columns 2 and 3 are both called 'y'"),
        (b"ds,y\n2024-01-01,1\n2024-01-02,\xff\n", "line 3: byte 0xff is not UTF-8; save the file as UTF-8."),
        (b"PK\x03\x04 a workbook", "export the sheet as CSV"),
        (b"\xdf", "line 1: byte 0xdf is not UTF-8"),
        (b'ds,y\n2024-01-01,"1\n' + b"1\n" * 70000, "column 'y': expected a number, got '1"),
        (b'ds,"y\n' + b"1\n" * 70000, "cannot be read as CSV"),
        (b"\x00\x01\x02\x03", "neither text nor Parquet"),
        (b"\xff\xfe\x00", "starts as UTF-16"),
        (b"PAR1 cut short", "damaged or incomplete Parquet"),
        (gzip.compress(HOURLY.encode(), mtime=0)[:-9], "damaged or incomplete gzip"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    refused(tmp_path, content, says)


def refused(tmp_path: Path, content: str | bytes, says: str, **options: object) -> None:
    with pytest.raises((DataError, FormatError)) as caught:
        read(tmp_path, content, **options)
    text = str(caught.value)
    assert says in text
    assert "data.csv" in text
    assert text.endswith(".")
    assert "\n" not in text


def test_a_suffix_may_not_promise_parquet(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is not a Parquet file"):
        read(tmp_path, HOURLY, "data.parquet")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "nowhere.csv")


def test_line_numbers_count_blank_lines_and_line_breaks_in_quotes(tmp_path: Path) -> None:
    content = 'unique_id,ds,y\n\n"a\nb",2024-01-01,1\n\n"a\nb",2024-01-02,oops\n'
    says = "data.csv, line 7, column 'y' of series 'a\\nb': expected a number, got 'oops'"
    refused(tmp_path, content, says)


# Dates


@pytest.mark.parametrize(
    "days",
    [
        DAYS,
        ("30/01/2024", "31/01/2024", "01/02/2024"),
        ("01/30/2024", "01/31/2024", "02/01/2024"),
        ("30.01.2024", "31.1.2024", "1.2.2024"),
        ("30-Jan-2024", "31-jan-2024", "1 February 2024"),
        ("20240130", "20240131", "20240201"),
    ],
)
def test_days_as_people_write_them(days: tuple[str, ...]) -> None:
    stamps = parse_dates(pa.chunked_array([days])).stamps.astype("datetime64[D]")
    assert stamps.astype(str).tolist() == list(DAYS)


@pytest.mark.parametrize(
    ("months", "alias"),
    [
        (("1949-01", "1949-02", "1949-03"), "MS"),
        (("1949/1", "1949/2", "1949/3"), "MS"),
        (("1949M01", "1949M02", "1949M03"), "MS"),
        (("194901", "194902", "194903"), "MS"),
        (("Jan 1949", "Feb 1949", "Mar 1949"), "MS"),
        (("1949Q1", "1949-Q2", "1949 q3"), "QS"),
        (("1949-01-31", "1949-02-28", "1949-03-31"), "ME"),
    ],
)
def test_months_and_quarters(tmp_path: Path, months: tuple[str, ...], alias: str) -> None:
    panel = read(tmp_path, daily(*months)).panel
    assert str(panel.frequency) == alias
    assert str(panel.starts[0].astype("datetime64[M]")) == "1949-01"


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (("2024-01-30", "2024-02-30"), "line 3, column 'ds': expected a date such as 2024-01-31"),
        (("2024-01-30", "2024-01-31 25:00"), "got '2024-01-31 25:00'"),
        (("2024-01-30", "2024-01-31 12:60"), "got '2024-01-31 12:60'"),
        (("2024-01-30", "2024-01-31 13:00 PM"), "got '2024-01-31 13:00 PM'"),
        (
            ("2024-01-30", ""),
            "line 3, column 'ds': expected a date such as 2024-01-31 or 2024-01-31 23:00, got nothing",
        ),
        (("2024-01-30", "31/01/2024"), "got '31/01/2024'"),
        (("30/01/2024", "01/30/2024"), "got '01/30/2024'"),
        (("yesterday", "today"), "got 'yesterday'"),
        (("1-01", "1-02"), "got '1-01'"),
        (("01/02/2024", "02/02/2024"), "could be day or month first"),
    ],
)
def test_what_is_no_date_is_refused_with_its_line(tmp_path: Path, days: tuple[str, ...], says: str) -> None:
    refused(tmp_path, daily(*days), says)


@pytest.mark.parametrize("form", ["%G-W%V", "%GW%V", "%G-W%V-%u", "%GW%V%u", "%G W%V", "%G-w%V"])
def test_weeks_of_iso_8601(tmp_path: Path, form: str) -> None:
    """Against Python's own, over years of 52 and 53 weeks; a week is dated by its Monday."""
    mondays = pd.date_range("2014-12-22", periods=400, freq="W-MON")
    reading = read(tmp_path, daily(*mondays.strftime(form)))
    assert str(reading.panel.frequency) == "W-MON"
    assert reading.panel.times(0).tolist() == mondays.to_numpy().astype("datetime64[us]").tolist()


@pytest.mark.parametrize(
    "weeks", [("2021-W52", "2021-W53"), ("2021-W01", "2021-W00"), ("2020-W53", "2020-W54"), ("2021-W01", "2021-W1"),
              ("2021-W01-1", "2021-W01-8"), ("2021-W01", "2021-W02 14:00")],
)  # fmt: skip
def test_weeks_that_do_not_exist_are_refused(tmp_path: Path, weeks: tuple[str, ...]) -> None:
    refused(
        tmp_path,
        daily(*weeks),
        f"line 3, column 'ds': expected a date such as 2024-01-31 or 2024-01-31 23:00, got '{weeks[1]}'",
    )


def test_the_order_of_day_and_month_is_said(tmp_path: Path) -> None:
    assert "dates are read with the day first" in read(tmp_path, daily("30/01/2024", "31/01/2024")).notes


def test_offsets_are_dropped_and_said(tmp_path: Path) -> None:
    reading = read(tmp_path, daily("2024-07-01T00:00+02:00", "2024-07-01T01:00+02:00"))
    assert str(reading.panel.starts[0]) == "2024-07-01T00:00:00.000000"
    assert any("wall clock" in note for note in reading.notes)


@pytest.mark.parametrize(("first", "step"), [(1700, 1), (0, 5), (12345678, 1), (99999912, 1)])
def test_whole_numbers_are_an_index(tmp_path: Path, first: int, step: int) -> None:
    panel = read(tmp_path, daily(*(str(first + step * k) for k in range(4)))).panel
    assert panel.starts.tolist() == [first]
    assert (panel.frequency.unit, panel.frequency.step) == ("index", step)


# Numbers


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "NaN", "nan", "null", "None", "<NA>", " "])
def test_missing_values(tmp_path: Path, missing: str) -> None:
    reading = read(tmp_path, f"ds,y\n2024-01-01,1\n2024-01-02,{missing}\n2024-01-03,3\n")
    np.testing.assert_array_equal(values(reading), [1, np.nan, 3])
    assert "1 value is missing" in reading.notes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1,5", "-2,25", "3"), [1.5, -2.25, 3]),
        (("1.234,5", "12.345.678,0", "1,25"), [1234.5, 12345678, 1.25]),
        (("1,234.5", "12,345", "1.25"), [1234.5, 12345, 1.25]),
        (("0,125", "1,250", "2,500"), [0.125, 1.25, 2.5]),
        (("1e3", "+.5", "2."), [1000, 0.5, 2]),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, cells: tuple[str, ...], expected: list[float]) -> None:
    content = "ds;y\n" + "".join(f"{day};{cell}\n" for day, cell in zip(DAYS, cells, strict=True))
    assert values(read(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("12 MW", "line 3, column 'y': expected a number, got '12 MW'; repair it"),
        ("1,5", "got '1,5'"),
        ("0x10", "got '0x10'"),
        ("inf", "line 3, column 'y': expected a finite number, got Inf"),
        ("-Infinity", "got -Inf"),
        ("1e999", "got Inf"),
    ],
)
def test_what_is_no_number_is_refused_with_its_line(tmp_path: Path, cell: str, says: str) -> None:
    refused(tmp_path, f'ds,y\n2024-01-01,1.5\n2024-01-02,"{cell}"\n2024-01-03,2.5\n', says)


def test_a_comma_that_could_be_either_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, daily(*DAYS, separator=";") + "2024-02-02;1,234\n", "a decimal or a thousands one")


def test_a_column_without_values_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "ds,y\n2024-01-01,\n2024-01-02,\n", "'y' has no value in any row")


# Which column is which


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


def in_shops(header: str, *rows: str) -> str:
    """Rows of every day; each day in turn."""
    return "\n".join([header, *(row.format(day=day, k=k) for k, day in enumerate(DAYS) for row in rows)])


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


# Series


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


# Frames in memory


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
        (pd.DataFrame({"ds": pd.to_timedelta([1, 2], "h"), "y": [1, 2]}), "'ds' holds Duration.*, not dates"),
        (pd.DataFrame({"y": [True, False]}), "'y' holds Boolean, not numbers"),
        (np.zeros((2, 2)), r"one sequence of numbers, got float64 of shape \(2, 2\)"),
        ({"y": [1, 2]}, "Expected a frame of pandas, polars or pyarrow"),
    ],
)
def test_unusable_frames_are_refused(frame: object, says: str) -> None:
    with pytest.raises(CarouselError, match=says):
        read_frame(frame)


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
