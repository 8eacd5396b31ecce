"""A file of the user as a table: CSV (plain or gzip, any usual separator) and Parquet.

What is inside decides, not the suffix. A CSV is read as text, cell by cell as it stands; what a cell means
is decided in `columns.py`, where the column's role is known, so that a series called 007 keeps its name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carousel.errors import DataError, FormatError
from carousel.forecast.memory import give_back

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Origin", "read_table"]

_SEPARATORS = (",", ";", "\t", "|")
_UTF8, _UTF16 = (b"\xef\xbb\xbf",), (b"\xff\xfe", b"\xfe\xff")  # byte-order marks
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_NUMBER_OR_DATE = re.compile(rf"({_NUMBER.pattern}|\d{{1,4}}[-/.]\d{{1,2}}([-/.]\d{{1,4}})?([T ][\d:.]+)?)Z?")
_KEY = b"carousel"
_HEAD = 1 << 20  # bytes that hold the header, for sure


@dataclass(frozen=True)
class Origin:
    """Where a table came from, so that a message can name the file and the line.

    It travels in the metadata of the table's schema; a table of other making has the empty one.

    Args:
        path: the file; empty for a frame in memory.
        separator: of a CSV; empty for Parquet.
        first: lines above the first row: 1 for a header.
        remarks: what reading the file had to assume.
    """

    path: str = ""
    separator: str = ""
    first: int = 0
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Any) -> Origin:
        """The origin that `read_table` left in a table."""
        document = ((table.schema.metadata or {}) if _is_table(table) else {}).get(_KEY)
        if document is None:
            return cls()
        fields = json.loads(document)
        return cls(**{**fields, "remarks": tuple(fields["remarks"])})

    def mark(self, table: pyarrow.Table) -> pyarrow.Table:
        """The table with this origin in it."""
        return table.replace_schema_metadata(
            {**(table.schema.metadata or {}), _KEY: json.dumps(asdict(self))}
        )

    def row(self, index: int) -> str:
        """Row `index`, counted from 0: `line 17` of a CSV, else `row 15`.

        The file is read again to get there, for blank lines and line breaks in quotes shift the numbers.
        """
        if not self.separator:
            return f"row {index}"
        try:
            for line, _ in islice(_records(_text(_bytes(self.path), self.path), self), index, None):
                return f"line {line}"
        except (OSError, FormatError):
            pass  # a pipe cannot be read twice
        return f"row {index}"

    def rows(self, *indices: int) -> str:
        """Several rows: `lines 17 and 18`."""
        places = [self.row(index) for index in indices]
        return f"{places[0].split()[0]}s {' and '.join(place.split()[1] for place in places)}"

    def prefix(self) -> str:
        """How a message about the whole table begins."""
        return f"{self.path}: " if self.path else ""

    def at(self, index: int, column: str) -> str:
        """How a message about one cell begins."""
        path = f"{self.path}, " if self.path else ""
        return f"{path}{self.row(index)}, column {column!r}: "


def read_table(path: str | Path) -> pyarrow.Table:
    """Reads a CSV or Parquet file, `.gz` too.

    The separator is the one that splits the header line most (comma, semicolon, tab, bar); UTF-8 and, with
    its mark, UTF-16 are read. A first line of numbers and dates only is a row, not a header.

    Returns:
        the table; columns of a CSV are text.

    Raises:
        OSError: the file cannot be read.
        FormatError: it is neither CSV nor Parquet, or damaged.
        DataError: it is empty, has a header only, a row of another length or a column name twice.
    """
    name = str(path)
    data = _bytes(name)
    if data[:4] == b"PAR1":
        table, origin = _parquet(data, name), Origin(name)
    else:
        if name.endswith((".parquet", ".pq")):
            raise FormatError(f"{name} is not a Parquet file: it does not start with PAR1.")
        table, origin = _csv(_text(data, name), name)
    del data
    give_back()
    names = table.column_names
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        places = " and ".join(str(i + 1) for i, n in enumerate(names) if n == twice)
        raise DataError(f"{name}: columns {places} are both called {twice!r}; rename one of them.")
    if not table.num_rows:
        raise DataError(f"{name} has a header ({_listed(names)}) and no rows; give it at least two.")
    return origin.mark(table)


def _is_table(value: object) -> bool:
    """Whether this is a pyarrow.Table, without importing pyarrow for those who have none."""
    return type(value).__module__.split(".")[0] == "pyarrow"


def _bytes(name: str) -> bytes:
    """The content of a file, unpacked where it is gzip."""
    data = Path(name).read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise FormatError(f"{name} is a damaged or incomplete gzip file ({error}); fetch it again.") from None


def _parquet(data: bytes, name: str) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).read()
    except (pyarrow.ArrowException, OSError):
        raise FormatError(f"{name} is a damaged or incomplete Parquet file; write it again.") from None


def _text(data: bytes, name: str) -> bytes:
    """The content of a CSV as UTF-8 without a mark."""
    if data.startswith(_UTF16):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise FormatError(f"{name} starts as UTF-16 text but is not; save it as UTF-8.") from None
    data = data.removeprefix(_UTF8[0])
    if data[:4] == b"PK\x03\x04":
        raise FormatError(f"{name} is a workbook or archive, not text; export the sheet as CSV (UTF-8).")
    if b"\0" in data[:65536]:
        raise FormatError(
            f"{name} is neither text nor Parquet: it has zero bytes; give a CSV or Parquet file."
        )
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if not _end(data):
        raise DataError(f"{name} is empty; give a CSV or Parquet file with a header and rows.")
    return data


def _end(data: bytes) -> int:
    """Where the blank lines at the end begin."""
    end = len(data)
    while end and data[end - 1 : end].isspace():
        end -= 1
    return end


def _csv(data: bytes, name: str) -> tuple[pyarrow.Table, Origin]:
    import pyarrow
    import pyarrow.csv

    names, origin = _header(data, name)
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(pyarrow.py_buffer(data).slice(0, _end(data))),  # a copy may be large
            pyarrow.csv.ReadOptions(column_names=names, skip_rows=origin.first),
            # In a file of one column a blank line is a missing value; else it is nothing.
            pyarrow.csv.ParseOptions(
                delimiter=origin.separator, newlines_in_values=b'"' in data, ignore_empty_lines=len(names) > 1
            ),
            pyarrow.csv.ConvertOptions(column_types={column: pyarrow.string() for column in names}),
        )
    except pyarrow.ArrowInvalid as error:
        _decoded(data, name)
        _check_quotes(data, origin)
        if next(_records(data, origin), None) is not None:
            raise _fault(data, names, origin, error) from None
        table = pyarrow.table([pyarrow.array([], pyarrow.string())] * len(names), names)
    if b'"' in data and _may_be_open(data, table, origin):
        _check_quotes(data, origin)
    return table, origin


def _may_be_open(data: bytes, table: pyarrow.Table, origin: Origin) -> bool:
    """Whether a quote may be open at the end, where only the slow way can say so."""
    if not table.num_rows or any("\n" in column[-1].as_py() for column in table.columns):
        return True
    end = _end(data)
    return _is_open([data[data.rfind(b"\n", 0, end) + 1 : end].decode()], origin)


def _is_open(lines: list[str], origin: Origin) -> bool:
    """Whether a record that begins with these lines has a quote that is not closed in them."""
    try:
        next(csv.reader(lines, delimiter=origin.separator, strict=True), None)
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _check_quotes(data: bytes, origin: Origin) -> None:
    """Refuses a file whose last record has a quote that is never closed, and so goes on to the end."""
    lines = io.StringIO(data[: _end(data)].decode(), newline=None).readlines()
    reader, begun, ended = csv.reader(lines, delimiter=origin.separator), 0, 0
    try:
        for _ in reader:
            begun, ended = ended, reader.line_num
        is_open = _is_open(lines[begun:], origin)
    except csv.Error:  # a cell too long for this reader, over many lines
        begun, is_open = ended, reader.line_num > ended + 1
    if is_open:
        raise DataError(
            f"{origin.path}, line {begun + 1}: a quote is opened and never closed; close it, or leave it out."
        )


def _header(data: bytes, name: str) -> tuple[list[str], Origin]:
    """The column names, and how the file is to be read on."""
    text = _decoded(data[:_HEAD], name, cut=len(data) > _HEAD)
    head = list(io.StringIO(text, newline=None))
    readers = [csv.reader(head, delimiter=separator, skipinitialspace=True) for separator in _SEPARATORS]
    try:
        firsts = [next(cells for cells in reader if cells) for reader in readers]
    except csv.Error as error:
        raise FormatError(f"{name} cannot be read as CSV: {error}.") from None
    best = max(range(len(firsts)), key=lambda k: len(firsts[k]))  # the first of equals
    cells = [cell.strip() for cell in firsts[best]]
    if all(_NUMBER_OR_DATE.fullmatch(cell) for cell in cells):
        names = [f"column_{k + 1}" for k in range(len(cells))]
        remark = f"no header line: the columns are called {_listed(names)}"
        return names, Origin(name, _SEPARATORS[best], 0, (remark,))
    # A first column without a name is the index that pandas writes; others come from trailing separators.
    names = [cell or (f"column_{k + 1}" if k else "") for k, cell in enumerate(cells)]
    return names, Origin(name, _SEPARATORS[best], readers[best].line_num)


def _decoded(data: bytes, name: str, cut: bool = False) -> str:
    """UTF-8 as text; of data that was cut, the last few bytes may be half a letter."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if cut and error.start >= len(data) - 4:
            return data[: error.start].decode()
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise FormatError(
            f"{name}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8."
        ) from None


def _records(data: bytes, origin: Origin) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with its line number; the slow way, for messages."""
    reader = csv.reader(io.StringIO(data.decode(), newline=None), delimiter=origin.separator)
    try:
        for cells in reader:
            if reader.line_num > origin.first and cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise FormatError(f"{origin.path} cannot be read as CSV: {error}.") from None


def _fault(data: bytes, names: list[str], origin: Origin, error: Exception) -> Exception:
    """What is wrong with a file that the CSV reader gave up on."""
    for line, cells in _records(data, origin):
        if len(cells) != len(names):
            values = "value" if len(cells) == 1 else "values"
            return DataError(
                f"{origin.path}, line {line}: {len(cells)} {values} where the first line has {len(names)} "
                f"({_listed(names)}); repair the line, or quote a value that holds {origin.separator!r}."
            )
    return FormatError(f"{origin.path} cannot be read as CSV: {str(error).splitlines()[0]}.")


def _listed(names: list[str], most: int = 8) -> str:
    """Column names for a message."""
    return ", ".join(" ".join(name.split()) for name in names[:most]) + (
        f", … {len(names) - most} more" if len(names) > most else ""
    )
