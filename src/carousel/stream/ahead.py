"""A file of what is known ahead: the future covariates of rows to come, which `carousel stream --future` reads."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.stream.cells import Dialect, has_offset, place, stamp
from carousel.stream.forecaster import ForecasterModel

__all__ = ["AheadRows"]

Array = np.ndarray[Any, Any]
Values = tuple[float | str, ...]
NAN = float("nan")


class AheadRows:
    """The rows of a CSV file with a header, by series and time; the file is read again when it has changed.

    Args:
        path: of the file: the columns of id, if there are several series, and of time, if rows are not merely
            counted, and every future covariate. Rows that are counted follow on the last fitted one.
        model: reads future covariates.
        id: column that tells series apart; that of the model without.

    Raises:
        DataError: it cannot be used; the text names the line.
        OSError: the system could not read.
    """

    def __init__(self, path: str, model: ForecasterModel, id: str | None = None) -> None:
        assert model.covariates is not None
        self._path, self._model, self.columns = path, model, model.covariates.future
        fitted = model.value.columns
        self._names = {
            "the series": tuple(filter(None, (id or fitted.id, "unique_id"))),
            "the time": tuple(filter(None, (fitted.time, "ds"))),
        }
        self._dated = fitted.time is not None
        self.offsets = False  # whether a time in it carries one from UTC
        self._version = self._stamp()
        self._rows = self._read()

    def renew(self) -> str:
        """Reads the file again if it has changed; "", or why the rows of before are kept."""
        try:
            if (version := self._stamp()) == self._version:
                return ""
            self._version = version
            self._rows = self._read()
        except (DataError, OSError) as error:
            return f"{str(error).rstrip('.')}; what was known before is used"
        return ""

    def values(self, name: str, times: Array) -> dict[str, list[float | str]]:
        """By column, the values of a series at these times (N,); NaN where the file has none."""
        of_series = self._rows.get(name, {})
        nothing: Values = (NAN,) * len(self.columns)
        rows = [of_series.get(int(time), nothing) for time in times.astype(np.int64)]
        return {column.name: [row[c] for row in rows] for c, column in enumerate(self.columns)}

    def _stamp(self) -> tuple[int, int, int]:
        status = os.stat(self._path)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> dict[str, dict[int, Values]]:
        rows: dict[str, dict[int, Values]] = {}
        lines: dict[tuple[str, int], int] = {}
        with open(self._path, newline="", encoding="utf-8-sig") as file:
            reader: Any = csv.reader(())
            try:
                first = next((line for line in file if line.strip()), "")
                dialect = Dialect.of(first.encode(), self._known)
                file.seek(0)
                for line in file:
                    dialect.learn_line(line.encode())
                file.seek(0)
                reader = csv.reader(file, strict=True, delimiter=dialect.separator)
                for name, time, values in self._parsed(reader, dialect):
                    before = lines.setdefault((name, time), reader.line_num)
                    if before != reader.line_num:
                        raise DataError(f"it has the time and series of line {before}; remove one of them")
                    rows.setdefault(name, {})[time] = values
            except csv.Error as error:
                raise DataError(
                    f"{self._path}: line {max(1, reader.line_num)}: it is not CSV: {error}."
                ) from None
            except UnicodeDecodeError:
                raise DataError(f"{self._path} is not UTF-8.") from None
            except DataError as error:
                raise DataError(
                    f"{self._path}: line {max(1, reader.line_num)}: {str(error).rstrip('.')}."
                ) from None
        return rows

    def _known(self, header: list[str]) -> int:
        """How many of these are columns that are looked for."""
        known = {*self._names["the series"], *self._names["the time"], *(c.name for c in self.columns)}
        return len(known & {cell.strip() for cell in header})

    def _parsed(self, reader: Any, dialect: Dialect) -> Iterator[tuple[str, int, Values]]:
        """Name of the series, time and values of each row."""
        ids = self._model.value.ids
        header = [cell.strip() for cell in next(filter(any, reader), [])]
        named = len(ids) > 1 or bool(set(self._names["the series"]) & set(header))
        of_id = place(header, self._names["the series"], "the series") if named else None
        of_time = place(header, self._names["the time"], "the time") if self._dated else None
        places = [place(header, (column.name,), "a future covariate") for column in self.columns]
        due = dict(zip(ids, self._model.last().next, strict=True))
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(f"it must have {len(header)} columns, got {len(cells)}")
            name = ids[0] if of_id is None else cells[of_id].strip()
            if name not in due:
                continue
            time = due[name]
            if of_time is None:
                due[name] = self._model.frequency.shift(time, np.int64(1))
            else:
                cell = cells[of_time].strip()
                at = stamp(cell, time.dtype, self._model.value.columns.zone)
                self.offsets = self.offsets or has_offset(cell)
                time = self._model.frequency.placed(np.asarray(at).astype(time.dtype))
            given = (cells[p] for p in places)
            yield name, int(time.astype(np.int64)), tuple(map(dialect.covariate, given, self.columns))
