"""`carousel backtest`: what forecasts from many origins of a file would have been worth."""

from __future__ import annotations

from typing import Any

import click

from carousel.cli.data import Data, data_options
from carousel.cli.options import Whole, forecaster_options, origin_options

__all__ = ["backtest"]


@click.command()
@forecaster_options
@data_options
@origin_options
@click.option(
    "--refit",
    type=Whole(min=0),
    default=0,
    show_default=True,
    help="Fit anew at every K-th origin; 0: never.",
)
@click.option("--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes for --refit.")
@click.option("--out", metavar="FILE", help="All forecasts and the truth: CSV, or Parquet by its suffix.")
def backtest(
    data: Data,
    origins: int | None,
    step: int | None,
    start: str | None,
    refit: int,
    jobs: int,
    out: str | None,
    **options: Any,
) -> None:
    """Fit on the first part of DATA, forecast the rest from many origins, and say how good that was.

    The model is fitted once, on rows before the first origin, or anew as --refit says. Persistence, the
    seasonal naive forecast and ridge forecast from the same origins.
    """
    from carousel.cli.output import TABLES, as_table, check_ending, check_path, forecast_bytes, say, write
    from carousel.cli.progress import progress

    check_path("--out", out, *data.files, device=True)
    check_ending("--out", out, TABLES)
    reading = data.read()

    from carousel import Forecaster
    from carousel.forecast.holdout import backtest_from_start

    forecaster = Forecaster(freq=data.freq, **options, progress=progress())
    if refit:
        result = forecaster.backtest(reading, origins=origins, step=step, start=start, refit=refit, jobs=jobs)
    else:
        result = backtest_from_start(forecaster, reading, origins=origins, step=step, start=start)
    say("", result)
    if out is not None:
        write(out, forecast_bytes(as_table(result.forecasts, reading.names), out))
        say("", f"forecasts: {out}")
