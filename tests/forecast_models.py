"""Forecast models with every part and random weights, which no training had to make; and rows for them."""

from dataclasses import replace

import numpy as np

from carousel.network import Dense, LastStep, Network, Recurrent, Weights
from carousel.network.forecaster import (
    LAGS,
    Calibration,
    Columns,
    Covariate,
    CovariatePaths,
    DeepARPath,
    ForecastModel,
    LinearPath,
    PlainPath,
    RecurrentPath,
    Scaling,
    Tail,
)
from carousel.series.autoregression import row_size
from carousel.series.calendar import Frequency
from carousel.series.features import has_interplay, phases
from carousel.series.history import own_scale
from carousel.series.linear import sizes
from carousel.series.panel import Panel
from carousel.series.segments import segment_inputs
from carousel.series.smoothing import candidates, subset
from carousel.series.unit import in_unit
from carousel.stream import Model

HIDDEN = 16

CASES = {  # frequency, season, look-back, horizon, segment, cell, unit
    "hourly": ("h", 24, 48, 30, 12, "gru", "identity"),
    "half-hourly": ("30min", 48, 96, 20, 8, "lstm", "log"),
    "daily": ("D", 7, 30, 9, 7, "gru", "log"),
    "business": ("B", 5, 21, 7, 5, "rnn", "root"),
    "opening hours": ("30min Mon-Thu 08:00-11:30,13:00-16:30; Sat 09:00-10:30", 68, 80, 40, 17, "gru", "log"),
    "open days": ("D Mon-Sat", 6, 24, 8, 6, "gru", "identity"),
    "weekly": ("W-SUN", 52, 60, 6, 4, "gru", "identity"),
    "monthly": ("MS", 12, 36, 14, 12, "lstm", "log"),
    "month ends": ("ME", 12, 30, 5, 3, "gru", "identity"),
    "quarterly": ("QE", 4, 12, 6, 4, "gru", "root"),
    "counted": ("2", 6, 20, 8, 6, "gru", "identity"),
}
RESTLESS = (
    "hourly",
    "daily",
    "weekly",
    "quarterly",
)  # cases whose intervals grow with the unrest of the rows before
OWN = ("half-hourly", "daily", "monthly")  # cases in which each series has a width of its own
SIDED = ("hourly", "monthly")  # cases whose errors reach further above than below
SIZES = {
    "identity": (5000, 100, 100),
    "root": (70, 1, 1),
    "log": (3, 1, 0.1),
}  # centres, their spread, scales


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
    if frequency.unit == "open":
        hours = rng.integers(0, 24, size=count).astype("timedelta64[h]")  # which days keep
        return frequency.shift(stamps + hours, rng.integers(0, 68, size=count))
    return stamps + (frequency.step * rng.integers(0, 24, size=count)).astype("timedelta64[us]") * (
        frequency.unit == "us" and frequency.step < 86400 * 10**6
    )


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
    unit="identity",
    plain=False,
    recurrent=True,
    promo=False,
    beside=False,
    deepar=None,
):
    """A model of `series` series of `length` rows each, and the rows (S, N) that it was "fitted" on.

    Args:
        promo: it reads a future covariate of that name.
        beside: it reads several: past, future and static, numbers and categories, and holidays where rows are days.
        deepar: it is one of that likelihood, and "fitted" on whole numbers if that is one of counts.
    """
    paths = not plain and deepar is None
    frequency = Frequency.parse(freq)
    y = np.stack([rows(rng, length, season, 100 + 20 * s) for s in range(series)])
    y = y.round() if deepar == "negative-binomial" else y
    start = 0 if frequency.unit == "index" else np.datetime64("2024-01-01")
    ids = tuple(f"s{s}" for s in range(series))
    panel = Panel.of(list(y), ids=ids, starts=[start] * series, freq=frequency)
    center, scale = own_scale(panel, in_unit(panel.values, unit), season)
    kind = panel.starts.dtype
    smoothing = _smoothing(rng, (season, 168) if season == 24 else (season,), 8, series) if paths else None
    memory, members = (0, 0) if smoothing is None else (smoothing.memory, len(smoothing.weights))
    segment = frequency.segment if frequency.season == season else season
    model = ForecastModel(
        horizon=horizon,
        frequency=str(frequency),
        season=season,
        seasons=(season,),
        lookback=lookback,
        level=(80.0, 95.0),
        columns=Columns("unique_id" if series > 1 else None, "ds", "y", "pandas"),
        ids=ids,
        scaling=Scaling.of(unit, center, scale),
        smoothing=smoothing,
        linear=_linear(rng, frequency, season, lookback, horizon, series) if paths else None,
        recurrent=_recurrent(rng, frequency, segment, horizon, HIDDEN, "gru", 1)
        if recurrent and paths
        else None,
        plain=_plain(rng, "lstm", (HIDDEN,), horizon) if plain else None,
        calibration=Calibration(
            np.sort(rng.uniform(0, 2, (200, horizon)), 0),
            np.full(horizon, 50.0),
            own=np.linspace(0.5, 2.0, series + 1) if series > 1 else None,
        ),
        tail=Tail(
            np.zeros((series, lookback)),
            np.zeros((series, memory, members)),
            np.full(series, start).astype(kind),
        ),
        notes=(),
        nonnegative=deepar == "negative-binomial",
        deepar=None if deepar is None else _deepar(rng, frequency, "lstm", (HIDDEN, 5), deepar),
    )
    runner = Model(model)
    history = runner.history(panel)
    end = history.context(history.ends(), lookback, memory)
    covariates = _promo(series, lookback) if promo else None
    if beside:
        covariates = _beside(rng, series, lookback, horizon, "US" if str(frequency) == "D" else None)
    tail = Tail(end.window, end.errors, end.next, None if end.rows is None else panel.lengths)
    return replace(model, tail=tail, covariates=covariates), y


