"""From forecasts back to the user's kind of frame."""

from __future__ import annotations

from typing import Any, cast

import narwhals as nw
import numpy as np

from carousel.network.forecaster import Columns
from carousel.stream.forecast import Forecast

__all__ = ["forecast_columns", "kind_of", "quantile_columns", "sample_columns", "to_frame"]

Array = np.ndarray[Any, Any]


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
        columns.id or "unique_id": np.repeat(np.asarray(ids, object), mean.shape[1]),
        columns.time or "ds": ds.reshape(-1),
        "carousel": mean.reshape(-1),
    }


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
        np.repeat(np.asarray(ids, object), number),
        columns,
    )
    values = out.pop("carousel")
    return out | {"sample": np.tile(np.repeat(np.arange(number), K), B), "carousel": values}


def to_frame(columns: dict[str, Array], kind: str) -> Any:
    """A frame of that kind: pandas, polars or pyarrow."""
    import pyarrow as pa

    arrays = {
        name: pa.array(values.tolist(), pa.string()) if values.dtype == object else pa.array(values)
        for name, values in columns.items()
    }
    return nw.from_arrow(pa.table(arrays), backend=cast(Any, kind)).to_native()
