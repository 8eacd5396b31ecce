"""What a fit shows while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from carousel.errors import ArgumentError

__all__ = ["progress_report"]

Report = Callable[[dict[str, float]], None]


@contextmanager
def progress_report(progress: Any, epochs: int) -> Iterator[Report]:
    """A function that is called after every epoch.

    Args:
        progress: a function to call; True for a bar; None for one on a terminal; False for none.
        epochs: of one round; a fit may stop earlier or start a second round.

    Raises:
        ArgumentError: `progress` is something else.
    """
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise ArgumentError(f"`progress` must be True, False, None or a function, got {progress!r}.")
    if callable(progress):
        yield progress
        return
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield lambda losses: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fitting", total=epochs)

        def show(losses: dict[str, float]) -> None:
            bar.update(task, completed=losses["epoch"], description=f"fitting, loss {losses['train']:.4f}")

        yield show
