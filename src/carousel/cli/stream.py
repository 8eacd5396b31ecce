"""`carousel stream`: rows in, a line of JSON for each, as they come."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import click

from carousel.cli.options import Seconds

__all__ = ["stream"]


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--follow", metavar="FILE", help="Read FILE and wait for it to grow; without it, stdin to its end."
)
@click.option("--out", metavar="FILE", help="File for the results, each exactly once; without it, stdout.")
@click.option("--state", metavar="FILE", help="Keep what was observed there, and go on from it.")
@click.option(
    "--continue",
    "goes_on",
    is_flag=True,
    help="The input goes on after the rows of --state; without, it begins with them.",
)
@click.option(
    "--save-every",
    type=Seconds(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that --state is behind.",
)
@click.option(
    "--future",
    metavar="FILE",
    help="CSV of future covariates for rows to come; read again when it changes.",
)
@click.option("--id", metavar="COLUMN", help="Column that tells streams apart; that of the model without.")
@click.option(
    "--header",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Whether the first line names the columns.",
)
def stream(
    model: str,
    follow: str | None,
    out: str | None,
    state: str | None,
    goes_on: bool,
    save_every: float,
    future: str | None,
    id: str | None,
    header: Literal["auto", "yes", "no"],
) -> None:
    """Answer every row with a line of JSON: a forecast, or what a network gives.

    \b
    carousel stream MODEL < rows.csv > forecasts.jsonl
    carousel stream MODEL --follow rows.csv --state state --out forecasts.jsonl

    Rows are CSV: id, time, value and covariates of a series, or the features of a network. A row that cannot be
    used is named on stderr and left out.
    """
    from carousel.cli.output import LINES, check_ending, check_path
    from carousel.errors import ArgumentError
    from carousel.stream.session import run

    check_path("--state", state, model, follow, future)
    check_path("--out", out, model, follow, future, state)
    check_ending("--out", out, LINES)
    if goes_on and state is None:
        raise ArgumentError("--continue needs --state, which it goes on from.")
    with _signals() as (received, wake):
        run(
            model, follow=follow, out=out, state=state, goes_on=goes_on, every=save_every, id=id, future=future,
            header=header,
            report=_report, stopped=lambda: bool(received), wake=wake,
        )  # fmt: skip
    if signal.SIGINT in received:
        raise KeyboardInterrupt


def _report(text: str, line: int) -> None:
    from carousel.cli.output import say

    say(f"carousel: line {line}: {text}" if line else f"carousel: {text}", err=True)


@contextmanager
def _signals() -> Iterator[tuple[list[int], int]]:
    """Ctrl-C and SIGTERM, collected: the list of them, and a descriptor that can be read when there is one.

    The second one has its usual effect.
    """
    import os

    received: list[int] = []
    ours = (signal.SIGINT, signal.SIGTERM)
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, receive) for number in ours}
    old = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield received, read
    finally:
        signal.set_wakeup_fd(old)
        for number in ours:
            signal.signal(number, before[number])
        os.close(read)
        os.close(write)
