"""A whole forecaster, row by row: the numbers of `Forecaster.predict`, from a state that is a plain value."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from carousel import network, stream
from carousel.errors import ArgumentError, DataError, FormatError, ShapeError
from carousel.series.history import Context
from carousel.series.panel import Panel
from carousel.series.starting import starting_rows
from forecast_models import forecast_model, rows

KINDS = {
    "hourly": {},
    "monthly": {"freq": "MS", "season": 12, "lookback": 24, "horizon": 6, "length": 60, "unit": "log"},
    "counted": {"freq": 2, "season": 7, "lookback": 21, "horizon": 5, "length": 60},
    "business": {"freq": "B", "season": 5, "lookback": 10, "horizon": 7, "length": 60, "unit": "root"},
    "deepar": {"season": 24, "lookback": 48, "horizon": 9, "length": 100, "deepar": "student"},
    "deepar, months": {
        **{"freq": "MS", "season": 12, "lookback": 24, "horizon": 6, "length": 60},
        **{"deepar": "negative-binomial"},
    },
    "plain": {"season": 24, "lookback": 48, "horizon": 12, "length": 100, "plain": True},
}
SAME = 1e-9  # of a series' scale: the same sums, in float64, of other groupings
SINGLE = 1e-5  # where a network in float32 takes part, in batches of another size


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def hourly():
    value, _ = forecast_model(np.random.default_rng(12))
    return stream.Model(value)


def observed(model, y, state):
    """`y` (N, B), row after row."""
    for row in y:
        state = model.observe(state.next, row, state)
    return state


def assert_close(ours, theirs, scale=1.0, tolerance=SINGLE):
    np.testing.assert_array_equal(ours.ds, theirs.ds)
    for name in ("mean", "lower", "upper"):
        np.testing.assert_allclose(
            getattr(ours, name) / scale, getattr(theirs, name) / scale, atol=tolerance, rtol=0
        )


@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_are_those_of_predict(rng, kind):
    """At any moment: after 0, 1, some and very many rows, missing ones among them."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("torch")
    from carousel import Forecaster

    value, y = forecast_model(rng, **KINDS[kind])
    forecaster, model = Forecaster.from_model(value), stream.Model(value)
    first = model.start().next
    more = np.stack([rows(rng, 40, value.season, 100 + 20 * s) for s in range(3)], 1)
    more[[3, 4, 17], 1] = np.nan
    start = model.frequency.shift(first, -np.full(3, y.shape[1]))
    state, done = model.start(), 0
    for count in (0, 1, 5, 34):
        state, done = observed(model, more[done : done + count], state), done + count
        every = np.concatenate([y, more[:done].T], 1)
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat(value.ids, every.shape[1]),
                "ds": np.concatenate([model.frequency.grid(s, every.shape[1]) for s in start]),
                "y": every.reshape(-1),
            }
        )
        theirs = forecaster.predict(frame)
        ours = model.forecast(state)
        np.testing.assert_array_equal(ours.ds.reshape(-1), theirs["ds"].to_numpy().astype(ours.ds.dtype))
        scale = value.scaling.scale.min() if value.scaling.unit == "identity" else np.nanmean(every)
        found = {"carousel": ours.mean}
        for q, level in enumerate((80, 95)):
            found |= {f"carousel-lo-{level}": ours.lower[q], f"carousel-hi-{level}": ours.upper[q]}
        for name, array in found.items():
            np.testing.assert_allclose(array.reshape(-1), theirs[name], rtol=0, atol=SINGLE * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_that_begins_late_goes_on_as_one_that_is_given_whole(rng, kind):
    """What a state makes up before the first row depends on the rows since, and nothing is expected from it."""
    value, _ = forecast_model(rng, **KINDS[kind])
    model, m = stream.Model(value), value.season
    least = min(m + 1, value.lookback)
    enough = max(value.lookback, starting_rows(value.smoothing), m + 1)
    y = rows(rng, enough + 10, m, 100)
    y[[least + 2, 2 * m + 3, 2 * m + 4]] = np.nan
    first = model.start().next[0]
    state = Context.join([model.start(["s1"], y=[y[:least]], ds=first), model.start(["s0"])])[:1]
    for n in range(least, len(y)):
        state = model.observe(state.next, y[n], state)
        if n < least + 4 or n % 7 == 0 or n > enough - 4:
            whole = model.start(["s1"], y=[y[: n + 1]], ds=first)
            np.testing.assert_array_equal(state.window, whole.window)
            np.testing.assert_allclose(state.errors, whole.errors, rtol=1e-6, atol=1e-9)
            assert state.rows == whole.rows
            assert (whole.rows is None) == (n + 1 >= enough)


def test_a_series_of_a_few_rows_goes_on_as_one_that_is_given_whole(rng):
    """Fewer rows than a season: the period of what stands before them grows with each."""
    value, _ = forecast_model(rng, **KINDS["monthly"], recurrent=False)
    y = rows(rng, 20, 12, 100)
    begun = stream.Model(value).history(Panel.of([y[:3]], ids=["s1"], starts=["2024-01-01"], freq="MS"))
    state = begun.context(begun.ends(), value.lookback, value.memory)
    for n in range(3, 20):
        state = stream.Model(value).observe(state.next, y[n], state)
        whole = stream.Model(value).history(
            Panel.of([y[: n + 1]], ids=["s1"], starts=["2024-01-01"], freq="MS")
        )
        expected = whole.context(whole.ends(), value.lookback, value.memory)
        np.testing.assert_array_equal(state.window, expected.window)
        np.testing.assert_allclose(state.errors, expected.errors, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_many_series_in_one_call(rng, kind):
    """Each gets what it gets alone, whichever are beside it."""
    value, _ = forecast_model(rng, **KINDS[kind])
    model = stream.Model(value)
    whole = Context.join([model.start()] * 100)
    y = rng.uniform(90, 110, (3, 300))
    y[1, ::7] = np.nan
    whole = observed(model, y, whole)
    forecast = model.forecast(whole)
    for b in (0, 7, 299):
        alone = observed(model, y[:, b : b + 1], model.start([f"s{b % 3}"]))
        ours = model.forecast(alone)
        np.testing.assert_array_equal(alone.window, whole.window[b : b + 1])
        np.testing.assert_allclose(ours.mean[0], forecast.mean[b], rtol=SINGLE)
        np.testing.assert_allclose(ours.upper[:, 0], forecast.upper[:, b], rtol=SINGLE)
    assert model.forecast(whole[:0]).mean.shape == (0, value.horizon)
    assert len(model.observe(whole[:0].next, np.zeros(0), whole[:0])) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_kept_and_resumed_to_the_same_bits(rng, kind, tmp_path):
    value, _ = forecast_model(rng, **KINDS[kind])
    model = stream.Model(value)
    y = rng.uniform(90, 110, (6, 3))
    half = observed(model, y[:3], model.start())
    network.save(half, tmp_path / "state")
    network.save(value, tmp_path / "model")
    other = stream.load(tmp_path / "model")
    theirs = model.forecast(observed(model, y[3:], half))
    for kept in (
        network.load(tmp_path / "state"),
        network.from_bytes(network.to_bytes(half)),
        pickle.loads(pickle.dumps(half)),
        Context.join([half[:1], half[1:]]),
    ):
        assert kept == half
        ours = other.forecast(observed(other, y[3:], kept))
        for name in ("ds", "mean", "lower", "upper"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert network.to_bytes(half) == (tmp_path / "state").read_bytes()


def test_a_networks_state_is_kept_too(rng, tmp_path):
    weights = network.Weights(rng.normal(size=(20, 3)), rng.normal(size=(20, 5)))
    gru = network.Recurrent("gru", (network.Weights(rng.normal(size=(12, 5)), rng.normal(size=(12, 4))),))
    model = stream.Model(network.Network((network.Recurrent("lstm", (weights,)), gru)))
    x = rng.normal(size=(4, 2, 3))
    _, state = model.advance(x[:2], model.start(2))
    network.save(state, tmp_path / "state")
    kept = network.load(tmp_path / "state")
    assert isinstance(kept, stream.State)
    assert kept == state != state[::-1]
    np.testing.assert_array_equal(model.advance(x[2:], kept)[0], model.advance(x[2:], state)[0])
    assert stream.State.join([state[1:], state[:1]]) == state[::-1]
    with pytest.raises(
        FormatError, match=r"must hold a network or a forecaster, got the kind 'network.state'"
    ):
        stream.load(tmp_path / "state")


@pytest.mark.parametrize("frequency", ["fortnight", "²", "9" * 30 + "h", "99999999999999h"])
def test_a_model_of_a_frequency_that_cannot_be_is_refused(hourly, frequency):
    with pytest.raises(FormatError, match="forecaster: `frequency`: `freq`"):
        stream.Model(replace(hourly.value, frequency=frequency))


def test_a_state_of_the_wrong_shape_is_refused_when_it_is_read(hourly):
    state = hourly.start()
    with pytest.raises(FormatError, match=r"the state of a forecaster: window must be \(B, L\)"):
        Context(state.window, state.errors, state.next[:2], state.center, state.scale)


def test_old_states_stay_good(hourly):
    state = hourly.start()
    kept = pickle.loads(pickle.dumps(state))
    hourly.observe(state.next, [1.0, np.nan, 3.0], state)
    hourly.forecast(state)
    assert state == kept


def test_series_that_were_not_fitted_begin_with_rows(rng):
    """A fitted one keeps its scale, as in `predict`; another one gets that of its rows."""
    value, y = forecast_model(rng, **KINDS["monthly"])
    model = stream.Model(value)
    start = np.datetime64("2024-01-01")
    again = model.start(["s1"], y=[y[1]], ds=start)
    assert_close(model.forecast(again), model.forecast(model.start(["s1"])), scale=100, tolerance=SAME)
    new = model.start(y=[y[1], 10 * y[0][5:]], ds=[start, np.datetime64("2024-06-01")])
    assert new.next.tolist() == model.start().next[:2].tolist()
    assert new.scale[0] == pytest.approx(value.scaling.scale[1])
    forecast = model.forecast(new)
    assert 500 < forecast.mean[1].mean() < 2000


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"ids": ["s0", "zoo"]}, ArgumentError, "`ids` must be series that were fitted, got 'zoo'"),
        ({"y": [np.ones(400)]}, ArgumentError, "`y` and `ds` must be given together"),
        ({"ds": "2024-01-01"}, ArgumentError, "`y` and `ds` must be given together"),
        (
            {"y": [np.ones(24)], "ds": "2024-01-01"},
            DataError,
            r"'0' must be at least 25 numbers, .* shape \(24,\)",
        ),
        ({"y": [np.full(30, np.inf)], "ds": "2024-01-01"}, DataError, "finite or NaN, got Inf"),
        ({"y": [np.full(30, 1e200)], "ds": "2024-01-01"}, DataError, "the square of `y` of series '0', 1e"),
        ({"y": [np.full(30, np.nan)], "ds": "2024-01-01"}, DataError, "'0' must hold a value that the model"),
        ({"y": [["a"] * 30], "ds": "2024-01-01"}, DataError, "`y` must be arrays of numbers"),
        ({"y": [np.ones(30)], "ds": "soon"}, DataError, "`ds` must be the time"),
        (
            {"y": [np.ones(30)], "ds": "2024-01-01", "ids": ["a", "b"]},
            ArgumentError,
            "one for each of 1 arrays",
        ),
    ],
)
def test_what_no_stream_can_start_from(hourly, arguments, error, text):
    with pytest.raises(error, match=text):
        hourly.start(**arguments)


