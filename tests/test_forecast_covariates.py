"""Covariates: what they bring, what they never cost, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, DataError

pytest.importorskip("torch")

QUICK: dict[str, Any] = {"epochs": 2, "hidden_size": 8, "progress": False}
K, ROWS = 14, 280


def days(rows: int) -> pd.DatetimeIndex:
    return pd.date_range("2022-01-01", periods=rows)


def sales(seed: int = 1, effect: float = 20.0, id: str = "a") -> pd.DataFrame:
    """A weekly season and promotions that add `effect`; the last K rows are to be forecast."""
    rng = np.random.default_rng(seed)
    t = np.arange(ROWS + K)
    promo = (rng.random(len(t)) < 0.2).astype(float)
    y = 50 + 5 * np.sin(2 * np.pi * t / 7) + effect * promo + rng.normal(size=len(t))
    return pd.DataFrame({"unique_id": id, "ds": days(len(t)), "y": y, "promo": promo})


def rmse(forecast: pd.DataFrame, truth: Any) -> float:
    return float(np.sqrt(np.mean((forecast["carousel"].to_numpy() - np.asarray(truth)) ** 2)))


@pytest.fixture(scope="module")
def fitted() -> tuple[Forecaster, pd.DataFrame, pd.DataFrame]:
    frame = sales()
    past, future = frame[:ROWS], frame[ROWS:]
    return Forecaster(K, **QUICK).fit(past, future="promo"), past, future


Fitted = tuple[Forecaster, pd.DataFrame, pd.DataFrame]


def test_a_future_covariate_is_foreseen(fitted: Fitted) -> None:
    forecaster, past, future = fitted
    with_it = rmse(forecaster.predict(future=future.drop(columns="y")), future["y"])
    without = rmse(Forecaster(K, **QUICK).fit(past.drop(columns="promo")).predict(), future["y"])
    assert with_it < 0.3 * without
    assert with_it < 1.6  # the noise has 1
    assert any("future covariates (promo): kept" in note for note in forecaster.notes_)


def test_noise_is_left_out_and_costs_nothing() -> None:
    frame = sales(effect=0.0)
    noise = np.random.default_rng(5).normal(size=(ROWS + K, 3))
    frame[["u", "v", "w"]] = noise
    past, future = frame[:ROWS], frame[ROWS:]
    plain = Forecaster(K, **QUICK).fit(past[["unique_id", "ds", "y"]])
    forecaster = Forecaster(K, **QUICK).fit(past, past="u", future=["v", "w"])
    without, with_them = (
        rmse(plain.predict(), future["y"]),
        rmse(forecaster.predict(future=future), future["y"]),
    )
    assert with_them < 1.02 * without


def test_a_loaded_model_forecasts_the_same_bits(fitted: Fitted, tmp_path: Path) -> None:
    forecaster, past, future = fitted
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    forecast = forecaster.predict(future=future)
    pd.testing.assert_frame_equal(loaded.predict(future=future), forecast, check_exact=True)
    pd.testing.assert_frame_equal(loaded.predict(past, future=future), forecast, rtol=1e-9)
    assert b'{\\"format\\":3,' in (tmp_path / "model").read_bytes()
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_a_file_without_covariates_says_nothing_of_them(tmp_path: Path) -> None:
    frame = sales()[["ds", "y"]]
    Forecaster(K, **QUICK).fit(frame.assign(y=frame["y"] - 50)).save(tmp_path / "model")
    assert b"covariates" not in (tmp_path / "model").read_bytes()


def test_rows_are_observed_one_by_one(fitted: Fitted) -> None:
    forecaster, past, future = fitted
    model = carousel.stream.Model(forecaster.model_)
    state = model.last()
    for row in future[:3].itertuples():
        state = model.observe(row.ds, [row.y], state, {"promo": row.promo})
    promo = np.r_[future["promo"][3:], 1.0, 0.0, 1.0]
    coming = pd.DataFrame({"unique_id": "a", "ds": days(ROWS + K + 3)[ROWS + 3 :], "promo": promo})
    ours = model.forecast(state, future={"promo": promo[None]}).mean[0]
    theirs = forecaster.predict(pd.concat([past, future[:3]]), future=coming)["carousel"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    with pytest.raises(DataError, match="'promo' is missing"):
        model.forecast(state)
    with pytest.raises(DataError, match="'promo' is missing"):
        model.observe(state.next[0], [1.0], state)


def test_backtest_reads_the_future_of_every_origin(fitted: Fitted) -> None:
    forecaster, past, future = fitted
    whole = pd.concat([past, future])
    result = forecaster.backtest(whole, origins=3, step=5, fitted_rows="allow")
    assert result.scores["carousel"].rmse < 0.3 * result.scores["ridge"].rmse
    last = result.forecasts["carousel"].to_numpy()[-K:]
    np.testing.assert_allclose(last, forecaster.predict(past, future=future)["carousel"], rtol=1e-6)
    whole.iloc[-2, whole.columns.get_loc("promo")] = np.nan
    with pytest.raises(
        DataError, match=r"Series 'a' has no 'promo' at 2022-10-20; a future covariate must be"
    ):
        forecaster.backtest(whole, origins=3, step=5, fitted_rows="allow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: None, r"reads future covariates: give promo for the 14 rows after 2022-10-07"),
        (lambda f: f[:5], r"'promo' of series 'a' for the 14 rows 2022-10-08 to 2022-10-21; 9 are missing, first the "
         "row of 2022-10-13"),
        (lambda f: f.assign(promo=[0.0] * 13 + [np.nan]), r"; 1 is missing, the value of 2022-10-21\."),
        (lambda f: f.drop(columns="promo"), "`future` has no column 'promo'"),
        (lambda f: f.assign(unique_id="b"), "of series 'a' .* 14 are missing"),
        (lambda f: pd.concat([f, f[3:4]]), "rows 3 and 14 of `future` have the same time 2022-10-11 of series 'a'"),
        (lambda f: f.assign(promo=["x"] * 14), "row 0, column 'promo'.*: expected a number, got 'x'"),
        (lambda f: f.assign(promo=np.inf), "expected a finite number, got Inf"),
    ],
)  # fmt: skip
def test_a_future_that_is_not_whole_is_refused(fitted: Fitted, change: Any, message: str) -> None:
    forecaster, _, future = fitted
    with pytest.raises(DataError, match=message):
        forecaster.predict(future=change(future.drop(columns="y").reset_index(drop=True)))


def test_a_series_that_has_ended_is_said_and_can_be_left_out(fitted: Fitted) -> None:
    _, past, future = fitted
    past, future = (rows.assign(unique_id="a") for rows in (past, future))
    both = pd.concat([past, past[: -K - 1].assign(unique_id="b")])
    forecaster = Forecaster(K, **QUICK).fit(both, future="promo")
    note = "1 series ends more than a horizon before 2022-10-07, b at 2022-09-22: forecasts begin where a series ends"
    assert note in forecaster.notes_
    out = r"first the row of 2022-09-23; or leave out this series, which has ended: give rows without it \(--data, in"
    with pytest.raises(DataError, match=out):
        forecaster.predict(future=future)
    assert len(forecaster.predict(past, future=future)) == K
    close = pd.concat([past, past[:-K].assign(unique_id="b")])
    assert not any("a horizon before" in note for note in Forecaster(K, **QUICK).fit(close).notes_)


def test_rows_beyond_the_horizon_are_not_looked_at(fitted: Fitted) -> None:
    forecaster, past, future = fitted
    more = pd.concat([past, future, future[-1:].assign(ds=days(ROWS + K + 9)[-1], promo=np.nan)])
    pd.testing.assert_frame_equal(forecaster.predict(future=more), forecaster.predict(future=future))


def test_categories_gaps_and_polars() -> None:
    rng = np.random.default_rng(3)
    names = np.array(["none", "sale", "closed"])
    kind = names[rng.choice(3, ROWS + K, p=[0.7, 0.2, 0.1])]
    level = np.select([kind == "sale", kind == "closed"], [20.0, -30.0])
    frame = sales(effect=0.0).assign(kind=kind)
    frame["y"] += level
    frame.loc[[30, 31], "kind"] = None
    past, future = pl.from_pandas(frame[:ROWS]), pl.from_pandas(frame[ROWS:])
    forecaster = Forecaster(K, **QUICK).fit(past, future="kind")
    forecast = forecaster.predict(future=future)
    assert isinstance(forecast, pl.DataFrame)
    assert float(np.sqrt(np.mean((forecast["carousel"].to_numpy() - future["y"].to_numpy()) ** 2))) < 2.5
    unseen = forecaster.predict(future=future.with_columns(kind=pl.lit("strike")))
    assert np.isfinite(unseen["carousel"].to_numpy()).all()


def leading(seed: int, rows: int = 320, id: str = "a") -> pd.DataFrame:
    """A target that follows, a day later, what an announcement says today."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    y = 10 + 4 * np.r_[0, x[:-1]] + 0.3 * rng.normal(size=rows)
    return pd.DataFrame({"unique_id": id, "ds": days(rows), "y": y, "news": x})


