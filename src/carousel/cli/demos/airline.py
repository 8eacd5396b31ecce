"""Twelve months of airline passengers, forecast from the eleven years before them, and the truth beside it.

By the default forecaster, by the tutorials' network (window -> LSTM -> last state -> Dense), and by the baselines.

The data are 144 monthly totals of international airline passengers in thousands, 1949 to 1960.

Source: Box, Jenkins (1976), Time Series Analysis: Forecasting and Control, series G.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carousel.cli.output import as_table
from carousel.forecast import Forecaster
from carousel.forecast.holdout import backtest_from_start
from carousel.forecast.read import Reading, read_frame, read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HORIZON", "Outcome", "draw", "errors", "read", "run"]

HORIZON = 12
SHOWN = 30  # months of history in the picture
BASELINES = ("ridge", "seasonal naive", "persistence")
LSTM = "plain LSTM"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Args:
        forecast: a row per month: the columns of a forecast, `actual`, the plain LSTM, a column per baseline.
        history: (N,) the months before.
        times: (N,) their first days.
        notes: what the fit found and decided.
        verdict: what the errors say, in sentences.
    """

    forecast: pa.Table
    history: Array
    times: Array
    notes: tuple[str, ...]
    verdict: tuple[str, ...]

    def column(self, name: str) -> Array:
        """(K,) one column of the forecast."""
        return np.asarray(self.forecast[name].to_numpy())


def read() -> Reading:
    """The 144 months."""
    with as_file(files("carousel") / "data" / "airline.csv") as path:
        return read_frame(read_table(path))


def run(progress: Any = False) -> Outcome:
    """Fits both forecasters on all but the last year and forecasts that year."""
    reading = read()
    plain = Forecaster(HORIZON, architecture="plain", cell="lstm", progress=progress)
    plain_result = backtest_from_start(plain, reading, origins=1)
    forecaster = Forecaster(HORIZON, progress=progress)
    result = backtest_from_start(forecaster, reading, origins=1)
    table = as_table(result.forecasts, forecaster.model_.columns)
    names = [name for name in table.column_names if name not in ("cutoff", "y", *BASELINES)]
    table = table.select([*names, "y", *BASELINES]).rename_columns([*names, "actual", *BASELINES])
    table = table.append_column(LSTM, [np.asarray(plain_result.forecasts["carousel"])])
    panel = reading.panel
    return Outcome(
        forecast=table,
        history=panel.series(0)[:-HORIZON],
        times=panel.times(0)[:-HORIZON],
        notes=forecaster.model_.notes,
        verdict=result.verdict,
    )


def errors(outcome: Outcome) -> dict[str, tuple[float, float]]:
    """Root mean square error and mean absolute error in per cent of the truth, best first."""
    actual = outcome.column("actual")
    found = {}
    for name in ("carousel", LSTM, *BASELINES):
        error = outcome.column(name) - actual
        found[name] = float(np.sqrt((error**2).mean())), float(100 * np.abs(error / actual).mean())
    return dict(sorted(found.items(), key=lambda item: item[1]))


def draw(outcome: Outcome) -> Figure:
    """The end of the history, the forecast with its intervals, the truth, and the baselines."""
    from matplotlib.dates import DateFormatter, MonthLocator
    from matplotlib.figure import Figure

    from carousel.forecast.plot import BLUE, OTHERS

    figure = Figure((11, 5.5), layout="constrained")
    axes = figure.subplots()
    months, scores = outcome.column("ds"), errors(outcome)
    axes.plot(outcome.times[-SHOWN:], outcome.history[-SHOWN:], color="0.25", lw=1.4, label="history")
    axes.plot(months, outcome.column("actual"), "o-", color="0.1", ms=5, lw=0.8, label="actual")
    axes.plot(months, outcome.column("carousel"), color=BLUE, lw=2.2, label=_label("carousel", scores))
    for level, alpha in ((80, 0.2), (95, 0.1)):
        low, high = outcome.column(f"carousel-lo-{level}"), outcome.column(f"carousel-hi-{level}")
        axes.fill_between(months, low, high, color=BLUE, alpha=alpha, lw=0, label=f"{level} % interval")
    axes.plot(months, outcome.column(LSTM), color="#c2410c", lw=1.3, ls="-.", label=_label(LSTM, scores))
    for name in ("ridge", "seasonal naive"):
        axes.plot(
            months, outcome.column(name), color=OTHERS[name], lw=1.3, ls="--", label=_label(name, scores)
        )
    axes.axvline(months[0] - np.timedelta64(15, "D"), color="0.7", lw=1)
    axes.set_ylabel("passengers per month (thousands)")
    axes.set_title("Airline passengers: one year, forecast from the eleven years before it", loc="left")
    axes.xaxis.set_major_locator(MonthLocator((1, 7)))
    axes.xaxis.set_major_formatter(DateFormatter("%b %Y"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.legend(loc="upper left", frameon=False, ncols=2)
    return figure


def _label(name: str, scores: dict[str, tuple[float, float]]) -> str:
    return f"{name} (RMSE {scores[name][0]:.1f})"
