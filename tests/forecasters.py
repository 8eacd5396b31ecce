"""Forecasters made of random numbers, without training: for the tests of their file and of their ONNX graph."""

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
from carousel.series.features import has_interplay, phases
from carousel.series.linear import sizes
from carousel.series.segments import segment_inputs
from carousel.series.smoothing import candidates, subset

CASES = {  # frequency, season, look-back, horizon, segment, cell, logarithm
    "hourly": ("h", 24, 48, 30, 12, "gru", False),
    "half-hourly": ("30min", 48, 96, 20, 8, "lstm", True),
    "daily": ("D", 7, 30, 9, 7, "gru", True),
    "business": ("B", 5, 21, 7, 5, "rnn", False),
    "weekly": ("W-SUN", 52, 60, 6, 4, "gru", False),
    "monthly": ("MS", 12, 36, 14, 12, "lstm", True),
    "month ends": ("ME", 12, 30, 5, 3, "gru", False),
    "quarterly": ("QE", 4, 12, 6, 4, "gru", False),
    "counted": ("2", 6, 20, 8, 6, "gru", False),
}


def starts(frequency, rng, count):
    """Stamps on the grid, over thirty years."""
    if frequency.unit == "index":
        return frequency.step * rng.integers(0, 10_000, size=count)
    days = rng.integers(0, 365 * 30, size=count).astype("timedelta64[D]")
    if frequency.unit == "month":
        months = (np.datetime64("2000-01") + days.astype(int) // 30).astype("datetime64[M]")
        end = (months + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
        stamps = end if frequency.anchor == "end" else months.astype("datetime64[D]")
        return stamps.astype("datetime64[us]")
    day = np.datetime64("2000-01-02") + (days // 7 * 7 if str(frequency).startswith("W") else days)
    if frequency.unit == "business":
        day = np.busday_offset(day, 0, roll="forward")
    stamps = day.astype("datetime64[us]")
    return stamps + (frequency.step * rng.integers(0, 24, size=count)).astype("timedelta64[us]") * (
        frequency.unit == "us" and frequency.step < 86400 * 10**6
    )


def dense(rng, O, I, activation="identity"):
    return Dense(rng.normal(0, 0.5, size=(O, I)).astype("f4"), rng.normal(size=O).astype("f4"), activation)


def recurrent(rng, cell, I, H):
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    shapes = ((G * H, I), (G * H, H), (G * H,), (G * H,))
    return Recurrent(cell, (Weights(*(rng.normal(0, 0.5, size=s).astype("f4") for s in shapes)),))


def forecaster(rng, name, *, linear=True, deep=True, plain=False, scores=40, S=3):
    text, m, L, K, segment, cell, log = CASES[name]
    frequency = Frequency.parse(text)
    scale = rng.uniform(0.5, 2, size=S) * (0.1 if log else 100)
    center = rng.normal(3, 1, size=S) if log else rng.normal(5000, 100, size=S)
    smoothing = path = read = None
    if not plain:
        everyone = candidates((m,))
        kept = rng.choice(len(everyone.weights), 4, replace=False)
        smoothing = subset(everyone, kept, rng.uniform(0.1, 1, size=4))
    M = 0 if smoothing is None else smoothing.memory
    L = max(L, M)
    if linear and not plain:
        A = rng.normal(0, 0.1, size=(phases(frequency, m), sizes(frequency, m, L)[-1], K))
        path = LinearPath(A, 0.7, True, has_interplay(frequency, m), level=True)
    if deep and not plain:
        H, (past, future) = 6, segment_inputs(frequency, segment, K)
        layers = (recurrent(rng, cell, H, H), recurrent(rng, cell, H, H))
        embed, position = dense(rng, H, past, "relu"), dense(rng, H, future)
        read = RecurrentPath(segment, embed, layers, position, dense(rng, segment, H), 0.8)
    network = Network((recurrent(rng, cell, 1, 5), recurrent(rng, cell, 5, 4), LastStep(), dense(rng, K, 4)))
    return ForecastModel(
        horizon=K,
        frequency=text,
        season=m,
        seasons=(m,),
        lookback=L,
        level=(80.0, 95.0),
        columns=Columns("unique_id", "ds", "y", "pandas"),
        ids=tuple(f"größe {k}" for k in range(S)),
        scaling=Scaling(log, center, scale),
        smoothing=smoothing,
        linear=path,
        recurrent=read,
        plain=PlainPath(network) if plain else None,
        calibration=Calibration(
            np.sort(rng.exponential(size=(scores, K)), axis=0), np.full(K, float(max(scores, 1)))
        ),
        tail=Tail(
            center[:, None] + scale[:, None] * rng.normal(size=(S, L)),
            scale[:, None, None] * rng.normal(size=(S, M, 0 if smoothing is None else 4)),
            starts(frequency, rng, S),
        ),
        notes=(),
    )
