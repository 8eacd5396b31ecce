"""Rows of text through a model: a line of CSV in, a line of JSON out, the state of every stream kept.

`rows(model)` gives what fits the model. A row is answered in two steps, so that a state holds exactly the rows
whose answers have gone out: `answer` changes nothing, `keep` makes its state the stream's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.network.forecaster import Covariate
from carousel.series.calendar import Frequency
from carousel.series.history import Context
from carousel.series.unit import TITLES, without
from carousel.series.zones import in_zone, left_out
from carousel.stream.ahead import NAN, AheadRows
from carousel.stream.cells import Dialect, has_offset, place, stamp
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel
from carousel.stream.network import NetworkModel, State

__all__ = ["Answer", "ForecasterRows", "NetworkRows", "forecast_fields", "rows", "shown"]

Array = np.ndarray[Any, Any]
Header = Literal["auto", "yes", "no"]
_LONG = "rows must be long: the id, the time and the value of one series"


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
    model: NetworkModel | ForecasterModel, header: Header, id: str | None, future: str | None = None
) -> NetworkRows | ForecasterRows:
    """What takes rows for `model`.

    Args:
        header: whether the first line names the columns; "auto" looks at it.
        id: column that tells streams apart; without, that of the model.
        future: path of the future covariates of rows to come, for a forecaster that reads some.

    Raises:
        ArgumentError: `future` is missing, or there is nothing to read in it.
    """
    if isinstance(model, ForecasterModel):
        return ForecasterRows(model, header, id, future)
    if future is not None:
        raise ArgumentError(
            "--future goes with a forecaster that reads future covariates; this is a network."
        )
    return NetworkRows(model, header, id)


class NetworkRows:
    """Rows of features; `y` of the JSON is the output.

    Args:
        model: reads forwards only.
    """

    def __init__(self, model: NetworkModel, header: Header = "auto", id: str | None = None) -> None:
        shape = (1,) if model.network.takes_ids else (1, model.network.input_size)
        model.step(np.zeros(shape, _kind(model)), model.start())  # or it says why it cannot go step by step
        self.model, self.states = model, dict[str, State]()
        self._header, self._id, self._place = header, id, None if id is None else 0
        self._count = (1 if model.network.takes_ids else model.network.input_size) + (id is not None)
        self._dialect = Dialect()

    order = ""
    """Of the columns where no header says it: that of the features."""

    @property
    def takes_blanks(self) -> bool:
        """Whether a blank line is a row, whose only cell is empty."""
        return self._count == 1

    def passed(self, line: bytes) -> None:
        """A line that was answered before: it may show what commas say."""
        self._dialect.learn_line(line)

    def first(self, line: bytes) -> bool:
        """Looks at the first line; whether it is the header."""
        self._dialect = Dialect.of(line, lambda cells: len(cells) == self._count)
        cells = _first_cells(self._dialect, line)
        given = self._header == "yes" or (
            self._header == "auto" and not all(map(self._dialect.is_number, cells[self._place is not None :]))
        )
        if given and self._id is not None:
            self._place = place(cells, (self._id,), "--id")
        return given

    def answer(self, number: int, line: bytes) -> Answer:
        """What the row gives; nothing is changed.

        Raises:
            DataError: it cannot be used; the text says why.
        """
        cells = self._dialect.split(line)
        _check_count(cells, self._count)
        name = "" if self._place is None else cells.pop(self._place).strip()
        x = np.array([self._dialect.number(cell, "a feature") for cell in cells])
        if not np.isfinite(x).all():
            raise DataError("a feature is missing; a network needs all of them")
        y, state = self._step(x, self.states[name] if name in self.states else self.model.start())
        fields = {"line": number, **({} if self._place is None else {"unique_id": name}), "y": _floats(y[0])}
        return Answer(_json(fields), name, state)

    def keep(self, answer: Answer) -> None:
        """The row has been answered: its state is the stream's."""
        self.states[answer.stream] = answer.state

    def _step(self, x: Array, state: State) -> tuple[Array, State]:
        network = self.model.network
        if network.takes_ids:
            if x[0] % 1 or not 0 <= x[0] < network.input_size:
                raise DataError(
                    f"an id must be a whole number from 0 to {network.input_size - 1}, got {x[0]:g}"
                )
            y, state = self.model.advance(x[None].astype(np.int64), state)
            return y.reshape(1, -1), state
        with np.errstate(over="ignore"):
            cast = x[None].astype(network.dtype)
        if not np.isfinite(cast).all():
            raise DataError(f"a feature must fit {network.dtype}, got {x[np.argmax(abs(x))]:g}")
        y, after = self.model.step(cast, state)
        if not all(np.isfinite(a).all() for a in (*after.h, *after.c) if a is not None):
            raise DataError(
                "its features are too large: the network would remember numbers that are not finite"
            )
        return y, after


