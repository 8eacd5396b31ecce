"""What the scripts of benchmarks/ have in common: their options, their first line, and where results go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from carousel.bench.machine import Machine, this_machine
from carousel.bench.others import Others
from carousel.bench.results import csv_bytes

__all__ = ["begin", "options", "result_path", "store"]


def options(
    doc: str | None,
    *,
    threads: int = 1,
    rounds: int = 5,
    seconds: float = 0.1,
    only: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A parser of --threads, --rounds, --seconds, --quick and --out, with these defaults; scripts add theirs.

    Args:
        only: what --only may choose one of; no such option without.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--threads", type=_positive, default=threads, help=f"of all sides; {threads}")
    parser.add_argument(
        "--rounds", type=_positive, default=rounds, help=f"how often each side is timed; {rounds}"
    )
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"least time of one side of a round; {seconds}"
    )
    parser.add_argument("--quick", action="store_true", help="a few small sizes, to see that all works")
    parser.add_argument(
        "--out",
        type=_directory,
        default=Path("benchmarks/results"),
        metavar="DIR",
        help="directory for the results, of which each run has one name; benchmarks/results",
    )
    if only:
        parser.add_argument("--only", choices=only, help="one of them")
    return parser


def begin(parsed: argparse.Namespace) -> Machine:
    """Sets the threads and prints what the machine is."""
    import torch

    if parsed.quick:
        parsed.rounds, parsed.seconds = min(parsed.rounds, 2), min(parsed.seconds, 0.01)
    torch.set_num_threads(parsed.threads)
    parsed.others = Others()
    machine = this_machine()
    print(f"# {machine}; {machine.date}")
    return machine


def result_path(parsed: argparse.Namespace, machine: Machine, question: str, suffix: str) -> Path:
    """DIR/date-machine-question.suffix."""
    directory: Path = parsed.out
    return directory / f"{machine.date}-{machine.slug}-{question}{suffix}"


def store(
    parsed: argparse.Namespace,
    machine: Machine,
    question: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    part: str = "",
) -> None:
    """Writes the rows to a CSV whose first lines say where they come from, and prints its name.

    Args:
        part: of the question, where each has a file of its own.
    """
    path = result_path(parsed, machine, "-".join(filter(None, (question, part))), ".csv")
    others = f"other programs kept {parsed.others.cores():.2f} of {machine.cores} cores busy meanwhile"
    timed = f"; {parsed.rounds} rounds of {parsed.seconds:g} s a side" if parsed.seconds else ""
    how = f"benchmarks/{question}.py {part}".rstrip() + f"; {machine.date}{timed}"
    path.write_bytes(csv_bytes([machine, how, others], columns, rows))
    print(f"# {others}")
    print(f"# {path}")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a directory; make it first")
    return Path(text)
