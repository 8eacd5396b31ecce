"""`carousel forecast`: a model in, a forecast out."""

from __future__ import annotations

from typing import Any

import click

from carousel.cli.options import Whole, coming_options, duplicates_option, layout_option

__all__ = ["forecast"]


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="DATA", help="File to forecast from; without it, the end of the fitted data.")
@coming_options
@layout_option
@duplicates_option
@click.option(
    "--level", type=float, multiple=True, metavar="PERCENT", help="Of the intervals; may be repeated."
)
@click.option(
    "--quantile",
    "quantiles",
    type=float,
    multiple=True,
    metavar="Q",
    help="Instead of intervals; may be repeated.",
)
@click.option("--samples", type=Whole(min=1), metavar="N", help="N paths per series instead.")
@click.option("--out", metavar="FILE", help="CSV, or Parquet by its suffix; without it, CSV on stdout.")
@click.option("--plot", metavar="PICTURE", help="Picture of history and forecast: .png, .svg or .pdf.")
def forecast(
    model: str,
    data: str | None,
    future: str | None,
    static: str | None,
    layout: Any,
    duplicates: Any,
    level: tuple[float, ...],
    quantiles: tuple[float, ...],
    samples: int | None,
    out: str | None,
    plot: str | None,
) -> None:
    """Forecast the rows that come next, with MODEL of `carousel fit`.

    \b
    Columns: unique_id, ds, carousel (the forecast), and the bounds of the
    intervals: carousel-lo-80, carousel-hi-80, carousel-lo-95, carousel-hi-95.
    """
    from carousel.cli.model import check_read, fitted_forecaster
    from carousel.cli.output import (
        PICTURES,
        TABLES,
        as_table,
        check_ending,
        check_path,
        figure_bytes,
        forecast_bytes,
        put,
        say,
        write,
    )
    from carousel.forecast.inputs import read_rows
    from carousel.forecast.read import read_table

    check_path("--out", out, model, data, future, static, device=True)
    check_path("--plot", plot, model, data, future, static, out)
    check_ending("--out", out, TABLES)
    check_ending("--plot", plot, PICTURES, only=True)
    forecaster = fitted_forecaster(model)
    check_read(forecaster.model_, future=future, static=static)
    future_rows, statics = (None if path is None else read_table(path) for path in (future, static))
    history = None
    if data is not None:
        table = read_table(data)
        history = read_rows(table, forecaster.model_, duplicates=duplicates, layout=layout, static=statics)
    answer = forecaster.predict(
        history, future=future_rows, level=level or None, quantiles=quantiles or None, samples=samples
    )
    rows = as_table(answer, forecaster.model_.columns)
    if history is not None:
        known = set(forecaster.model_.ids)
        new = sum(name not in known for name in history.panel.ids)
        say(
            *history.notes,
            *[f"new to the model, scaled by their own rows: {new} series"] * (new > 0),
            err=True,
        )
    picture = None
    if plot is not None:
        picture = figure_bytes(forecaster.plot(history, future=future_rows, level=level or None), plot)
    if out is None:
        put(forecast_bytes(rows))
    else:
        write(out, forecast_bytes(rows, out))
    if picture is not None and plot is not None:
        write(plot, picture)
