"""Calendar, panels, filling, features, season, normalisation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.errors import ArgumentError, DataError
from carousel.network.forecaster import Scaling
from carousel.series import Frequency, Panel
from carousel.series.covariates import Seen
from carousel.series.features import CalendarTable, calendar_features, phase, phases
from carousel.series.filling import fill
from carousel.series.history import Context, History, Origins, normalise, own_scale
from carousel.series.season import find_longer, find_season
from carousel.series.segments import segments

ALIASES = (
    "s", "5min", "15min", "30min", "h", "2h", "6h", "D", "2D", "B", "W-SUN", "W-WED", "2W-MON", "MS", "ME",
    "2MS", "QS", "QE", "QS-FEB", "QE-NOV", "YS", "YE", "YS-APR", "YE-JUN",
    "BMS", "BME", "2BME", "BQS", "BQE", "BQS-FEB", "BQE-NOV", "BYS", "BYE", "BYS-APR", "BYE-JUN",
)  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("alias", ALIASES)
def test_grids_are_those_of_pandas(alias: str) -> None:
    frequency = Frequency.parse(alias)
    theirs = pd.date_range("2019-12-30", periods=60, freq=alias).to_numpy().astype("datetime64[us]")
    assert (frequency.grid(theirs[0], 60) == theirs).all()
    assert (frequency.after(theirs[9], 5) == theirs[10:15]).all()
    assert str(frequency) == alias
    assert pd.tseries.frequencies.to_offset(str(frequency)) == pd.tseries.frequencies.to_offset(alias)


@settings(max_examples=150, deadline=None)
@given(
    alias=st.sampled_from(ALIASES),
    start=st.datetimes(pd.Timestamp("1950-01-01"), pd.Timestamp("2080-01-01")),
    gaps=st.sets(st.integers(1, 70), max_size=12),
)
def test_infer_and_positions_undo_shift(alias: str, start: pd.Timestamp, gaps: set[int]) -> None:
    first = pd.date_range(start.replace(microsecond=0), periods=1, freq=alias).to_numpy()[0]
    frequency = Frequency.parse(alias)
    kept = np.array([k for k in range(80) if k not in gaps])
    stamps = frequency.grid(first.astype("datetime64[us]"), 80)[kept]
    found = Frequency.infer(stamps)
    assert (found.positions(stamps[0], stamps) == kept).all()
    assert (found.after(stamps[-1], 3) == frequency.after(stamps[-1], 3)).all()


def test_months_that_keep_their_day() -> None:
    stamps = np.array(["2021-01-15", "2021-02-15", "2021-04-15"], "datetime64[us]")
    frequency = Frequency.infer(stamps)
    assert frequency.after(stamps[-1], 1)[0] == np.datetime64("2021-05-15")


def test_month_ends_are_ends() -> None:
    stamps = np.array(["2021-01-31", "2021-02-28", "2021-03-31"], "datetime64[us]")
    assert str(Frequency.infer(stamps)) == "ME"
    assert Frequency.parse("ME").after(stamps[-1], 1)[0] == np.datetime64("2021-04-30")


@pytest.mark.parametrize(
    ("old", "new"),
    [("BM", "BME"), ("BQ", "BQE"), ("BA", "BYE"), ("BAS", "BYS"), ("BY-JUN", "BYE-JUN"), ("bme", "BME")],
)
def test_older_names_of_business_months(old: str, new: str) -> None:
    assert Frequency.parse(old) == Frequency.parse(new)


@pytest.mark.parametrize("alias", ["BME", "BMS"])
def test_business_months_are_told_from_others(alias: str) -> None:
    """At a time of the day; not from calendar months, nor where all rows lie four weeks apart, which may go on so."""
    first = np.datetime64("2021-01-15T08:00", "us")
    grid = Frequency.parse(alias).after(first, 40)
    assert str(Frequency.infer(grid)) == alias
    assert (grid - grid.astype("datetime64[D]") == np.timedelta64(8, "h")).all()
    calendar = Frequency.parse(alias[1:]).after(first.astype("datetime64[M]"), 40)
    assert str(Frequency.infer(calendar)) == alias[1:]
    four = {"BME": ["2021-01-29", "2021-02-26"], "BMS": ["2023-04-03", "2023-05-01"]}[alias]
    assert str(Frequency.infer(np.array(four, "datetime64[us]"))).startswith("4W-")
    with pytest.raises(
        DataError, match=rf"1 of 2 time stamps are off the {alias} grid, first 2021-03-17 08:00:00"
    ):
        Frequency.parse(alias).positions(grid[0], np.array([grid[0], np.datetime64("2021-03-17T08:00")]))


def weekday_of_month(n: int, weekday: int) -> list[np.datetime64]:
    """The n-th such day (from 0, or from the end) of every month of five years; 0 for a Monday."""
    days = pd.date_range("2018-01-01", "2022-12-31")
    days = days[days.day_of_week == weekday]
    return [of.iloc[n] for _, of in days.to_series().groupby(days.to_period("M"))]


TRADING = pd.date_range("2018-01-01", periods=60, freq="BME")
ANY_DAYS = {
    "last day of trading": (
        "ME any day",
        [day - pd.Timedelta(days=int(k % 11 == 2)) for k, day in enumerate(TRADING)],
    ),
    "first day of trading": (
        "MS any day",
        [
            day + pd.Timedelta(days=int(k % 12 == 0))
            for k, day in enumerate(pd.date_range("2018-01-01", periods=60, freq="BMS"))
        ],
    ),
    "the 30th": ("ME any day", [pd.Timestamp("2018-01-30") + pd.DateOffset(months=k) for k in range(60)]),
    "the 29th": ("ME any day", [pd.Timestamp("2018-01-29") + pd.DateOffset(months=k) for k in range(60)]),
    "the third Friday": ("MS any day", weekday_of_month(2, 4)),
    "the last Friday": ("MS any day", weekday_of_month(-1, 4)),
}


@pytest.mark.parametrize("name", ANY_DAYS)
def test_months_on_varying_days(name: str) -> None:
    """One row a month: read as months, dated by their first days, or their last where no row is before the 25th."""
    text, days = ANY_DAYS[name]
    stamps = np.array(days, "datetime64[us]") + np.timedelta64(16, "h")
    frequency = Frequency.infer(stamps)
    assert str(frequency) == text
    assert Frequency.parse(text) == frequency
    assert frequency.seasons == (12,)
    placed = frequency.placed(stamps)
    assert (
        placed.tolist()
        == pd.date_range("2018-01-01", periods=60, freq=text[:2]).to_numpy().astype("M8[us]").tolist()
    )
    assert (frequency.positions(placed[0], placed) == np.arange(60)).all()
    assert (frequency.after(placed[9], 50) == placed[10:]).all()
    both = np.concatenate([stamps, stamps[20:32]])
    assert Frequency.infer(both, np.array([0, 60, 72])) == frequency
    for no in (
        np.delete(stamps, 30),
        stamps[:11],
        stamps + np.arange(60).astype("timedelta64[s]"),
        np.delete(both, 65),
    ):
        with pytest.raises(DataError, match="No regular frequency"):
            Frequency.infer(no, None if len(no) < 61 else np.array([0, 60, 71]))


def test_series_of_days_of_their_own_are_months() -> None:
    days = [pd.Timestamp("2018-01-05") + pd.DateOffset(months=k) for k in range(24)]
    stamps = np.array([*days, *(day + pd.Timedelta(days=9) for day in days)], "datetime64[us]")
    assert str(Frequency.infer(stamps, np.array([0, 24, 48]))) == "MS any day"


@pytest.mark.parametrize("alias", ["MS", "ME"])
def test_one_wrong_day_does_not_make_varying_ones(alias: str) -> None:
    stamps = pd.date_range("2018-01-01", periods=60, freq=alias).to_numpy().astype("datetime64[us]")
    stamps[[20, 33]] += np.timedelta64(2 if alias == "MS" else -2, "D")
    with pytest.raises(DataError, match="No regular frequency"):
        Frequency.infer(stamps)


@pytest.mark.parametrize(
    "text", ["D any day", "QS any day", "2MS any day", "BME any day", "any day", "MS any days"]
)
def test_steps_that_have_no_any_day(text: str) -> None:
    with pytest.raises(ArgumentError, match="`freq`"):
        Frequency.parse(text)


@pytest.mark.parametrize(
    ("alias", "seasons", "segment"),
    [("h", (24, 168), 24), ("15min", (96, 672), 48), ("D", (7,), 7), ("W", (52,), 26), ("MS", (12,), 12),
     ("QE", (4,), 4), ("YS", (1,), 1), ("B", (5,), 5), ("BME", (12,), 12), ("BQS", (4,), 4), ("BYE", (1,), 1),
     (1, (1,), 1)],
)  # fmt: skip
def test_seasons(alias: str | int, seasons: tuple[int, ...], segment: int) -> None:
    frequency = Frequency.parse(alias)
    assert (frequency.seasons, frequency.segment) == (seasons, segment)


def test_integer_index() -> None:
    frequency = Frequency.infer(np.array([10, 12, 16, 18]))
    assert str(frequency) == "2"
    assert frequency.after(18, 2).tolist() == [20, 22]


@pytest.mark.parametrize("step", [1, 2, 10**18])
def test_a_step_of_an_index_is_read_as_it_is_written(step: int) -> None:
    frequency = Frequency.parse(step)
    assert Frequency.parse(str(frequency)) == frequency == Frequency(step, "index")


@pytest.mark.parametrize(
    "alias",
    ["", "m", "fortnight", "0h", "W-XYZ", "h-MON", 0, -1, "0", "²", "२h"],
)
def test_unknown_aliases_are_refused(alias: str | int) -> None:
    with pytest.raises(ArgumentError, match="`freq`"):
        Frequency.parse(alias)


@pytest.mark.parametrize(
    "alias", [10**30, "9" * 30, "9" * 5000 + "h", "99999999999999h", "999999999999MS", "999999999999B"]
)
def test_steps_that_no_stamp_can_hold_are_refused(alias: str | int) -> None:
    with pytest.raises(ArgumentError, match="`freq`") as caught:
        Frequency.parse(alias)
    assert len(str(caught.value)) < 200


def test_stamps_on_no_grid_are_refused() -> None:
    stamps = np.arange("2021-01-01", "2021-01-03", dtype="datetime64[h]").astype("datetime64[us]")
    stamps[20] += np.timedelta64(7, "m")
    with pytest.raises(DataError, match="No regular frequency"):
        Frequency.infer(stamps)
    with pytest.raises(DataError, match=r"1 of 48 time stamps are off the h grid, first 2021-01-01 20:07:00"):
        Frequency.parse("h").positions(stamps[0], stamps)


def test_panel_slices() -> None:
    panel = Panel.of([range(5), range(10, 13)], starts=["2020-01-31", "2020-02-29"], freq="ME")
    tail = panel.tail(2)
    assert tail.values.tolist() == [3, 4, 11, 12]
    assert tail.starts.astype("datetime64[D]").astype(str).tolist() == ["2020-04-30", "2020-03-31"]
    assert panel.head([1, 2]).values.tolist() == [0, 10, 11]
    assert panel.select(np.array([1])).values.tolist() == [10, 11, 12]
    assert panel.lasts.astype("datetime64[D]").astype(str).tolist() == ["2020-05-31", "2020-04-30"]


@given(
    st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan"))), min_size=1, max_size=40),
    st.integers(1, 8),
)
def test_filling_keeps_values_and_sees_no_future(values: list[float], season: int) -> None:
    x = np.array(values)
    filled = fill(x, season)
    known = ~np.isnan(x)
    assert (filled[known] == x[known]).all()
    assert not np.isnan(filled).any()
    if known.any():
        first = int(np.flatnonzero(known)[0])
        for cut in range(first + 1, len(x)):
            assert (fill(x[:cut], season) == filled[:cut]).all()


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=60), st.integers(1, 6), st.floats(0.01, 100)
)  # fmt: skip
def test_normalisation_is_reversible(values: list[float], season: int, factor: float) -> None:
    panel = Panel.of([np.array(values) * factor])
    unit = Scaling(False, *own_scale(panel, panel.values, season))
    history = History.of(panel, season, unit, None, panel.ids)
    context = history.context(history.ends(), 10, 0)
    z, level = normalise(context, season)
    back = level + context.scale[:, None] * z
    np.testing.assert_allclose(back[0], panel.values[-10:], rtol=1e-9, atol=1e-9 * np.abs(panel.values).max())


def test_a_short_series_repeats_its_first_season_backwards() -> None:
    panel = Panel.of([[1.0, 5.0, 2.0]])
    history = History.of(panel, 2, Scaling(False, np.zeros(1), np.ones(1)), None, panel.ids)
    assert history.context(history.ends(), 5, 0).window.tolist() == [[1, 5, 1, 5, 2]]


def test_the_context_knows_nothing_of_the_origin_and_after(rng: np.random.Generator) -> None:
    x = rng.normal(size=40)
    origins = Origins(np.zeros(1, np.int64), np.array([25]))
    unit = Scaling(False, np.zeros(1), np.ones(1))
    one = History.of(Panel.of([x]), 4, unit, None, ("0",)).context(origins, 8, 0)
    changed = np.concatenate([x[:25], 99 + x[25:]])
    two = History.of(Panel.of([changed]), 4, unit, None, ("0",)).context(origins, 8, 0)
    assert (one.window == two.window).all()


@pytest.mark.parametrize("alias", ["h", "15min", "7min", "D", "W-SUN", "B", "ME", 3])
def test_a_calendar_table_says_what_the_calendar_says(alias: str | int) -> None:
    """Forwards, backwards, off the grid of the last call, and for origins at different times."""
    frequency, steps = Frequency.parse(alias), np.arange(-14, 2) * 24
    table, rng = CalendarTable(frequency), np.random.default_rng(3)
    first = np.int64(7) if alias == 3 else np.datetime64("2024-02-28T10:15", "us")
    wanted = [
        frequency.shift(first, int(k)) for k in (0, 1, 2, 3000, 2999, -400, *rng.integers(-5000, 5000, 20))
    ]
    if frequency.unit == "us":
        wanted.append(wanted[-1] + np.timedelta64(1, "s"))
    for origin in wanted:
        origins = np.array([origin])
        exact = calendar_features(frequency, frequency.shift(origins[:, None], steps))
        np.testing.assert_array_equal(table.at(origins, steps), exact)
        np.testing.assert_array_equal(table.at(origins.repeat(3), steps), exact)
    different = np.array(wanted)
    exact = calendar_features(frequency, frequency.shift(different[:, None], steps))
    np.testing.assert_array_equal(table.at(different, steps), exact)
    assert table.at(different[:0], steps).shape == (0, *exact.shape[1:])
    for shifts in (
        range(20),
        range(15, 40),
        (3, 3, 17),
        range(5),
    ):  # of a training: near each other, asked for again
        several = np.array([frequency.shift(first, k) for k in shifts])
        exact = calendar_features(frequency, frequency.shift(several[:, None], steps))
        np.testing.assert_array_equal(table.at(several, steps), exact)
    if frequency.unit == "us":
        several[2] += np.timedelta64(1, "s")  # off the others' grid
        exact = calendar_features(frequency, frequency.shift(several[:, None], steps))
        np.testing.assert_array_equal(table.at(several, steps), exact)


def test_calendar_features() -> None:
    frequency = Frequency.parse("h")
    stamps = frequency.grid(np.datetime64("2024-01-01T00"), 48)  # a Monday
    features = calendar_features(frequency, stamps)
    assert features.shape == (48, 8 + 7 + 6)
    np.testing.assert_allclose(features[:24, :8], features[24:, :8], atol=1e-12)
    assert features[0, 8:15].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert features[24, 8:15].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert calendar_features(Frequency.parse(1), np.arange(3)).shape == (3, 0)


@pytest.mark.parametrize("alias", ["h", "15min", "D", "MS", "QS", "B", 1])
def test_phases_repeat_with_the_season(alias: str | int) -> None:
    frequency = Frequency.parse(alias)
    season = 12 if alias == 1 else frequency.season
    start = 0 if alias == 1 else np.datetime64("2024-01-01")
    which = phase(frequency, season, frequency.grid(start, 3 * season))
    assert (which[:season] == which[season : 2 * season]).all()
    assert len(np.unique(which)) == phases(frequency, season)


def test_find_season(rng: np.random.Generator) -> None:
    t = np.arange(120)
    assert find_season([t + 10 * np.sin(t * np.pi / 6) + rng.normal(size=120)], 60) == 12
    assert find_season([rng.normal(size=300).cumsum()], 60) == 1
    assert find_season([np.ones(100)], 60) == 1


def test_a_long_season_under_noise_is_found(rng: np.random.Generator) -> None:
    """From row to row it changes less than noise does; what is near it and no season of its own is not taken for it."""
    t = np.arange(2000)
    noise = rng.normal(size=2000)
    assert find_season([5 * np.sin(2 * np.pi * t / 24) + noise], 400) == 24
    assert find_season([10 * np.sin(2 * np.pi * t / 52) + noise], 400) == 52
    hours = 3 * np.sin(2 * np.pi * t / 24) + 2.0 * (t // 24 % 7 < 5) + 0.7 * noise
    assert find_season([hours[:600]], 400) == 24
    walks = np.cumsum(rng.normal(size=(20, 60)), 1) + 3 * np.sin(2 * np.pi * np.arange(60) / 12)
    assert [find_season([x], 400) for x in walks].count(12) >= 12
    assert find_season([*walks], 400) == 12


def test_what_only_wanders_has_no_season(rng: np.random.Generator) -> None:
    found = []
    for n in (120, 300, 1000):
        drift = np.cumsum(rng.normal(size=(10, n)), 1)
        kinds = (drift, np.cumsum(0.1 * drift + rng.normal(size=(10, n)), 1), rng.normal(size=(10, n)))
        found += [find_season([x], 400) for kind in kinds for x in kind]
    assert found.count(1) >= 87  # of 90


def test_find_longer_season(rng: np.random.Generator) -> None:
    t = np.arange(700)
    week = 3.0 * (t // 24 % 7 < 5)
    hours = np.sin(t * np.pi / 12)
    assert find_longer([hours + week + 0.3 * rng.normal(size=700)], 24, 400) == 168
    assert find_longer([hours + 0.3 * rng.normal(size=700)], 24, 400) is None
    assert find_longer([hours + week], 24, 100) is None  # longer than may be looked for
    assert find_longer([week[:100]], 24, 400) is None  # too short to see it


def test_a_panel_knows_how_many_years_it_spans() -> None:
    panel = Panel.of([np.zeros(24 * 366), np.zeros(24)], starts=["2023-01-01"] * 2, freq="h")
    assert panel.years(panel.lengths) == pytest.approx(1, abs=0.01)
    assert panel.years(panel.lengths // 2) == pytest.approx(0.5, abs=0.01)
    assert Panel.of([np.zeros(10_000)]).years(10_000) == 0


def test_static_covariates_need_no_rows_to_come() -> None:
    """A state after the last row has none where no column is of the future."""
    frequency, none = Frequency.parse("D"), np.zeros((2, 21, 0))
    seen = Seen(none, none, np.array([[1.0], [2.0]]), np.ones(2))
    next = np.full(2, np.datetime64("2024-01-01", "us"))
    context = Context(np.ones((2, 21)), np.zeros((2, 0, 0)), next, np.zeros(2), np.ones(2), seen)
    _, future, _ = segments(context, normalise(context, 7), CalendarTable(frequency), 7, 10, seen)
    np.testing.assert_array_equal(future[..., -1], [[1, 2], [1, 2]])
