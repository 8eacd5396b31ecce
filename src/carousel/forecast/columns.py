"""Which column of a frame is the id, the time and the target; and each as an array.

A column is named by the caller, or found where it is obvious: the Nixtla names first, then common ones, then
the only column of its kind. Where two would do, the caller is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from carousel.errors import DataError
from carousel.forecast.dates import integer_dates, looks_like_dates, parse_dates
from carousel.forecast.table import Origin

__all__ = ["Columns", "Names", "find_names"]

Array = np.ndarray[Any, Any]

# Names in lower case without spaces and underscores; those of the Nixtla format first.
_ID_NAMES = ("uniqueid", "seriesid", "itemid", "series", "id")
_TIME_NAMES = (
    "ds",
    "date",
    "datetime",
    "timestamp",
    "time",
    "month",
    "week",
    "day",
    "quarter",
    "year",
    "hour",
)
_TARGET_NAMES = ("y", "value", "target")
_MISSING = (
    "",
    "NA",
    "N/A",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "-nan",
    "NULL",
    "Null",
    "null",
    "None",
    "none",
    "NaT",
)
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
_DECIMAL_COMMA = r"^[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+),\d+([eE][+-]?\d+)?$|^[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)$"
_REPAIR = "repair it, or leave the cell empty if the value is missing"
_THOUSANDS_COMMA = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$|^[+-]?(\d{1,3}(\.\d*)?|\.\d+)$"


@dataclass(frozen=True)
class Names:
    """The columns that a reading used; None where a frame has no such column."""

    id: str | None
    time: str | None
    target: str


@dataclass(frozen=True)
class Columns:
    """The columns of one frame, read as what they are asked for."""

    frame: nw.DataFrame[Any]
    origin: Origin
    remarks: list[str] = field(default_factory=list)

    def texts(self, name: str, rows: int | None = None) -> pa.ChunkedArray:
        """(N,) text without white space around it, or its first rows; null for any spelling of missing."""
        column = self._arrow(name) if rows is None else self._arrow(name).slice(0, rows)
        texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        return pc.if_else(pc.is_in(texts, pa.array(_MISSING)), pa.scalar(None, pa.string()), texts)

    def kind(self, name: str) -> str:
        """What most of a column is: `time`, `integer`, `number`, `text`, or `empty`."""
        dtype = self.frame.schema[name]
        if dtype.is_temporal():
            return "time"
        if dtype.is_integer():
            return "integer"
        if dtype.is_numeric():
            return "number"
        if not _textual(dtype):
            return "text"
        sample = self.texts(name, 1000).drop_null() or self.texts(name).drop_null()
        if not len(sample):
            return "empty"
        if 2 * _count(sample, r"^[+-]?\d+$") > len(sample):
            return "integer"
        if 2 * _count(sample, f"{_NUMBER}|{_DECIMAL_COMMA}|{_THOUSANDS_COMMA}") > len(sample):
            return "number"
        return "time" if looks_like_dates(sample) else "text"

    def ids(self, name: str) -> tuple[Array, tuple[str, ...]]:
        """(N,) the number of each row's series, in order of appearance, and the series' names."""
        column = self._arrow(name)
        if pa.types.is_floating(column.type):  # integers that a missing value turned into floats
            whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
            column = column.cast(pa.int64()) if whole and not pc.any(pc.is_nan(column)).as_py() else column
        texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        encoded = texts.combine_chunks().dictionary_encode()
        missing = np.flatnonzero(encoded.is_null().to_numpy(zero_copy_only=False))
        blank = pc.index(texts, "").as_py()
        if len(missing) or blank >= 0:
            row = int(missing[0]) if len(missing) else blank
            raise DataError(
                f"{self.origin.at(row, name)}expected the name of a series, got nothing; name it."
            )
        return encoded.indices.to_numpy().astype(np.int64), tuple(encoded.dictionary.to_pylist())

    def times(self, name: str) -> Array:
        """(N,) datetime64[us] by the wall clock, or int64 where the column holds whole numbers."""
        dtype = self.frame.schema[name]
        if dtype.is_temporal():
            return self._stamps(name)
        if dtype.is_numeric():
            numbers = self._plain_numbers(name)
            wrong = np.flatnonzero(~(np.floor(numbers) == numbers))
            if len(wrong):
                found = numbers[wrong[0]]
                raise DataError(f"{self.origin.at(int(wrong[0]), name)}{_expected_date()}, got {found}.")
            return self._whole(numbers.astype(np.int64))
        texts = self.texts(name)
        if not texts.null_count and len(texts) and _count(texts, r"^[+-]?\d{1,18}$") == len(texts):
            return self._whole(pc.cast(texts, pa.int64()).to_numpy())
        dates = parse_dates(texts)
        self.remarks.extend(dates.remarks)
        wrong = np.flatnonzero(np.isnat(dates.stamps))
        if dates.ambiguous:
            raise DataError(
                f"{self.origin.at(0, name)}{_shown(texts, 0)} could be day or month first, and no other row "
                "decides it; write dates as 2024-01-31."
            )
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{self.origin.at(row, name)}{_expected_date()}, got {_shown(texts, row)}.")
        return dates.stamps

    def numbers(self, name: str) -> Array:
        """(N,) float64; NaN where a value is missing."""
        dtype = self.frame.schema[name]
        if dtype.is_numeric():
            return self._finite(name, self._plain_numbers(name))
        if not _textual(dtype):
            raise DataError(f"{self.origin.prefix()}column {name!r} holds {dtype}, not numbers; convert it.")
        texts = self.texts(name)
        try:
            column = pc.cast(texts, pa.float64())
        except pa.ArrowInvalid:
            column = pc.cast(self._with_points(name, texts), pa.float64())
        return self._finite(name, np.asarray(pc.fill_null(column, float("nan")).to_numpy()))

    def _arrow(self, name: str) -> pa.ChunkedArray:
        """The column in arrow; a column of Python objects becomes text, None stays missing."""
        series = self.frame[name]
        if series.dtype == nw.Object:
            values = [None if value is None or value != value else str(value) for value in series]
            return pa.chunked_array([pa.array(values, pa.string())])
        native = series.to_arrow()
        return native if isinstance(native, pa.ChunkedArray) else pa.chunked_array([native])

    def _plain_numbers(self, name: str) -> Array:
        return np.asarray(pc.fill_null(pc.cast(self._arrow(name), pa.float64()), float("nan")).to_numpy())

    def _stamps(self, name: str) -> Array:
        series = self.frame[name]
        if series.dtype == nw.Datetime and series.dtype.time_zone is not None:  # type: ignore[attr-defined]
            self.remarks.append(
                f"the time zone of {name} is dropped: times are read as its wall clock shows them"
            )
            series = series.dt.replace_time_zone(None)
        if null := int(series.null_count()):
            row = int(np.flatnonzero(series.is_null().to_numpy())[0])
            several = f", as in {null} rows" if null > 1 else ""
            raise DataError(f"{self.origin.at(row, name)}{_expected_date()}, got nothing{several}.")
        return np.asarray(series.to_numpy()).astype("datetime64[us]")

    def _whole(self, numbers: Array) -> Array:
        dates = integer_dates(numbers)
        if dates is None:
            return numbers
        self.remarks.extend(dates.remarks)
        return dates.stamps

    def _with_points(self, name: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
        """Numbers with commas in them as numbers with a point."""
        present = len(texts) - texts.null_count
        commas = pc.sum(pc.match_substring(texts, ",")).as_py() or 0
        decimal = commas > 0 and _count(texts, _DECIMAL_COMMA) == present
        thousands = commas > 0 and _count(texts, _THOUSANDS_COMMA) == present
        if decimal and thousands:
            row = pc.index(pc.match_substring(texts, ","), True).as_py()
            raise DataError(
                f"{self.origin.at(row, name)}the comma in {_shown(texts, row)} could be a decimal or a "
                "thousands one; write numbers with a point, as in 1234.5."
            )
        if decimal:
            self.remarks.append(f"column {name} is read with decimal commas")
            return pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")
        if thousands:
            self.remarks.append(f"column {name} is read with commas between thousands")
            return pc.replace_substring(texts, ",", "")
        expected = _DECIMAL_COMMA if 2 * _count(texts, _DECIMAL_COMMA) > present and commas else _NUMBER
        wrong = pc.fill_null(pc.invert(pc.match_substring_regex(texts, expected)), False)
        row = pc.index(wrong, True).as_py()
        raise DataError(f"{self.origin.at(row, name)}expected a number, got {_shown(texts, row)}; {_REPAIR}.")

    def _finite(self, name: str, numbers: Array) -> Array:
        infinite = np.flatnonzero(np.isinf(numbers))
        if len(infinite):
            several = f" ({len(infinite)} such rows)" if len(infinite) > 1 else ""
            place = self.origin.at(int(infinite[0]), name)
            raise DataError(f"{place}expected a finite number, got Inf{several}; {_REPAIR}.")
        return numbers


def find_names(columns: Columns, id: str | None, time: str | None, target: str | None) -> Names:
    """The columns to use: those named by the caller, else the obvious ones.

    Raises:
        DataError: a name that is not there or used twice, no numeric column, or a choice that is not obvious.
    """
    names, origin = columns.frame.columns, columns.origin
    given = [name for name in (id, time, target) if name is not None]
    for name in given:
        if name not in names:
            raise DataError(
                f"{origin.prefix()}there is no column {name!r}; the columns are {_listed(names)}."
            )
    if len(set(given)) < len(given):
        raise DataError(f"{origin.prefix()}id, time and target must be three different columns, got {given}.")
    kinds = {name: columns.kind(name) for name in names if name not in given}
    if time is None:
        time = _find_time(kinds, origin)
    if id is None:
        id = _find_id({name: kind for name, kind in kinds.items() if name != time}, columns)
    if target is None:
        target = _find_target({name: kind for name, kind in kinds.items() if name not in (time, id)}, origin)
    kinds = {name: kind for name, kind in kinds.items() if name not in (time, id, target)}
    if time is None:
        _refuse_text(kinds, columns)
    unused = [name for name in kinds if not _row_number(name)]
    if unused:
        columns.remarks.append(f"not used: {_listed(unused)}")
    return Names(id, time, target)


def _find_time(kinds: Mapping[str, str], origin: Origin) -> str | None:
    if "ds" in kinds:
        return "ds"
    named = [name for name in kinds if _bare(name) in _TIME_NAMES]
    dates = [name for name, kind in kinds.items() if kind == "time"]
    for found in (dates, named):
        if len(found) == 1:
            return found[0]
    both = [name for name in dates if name in named] or dates or named
    if len(both) > 1:
        raise DataError(
            f"{origin.prefix()}the time could be any of {_listed(both)}; name the column "
            "(--time, in Python time_col), or join them into one column such as 2024-01-31."
        )
    return both[0] if both else None


def _find_id(kinds: Mapping[str, str], columns: Columns) -> str | None:
    if "unique_id" in kinds:
        return "unique_id"
    named = [name for name in kinds if _bare(name) in _ID_NAMES and kinds[name] in ("text", "integer")]
    # An "id" that never repeats numbers the rows, not the series.
    repeated = [name for name in named if columns.frame[name].n_unique() < len(columns.frame)]
    return min(repeated, key=lambda name: _ID_NAMES.index(_bare(name)), default=None)


def _find_target(kinds: Mapping[str, str], origin: Origin) -> str:
    if "y" in kinds:
        return "y"
    numeric = [
        name
        for name, kind in kinds.items()
        if kind in ("integer", "number") and not _row_number(name) and _bare(name) not in _ID_NAMES
    ]
    named = [name for name in numeric if _bare(name) in _TARGET_NAMES]
    for found in (numeric, named):
        if len(found) == 1:
            return found[0]
    if not numeric:
        left = f"; the other columns are {_listed(kinds)}" if kinds else ""
        raise DataError(f"{origin.prefix()}there is no column of numbers to forecast{left}.")
    raise DataError(
        f"{origin.prefix()}several columns hold numbers ({_listed(numeric)}); name the one to forecast "
        "(--target, in Python target_col)."
    )


def _refuse_text(kinds: Mapping[str, str], columns: Columns) -> None:
    """Without a time column the order of the rows counts; text might have been meant as the time."""
    for name, kind in kinds.items():
        if kind == "text":
            texts = columns.texts(name)
            row = int(np.flatnonzero(texts.is_valid().to_numpy())[0])
            raise DataError(
                f"{columns.origin.at(row, name)}{_shown(texts, row)} is neither a number nor a date; write "
                "dates as 2024-01-31, name the series' column (--id, in Python id_col), or remove this one."
            )


def _row_number(name: str) -> bool:
    """The index that pandas writes beside the columns."""
    return not name or name.startswith("Unnamed:")


def _textual(dtype: Any) -> bool:
    return dtype in (nw.String, nw.Categorical, nw.Object) or isinstance(dtype, nw.Enum)


def _bare(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "")


def _count(texts: pa.ChunkedArray, pattern: str) -> int:
    return pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0


def _shown(texts: pa.ChunkedArray, row: int) -> str:
    """A cell for a message."""
    value = texts[row].as_py()
    return "nothing" if value is None else repr(value if len(value) <= 40 else value[:39] + "…")


def _expected_date() -> str:
    return "expected a date such as 2024-01-31 or 2024-01-31 23:00"


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = [" ".join(name.split()) for name in names]
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")