class ForecasterRows:
    """Rows of a series: its name, if there are several, the time, if rows are not merely counted, the value, and
    the past and future covariates that the model reads.

    Rows that are missing before a row, a look-back of them at most, are observed as missing. Under a header, future
    covariates may be left to the file of rows to come.

    Args:
        future: path of that file; see `AheadRows`.

    Raises:
        ArgumentError: the model reads future covariates and there is no `future`, or the other way round.
        DataError: `future` cannot be used.
        ImportError: the model reads holidays, and the package `holidays` is not there.
    """

    def __init__(
        self,
        model: ForecasterModel,
        header: Header = "auto",
        id: str | None = None,
        future: str | None = None,
    ) -> None:
        self.model, self.states = model, dict[str, Context]()
        columns, self._header = model.value.columns, header
        self._past: tuple[Covariate, ...] = ()
        self._future: tuple[Covariate, ...] = ()
        if model.covariates is not None:
            model.covariates.check_holidays()
            self._past, self._future = model.covariates.past, model.covariates.future
        self._ahead = _ahead(model, self._future, id, future)
        self._dated, self._zone = columns.time is not None, columns.zone
        nothing = np.array([], "M8[us]")
        self._says_offsets = in_zone(nothing, np.array([], np.int64), columns.zone) is None  # once
        self._names = {
            "id": tuple(filter(None, (id or columns.id, "unique_id"))),
            "ds": tuple(filter(None, (columns.time, "ds"))),
            "y": (columns.target, "y"),
        }
        beside = {column.name for column in self._past + self._future}
        self._names = {
            what: tuple(n for n in names if n not in beside) for what, names in self._names.items()
        }
        several = columns.id is not None or id is not None or len(model.value.ids) > 1
        wanted = ["id"] * several + ["ds"] * self._dated + ["y"]
        self._places = {what: k for k, what in enumerate(wanted)}
        self._beside = {column.name: len(wanted) + k for k, column in enumerate(self._past + self._future)}
        self._count = len(wanted) + len(self._beside)
        self._wide = self._dated + len(model.value.ids)
        self._dialect = Dialect()

    @property
    def takes_blanks(self) -> bool:
        """Whether a blank line is a row, whose only cell is empty: its value is missing."""
        return self._count == 1

    def passed(self, line: bytes) -> None:
        """A line that was answered before: it may show what commas say."""
        self._dialect.learn_line(line)

    @property
    def order(self) -> str:
        """Of the columns where no header says it."""
        return ", ".join([*(self._names[what][0] for what in self._places), *self._beside])

    def first(self, line: bytes) -> bool:
        """Looks at the first line; whether it is the header.

        Raises:
            DataError: it has no number and no time, so that it is no row, and no column that is looked for.
        """
        known = {name for names in self._names.values() for name in names} | set(self._beside)

        def fit(cells: list[str]) -> int:
            named = len(known & {cell.strip() for cell in cells})
            return 2 * named + (len(cells) == self._count) + self._has_time(cells)

        self._dialect = Dialect.of(line, fit)
        cells = [cell.strip() for cell in _first_cells(self._dialect, line)]
        if self._header == "no" or (
            self._header == "auto" and not known & set(cells) and self._is_row(cells)
        ):
            return False
        there = set(cells)
        if "id" in self._places and not there & set(self._names["id"]) and there & set(self.model.value.ids):
            raise DataError(f"The header has a column per series, but {_LONG}.")
        options = {"id": "--id", "ds": "the time", "y": "the value"}
        self._places = {what: place(cells, self._names[what], options[what]) for what in self._places}
        self._beside = {c.name: place(cells, (c.name,), "a past covariate") for c in self._past}
        self._beside |= {c.name: cells.index(c.name) for c in self._future if c.name in cells}
        self._count = len(cells)
        return True

    def answer(self, number: int, line: bytes) -> Answer:
        """What the row gives; nothing is changed.

        Raises:
            DataError: it cannot be used; the text says why.
        """
        cells = self._dialect.split(line)
        if len(cells) == self._wide != self._count and not set(self.model.value.ids) & set(cells):
            raise DataError(f"it has as many columns as the time and all series would, but {_LONG}")
        _check_count(cells, self._count)
        value = {what: cells[k].strip() for what, k in self._places.items()}
        name = value.get("id", self.model.value.ids[0] if len(self.model.value.ids) == 1 else "")
        state = self.states.get(name)
        if state is None:
            if name not in self.model.value.ids:
                raise DataError(f"the series {name!r} was not fitted")
            state = self.model.start([name])
        before = state
        y = self._dialect.number(value["y"], "the value", lambda: self._size(before))
        ds, gap = (stamp(value["ds"], state.next.dtype, self._zone), 0) if self._dated else (state.next, 0)
        if self._dated:
            gap = self._gap(ds, state)
        self.model.check_values("the value", np.array([y]), state)
        remarks = [] if self._ahead is None else [*filter(None, [self._ahead.renew()])]
        ahead = self._ahead is not None and self._ahead.offsets
        dropped = self._dated and self._says_offsets and (ahead or has_offset(value["ds"]))
        if dropped:
            remarks.append(
                "UTC offsets are dropped here and below: times are read as the wall clock shows them"
            )
        if gap and (lost := self._there(gap, state)):
            remarks.append(f"{lost} row{'s' * (lost > 1)} before it {'are' if lost > 1 else 'is'} missing")
        for _ in range(gap):
            state = self.model.observe(state.next, np.nan, state, self._covariates(name, state, None))
        given = self._covariates(name, state, cells)
        for is_text, taken in ((False, "as in the row before"), (True, "as none of the categories")):
            lacking = [
                c.name
                for c in self._future
                if given[c.name][0] != given[c.name][0] and (c.categories is not None) == is_text
            ]
            if lacking:
                remarks.append(f"{', '.join(lacking)} of this row is not known: taken {taken}")
        state = self.model.observe(ds, y, state, given)
        fields = {"line": number, **({"unique_id": name} if "id" in value else {})}
        future, unknown = self._to_come(name, state)
        if unknown:
            remarks.append(f"{unknown}: no forecast")
        answer = {"error": unknown} if unknown else self._forecast(state, future)
        unit = self.model.value.scaling.unit
        if without(np.array(y), unit):
            remarks.append(f"{y:g} has no {TITLES[unit]}, which this model sees: counted as missing")
        self._says_offsets &= not dropped
        return Answer(_json(fields | answer), name, state, "; ".join(remarks))

    def keep(self, answer: Answer) -> None:
        """The row has been answered: its state is the stream's."""
        self.states[answer.stream] = answer.state

    def _forecast(self, state: Context, future: Any) -> dict[str, Any]:
        forecast = self.model.forecast(state, future=future)
        return forecast_fields(forecast, self._zone, self.model.frequency)

    def _covariates(self, name: str, state: Context, cells: list[str] | None) -> dict[str, list[float | str]]:
        """Those of the next row, whose cells these are: what it does not say is what was known ahead, or missing."""
        given: dict[str, list[float | str]] = {column.name: [NAN] for column in self._past}
        if self._ahead is not None:
            given |= self._ahead.values(name, state.next)
        if cells is not None:
            for column in self._past + self._future:
                if column.name in self._beside:
                    value = self._dialect.covariate(cells[self._beside[column.name]], column)
                    if value == value:  # an empty cell does not hide what was known ahead
                        given[column.name] = [value]
        return given

    def _to_come(self, name: str, state: Context) -> tuple[dict[str, list[list[float | str]]] | None, str]:
        """The future covariates of the rows to forecast (1, K) by name; and, where one is missing, which."""
        if self._ahead is None:
            return None, ""
        times = self.model.frequency.grid(state.next[0], self.model.value.horizon)
        values = self._ahead.values(name, times)
        no_hour = left_out(times, self._zone, self.model.frequency)
        for column, of_column in values.items():
            for time, value, never in zip(times, of_column, no_hour, strict=True):
                if value != value and not never:
                    when = shown(np.atleast_1d(time))[0]
                    return None, f"the future covariate {column!r} is not known at {when}"
        return {column: [of_column] for column, of_column in values.items()}, ""

    def _is_row(self, cells: list[str]) -> bool:
        """Whether a line may be a row, for a header has no number and no time."""
        return self._has_time(cells) or any(map(self._dialect.is_number, cells))

    def _has_time(self, cells: list[str]) -> bool:
        """Whether there is a time where one stands in rows without a header."""
        if not self._dated or len(cells) != self._count:
            return False
        try:
            stamp(cells[self._places["ds"]].strip(), self.model.value.tail.next.dtype)
        except DataError:
            return False
        return True

    def _size(self, state: Context) -> float:
        """The mean size of the last rows."""
        return float(np.abs(self.model.user_window(state)).mean())

    def _gap(self, ds: Any, state: Context) -> int:
        try:
            gap = int(self.model.missing(ds, state)[0])
        except DataError:
            step = self.model.frequency
            raise DataError(
                f"the time {shown(np.atleast_1d(ds))[0]} is off the {step} grid: the step of the rows that were "
                f"fitted is {step}"
            ) from None
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

    def _there(self, gap: int, state: Context) -> int:
        """How many of the next `gap` rows the clock of the model does not leave out."""
        times = self.model.frequency.grid(state.next[0], gap)
        return gap - int(left_out(times, self._zone, self.model.frequency).sum())


