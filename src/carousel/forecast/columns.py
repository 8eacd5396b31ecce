"""The columns of a frame as arrays: ids, times and numbers, whatever they were written as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from carousel.errors import DataError
from carousel.forecast.dates import integer_dates, looks_like_dates, offset_of, parse_dates
from carousel.forecast.table import Origin
from carousel.network.forecaster import TimeUnit
from carousel.series.zones import canonical, days_of
from carousel.stream.sizes import LARGEST, SMALLEST

__all__ = ["Columns", "shown"]

Array = np.ndarray[Any, Any]

_MISSING = [
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
]
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
_DECIMAL_COMMA = r"^[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+),\d+([eE][+-]?\d+)?$|^[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)$"
_THOUSANDS_COMMA = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$|^[+-]?(\d{1,3}(\.\d*)?|\.\d+)$"
_BLOCK = 1 << 17  # rows
_REPAIR = "repair it, or leave the cell empty if the value is missing"
_A_DATE = "expected a date such as 2024-01-31 or 2024-01-31 23:00"


@dataclass(frozen=True)
class Columns:
    """The columns of one frame, read as what they are asked for."""

    frame: nw.DataFrame[Any]
    origin: Origin
    remarks: list[str] = field(default_factory=list)
    zones: dict[str, str] = field(default_factory=dict)  # of columns of times that were read
    units: dict[str, TimeUnit] = field(default_factory=dict)  # of the time stamps in them, "D" for dates
    series: Callable[[int], str] | None = None  # the name of a row's series, for messages
    zone: str | None = None  # whose clock tells the times of columns that are in any other
    argument: str = ""  # what the caller gave the frame as, likewise

    def at(self, row: int, name: str) -> str:
        """How a message about one cell begins."""
        place = self.origin.at(row, name)
        owners = [f"`{self.argument}`"] * bool(self.argument)
        owners += [] if self.series is None else [f"series {self.series(row)!r}"]
        return f"{place.removesuffix(': ')} of {', '.join(owners)}: " if owners else place

    def texts(self, name: str, rows: int | None = None) -> pa.ChunkedArray:
        """(N,) text without white space around it, or its first rows; null for any spelling of missing."""
        return _plain_texts(_in_arrow(self.frame[name] if rows is None else self.frame[name][:rows]))

    def categories(self, name: str) -> pa.Array:
        """(N,) text without white space around it; null where there is none, for "none" may be a category."""
        texts = pc.utf8_trim_whitespace(pc.cast(self._arrow(name), pa.string())).combine_chunks()
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)

    def names_times(self, name: str) -> bool:
        """Whether the categories of a column are times."""
        kind = self._arrow(name).type
        return bool(pa.types.is_dictionary(kind) and pa.types.is_temporal(kind.value_type))

    def kind(self, name: str) -> str:
        """What most of a column is: `time`, `integer`, `number`, `text`, or `empty`."""
        dtype = self.frame.schema[name]
        if dtype in (nw.Date, nw.Datetime) or self._pandas_zone(name):
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
        """(N,) int32, the number of each row's series, in order of appearance, and the series' names."""
        values, codes = self._different(name)
        texts = pc.utf8_trim_whitespace(pc.cast(values, pa.string())).dictionary_encode()
        codes = np.append(texts.indices.to_numpy(), np.int32(-1))[codes]
        names = texts.dictionary.to_pylist()
        if len(names) < len(values):
            self.remarks.append(f"ids of column {name} that differ in white space alone are one series")
        blank = names.index("") if "" in names else -1
        missing = np.flatnonzero((codes < 0) | (codes == blank))
        if len(missing):
            raise DataError(
                f"{self.origin.at(int(missing[0]), name)}expected the name of a series, got nothing; name it."
            )
        return codes, tuple(names)

    def times(self, name: str) -> Array:
        """(N,) datetime64[us] by the wall clock, or int64 where the column holds whole numbers."""
        dtype = self.frame.schema[name]
        if dtype in (nw.Date, nw.Datetime) or self._pandas_zone(name):
            return self._stamps(name)
        if dtype.is_numeric():
            numbers = self._plain_numbers(name)
            wrong = np.flatnonzero(~(np.floor(numbers) == numbers))
            if len(wrong):
                found = numbers[wrong[0]]
                raise DataError(f"{self.at(int(wrong[0]), name)}{_A_DATE}, got {found}.")
            return self._whole(numbers.astype(np.int64))
        if not _textual(dtype):
            raise DataError(f"{self.origin.prefix()}column {name!r} holds {dtype}, not dates; convert it.")
        if dtype == nw.Object and all(type(value) is date for value in self.frame[name]):
            self.units[name] = "D"
        values, codes = self._different(name)
        texts = _plain_texts(values)
        complete = len(texts) > 0 and not texts.null_count and codes.min() >= 0
        if complete and _count(texts, r"^[+-]?\d{1,18}$") == len(texts):
            return self._whole(pc.cast(texts, pa.int64()).to_numpy())[codes]
        dates = parse_dates(pa.chunked_array([texts]), self.zone)
        self.remarks.extend(dates.remarks)
        if dates.ambiguous:
            raise DataError(
                f"{self.at(0, name)}{shown(texts, 0)} could be day or month first, and no other row "
                "decides it; write dates as 2024-01-31."
            )
        stamps: Array = np.append(dates.stamps, np.datetime64("NaT"))[codes]
        wrong = np.isnat(stamps)
        if wrong.any():
            row = int(wrong.argmax())
            found = shown(texts, int(codes[row])) if codes[row] >= 0 else "nothing"
            raise DataError(f"{self.at(row, name)}{_A_DATE}, got {found}.")
        return stamps

    def clock(self, name: str, row: int, other: int) -> str:
        """The clock by which two different instants are at one time, for a message; "" if they are one instant."""
        if name in self.zones:
            stamps = self._arrow(name)
            return f"the clock of {self.zones[name]}" if stamps[row].value != stamps[other].value else ""
        if not _textual(self.frame.schema[name]):
            return ""
        first, second = (offset_of(self.texts(name)[k].as_py()) for k in (row, other))
        return f"a clock at {first}, then {second}" if first and second and first != second else ""

    def numbers(self, name: str) -> Array:
        """(N,) float64; NaN where a value is missing."""
        dtype = self.frame.schema[name]
        if dtype.is_numeric() or self._is_null(name):
            return self._finite(name, self._plain_numbers(name))
        if not _textual(dtype):
            raise DataError(f"{self.origin.prefix()}column {name!r} holds {dtype}, not numbers; convert it.")
        texts = self.texts(name)
        try:
            column = pc.cast(texts, pa.float64())
        except pa.ArrowInvalid:
            column = pc.cast(self._with_points(name, texts), pa.float64())
        return self._finite(name, np.asarray(pc.fill_null(column, float("nan")).to_numpy()))

    def flags(self, name: str) -> Array:
        """(N,) 0 and 1 of a column of truth values; NaN where one is missing."""
        numbers = self._arrow(name).cast(pa.int8()).cast(pa.float64())
        return np.asarray(pc.fill_null(numbers, float("nan")).to_numpy())

    def _arrow(self, name: str) -> pa.ChunkedArray:
        """The column in arrow."""
        return _in_arrow(self.frame[name])

    def _different(self, name: str) -> tuple[pa.Array, Array]:
        """The values that differ, as they appear, and (N,) int32 the number of each row's own; -1 where there is none.

        Rows are taken some at a time, and what a value says is asked once: of ten million rows of text that is most of
        the memory, and of the time.
        """
        encoded = _encoded(self.frame[name])
        used = pc.unique(pc.drop_null(encoded.indices))
        numbers = np.full(len(encoded.dictionary) + 1, -1, np.int32)
        numbers[used.to_numpy()] = np.arange(len(used))
        return encoded.dictionary.take(used), numbers[np.asarray(pc.fill_null(encoded.indices, -1))]

    def _plain_numbers(self, name: str) -> Array:
        return np.asarray(
            pc.fill_null(self._arrow(name).cast(pa.float64(), safe=False), float("nan")).to_numpy()
        )

    def is_text(self, name: str) -> bool:
        """Whether a column holds texts, whatever they say."""
        return _textual(self.frame.schema[name])

    def is_whole(self, name: str) -> bool:
        """Whether a column holds integers, which a missing value may have turned into floats."""
        dtype = self.frame.schema[name]
        if dtype not in (nw.Float32, nw.Float64):
            return bool(dtype.is_integer())
        numbers = self._plain_numbers(name)
        return bool((np.floor(numbers) == numbers).all())

    def _is_null(self, name: str) -> bool:
        """Whether polars or arrow know of a column only that it has no value."""
        return self.frame.schema[name] == nw.Unknown and pa.types.is_null(self._arrow(name).type)

    def _pandas_zone(self, name: str) -> str:
        """The time zone of a column of pandas whose dtype narwhals does not know, such as America/New_York; or ""."""
        if self.frame.schema[name] != nw.Unknown:
            return ""
        zone = getattr(getattr(self.frame[name].to_native(), "dtype", None), "tz", None)
        return "" if zone is None else str(zone)

    def _stamps(self, name: str) -> Array:
        series = self.frame[name]
        zone = self._pandas_zone(name)
        if zone:
            stamps = series.to_native().dt
            stamps = stamps.tz_convert(self.zone).dt if self.zone else stamps
            series = nw.from_native(stamps.tz_localize(None), series_only=True)
        elif isinstance(series.dtype, nw.Datetime) and series.dtype.time_zone is not None:
            zone = series.dtype.time_zone
            if self.zone and canonical(zone) != self.zone:
                series = series.dt.convert_time_zone(self.zone)
            series = series.dt.replace_time_zone(None)
        if zone:
            zone = self.zone or zone
            self.zones[name] = canonical(zone)
            self.remarks.append(f"times are read as the wall clock of {zone} shows them")
        self.units[name] = series.dtype.time_unit if isinstance(series.dtype, nw.Datetime) else "D"
        if null := int(series.null_count()):
            row = int(np.flatnonzero(series.is_null().to_numpy())[0])
            several = f", as in {null} rows" if null > 1 else ""
            raise DataError(f"{self.at(row, name)}{_A_DATE}, got nothing{several}.")
        stamps = np.asarray(series.to_numpy())
        exact: Array = stamps.astype("datetime64[us]", copy=False)
        finer = exact != stamps if stamps.dtype.kind == "M" else np.zeros(0, bool)
        if finer.any():
            row = int(finer.argmax())
            raise DataError(
                f"{self.at(row, name)}expected a time of whole microseconds, got {stamps[row]}; round it."
            )
        return days_of(exact, zone) if zone else exact

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
                f"{self.at(row, name)}the comma in {shown(texts, row)} could be a decimal or a "
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
        raise DataError(f"{self.at(row, name)}expected a number, got {shown(texts, row)}; {_REPAIR}.")

    def _finite(self, name: str, numbers: Array) -> Array:
        infinite = np.flatnonzero(np.isinf(numbers))
        if len(infinite):
            several = f" ({len(infinite)} such rows)" if len(infinite) > 1 else ""
            place = self.at(int(infinite[0]), name)
            found = "-Inf" if numbers[infinite[0]] < 0 else "Inf"
            raise DataError(f"{place}expected a finite number, got {found}{several}; {_REPAIR}.")
        sizes = np.nan_to_num(np.abs(numbers), copy=False)
        row = int(sizes.argmax())
        if sizes[row] > LARGEST or 0 < sizes[row] < SMALLEST:
            unit = "larger" if sizes[row] > LARGEST else "smaller"
            raise DataError(
                f"{self.at(row, name)}the square of {numbers[row]:g} is beyond what a computer counts; "
                f"give the column in a {unit} unit."
            )
        return numbers


def _plain_texts(column: Any) -> Any:
    """Text without white space around it; null for any spelling of missing."""
    texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.is_in(texts, pa.array(_MISSING)), pa.scalar(None, pa.string()), texts)


def _encoded(series: Any) -> pa.DictionaryArray:
    """A column as its different values, some maybe unused, and the number of each row's own."""
    parts = []
    for b in range(0, max(len(series), 1), _BLOCK):
        part = _in_arrow(series[b : b + _BLOCK])
        if str(part.type) in ("null", "string_view"):  # which arrow does not encode everywhere
            part = part.cast(pa.string())
        if not pa.types.is_dictionary(part.type):
            part = part.dictionary_encode()
        for chunk in part.chunks:
            parts.append(pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary))
    encoded = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
    values = encoded.dictionary
    if not pa.types.is_floating(values.type):
        return encoded
    # Integers that a missing value turned into floats.
    missing = pc.any(pc.is_nan(values)).as_py()
    if missing or not pc.all(pc.equal(pc.floor(values), values)).as_py():
        return encoded
    return pa.DictionaryArray.from_arrays(encoded.indices, values.cast(pa.int64()))


def _in_arrow(series: Any) -> pa.ChunkedArray:
    """A column or some rows of it; Python objects become text, None stays missing."""
    if series.dtype == nw.Object:
        values = [None if value is None or value != value else str(value) for value in series]
        return pa.chunked_array([pa.array(values, pa.string())])
    try:
        native = series.to_arrow()
    except pa.ArrowNotImplementedError as error:
        raise DataError(
            f"column {series.name!r} holds {series.dtype}, which cannot be read: {error}."
        ) from None
    return native if isinstance(native, pa.ChunkedArray) else pa.chunked_array([native])


def shown(texts: pa.ChunkedArray, row: int) -> str:
    """A cell for a message."""
    value = texts[row].as_py()
    return "nothing" if value is None else repr(value if len(value) <= 40 else value[:39] + "…")


def _textual(dtype: Any) -> bool:
    return dtype in (nw.String, nw.Categorical, nw.Object) or isinstance(dtype, nw.Enum)


def _count(texts: pa.ChunkedArray, pattern: str) -> int:
    return pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0
