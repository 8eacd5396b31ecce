"""Covariates: columns beside the target, from what the user gave to what the paths read.

A past covariate is known up to the origin, a future one beyond it, a static one belongs to a series. A number is
centred and scaled; a missing one is the last known before it (the mean at the start), and an indicator says so where
training rows had gaps. A category is a one of C; one that the training did not see, or a missing one, is none of them.

The effect of the future covariates is taken off the target before anything else reads it, and put back on the
forecast, as in regression with ARIMA errors (Hyndman and Athanasopoulos 2021, section 10.1): a promotion in the window
then disturbs no level, and one to come is foreseen. Past and static covariates, which cannot be taken off, correct the
forecast by ridge regression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import DataError, FormatError
from carousel.network.document import document
from carousel.network.forecaster import LAGS, Covariate, CovariatePaths

if TYPE_CHECKING:
    from carousel.series.panel import Panel

__all__ = [
    "Covariates",
    "Encoded",
    "Seen",
    "category_codes",
    "coded",
    "correction",
    "effect",
    "encode",
    "encoded",
    "next_row",
    "regressors",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Covariates:
    """Covariates of a panel as given: numbers, or codes of categories; NaN where missing.

    Args:
        past: (N, P), a row for each of the panel.
        future: (M, F); series s holds rows `offsets[s]` to `offsets[s + 1]`, the first at the start of the series,
            as many as the panel has of it or more.
        offsets: (S + 1,) int64.
        static: (S, C).
    """

    past: Array
    future: Array
    offsets: Array
    static: Array

    def __post_init__(self) -> None:
        assert len(self.static) == len(self.offsets) - 1
        assert len(self.future) == self.offsets[-1]

    def slice(self, panel_offsets: Array, which: Array, first: Array, stop: Array) -> Covariates:
        """Series `which`, their rows `first` to `stop`; the future is kept, for it is known."""
        past = [
            self.past[panel_offsets[s] + a : panel_offsets[s] + b]
            for s, a, b in zip(which, first, stop, strict=True)
        ]
        future = [
            self.future[self.offsets[s] + a : self.offsets[s + 1]] for s, a in zip(which, first, strict=True)
        ]
        return Covariates(
            np.concatenate([self.past[:0], *past]),
            np.concatenate([self.future[:0], *future]),
            np.cumsum([0, *map(len, future)], dtype=np.int64),
            self.static[which],
        )

    def preceded(self, before: Array, rows: Array) -> Covariates:
        """With `rows` (S,) missing rows before the first of every series: in the past before the rows `before`."""
        return replace(
            self,
            past=np.insert(self.past, before, np.nan, axis=0),
            future=np.insert(self.future, np.repeat(self.offsets[:-1], rows), np.nan, axis=0),
            offsets=self.offsets + np.cumsum([0, *rows]),
        )

    def extended(self, lengths: Array, rows: Array) -> Covariates:
        """With the future of every series after its first `lengths[s]` rows replaced by `rows` (S, K, F)."""
        parts = []
        for s, known in enumerate(lengths):
            parts += [self.future[self.offsets[s] : self.offsets[s] + known], rows[s]]
        offsets = np.concatenate([[0], np.cumsum(lengths + rows.shape[1])]).astype(np.int64)
        return replace(self, future=np.concatenate([self.future[:0], *parts]), offsets=offsets)


@dataclass(frozen=True)
class Encoded:
    """Covariates of a panel as the paths read them: (N, p), (M, f) with offsets, (S, c), and the unit (S,)."""

    past: Array
    future: Array
    offsets: Array
    static: Array
    unit: Array

    def seen(self, panel: Panel, series: Array, row: Array, lookback: int, horizon: int) -> Seen:
        """What is known of them at B origins; before the first row and after the last known one, that row."""
        back = row[:, None] + np.arange(-lookback, 0)
        ahead = row[:, None] + np.arange(-lookback, horizon)
        known = np.diff(self.offsets)[series][:, None]
        last = np.maximum(np.minimum(row, panel.lengths[series]) - 1, 0)[:, None]
        past = panel.offsets[series][:, None] + np.clip(back, 0, last)
        future = self.offsets[series][:, None] + np.clip(ahead, 0, known - 1)
        return Seen(self.past[past], self.future[future], self.static[series], self.unit[series])


@document("forecaster.seen", since=3)
@dataclass(frozen=True)
class Seen:
    """What is known of the covariates at B origins.

    Args:
        past: (B, L, p).
        future: (B, L + K, f); without the last K rows in a state that waits for them.
        static: (B, c).
        unit: (B,) of the effect, per series.
    """

    past: NDArray[np.float64]
    future: NDArray[np.float64]
    static: NDArray[np.float64]
    unit: NDArray[np.float64]

    def __post_init__(self) -> None:
        axes = (self.past.ndim, self.future.ndim, self.static.ndim, self.unit.ndim)
        B = len(self.unit)
        if axes != (3, 3, 2, 1) or not B == len(self.past) == len(self.future) == len(self.static):
            raise FormatError(
                "covariates of a state: past must be (B, L, p), future (B, L, f), static (B, c), unit (B,)."
            )

    def __len__(self) -> int:
        return len(self.unit)

    @staticmethod
    def join(parts: Sequence[Seen]) -> Seen:
        """Those of `parts`, which are not none, one after the other."""
        return Seen(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Seen)))

    def __getitem__(self, index: Any) -> Seen:
        return Seen(self.past[index], self.future[index], self.static[index], self.unit[index])


def encode(columns: tuple[Covariate, ...], raw: Array, starts: Array) -> Array:
    """The features (N, E) of columns as given (N, C).

    Args:
        starts: (N,) the row at which each row's series begins; a missing number is filled from there on.

    Example:
        >>> load = Covariate("load", "past", 10.0, 2.0, None, True)
        >>> shop = Covariate("shop", "past", 0.0, 1.0, ("a", "b"), False)
        >>> raw = np.array([[12, 0], [np.nan, 1], [8, 2.0]])
        >>> encode((load, shop), raw, np.zeros(3, np.int64))
        array([[ 1.,  0.,  1.,  0.],
               [ 1.,  1.,  0.,  1.],
               [-1.,  0.,  0.,  0.]])
    """
    parts = [np.zeros((len(raw), 0))]
    rows = np.arange(len(raw))
    for column, x in zip(columns, raw.T, strict=True):
        if column.categories is not None:
            parts.append((x[:, None] == np.arange(len(column.categories))).astype(np.float64))
            continue
        missing = np.isnan(x)
        z = (x - column.center) / column.scale
        if missing.any():
            latest = np.maximum.accumulate(np.where(missing, -1, rows))
            z = np.where(latest >= starts, z[latest], 0.0)
        parts.append(z[:, None])
        if column.gaps:
            parts.append(missing[:, None].astype(np.float64))
    return np.concatenate(parts, 1)


def encoded(paths: CovariatePaths, given: Covariates, panel: Panel, unit: Array) -> Encoded:
    """The covariates of a panel under what was learned; `unit` (S,) is that of the effect."""
    starts = np.repeat(panel.offsets[:-1], panel.lengths)
    of_future = np.repeat(given.offsets[:-1], np.diff(given.offsets))
    return Encoded(
        encode(paths.of("past"), given.past, starts),
        encode(paths.of("future"), given.future, of_future),
        given.offsets,
        encode(paths.of("static"), given.static, np.arange(len(panel))),
        unit,
    )


def effect(coefficients: Array | None, future: Array) -> Array:
    """(...) the effect of future covariates (..., f), in the unit of the series: X b, or [X, X²] b."""
    if coefficients is None:
        return np.zeros(future.shape[:-1])
    f = future.shape[-1]
    out: Array = future @ coefficients[:f]
    return out if len(coefficients) == f else out + future**2 @ coefficients[f:]


def regressors(seen: Seen, lookback: int) -> Array:
    """(B, E) what the correction reads: the last rows of the past covariates, their mean, the static ones."""
    B = len(seen.static)
    lags = min(LAGS, lookback)
    recent = seen.past[:, lookback - lags :].reshape(B, lags * seen.past.shape[2])
    return np.concatenate([recent, seen.past.mean(1), seen.static, np.ones((B, 1))], 1)


def correction(paths: CovariatePaths, seen: Seen, lookback: int) -> Array:
    """(B, K) what past and static covariates add, in units of the scale; (B, 1) zeros where they add nothing."""
    if paths.path is None:
        return np.zeros((len(seen.static), 1))
    out: Array = regressors(seen, lookback) @ paths.path
    return out


def coded(columns: tuple[Covariate, ...], values: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    """(..., C) columns as given, numbers and codes of categories, from values by name.

    Args:
        values: per name an array of `shape`, or what can be repeated to it.

    Raises:
        DataError: a column is missing, or is not what it was when the model was fitted.
    """
    out = np.zeros((*shape, len(columns)))
    for c, column in enumerate(columns):
        if column.name not in values:
            raise DataError(f"The covariate {column.name!r} is missing; it must have shape {shape}.")
        try:
            if column.categories is None:
                out[..., c] = np.asarray(values[column.name], np.float64)
            else:
                given = np.broadcast_to(np.asarray(values[column.name], object), shape)
                out[..., c] = category_codes(given.ravel().tolist(), column.categories).reshape(shape)
        except (TypeError, ValueError):
            kind = "numbers" if column.categories is None else "texts"
            raise DataError(f"The covariate {column.name!r} must be {kind} of shape {shape}.") from None
        if np.isinf(out[..., c]).any():
            raise DataError(f"The covariate {column.name!r} must be finite, or NaN where missing, got Inf.")
    return out


def category_codes(values: Iterable[Any], categories: Sequence[str]) -> Array:
    """(N,) the places of values among the categories, NaN where missing; of one that is not among them, their number.

    A value is what it is called without white space around it. True and false in any spelling, and numbers, are what
    they mean, for columns change their type between files and frames.

    Example:
        >>> category_codes(["sun ", "rain", "hail", None], ("rain", "sun"))
        array([ 1.,  0.,  2., nan])
        >>> category_codes([True, "FALSE", 1.0], ("false", "true")), category_codes([2, "2.0"], ("1", "2"))
        (array([1., 0., 2.]), array([1., 1.]))
    """
    codes = {name: float(code) for code, name in enumerate(categories)}
    meant = {_meaning(name): code for name, code in reversed(codes.items())}

    def code(value: Any) -> float:
        text = "" if value is None else str(value).strip()
        if not text or (isinstance(value, float | np.floating) and value != value) or text in ("<NA>", "NaT"):
            return float("nan")
        return codes.get(text, meant.get(_meaning(text), float(len(codes))))

    return np.array([code(value) for value in values], np.float64)


def _meaning(text: str) -> str:
    """One spelling for true, for false and for each number."""
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.17g}" if isfinite(number) else text


def next_row(columns: tuple[Covariate, ...], raw: Array, last: Array) -> Array:
    """(B, E) features of the row after `last` (B, E), of which a missing number takes the place."""
    row = encode(columns, raw, np.arange(len(raw)))
    first = 0
    for column, x in zip(columns, raw.T, strict=True):
        if column.categories is None:
            row[:, first] = np.where(np.isnan(x), last[:, first], row[:, first])
        first += column.size
    return row
