"""The figures of a report as text and as CSV."""

from __future__ import annotations

import textwrap
from io import StringIO
from typing import TYPE_CHECKING, Any

from carousel.bench.layers import Report, Row
from carousel.bench.problem import SIZES
from carousel.bench.results import csv_bytes
from carousel.bench.timing import Ratio

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["COLUMNS", "report_csv", "report_text"]

_TIMES = ("ours_ms", "torch_ms", "ratio", "low", "high", "others")
_FRESH = ("fresh_ratio", "fresh_low", "fresh_high", "fresh_others")
COLUMNS = ("cell", *SIZES, "mode", *_TIMES, *_FRESH, "gflops", "share_of_peak")


def report_csv(report: Report) -> bytes:
    """One line per problem, below lines that say where and how; `fresh` is empty where it was not measured."""
    how = f"{report.rounds} interleaved rounds of {report.seconds:g} s a side"
    memory = "malloc keeps memory" if report.kept else "malloc as it is"
    peak = f"peak {report.peak / 1e9:.0f} GFLOP/s, {report.product}"
    notes = [report.machine, f"carousel bench; {report.machine.date}; {how}; {memory}; {peak}"]
    return csv_bytes(notes, COLUMNS, (_values(report, row) for row in report.rows))


def _values(report: Report, row: Row) -> tuple[Any, ...]:
    p, r, f = row.problem, row.ratio, row.fresh
    times = (row.ours * 1e3, row.torch * 1e3, r.median, r.low, r.high, row.others)
    fresh = (f.median, f.low, f.high, row.fresh_others) if f else (None,) * 4
    return p.cell, *p.shape, p.mode, *times, *fresh, p.flops / row.best / 1e9, report.share(row)


def report_text(report: Report, *, colour: bool = False) -> str:
    """A table per cell, 100 columns wide at most, and what their columns mean."""
    from rich.console import Console

    console = Console(file=StringIO(), width=100, force_terminal=colour, highlight=False)
    with console.capture() as capture:
        for cell in _cells(report):
            console.print("", _table(report, cell), sep="\n")
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(
        [*textwrap.wrap(str(report.machine), 100), *lines, *_disturbed(report), "", _meaning(report)]
    )


def _cells(report: Report) -> list[str]:
    return list(dict.fromkeys(row.problem.cell for row in report.rows))


def _table(report: Report, cell: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=cell.upper(),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )
    for name in ("(I, H, layers, B, T)", ""):
        table.add_column(name, no_wrap=True)
    for name in ("ours ms", "torch ms", "ratio ", "spread", "fresh ", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in (row for row in report.rows if row.problem.cell == cell):
        p, r = row.problem, row.ratio
        table.add_row(
            "" if p.shape == last else str(p.shape),
            p.mode,
            f"{row.ours * 1e3:.3f}",
            f"{row.torch * 1e3:.3f}",
            _marked(report, r, row.others),
            f"{_number(r.low)}–{_number(r.high)}",
            _marked(report, row.fresh, row.fresh_others) if row.fresh else "",
            f"{100 * report.share(row):.0f} %",
        )
        last = p.shape
    return table


def _marked(report: Report, r: Ratio, others: float) -> str:
    """Green where every round was faster than torch, red where every one was slower; ~ where it says little."""
    if report.rough(r, others):
        return f"{_number(r.median)}~"
    colour = "green" if r.low > 1 else "red" if r.high < 1 else "default"
    return f"[{colour}]{_number(r.median)}[/] "


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _disturbed(report: Report) -> list[str]:
    """A warning where other programs stood in the way."""
    others = max(row.others for row in report.rows)
    if not any(report.rough(row.ratio, row.others) for row in report.rows):
        return []
    text = (
        f"~: rough. Rounds differ by more than half, or other programs wanted the cores too (up to {others:.1f} of "
        f"{report.machine.cores} were theirs): threads then wait for each other, torch's most of all, and a ratio may "
        "be many times too large. Close them, or leave them a core (--threads)."
    )
    return ["", *textwrap.wrap(text, 100)]


def _meaning(report: Report) -> str:
    process = "in one process that keeps its memory" if report.kept else "in one process"
    text = (
        f"ratio: torch's time over ours, above 1 ours is faster; the median of {report.rounds} rounds, A B A B, "
        f"{process}. spread: the least and the greatest of them. fresh: the ratio in a new process, whose malloc "
        "takes new pages from the system at every call; for small training steps only. of peak: what our matrix "
        f"products alone do, as a share of {report.peak / 1e9:.0f} GFLOP/s, the best matrix product found here "
        f"({report.product}, float32, as many threads)."
    )
    return textwrap.fill(text, 100)
