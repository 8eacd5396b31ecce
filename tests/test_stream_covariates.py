"""Streams of a model that reads covariates: in Python, as lines of text, and what is known ahead."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from carousel import stream
from carousel.errors import ArgumentError, DataError
from carousel.stream.ahead import AheadRows
from carousel.stream.rows import rows
from forecast_models import forecast_model

K, L, DAY = 3, 21, np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("holidays")
    rng = np.random.default_rng(77)
    value, _ = forecast_model(rng, freq="D", season=7, lookback=L, horizon=K, length=60, beside=True)
    return stream.Model(value)


def made(rng, n):
    """n rows of every covariate that has to be given."""
    return {
        "news": np.where(rng.random(n) < 0.2, np.nan, rng.normal(3, 2, n)),
        "mood": rng.choice(["good", "bad", "never seen"], n),
        "promo": rng.normal(size=n),
        "shop": rng.choice(["open", "none"], n),
    }


def part(columns, rows, *names):
    return {name: columns[name][rows] for name in names or columns}


def assert_same(a, b):
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-6)
    np.testing.assert_allclose(a.lower, b.lower, rtol=1e-6)
    np.testing.assert_array_equal(a.ds, b.ds)


def test_rows_observed_are_rows_begun_with(model):
    """One by one, or all at once: the same state, and the covariates matter."""
    rng, n = np.random.default_rng(1), 50
    y, columns, start = rng.normal(100, 5, n), made(rng, n + K), np.datetime64("2024-11-20")
    each = {name: [column[:n]] for name, column in columns.items()}
    whole = model.start(["s1"], y=[y], ds=start, covariates=each)
    early = {name: [column[: n - 6]] for name, column in columns.items()}
    state = model.start(["s1"], y=[y[: n - 6]], ds=start, covariates=early)
    for k in range(n - 6, n):
        state = model.observe(start + k * DAY, [y[k]], state, part(columns, [k]))
    future = {name: [columns[name][n:]] for name in ("promo", "shop")}
    assert_same(model.forecast(state, future=future), model.forecast(whole, future=future))
    other = future | {"promo": [columns["promo"][n:] + 1]}
    assert (
        np.abs(model.forecast(whole, future=other).mean - model.forecast(whole, future=future).mean).min() > 0
    )
    with pytest.raises(DataError, match=r"covariate 'promo' is missing; it must have shape \(1, 3\)"):
        model.forecast(whole)


def test_holidays_are_looked_up(model):
    """Of a row and of those to come; one that is given counts instead."""
    before = model.last()[[0]]
    due = before.next[0]
    given = {"news": [1.0], "mood": ["good"], "promo": [0.5], "shop": ["open"]}
    labor = np.datetime64("2024-09-02")
    state = before
    while state.next[0] < labor:
        state = model.observe(state.next, [100.0], state, given)
    assert due < labor
    off = model.observe(labor, [100.0], state, given)
    said = model.observe(labor, [100.0], state, given | {"holiday": ["Labor Day"]})
    never = model.observe(labor, [100.0], state, given | {"holiday": ["none"]})
    np.testing.assert_array_equal(off.covariates.future, said.covariates.future)
    assert np.abs(off.covariates.future - never.covariates.future).max() == 1


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda c: c.pop("news"), ArgumentError, r"'news' for every row of `y`: arrays of 30 values, got none"),
        (lambda c: c.update(promo=[c["promo"][0][:7]]), ArgumentError, r"'promo' .* 30 values, got 7"),
        (lambda c: c.update(promo=[["a"] * 30]), DataError, r"'promo' must be numbers"),
        (lambda c: c.pop("kind"), DataError, r"'kind' is missing"),
    ],
)  # fmt: skip
def test_a_new_series_needs_all_of_them(model, change, error, text):
    rng = np.random.default_rng(2)
    columns = {name: [column] for name, column in made(rng, 30).items()} | {"kind": ["x"]}
    y = [rng.normal(100, 5, 30)]
    model.start(["new"], y=y, ds=np.datetime64("2024-03-01"), covariates=columns)
    change(columns)
    with pytest.raises(error, match=text):
        model.start(["new"], y=y, ds=np.datetime64("2024-03-01"), covariates=columns)


def csv(columns, stamps, name="s0", y=None, only=None):
    """Lines of CSV under a header."""
    kept = list(only or columns)
    out = [",".join(["unique_id", "ds", *["y"] * (y is not None), *kept])]
    for n, when in enumerate(stamps):
        cells = ["" if columns[c][n] != columns[c][n] else str(columns[c][n]) for c in kept]
        out.append(",".join([name, str(when)[:10], *([str(y[n])] if y is not None else []), *cells]))
    return out


@pytest.fixture
def case(model, tmp_path):
    """Rows of series s0 after the last fitted one, with what was known ahead in a file, and the library's answers."""
    rng, n = np.random.default_rng(3), 6
    columns, y = made(rng, n + K), rng.normal(100, 5, n)
    stamps = model.last().next[0] + np.arange(n + K) * DAY
    path = tmp_path / "future.csv"
    path.write_text("\n".join(csv(columns, stamps, only=("shop", "promo"))) + "\n")
    state, wanted = model.start(["s0"]), []
    for k in range(n):
        state = model.observe(stamps[k], [y[k]], state, part(columns, [k]))
        coming = part(columns, slice(k + 1, k + 1 + K), "promo", "shop")
        wanted.append(model.forecast(state, future={name: [v] for name, v in coming.items()}))
    return columns, stamps, y, path, wanted


