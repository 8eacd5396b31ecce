"""`carousel report`: a model and a file in, one page for those who decide out."""

from __future__ import annotations

from typing import Any

import click

from carousel.cli.options import coming_options, duplicates_option, layout_option, origin_options

__all__ = ["report"]


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--data", metavar="DATA", required=True, help="File to forecast from, and to judge the model on."
)
@coming_options
@layout_option
@duplicates_option
@origin_options
@click.option("--out", metavar="PAGE", required=True, help="HTML file; exactly this path.")
def report(
    model: str,
    data: str,
    future: str | None,
    static: str | None,
    layout: Any,
    duplicates: Any,
    origins: int | None,
    step: int | None,
    start: str | None,
    out: str,
) -> None:
    """Write one HTML page: what is forecast, how good that is, against what, and how sure.

    The page needs no network and can be mailed. Where MODEL was fitted on the rows that it is judged on, its
    settings are fitted once more, on the rows before them.
    """
    from carousel.cli.model import check_read, fitted_forecaster
    from carousel.cli.output import PAGES, check_ending, check_path, say, write
    from carousel.forecast.inputs import read_rows
    from carousel.forecast.read import read_table

    check_path("--out", out, model, data, future, static)
    check_ending("--out", out, PAGES)
    forecaster = fitted_forecaster(model)
    check_read(forecaster.model_, future=future, static=static)
    future_rows, statics = (None if path is None else read_table(path) for path in (future, static))
    reading = read_rows(
        read_table(data), forecaster.model_, duplicates=duplicates, layout=layout, static=statics
    )
    say(*reading.notes)
    page = forecaster.report(reading, future=future_rows, origins=origins, step=step, start=start)
    write(out, page.encode())
    say(f"report: {out}")
