"""The errors of a smoothing along a panel, without keeping them all: of ten million rows they would be 640 MB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carousel.network.forecaster import Smoothing
from carousel.series.smoothing import errors_from
from carousel.series.starting import Start, Started

__all__ = ["SmoothingErrors"]

Array = np.ndarray[Any, Any]

PIECE = 4096  # rows of a series from one start of the recursion to the next, or eight times its memory
NUMBERS = 2_000_000  # errors worked out at a time; no more of them are kept


@dataclass(frozen=True)
class SmoothingErrors:
    """The recursion of every series in pieces: what is kept are the errors that each piece starts from.

    Args:
        model: G members of memory M.
        x: (N,) filled values of all series in the model's unit.
        offsets: (S + 1,) series s holds rows `offsets[s]` to `offsets[s + 1]` of `x`.
        piece: rows of one.
        first: (S + 1,) the number of the first piece of each series.
        starts: (pieces - S, M, G) the errors of the M rows before each piece, but for the first of every series.
    """

    model: Smoothing
    x: Array
    offsets: Array
    piece: int
    first: Array
    starts: Array

    @classmethod
    def of(cls, model: Smoothing, x: Array, offsets: Array) -> SmoothingErrors:
        """Runs through all series but their last pieces."""
        M, G = model.memory, len(model.weights)
        piece, lengths = max(PIECE, 8 * M), np.diff(offsets)
        pieces = np.maximum(-(-lengths // piece), 1)
        first = np.concatenate([[0], np.cumsum(pieces)])
        found = cls(model, x, offsets, piece, first, np.zeros((int(first[-1]) - len(lengths), M, G)))
        for k in range(1, int(pieces.max(initial=0))):
            longer = np.flatnonzero(pieces > k)
            for places in found._groups(longer, np.full(len(longer), piece)):
                some = longer[places]
                found.starts[found._start(some, k)] = found._run(some, np.full(len(some), k - 1), piece)[
                    :, -M:
                ]
        return found

    def before(self, series: Array, row: Array, rows: int) -> Array:
        """(B, rows, G) the errors of the last `rows` rows, M at most, before row `row[b]` of series `series[b]`.

        Those before the first row are 0. Where few rows stand before, they are those of the start that these suggest.
        """
        early = row < self._start_of.rows
        if early.any():
            out = np.zeros((len(row), rows, len(self.model.weights)))
            out[early] = self._early(series[early], row[early], rows)
            out[~early] = self._late(series[~early], row[~early], rows)
            return out
        return self._late(series, row, rows)

    def _early(self, series: Array, row: Array, rows: int) -> Array:
        """As `before`, of rows of which the first P are not all known."""
        out = np.zeros((len(row), rows, len(self.model.weights)))
        wanted, where = np.unique(series, return_inverse=True)
        for some in self._groups(wanted, np.full(len(wanted), self._start_of.rows)):
            mine = np.flatnonzero(np.isin(where, some))
            place = np.empty(len(wanted), np.int64)
            place[some] = np.arange(len(some))
            out[mine] = self._started(wanted[some]).before(place[where[mine]], row[mine], rows)
        return out

    def _late(self, series: Array, row: Array, rows: int) -> Array:
        """As `before`, of later rows."""
        M, G = self.model.memory, len(self.model.weights)
        k = np.maximum(row - 1, 0) // self.piece
        number, stop = self.first[series] + k, M + row - k * self.piece
        steps = stop[:, None] + np.arange(-rows, 0)
        if self._kept is not None:
            found: Array = self._kept[number[:, None], steps]
            return found
        out = np.zeros((len(row), rows, G))
        wanted, where = np.unique(number, return_inverse=True)
        reach = np.zeros(len(wanted), np.int64)
        np.maximum.at(reach, where, stop - M)
        of = np.searchsorted(self.first, wanted, side="right") - 1
        order = np.argsort(where, kind="stable")
        bounds = np.searchsorted(where[order], np.arange(len(wanted) + 1))
        for some in self._groups(np.arange(len(wanted)), reach):
            e = self._run(of[some], wanted[some] - self.first[of[some]], int(reach[some].max()))
            origins = np.concatenate([order[bounds[j] : bounds[j + 1]] for j in some])
            place = np.empty(len(wanted), np.int64)
            place[some] = np.arange(len(some))
            out[origins] = e[place[where[origins]][:, None], steps[origins]]
        return out

    def of_series(self, s: int) -> Array:
        """(N_s, G) what every member missed each row of one series by, one step ahead; 0 before it has its lags."""
        M, length = self.model.memory, int(self.offsets[s + 1] - self.offsets[s])
        found: Array = self._run(np.array([s]), np.zeros(1, int), length)[0, M:].copy()
        early = np.arange(min(length, self._start_of.rows))
        after = self._early(np.full(len(early), s), early + 1, 1)[:, 0]  # the row has moved the start by then
        kept = self._start_of.gain(early)[:, -1]
        found[early] = np.divide(after, kept, out=np.zeros_like(after), where=kept > 0)
        return found

    @cached_property
    def _kept(self) -> Array | None:
        """(pieces, M + rows, G) the errors of all pieces, where they are few."""
        count, rows = int(self.first[-1]), min(self.piece, int(np.diff(self.offsets).max(initial=0)))
        if count * (self.model.memory + rows) * len(self.model.weights) > NUMBERS:
            return None
        number = np.arange(count)
        series = np.searchsorted(self.first, number, side="right") - 1
        return self._run(series, number - self.first[series], rows)

    def _groups(self, pieces: Array, reach: Array) -> Iterator[Array]:
        """The pieces, by place, some at a time: of similar lengths, and few enough for their errors to be held."""
        order = np.argsort(reach, kind="stable")
        size = (self.model.memory + int(reach.max(initial=0))) * len(self.model.weights)
        most = max(1, NUMBERS // size)
        return (order[b : b + most] for b in range(0, len(pieces), most))

    def _start(self, series: Array, k: Array | int) -> Array:
        """(n,) where in `starts` piece `k`, which is not the first, of each of these series stands."""
        return self.first[series] + k - series - 1

    @cached_property
    def _start_of(self) -> Start:
        return Start(self.model)

    def _run(self, series: Array, k: Array, rows: int) -> Array:
        """(n, M + rows, G) the errors of piece `k[n]` of series `series[n]` and of the M rows before it.

        Of a first piece those at least P - M rows after the first one are what they are for every origin from row P on.
        """
        M, P = self.model.memory, self._start_of.rows
        out = np.zeros((len(series), M + rows, len(self.model.weights)))
        first, later = np.flatnonzero(k == 0), np.flatnonzero(k > 0)
        if len(later):
            before = self.starts[self._start(series[later], k[later])]
            out[later] = errors_from(self.model, self._values(series[later], k[later], rows), before)
        if len(first) and rows >= P:
            started, n = self._started(series[first]), np.arange(len(first))
            before = started.before(n, np.full(len(first), P), M)
            x = self._values(series[first], k[first], rows)[:, P:]
            out[first, P:] = errors_from(self.model, x, before)
        return out

    def _started(self, series: Array) -> Started:
        """The first P rows of some series."""
        x = self._values(series, np.zeros(len(series), np.int64), self._start_of.rows)
        return self._start_of.of(errors_from(self.model, x, None)[:, self.model.memory :])

    def _values(self, series: Array, k: Array, rows: int) -> Array:
        """(n, M + rows) the rows of piece `k[n]` of series `series[n]` and the M before it, 0 where there are none."""
        steps = (k * self.piece)[:, None] + np.arange(-self.model.memory, rows)
        inside = (steps >= 0) & (steps < np.diff(self.offsets)[series][:, None])
        x = np.zeros(steps.shape)
        x[inside] = self.x[(steps + self.offsets[series][:, None])[inside]]
        return x