def answered(taken, lines):
    found = []
    for number, line in enumerate(lines, 1):
        if number == 1 and taken.first(line.encode()):
            continue
        answer = taken.answer(number, line.encode())
        taken.keep(answer)
        found.append((json.loads(answer.text), answer.remark))
    return found


@pytest.mark.parametrize("only", [None, ("mood", "news"), ("promo", "mood", "news")])
def test_lines_are_answered_as_the_library_does(model, case, only):
    """With all covariates in the row, or the future ones left to the file."""
    columns, stamps, y, path, wanted = case
    taken = rows(model, "auto", None, str(path))
    found = answered(taken, csv(columns, stamps[: len(y)], y=y, only=only))
    for (fields, remark), forecast in zip(found, wanted, strict=True):
        assert remark == ""
        np.testing.assert_allclose(fields["carousel"], forecast.mean[0], rtol=1e-9)


KINDS = {  # of a column: the values of a fit, and what a row may call the second of them
    "texts": (["rain", "sun "], ["sun ", "sun", " sun"]),
    "flags": ([False, True], [True, "True", "TRUE", " true "]),
    "numbers": ([1.0, 2.0], [2.0, 2, "2", "2.0", "+2"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_categories_are_coded_as_in_predict(kind, tmp_path):
    """However a frame, a program or a line writes them: as columns change their type between files and frames."""
    pytest.importorskip("torch")
    pd = pytest.importorskip("pandas")
    from carousel import Forecaster

    names, spellings = KINDS[kind]
    rng, n = np.random.default_rng(0), 200
    second = rng.random(n) < 0.5
    frame = pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=n), "y": 50 + 20 * second + rng.normal(size=n)}
    )
    w = [names[k] for k in second.astype(int)]
    w[180:184] = [names[1], names[1], names[0], names[1]]
    frame["w"] = w if kind == "texts" else pd.Categorical(w)
    quick = {"epochs": 1, "max_steps": 2, "hidden_size": 4, "progress": False}
    forecaster = Forecaster(3, **quick).fit(frame[:180], future="w")
    assert "w" in [column.name for column in forecaster.model_.covariates.columns]
    wanted = forecaster.predict(frame[:181], future=frame[["ds", "w"]][181:184])["carousel"].to_numpy()
    model, y = stream.Model(forecaster.model_), frame["y"][180]
    before = model.start()
    for spelt in spellings:
        state = model.observe(before.next, y, before, {"w": [spelt]})
        found = model.forecast(state, future={"w": [[spelt, names[0], spelt]]}).mean[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        path = tmp_path / "plan.csv"
        days = [str(day)[:10] for day in model.frequency.grid(before.next[0], 4)]
        known = zip(days[1:], [spelt, names[0], spelt], strict=True)
        path.write_text("ds,w\n" + "".join(f"{day},{name}\n" for day, name in known))
        ((fields, remark),) = answered(
            rows(model, "auto", None, str(path)), ["ds,y,w", f"{days[0]},{y},{spelt}"]
        )
        np.testing.assert_allclose(fields["carousel"], wanted, rtol=1e-5)
        assert not remark


@pytest.mark.parametrize("given", ["hail", None, float("nan"), " "])
def test_categories_that_are_unknown_or_missing_are_none_of_them_as_in_predict(given):
    pytest.importorskip("torch")
    pd = pytest.importorskip("pandas")
    from carousel import Forecaster

    rng, n = np.random.default_rng(0), 200
    second = rng.random(n) < 0.5
    frame = pd.DataFrame({
        "ds": pd.date_range("2024-01-01", periods=n), "y": 50 + 20 * second + rng.normal(size=n),
        "w": np.array(["rain", "sun"], object)[second.astype(int)],
    })  # fmt: skip
    forecaster = Forecaster(3, epochs=1, max_steps=2, hidden_size=4, progress=False).fit(
        frame[:180], future="w"
    )
    frame.loc[180, "w"] = given
    future = frame[["ds", "w"]][181:184]
    wanted = forecaster.predict(frame[:181], future=future)["carousel"].to_numpy()
    model = stream.Model(forecaster.model_)
    state = model.start()
    state = model.observe(state.next, frame["y"][180], state, {"w": [given]})
    found = model.forecast(state, future={"w": [future["w"].tolist()]}).mean[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_covariates_that_no_path_counts_with_are_refused(model):
    state, given = model.start(["s0"]), {"news": [1.0], "mood": ["good"], "promo": [1.0], "shop": ["open"]}
    for value, said in (
        (1e200, "the square of the covariate 'promo', 1e.200"),
        (1e90, "the covariate 'promo', 1e.90"),
    ):
        with pytest.raises(DataError, match=said):
            model.observe(state.next, [1.0], state, given | {"promo": [value]})
        future = {"promo": [[value] * model.value.horizon], "shop": [["open"] * model.value.horizon]}
        with pytest.raises(DataError, match=said):
            model.forecast(state, future=future)


def test_a_category_may_hold_another_separator(model, case):
    """However often it splits a row without a header: there is no time where one must be."""
    columns, stamps, y, path, _ = case
    lines = csv(columns, stamps[:2], y=y[:2])[1:]
    lines = [line.replace("good", "bad").replace("never seen", "bad") for line in lines]
    other = [line.replace("bad", "a;b;c;d;e;f;g") for line in lines]
    unseen = [line.replace("bad", "never seen") for line in lines]
    wanted = answered(rows(model, "auto", None, str(path)), unseen)
    assert answered(rows(model, "auto", None, str(path)), other) == wanted


def test_lines_without_a_header_have_all_columns_in_order(model, case):
    columns, stamps, y, path, wanted = case
    taken = rows(model, "auto", None, str(path))
    lines = csv(columns, stamps[: len(y)], y=y, only=("news", "mood", "promo", "shop"))[1:]
    found = answered(taken, lines)
    np.testing.assert_allclose(found[-1][0]["carousel"], wanted[-1].mean[0], rtol=1e-9)
    with pytest.raises(DataError, match="it must have 7 columns, got 6"):
        taken.answer(9, lines[0].rsplit(",", 1)[0].encode())
    with pytest.raises(DataError, match=r"covariate 'promo' must be a finite number, .* got 'high'"):
        taken.answer(9, f"s0,{str(stamps[len(y)])[:10]},1,2,good,high,open".encode())


def test_what_is_not_known_ahead_is_said_and_the_row_is_kept(model, case):
    """The file grows: rows that are observed meanwhile have no forecast, and are not lost."""
    columns, stamps, y, path, wanted = case
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:4]) + "\n")
    taken = rows(model, "auto", None, str(path))
    (fields, remark), _ = answered(taken, csv(columns, stamps[:2], y=y))
    said = f"the future covariate 'promo' is not known at {str(stamps[3])[:10]}T00:00:00"
    assert fields == {"line": 2, "unique_id": "s0", "error": said}
    assert remark == f"{said}: no forecast"
    path.write_text("\n".join([*lines, "s0,2024-01-77,1,open"]) + "\n")
    ((fields, remark),) = answered(taken, csv(columns, stamps[: len(y)], y=y)[3:4])
    assert "line 11: the time must be as in" in remark
    assert "what was known before is used" in remark
    path.write_text("\n".join(lines) + "\n")
    ((fields, remark),) = answered(taken, csv(columns, stamps[: len(y)], y=y)[4:5])
    np.testing.assert_allclose(fields["carousel"], wanted[3].mean[0], rtol=1e-9)
    assert remark == ""


