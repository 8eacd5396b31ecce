"""Forecast models with every part and random weights, which no training had to make; and rows for them."""

from dataclasses import replace

import numpy as np

from carousel.network import Dense, LastStep, Network, Recurrent, Weights
from carousel.network.forecaster import (
    Calibration,
    Columns,
    ForecastModel,
    LinearPath,
    PlainPath,
    RecurrentPath,
    Scaling,
    Tail,
)
from carousel.series.calendar import Frequency
from carousel.series.features import phases
from carousel.series.history import own_scale
from carousel.series.linear import sizes
from carousel.series.panel import Panel
from carousel.series.segments import segment_inputs
from carousel.series.smoothing import candidates, subset
from carousel.stream import Model

HIDDEN = 16


def rows(rng, length, season, level=100.0):
    t = np.arange(length)
    return level + 10 * np.sin(2 * np.pi * t / season) + rng.normal(size=length).cumsum() / 3


def forecast_model(
    rng,
    *,
    freq="h",
    season=24,
    lookback=336,
    horizon=24,
    series=3,
    length=500,
    log=False,
    plain=False,
    recurrent=True,
):
    """A model of `series` series of `length` rows each, and the rows (S, N) that it was "fitted" on."""
    frequency = Frequency.parse(freq)
    y = np.stack([rows(rng, length, season, 100 + 20 * s) for s in range(series)])
    start = 0 if frequency.unit == "index" else np.datetime64("2024-01-01")
    ids = tuple(f"s{s}" for s in range(series))
    panel = Panel.of(list(y), ids=ids, starts=[start] * series, freq=frequency)
    center, scale = own_scale(panel, np.log(panel.values) if log else panel.values, season)
    kind = panel.starts.dtype
    smoothing = None
    if not plain:
        every = candidates((season, 168) if season == 24 else (season,))
        kept = rng.choice(len(every.weights), 8, replace=False)
        kept[0] = len(every.weights) - 1  # the longest memory
        smoothing = subset(every, kept, rng.uniform(0.1, 1, 8))
    memory, members = (0, 0) if smoothing is None else (smoothing.memory, len(smoothing.weights))
    model = ForecastModel(
        horizon=horizon,
        frequency=str(frequency),
        season=season,
        seasons=(season,),
        lookback=lookback,
        level=(80.0, 95.0),
        columns=Columns("unique_id" if series > 1 else None, "ds", "y", "pandas"),
        ids=ids,
        scaling=Scaling(log, center, scale),
        smoothing=smoothing,
        linear=None if plain else _linear(rng, frequency, season, lookback, horizon),
        recurrent=_recurrent(rng, frequency, season, horizon) if recurrent and not plain else None,
        plain=_plain(rng, horizon) if plain else None,
        calibration=Calibration(np.sort(rng.uniform(0, 2, (200, horizon)), 0), np.full(horizon, 50.0)),
        tail=Tail(
            np.zeros((series, lookback)),
            np.zeros((series, memory, members)),
            np.full(series, start).astype(kind),
        ),
        notes=(),
    )
    runner = Model(model)
    history = runner.history(panel)
    end = history.context(history.ends(), lookback, memory)
    return replace(model, tail=Tail(end.window, end.errors, end.next)), y


def _uniform(rng, *shape, dtype=np.float32):
    return rng.uniform(-0.3, 0.3, shape).astype(dtype)


def _layer(rng, cell, inputs):
    gates = {"lstm": 4, "gru": 3}[cell]
    weights = Weights(*(_uniform(rng, gates * HIDDEN, *size) for size in ((inputs,), (HIDDEN,), (), ())))
    return Recurrent(cell, (weights,))


def _linear(rng, frequency, season, lookback, horizon):
    features = sizes(frequency, season, lookback)
    P = phases(frequency, season)
    A = rng.normal(size=(P, features[-1], horizon)) / 100
    return LinearPath(A, 0.6, True, len(features) > 2, level=True)


def _recurrent(rng, frequency, season, horizon):
    segment = frequency.segment if frequency.season == season else season
    past, future = segment_inputs(frequency, segment, horizon)
    return RecurrentPath(
        segment=segment,
        embed=Dense(_uniform(rng, HIDDEN, past), _uniform(rng, HIDDEN), "relu"),
        layers=(_layer(rng, "gru", HIDDEN),),
        position=Dense(_uniform(rng, HIDDEN, future), _uniform(rng, HIDDEN)),
        head=Dense(_uniform(rng, segment, HIDDEN), _uniform(rng, segment)),
        shrink=0.7,
    )


def _plain(rng, horizon):
    head = Dense(_uniform(rng, horizon, HIDDEN), _uniform(rng, horizon))
    return PlainPath(Network((_layer(rng, "lstm", 1), LastStep(), head)))
