"""Progress of a fit on stderr: one living line on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click

__all__ = ["progress"]

Report = Callable[[Mapping[str, float]], None]


@contextmanager
def progress(task: str) -> Iterator[Report]:
    """A function to be called with the epoch and its losses, `{"epoch": 3, "train": 0.2, "valid": 0.3}`.

    Args:
        task: what is going on, such as "fitting".
    """
    if not sys.stderr.isatty():
        yield lambda losses: click.echo(f"{task}: {_described(losses)}", err=True)
        return

    from rich.console import Console

    with Console(stderr=True).status(f"{task} …") as status:
        yield lambda losses: status.update(f"{task}: {_described(losses)}")


def _described(losses: Mapping[str, float]) -> str:
    return (
        f"epoch {losses['epoch']:.0f}, loss {losses['train']:.4f} in training, {losses['valid']:.4f} held out"
    )
