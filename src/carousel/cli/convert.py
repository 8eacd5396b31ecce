"""`carousel convert`: a model from one format to another, verified."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from carousel.interop.verification import Conversion
    from carousel.network import ForecastModel, Network

__all__ = ["convert"]


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def convert(source: str, target: str) -> None:
    """Convert the network or forecaster in SRC to the format that DST ends in, exactly or not at all.

    \b
    .keras          Keras                .onnx     ONNX
    .h5             Keras, read only     .pt       a state_dict of torch
    anything else   carousel's own file

    A whole forecaster goes to ONNX, with all that it does to the numbers.

    Both ways are tried on random input; where the results differ by more than rounding, nothing is written.
    """
    from carousel.cli.output import check_path, say
    from carousel.interop import files

    check_path("DST", target, source)
    read = files.read(source)
    written = files.save(read.network, target)
    say(_table(source, read), "", *_summary(read.network), "")
    for what, report in (("read", read), ("written", written)):
        say(f"{what}: largest difference {report.largest:.1e}, by {report.check}")
    if written.unsaid:
        say(f"not in the file: {', '.join(written.unsaid)}")
    say(f"model: {target}")


def _summary(model: Network | ForecastModel) -> list[str]:
    from carousel.network import Network

    if isinstance(model, Network):
        return str(model).splitlines()
    return [f"forecaster of {len(model.ids)} series, {model.lookback} rows -> {model.horizon}"]


def _table(source: str, report: Conversion) -> str:
    """What became of every layer."""
    rows = [("in " + source.rpartition("/")[2], "here"), *report.layers]
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        width = max(len(theirs) for theirs, _ in rows)
        return "\n".join(f"{theirs:{width}}  {ours}" for theirs, ours in rows)
    table = Table(box=None, pad_edge=False)
    for title in rows[0]:
        table.add_column(title, overflow="fold")
    for theirs, ours in rows[1:]:
        table.add_row(theirs, ours)
    console = Console(file=sys.stdout, width=100, markup=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
