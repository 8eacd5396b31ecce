"""A stream of rows between files: what `carousel stream` runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Literal

from carousel.errors import ArgumentError
from carousel.stream.checkpoint import Checkpoint
from carousel.stream.follow import Follower, resumed
from carousel.stream.lines import Lines
from carousel.stream.model import load
from carousel.stream.output import Output
from carousel.stream.rows import rows

__all__ = ["run"]


def run(
    model: str,
    *,
    follow: str | None = None,
    out: str | None = None,
    state: str | None = None,
    goes_on: bool = False,
    every: float = 1.0,
    id: str | None = None,
    future: str | None = None,
    header: Literal["auto", "yes", "no"] = "auto",
    report: Callable[[str, int], None],
    stopped: Callable[[], bool] = lambda: False,
    wake: int | None = None,
) -> None:
    """Answers the rows of a file that grows, or of stdin, until they end or `stopped()`.

    Args:
        model: path of a model file.
        follow: path of the file; None reads stdin.
        out: path of the results; None writes stdout.
        state: path of the state; None keeps none.
        goes_on: the input goes on after the rows of the state.
        every: seconds that the state may be behind.
        id: column that tells streams apart.
        future: path of the future covariates of rows to come, read again when it changes.
        header: whether the first line names the columns.
        report: is called with a remark and the number of its line, 0 for none.
        wake: a descriptor that ends waiting as soon as it can be read.

    Raises:
        CarouselError: the model, the state, the header or an option cannot be used.
        OSError: the system could not read or write.
    """
    runner = load(model)
    fingerprint = sha256(Path(model).read_bytes()).hexdigest()
    checkpoint = Checkpoint(fingerprint, (), None) if state is None else resumed(state, fingerprint, goes_on)
    taken = rows(runner, header, id, future)
    taken.states.update(checkpoint.states())  # type: ignore[arg-type]
    if checkpoint.ids or checkpoint.lines:
        report(f"goes on from {state}: {len(checkpoint.ids)} series, {checkpoint.lines} lines.", 0)
    with ExitStack() as open_files:
        source = _stdin() if follow is None else open_files.enter_context(_opened(follow))
        lines = Lines(source, follow=follow is not None, wake=wake, path=follow)
        output = Output(out, checkpoint.written)
        open_files.callback(output.close)
        Follower(taken, lines, output, checkpoint, path=state, every=every, report=report).run(stopped)


def _stdin() -> int:
    if sys.stdin is None:
        raise ArgumentError("stdin is closed; give the rows through a pipe, or --follow FILE.")
    return sys.stdin.fileno()


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
