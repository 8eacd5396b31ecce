"""A forecaster that is served: rows are observed, and every request is answered with the forecast after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.errors import CarouselError, DataError, UnsupportedError
from carousel.network.forecaster import Covariate
from carousel.series.covariates import category_codes
from carousel.series.history import Context
from carousel.series.unit import TITLES, without
from carousel.series.zones import left_out
from carousel.serve.limits import Limits
from carousel.serve.protocol import MESSAGE, InferRequest, RequestError, Sequence, check_keys, quoted
from carousel.serve.sequences import Sequences
from carousel.stream.cells import stamp
from carousel.stream.covariates import check_covariate
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel
from carousel.stream.rows import forecast_fields, shown

__all__ = ["ForecasterJob", "ServedForecaster"]

Array = np.ndarray[Any, Any]
_ASKS = ("covariates", "unique_id", *MESSAGE)  # of a message that brings no row


@dataclass(frozen=True)
class ForecasterJob:
    """N rows of one series, and the forecast after them.

    Args:
        y: (N,) in the user's unit, NaN where missing.
        ds: (N,) their times; None for the rows that come next.
        series: the fitted series that the sequence begins as, or must be of; "" for that which it is.
        sequence: None for the forecast of a fitted series.
        covariates: by name, past ones (N,), future ones (N + K,).
    """

    y: Array
    ds: Array | None
    series: str
    sequence: Sequence | None
    covariates: Mapping[str, Array]


class ServedForecaster:
    """Inputs `y` and, if wanted, `ds`, (N,), and the covariates that the model reads; outputs the forecast of K
    steps at Q levels.

    Past covariates are those of the rows, (N,); future ones those of the rows and of the K next ones, (N + K,). A
    sequence begins as the fitted series that the parameter `unique_id` names: after its last fitted row.

    Raises:
        UnsupportedError: a covariate that is called `y` or `ds`, as inputs are.
        ImportError: the model reads holidays, and the package `holidays` is not there.
    """

    platform = "carousel_forecaster"

    def __init__(self, model: ForecasterModel, limits: Limits) -> None:
        self.model, self._limits = model, limits
        self._past: tuple[Covariate, ...] = ()
        self._future: tuple[Covariate, ...] = ()
        if model.covariates is not None:
            model.covariates.check_holidays()
            self._past, self._future = model.covariates.past, model.covariates.future
        for column in self._past + self._future:
            if column.name in ("y", "ds"):
                raise UnsupportedError(
                    f"carousel serve cannot take a covariate called {column.name!r}, for that is what the rows are "
                    "called; fit the model with another name."
                )
        self.sequences: Sequences[Context] = Sequences(limits)
        self._ids, self._zone = set(model.value.ids), model.value.columns.zone

    def metadata(self) -> dict[str, Any]:
        """`inputs` and `outputs` of the protocol."""
        # Where a clock leaves out an hour there is no row of it.
        K, Q = self.model.value.horizon if self._zone is None else -1, len(self.model.value.level)
        times = "BYTES" if self.model.value.tail.next.dtype.kind == "M" else "INT64"
        return {
            "inputs": [
                {"name": "y", "datatype": "FP64", "shape": [-1]},
                {"name": "ds", "datatype": times, "shape": [-1]},
                *(
                    {"name": c.name, "datatype": "FP64" if c.categories is None else "BYTES", "shape": [-1]}
                    for c in self._past + self._future
                ),
            ],
            "outputs": [
                {"name": "ds", "datatype": times, "shape": [K]},
                {"name": "mean", "datatype": "FP64", "shape": [K]},
                {"name": "level", "datatype": "FP64", "shape": [Q]},
                {"name": "lower", "datatype": "FP64", "shape": [Q, K]},
                {"name": "upper", "datatype": "FP64", "shape": [Q, K]},
            ],
        }

    def job(self, request: InferRequest) -> ForecasterJob:
        """What the request asks for.

        Raises:
            RequestError: it does not fit the model.
        """
        names = [column.name for column in self._past + self._future]
        if not set(request.inputs) <= {"y", "ds", *names}:
            beside = f" and {', '.join(map(repr, names))}" if names else ""
            raise RequestError(
                f"`inputs` must be 'y' and, if wanted, 'ds'{beside}, got {list(request.inputs)}."
            )
        y, ds = request.inputs.get("y", np.zeros(0)), request.inputs.get("ds")
        if y.dtype.kind not in "fiu":
            raise RequestError("`y` must be numbers.")
        return self._job(y.astype(np.float64), ds, request.parameters, request.sequence, request.inputs)

    def message(self, tree: Mapping[str, Any], sequence: Sequence) -> ForecasterJob:
        """One row, `ds`, `y` and `covariates`; without `ds` and `y` none, which asks for the forecast only.

        Raises:
            RequestError: it is something else.
        """
        if "y" not in tree and not {*tree} <= {*_ASKS}:
            raise RequestError(
                f"`y` is not there; it must be a number, or null where it is missing, got {quoted(tree)}."
            )
        check_keys("a message", tree, ("ds", "y", *_ASKS))
        covariates = self._of_message(tree)
        if "y" not in tree:
            return self._job(np.zeros(0), None, tree, sequence, covariates)
        y, ds = tree["y"], tree.get("ds")
        if y is not None and type(y) not in (int, float):
            raise RequestError("`y` must be a number, or null where it is missing.")
        try:
            value = np.array([np.nan if y is None else float(y)])
        except OverflowError:
            raise RequestError("`y` is a number that does not fit.") from None
        if ds is not None and type(ds) not in (int, str):
            raise RequestError("`ds` must be a time as a text, or a whole number.")
        return self._job(value, None if ds is None else np.array([ds], object), tree, sequence, covariates)

    def _of_message(self, tree: Mapping[str, Any]) -> dict[str, Array]:
        """The covariates of a message by name: a list, or the one value of the row."""
        given = tree.get("covariates", {})
        if not isinstance(given, dict):
            raise RequestError("`covariates` must be an object: for each name a value, or a list of them.")
        names = [column.name for column in self._past + self._future]
        arrays = {}
        for name, values in given.items():
            if name not in names:
                raise RequestError(
                    f"`covariates` must be of {', '.join(names) or 'none'}, got {name[:60]!r}."
                )
            listed = values if isinstance(values, list) else [values]
            arrays[name] = np.array([np.nan if value is None else value for value in listed], object)
        return arrays

    def _job(
        self,
        y: Array,
        ds: Array | None,
        parameters: Mapping[str, Any],
        sequence: Sequence | None,
        covariates: Mapping[str, Array],
    ) -> ForecasterJob:
        if y.ndim != 1 or len(y) > self._limits.steps:
            raise RequestError(
                f"`y` must have shape (N,), N at most {self._limits.steps}, got {list(y.shape)}."
            )
        if np.isinf(y).any():
            raise RequestError("`y` must be finite, or null where it is missing.")
        if len(y) and sequence is None:
            raise RequestError("rows are observed in a sequence: give a `sequence_id`.")
        if ds is not None:
            if ds.shape != y.shape:
                raise RequestError(f"`ds` must be one for each of {len(y)} rows, got shape {list(ds.shape)}.")
            ds = self._times(ds)
        beside = {c.name: self._checked_covariate(c, covariates, len(y)) for c in self._past + self._future}
        return ForecasterJob(y, ds, self._series(parameters, sequence), sequence, beside)

    def _checked_covariate(self, column: Covariate, given: Mapping[str, Array], N: int) -> Array:
        """(N,) or (N + K,) values of a covariate, numbers or categories, NaN where missing."""
        coming = self.model.value.horizon if column.role == "future" else 0
        values = given.get(column.name, np.zeros(0))
        if values.shape != (N + coming,):
            of = f"{N} row{'s' * (N != 1)}" + f" and the {coming} next ones" * (coming > 0)
            raise RequestError(
                f"the covariate {column.name!r} must have shape ({N + coming},), a value for each of {of}, "
                f"got {list(values.shape) if column.name in given else 'none'}."
            )
        if column.categories is None:
            values = _as_numbers(values, column)
        elif any(not isinstance(value, str | bool) and value == value for value in values.tolist()):
            raise RequestError(
                f"the covariate {column.name!r} must be texts (BYTES) or truth values (BOOL), or null where missing."
            )
        return values

    def _times(self, ds: Array) -> Array:
        kind = self.model.value.tail.next.dtype
        try:
            stamps = np.array([stamp(str(value), kind, self._zone) for value in ds.tolist()], kind)
            return self.model.frequency.placed(stamps)
        except CarouselError as error:
            raise RequestError(f"`ds`: {error}.") from None

    def _series(self, parameters: Mapping[str, Any], sequence: Sequence | None) -> str:
        """The fitted series that is meant; only one is so without a word."""
        name = parameters.get("unique_id")
        if name is None:
            ids = self.model.value.ids
            if sequence is not None and not sequence.start:
                return ""
            named = sequence is not None and sequence.id in self._ids
            name = ids[0] if len(ids) == 1 else sequence.id if named and sequence is not None else ""
            if not name:
                raise RequestError("`unique_id` must name the fitted series that is meant.")
            return name
        if not isinstance(name, str) or name not in self._ids:
            raise RequestError(f"`unique_id` must be a series that was fitted, got {str(name)[:60]!r}.", 404)
        return name

    def run(self, jobs: list[ForecasterJob]) -> list[Any]:
        """The forecast after the rows of each job, or its error; all share the calls of the model."""
        results: list[Any] = [None] * len(jobs)
        states: dict[int, Context] = {}
        jobs = list(jobs)
        for k, job in enumerate(jobs):
            try:
                states[k], jobs[k] = self._checked(job)
            except CarouselError as error:
                results[k] = error if isinstance(error, RequestError) else RequestError(str(error))
        if not states:
            return results
        places, whole = [*states], Context.join([*states.values()])
        whole = self._observed([jobs[k] for k in places], whole)
        forecast = self.model.forecast(whole, future=self._to_come([jobs[k] for k in places]))
        for b, k in enumerate(places):
            results[k] = forecast.at(slice(b, b + 1))
        for b, k in enumerate(places):
            sequence = jobs[k].sequence
            if sequence is not None and sequence.end:
                self.sequences.drop(sequence.id)
            elif sequence is not None and (sequence.start or len(jobs[k].y)):  # to look at it is no step
                self.sequences.put(sequence.id, whole[[b]])
        return results

    def outputs(self, forecast: Forecast) -> dict[str, Array]:
        """A result by the names of `metadata`."""
        there = ~left_out(forecast.ds[0], self._zone, self.model.frequency)
        ds = forecast.ds[0][there]
        return {
            "ds": np.array(shown(ds), object if ds.dtype.kind == "M" else np.int64),
            "mean": forecast.mean[0][there],
            "level": np.array(forecast.level, np.float64),
            "lower": forecast.lower[:, 0, there],
            "upper": forecast.upper[:, 0, there],
        }

    def remark(self, job: ForecasterJob) -> dict[str, str]:
        """What the client should know about a job, by name: `remark`, if there is something."""
        unit = self.model.value.scaling.unit
        lost = job.y[without(job.y, unit)]
        if not len(lost):
            return {}
        return {"remark": f"{lost[0]:g} has no {TITLES[unit]}, which this model sees: counted as missing"}

    def reply(self, forecast: Forecast) -> dict[str, Any]:
        """A result for a message: the columns of a forecast's table."""
        return forecast_fields(forecast, self._zone, self.model.frequency)

    @property
    def series(self) -> tuple[str, ...]:
        """The fitted ones."""
        return self.model.value.ids

    @property
    def ahead(self) -> tuple[str, ...]:
        """The future covariates that a request must bring."""
        return tuple(column.name for column in self._future)

    @property
    def beside(self) -> tuple[str, ...]:
        """All covariates that rows bring."""
        return tuple(column.name for column in self._past + self._future)

    def recent(self, name: str, live: bool) -> dict[str, Any]:
        """The rows that the state of a sequence, or of a fitted series, remembers, for a picture.

        Args:
            live: `name` is a sequence.

        Returns:
            `ds` and `y`, null where missing; `filled`, true where missing ones are there as the state fills them.

        Raises:
            RequestError: there is none of that name.
        """
        if not live and name not in self._ids:
            raise RequestError(f"{name[:60]!r} is no series that was fitted.", 404)
        state = self.sequences.get(name) if live else self.model.start([name])
        y = self.model.user_window(state)[0]
        if not live:
            y = np.where(self.model.value.tail.observed[self.model.value.ids.index(name)], y, np.nan)
        if state.rows is not None:
            y = y[-max(1, int(state.rows[0])) :]  # what stands before was made up
        ds = self.model.frequency.shift(state.next[0], np.arange(-len(y), 0))
        return {"ds": shown(ds), "y": [v if np.isfinite(v) else None for v in y.tolist()], "filled": live}

    def _checked(self, job: ForecasterJob) -> tuple[Context, ForecasterJob]:
        """The state that the job begins with, and the job with a row for each of the grid.

        Raises:
            RequestError: there is none, it is of another series, or the rows of the job do not follow on it.
        """
        sequence = job.sequence
        if sequence is None or sequence.start:
            state = self.model.start([job.series])
        else:
            state = self.sequences.get(sequence.id)
            self._check_series(state, job.series)
        if len(job.y) and (job.ds is not None or self._zone is not None):
            job = self._on_grid(job, state)
        self._check_known(job, state)
        self.model.check_values("`y`", job.y, state)
        if sequence is not None and sequence.start and not sequence.end:
            self.sequences.begin(sequence.id, state)
        return state, job

    def _check_series(self, state: Context, name: str) -> None:
        """Refuses rows of another series than that which a sequence began as."""
        if not name or state.series is None or (place := int(state.series[0])) < 0:
            return
        began = self.model.value.ids[place]
        if began != name:
            raise RequestError(
                f"`unique_id`: the sequence is of {began!r}, got {name!r}; give each series a `sequence_id`.",
                409,
            )

    def _on_grid(self, job: ForecasterJob, state: Context) -> ForecasterJob:
        """The job with missing rows at the hours that the clock of the model leaves out.

        Raises:
            RequestError: its rows are not the next ones.
        """
        N, frequency = len(job.y), self.model.frequency
        grid = frequency.grid(state.next[0], N)
        if job.ds is not None and (grid == job.ds).all():
            return job
        while (wanted := N - int((~(never := left_out(grid, self._zone, frequency))).sum())) > 0:
            grid = frequency.grid(state.next[0], len(grid) + wanted)
        due = grid[~never]
        ds = due if job.ds is None else job.ds
        wrong = np.flatnonzero(due != ds)
        if len(wrong):
            w = int(wrong[0])
            raise RequestError(
                f"`ds`: the next row is {shown(due[w : w + 1])[0]}, got {shown(ds[w : w + 1])[0]}; "
                "a row that is missing is observed as null.",
                409,
            )
        if not never.any():
            return job
        spread = {}
        for name, values in {"y": job.y, **job.covariates}.items():
            rows = np.full(len(grid), np.nan, values.dtype)
            rows[~never] = values[:N]
            spread[name] = np.concatenate([rows, values[N:]])
        return replace(job, y=spread.pop("y"), ds=grid, covariates=spread)

    def _check_known(self, job: ForecasterJob, state: Context) -> None:
        """Refuses future covariates that are missing in a row to forecast; hours that a clock leaves out are none.

        Raises:
            RequestError: one is missing.
        """
        K, frequency = self.model.value.horizon, self.model.frequency
        for column in self._future:
            values = job.covariates[column.name][-K:]
            if column.categories is not None:
                values = category_codes(values.tolist(), column.categories)
            if (lost := np.isnan(values)).any():
                times = frequency.grid(state.next[0], len(job.y) + K)[-K:]
                if (lost & ~left_out(times, self._zone, frequency)).any():
                    raise RequestError(
                        f"the covariate {column.name!r} must be known for all of the {K} next rows."
                    )

    def _to_come(self, jobs: list[ForecasterJob]) -> dict[str, list[Array]] | None:
        """The future covariates of the rows to forecast, (B, K) by name; None for a model without."""
        if not self._future:
            return None
        return {c.name: [job.covariates[c.name][len(job.y) :] for job in jobs] for c in self._future}

    def _observed(self, jobs: list[ForecasterJob], whole: Context) -> Context:
        """The state after all rows: first the first row of each job, then the second of those that have one."""
        order = np.argsort([-len(job.y) for job in jobs], kind="stable")
        ended: list[Context] = []
        state = whole[order]
        for n in range(max(len(job.y) for job in jobs) + 1):
            left = sum(len(job.y) > n for job in jobs)
            ended.append(state[left:])
            state = state[:left]
            if left:
                y = np.array([jobs[k].y[n] for k in order[:left]])
                beside = {
                    c.name: [jobs[k].covariates[c.name][n] for k in order[:left]]
                    for c in self._past + self._future
                }
                state = self.model.observe(state.next, y, state, beside)
        return Context.join(ended[::-1])[np.argsort(order, kind="stable")]


def _as_numbers(values: Array, column: Covariate) -> Array:
    """(N,) numbers, NaN where missing, true and false as 1 and 0."""
    listed = values.tolist()
    try:
        if all(isinstance(value, int | float) for value in listed):
            numbers = np.array(listed, np.float64)
            if not np.isinf(numbers).any():
                check_covariate(column, numbers)
                return numbers
    except OverflowError:
        pass
    except DataError as error:
        raise RequestError(str(error)) from None
    raise RequestError(f"the covariate {column.name!r} must be finite numbers, or null where missing.")