def test_a_row_of_which_the_future_is_not_known_says_so(model, case):
    """Its own cell is empty, and the file has nothing: the row before counts, as for any missing number."""
    columns, stamps, y, path, _ = case
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    taken = rows(model, "auto", None, str(path))
    (_, first), (fields, second) = answered(
        taken, csv(columns, stamps[:2], y=y, only=("news", "mood", "shop"))
    )
    said = "promo of this row is not known: taken as in the row before"
    assert first.startswith(f"{said}; the future covariate 'promo' is not known at ")
    assert second == said
    assert len(fields["carousel"]) == K


@pytest.mark.parametrize("text", ["", " ", "<NA>"])
def test_a_category_that_is_nowhere_to_be_found_is_none_of_those_there_are(model, case, text):
    columns, stamps, y, path, _ = case
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    taken = rows(model, "auto", None, str(path))
    header, row = csv(columns, stamps[:1], y=y)
    unknown = row.rpartition(",")[0]
    ((fields, remark),) = answered(taken, [header, f"{unknown},{text}"])
    assert remark == "shop of this row is not known: taken as none of the categories"
    ((other, none),) = answered(rows(model, "auto", None, str(path)), [header, f"{unknown},never seen"])
    assert none == ""
    assert fields == other


def test_an_empty_cell_does_not_hide_what_was_known_ahead(model, case):
    columns, stamps, y, path, wanted = case
    taken = rows(model, "auto", None, str(path))
    lines = csv({**columns, "promo": [np.nan] * len(y), "shop": [np.nan] * len(y)}, stamps[: len(y)], y=y)
    for (fields, remark), forecast in zip(answered(taken, lines), wanted, strict=True):
        assert remark == ""
        np.testing.assert_allclose(fields["carousel"], forecast.mean[0], rtol=1e-9)


