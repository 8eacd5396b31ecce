"""What a fit found and decided, in sentences."""

from __future__ import annotations

import numpy as np

from carousel.forecast.dates import moment
from carousel.forecast.split import Split, judges
from carousel.forecast.training import Run
from carousel.network.forecaster import Calibration, CovariatePaths, ForecastModel, LinearPath
from carousel.series.panel import Panel
from carousel.series.unit import TITLES
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel
from carousel.stream.sampler import PATHS

__all__ = ["of_intervals", "of_sums", "sentences"]

NO_GAIN = "no gain on the held-out rows, left out"
ROLES = ("past", "future", "static")
SHORT = 0.05  # of a sum, from which on it is said
LEVELS = (np.arange(99) + 0.5) / 99
SERIES = 200


def sentences(
    model: ForecastModel, panel: Panel, split: Split, run: Run, asked: bool | None
) -> tuple[str, ...]:
    """What was found in a panel, and what became of each part of the model.

    Args:
        model: of the rows before the held-out ones.
        run: the training of its network.
        asked: for forecasts that are not negative; None where the data say.
    """
    held = int((panel.lengths - split.cut).sum())
    season = f"season {', '.join(map(str, model.seasons))}" if model.season > 1 else "no season"
    said = [
        f"{panel.lengths.sum()} rows in {len(panel)} series; frequency {model.frequency}, {season}, "
        f"look-back {model.lookback}, horizon {model.horizon}",
        f"the last {held} rows were held out to choose, calibrate and score",
    ]
    if split.choose is split.judge:
        said.append("few held-out rows: the same ones chose and scored, which flatters a little")
    if model.nonnegative or model.scaling.root:
        said.append("no value is below 0: forecasts and bounds are cut there")
    elif model.scaling.unit == "identity" and np.nanmin(panel.values) >= 0 and asked is None:
        said.append(
            "no value is below 0, but nothing shows that none can be; --nonnegative, in Python nonnegative=True, cuts "
            "forecasts there"
        )
    said += _ended(panel, model.horizon)
    if missing := int(np.isnan(panel.values).sum()):
        said.append(
            f"{missing} missing value{'s' * (missing > 1)}: filled from the past as input, left out of errors"
        )
    if model.deepar is not None:
        negative = "negative binomial, for all values are whole numbers from 0 on"
        likelihood = negative if model.deepar.counts else "Student's t"
        said.append(f"likelihood: {likelihood}; paths are drawn {PATHS} at a time")
    if model.smoothing is not None:
        said.append(f"unit: {TITLES[model.scaling.unit]}")
        if model.smoothing.own is not None:
            said.append("smoothing: each series has weights of its own")
        said.append(f"linear path: {NO_GAIN if model.linear is None else _of_linear(model.linear)}")
        if model.covariates is not None:
            said += _of_covariates(model.covariates)
        path, left_out = model.recurrent, NO_GAIN
        if run.best is not None and not judges(len(split.choose), model.horizon):
            left_out = "too few held-out rows to judge it, left out"
        kept = left_out if path is None else f"{path.shrink:.0%} kept after {run.best_epoch} epochs"
        said.append(f"recurrent path: {kept}")
    if run.spent:
        when = f"in epoch {len(run.history)}" if run.history else "before its first epoch"
        said.append(f"the budget ended the training {when}; the best until then is kept")
    return tuple(said)


def _ended(panel: Panel, horizon: int) -> list[str]:
    """A note of series that are forecast to before the last row of another."""
    ended = np.flatnonzero(
        panel.frequency.shift(panel.lasts, np.full(len(panel), horizon)) < panel.lasts.max()
    )
    if not len(ended):
        return []
    which = "1 series ends" if len(ended) == 1 else f"{len(ended)} series end"
    s = ended[0]
    return [
        f"{which} more than a horizon before {moment(panel.lasts.max())}, {panel.ids[s]} at {moment(panel.lasts[s])}: "
        "forecasts begin where a series ends"
    ]


def of_intervals(calibration: Calibration) -> tuple[str, ...]:
    """What is to be said of intervals that are not there, not as wide everywhere, or not as wide below as above."""
    said = []
    if not len(calibration.scores):
        said.append(
            "no intervals: no value is known in the rows that were held out, nor in others that were forecast"
        )
    if calibration.volatility is not None:
        power = calibration.volatility.sum()
        said.append(f"intervals: wider after restless rows, narrower after quiet ones (power {power:.1f})")
    if calibration.own is not None:
        few, middle, many = np.quantile(calibration.own[:-1], (0.1, 0.5, 0.9))
        said.append(
            f"intervals: by series {few:.2g} to {many:.2g} times as wide as usual, {middle:.2g} in the middle"
        )
    if calibration.sided:
        said.append("intervals: a width of its own above and below, for errors are skewed")
    return tuple(said)


def _of_linear(path: LinearPath) -> str:
    percent = round(100 * path.share)
    share = f"on top of {percent} %" if percent else "in place"
    kept = f"kept, {share} of the smoothing"
    if path.own is None:
        return kept
    few, middle, many = (f"{share:.0%}" for share in np.quantile(path.own[:-1], (0.1, 0.5, 0.9)))
    if few == many:
        return f"{kept}; {middle} of the way to it"
    return f"{kept}; by series {few} to {many} of the way to it, {middle} in the middle"


def _of_covariates(paths: CovariatePaths) -> list[str]:
    listed = {role: ", ".join(column.name for column in paths.of(role)) for role in ROLES}
    said: list[str] = []
    reads = ", read by the recurrent path" if paths.recurrent else ""
    for role in ROLES:
        if listed[role]:
            kept = paths.effect is not None if role == "future" else paths.path is not None
            found = "kept" if kept else "no linear gain" if reads else NO_GAIN
            said.append(f"{role} covariates ({listed[role]}): {found}{reads}")
    return said


def of_sums(model: ForecastModel) -> tuple[str, ...]:
    """That forecasts are nearer a median than a mean, where their sum is therefore too small by a twentieth or more.

    It is what the intervals say: forecasts at the level of the last season, beside the mean of all that may come then.
    """
    if model.scaling.unit == "identity" or not len(model.calibration.scores):
        return ()
    runner = ForecasterModel(model)
    state = runner.last()[:SERIES]
    point = np.repeat(state.window[:, -model.season :].mean(1, keepdims=True), model.horizon, 1)
    none = np.zeros((0, *point.shape))
    forecast = Forecast(np.zeros(point.shape, "M8[us]"), point, (), none, none, point)
    mean = runner.quantiles(forecast, state, LEVELS).mean(0).sum()
    short = 1 - runner.quantiles(forecast, state, (0.5,)).sum() / mean if mean > 0 else 0.0
    if short < SHORT:
        return ()
    return (
        f"a forecast is nearer a median than a mean: sums of forecasts are some {short:.0%} too small, those of "
        "sample paths are not",
    )
