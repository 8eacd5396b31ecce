"""The report: one HTML page that needs no network, for those who decide on a forecast."""

from __future__ import annotations

import io
from base64 import b64encode
from importlib.resources import files
from math import floor, log10
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from carousel import __version__
from carousel.forecast.backtest import Backtest
from carousel.forecast.dates import moment
from carousel.forecast.glyphs import save
from carousel.forecast.pictures import plot_backtest, plot_parts, plot_training
from carousel.forecast.plot import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from carousel.forecast.scores import Scores
    from carousel.network.forecaster import ForecastModel
    from carousel.series.panel import Panel
    from carousel.stream.forecast import Forecast
    from carousel.stream.forecaster import ForecasterModel

__all__ = ["report_page"]

WIDE, NARROW = 10.5, 5.2  # inches of the picture of the forecast, on a desktop and on a phone
ROWS = 60  # of the table of forecasts
SERIES = 3  # in it
Array = np.ndarray[Any, Any]
NAMES = {
    "carousel": "this model (carousel)",
    "persistence": "the last value repeated (persistence)",
    "seasonal naive": "the last season repeated (seasonal naive)",
    "ridge": "linear regression (ridge)",
}
FEW = 8  # series, whose errors are listed one by one
APART = 10.0  # times the errors of the series that is forecast best, from which a mean of all says nothing of most
WRONG = 5.0  # points of coverage, from which intervals are called too narrow or too wide


def report_page(
    runner: ForecasterModel,
    panel: Panel,
    result: Backtest,
    how: str,
    notes: tuple[str, ...],
    history: tuple[dict[str, float], ...],
) -> str:
    """The page as text.

    Args:
        panel: the rows that the forecast starts from.
        result: of a backtest on them.
        how: in a sentence, which model the backtest was made with.
        notes: what was found in the data and decided.
        history: loss of every epoch; none if it is not known.
    """
    from jinja2 import Environment, StrictUndefined

    value, errors = runner.value, _errors(result)
    maes = [mae for mae, _ in errors.values() if mae > 0]
    apart = len(maes) > 1 and max(maes) > APART * min(maes)
    levels = result.scores["carousel"].coverage
    state = runner.history(panel)
    forecast = runner.forecasts(state, state.ends())
    template = files("carousel.forecast").joinpath("report.html").read_text("utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(
        version=__version__,
        target=value.columns.target,
        ids=panel.ids,
        horizon=value.horizon,
        frequency=value.frequency,
        rows=f"{int(panel.lengths.sum()):,}",
        first=moment(panel.starts.min()),
        last=moment(panel.lasts.max()),
        begin=moment(forecast.ds.min()),
        end=moment(forecast.ds.max()),
        verdict=result.verdict,
        how=how,
        origins=result.origins,
        scores=_score_rows(result.scores, len(levels)),
        titles=["MAE", "RMSE", "sMAPE %", "MASE", "CRPS", *(f"in {a:g} %" for a in levels)],
        cards=_cards(result.scores["carousel"], value, apart),
        apart=apart,
        each=_each(errors) if 1 < len(errors) <= FEW else None,
        inside=[(f"{a:g}", f"{100 * share:.0f}", _remark(100 * share - a)) for a, share in levels.items()],
        wide=_image(plot(runner, panel, with_baselines=True, width=WIDE)),
        narrow=_image(plot(runner, panel, with_baselines=True, width=NARROW)),
        shown=min(len(panel), 6),
        tables=_forecast_tables(forecast, panel),
        by_step=_image(plot_backtest(result, "step")),
        by_origin=_image(plot_backtest(result, "origin")),
        coverage=_image(plot_backtest(result, "coverage")),
        parts=_image(plot_parts(result.parts)) if result.parts else None,
        training=_image(plot_training(history)) if history else None,
        notes=notes,
    )


def _cards(scores: Scores, value: ForecastModel, apart: bool) -> list[tuple[str, str, str]]:
    """Title, figure and explanation: how far off forecasts were, first in the unit of the target where it has one."""
    mae = (
        "Typical error",
        _number(scores.mae),
        f"mean absolute error (MAE), in the unit of {value.columns.target}",
    )
    repeated = "season" if value.season > 1 else "value"
    mase = (
        "Error beside a simple rule",
        f"{scores.mase:.2f}",
        f"of what repeating the last {repeated} was off by in the past: below 1 is better than that (MASE)",
    )
    smape = (
        "In relation",
        f"{scores.smape:.1f} %",
        "error in per cent of the size of the values (sMAPE), 0 to 200 %",
    )
    if not apart:
        return [mae, smape]
    return [mase, smape] if np.isfinite(scores.mase) else [smape]


