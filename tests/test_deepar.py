"""The autoregressive network: its likelihoods, how it is trained, the paths that it draws, and what it forecasts."""

from __future__ import annotations

import warnings
from math import lgamma, log, log1p, pi
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster, stream
from carousel.errors import ArgumentError
from carousel.forecast import recurrent_fit
from carousel.forecast.training import Run
from carousel.series.autoregression import location_and_scale, mean_and_shape, row_inputs, unit_of
from carousel.stream.network import NetworkModel
from forecast_models import forecast_model

torch = pytest.importorskip("torch")

QUICK: dict[str, Any] = {
    "architecture": "deepar",
    "season": 12,
    "lookback": 24,
    "epochs": 3,
    "hidden_size": 8,
    "progress": False,
}
Array = np.ndarray[Any, Any]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(21)


def seasonal(rng: np.random.Generator, rows: int = 240) -> Array:
    """An autoregression of order 1 around a season."""
    x = np.zeros(rows)
    for t in range(1, rows):
        x[t] = 0.5 * x[t - 1] + rng.normal()
    return 30 + 6 * np.sin(np.arange(rows) * np.pi / 6) + x


def counted(rng: np.random.Generator, rows: int = 240) -> Array:
    return rng.poisson(np.exp(1 + np.sin(np.arange(rows) * np.pi / 6))).astype(float)


def constant_net(o: tuple[float, float], counts: bool) -> Any:
    """A network that says `o` of every row."""
    from carousel.forecast.modules import DeepARNet

    net = DeepARNet("gru", 4, 3, 1, counts)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor(o))
    return net


def student(x: float, location: float, scale: float, freedom: float) -> float:
    d = (x - location) / scale
    return (
        lgamma((freedom + 1) / 2)
        - lgamma(freedom / 2)
        - 0.5 * log(freedom * pi)
        - log(scale)
        - (freedom + 1) / 2 * log1p(d * d / freedom)
    )


def negative_binomial(x: float, mean: float, shape: float) -> float:
    r = 1 / shape
    return lgamma(x + r) - lgamma(r) - lgamma(x + 1) - r * log1p(shape * mean) + x * log(mean / (r + mean))


# The likelihoods


