"""Where results go: a path is checked before the work, and written as a whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carousel.errors import ArgumentError

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure

    from carousel.forecast.names import Names
    from carousel.network.forecaster import Columns

__all__ = [
    "LINES",
    "PAGES",
    "PICTURES",
    "TABLES",
    "as_table",
    "check_ending",
    "check_path",
    "figure_bytes",
    "forecast_bytes",
    "put",
    "say",
    "write",
]

_PARQUET = (".parquet", ".pq")
TABLES = (".csv", *_PARQUET)
LINES = (".jsonl", ".ndjson", ".json")
PAGES = (".html", ".htm")
PICTURES = (".png", ".svg", ".pdf")
"""Endings of what each command writes."""
_OTHERS = (".gz", ".bz2", ".xz", ".zst", ".zip", ".arrow", ".feather", ".ods", ".tsv", ".xls", ".xlsx")
_FORMATS = {*TABLES, *LINES, *PAGES, *PICTURES, *_OTHERS}


def check_path(option: str, path: str | None, *others: str | None, device: bool = False) -> None:
    """Refuses a path that could not be written after the work; leaves nothing behind.

    Args:
        option: what the user knows the path as.
        path: the path; None is always fine.
        *others: paths of this run that must not be overwritten, such as the data.
        device: whether something else than a file, such as /dev/stdout, may be written to.

    Raises:
        ArgumentError: a directory, a device, or one of `others`.
        OSError: the system says no: no permission, no space.
    """
    if path is None:
        return
    target = Path(path).resolve()
    for other in others:
        if other is not None and Path(other).resolve() == target:
            raise ArgumentError(
                f"{option} {path} would overwrite another file of this run; choose another path."
            )
    if not path or target.is_dir():
        raise ArgumentError(
            f"{option} must be a file, but {path!r} is {'a directory' if path else 'no name'}."
        )
    if Path(path).exists() and not Path(path).is_file():  # before `target`: a pipe resolves to no path
        if not device:
            raise ArgumentError(f"{option} must be a file, but {path} is a device or the like.")
        return
    if not target.parent.is_dir():
        raise ArgumentError(f"{option} {path} lies in a directory that does not exist; make it first.")
    try:
        if target.exists():
            target.open("ab").close()
        with tempfile.TemporaryFile(dir=target.parent) as trial:
            trial.write(bytes(4096))
    except OSError as error:
        raise _unwritable(path, error) from None


def write(path: str, content: bytes) -> None:
    """Makes `path` hold `content`: a file is replaced as a whole, a device is written to."""
    from carousel.network import atomic

    try:
        if Path(path).exists() and not Path(path).is_file():
            with open(path, "wb", buffering=0) as device:
                device.write(content)
        else:
            atomic.write(path, [content])
    except OSError as error:
        raise _unwritable(path, error) from None


def as_table(frame: Any, columns: Columns | Names) -> pyarrow.Table:
    """A frame of forecasts as a table; id and time are called `unique_id` and `ds`, whatever they were."""
    import narwhals

    table = narwhals.from_native(frame, eager_only=True).to_arrow()
    names = {columns.id: "unique_id", columns.time: "ds"}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def forecast_bytes(table: pyarrow.Table, path: str | None = None) -> bytes:
    """A forecast as Parquet where the suffix of `path` says so, else as CSV."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    sink = io.BytesIO()
    if path is not None and _ending(path) in _PARQUET:
        pyarrow.parquet.write_table(table, sink)
        return sink.getvalue()
    for k, field in enumerate(table.schema):
        if pyarrow.types.is_timestamp(field.type):
            table = table.set_column(k, field.name, _short_times(table.column(k)))
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(table.column_names)
    try:
        plain = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
        pyarrow.csv.write_csv(table, sink, plain)
    except pyarrow.ArrowInvalid:  # a name that holds a comma or a quote
        sink = io.BytesIO()
        pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(include_header=False))
    return header.getvalue().encode() + sink.getvalue()


def figure_bytes(figure: Figure, path: str) -> bytes:
    """A picture in the format that the suffix of `path` names."""
    from carousel.forecast.glyphs import save

    sink = io.BytesIO()
    save(figure, sink, warn=partial(say, err=True), format=_ending(path)[1:], dpi=150)
    return sink.getvalue()


def check_ending(option: str, path: str | None, endings: tuple[str, ...], only: bool = False) -> None:
    """Refuses a file whose ending promises what is not written; upper and lower case are the same.

    Args:
        only: there must be one of the endings; without, a name may have none, or one that promises nothing.
    """
    if path is None or _ending(path) in endings or (Path(path).exists() and not Path(path).is_file()):
        return
    if only or _ending(path) in _FORMATS:
        raise ArgumentError(
            f"{option} must end in {', '.join(endings)}{', or in none' * (not only)}, got {path}."
        )


def _ending(path: str) -> str:
    return Path(path).suffix.lower()


def say(*lines: object, err: bool = False) -> None:
    """Lines for the user: results on stdout, or remarks on stderr where stdout is the result."""
    for line in lines:
        if err:
            with suppress(OSError):  # a remark that cannot be said stops nothing
                click.echo(line, err=True)
        else:
            put(f"{line}\n".encode())


def put(content: bytes) -> None:
    """Bytes to stdout.

    A reader that has gone, as `head` does, has what it wanted: the rest goes nowhere, and the work goes on,
    for there may be a file to write.

    Raises:
        OSError: stdout is a file on a disk that is full.
    """
    try:
        click.echo(content, nl=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise _unwritable("stdout", error) from None


def _short_times(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Time stamps as text, by the wall clock: 2024-01-31 where all are midnight, else 2024-01-31 23:00:00, or finer."""
    import pyarrow
    import pyarrow.compute as pc

    from carousel.series.zones import wall_clock

    if column.type.tz is not None:
        utc = column.cast(pyarrow.timestamp("us")).to_numpy()
        column = pyarrow.chunked_array([pyarrow.array(wall_clock(utc, column.type.tz))])

    for unit, form in (("day", "%Y-%m-%d"), ("second", "%Y-%m-%d %H:%M:%S")):
        if pc.all(pc.equal(pc.floor_temporal(column, unit=unit), column)).as_py():
            return pc.strftime(column.cast(pyarrow.timestamp("s")), form)
    return pc.strftime(column, "%Y-%m-%d %H:%M:%S")


def _unwritable(path: str, error: OSError) -> OSError:
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, BrokenPipeError):
        return error
    return OSError(error.errno, f"cannot be written: {reason}", path)
