"""Pictures beside that of the forecast: errors, coverage, training, parts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from carousel.errors import check_choice
from carousel.forecast.dates import moment
from carousel.forecast.glyphs import save
from carousel.forecast.plot import BLUE, GREY, OTHERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from carousel.forecast.backtest import Backtest

__all__ = ["plot_backtest", "plot_parts", "plot_training"]

Array = np.ndarray[Any, Any]

SIZE = (4.8, 3.2)  # inches: readable at the width of a phone
MARKED = 40  # points of a line, beyond which they are not marked
KINDS = ("step", "origin", "coverage")


def plot_backtest(result: Backtest, kind: str, path: str | os.PathLike[str] | None = None) -> Figure:
    """See `Backtest.plot`."""
    from matplotlib.ticker import MaxNLocator

    check_choice("kind", kind, KINDS)
    figure, axes = _figure()
    if kind == "coverage":
        _coverage(axes, result)
    else:
        times, errors = _errors(result)
        for name, error in errors.items():
            style = _style(name, error.shape[1] if kind == "step" else len(np.unique(times)))
            if kind == "step":
                axes.plot(np.arange(1, error.shape[1] + 1), _mean(error, 0), label=name, **style)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            else:
                at, which = np.unique(times, return_inverse=True)
                each = [_mean(error[which == k].reshape(1, -1), 1)[0] for k in range(len(at))]
                axes.plot(at, each, label=name, **style)
        axes.set_xlabel("steps ahead" if kind == "step" else "last known row")
        axes.set_ylabel("mean absolute error")
        axes.set_ylim(bottom=0)
        if kind == "origin" and times.dtype.kind == "M":
            _dates(axes, at)
        _legend(axes)
    return _done(figure, path)


def plot_training(history: Any, path: str | os.PathLike[str] | None = None) -> Figure:
    """Loss of every epoch of the first round, in training and on held-out rows."""
    figure, axes = _figure()
    epochs = [losses["epoch"] for losses in history]
    alone = "o" if len(epochs) == 1 else ""  # a line of one point is none
    for name, label, color, lw in (
        ("train", "training", GREY, 1.3),
        ("valid", "held-out rows", BLUE, 2.0),
    ):
        axes.plot(epochs, [losses[name] for losses in history], color=color, lw=lw, marker=alone, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.locator_params(axis="x", integer=True)
    _legend(axes)
    return _done(figure, path)


def plot_parts(parts: dict[str, float], path: str | os.PathLike[str] | None = None) -> Figure:
    """RMSE of the model cut short after each of its parts.

    Args:
        parts: of a `Backtest`.
    """
    figure, axes = _figure()
    names = [name if k == 0 else f"+ {name}" for k, name in enumerate(parts)]
    bars = axes.barh(names, [*parts.values()], color=BLUE, height=0.55)
    axes.bar_label(bars, fmt="%.4g", padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("RMSE")
    axes.margins(x=0.18)
    axes.grid(visible=False)
    return _done(figure, path)


def _coverage(axes: Axes, result: Backtest) -> None:
    inside = result.scores["carousel"].coverage
    names = [f"{level:g} %" for level in inside]
    bars = axes.bar(
        names, [100 * share for share in inside.values()], color=BLUE, width=0.5, label="measured"
    )
    axes.bar_label(bars, fmt="%.1f", label_type="center", color="white", fontsize=10)
    for k, level in enumerate(inside):
        axes.plot([k - 0.35, k + 0.35], [level, level], color="#111111", lw=1.6, label="promised" * (k == 0))
    axes.set_ylim(0, 102)
    axes.set_xlabel("interval")
    axes.set_ylabel("truths inside, %")
    _legend(axes)


def _errors(result: Backtest) -> tuple[Array, dict[str, Array]]:
    """(B,) the last known rows, and the absolute errors (B, K) of model and baselines, the best first."""
    frame = nw.from_native(result.forecasts, eager_only=True)
    truth = frame["y"].to_numpy().reshape(result.origins, -1)
    names = sorted(result.scores, key=lambda name: result.scores[name].mae)
    return result.cutoffs, {
        name: np.abs(frame[name].to_numpy().reshape(truth.shape) - truth) for name in names
    }


def _mean(error: Array, axis: int) -> Array:
    """Means of what is known; NaN where nothing is."""
    known = ~np.isnan(error)
    count = known.sum(axis)
    mean: Array = np.where(count > 0, np.where(known, error, 0).sum(axis) / np.maximum(count, 1), np.nan)
    return mean


def _style(name: str, points: int) -> dict[str, Any]:
    marker = "o" if points <= MARKED else ""
    if name == "carousel":
        return {"color": BLUE, "lw": 2.2, "zorder": 3, "marker": marker, "ms": 4}
    return {"color": OTHERS.get(name, "#999999"), "lw": 1.2, "ls": "--", "marker": marker, "ms": 3}


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Above the axes and the power of ten that may stand there, where it hides nothing."""
    axes.legend(
        frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.06), ncols=2, borderaxespad=0.2
    )


def _dates(axes: Axes, times: Array) -> None:
    """Dates as ticks; of one time that itself, for around it matplotlib finds no interval."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if len(times) == 1:
        axes.set_xticks(times, [moment(times[0])])
        return
    # Fewer than 3 of a unit are at most 6 of the widest interval of the next smaller one: some interval always fits.
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _done(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    if path is not None:
        save(figure, path, dpi=150)
    return figure