def forecaster(rng, name, *, linear=True, deep=True, plain=False, deepar=None, scores=40, S=3):
    """A model of a case whose scale, rows and errors are random, too: it was "fitted" on nothing."""
    text, m, L, K, segment, cell, unit = CASES[name]
    paths, unit = not plain and deepar is None, unit if deepar is None else "identity"
    frequency = Frequency.parse(text)
    mean, spread, size = SIZES[unit]
    scale = rng.uniform(0.5, 2, size=S) * size
    center = rng.normal(mean, spread, size=S)
    smoothing = _smoothing(rng, (m,), 4, S) if paths else None
    M, G = (0, 0) if smoothing is None else (smoothing.memory, len(smoothing.weights))
    L = max(L, M)
    return ForecastModel(
        horizon=K,
        frequency=text,
        season=m,
        seasons=(m,),
        lookback=L,
        level=(80.0, 95.0),
        columns=Columns("unique_id", "ds", "y", "pandas"),
        ids=tuple(f"größe {k}" for k in range(S)),
        scaling=Scaling.of(unit, center, scale),
        smoothing=smoothing,
        linear=_linear(rng, frequency, m, L, K, S) if linear and paths else None,
        recurrent=_recurrent(rng, frequency, segment, K, 6, cell, 2) if deep and paths else None,
        plain=_plain(rng, cell, (5, 4), K) if plain else None,
        calibration=Calibration(
            np.sort(rng.exponential(size=(scores, K)) - (1 if name in SIDED else 0), axis=0),
            np.full(K, float(max(scores, 1))),
            volatility=rng.uniform(0, 1, 2) if name in RESTLESS else None,
            sided=name in SIDED,
            own=np.linspace(0.5, 2.0, S + 1) if name in OWN else None,
        ),
        tail=Tail(
            center[:, None] + scale[:, None] * rng.normal(size=(S, L)),
            scale[:, None, None] * rng.normal(size=(S, M, G)),
            starts(frequency, rng, S),
        ),
        notes=(),
        deepar=None if deepar is None else _deepar(rng, frequency, cell, (5, 4), deepar),
    )