def test_rows_that_are_missing_are_counted(hourly):
    state = hourly.start()
    due = state.next[0]
    hour = np.timedelta64(1, "h")
    assert hourly.missing([due, due + 3 * hour, due - hour], state).tolist() == [0, 3, -1]
    with pytest.raises(DataError, match="off the h grid"):
        hourly.missing(due + np.timedelta64(1, "m"), state)


def test_what_cannot_be_observed(rng, hourly):
    state, due = hourly.start(), hourly.start().next[0]
    for ds, y, error, text in [
        (due, [1.0, 2.0], ShapeError, r"`y` must have shape \(B,\) = \(3,\), got \(2,\)"),
        (due, "one", DataError, "`y` must be numbers"),
        (due, np.inf, DataError, "`y` must be finite, or NaN"),
        (
            due,
            [1.0, np.nan, -1.7e308],
            DataError,
            r"the square of `y`, -1.7e\+308, is beyond what a computer counts",
        ),
        (due, 1e-200, DataError, "the square of `y`, 1e-200, is beyond"),
        (due, 1e90, DataError, r"`y`, 1e\+90, is beyond what this model counts: 1e\+30 times the scale"),
        ([due, due], 1.0, DataError, "`ds` must be times, one for each of 3 series"),
        ("soon", 1.0, DataError, "`ds` must be times"),
        (due + np.timedelta64(1, "h"), 1.0, DataError, "`ds` must be the next row"),
    ]:
        with pytest.raises(error, match=text):
            hourly.observe(ds, y, state)
    other = stream.Model(forecast_model(rng, **KINDS["monthly"])[0]).start()
    for given in (other, None, stream.State((), ())):
        with pytest.raises(ArgumentError, match="`state` must be of this model"):
            hourly.observe(due, 1.0, given)
        with pytest.raises(ArgumentError, match="`state` must be of this model"):
            hourly.forecast(given)
    counted = stream.Model(forecast_model(rng, **KINDS["counted"])[0])
    with pytest.raises(DataError, match="it is a fraction"):
        counted.observe(counted.start().next + 0.5, 1.0, counted.start())


