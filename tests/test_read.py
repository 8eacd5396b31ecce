"""Files, dates and numbers as people write them: what is read and said, what is refused and how."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carousel.errors import FormatError
from carousel.forecast.dates import parse_dates
from carousel.forecast.read import Names, read_frame, read_table
from readings import DAYS, HOURLY, daily, read, refused, values

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
        (b'ds,y\n2024-01-01,"1\n' + b"1\n" * 70000, "line 2: a quote is opened and never closed"),
        (
            b'ds,y\n"2024-01-01",1\n"2024-01-02,2\n2024-01-03,3\n',
            "line 3: a quote is opened and never closed",
        ),
        (
            b'ds,y\n\n2024-01-01,1\n2024-01-02,"2\n2024-01-03,3\n',
            "line 4: a quote is opened and never closed",
        ),
        (b'ds,y\n2024-01-01,1\n2024-01-02,"2\n', "line 3: a quote is opened and never closed"),
        (b'"ds,y\n2024-01-01,1\n2024-01-02,2\n', "line 1: a quote is opened and never closed"),
        (b'ds,"y\n' + b"1\n" * 70000, "cannot be read as CSV"),
        (b"\x00\x01\x02\x03", "neither text nor Parquet"),
        (b"\xff\xfe\x00", "starts as UTF-16"),
        (b"PAR1 cut short", "damaged or incomplete Parquet"),
        (gzip.compress(HOURLY.encode(), mtime=0)[:-9], "damaged or incomplete gzip"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    refused(tmp_path, content, says)


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
