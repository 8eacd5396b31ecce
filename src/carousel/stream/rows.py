"""Rows of text through a model: a line of CSV in, a line of JSON out, the state of every stream kept.

`rows(model)` gives what fits the model. A row is answered in two steps, so that a state holds exactly the rows
whose answers have gone out: `answer` changes nothing, `keep` makes its state the stream's.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from carousel.errors import DataError
from carousel.series.history import Context
from carousel.series.unit import TITLES, without
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel, check_target_alone
from carousel.stream.lines import LINE_LIMIT
from carousel.stream.network import NetworkModel, State

__all__ = ["Answer", "ForecasterRows", "NetworkRows", "forecast_fields", "rows", "shown", "stamp"]

Array = np.ndarray[Any, Any]
Header = Literal["auto", "yes", "no"]

_MISSING = {"", "na", "nan", "null", "none"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"(\d{4}-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?)?)?)(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class Answer:
    """What a row gives: the line of JSON without its end, and the state after it.

    Args:
        remark: what the user should know about the row; "" for nothing.
    """

    text: str
    stream: str
    state: Any
    remark: str = ""


def rows(
    model: NetworkModel | ForecasterModel, header: Header, id: str | None
) -> NetworkRows | ForecasterRows:
    """What takes rows for `model`.

    Args:
        header: whether the first line names the columns; "auto" looks at it.
        id: column that tells streams apart; without, that of the model.
    """
    if isinstance(model, NetworkModel):
        return NetworkRows(model, header, id)
    return ForecasterRows(model, header, id)


class NetworkRows:
    """Rows of features; `y` of the JSON is the output.

    Args:
        model: reads forwards only.
    """

    def __init__(self, model: NetworkModel, header: Header = "auto", id: str | None = None) -> None:
        model.advance(
            np.zeros((0, 1) if model.network.takes_ids else (0, 1, model.network.input_size), _kind(model)),
            model.start(),
        )
        self.model, self.states = model, dict[str, State]()
        self._header, self._id, self._place = header, id, None if id is None else 0

    def first(self, line: bytes) -> bool:
        """Looks at the first line; whether it is the header."""
        cells = _cells(line)
        given = self._header == "yes" or (
            self._header == "auto" and not all(map(_is_number, cells[self._place is not None :]))
        )
        if given and self._id is not None:
            self._place = _place(cells, (self._id,), "--id")
        return given

    def answer(self, number: int, line: bytes) -> Answer:
        """What the row gives; nothing is changed.

        Raises:
            DataError: it cannot be used; the text says why.
        """
        cells = _cells(line)
        name = ""
        if self._place is not None:
            _check_count(cells, self._place + 1, "at least ")
            name = cells.pop(self._place).strip()
        I = 1 if self.model.network.takes_ids else self.model.network.input_size
        _check_count(cells, I)
        x = np.array([_number(cell, "a feature") for cell in cells])
        if not np.isfinite(x).all():
            raise DataError("a feature is missing; a network needs all of them")
        y, state = self._step(x, self.states[name] if name in self.states else self.model.start())
        fields = {"line": number, **({} if self._place is None else {"unique_id": name}), "y": _floats(y[0])}
        return Answer(_json(fields), name, state)

    def keep(self, answer: Answer) -> None:
        """The row has been answered: its state is the stream's."""
        self.states[answer.stream] = answer.state

    def _step(self, x: Array, state: State) -> tuple[Array, State]:
        if not self.model.network.takes_ids:
            return self.model.step(x[None].astype(self.model.network.dtype), state)
        if x[0] % 1:
            raise DataError(f"an id must be a whole number, got {x[0]:g}")
        y, state = self.model.advance(x[None].astype(np.int64), state)
        return y.reshape(1, -1), state