def _ahead(
    model: ForecasterModel, columns: tuple[Covariate, ...], id: str | None, future: str | None
) -> AheadRows | None:
    names = ", ".join(column.name for column in columns)
    if future is None and columns:
        raise ArgumentError(
            f"The model reads future covariates ({names}); give --future FILE, a CSV with their values for rows to "
            "come."
        )
    if future is not None and not columns:
        raise ArgumentError("--future: the model reads no future covariates that a file could give.")
    return None if future is None else AheadRows(future, model, id)


def forecast_fields(forecast: Forecast, zone: str | None, frequency: Frequency) -> dict[str, Any]:
    """The forecast of one series for JSON: `ds`, `carousel`, and the bounds as in a forecast's table.

    Args:
        zone: of the model; there is no row at an hour that its clock leaves out.
        frequency: of its rows.
    """
    there = ~left_out(forecast.ds[0], zone, frequency)
    fields: dict[str, Any] = {
        "ds": shown(forecast.ds[0][there]),
        "carousel": _floats(forecast.mean[0][there]),
    }
    for q, level in enumerate(forecast.level):
        fields |= {
            f"carousel-lo-{level:g}": _floats(forecast.lower[q, 0][there]),
            f"carousel-hi-{level:g}": _floats(forecast.upper[q, 0][there]),
        }
    return fields


def _first_cells(dialect: Dialect, line: bytes) -> list[str]:
    try:
        return dialect.split(line)
    except DataError as error:
        raise DataError(f"The first line cannot be read: {error}; give rows of CSV in UTF-8.") from None


def _check_count(cells: list[str], count: int) -> None:
    if len(cells) != count:
        raise DataError(f"it must have {count} column{'s' * (count > 1)}, got {len(cells)}")


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
