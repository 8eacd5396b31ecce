"""The estimator: what it owes its user."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, DataError, NotFittedError

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 2, "hidden_size": 8, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def monthly(rng: np.random.Generator, rows: int = 96, start: str = "2010-01-01") -> pd.DataFrame:
    t = np.arange(rows)
    y = 100 + t + 10 * np.sin(t * np.pi / 6) + rng.normal(size=rows)
    return pd.DataFrame({"ds": pd.date_range(start, periods=rows, freq="MS"), "y": y})


def panel(rng: np.random.Generator, lengths: tuple[int, ...] = (96, 60, 40)) -> pd.DataFrame:
    frames = [monthly(rng, rows).assign(unique_id=f"s{k}") for k, rows in enumerate(lengths)]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_forecast_frame(rng: np.random.Generator, architecture: str) -> None:
    df = monthly(rng)
    forecast = Forecaster(6, architecture=architecture, **QUICK).fit(df).predict()
    expected = [
        "unique_id",
        "ds",
        "carousel",
        "carousel-lo-80",
        "carousel-hi-80",
        "carousel-lo-95",
        "carousel-hi-95",
    ]
    assert list(forecast.columns) == expected
    assert forecast["ds"].tolist() == pd.date_range("2018-01-01", periods=6, freq="MS").tolist()
    values = forecast[["carousel-lo-95", "carousel-lo-80", "carousel", "carousel-hi-80", "carousel-hi-95"]]
    assert (np.diff(values.to_numpy(), axis=1) >= 0).all()


def test_the_users_names_and_kind_of_frame_are_kept(rng: np.random.Generator) -> None:
    df = panel(rng).rename(columns={"unique_id": "shop", "ds": "month", "y": "sold"})
    names = {"id_col": "shop", "time_col": "month", "target_col": "sold"}
    pandas = Forecaster(3, **QUICK).fit(df, **names).predict()
    polars = Forecaster(3, **QUICK).fit(pl.from_pandas(df), **names).predict()
    arrow = Forecaster(3, **QUICK).fit(pl.from_pandas(df).to_arrow(), **names).predict()
    assert list(pandas.columns[:3]) == ["shop", "month", "carousel"]
    assert isinstance(polars, pl.DataFrame)
    assert type(arrow).__name__ == "Table"
    assert pandas["carousel"].tolist() == polars["carousel"].to_list() == arrow["carousel"].to_pylist()


def test_ragged_panels(rng: np.random.Generator) -> None:
    forecast = Forecaster(3, **QUICK).fit(panel(rng)).predict()
    assert forecast["unique_id"].tolist() == ["s0"] * 3 + ["s1"] * 3 + ["s2"] * 3
    assert forecast["ds"].iloc[[0, 3, 6]].dt.strftime("%Y-%m").tolist() == ["2018-01", "2015-01", "2013-05"]
    assert np.isfinite(forecast["carousel"]).all()


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_same_seed_same_bits(rng: np.random.Generator, architecture: str) -> None:
    import torch

    df = monthly(rng)
    before = torch.get_rng_state()
    one = Forecaster(6, architecture=architecture, **QUICK).fit(df)
    assert (torch.get_rng_state() == before).all(), "torch's global generator was touched"
    torch.rand(3)
    two = Forecaster(6, architecture=architecture, **QUICK).fit(df)
    assert one.model_ == two.model_
    other = Forecaster(6, architecture=architecture, **(QUICK | {"seed": 1})).fit(df)
    assert one.history_ != other.history_


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_a_loaded_model_forecasts_the_same_bits(
    rng: np.random.Generator, tmp_path: Path, architecture: str
) -> None:
    df = panel(rng)
    forecaster = Forecaster(4, architecture=architecture, cell="lstm", **QUICK).fit(df)
    path = tmp_path / "model"
    forecaster.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    loaded = carousel.load(path)
    assert isinstance(loaded, Forecaster)
    pd.testing.assert_frame_equal(loaded.predict(), forecaster.predict(), check_exact=True)
    pd.testing.assert_frame_equal(loaded.predict(df), forecaster.predict(df), check_exact=True)
    assert loaded.horizon == 4
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_predict_needs_no_data_and_equals_predict_with_them(rng: np.random.Generator) -> None:
    df = panel(rng)
    forecaster = Forecaster(4, **QUICK).fit(df)
    pd.testing.assert_frame_equal(forecaster.predict(), forecaster.predict(df), rtol=1e-9)


def test_predict_starts_where_new_data_end(rng: np.random.Generator) -> None:
    df = monthly(rng)
    forecaster = Forecaster(4, **QUICK).fit(df[:80])
    assert forecaster.predict(df)["ds"].iloc[0] == pd.Timestamp("2018-01-01")
    new = df.assign(unique_id="unseen")[:50]
    assert forecaster.predict(new[["ds", "y"]])["ds"].iloc[0] == pd.Timestamp("2014-03-01")


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_no_forecast_changes_when_its_future_does(rng: np.random.Generator, architecture: str) -> None:
    df = monthly(rng)
    forecaster = Forecaster(4, architecture=architecture, **QUICK).fit(df[:60])
    changed = df.assign(y=np.where(np.arange(len(df)) >= 80, 1e4, df["y"]))
    names = ["ds", "carousel", "carousel-lo-80", "carousel-hi-80"]
    one = forecaster.backtest(df, origins=3, step=4, start="2015-09-01").forecasts
    two = forecaster.backtest(changed, origins=3, step=4, start="2015-09-01").forecasts
    assert one["ds"].iloc[0] == pd.Timestamp("2015-09-01")
    early = one["cutoff"] < pd.Timestamp("2016-09-01")
    pd.testing.assert_frame_equal(one.loc[early, names], two.loc[early, names], check_exact=True)


def test_backtest_is_predict_at_every_origin(rng: np.random.Generator) -> None:
    df = monthly(rng)
    forecaster = Forecaster(4, **QUICK).fit(df[:60])
    forecasts = forecaster.backtest(df, origins=5, step=3).forecasts
    for cutoff, rows in forecasts.groupby("cutoff"):
        alone = forecaster.predict(df[df["ds"] <= cutoff])
        np.testing.assert_allclose(rows["carousel"], alone["carousel"], rtol=1e-6)


def test_backtest_table(rng: np.random.Generator) -> None:
    df = panel(rng)
    result = Forecaster(4, **QUICK).fit(df).backtest(df, origins=2, fitted_rows="allow")
    assert result.origins == 6
    assert set(result.scores) == {"carousel", "persistence", "seasonal naive", "ridge"}
    assert set(result.scores) <= set(result.forecasts.columns)
    assert set(result.scores["carousel"].coverage) == {80.0, 95.0}
    assert "RMSE" in str(result)
    assert result.verdict[0] in str(result)


@contextmanager
def torch_set_to(setting: str) -> Iterator[None]:
    """With a setting of torch that a program may have for its own tensors."""
    import torch

    contexts: dict[str, Any] = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        "device": lambda: torch.device("meta"),
        "float64": nullcontext,
    }
    try:
        if setting == "float64":
            torch.set_default_dtype(torch.float64)
        with contexts[setting]():
            yield
            assert setting != "float64" or torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("setting", ["no_grad", "inference_mode", "autocast", "device", "float64"])
@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_a_fit_does_not_see_the_callers_settings(
    rng: np.random.Generator, architecture: str, setting: str
) -> None:
    y = monthly(rng)["y"].to_numpy()
    expected = Forecaster(6, architecture=architecture, **QUICK).fit(y)
    with torch_set_to(setting):
        found = Forecaster(6, architecture=architecture, **QUICK).fit(y)
    assert found.history_ == expected.history_
    pd.testing.assert_frame_equal(found.predict(), expected.predict())


def test_the_scaler_sees_training_rows_only(rng: np.random.Generator) -> None:
    from carousel.forecast import fitting

    df = monthly(rng)
    seen = []
    original = fitting.fit_smoothing

    def spy(panel: Any, *rest: Any) -> Any:
        seen.append(panel.lengths.tolist())
        return original(panel, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit_smoothing", spy)
        Forecaster(6, **QUICK).fit(df)
    assert seen == [[81], [96]]  # 15 rows held out; then once more on all, when everything has been chosen


def test_missing_values_and_gaps_are_said_and_survived(rng: np.random.Generator) -> None:
    df = monthly(rng)
    df.loc[[20, 21, 50], "y"] = np.nan
    df = df.drop(index=[30, 95 - 3])
    forecaster = Forecaster(4, **QUICK).fit(df)
    assert any("5 missing values" in note for note in forecaster.notes_)
    forecast = forecaster.predict()
    assert np.isfinite(forecast["carousel"]).all()
    t = np.arange(96, 100)
    assert np.abs(forecast["carousel"] - (100 + t + 10 * np.sin(t * np.pi / 6))).max() < 10


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
def test_constant_series(architecture: str) -> None:
    forecast = Forecaster(3, architecture=architecture, season=4, **QUICK).fit(np.full(60, 5.0)).predict()
    np.testing.assert_allclose(forecast["carousel"], 5, atol=0.1)


def test_arrays_find_their_season() -> None:
    t = np.arange(120)
    forecaster = Forecaster(12, **QUICK).fit(t + 10 * np.sin(t * np.pi / 6))
    assert forecaster.model_.season == 12
    assert forecaster.predict()["ds"].tolist() == list(range(120, 132))


def test_too_short_series_are_refused_with_what_is_needed(rng: np.random.Generator) -> None:
    with pytest.raises(
        DataError, match=r"longest series has 10 rows, but a horizon of 12 needs at least 18; give"
    ):
        Forecaster(12, **QUICK).fit(monthly(rng, 10))
    forecaster = Forecaster(3, **QUICK).fit(monthly(rng))
    with pytest.raises(DataError, match=r"'y' has 5 rows, but a forecast needs at least 13"):
        forecaster.predict(monthly(rng, 5))


def only(*rows: int) -> pd.DataFrame:
    """Eighty days, of which these rows alone are known."""
    days = pd.date_range("2022-01-01", periods=80)
    y = np.where(np.isin(np.arange(80), rows), np.arange(80) % 7 + 1.0, np.nan)
    return pd.DataFrame({"ds": days, "y": y})


def test_one_value_is_no_series(rng: np.random.Generator) -> None:
    with pytest.raises(
        DataError, match=r"^Series 'y' has 1 value, but a fit needs at least 2; give more histo"
    ):
        Forecaster(3, **QUICK).fit(only(5))
    both = pd.concat([only(5).assign(unique_id="a"), only(6).assign(unique_id="b")])
    with pytest.raises(
        DataError, match=r"^No series has more than 1 value, but a fit needs at least 2; give mo"
    ):
        Forecaster(3, **QUICK).fit(both)
    known = only(*range(80)).assign(unique_id="a")
    forecaster = Forecaster(3, **QUICK).fit(pd.concat([known, only(6).assign(unique_id="b")]))
    with pytest.raises(DataError, match=r"^Series 'c' has 1 value, but a forecast needs at least 2\.$"):
        forecaster.predict(pd.concat([known, only(6).assign(unique_id="c")]))
    assert np.isfinite(
        forecaster.predict(only(79).assign(unique_id="a"))["carousel"]
    ).all()  # its scale is known
    later = pd.DataFrame({"unique_id": ["a"], "ds": ["2022-03-22"], "y": [4.0]})
    assert len(forecaster.update(later).predict()) == 6
    with pytest.raises(DataError, match="there are no rows; give at least one"):
        forecaster.update(later[:0])
    for call in (forecaster.update, forecaster.predict):
        with pytest.raises(
            DataError, match=r"^an array has no times, but the model was fitted on those of 'ds'; give"
        ):
            call(np.arange(9.0))


def test_a_fit_without_scores_says_that_it_has_no_intervals() -> None:
    said = "no intervals: no value is known in the rows that were held out, nor in others that were forecast"
    for architecture in ("auto", "deepar"):
        forecaster = Forecaster(3, architecture=architecture, **QUICK).fit(only(*range(20)))
        assert forecaster.predict().iloc[:, 3:].isna().all(axis=None)
        assert said in forecaster.notes_
    assert said not in Forecaster(3, **QUICK).fit(only(*range(0, 80, 2))).notes_


def test_a_season_or_lookback_that_cannot_be_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ArgumentError, match="`season` = 60 needs two seasons, 120 rows"):
        Forecaster(3, season=60, **QUICK).fit(monthly(rng))
    with pytest.raises(ArgumentError, match="`lookback` must be more than the season of 12 rows, got 5"):
        Forecaster(3, lookback=5, **QUICK).fit(monthly(rng))


@pytest.mark.parametrize("rows", [80, 350, 400, 520])
def test_hours_of_a_few_days_and_weeks(rng: np.random.Generator, rows: int) -> None:
    y = 10 + np.sin(np.arange(rows) * np.pi / 12) + 0.1 * rng.normal(size=rows)
    df = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=rows, freq="h"), "y": y})
    forecast = Forecaster(24, **QUICK).fit(df).predict()
    assert np.abs(forecast["carousel"] - (10 + np.sin(np.arange(rows, rows + 24) * np.pi / 12))).max() < 0.6


def test_series_that_end_in_missing_values_have_intervals(rng: np.random.Generator) -> None:
    df = monthly(rng)
    df.loc[70:, "y"] = np.nan
    forecast = Forecaster(6, **QUICK).fit(df).predict()
    assert np.isfinite(forecast.iloc[:, 2:].to_numpy(float)).all()


def test_intervals_are_in_the_scale_that_is_kept(rng: np.random.Generator) -> None:
    """A step in the held-out rows makes the scale of all rows larger than the one that the errors came from."""
    y = 50 + rng.normal(0, 2, 500)
    y[480:] += 100
    days = pd.date_range("2022-01-01", periods=500)
    forecast = Forecaster(24, **QUICK).fit(pd.DataFrame({"ds": days, "y": y})).predict()
    assert (forecast["carousel-hi-80"] - forecast["carousel-lo-80"]).max() < 400
    assert (forecast["carousel-hi-80"] - forecast["carousel-lo-80"])[0] < 12


def test_a_series_that_ends_in_a_long_gap_keeps_its_level(rng: np.random.Generator) -> None:
    days = np.arange(730)
    y = 50 + 8 * np.sin(days * 2 * np.pi / 7) + rng.normal(0, 2, 730)
    y[-60:] = np.nan
    frame = pd.DataFrame({"ds": pd.date_range("2022-01-01", periods=730), "y": y})
    forecast = Forecaster(24, **QUICK).fit(frame).predict()["carousel"]
    truth = 50 + 8 * np.sin(np.arange(730, 754) * 2 * np.pi / 7)
    assert np.abs(forecast - truth).max() < 12


def test_a_unit_may_be_small(rng: np.random.Generator) -> None:
    frame = monthly(rng)
    one = Forecaster(3, **QUICK).fit(frame)
    small = Forecaster(3, **QUICK).fit(frame.assign(y=frame["y"] * 2.0**-60))
    np.testing.assert_allclose(small.predict()["carousel"] * 2.0**60, one.predict()["carousel"], rtol=1e-3)


def test_series_may_begin_after_the_first_origin(rng: np.random.Generator) -> None:
    frame = panel(rng, (96, 96))
    first = frame["unique_id"].unique()[0]
    late = frame[(frame["unique_id"] != first) | (frame["ds"] >= "2013-01-01")]
    forecaster = Forecaster(3, **QUICK).fit(frame)
    result = forecaster.backtest(late, start="2012-01-01", step=3, fitted_rows="allow")
    cutoffs = result.forecasts.groupby("unique_id")["cutoff"].min()
    assert cutoffs[first] > pd.Timestamp("2013-12-01")
    assert (cutoffs.drop(first) == pd.Timestamp("2011-12-01")).all()


@pytest.mark.parametrize("rows", [18, 20, 24, 30])
def test_very_short_series_are_forecast(rng: np.random.Generator, rows: int) -> None:
    forecast = Forecaster(12, **QUICK).fit(monthly(rng, rows)).predict()
    assert np.isfinite(forecast.iloc[:, 2:].to_numpy(float)).all()


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
@pytest.mark.parametrize("calls", [1, 2])
def test_ctrl_c_keeps_the_best_so_far(rng: np.random.Generator, architecture: str, calls: int) -> None:
    seen = []

    def stop(losses: dict[str, float]) -> None:
        seen.append(losses)
        if len(seen) == calls:
            raise KeyboardInterrupt

    forecaster = Forecaster(4, architecture=architecture, epochs=9, hidden_size=8, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(monthly(rng))
    assert len(forecaster.history_) == calls
    assert np.isfinite(forecaster.predict()["carousel"]).all()
    assert forecaster.scores_


def test_the_time_of_the_year_counts_from_the_second_year_on(rng: np.random.Generator) -> None:
    for rows, known in ((400, False), (1500, True)):
        days = pd.date_range("2019-01-01", periods=rows)
        warm = 10 * np.sin(np.arange(rows) * 2 * np.pi / 365.25)
        df = pd.DataFrame({"ds": days, "y": warm + rng.normal(size=rows)})
        forecaster = Forecaster(7, cell="gru", epochs=2, hidden_size=8, progress=False).fit(df)
        model = forecaster.model_
        assert model.linear is not None
        of_the_year = model.linear.coefficients[:, model.lookback + 2 + 7 :][:, :6]
        assert of_the_year.any() == known
        if model.recurrent is not None:
            assert model.recurrent.embed.W[:, -7:-1].any() == known


def test_ctrl_c_before_the_network_keeps_the_smoothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("carousel.forecast.fitting.choose_linear", stop)
    forecaster = Forecaster(4, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(monthly(rng))
    assert forecaster.model_.linear is None
    assert forecaster.model_.recurrent is None
    assert np.isfinite(forecaster.predict()["carousel"]).all()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"architecture": "plain", "cell": "lstm", "seed": 3, "patience": 2, "max_steps": np.int64(2)},
        {"season": 6, "lookback": 24, "dropout": 0, "minutes": 3, "nonnegative": np.True_, "level": (70,)},
    ],
)
def test_a_loaded_model_is_fitted_again_to_the_same_bits(
    rng: np.random.Generator, tmp_path: Path, given: dict[str, Any]
) -> None:
    df = monthly(rng)
    forecaster = Forecaster(3, **QUICK, **given).fit(df)
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    found = forecaster.get_params() | {"freq": "MS", "progress": None}
    assert loaded.get_params() == found | {"level": tuple(map(float, found["level"]))}
    loaded.set_params(progress=False).fit(df).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_a_loaded_model_knows_what_it_has_not(rng: np.random.Generator, tmp_path: Path) -> None:
    Forecaster(3, architecture="plain", cell="lstm", **QUICK).fit(monthly(rng)).save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    with pytest.raises(NotFittedError, match="`scores_` is left by `fit` and not kept in a file"):
        loaded.scores_  # noqa: B018
    assert not hasattr(loaded, "verdict_")


def test_a_row_that_cannot_be_observed_is_refused(rng: np.random.Generator) -> None:
    model = carousel.stream.Model(Forecaster(3, **QUICK).fit(monthly(rng)).model_)
    state = model.last()
    due = state.next[0]
    for ds, y in (("soon", 1.0), (due, "one"), (pd.Timestamp(due, tz="UTC"), 1.0), (due, np.inf)):
        with pytest.raises(DataError, match=r"`ds`|`y`"):
            model.observe(ds, y, state)


def test_what_is_no_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`model` must be a Forecaster or a Network, got str"):
        carousel.save("model", tmp_path / "model")


def test_scikit_learn_manners(rng: np.random.Generator) -> None:
    sklearn = pytest.importorskip("sklearn.base")
    level = [70, 90]
    forecaster = Forecaster(3, level=level, seed=4)
    assert forecaster.level is level
    twin = sklearn.clone(forecaster)
    assert twin.get_params() == forecaster.get_params()
    assert twin.set_params(seed=5).seed == 5
    assert repr(forecaster) == "Forecaster(3, level=[70, 90], seed=4)"
    with pytest.raises(ArgumentError, match="`hidden` is no parameter"):
        twin.set_params(hidden=3)
    for use in (twin.predict, lambda: twin.save("nowhere"), lambda: twin.backtest(None), lambda: twin.plot()):
        with pytest.raises(NotFittedError, match="call `fit` first"):
            use()


def test_scikit_learn_knows_what_is_fitted(rng: np.random.Generator) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.exceptions import NotFittedError as TheirError
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    forecaster = Forecaster(3, **QUICK)
    for use in (lambda: check_is_fitted(forecaster), forecaster.predict, lambda: forecaster.scores_):
        with pytest.raises(TheirError):
            use()
    check_is_fitted(forecaster.fit(monthly(rng)))
    whole = Pipeline([("forecast", forecaster)])
    assert whole.set_params(forecast__seed=7).get_params()["forecast__seed"] == 7
    assert "Forecaster(3, seed=7" in repr(whole)


def test_scikit_learn_is_told_what_is_forecast_from() -> None:
    utils = pytest.importorskip("sklearn.utils", reason="scikit-learn is not installed")
    if not hasattr(utils, "get_tags"):
        pytest.skip("scikit-learn has tags since 1.6")
    tags = utils.get_tags(Forecaster(3))
    assert tags.estimator_type is None
    assert tags.requires_fit
    assert not tags.target_tags.required
    assert tags.input_tags.allow_nan


def test_rows_in_columns_are_refused_with_the_way_out(rng: np.random.Generator) -> None:
    days = pd.date_range("2024-01-01", periods=60)
    wide = pd.DataFrame({"ds": days, "north": rng.normal(9, 1, 60), "south": rng.normal(9, 1, 60)})
    forecaster = Forecaster(3, **QUICK).fit(wide, layout="wide")
    assert len(forecaster.predict(wide, layout="wide")) == 6
    message = r"no column 'unique_id', but one of the series 'north'; give rows .* \(--layout wide, in Python layout='w"
    with pytest.raises(DataError, match=message):
        forecaster.predict(wide)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"horizon": 0}, "`horizon`"),
        ({"architecture": "best"}, "`architecture` must be 'auto' or 'plain' or 'deepar'"),
        ({"cell": "qrnn"}, "`cell`"),
        ({"level": 100}, "`level` must be per cent from 1 to below 100"),
        ({"level": (0.8,)}, r"^`level` must be per cent, got \(0.8,\); did you mean 80\?$"),
        ({"level": (0.8, 0.975, 99)}, r"did you mean 80 and 97.5\?"),
        ({"dropout": 1.0}, "`dropout`"),
        ({"seed": -1}, "`seed`"),
        ({"epochs": 0}, "`epochs`"),
        ({"level": None}, "`level` must be per cent"),
        ({"level": (None, 80)}, "`level` must be per cent"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be above 0 and finite"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number"),
        ({"dropout": "some"}, "`dropout` must be a number"),
        ({"seed": 2**63}, "`seed` must be below"),
    ],
)
def test_arguments_are_checked_in_fit(rng: np.random.Generator, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Forecaster(**({"horizon": 3} | params)).fit(monthly(rng))


def test_levels_can_be_chosen_late(rng: np.random.Generator) -> None:
    forecaster = Forecaster(3, **QUICK).fit(monthly(rng))
    forecast = forecaster.predict(level=[50, 99.5])
    assert list(forecast.columns[3:]) == [
        "carousel-lo-50",
        "carousel-hi-50",
        "carousel-lo-99.5",
        "carousel-hi-99.5",
    ]
    width = lambda a: forecast[f"carousel-hi-{a}"] - forecast[f"carousel-lo-{a}"]  # noqa: E731
    assert (width("50") < width("99.5")).all()


def test_rows_may_be_observed_one_by_one(rng: np.random.Generator) -> None:
    from carousel.stream import Model

    df = panel(rng, (96, 96))
    df.loc[[85, 90], "y"] = np.nan
    early = df[df["ds"] < "2017-01-01"]
    forecaster = Forecaster(4, **QUICK).fit(early)
    model = Model(forecaster.model_)
    start = state = model.last()
    for ds, rows in df[df["ds"] >= "2017-01-01"].groupby("ds"):
        state = model.observe(ds, rows["y"].to_numpy(), state)
    ours, theirs = model.forecast(state), forecaster.predict(df)
    np.testing.assert_allclose(ours.mean.reshape(-1), theirs["carousel"], rtol=1e-9)
    assert (ours.ds.reshape(-1) == theirs["ds"].to_numpy().astype("datetime64[us]")).all()
    assert (start.window == model.last().window).all()
    with pytest.raises(DataError, match="`ds` must be the next row, 2018-01-01"):
        model.observe(np.datetime64("2018-03-01"), 1.0, state)


def test_a_random_walk_is_the_last_value_and_that_is_said(rng: np.random.Generator) -> None:
    walk = rng.normal(size=300).cumsum() + 100
    forecaster = Forecaster(1, season=1, **QUICK).fit(walk)
    assert any("One step ahead the forecast equals the last value" in line for line in forecaster.verdict_)


def test_the_recurrent_path_wins_where_linear_ones_cannot(tmp_path: Path) -> None:
    chaos = np.full(900, 0.3)
    for t in range(899):
        chaos[t + 1] = 3.9 * chaos[t] * (1 - chaos[t])
    forecaster = Forecaster(1, season=1, lookback=10, hidden_size=32, epochs=8, progress=False).fit(
        chaos[:800]
    )
    recurrent = forecaster.model_.recurrent
    assert recurrent is not None
    assert not recurrent.embed.W[:, -1].any(), "it is not told how high a window lies"
    assert not recurrent.position.W[:, 0].any()
    scores = forecaster.backtest(chaos, start=800, step=1).scores
    assert scores["carousel"].rmse < 0.5 * scores["ridge"].rmse
    assert "The model wins" in forecaster.verdict_[0]
    forecaster.save(tmp_path / "chaos")
    loaded = carousel.load(tmp_path / "chaos")
    assert isinstance(loaded, Forecaster)
    pd.testing.assert_frame_equal(loaded.predict(chaos), forecaster.predict(chaos), check_exact=True)


@pytest.mark.parametrize("architecture", ["auto", "plain", "deepar"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_the_torch_free_run_equals_torch(
    rng: np.random.Generator, architecture: str, cell: str, forward: Callable[..., Any]
) -> None:
    theirs, ours = forward(architecture, cell, rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.fixture
def forward() -> Callable[..., Any]:
    """The output of a random torch network and of the value that it leaves, on the same windows."""
    import torch

    from carousel.forecast.modules import DeepARNet, PlainNet, SegmentNet
    from carousel.stream.decoder import SegmentDecoder
    from carousel.stream.network import NetworkModel

    def run(architecture: str, cell: str, rng: np.random.Generator) -> tuple[Any, Any]:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(3)
            if architecture == "plain":
                plain = PlainNet(cell, 5, 2, 4).eval()
                x = rng.normal(size=(9, 3, 1)).astype(np.float32)
                return plain(torch.from_numpy(x)).numpy(), NetworkModel(plain.value().network).run(x)
            if architecture == "deepar":
                deepar = DeepARNet(cell, 6, 5, 2, counts=False).eval()
                x = rng.normal(size=(9, 3, 6)).astype(np.float32)
                return deepar(torch.from_numpy(x)).numpy(), NetworkModel(deepar.value().network).run(x)
            net = SegmentNet((7, 6), 4, cell, 5, 2).eval()
            net.head.weight.normal_()
            past = rng.normal(size=(3, 2, 7)).astype(np.float32)
            future = rng.normal(size=(2, 2, 6)).astype(np.float32)
            output = net(torch.from_numpy(past), torch.from_numpy(future)).numpy()
            return output, SegmentDecoder(net.value(1.0)).run(past, future)

    return run


def test_counts_are_never_below_zero(rng: np.random.Generator) -> None:
    counts = rng.poisson(0.7, 200).astype(float)
    counts[-30:] = 0
    frame = pd.DataFrame({"ds": pd.date_range("2022-01-01", periods=200), "y": counts})
    forecaster = Forecaster(7, **QUICK).fit(frame)
    forecast = forecaster.predict(level=[50, 99])
    values = forecast[
        ["carousel-lo-99", "carousel-lo-50", "carousel", "carousel-hi-50", "carousel-hi-99"]
    ].to_numpy()
    assert values.min() == 0
    assert (np.diff(values, axis=1) >= 0).all()
    assert any("no value is below 0" in note for note in forecaster.notes_)
    shifted = Forecaster(7, **QUICK).fit(frame.assign(y=counts - 1)).predict(level=99)
    assert shifted["carousel-lo-99"].min() < -1
