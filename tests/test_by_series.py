"""What each series of a panel has of its own: weights of the smoothing, and a share of the linear path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, FormatError
from carousel.forecast.by_series import Losses, own_widths, relative, spread
from carousel.forecast.linear_share import choose_share, own_share
from carousel.forecast.plan import plan
from carousel.forecast.smoothing_fit import fit_smoothing
from carousel.forecast.split import Spans
from carousel.series import Panel
from carousel.series.history import History, Origins
from carousel.series.smoothing import Mixture
from carousel.stream.forecaster import ForecasterModel
from forecast_models import forecast_model

K = 7
Array = np.ndarray[Any, Any]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


def walks(rng: np.random.Generator, series: int, rows: int) -> list[Array]:
    """The last value is the best forecast, and a season of 7 says nothing."""
    return [100 + rng.normal(size=rows).cumsum() for _ in range(series)]


def weeks(rng: np.random.Generator, series: int, rows: int) -> list[Array]:
    """The season is everything, and the last value says nothing."""
    return [50 + 20 * np.resize(rng.normal(size=7), rows) + rng.normal(size=rows) for _ in range(series)]


def smoothed_error(panel: Panel, cut: int, *, own: bool) -> tuple[Array, bool]:
    """(S,) mean absolute errors of the smoothing of the first `cut` rows, on the others; and whether series differ."""
    shape = plan(panel, K, 7, None)
    scaling, smoothing = fit_smoothing(panel.head(cut), shape, "identity")
    differ = smoothing.own is not None
    if not own:
        smoothing = replace(smoothing, own=None)
    history = History.of(panel, 7, scaling, smoothing, panel.ids)
    origins = spread(Spans(np.full(len(panel), cut), panel.lengths - K + 1))
    truth, _ = history.targets(origins, K)
    off = np.abs(history.smoothed(origins, Mixture.of(smoothing, K)) - truth).mean(1)
    return np.bincount(origins.series, off) / np.bincount(origins.series), differ


def test_series_of_two_kinds_have_weights_of_their_own(rng: np.random.Generator) -> None:
    panel = Panel.of([*walks(rng, 6, 300), *weeks(rng, 6, 300)])
    own, differ = smoothed_error(panel, 200, own=True)
    common, _ = smoothed_error(panel, 200, own=False)
    assert differ
    assert own[:6].mean() < 0.95 * common[:6].mean()
    assert own[6:].mean() < 0.8 * common[6:].mean()
    _, differ = smoothed_error(Panel.of(weeks(rng, 1, 300)), 200, own=True)
    assert not differ  # one series has nothing to be told from


@pytest.mark.parametrize("kind", [walks, weeks])
def test_series_of_one_kind_lose_nothing(rng: np.random.Generator, kind: Any) -> None:
    panel = Panel.of(kind(rng, 30, 200))
    own, _ = smoothed_error(panel, 120, own=True)
    common, _ = smoothed_error(panel, 120, own=False)
    assert own.mean() < 1.02 * common.mean()


def test_a_series_too_short_for_errors_has_the_weights_of_all(rng: np.random.Generator) -> None:
    panel = Panel.of([*walks(rng, 6, 200), *weeks(rng, 6, 200), *walks(rng, 1, 3), np.full(200, np.nan)])
    _, smoothing = fit_smoothing(panel, plan(panel, K, 7, None), "identity")
    assert smoothing.own is not None
    np.testing.assert_allclose(smoothing.own.sum(1), 1)
    np.testing.assert_array_equal(smoothing.own[12], smoothing.own[13])


def test_series_without_any_error_have_the_members_that_fit_them(rng: np.random.Generator) -> None:
    flat = [np.full(200, 3.0), np.full(200, 40.0)]
    weekly = [np.resize(rng.normal(size=7), 200) for _ in range(2)]
    panel = Panel.of([*flat, *weekly, *walks(rng, 2, 200), *weeks(rng, 2, 200)])
    own, _ = smoothed_error(panel, 120, own=True)
    np.testing.assert_allclose(own[:4], 0, atol=1e-9)
    assert np.isfinite(own).all()


def test_origins_are_spread_evenly_over_every_series() -> None:
    first, stop = np.array([5, 0, 9, 4]), np.array([105, 3, 9, 2])
    origins = spread(Spans(first, stop))
    rows = [origins.row[origins.series == s] for s in range(4)]
    assert rows[0].tolist() == list(range(5, 105))
    assert rows[1].tolist() == [0, 1, 2]
    assert not len(rows[2]) + len(rows[3])
    many = spread(Spans(np.zeros(400, int), np.full(400, 111)))
    assert np.bincount(many.series).tolist() == [12] * 400
    assert many.row[:12].tolist() == list(range(0, 111, 10))


def test_losses_are_drawn_from_those_of_a_series_to_those_of_all() -> None:
    losses = np.array([[1.0, 3.0], [1.0, 3.0], [8.0, 4.0], [8.0, 4.0]])
    origins = Origins(np.array([0, 0, 1, 1]), np.array([0, 5, 0, 5]))
    known = Losses.of(origins, losses, np.ones(4), 3, 5)
    assert known.known.tolist() == [True, True, False]
    assert known.horizons.tolist() == [2, 2, 0]
    assert known.quarter.tolist() == [0, 2, 0, 2]
    np.testing.assert_allclose(known.of_all(), [(1 / 2 + 8 / 6) / 2, (3 / 2 + 4 / 6) / 2])
    np.testing.assert_allclose(known.drawn(0)[:2], losses[[0, 2]])
    np.testing.assert_allclose(known.drawn(2)[0], (losses[0] + 2 * known.of_all()) / 2)
    np.testing.assert_allclose(known.drawn(1e9)[:2], np.outer([2, 6], known.of_all()), rtol=1e-6)
    np.testing.assert_allclose(known.drawn(3)[2], known.of_all())
    np.testing.assert_allclose(known.without(0).means(), losses[[1, 3]])
    # One series half as bad, one twice: as bad as before on average of 5/4.
    found = relative(np.array([[1.0, 2.0]]), np.array([2.0, 1.0]), np.array([0, 1]))
    np.testing.assert_allclose(found, [1.25], rtol=1e-5)
    assert relative(np.zeros((1, 2)), np.zeros(2), np.array([0, 1])) == [1.0]
    assert relative(np.ones((1, 2)), np.zeros(2), np.array([0, 1])) > 1e6


def test_each_series_follows_the_linear_path_as_far_as_it_is_right(rng: np.random.Generator) -> None:
    panel = Panel.of(weeks(rng, 8, 150))
    shape = plan(panel, K, 7, None)
    scaling, smoothing = fit_smoothing(panel, shape, "identity")
    history = History.of(panel, 7, scaling, smoothing, panel.ids)
    train = Spans(np.full(8, 40), np.full(8, 140))

    def right_for_half(origins: Origins) -> Array:
        smooth = history.smoothed(origins, Mixture.of(smoothing, K))
        truth, _ = history.targets(origins, K)
        return np.where((origins.series < 4)[:, None], truth, 2 * smooth - truth)

    drawn = choose_share(history, smoothing, shape, train, right_for_half)
    assert drawn == 0
    share = own_share(history, smoothing, shape, train, right_for_half, drawn)
    assert share[:8].tolist() == [1] * 4 + [0] * 4
    assert 0 <= share[8] <= 1

    def right(origins: Origins) -> Array:
        return history.targets(origins, K)[0]

    assert choose_share(history, smoothing, shape, train, right) is None  # all of it, as without


def frame(series: list[Array]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"unique_id": f"s{k}", "ds": pd.date_range("2024-01-01", periods=len(y)), "y": y})
        for k, y in enumerate(series)
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_forecaster_of_two_kinds_from_fit_to_update(rng: np.random.Generator, tmp_path: Path) -> None:
    df = frame([*walks(rng, 6, 200), *weeks(rng, 6, 200)])
    old, new = (part[1] for part in df.groupby(df["ds"] >= "2024-07-01"))
    forecaster = Forecaster(K, epochs=1, hidden_size=8, progress=False).fit(old)
    model = forecaster.model_
    assert model.tells_apart
    assert any("weights of its own" in note for note in forecaster.notes_)
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    pd.testing.assert_frame_equal(loaded.predict(), forecaster.predict(), check_exact=True)
    few = old[old["unique_id"].isin(["s9", "s2"])]
    whole = forecaster.predict(old).set_index("unique_id").loc[["s2", "s9"]].reset_index()
    pd.testing.assert_frame_equal(forecaster.predict(few).reset_index(drop=True), whole)

    stranger = df[df["unique_id"] == "s9"].assign(unique_id="new")
    both = pd.concat([new, stranger])
    expected = forecaster.predict(pd.concat([df, stranger]))
    updated = loaded.update(both)
    assert isinstance(updated.model_.tail.window, np.ndarray)
    pd.testing.assert_frame_equal(updated.predict(), expected, rtol=1e-6)
    updated.save(tmp_path / "updated")
    pd.testing.assert_frame_equal(carousel.load(tmp_path / "updated").predict(), expected, rtol=1e-6)  # type: ignore[union-attr]


def test_a_state_says_which_series_it_is_of(rng: np.random.Generator) -> None:
    value, _ = forecast_model(rng, freq="D", season=7, lookback=21, horizon=3, length=60)
    runner = ForecasterModel(value)
    state = runner.start()
    assert state.series is not None
    for series in (None, np.full(len(state), len(value.ids)), np.full(len(state), -2)):
        with pytest.raises(ArgumentError, match="`state` must be of this model"):
            runner.forecast(replace(state, series=series))
    any_other = runner.forecast(replace(state, series=np.full(len(state), -1)))
    assert not np.allclose(any_other.mean, runner.forecast(state).mean)


@pytest.mark.parametrize("path", ["smoothing", "linear"])
def test_own_values_of_another_number_of_series_are_refused(rng: np.random.Generator, path: str) -> None:
    value, _ = forecast_model(rng, freq="D", season=7, lookback=21, horizon=3, length=60)
    part = getattr(value, path)
    with pytest.raises(FormatError, match=rf"`{path}\.own` must have shape"):
        replace(value, **{path: replace(part, own=part.own[1:])})
    with pytest.raises(FormatError, match=rf"`{path}\.own` must be finite"):
        replace(value, **{path: replace(part, own=part.own * np.nan)})


@pytest.mark.parametrize("rows", [10, 11, 12, 14, 16, 20])
@pytest.mark.filterwarnings("error")
def test_a_single_origin_of_each_series_is_no_evidence(rows: int) -> None:
    rng = np.random.default_rng(rows)
    frames = [
        pd.DataFrame(
            {
                "unique_id": s,
                "ds": pd.date_range("2023-01-02", periods=rows),
                "y": 100 + rng.normal(size=rows),
            }
        )
        for s in range(10)
    ]
    options: dict[str, Any] = {"epochs": 1, "hidden_size": 4, "max_steps": 2, "progress": False}
    forecaster = carousel.Forecaster(4, **options).fit(pd.concat(frames))
    assert not [note for note in forecaster.notes_ if "each series has weights" in note]


def errors_of(rng: np.random.Generator, sizes: np.ndarray, rows: int, K: int) -> tuple[np.ndarray, Origins]:
    """(B, K) errors of walks K rows long, from every row of series whose changes have these sizes."""
    parts = [size * rng.normal(size=rows + K).cumsum() for size in sizes]
    errors = np.concatenate([[e[t + 1 : t + K + 1] - e[t] for t in range(rows - 1)] for e in parts])
    series, row = np.divmod(np.arange(len(errors)), rows - 1)
    return errors, Origins(series, row)


def test_a_series_whose_errors_are_larger_gets_a_width_of_its_own() -> None:
    rng, sizes = np.random.default_rng(1), np.array([0.25, 1, 1, 1, 1, 1, 1, 4])
    errors, origins = errors_of(rng, sizes, 400, 5)
    widths = own_widths(errors, np.ones(errors.shape, bool), origins, len(sizes))
    assert widths is not None
    assert widths[-1] == 1
    np.testing.assert_allclose(widths[:-1] / np.median(widths), sizes, rtol=0.25)
    # Errors that are not known say nothing, and a series of none is as usual.
    observed = np.ones(errors.shape, bool)
    observed[origins.series == 3] = False
    observed[:, 2] = False
    errors[~observed] = np.nan
    again = own_widths(errors, observed, origins, len(sizes))
    assert again is not None
    assert again[3] == 1
    np.testing.assert_allclose(np.delete(again, 3) / np.median(again), [*np.delete(sizes, 3), 1], rtol=0.3)


def test_series_alike_and_single_ones_have_the_width_of_all() -> None:
    found = 0
    for seed in range(40):
        errors, origins = errors_of(np.random.default_rng(seed), np.ones(10), 60, 5)
        found += own_widths(errors, np.ones(errors.shape, bool), origins, 10) is not None
    assert found <= 6
    errors, origins = errors_of(np.random.default_rng(0), np.ones(1), 60, 5)
    assert own_widths(errors, np.ones(errors.shape, bool), origins, 1) is None
    for some in (slice(0), slice(2)):
        assert own_widths(errors[some], np.ones(errors[some].shape, bool), origins[some], 1) is None


def test_an_error_that_is_nearly_none_does_not_rule_the_widths() -> None:
    errors, origins = errors_of(np.random.default_rng(2), np.array([1e-12, 0.0, 1, 1, 1, 2]), 200, 5)
    widths = own_widths(errors, np.ones(errors.shape, bool), origins, 6)
    assert widths is not None
    assert widths[1] == 1
    assert 0.05 < widths[0] / widths[2] < 0.2


def test_intervals_of_a_mixed_panel_go_by_the_kind(tmp_path: Path) -> None:
    """White noise around a season, and random walks, of which the same scale says too much and too little."""
    rng, N, K = np.random.default_rng(3), 200, 14
    days, t = pd.date_range("2024-01-01", periods=N), np.arange(N)
    kinds = {f"walk {k}": 100 + rng.normal(size=N).cumsum() for k in range(12)}
    kinds |= {f"noise {k}": 100 + 10 * np.sin(2 * np.pi * t / 7) + rng.normal(size=N) for k in range(12)}
    frame = pd.concat([pd.DataFrame({"unique_id": name, "ds": days, "y": y}) for name, y in kinds.items()])
    forecaster = Forecaster(K, max_steps=20, hidden_size=8, progress=False)
    forecaster.fit(frame[frame["ds"] < days[-K]])
    own = forecaster.model_.calibration.own
    assert own is not None
    walks = np.array([name.startswith("walk") for name in forecaster.model_.ids])
    assert np.median(own[:-1][walks]) > 1.15 * np.median(own[:-1][~walks])
    assert any(note.startswith("intervals: by series") for note in forecaster.notes_)
    forecast = forecaster.predict()
    width = (forecast["carousel-hi-80"] - forecast["carousel-lo-80"]).groupby(forecast["unique_id"]).mean()
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), forecast)
    late = frame[(frame["unique_id"] == "walk 0")].assign(unique_id="new")
    loaded.update(late)
    assert loaded.model_.calibration.own.tolist() == [*own, 1.0]
    assert width["walk 0"] > 0
