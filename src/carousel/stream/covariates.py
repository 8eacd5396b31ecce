"""The covariates of a stream: those of a row that is observed, and those of the rows to forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, DataError
from carousel.network.forecaster import Covariate, CovariatePaths
from carousel.series.calendar import Frequency
from carousel.series.covariates import Covariates, Seen, coded, effect, encode, next_row
from carousel.series.history import Context
from carousel.series.holidays import HOLIDAY, holiday_names
from carousel.series.panel import Panel
from carousel.series.zones import left_out
from carousel.stream.sizes import check_sizes

__all__ = ["CovariateReader", "check_covariate"]

Array = np.ndarray[Any, Any]
Given = Mapping[str, Any]


class CovariateReader:
    """Puts the covariates that a model reads into its states; `holiday`, if nobody gives it, is looked up.

    Args:
        paths: of the model.
        frequency: of its rows.
        lookback: L rows before an origin.
        horizon: K rows after it.
        zone: of its times; nothing is asked for at an hour that its clock leaves out.
    """

    def __init__(
        self, paths: CovariatePaths, frequency: Frequency, lookback: int, horizon: int, zone: str | None
    ) -> None:
        self.paths, self._frequency, self._lookback, self._horizon = paths, frequency, lookback, horizon
        self._zone = zone

    @property
    def past(self) -> tuple[Covariate, ...]:
        """The past columns that a row must bring."""
        return self.paths.of("past")

    @property
    def future(self) -> tuple[Covariate, ...]:
        """The future columns that somebody must give: all but the holidays of a country."""
        looked_up = self.paths.holidays is not None
        return tuple(c for c in self.paths.of("future") if not (looked_up and c.name == HOLIDAY))

    def check_holidays(self) -> None:
        """An ImportError now, if holidays are read and the package that knows them is not there."""
        if self.paths.holidays is not None:
            import_module("holidays")

    def beside(self, panel: Panel, given: Given, fitted: Sequence[str]) -> Panel:
        """The panel with the covariates of its rows.

        Args:
            given: by name, an array (N_b,) for each of the B series; of a static column (B,) values, which series
                that were fitted need not have.
            fitted: names of the series whose static covariates the model has.

        Raises:
            ArgumentError: not one array for each series, of as many rows as it has.
            DataError: a column is missing, or is not what it was when the model was fitted.
        """
        columns, N = self.past + self.future, len(panel.values)
        rows: dict[str, Any] = {}
        for column in columns:
            parts = given.get(column.name, ())
            sizes = [len(np.atleast_1d(part)) for part in parts]
            if sizes != list(panel.lengths):
                wanted = f"{', '.join(map(str, panel.lengths[:3]))}{', …' * (len(panel) > 3)}"
                raise ArgumentError(
                    f"`covariates` must hold {column.name!r} for every row of `y`: arrays of {wanted} values, "
                    f"got {', '.join(map(str, sizes[:3])) or 'none'}."
                )
            rows[column.name] = np.concatenate([np.asarray(part, object) for part in parts])
        stamps = np.concatenate([panel.times(b) for b in range(len(panel))])
        past = coded(self.paths.of("past"), rows, (N,))
        future = coded(self.paths.of("future"), self._with_holidays(rows, stamps), (N,))
        return replace(
            panel, covariates=Covariates(past, future, panel.offsets, self._static(panel, given, fitted))
        )

    def _static(self, panel: Panel, given: Given, fitted: Sequence[str]) -> Array:
        """(B, C) static covariates: of series that were fitted those of then, of others those that are given."""
        columns, places = self.paths.of("static"), {name: s for s, name in enumerate(fitted)}
        known = np.array([places.get(name, -1) for name in panel.ids], np.int64)
        if (known >= 0).all():
            return self.paths.static[known]
        out = coded(columns, given, (len(panel),))
        out[known >= 0] = self.paths.static[known[known >= 0]]
        return out

    def observed(self, state: Context, given: Given) -> tuple[Seen, Array]:
        """The covariates of a state one row later, and the effect of that row (B,) in the model's unit.

        Args:
            given: of that row, an array (B,) by name, NaN where missing.
        """
        seen = _of(state)
        given = self._with_holidays(given, state.next)
        rows = {}
        for role, before in (("past", seen.past), ("future", seen.future[:, : self._lookback])):
            columns = self.paths.of(role)
            raw = coded(columns, given, (len(state),))
            for column, values in zip(columns, raw.T, strict=True):
                check_covariate(column, values)
            row = next_row(columns, raw, before[:, -1])
            rows[role] = np.concatenate([before[:, 1:], row[:, None]], 1)
        added = seen.unit * effect(self.paths.effect, rows["future"][:, -1])
        return replace(seen, past=rows["past"], future=rows["future"]), added

    def ahead(self, context: Context, future: Array) -> Context:
        """A state with the future covariates of the rows to forecast.

        Args:
            future: (B, K, F) as given, numbers and codes of categories.
        """
        seen, (B, K, F) = _of(context), future.shape
        rows = encode(self.paths.of("future"), future.reshape(B * K, F), np.repeat(np.arange(B) * K, K))
        whole = np.concatenate([seen.future[:, : self._lookback], rows.reshape(B, K, rows.shape[1])], 1)
        return replace(context, covariates=replace(seen, future=whole))

    def complete(self, context: Context, future: Given | None) -> Context:
        """The state with its future covariates, which must all be there.

        Args:
            future: arrays (B, K) by name; None where the state has them, or there are none but holidays.

        Raises:
            DataError: one is missing.
        """
        columns, shape = self.paths.of("future"), (len(context), self._horizon)
        if not columns or (future is None and _of(context).future.shape[1] > self._lookback):
            return context
        stamps = self._frequency.shift(context.next[:, None], np.arange(self._horizon))
        raw = coded(columns, self._with_holidays(future or {}, stamps), shape)
        for c, column in enumerate(columns):
            check_covariate(column, raw[..., c])
        lost, never = np.isnan(raw), left_out(stamps, self._zone, self._frequency)
        # What is no row, and gets no forecast, is as the one before, as in `Forecaster.predict`.
        for b, k in np.argwhere(never & lost.all(-1)):
            raw[b, k] = raw[b, k - 1] if k else 0.0
        missing = np.argwhere(lost & ~never[..., None])
        if len(missing):
            b, k, c = missing[0]
            raise DataError(
                f"The future covariate {columns[c].name!r} is missing at step {k + 1} of series {b}."
            )
        return self.ahead(context, raw)

    def in_window(self, context: Context) -> Array:
        """(B, L) the effect of the rows before, in the model's unit."""
        seen = _of(context)
        out: Array = seen.unit[:, None] * effect(self.paths.effect, seen.future[:, : self._lookback])
        return out

    def in_forecast(self, context: Context) -> Array:
        """(B, K) the effect of the rows to forecast, or (B, 1) of none, in the model's unit."""
        if self.paths.effect is None:
            return np.zeros((len(context), 1))
        seen = _of(context)
        out: Array = seen.unit[:, None] * effect(self.paths.effect, seen.future[:, self._lookback :])
        return out

    def _with_holidays(self, given: Given, stamps: Array) -> Given:
        if self.paths.holidays is None or HOLIDAY in given or not self.paths.of("future"):
            return given
        return {**given, HOLIDAY: holiday_names(self.paths.holidays, stamps, self._frequency)}


def check_covariate(column: Covariate, values: Array) -> None:
    """Refuses values of a covariate that no path could count with.

    Raises:
        DataError: a number is too large or too small.
    """
    if column.categories is None:
        check_sizes(f"the covariate {column.name!r}", values, values, column.scale)


def _of(context: Context) -> Seen:
    assert context.covariates is not None  # every state of a model that reads covariates has them
    return context.covariates