def test_a_frame_is_no_dictionary_of_arrays(model):
    pd = pytest.importorskip("pandas")
    state = model.start(["s0"])
    for call in (
        lambda frame: model.forecast(state, future=frame),
        lambda frame: model.observe(state.next, [1.0], state, frame),
        lambda frame: model.start(["a"], y=[np.ones(30)], ds=np.datetime64("2024-01-01"), covariates=frame),
    ):
        for frame in (pd.DataFrame(), pd.DataFrame({"promo": [1.0] * K, "shop": ["open"] * K})):
            with pytest.raises(ArgumentError, match="must be a dictionary of arrays by name, got DataFrame"):
                call(frame)


def test_no_series_have_no_forecasts(model):
    nothing = {name: np.zeros((0, K)) for name in ("promo", "shop")}
    forecast = model.forecast(model.start([]), future=nothing)
    assert forecast.mean.shape == (0, K)


def test_blank_lines_before_the_header_of_the_file_are_none(model, case):
    columns, stamps, y, path, wanted = case
    path.write_text("\n\n" + path.read_text().replace(",", ";"))
    found = answered(rows(model, "auto", None, str(path)), csv(columns, stamps[: len(y)], y=y))
    np.testing.assert_allclose(found[-1][0]["carousel"], wanted[-1].mean[0], rtol=1e-9)