def _smoothing(rng, seasons, members, series):
    """Of several series each has weights of its own, and a share of the linear path."""
    every = candidates(seasons)
    kept = rng.choice(len(every.weights), members, replace=False)
    kept[0] = len(every.weights) - 1  # the longest memory
    smoothing = subset(every, kept, rng.uniform(0.1, 1, members))
    return replace(smoothing, own=rng.dirichlet(np.ones(members), series)) if series > 1 else smoothing


def _uniform(rng, *shape):
    return rng.uniform(-0.3, 0.3, shape).astype(np.float32)


def _dense(rng, O, I, activation="identity"):
    return Dense(_uniform(rng, O, I), _uniform(rng, O), activation)


def _layer(rng, cell, I, H):
    GH = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * H
    return Recurrent(cell, (Weights(*(_uniform(rng, GH, *size) for size in ((I,), (H,), (), ()))),))


def _linear(rng, frequency, season, lookback, horizon, series):
    P, F = phases(frequency, season), sizes(frequency, season, lookback)[-1]
    A = rng.normal(size=(P, F, horizon)) / 100
    own = rng.random(series + 1) if series > 1 else None
    return LinearPath(A, 0.6, True, has_interplay(frequency, season), level=True, own=own)


def _recurrent(rng, frequency, segment, horizon, hidden, cell, count):
    past, future = segment_inputs(frequency, segment, horizon)
    return RecurrentPath(
        segment=segment,
        embed=_dense(rng, hidden, past, "relu"),
        layers=tuple(_layer(rng, cell, hidden, hidden) for _ in range(count)),
        position=_dense(rng, hidden, future),
        head=_dense(rng, segment, hidden),
        shrink=0.7,
    )


def _plain(rng, cell, widths, horizon):
    layers = [_layer(rng, cell, I, H) for I, H in zip((1, *widths), widths, strict=False)]
    return PlainPath(Network((*layers, LastStep(), _dense(rng, horizon, widths[-1]))))


def _deepar(rng, frequency, cell, widths, likelihood):
    layers = [_layer(rng, cell, I, H) for I, H in zip((row_size(frequency), *widths), widths, strict=False)]
    network = Network((*layers, _dense(rng, 2, widths[-1])))
    return DeepARPath(network, likelihood, 4.5 if likelihood == "student" else None)


def _beside(rng, S, lookback, horizon, country):
    columns = [
        Covariate("news", "past", 3.0, 2.0, None, True),
        Covariate("mood", "past", 0.0, 1.0, ("bad", "good"), False),
        Covariate("promo", "future", 0.5, 2.0, None, False),
        Covariate("shop", "future", 0.0, 1.0, ("none", "open"), False),
        Covariate("kind", "static", 0.0, 1.0, ("x", "y"), False),
    ]
    if country:
        columns.insert(
            4, Covariate("holiday", "future", 0.0, 1.0, ("Labor Day", "New Year's Day", "none"), False)
        )
    past, future = (sum(c.size for c in columns if c.role == role) for role in ("past", "future"))
    lags = min(LAGS, lookback)
    return CovariatePaths(
        columns=tuple(columns),
        holidays=country,
        unit=rng.uniform(1, 2, S),
        effect=rng.normal(size=future),
        path=rng.normal(size=(past * (lags + 1) + 2 + 1, horizon)),
        recurrent=False,
        static=rng.integers(0, 2, (S, 1)).astype(float),
        past=rng.normal(size=(S, lookback, past)),
        future=rng.normal(size=(S, lookback, future)),
    )


def _promo(S, lookback):
    return CovariatePaths(
        columns=(Covariate("promo", "future", 0.0, 1.0, None, False),),
        holidays=None,
        unit=np.ones(S),
        effect=np.full(1, 20.0),
        path=None,
        recurrent=False,
        static=np.zeros((S, 0)),
        past=np.zeros((S, lookback, 0)),
        future=np.zeros((S, lookback, 1)),
    )
