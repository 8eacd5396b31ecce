"""A line of CSV, and what its cells say."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.network.forecaster import Covariate
from carousel.series.covariates import category_codes
from carousel.series.zones import in_zone, minutes_ahead
from carousel.stream.covariates import check_covariate
from carousel.stream.lines import LINE_LIMIT

__all__ = ["Dialect", "has_offset", "place", "stamp"]

_SEPARATORS = ",;\t|"
_MISSING = {"", "na", "nan", "null", "none"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d*|[1-9]\d{0,2}(\.\d{3})+),\d+([eE][+-]?\d+)?")
_THOUSANDS_COMMA = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_THOUSANDS_POINT = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_TIME = re.compile(r"(\d{4}-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?)?)?)(Z|[+-]\d\d:?\d\d)?")
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?![^T ])")
_QUARTER = re.compile(r"(\d{4})[- ]?[Qq]([1-4])")
_WEEK = re.compile(r"(\d{4})[- ]?[Ww](\d\d)(?:-?([1-7]))?")
_FLAGS = {"true": 1.0, "false": 0.0}


@dataclass
class Dialect:
    """What separates the cells of a line, and what a comma in a number says.

    Args:
        decimal: whether a comma stands before decimals, or else between thousands; None until a number has shown it.
    """

    separator: str = ","
    decimal: bool | None = None

    @classmethod
    def of(cls, line: bytes, fit: Callable[[list[str]], int]) -> Dialect:
        """That whose cells of `line` fit best, in doubt the comma; but where another splits as well, that one, for the
        commas may be decimal.
        """

        def measured(dialect: Dialect) -> tuple[int, bool]:
            try:
                cells = dialect.split(line)
            except DataError:  # a quoted cell may hold another separator
                return -1, False
            fits = fit(cells)
            return fits, fits > 0 and len(cells) > 1 and dialect.separator != ","

        return max((cls(separator) for separator in _SEPARATORS), key=measured)

    def split(self, line: bytes) -> list[str]:
        """The cells of a line.

        Raises:
            DataError: it is no CSV, not UTF-8 or too long.
        """
        if len(line) > LINE_LIMIT:
            raise DataError(f"it is longer than {LINE_LIMIT} bytes")
        try:
            text = line.decode("utf-8-sig")
            return next(csv.reader([text], strict=True, delimiter=self.separator), []) or [""]
        except UnicodeDecodeError:
            raise DataError("it is not UTF-8") from None
        except csv.Error as error:
            raise DataError(f"it is not CSV: {error}") from None

    def is_number(self, cell: str) -> bool:
        """Whether it is a number, or missing."""
        text = cell.strip()
        patterns = (_NUMBER, _DECIMAL_COMMA, _THOUSANDS_COMMA)
        return text.lower() in _MISSING or any(pattern.fullmatch(text) for pattern in patterns)

    def number(self, cell: str, what: str, typical: Callable[[], float] | None = None) -> float:
        """A number; NaN where it is missing.

        Args:
            typical: gives the size that such numbers have, which tells what a comma says where nothing else does.

        Raises:
            DataError: it is something else; `what` says what should be one.
        """
        text = cell.strip()
        if text.lower() in _MISSING:
            return float("nan")
        if "," in text or self.decimal:
            text = self._with_point(text, what, typical)
        if _NUMBER.fullmatch(text) is None or not isfinite(float(text)):
            raise DataError(
                f"{what} must be a finite number, or empty where it is missing, got {cell.strip()[:40]!r}"
            )
        return float(text)

    def covariate(self, cell: str, column: Covariate) -> float | str:
        """A number, 1 and 0 for true and false, or a category; NaN where it is missing.

        Raises:
            DataError: a number was fitted, and it is none, or too large or too small to count with.
        """
        cell = cell.strip()
        if column.categories is not None:
            missing = np.isnan(category_codes([cell], column.categories)[0])  # "none" may be a category
            return float("nan") if missing else cell
        flag = _FLAGS.get(cell.lower())
        what, typical = f"the covariate {column.name!r}", lambda: abs(column.center) + column.scale
        number = self.number(cell, what, typical) if flag is None else flag
        check_covariate(column, np.array([number]))
        return number

    def learn(self, cell: str) -> None:
        """Looks at a cell that need not be a number for what commas say."""
        text = cell.strip()
        decimal, thousands = (pattern.fullmatch(text) for pattern in (_DECIMAL_COMMA, _THOUSANDS_COMMA))
        if "," in text and bool(decimal) != bool(thousands):
            self.decimal = bool(decimal)

    def learn_line(self, line: bytes) -> None:
        """`learn`, of every cell of a line that need not be CSV."""
        if b"," in line:
            with suppress(DataError):
                for cell in self.split(line):
                    self.learn(cell)

    def _with_point(self, text: str, what: str, typical: Callable[[], float] | None) -> str:
        """A number as Python writes it; what is none, as it is.

        Raises:
            DataError: nothing says what its comma says.
        """
        self.learn(text)
        decimal = self.decimal
        if decimal is None and _THOUSANDS_COMMA.fullmatch(text):
            decimal = None if typical is None else _is_decimal(text, typical())
            if decimal is None:
                raise DataError(
                    f"{what}, {text[:40]!r}, may have a decimal comma or one between thousands, and nothing shows "
                    "which; write numbers with a point"
                )
        if decimal and (_DECIMAL_COMMA.fullmatch(text) or _THOUSANDS_POINT.fullmatch(text)):
            return text.replace(".", "").replace(",", ".")
        return text.replace(",", "") if _THOUSANDS_COMMA.fullmatch(text) else text


def _is_decimal(text: str, typical: float) -> bool | None:
    """Whether the comma in 1,995 stands before decimals, by the size that such numbers have; None if that is unlike."""
    sizes = np.array([float(text.replace(",", "")), float(text.replace(",", "."))])
    with np.errstate(divide="ignore"):
        away = np.abs(np.log10(np.abs(sizes) / typical))
    return bool(away[1] < away[0]) if away.min() < 1 else None


def place(cells: list[str], names: tuple[str, ...], what: str) -> int:
    """Where the first of `names` that is there stands in a header.

    Raises:
        DataError: none of them is there; `what` says for what it was.
    """
    for name in names:
        if name in cells:
            return cells.index(name)
    wanted = " or ".join(map(repr, dict.fromkeys(names)))
    raise DataError(f"The header has no column for {what}: {wanted} is not among {', '.join(cells)}.")


def stamp(cell: str, dtype: np.dtype[Any], zone: str | None = None) -> Any:
    """The time stamp in a text, as a model of `dtype` counts: 2024-01-31 23:00, 31.01.2024 23:00, 2024Q1 or
    2024-W05.

    Args:
        zone: of the model, whose clock tells a time that carries an offset; without one, offsets are dropped.

    Raises:
        DataError: it is none.
    """
    if dtype.kind == "i":
        if not re.fullmatch(r"[+-]?\d{1,18}", cell):
            raise DataError(f"the time must be a whole number, got {cell[:40]!r}")
        return np.int64(cell)
    try:
        match = _TIME.fullmatch(_year_first(cell))
        if match is None:
            raise ValueError
        time = np.datetime64(match[1].replace(" ", "T"), "us")
        if match[7]:
            there = in_zone(np.array([time]), np.array([minutes_ahead(match[7])]), zone)
            time = time if there is None else there[0]
        return time
    except ValueError:
        raise DataError(f"the time must be as in 2024-01-31 23:00, got {cell[:40]!r}") from None


def has_offset(cell: str) -> bool:
    """Whether a text that `stamp` reads carries an offset from UTC."""
    match = _TIME.fullmatch(_year_first(cell))
    return match is not None and match[7] is not None


def _year_first(cell: str) -> str:
    """Dates of other forms with the year first, then the month; any other text as it is.

    Raises:
        ValueError: a week that its year does not have.
    """
    if quarter := _QUARTER.fullmatch(cell):
        return f"{quarter[1]}-{3 * int(quarter[2]) - 2:02}"
    if week := _WEEK.fullmatch(cell):
        return datetime.date.fromisocalendar(int(week[1]), int(week[2]), int(week[3] or 1)).isoformat()
    if day := _DAY_FIRST.match(cell):
        return f"{day[3]}-{day[2]:0>2}-{day[1]:0>2}{cell[day.end() :]}"
    return cell