def _errors(result: Backtest) -> dict[str, tuple[float, float]]:
    """Of every series whose truth is known, the mean absolute error and the mean size of the values."""
    frame = nw.from_native(result.forecasts, eager_only=True)
    ids = frame[frame.columns[0]].to_list()
    places = {name: s for s, name in enumerate(dict.fromkeys(ids))}
    series = np.array([places[name] for name in ids])
    truth, forecast = (frame[name].to_numpy().astype(float) for name in ("y", "carousel"))
    known = ~np.isnan(truth)
    count = np.bincount(series[known], minlength=len(places))
    missed, size = (
        np.bincount(series[known], np.abs(x)[known], len(places)) for x in (forecast - truth, truth)
    )
    return {
        str(name): (float(missed[s] / count[s]), float(size[s] / count[s]))
        for name, s in places.items()
        if count[s]
    }


def _each(errors: dict[str, tuple[float, float]]) -> list[list[str]]:
    return [[name, _number(mae), _number(size)] for name, (mae, size) in errors.items()]


def _score_rows(scores: dict[str, Scores], levels: int) -> list[dict[str, Any]]:
    names = sorted(scores, key=lambda name: scores[name].rmse)
    return [
        {
            "name": NAMES.get(name, name),
            "model": name == "carousel",
            "cells": [
                *(_number(x) for x in (s.mae, s.rmse, s.smape, s.mase, s.crps)),
                *([f"{100 * share:.0f} %" for share in s.coverage.values()] or [""] * levels),
            ],
        }
        for name, s in ((name, scores[name]) for name in names)
    ]


def _remark(points: float) -> str:
    """What a difference between measured and promised coverage means."""
    if abs(points) < WRONG:
        return ""
    return ": they were too narrow" if points < 0 else ": they were wider than needed"


def _forecast_tables(forecast: Forecast, panel: Panel) -> list[dict[str, Any]]:
    """The first series: per row the time, the forecast and the bounds of every level, the narrowest first."""
    bounds = forecast.intervals()
    tables = []
    for s in range(min(len(panel), SERIES)):
        rows = []
        mean = forecast.mean[s]
        widths = np.concatenate(
            [np.ravel(high[s] - low[s]) for low, high in bounds.values()] or [np.zeros(0)]
        )
        places = _decimals(mean, widths)
        for k in range(min(len(mean), ROWS)):
            ends = [
                f"{_fixed(low[s, k], places)} to {_fixed(high[s, k], places)}"
                for low, high in bounds.values()
            ]
            rows.append([moment(forecast.ds[s, k]), _fixed(mean[k], places), *ends])
        tables.append({"id": panel.ids[s], "levels": [f"{a:g}" for a in bounds], "rows": rows})
    return tables


def _decimals(mean: Array, widths: Array) -> int:
    """Digits behind the point for all numbers of a table: three of the typical width of an interval, or of the
    spread of the forecasts, or four of their size."""
    mean, widths = mean[np.isfinite(mean)], widths[np.isfinite(widths) & (widths > 0)]
    spread, size = (np.ptp(mean), np.abs(mean).max() / 10) if len(mean) else (0.0, 0.0)
    width = float(np.median(widths)) if len(widths) else spread or size
    return max(0, 2 - floor(log10(max(width, 1e-12 * size)))) if max(width, size) > 0 else 0


def _fixed(x: float, places: int) -> str:
    return f"{round(x, places) + 0.0:,.{places}f}" if np.isfinite(x) else "–"  # no -0


def _number(x: float) -> str:
    """Four digits, or all digits before the point."""
    if not np.isfinite(x):
        return "–"
    if x == 0:
        return "0"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:#.4g}".removesuffix(".")


def _image(figure: Figure) -> str:
    """A picture as a data URL; the same figure gives the same text."""
    from matplotlib import rc_context

    sink = io.BytesIO()
    with rc_context({"svg.hashsalt": "carousel", "text.parse_math": False}):
        save(figure, sink, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + b64encode(sink.getvalue()).decode()