def test_paths_that_no_memory_holds_are_refused(hourly):
    state = hourly.start()
    with pytest.raises(
        ArgumentError, match=r"`samples` must be few enough for 1e\+09 numbers .8 GB.*ask for fewer"
    ):
        hourly.samples(hourly.forecast(state), state, 10**9)


@pytest.mark.parametrize(
    ("y", "ds", "said"),
    [
        ([["a"] * 30], 5, r"`y` must be arrays of numbers, the rows of each series; NaN is missing\.$"),
        (
            [range(30)],
            "soon",
            r"`ds` must be the time of its first row for each series, or one for all: got soon\.$",
        ),
        ([range(30)], [5, 6], r"one for all: \(B,\) = \(1,\), got \(2,\)\.$"),
        ([range(30)], [5.5], r"one for all: it is a fraction, but"),
    ],
)
def test_rows_to_begin_with_that_are_none(y, ds, said):
    """In words of ours, not NumPy's."""
    model = stream.Model(forecast_model(np.random.default_rng(5), **KINDS["counted"])[0])
    with pytest.raises(DataError, match=said):
        model.start(y=y, ds=ds)


def test_memory_without_torch(tmp_path, python):
    """Under 60 MB for a program that streams a whole forecaster."""
    value, _ = forecast_model(np.random.default_rng(3))
    network.save(value, tmp_path / "model")
    program = f"""
import sys
import carousel.stream, carousel.stream.forecaster
model = carousel.stream.load({str(tmp_path / "model")!r})
state = model.start()
for _ in range(100):
    state = model.observe(state.next, [1.0, 2.0, 3.0], state)
    forecast = model.forecast(state)
assert not {{"torch", "pyarrow", "narwhals", "pandas"}} & set(sys.modules)
kilobytes = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(kilobytes / 1024)
"""
    done = python("-c", program, threads=1)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60