class ForecasterRows:
    """Rows of a series: its name, if there are several, the time, if rows are not merely counted, and the value.

    Rows that are missing before a row, a look-back of them at most, are observed as missing.

    Args:
        model: reads no covariates but static ones.
    """

    def __init__(self, model: ForecasterModel, header: Header = "auto", id: str | None = None) -> None:
        check_target_alone(model.value, "carousel stream")
        self.model, self.states = model, dict[str, Context]()
        columns, self._header = model.value.columns, header
        self._dated = columns.time is not None
        self._names = {
            "id": tuple(filter(None, (id or columns.id, "unique_id"))),
            "ds": tuple(filter(None, (columns.time, "ds"))),
            "y": (columns.target, "y"),
        }
        several = columns.id is not None or id is not None or len(model.value.ids) > 1
        wanted = ["id"] * several + ["ds"] * self._dated + ["y"]
        self._places = {what: k for k, what in enumerate(wanted)}
        self._count: int | None = len(wanted)

    def first(self, line: bytes) -> bool:
        """Looks at the first line; whether it is the header."""
        cells = [cell.strip() for cell in _cells(line)]
        known = {name for names in self._names.values() for name in names}
        if self._header == "no" or (self._header == "auto" and not known & set(cells)):
            return False
        options = {"id": "--id", "ds": "the time", "y": "the value"}
        self._places = {what: _place(cells, self._names[what], options[what]) for what in self._places}
        self._count = None
        return True

    def answer(self, number: int, line: bytes) -> Answer:
        """What the row gives; nothing is changed.

        Raises:
            DataError: it cannot be used; the text says why.
        """
        cells = _cells(line)
        if self._count is not None:
            _check_count(cells, self._count)
        _check_count(cells, max(self._places.values()) + 1, "at least ")
        value = {what: cells[k].strip() for what, k in self._places.items()}
        name = value.get("id", self.model.value.ids[0] if len(self.model.value.ids) == 1 else "")
        state = self.states.get(name)
        if state is None:
            if name not in self.model.value.ids:
                raise DataError(f"the series {name!r} was not fitted")
            state = self.model.start([name])
        y = _number(value["y"], "the value")
        ds, gap = (stamp(value["ds"], state.next.dtype), 0) if self._dated else (state.next, 0)
        if self._dated:
            gap = self._gap(ds, state)
        for _ in range(gap):
            state = self.model.observe(state.next, np.nan, state)
        state = self.model.observe(ds, y, state)
        fields = {"line": number, **({"unique_id": name} if "id" in value else {})}
        text = _json(fields | forecast_fields(self.model.forecast(state)))
        remarks = (
            [f"{gap} row{'s' * (gap > 1)} before it {'are' if gap > 1 else 'is'} missing"] if gap else []
        )
        unit = self.model.value.scaling.unit
        if without(np.array(y), unit):
            remarks.append(f"{y:g} has no {TITLES[unit]}, which this model sees: counted as missing")
        return Answer(text, name, state, "; ".join(remarks))

    def keep(self, answer: Answer) -> None:
        """The row has been answered: its state is the stream's."""
        self.states[answer.stream] = answer.state

    def _gap(self, ds: Any, state: Context) -> int:
        gap = int(self.model.missing(ds, state)[0])
        due, most = shown(state.next)[0], self.model.value.lookback
        if gap < 0:
            raise DataError(
                f"the row at {shown(np.atleast_1d(ds))[0]} was observed already; the next one is at {due}"
            )
        if gap > most:
            raise DataError(
                f"{gap} rows are missing before it, the first at {due}, and no more than a look-back, {most}, "
                "can be; fit the model on newer rows"
            )
        return gap


def forecast_fields(forecast: Forecast, b: int = 0) -> dict[str, Any]:
    """The forecast of series `b` for JSON: `ds`, `carousel`, and the bounds as in a forecast's table."""
    fields: dict[str, Any] = {"ds": shown(forecast.ds[b]), "carousel": _floats(forecast.mean[b])}
    for q, level in enumerate(forecast.level):
        fields |= {
            f"carousel-lo-{level:g}": _floats(forecast.lower[q, b]),
            f"carousel-hi-{level:g}": _floats(forecast.upper[q, b]),
        }
    return fields


def _cells(line: bytes) -> list[str]:
    if len(line) > LINE_LIMIT:
        raise DataError(f"it is longer than {LINE_LIMIT} bytes")
    try:
        text = line.decode("utf-8-sig")
        return next(csv.reader([text], strict=True), [])
    except UnicodeDecodeError:
        raise DataError("it is not UTF-8") from None
    except csv.Error as error:
        raise DataError(f"it is not CSV: {error}") from None


def _check_count(cells: list[str], count: int, least: str = "") -> None:
    if len(cells) < count or (len(cells) > count and not least):
        raise DataError(f"it must have {least}{count} column{'s' * (count > 1)}, got {len(cells)}")


def _place(cells: list[str], names: tuple[str, ...], option: str) -> int:
    for name in names:
        if name in cells:
            return cells.index(name)
    wanted = " or ".join(map(repr, dict.fromkeys(names)))
    raise DataError(f"The header has no column for {option}: {wanted} is not among {', '.join(cells)}.")


def _is_number(cell: str) -> bool:
    return cell.strip().lower() in _MISSING or _NUMBER.fullmatch(cell.strip()) is not None


def _number(cell: str, what: str) -> float:
    """A number; NaN where it is missing."""
    cell = cell.strip()
    if cell.lower() in _MISSING:
        return float("nan")
    if _NUMBER.fullmatch(cell) is None or not isfinite(float(cell)):
        raise DataError(f"{what} must be a finite number, or empty where it is missing, got {cell[:40]!r}")
    return float(cell)


def stamp(cell: str, dtype: np.dtype[Any]) -> Any:
    """The time stamp in a text, as a model of `dtype` counts; time zones are dropped, as in fitting.

    Raises:
        DataError: it is none.
    """
    if dtype.kind == "i":
        if not re.fullmatch(r"[+-]?\d{1,18}", cell):
            raise DataError(f"the time must be a whole number, got {cell[:40]!r}")
        return np.int64(cell)
    match = _TIME.fullmatch(cell)
    try:
        if match is None:
            raise ValueError
        return np.datetime64(match[1].replace(" ", "T"), "us")
    except ValueError:
        raise DataError(f"the time must be as in 2024-01-31 23:00, got {cell[:40]!r}") from None


def shown(ds: Array) -> list[Any]:
    """Time stamps for JSON: ISO 8601, as fine as needed, or integers."""
    if ds.dtype.kind != "M":
        numbers: list[Any] = ds.tolist()
        return numbers
    seconds = ds.astype("datetime64[s]")
    texts: list[Any] = np.datetime_as_string(seconds if (seconds == ds).all() else ds).tolist()
    return texts


def _floats(numbers: Array) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [number if isfinite(number) else None for number in numbers.tolist()]


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False)


def _kind(model: NetworkModel) -> Any:
    return np.int64 if model.network.takes_ids else model.network.dtype