def test_rows_that_are_missing_have_what_was_known_ahead(model, case):
    columns, stamps, y, path, _ = case
    taken = rows(model, "auto", None, str(path))
    lines = csv(columns, stamps[: len(y)], y=y)
    ((fields, remark),) = answered(taken, [lines[0], lines[3]])
    assert remark == "2 rows before it are missing"
    state = model.start(["s0"])
    for k in range(3):
        beside = part(columns, [k])
        beside |= {"news": [np.nan], "mood": [""]} if k < 2 else {}
        state = model.observe(stamps[k], [y[k] if k == 2 else np.nan], state, beside)
    coming = part(columns, slice(3, 3 + K), "promo", "shop")
    forecast = model.forecast(state, future={name: [v] for name, v in coming.items()})
    np.testing.assert_allclose(fields["carousel"], forecast.mean[0], rtol=1e-9)


def test_rows_that_are_counted(tmp_path):
    """Without times: the file goes on after the last fitted row."""
    rng = np.random.default_rng(5)
    value, _ = forecast_model(rng, freq=1, season=7, lookback=L, horizon=K, length=60, series=1, promo=True)
    timed, counted = (
        stream.Model(value),
        stream.Model(replace(value, columns=replace(value.columns, time=None))),
    )
    promo, due = rng.normal(size=9), int(timed.last().next[0])
    path = tmp_path / "future.csv"
    path.write_text("\n".join(["promo", *map(str, promo)]))
    with pytest.raises(
        DataError, match=r"line 1: The header has no column for the time: 'ds' is not among promo"
    ):
        AheadRows(str(path), timed)
    known = AheadRows(str(path), counted).values("s0", np.arange(due - 1, due + 10))["promo"]
    np.testing.assert_array_equal(known, [np.nan, *promo, np.nan])
    ((fields, _),) = answered(rows(counted, "no", None, str(path)), [f"100,{promo[0]}"])
    state = counted.observe(due, [100.0], counted.last(), {"promo": promo[:1]})
    forecast = counted.forecast(state, future={"promo": [promo[1 : 1 + K]]})
    np.testing.assert_allclose(fields["carousel"], forecast.mean[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"line 1: The header has no column for the series"),
        ("unique_id,ds,promo\n", r"line 1: .* no column for a future covariate: 'shop'"),
        ("unique_id,ds,promo,shop\ns0,2024-05-01,high,open\n", r"line 2: .* 'promo' must be a finite number"),
        ("unique_id,ds,promo,shop\ns0,2024-05-01,1\n", r"line 2: it must have 4 columns, got 3"),
        ("unique_id,ds,promo,shop\ns0,2024-05-01,1,a\ns0,2024-05-01,2,a\n", r"line 3: .* series of line 2; remove one"),
        ('unique_id,ds,promo,shop\ns0,"2024', r"line 2: it is not CSV"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(model, tmp_path, text, said):
    path = tmp_path / "future.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        AheadRows(str(path), model)
    path.write_bytes(b"unique_id,ds,promo,shop\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        AheadRows(str(path), model)
    os.remove(path)
    with pytest.raises(FileNotFoundError):
        AheadRows(str(path), model)


def test_options_that_do_not_fit(model, tmp_path):
    with pytest.raises(ArgumentError, match=r"reads future covariates \(promo, shop\); give --future FILE"):
        rows(model, "auto", None)
    plain = stream.Model(forecast_model(np.random.default_rng(1), length=400)[0])
    with pytest.raises(ArgumentError, match="reads no future covariates that a file could give"):
        rows(plain, "auto", None, str(tmp_path / "future.csv"))