def test_the_worth_of_covariates_is_a_part(fitted: Fitted) -> None:
    """Each part on top of those before it, and the last is the whole model."""
    forecaster, past, _ = fitted
    result = forecaster.backtest(past, origins=3, fitted_rows="allow")
    assert list(result.parts) == ["smoothing", "covariates", "linear path", "recurrent path"]
    assert "The baselines see no covariates." in result.verdict
    assert forecaster.verdict_[-1] == "The baselines see no covariates."
    assert result.parts["covariates"] < 0.7 * result.parts["smoothing"]
    assert result.parts["recurrent path"] == pytest.approx(result.scores["carousel"].rmse)


def test_a_past_covariate_leads() -> None:
    frame = leading(2)
    forecaster = Forecaster(1, **QUICK).fit(frame[:240], past="news")
    plain = Forecaster(1, **QUICK).fit(frame[:240][["unique_id", "ds", "y"]])
    start = str(frame["ds"][240])[:10]
    ours = forecaster.backtest(frame, start=start, step=1).scores["carousel"].rmse
    assert ours < 0.4 * plain.backtest(frame, start=start, step=1).scores["carousel"].rmse
    assert any("past covariates (news): kept" in note for note in forecaster.notes_)


def growing(id: str, slope: float, seed: int, rows: int = 60) -> pd.DataFrame:
    """Five weeks of level, then a jump every seventh day of a size that the kind of the shop decides."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    y = 100 + slope * t + rng.normal(size=rows)
    return pd.DataFrame({"unique_id": id, "ds": days(rows), "y": y})


def test_static_covariates_reach_series_that_were_not_fitted(tmp_path: Path) -> None:
    kinds = ["up", "down"] * 8
    frames = [growing(f"s{k}", 1.5 if kind == "up" else -0.5, k) for k, kind in enumerate(kinds)]
    frame = pd.concat(frames, ignore_index=True)
    static = pd.DataFrame({"unique_id": [f"s{k}" for k in range(16)], "kind": kinds})
    forecaster = Forecaster(7, **QUICK).fit(frame, static=static)
    assert any("static covariates (kind)" in note for note in forecaster.notes_)
    assert np.isfinite(forecaster.predict()["carousel"]).all()
    new = growing("new", 1.5, 99, 24)
    if forecaster.model_.covariates is not None:
        with pytest.raises(DataError, match="series 'new' was not fitted, and its static covariates"):
            forecaster.predict(new)
    row = pd.DataFrame({"unique_id": ["new"], "kind": ["up"]})
    one = forecaster.predict(new, static=row)
    two = forecaster.predict(new.assign(kind="up"))
    pd.testing.assert_frame_equal(one, two)
    by_name = Forecaster(7, **QUICK).fit(frame.merge(static), static="kind")
    pd.testing.assert_frame_equal(by_name.predict(), forecaster.predict())


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({"promo": np.nan}, {"future": "promo"}, DataError, "covariate 'promo' has no value in any row"),
        ({"promo": [f"c{k}" for k in range(ROWS)]}, {"past": "promo"}, DataError,
         "'promo' has 280 different values, such as 'c0'; at most 50"),
        ({"promo": days(ROWS)}, {"past": "promo"}, DataError, "'promo' holds times; give a number"),
        ({"promo": pd.Categorical(days(ROWS))}, {"past": "promo"}, DataError, "'promo' holds times; give a number"),
        ({"promo": np.ones(ROWS) * 1j}, {"past": "promo"}, DataError, "column 'promo' holds .* cannot be read"),
        ({"promo": [1.0] * (ROWS - 1) + [np.inf]}, {"past": "promo"}, DataError,
         "row 279, column 'promo' of series 'a': expected a finite number, got Inf"),
        ({}, {"static": "promo"}, DataError, "static covariate 'promo' of series 'a' has two values, in rows"),
        ({}, {"past": "promo", "future": "promo"}, ArgumentError, "'promo' is twice"),
        ({}, {"past": "cost"}, DataError, "there is no column 'cost'"),
        ({}, {"past": "y", "target_col": "y"}, DataError, "must be different columns"),
        ({}, {"past": 3}, ArgumentError, "`past` must be names of columns, got 3"),
        ({}, {"static": pd.DataFrame({"unique_id": ["b"], "size": [1]})}, DataError, "no row of series 'a'"),
        ({}, {"static": pd.DataFrame({"unique_id": ["a", "a"], "size": [1, 2]})}, DataError,
         "series 'a' is there twice"),
        ({}, {"layout": "wide", "past": "promo"}, ArgumentError, "layout='wide' has a column per series"),
    ],
)  # fmt: skip
def test_covariates_that_cannot_be_used_are_refused(
    change: dict[str, Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    frame = sales()[:ROWS].assign(**change)
    with pytest.raises(error, match=message):
        Forecaster(K, **QUICK).fit(frame, **arguments)


def test_a_column_of_two_values_acts_in_a_straight_line() -> None:
    """Its square is the column itself: between and beyond the two values only a line is known."""
    rng, rows = np.random.default_rng(6), 300
    promo = (rng.random(rows) < 0.2) * 1.0
    y = 50 + 5 * np.sin(2 * np.pi * np.arange(rows) / 7) + 20 * promo + rng.normal(size=rows)
    frame = pd.DataFrame({"ds": days(rows), "y": y, "promo": promo})
    forecaster = Forecaster(1, **QUICK).fit(frame, future="promo")
    after = frame.ds.iloc[-1] + pd.Timedelta(days=1)

    def at(value: float) -> float:
        return float(forecaster.predict(future=pd.DataFrame({"ds": [after], "promo": [value]})).carousel[0])

    assert 15 < at(1) - at(0) < 25
    for value in (0.5, 2, -1):
        assert at(value) == pytest.approx(at(0) + value * (at(1) - at(0)), abs=0.2)


def test_a_future_without_rows_is_refused() -> None:
    frame = sales()
    forecaster = Forecaster(K, **QUICK).fit(frame[:ROWS], future="promo")
    for several in (frame, pd.concat([frame, frame.assign(unique_id="b")])):
        with pytest.raises(DataError, match=f"`future` has no rows; it needs promo for the {K} rows"):
            forecaster.predict(several[:ROWS], future=frame.iloc[:0])


@pytest.mark.parametrize("given", [["sun ", " rain"], [True, False], [1.0, 2.5], [1, 2]])
def test_a_category_is_known_again_however_it_is_spelt(given: list[Any]) -> None:
    """In the type that was fitted, as a text in a file, and with white space around it."""
    rng, rows = np.random.default_rng(6), 200
    which = rng.random(rows) < 0.5
    kind = pd.Categorical([given[int(first)] for first in which])
    y = 50 + 20 * which + rng.normal(size=rows)
    frame = pd.DataFrame({"ds": days(rows), "y": y, "kind": kind})
    forecaster = Forecaster(3, **QUICK).fit(frame[:-3], future="kind")
    assert forecaster.model_.covariates is not None
    right = forecaster.predict(future=frame[-3:])
    assert np.ptp(right.carousel) > 10 or which[-3:].all() or not which[-3:].any()
    for spelt in (frame.kind.astype(str), frame.kind.astype(str).str.strip(), frame.kind.astype(object)):
        again = forecaster.predict(future=frame.assign(kind=spelt)[-3:])
        pd.testing.assert_frame_equal(again, right)


@pytest.mark.parametrize("architecture", ["plain", "deepar"])
def test_other_architectures_take_none(architecture: str) -> None:
    with pytest.raises(ArgumentError, match=f"architecture='{architecture}' reads the target alone"):
        Forecaster(K, architecture=architecture, **QUICK).fit(sales()[:ROWS], future="promo")


def test_holidays() -> None:
    pytest.importorskip("holidays")
    rng = np.random.default_rng(8)
    t = pd.date_range("2018-01-01", "2021-12-10")
    import holidays

    free = np.array([day.date() in holidays.country_holidays("US", years=range(2018, 2022)) for day in t])
    y = 100 + 5 * (t.day_of_week < 5) - 40 * free + rng.normal(size=len(t))
    forecaster = Forecaster(30, **QUICK).fit(pd.DataFrame({"ds": t, "y": y}), holidays="US")
    forecast = forecaster.predict().set_index("ds")["carousel"]
    assert forecast["2021-12-25"] < 85 < forecast["2021-12-22"]
    with pytest.raises(ArgumentError, match="`holidays` must be a country"):
        Forecaster(30, **QUICK).fit(pd.DataFrame({"ds": t, "y": y}), holidays="Atlantis")
    with pytest.raises(ArgumentError, match="`holidays` needs rows of a day or less, but their step is 1"):
        Forecaster(30, **QUICK).fit(y, holidays="US")


def test_the_recurrent_path_reads_what_linear_ones_cannot(tmp_path: Path) -> None:
    """A product of two columns, and one that means nothing."""
    rng = np.random.default_rng(1)
    a, b = rng.choice([-1.0, 1.0], (2, 600))
    y = 50 + 10 * a * b + 0.5 * rng.normal(size=600)
    frame = pd.DataFrame(
        {"unique_id": "s", "ds": days(600), "y": y, "a": a, "b": b, "c": rng.normal(size=600)}
    )
    options = {"epochs": 8, "hidden_size": 32, "learning_rate": 1e-2, "dropout": 0.0, "progress": False}
    forecaster = Forecaster(7, **options).fit(frame[:500], future=["a", "b"], past="c")
    assert any("read by the recurrent path" in note for note in forecaster.notes_)
    scores = forecaster.backtest(frame, start=str(frame["ds"][500])[:10], step=7).scores
    assert scores["carousel"].rmse < 0.8 * scores["ridge"].rmse
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    forecast = forecaster.predict(future=frame[500:])
    pd.testing.assert_frame_equal(loaded.predict(future=frame[500:]), forecast, check_exact=True)
    pd.testing.assert_frame_equal(loaded.predict(frame[:500], future=frame[500:]), forecast, rtol=1e-6)


def shops(rng: np.random.Generator, ids: str, rows: int) -> pd.DataFrame:
    """Numbers and categories of every role, each with gaps."""
    parts = []
    for id in ids:
        t = np.arange(rows)
        promo, weather = (rng.random(rows) < 0.2).astype(float), rng.normal(size=rows)
        event = rng.choice(["none", "fair", "strike"], rows, p=[0.8, 0.1, 0.1])
        news = np.roll(weather, 3) + 0.3 * rng.normal(size=rows)
        moved = 8 * promo + 5 * (event == "fair") - 4 * (event == "strike") + 3 * np.roll(news, 1)
        y = 50 + 5 * np.sin(2 * np.pi * t / 7) + moved + rng.normal(size=rows)
        columns = {"unique_id": id, "ds": days(rows), "y": y, "promo": promo, "event": event, "news": news}
        parts.append(pd.DataFrame({**columns, "kind": "kiosk" if id in "ac" else "mall"}))
    frame = pd.concat(parts, ignore_index=True)
    frame.loc[rng.random(len(frame)) < 0.03, "news"] = np.nan
    frame.loc[rng.random(len(frame)) < 0.03, "event"] = None
    frame.loc[rng.random(len(frame)) < 0.03, "y"] = np.nan
    return frame


def test_an_update_takes_covariates_with_it() -> None:
    """Known series that got different numbers of rows, one that got none, and one that is new."""
    rng = np.random.default_rng(11)
    frame = shops(rng, "abcd", ROWS + 12)
    row = frame.groupby("unique_id").cumcount()
    known = {"a": ROWS, "b": ROWS, "c": ROWS, "d": 0}
    last = {"a": ROWS + 12, "b": ROWS + 5, "c": ROWS, "d": ROWS + 3}
    first, then = frame[row < frame.unique_id.map(known)], frame[row < frame.unique_id.map(last)]
    forecaster = Forecaster(7, **QUICK).fit(first, past="news", future=["promo", "event"], static="kind")
    read = {column.name for column in forecaster.model_.covariates.columns}
    assert read >= {"news", "promo", "event"}
    coming = [
        {"unique_id": id, "ds": stamp, "promo": float(k % 3 == 0), "event": ["fair", "none", "strike"][k % 3]}
        for id, rows in last.items()
        for k, stamp in enumerate(days(rows + 7)[-7:])
    ]
    ahead = pd.DataFrame(coming)
    expected = forecaster.predict(then, future=ahead)
    forecaster.update(then[row[then.index] >= then.unique_id.map(known)])
    found = forecaster.predict(future=ahead)
    pd.testing.assert_frame_equal(
        found.sort_values(["unique_id", "ds"]).reset_index(drop=True),
        expected.sort_values(["unique_id", "ds"]).reset_index(drop=True),
        rtol=1e-5,
        check_exact=False,
    )


def test_a_stretch_without_any_value_teaches_nothing_of_a_covariate() -> None:
    """Of a short series that ends in missing rows, no row can be regressed on the rows before it."""
    rng = np.random.default_rng(0)
    promo = (rng.random(60) < 0.3) * 1.0
    long = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=60), "promo": promo})
    long["y"] = 50 * np.exp(0.1 * rng.normal(size=60) + promo)
    short = long[-9:].assign(unique_id="b")
    short.loc[short.index[1:], "y"] = np.nan
    fitted = Forecaster(3, season=7, epochs=1, hidden_size=4, progress=False)
    fitted.fit(pd.concat([long, short]), future="promo")
    assert "future covariates (promo): kept" in fitted.notes_
