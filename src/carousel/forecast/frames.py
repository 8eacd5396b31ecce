"""From forecasts back to the user's kind of frame."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import narwhals as nw
import numpy as np

from carousel.errors import DataError
from carousel.network.forecaster import Columns, TimeUnit
from carousel.series.zones import instants
from carousel.stream.forecast import Forecast

__all__ = ["check_apart", "forecast_columns", "kind_of", "quantile_columns", "sample_columns", "to_frame"]

Array = np.ndarray[Any, Any]

_OURS = ("carousel", "sample", "cutoff", "y", "persistence", "seasonal naive", "ridge")


def kind_of(data: Any) -> str:
    """The kind of frame to answer with: "pandas", "polars" or "pyarrow"; for arrays pandas if it is there."""
    try:
        kind = str(nw.from_native(data, allow_series=True).implementation).rsplit(".", 1)[-1].lower()
    except TypeError:
        kind = "numpy"
    if kind in ("pandas", "polars", "pyarrow"):
        return kind
    try:
        nw.Implementation.PANDAS.to_native_namespace()
    except ImportError:
        return "pyarrow"
    return "pandas"


def check_apart(columns: Columns) -> None:
    """Refuses columns of ids or times by whose names a forecast or a backtest has other columns.

    Raises:
        DataError: names the column.
    """
    for name in (columns.id, columns.time):
        if name is not None and (name in _OURS or name.startswith("carousel-")):
            raise DataError(
                f"Column {name!r} names the series or times, but forecasts have a column of that name; rename it."
            )


def forecast_columns(forecast: Forecast, ids: Any, columns: Columns) -> dict[str, Array]:
    """The columns of a forecast: id, time, `carousel`, `carousel-lo-80`, `carousel-hi-80`, ….

    Args:
        ids: B names, one per origin.
    """
    out = _point_columns(forecast.ds, forecast.mean, ids, columns)
    for level, (lower, upper) in forecast.intervals().items():
        out[f"carousel-lo-{level:g}"] = lower.reshape(-1)
        out[f"carousel-hi-{level:g}"] = upper.reshape(-1)
    return out


def _point_columns(ds: Array, mean: Array, ids: Any, columns: Columns) -> dict[str, Array]:
    """Id, time and `carousel` of B forecasts (B, K)."""
    return {
        columns.id or "unique_id": np.repeat(_ids(ids, columns), mean.shape[1]),
        columns.time or "ds": ds.reshape(-1),
        "carousel": mean.reshape(-1),
    }


def _ids(ids: Any, columns: Columns) -> Array:
    """Names, or whole numbers where the fitted ones were, and these are."""
    if columns.whole_ids:
        with suppress(ValueError, OverflowError):
            return np.array([int(name) for name in ids], np.int64)
    return np.asarray(ids, object)


def quantile_columns(
    forecast: Forecast, values: Array, quantiles: tuple[float, ...], ids: Any, columns: Columns
) -> dict[str, Array]:
    """Id, time, `carousel`, and `carousel-q-10`, … of values (Q, B, K)."""
    out = _point_columns(forecast.ds, forecast.mean, ids, columns)
    for q, rows in zip(quantiles, values, strict=True):
        out[f"carousel-q-{100 * q:g}"] = rows.reshape(-1)
    return out


def sample_columns(ds: Array, paths: Array, ids: Any, columns: Columns) -> dict[str, Array]:
    """Id, time, `sample` and `carousel` of paths (number, B, K): per series, path by path."""
    number, B, K = paths.shape
    out = _point_columns(
        np.repeat(ds, number, 0),
        paths.swapaxes(0, 1).reshape(-1, K),
        np.repeat(_ids(ids, columns), number),
        columns,
    )
    values = out.pop("carousel")
    return out | {"sample": np.tile(np.repeat(np.arange(number), K), B), "carousel": values}


def to_frame(
    columns: dict[str, Array],
    kind: str,
    zone: str | None = None,
    unit: TimeUnit | None = None,
    every: bool = False,
    days: bool = False,
) -> Any:
    """A frame of that kind: pandas, polars or pyarrow.

    Args:
        columns: times by the wall clock.
        zone: that the times are given back in; rows at an hour that its clock leaves out are none.
        unit: of the times, where that can hold them; in pandas dates are Python's, in a column of objects.
        every: keeps them, without a time.
        days: rows are days or longer, none of which a clock leaves out.
    """
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    shown = np.ones(len(next(iter(columns.values()))), bool)
    for name, values in columns.items():
        if values.dtype == object:
            arrays[name] = pa.array(values.tolist(), pa.string())
        elif zone is None or values.dtype.kind != "M" or (found := instants(values, zone)) is None:
            arrays[name] = pa.array(values)
        else:
            exists = found[1] | days
            arrays[name] = pa.array(found[0], pa.timestamp("us", zone), mask=~exists)
            shown &= exists
        if values.dtype.kind == "M" and unit is not None:
            times = arrays[name]
            with suppress(pa.ArrowInvalid):  # a time that the unit does not reach or cannot part
                there = times.cast(pa.date32() if unit == "D" else pa.timestamp(unit, times.type.tz))
                if there.cast(times.type).equals(times):  # arrow drops the hours of a date, unsaid
                    arrays[name] = there
    table = pa.table(arrays)
    if not (every or shown.all()):
        table = table.filter(pa.array(shown))
    return nw.from_arrow(table, backend=cast(Any, kind)).to_native()
