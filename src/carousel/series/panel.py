"""A panel: one or many series on regular grids, in one contiguous block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from carousel.errors import DataError
from carousel.series.calendar import Frequency
from carousel.series.covariates import Covariates

__all__ = ["Panel"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Panel:
    """S series on one frequency; series s holds rows `offsets[s]` to `offsets[s + 1]`.

    Args:
        ids: S names, all different.
        values: (N,) float64; NaN is a missing value, a gap of the grid is rows of NaN.
        offsets: (S + 1,) int64.
        starts: (S,) first time stamps: datetime64[us], or int64 for an integer index.
        frequency: the step of all grids.
        covariates: columns beside the target, if there are any.

    Example:
        >>> panel = Panel.of([[1.0, 2.0, 3.0], [5.0, 6.0]], ids=["a", "b"])
        >>> panel.lengths.tolist(), panel.series(1).tolist(), panel.times(1).tolist()
        ([3, 2], [5.0, 6.0], [0, 1])
    """

    ids: tuple[str, ...]
    values: Array
    offsets: Array
    starts: Array
    frequency: Frequency
    covariates: Covariates | None = None

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            raise DataError("The ids of a panel must all be different.")
        assert self.offsets.shape == (len(self.ids) + 1,), "offsets must have shape (S + 1,)"
        assert self.starts.shape == (len(self.ids),), "starts must have shape (S,)"
        assert self.values.shape == (int(self.offsets[-1]),), "values must have shape (N,)"

    @classmethod
    def of(
        cls,
        series: Sequence[Any],
        *,
        ids: Sequence[str] | None = None,
        starts: Sequence[Any] | None = None,
        freq: str | int | Frequency = 1,
    ) -> Panel:
        """A panel of arrays: `series` holds S arrays (N_s,), `starts` their first time stamps (0 without)."""
        frequency = Frequency.parse(freq)
        kind = np.int64 if frequency.unit == "index" else "datetime64[us]"
        arrays = [np.asarray(x, np.float64).reshape(-1) for x in series]
        return cls(
            ids=tuple(ids) if ids is not None else tuple(str(s) for s in range(len(arrays))),
            values=np.concatenate([np.zeros(0), *arrays]),
            offsets=np.cumsum([0, *map(len, arrays)], dtype=np.int64),
            starts=np.asarray(starts if starts is not None else [0] * len(arrays)).astype(kind),
            frequency=frequency,
        )

    def __len__(self) -> int:
        """S, the number of series."""
        return len(self.ids)

    def __iter__(self) -> Iterator[Array]:
        return (self.series(s) for s in range(len(self)))

    @property
    def lengths(self) -> Array:
        """(S,) rows of each series."""
        return np.diff(self.offsets)

    @property
    def lasts(self) -> Array:
        """(S,) last time stamps."""
        return self.frequency.shift(self.starts, self.lengths - 1)

    def years(self, rows: Any) -> float:
        """The years that the first `rows` rows (an integer or (S,)) of the longest series span; 0 for an index."""
        if self.frequency.unit == "index" or not len(self):
            return 0.0
        last = self.frequency.shift(self.starts, np.minimum(rows, self.lengths) - 1)
        return float((last - self.starts).max() / np.timedelta64(1, "D") / 365.25)

    def series(self, s: int) -> Array:
        """(N_s,) the values of series `s`, a view."""
        return self.values[self.offsets[s] : self.offsets[s + 1]]

    def times(self, s: int) -> Array:
        """(N_s,) the time stamps of series `s`."""
        return self.frequency.grid(self.starts[s], int(self.lengths[s]))

    def select(self, which: Array) -> Panel:
        """Some series, by number, in the order of `which`."""
        parts = [self.series(s) for s in which]
        return replace(
            self,
            ids=tuple(self.ids[s] for s in which),
            values=np.concatenate([np.zeros(0), *parts]),
            offsets=np.cumsum([0, *map(len, parts)], dtype=np.int64),
            starts=self.starts[which],
            covariates=self._covariates(which, np.zeros(len(which), np.int64), self.lengths[which]),
        )

    def slice(self, first: Array, stop: Array) -> Panel:
        """Rows `first[s]` to `stop[s]` of every series (two (S,) arrays, counted within the series)."""
        lengths = self.lengths
        first, stop = np.clip(first, 0, lengths), np.clip(stop, 0, lengths)
        stop = np.maximum(first, stop)
        parts = [self.series(s)[first[s] : stop[s]] for s in range(len(self))]
        return replace(
            self,
            values=np.concatenate([np.zeros(0), *parts]),
            offsets=np.concatenate([[0], np.cumsum(stop - first)]).astype(np.int64),
            starts=self.frequency.shift(self.starts, first),
            covariates=self._covariates(np.arange(len(self)), first, stop),
        )

    def head(self, rows: Any) -> Panel:
        """The first `rows` rows of every series (an integer or (S,))."""
        return self.slice(np.zeros(len(self), np.int64), np.broadcast_to(rows, len(self)))

    def tail(self, rows: Any) -> Panel:
        """The last `rows` rows of every series (an integer or (S,))."""
        return self.slice(self.lengths - np.broadcast_to(rows, len(self)), self.lengths)

    def preceded(self, rows: Array) -> Panel:
        """With `rows` (S,) missing rows before the first of every series."""
        before = np.repeat(self.offsets[:-1], rows)
        return replace(
            self,
            values=np.insert(self.values, before, np.nan),
            offsets=self.offsets + np.cumsum([0, *rows]),
            starts=self.frequency.shift(self.starts, -rows),
            covariates=self.covariates and self.covariates.preceded(before, rows),
        )

    def _covariates(self, which: Array, first: Array, stop: Array) -> Covariates | None:
        return self.covariates and self.covariates.slice(self.offsets, which, first, stop)
