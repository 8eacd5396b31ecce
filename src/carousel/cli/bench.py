"""`carousel bench`: our layers against torch.nn on the user's own machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from carousel.cli.options import Whole

__all__ = ["bench"]

_MARK = b"carousel bench"  # near the start of both files


@click.command()
@click.option("--threads", type=Whole(min=1), help="Of both sides; as many as torch takes without.")
@click.option("--rounds", type=Whole(min=1), help="How often each side is timed; 7 without, 3 if quick.")
@click.option("--only", type=click.Choice(["lstm", "gru"]), help="One kind of layer.")
@click.option("--quick", is_flag=True, help="A rough look in a quarter of the time.")
@click.option(
    "--out",
    default="bench",
    show_default=True,
    metavar="DIR",
    help="Directory for layers.csv and layers.png.",
)
def bench(threads: int | None, rounds: int | None, only: str | None, quick: bool, out: str) -> None:
    """Time our layers against torch.nn on this machine, in about a minute.

    Inference and training (forward and backward) of LSTM and GRU at seven sizes. Results are checked to be equal
    before anything is timed. Both sides run in turn; still, close other programs first.
    """
    from carousel.cli.output import say, write

    _check_installed("torch", "rich", "matplotlib")
    table, picture = _check_files(out)

    from carousel.bench import layers, picture_bytes, problems, report_csv, report_text

    which = problems((only,) if only else ("lstm", "gru"))
    with _progress() as progress:
        report = layers(
            which,
            threads=threads,
            rounds=rounds or (3 if quick else 7),
            seconds=0.02 if quick else 0.1,
            progress=progress,
        )
    say(report_text(report, colour=sys.stdout.isatty()))
    Path(out).mkdir(exist_ok=True)
    write(table, report_csv(report))
    write(picture, picture_bytes(report))
    say("", f"figures: {table}", f"picture: {picture}")


def _check_installed(*libraries: str) -> None:
    """Refuses what could not be finished."""
    from carousel.errors import UnsupportedError

    for name in libraries:
        if find_spec(name) is None:
            raise UnsupportedError(
                f"this needs {name}, which is not installed: pip install 'carousel-rnn[all]'"
            )


def _check_files(out: str) -> tuple[str, str]:
    """The table and the picture in the directory `out`; refuses to replace files that are not ours."""
    from carousel.cli.output import check_path
    from carousel.errors import ArgumentError

    directory = Path(out)
    if not out or (directory.exists() and not directory.is_dir()):
        raise ArgumentError(f"--out must be a directory, but {out!r} is {'a file' if out else 'no name'}.")
    if not directory.exists():
        check_path("--out", out)
    paths = (directory / "layers.csv", directory / "layers.png")
    for path in paths if directory.exists() else ():
        check_path("--out", str(path))
        if path.exists() and _MARK not in path.read_bytes()[:1000]:
            raise ArgumentError(
                f"{path} was not written by carousel bench; choose another directory (--out)."
            )
    return str(paths[0]), str(paths[1])


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """On stderr: a bar on a terminal, a line per measurement in a log."""
    from carousel.cli.output import say

    if not sys.stderr.isatty():
        yield lambda what, done, total: say(f"{done + 1} of {total}: {what}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:48}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
