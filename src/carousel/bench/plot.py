"""The figures of a report as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from carousel.bench.layers import Report, Row
from carousel.bench.problem import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GRID", "INK", "MUTED", "ORANGE", "draw", "picture_bytes", "tidy", "titled"]

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
BLUE, ORANGE = "#0b6e99", "#d9730d"  # told apart by colour-blind readers too
_MODES = {"inference": (BLUE, "o", -0.16), "training": (ORANGE, "s", 0.16)}  # and their place in a row


def picture_bytes(report: Report) -> bytes:
    """`draw` as a PNG that says near its start what wrote it."""
    sink = io.BytesIO()
    draw(report).savefig(sink, format="png", dpi=150, metadata={"Software": "carousel bench"})
    return sink.getvalue()


def draw(report: Report) -> Figure:
    """How many times as fast as torch.nn, with the spread of the rounds; one panel per cell; hollow: rough."""
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    cells = list(dict.fromkeys(row.problem.cell for row in report.rows))
    shapes = list(dict.fromkeys(row.problem.shape for row in report.rows))
    figure = Figure((3.4 + 4.3 * len(cells), 2.2 + 0.55 * len(shapes)), layout="constrained")
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for axes, cell in zip(panels, cells, strict=True):
        _panel(axes, report, [row for row in report.rows if row.problem.cell == cell], shapes)
        axes.set_title(cell.upper(), loc="left", fontweight="bold")
    panels[0].set_yticks(range(len(shapes)), [", ".join(map(str, shape)) for shape in shapes])
    panels[0].set_ylim(len(shapes) - 0.5, -0.5)
    panels[0].annotate(
        "inputs, hidden,\nlayers, batch, steps",
        (0, 1),
        (-5, 8),
        "axes fraction",
        "offset points",
        ha="right",
        color=MUTED,
        fontsize=8.5,
    )
    if any(report.rough(row.ratio, row.others) for row in report.rows):
        panels[-1].plot([], [], "o", color=MUTED, mfc="white", label="rough")
    panels[-1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    titled(figure, "carousel.nn against torch.nn: how many times as fast", str(report.machine))
    return figure


def _panel(axes: Axes, report: Report, rows: list[Row], shapes: list[Shape]) -> None:
    for mode, (colour, marker, offset) in _MODES.items():
        mine = [row for row in rows if row.problem.mode == mode]
        y = [shapes.index(row.problem.shape) + offset for row in mine]
        axes.hlines(
            y,
            [row.ratio.low for row in mine],
            [row.ratio.high for row in mine],
            color=colour,
            lw=2.5,
            alpha=0.35,
        )
        solid = ["white" if report.rough(row.ratio, row.others) else colour for row in mine]
        axes.scatter(
            [row.ratio.median for row in mine], y, s=36, c=solid, marker=marker, edgecolors=colour, zorder=3
        )
        axes.plot([], [], marker, color=colour, ms=6, label=mode)
        for height, row in zip(y, mine, strict=True):
            axes.annotate(
                f"{row.ratio.median:.2f}",
                (row.ratio.high, height),
                (7, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=8.5,
            )
    axes.axvline(1, color=INK, lw=1)
    logarithmic(axes, [value for row in rows for value in (row.ratio.low, row.ratio.high)])
    axes.set_xlabel(
        "torch's time / our time (1: the same; to the right ours is faster)", color=MUTED, fontsize=9
    )
    tidy(axes)


def logarithmic(axes: Axes, values: list[float]) -> None:
    """A logarithmic x axis with plain numbers, wide enough for the values, 1, and a label to their right."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(0.9, *values) / 1.1, max(2.0, *values) * 1.5
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{t:g}" for t in ticks])


def tidy(axes: Axes) -> None:
    """Pale lines along x, no frame."""
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)


def titled(figure: Figure, title: str, machine: str) -> None:
    """What is shown, and below in grey where it was measured."""
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=INK)
    figure.supxlabel(machine, x=0.01, ha="left", color=MUTED, fontsize=8)
