"""History, forecast and intervals in one picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from carousel.errors import ArgumentError, check_integer
from carousel.forecast.baselines import baselines
from carousel.forecast.glyphs import families, save
from carousel.forecast.plan import Plan
from carousel.forecast.split import Spans
from carousel.forecast.titles import fitting_width, shortened
from carousel.series.history import Context, Origins
from carousel.series.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from carousel.stream.forecaster import ForecasterModel

__all__ = ["plot"]

Array = np.ndarray[Any, Any]

BLUE, GREY, TRUTH = "#1f5fa8", "#4d4d4d", "#111111"
TITLE = 11  # points
BESIDE = 0.9  # inches that the numbers of an axis and the margins take
OTHERS = {"persistence": "#b8860b", "seasonal naive": "#2e8b57", "ridge": "#8b4a8b"}


def plot(
    runner: ForecasterModel,
    panel: Panel | None,
    path: str | os.PathLike[str] | None = None,
    *,
    truth: bool = False,
    with_baselines: bool = False,
    series: str | None = None,
    history: int | None = None,
    level: Any = None,
    last: Context | None = None,
    width: float | None = None,
) -> Figure:
    """Draws the forecast of up to six series, each in a panel of its own; it says of how many.

    Args:
        runner: the fitted model.
        panel: rows to forecast from; the ends that the model remembers without.
        path: file to write; its suffix names the format.
        truth: the last `horizon` rows are held back and drawn as the truth.
        with_baselines: draws the baselines too; needs `panel`.
        series: id of the one series to draw.
        history: rows of history to draw; about four horizons or two seasons without.
        level: of the intervals, in per cent.
        last: state to forecast from without a panel, where future covariates are part of it.
        width: of the figure in inches; 9 or 13 without.

    Raises:
        ArgumentError: an id that is not there, or a wish that needs data.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    if panel is None and (truth or with_baselines):
        raise ArgumentError("`truth` and `with_baselines` need data: give `df`.")
    if history is not None:
        check_integer("history", history, 1)
    ids = runner.value.ids if panel is None else panel.ids
    if series is not None and series not in ids:
        raise ArgumentError(f"`series` must be one of {', '.join(map(repr, ids[:5]))}, …, got {series!r}.")
    shown = [s for s, name in enumerate(ids) if series is None or name == series][:6]
    columns = 1 if len(shown) < 4 or (width is not None and width < 9) else 2
    rows = -(-len(shown) // columns)
    width = width or (9 if columns == 1 else 13)
    figure = Figure(figsize=(width, 4.2 if rows == 1 else 3 * rows), layout="constrained")
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    titles = shortened([str(ids[s]) for s in shown], fitting_width(width / columns - BESIDE, TITLE))
    for axes, s, title in zip(grid, shown, titles, strict=False):
        _draw(axes, runner, panel or last or runner.last(), s, truth, with_baselines, history, level)
        axes.set_title(
            title, loc="left", fontsize=TITLE, fontweight="bold", fontfamily=families(title), parse_math=False
        )
    if len(shown) < len(ids) and series is None:
        some = f"the first {len(shown)} of {len(ids)} series"
        figure.suptitle(some, x=0.01, ha="left", fontsize=9, color=GREY)
    handles, labels = grid[0].get_legend_handles_labels()
    ncols = len(labels) if width >= 9 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)
    if path is not None:
        save(figure, path, dpi=150)
    return figure


def _draw(
    axes: Axes,
    runner: ForecasterModel,
    panel: Panel | Context,
    s: int,
    truth: bool,
    with_baselines: bool,
    history: int | None,
    level: Any,
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    value, K = runner.value, runner.value.horizon
    count = history or max(4 * K, 2 * value.season, 24)
    if isinstance(panel, Context):
        context = panel[np.array([s])]
        forecast = runner.forecast(context, level)
        past = np.where(value.tail.observed[s], runner.user_window(context)[0], np.nan)
        if value.tail.rows is not None:
            past = past[-max(1, int(value.tail.rows[s])) :]  # what stands before was made up
        stamps = runner.frequency.shift(context.next[0], np.arange(-len(past), 0))
    else:
        one = panel.select(np.array([s]))
        end = int(one.lengths[0]) - (K if truth else 0)
        origins = Origins(np.zeros(1, np.int64), np.array([end]))
        forecast = runner.forecasts(runner.history(one, np.array([end])), origins, level)
        past, stamps = one.values[:end], one.times(0)[:end]
    past, stamps = past[-count:], stamps[-count:]
    axes.plot(stamps, past, color=GREY, lw=1.3, label="history")
    ds, alone = forecast.ds[0], K == 1  # a line of one point is none
    for j, (a, (lower, upper)) in enumerate(sorted(forecast.intervals().items(), reverse=True)):
        pale = [1 - min(0.16 * (j + 1), 0.8) * (1 - c) for c in to_rgb(BLUE)]  # widest first, darker inside
        if alone:
            axes.vlines(ds, lower[0], upper[0], color=pale, lw=8, label=f"{a:g} %")
        else:
            axes.fill_between(ds, lower[0], upper[0], color=pale, lw=0, label=f"{a:g} %")
    if isinstance(panel, Panel) and truth:
        axes.plot(ds, one.values[end:], color=TRUTH, lw=1.3, marker="o", ms=3, label="truth")
    if isinstance(panel, Panel) and with_baselines:
        plan = Plan(one.frequency, value.seasons, value.lookback, 1, K)
        train = Spans(np.array([min(value.lookback, end // 3)]), np.array([end - K + 1]))
        for name, line in baselines(one, plan, train, origins).items():
            color, marker = OTHERS.get(name, "#999999"), "D" if alone else ""
            axes.plot(ds, line[0], lw=1.1, ls="--", marker=marker, ms=4, color=color, label=name)
    axes.plot(ds, forecast.mean[0], color=BLUE, lw=2, marker="o" if alone else "", ms=5, label="forecast")
    axes.axvline(ds[0], color=GREY, lw=0.6, ls=":")
    if ds.dtype.kind == "M":
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.margins(x=0.01)