@pytest.mark.parametrize("o", [(0.3, -0.7), (-2.0, 3.0), (5.0, -6.0)])
def test_the_loss_is_minus_the_logarithm_of_the_probability(o: tuple[float, float]) -> None:
    z, rows = np.array([[-3.0, 0.0, 0.25, 40.0]]), torch.zeros(6, 1, 4)
    net = constant_net(o, counts=False)
    found = net.loss(rows, torch.ones(1, 1), torch.from_numpy(z)).detach().numpy()[0]
    location, scale = (float(part[0]) for part in location_and_scale(np.array([o])))
    expected = [-student(x, location, scale, net.value().freedom) for x in z[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)

    net, size, x = constant_net(o, counts=True), 7.0, np.array([[0.0, 1.0, 9.0, 400.0]])
    found = net.loss(rows, torch.full((1, 1), size), torch.from_numpy(x / size)).detach().numpy()[0]
    mean, shape = (float(part[0]) for part in mean_and_shape(np.array([o]), np.array([size])))
    np.testing.assert_allclose(found, [-negative_binomial(y, mean, shape) for y in x[0]], rtol=1e-6)


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("o", [(1e4, 1e4), (-1e4, -1e4), (1e4, -1e4), (-1e4, 1e4)])
def test_extreme_rows_have_finite_gradients(o: tuple[float, float], counts: bool) -> None:
    net = constant_net(o, counts)
    rows = torch.tensor([0.0, 1e9, -1e9, 1.0]).repeat(4, 2, 1)
    target = torch.tensor([[0.0, 1e9, 1e-9], [1e9, 0.0, 3.0]])
    loss = net.loss(rows, torch.tensor([[1.0], [1e9]]), target)
    assert torch.isfinite(loss).all()
    loss.mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


# The training


def captured(monkeypatch: pytest.MonkeyPatch, y: Any) -> tuple[Any, Any]:
    """A batch of the first training, and its criterion."""
    calls: list[Any] = []

    def train(*arguments: Any) -> Run:
        calls.append(arguments)
        return Run()

    monkeypatch.setattr(recurrent_fit, "train", train)
    Forecaster(5, **QUICK).fit(y)
    net, load, rows, *_, criterion = calls[0]
    return load(np.arange(rows)), lambda batch: criterion(net, batch)


@pytest.mark.parametrize("make", [seasonal, counted])
def test_every_row_is_read_after_it_was_forecast(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    batch, _ = captured(monkeypatch, make(rng))
    rows, size = batch.inputs
    assert rows.shape[0] == 24 + 5 - 1
    np.testing.assert_allclose(rows[-4:, :, 0].T, batch.target[:, :-1], rtol=1e-6)
    step = (rows[-4, :, 0] - rows[-5, :, 0]) * size[0, :, 0]
    assert 0 < float(step.abs().max()) < 40, "the last row of the look-back stands in another unit"


def test_every_row_is_read_with_its_own_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    months = pd.date_range("2001-01-01", periods=120, freq="MS")
    df = pd.DataFrame({"ds": months, "y": months.month - 1.0})
    batch, _ = captured(monkeypatch, df)
    rows, size = (tensor.numpy() for tensor in batch.inputs)
    known = np.round(batch.target.numpy() * size[0]).T
    angle = np.arctan2(rows[-5:, :, 1], rows[-5:, :, 4])  # of the first harmonic of the year
    assert (np.round(angle / (2 * np.pi) * 12) % 12 == known).all()


def test_missing_rows_do_not_count(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    y = seasonal(rng)
    y[[50, 51, 77, 120]] = np.nan
    batch, criterion = captured(monkeypatch, y)
    missing = batch.observed == 0
    assert 0 < int(missing.sum()) < 40
    loss = criterion(batch)
    assert criterion(replace(batch, target=batch.target + 9 * missing)) == loss
    assert criterion(replace(batch, target=batch.target + 9 * ~missing)) != loss


# The paths


@pytest.mark.parametrize("likelihood", ["student", "negative-binomial"])
def test_a_path_is_drawn_row_by_row(rng: np.random.Generator, likelihood: str) -> None:
    """The network, run at once over a path that was drawn, gives the distributions that its rows come from."""
    value, _ = forecast_model(rng, freq="D", season=7, lookback=14, horizon=6, length=60, deepar=likelihood)
    model, path = stream.Model(value), value.deepar
    assert path is not None
    state = model.start()
    (drawn,) = model.samples(model.forecast(state), state, 1, seed=8)
    unit = unit_of(state, value.scaling, 7, path.counts)
    before = unit.inside(np.concatenate([state.window, drawn[:, :-1]], 1))
    stamps = model.frequency.shift(state.next[:, None], np.arange(1 - 14, 6))
    from carousel.series.features import calendar_features

    rows = row_inputs(before, calendar_features(model.frequency, stamps), unit.traits)
    o = NetworkModel(path.network).run(rows)[-6:].astype(float)
    for b in range(3):
        generator = np.random.default_rng((8, b))
        if path.freedom is not None:
            location, scale = location_and_scale(o[:, b])
            z = location + scale * generator.standard_t(path.freedom, 6)
            np.testing.assert_allclose(drawn[b], unit.level[b] + unit.size[b] * z, rtol=1e-5)
        else:
            mean, shape = mean_and_shape(o[:, b], np.repeat(unit.size[b], 6))
            rates = (generator.gamma([1 / s], [s * m]) for m, s in zip(mean, shape, strict=True))
            assert drawn[b].tolist() == [generator.poisson(rate)[0] for rate in rates]


def test_paths_have_the_moments_of_their_distribution(rng: np.random.Generator) -> None:
    n = 20_000
    for likelihood in ("student", "negative-binomial"):
        value, _ = forecast_model(
            rng, freq="D", season=7, lookback=14, horizon=1, length=60, deepar=likelihood
        )
        model, path = stream.Model(value), value.deepar
        assert path is not None
        state = model.start()[:1]
        forecast = model.forecast(state)
        paths = model.samples(forecast, state, n)[:, 0, 0]
        unit = unit_of(state, value.scaling, 7, path.counts)
        stamps = model.frequency.shift(state.next[:, None], np.arange(1 - 14, 1))
        from carousel.series.features import calendar_features

        rows = row_inputs(unit.inside(state.window), calendar_features(model.frequency, stamps), unit.traits)
        o = NetworkModel(path.network).run(rows)[-1].astype(float)
        if path.freedom is not None:
            location, scale = location_and_scale(o)
            mean = unit.level[0] + unit.size[0] * location
            variance = (unit.size[0] * scale) ** 2 * path.freedom / (path.freedom - 2)
        else:
            mean, shape = mean_and_shape(o, unit.size[:, 0])
            variance = mean + shape * mean**2
            assert (paths == np.floor(paths)).all()
            assert (paths >= 0).all()
        # A forecast one row ahead needs no draws.
        np.testing.assert_allclose(forecast.mean[0], mean, rtol=1e-6)
        assert abs(paths.mean() - mean[0]) < 5 * np.sqrt(variance[0] / n)
        assert abs(paths.var() / variance[0] - 1) < 0.15


# The forecaster


def test_real_numbers(rng: np.random.Generator) -> None:
    y = seasonal(rng)
    forecaster = Forecaster(6, **QUICK | {"epochs": 8, "hidden_size": 16}).fit(y)
    assert any("likelihood: Student's t" in note for note in forecaster.notes_)
    scores = forecaster.scores_
    assert set(scores) == {"carousel", "persistence", "seasonal naive", "ridge"}
    assert scores["carousel"].rmse < 0.5 * scores["persistence"].rmse
    assert scores["carousel"].rmse < scores["seasonal naive"].rmse


def test_a_series_in_another_unit_has_the_same_forecast(rng: np.random.Generator) -> None:
    y = seasonal(rng)
    one, other = (Forecaster(4, **QUICK).fit(factor * y).predict() for factor in (1.0, 1024.0))
    names = ["carousel", "carousel-lo-80", "carousel-hi-95"]
    np.testing.assert_allclose(other[names], 1024 * one[names], rtol=1e-6)


def test_counts(rng: np.random.Generator) -> None:
    y = counted(rng)
    forecaster = Forecaster(6, **QUICK | {"epochs": 8, "hidden_size": 16}).fit(y)
    assert any("likelihood: negative binomial, for all values are whole" in n for n in forecaster.notes_)
    assert forecaster.scores_["carousel"].rmse < 0.7 * forecaster.scores_["persistence"].rmse
    for wanted in ({"samples": 30}, {"quantiles": (0.05, 0.5, 0.95)}):
        frame = forecaster.predict(**wanted)
        values = frame.drop(columns=["unique_id", "ds", *(["carousel"] if "quantiles" in wanted else [])])
        assert (values.to_numpy() == np.floor(values.to_numpy())).all()
        assert (values.to_numpy() >= 0).all()
    assert frame["carousel-q-95"].gt(frame["carousel-q-5"]).all()
    y[3] += 0.5
    assert Forecaster(6, **QUICK).fit(y).model_.deepar.likelihood == "student"


def test_many_series_with_gaps(rng: np.random.Generator) -> None:
    parts = []
    for name, rows, size in (("a", 200, 1.0), ("b", 120, 1000.0), ("c", 60, 0.01)):
        y = size * seasonal(rng, rows)
        y[rng.integers(0, rows, 5)] = np.nan
        ds = pd.date_range("2000-01-01", periods=rows, freq="MS")
        parts.append(pd.DataFrame({"unique_id": name, "ds": ds, "y": y}))
    df = pd.concat(parts)
    forecaster = Forecaster(4, **QUICK | {"epochs": 6}).fit(df)
    for frame in (forecaster.predict(), forecaster.predict(df.assign(unique_id="new " + df["unique_id"]))):
        for name, size in (("a", 1.0), ("b", 1000.0), ("c", 0.01)):
            values = frame.loc[frame["unique_id"].str.endswith(name), "carousel"] / size
            assert values.between(15, 45).all()
    result = forecaster.backtest(df, origins=2, fitted_rows="allow")
    assert {"persistence", "seasonal naive"} <= set(result.scores)


def test_a_series_that_comes_later_moves_no_other(rng: np.random.Generator) -> None:
    """How large a series is among those that were fitted stays what it was in training."""
    t = np.arange(80)
    rows = {name: size * (10 + np.sin(t * np.pi / 6) + 0.1 * rng.normal(size=80)) for name, size in
            (("a", 1), ("b", 4), ("z", 1000))}  # fmt: skip
    frames = {
        name: pd.DataFrame({"unique_id": name, "ds": pd.date_range("2015-01", periods=80, freq="MS"), "y": y})
        for name, y in rows.items()
    }
    forecaster = Forecaster(3, **QUICK).fit(pd.concat([frames["a"], frames["b"]]))
    before = forecaster.predict()
    forecaster.update(frames["z"])
    after = forecaster.predict()
    pd.testing.assert_frame_equal(after[after.unique_id != "z"], before)
    again = forecaster.update(frames["a"].assign(unique_id="y")).predict()
    pd.testing.assert_frame_equal(again[again.unique_id.isin(["a", "b"])], before)


def test_samples_and_quantiles_are_those_of_the_paths(rng: np.random.Generator) -> None:
    y = seasonal(rng)
    df = pd.DataFrame({"unique_id": np.repeat(["a", "b"], len(y)), "ds": np.tile(np.arange(len(y)), 2)})
    df["y"] = np.tile(y, 2)
    forecaster = Forecaster(5, **QUICK).fit(df)
    one = forecaster.predict(samples=400)
    pd.testing.assert_frame_equal(one, forecaster.predict(samples=400), check_exact=True)
    pd.testing.assert_frame_equal(one, forecaster.predict(df, samples=400), rtol=1e-5)
    other = forecaster.predict(samples=400, seed=1)
    paths = {name: f["carousel"].to_numpy().reshape(400, 5) for name, f in one.groupby("unique_id")}
    assert (one["carousel"] != other["carousel"]).all()
    # Equal series have the same forecast, and paths that do not go together.
    point = forecaster.predict()["carousel"].to_numpy().reshape(2, 5)
    np.testing.assert_array_equal(point[0], point[1])
    assert abs(np.corrcoef(paths["a"][:, 0], paths["b"][:, 0])[0, 1]) < 0.2
    quantiles = forecaster.predict(quantiles=(0.1, 0.5, 0.9))
    found = quantiles[["carousel-q-10", "carousel-q-50", "carousel-q-90"]].to_numpy().T.reshape(3, 2, 5)
    expected = np.stack([np.quantile(paths[name], (0.1, 0.5, 0.9), 0) for name in "ab"], 1)
    spread = expected[2] - expected[0]
    assert (np.abs(found - expected) < 0.35 * spread).all()
    assert (np.diff(found, axis=0) > 0).all()


def test_paths_do_not_depend_on_the_batch(rng: np.random.Generator) -> None:
    """More windows than stand in one batch."""
    for likelihood in ("student", "negative-binomial"):
        value, _ = forecast_model(
            rng, freq="D", season=7, lookback=14, horizon=3, length=60, deepar=likelihood
        )
        model = stream.Model(value)
        state = model.start()
        many = stream.Model(value).forecast(state[np.arange(200) % 3]).mean
        np.testing.assert_allclose(many, model.forecast(state).mean[np.arange(200) % 3], rtol=1e-5)


def test_life_of_a_model(rng: np.random.Generator, tmp_path: Path) -> None:
    y = counted(rng)
    forecaster = Forecaster(4, **QUICK, cell="lstm").fit(y[:200])
    forecaster.save(tmp_path / "model")
    assert rb"\"format\":3" in (tmp_path / "model").read_bytes()
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    assert loaded.get_params() == forecaster.get_params() | {"freq": "1", "progress": None}
    for wanted in ({}, {"samples": 7}, {"quantiles": (0.2, 0.8)}):
        pd.testing.assert_frame_equal(
            loaded.predict(**wanted),
            forecaster.predict(**wanted),
            check_exact=True,
        )
    result = forecaster.backtest(y, start=200, step=4)
    assert np.isfinite(result.scores["carousel"].rmse)
    assert "persistence" in result.scores
    refitted = Forecaster(4, **QUICK).backtest(y, origins=2, step=4, refit=1)
    assert refitted.fits == 2


def test_a_series_beyond_all_bounds_forecasts_numbers(rng: np.random.Generator) -> None:
    """Rates that no Poisson generator takes."""
    y = counted(rng)
    forecaster = Forecaster(3, **QUICK).fit(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast = forecaster.predict(np.where(np.arange(100) % 2, 1e100, 7.0))
    assert np.isfinite(forecast["carousel"]).all()


def test_dropout_is_refused() -> None:
    with pytest.raises(ArgumentError, match="option of architecture='auto'; the deepar network has none"):
        Forecaster(3, **QUICK, dropout=0.1).fit(np.arange(50.0))
