"""Smoothing, the linear path and conformal tables against their definitions."""

from dataclasses import replace

import numpy as np
import pytest

from carousel.network.forecaster import LinearPath, Scaling, Smoothing
from carousel.series import Frequency, Panel
from carousel.series.conformal import half_widths, independent_counts, scores_table
from carousel.series.filling import fill
from carousel.series.history import History, Origins
from carousel.series.linear import (
    linear_features,
    linear_path,
    of_the_year,
    sizes,
)
from carousel.series.smoothing import Mixture, ahead, candidates, maps, shares
from smoothing_definitions import last_errors


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def member(name: str, a: float = 0.0, b: float = 0.0, m: int = 4) -> Smoothing:
    lags, ar, ma = {
        "level": ((1, 1, 1), (1, 0, 0), (-a, 0, 0)),
        "holt": ((1, 1, 2), (1, 1, -1), (-a, -b, a * b)),
        "season": ((m, m, m), (1, 0, 0), (-b, 0, 0)),
        "airline": ((1, m, m + 1), (1, 1, -1), (-a, -b, a * b)),
    }[name]
    return Smoothing(np.array([lags]), np.array([ar], float), np.array([ma], float), np.ones(1))


def forecast(model: Smoothing, x: np.ndarray, K: int) -> np.ndarray:
    M = model.memory
    return ahead(model, x[None, -M:], last_errors(model, x[None]), K)[0, :, 0]


def test_level_is_simple_exponential_smoothing(rng: np.random.Generator) -> None:
    x = rng.normal(size=50)
    level = x[0]
    for value in x[1:]:
        level += (1 - 0.7) * (value - level)
    np.testing.assert_allclose(forecast(member("level", 0.7), x, 3), level)


def test_holt_is_holts_method(rng: np.random.Generator) -> None:
    # alpha = 1 - ab, alpha beta = (1 - a)(1 - b): the two forms agree once their starts are forgotten.
    a, b, x = 0.6, 0.5, rng.normal(size=300)
    alpha, gain = 1 - a * b, (1 - a) * (1 - b)
    level, slope = x[0], 0.0
    for value in x[1:]:
        error = value - level - slope
        level, slope = level + slope + alpha * error, slope + gain * error
    np.testing.assert_allclose(
        forecast(member("holt", a, b), x, 3), level + slope * np.arange(1, 4), rtol=1e-6
    )


def test_without_smoothing_they_are_the_naive_forecasts(rng: np.random.Generator) -> None:
    x = rng.normal(size=30)
    np.testing.assert_allclose(forecast(member("level"), x, 6), x[-1])
    np.testing.assert_allclose(forecast(member("season"), x, 6), x[[-4, -3, -2, -1, -4, -3]])
    np.testing.assert_allclose(forecast(member("airline"), x, 4), x[-4:] + x[-1] - x[-5])


def test_a_trend_with_a_season_is_continued_exactly() -> None:
    t = np.arange(60)
    x = 3 + 0.5 * t + np.array([0.0, 4, -2, 1])[t % 4]
    for theta in (0.0, 0.4, 0.9):
        np.testing.assert_allclose(forecast(member("airline", theta, theta), x[:50], 10), x[50:], rtol=1e-9)


def test_maps_and_mixtures_are_the_recursion(rng: np.random.Generator) -> None:
    members = candidates((4, 8))
    model = Smoothing(members.lags, members.ar, members.ma, shares(rng.random(len(members.weights))))
    x = rng.normal(size=(3, 40))
    M = model.memory
    e = last_errors(model, x)
    every = ahead(model, x[:, -M:], e, 6)
    A, B = maps(model, 6)
    linear = np.einsum("bm,mkg->bkg", x[:, -M:], A) + np.einsum("bmg,mkg->bkg", e, B)
    np.testing.assert_allclose(linear, every, atol=1e-9)
    np.testing.assert_allclose(Mixture.of(model, 6)(x, e), every @ model.weights, atol=1e-9)
    own = rng.dirichlet(np.ones(len(model.weights)), 2)
    mixture = Mixture.of(replace(model, own=own), 6)
    np.testing.assert_allclose(mixture(x, e), every @ model.weights, atol=1e-9)
    expected = np.einsum("bkg,bg->bk", every, [own[1], model.weights, own[0]])
    np.testing.assert_allclose(mixture(x, e, np.array([1, -1, 0])), expected, atol=1e-9)


def test_shares_favour_small_losses() -> None:
    weights = shares(np.array([1.0, 1.1, 3.0]))
    assert weights[0] > weights[1] > weights[2] == 0
    assert weights.sum() == pytest.approx(1)
    assert shares(np.array([0.0, 1.0])).tolist() == [1, 0]


def test_features_have_their_sizes_and_nest(rng: np.random.Generator) -> None:
    frequency = Frequency.parse("h")
    panel = Panel.of([rng.normal(size=400)], starts=["2024-01-01"], freq="h")
    history = History.of(panel, 24, Scaling(False, np.zeros(1), np.ones(1)), None, panel.ids)
    context = history.context(history.ends(), 48, 0)
    counts = sizes(frequency, 24, 48)
    full = linear_features(context, frequency, 24)
    assert full.shape == (1, counts[-1])
    for upto, count in enumerate(counts):
        assert (linear_features(context, frequency, 24, upto) == full[:, :count]).all()
    without = linear_features(context, frequency, 24, level=False)
    assert (np.delete(full, counts[0], axis=1) == without).all()


def test_features_of_the_year_are_those_that_differ_within_it(rng: np.random.Generator) -> None:
    frequency = Frequency.parse("h")
    context = [
        History.of(panel, 24, Scaling(False, np.zeros(1), np.ones(1)), None, panel.ids).context(
            Origins(np.zeros(1, int), np.array([48])), 48, 0
        )
        for start in ("2024-01-01", "2024-07-01")  # both a Monday
        for panel in [Panel.of([np.arange(60.0)], starts=[start], freq="h")]
    ]
    first, second = (linear_features(one, frequency, 24)[0] for one in context)
    # Two harmonics of a half year are the same, and so is what a row of value 0 is multiplied with.
    assert not (first != second)[~of_the_year(frequency, 24, 48)].any()
    assert of_the_year(frequency, 24, 48).sum() == 6 + 4 + 4 * 24
    assert not of_the_year(Frequency.parse(1), 24, 48).any()


def test_a_linear_path_of_zeros_is_the_smoothing(rng: np.random.Generator) -> None:
    panel = Panel.of([rng.normal(size=40)])
    history = History.of(panel, 4, Scaling(False, np.zeros(1), np.ones(1)), None, panel.ids)
    context = history.context(history.ends(), 8, 0)
    smooth = rng.normal(size=(1, 3))
    path = LinearPath(np.zeros((1, 9, 3)), 1.0, False, False)
    np.testing.assert_allclose(linear_path(path, context, smooth, panel.frequency, 4), smooth)


def test_conformal_ranks() -> None:
    scores = scores_table(np.arange(-10.0, 10)[:, None], np.ones((20, 1), bool))
    assert scores[:, 0].tolist() == sorted(abs(v) for v in range(-10, 10))
    assert half_widths(scores, np.array([20.0]), 80)[0] == scores[16, 0]  # the ceil(21 * 0.8) = 17th
    assert (
        half_widths(scores, np.array([20.0]), 99)[0] > scores[-1, 0]
    )  # too few for the level: wider than all
    assert np.isnan(half_widths(np.zeros((0, 3)), np.ones(3), 80)).all()


def test_conformal_coverage_is_at_least_the_level(rng: np.random.Generator) -> None:
    inside = []
    for _ in range(400):
        scores = scores_table(rng.standard_t(3, size=(19, 1)), np.ones((19, 1), bool))
        inside.append(abs(rng.standard_t(3)) <= half_widths(scores, np.array([19.0]), 80)[0])
    assert np.mean(inside) > 0.75  # 0.80 exactly; 400 draws have a standard error of 0.02


def test_dependent_residuals_count_less(rng: np.random.Generator) -> None:
    noise = rng.normal(size=(4000, 2))
    noise[:, 1] = np.convolve(noise[:, 1], np.ones(10), "same")  # every ten share their causes
    counts = independent_counts(noise, np.ones((4000, 2), bool), np.arange(4000) > 0)
    assert 3500 < counts[0] <= 4000
    assert 100 < counts[1] < 400
    scores = scores_table(noise, np.ones((4000, 2), bool))
    assert half_widths(scores, counts / 20, 80)[1] > half_widths(scores, counts, 80)[1]


def test_steps_without_scores_are_widened() -> None:
    observed = np.array([[True, False], [True, False], [True, False]])
    scores = scores_table(np.array([[1.0, 0], [2, 0], [3, 0]]), observed)
    np.testing.assert_allclose(scores[:, 1], scores[:, 0] * np.sqrt(2))


def test_few_independent_scores_give_the_interval_of_a_normal_law(rng: np.random.Generator) -> None:
    inside = []
    for _ in range(2000):
        scores = scores_table(rng.normal(size=(3, 1)), np.ones((3, 1), bool))
        inside.append(abs(rng.normal()) <= half_widths(scores, np.array([3.0]), 80)[0])
    assert abs(np.mean(inside) - 0.8) < 0.04  # four standard errors


@pytest.mark.parametrize("n", [1.0, 2.5, 3.9, 4.0, 6.0, 18.0, 19.0, 40.0])
def test_intervals_of_higher_levels_hold_those_of_lower_ones(n: float) -> None:
    scores = scores_table(np.r_[np.zeros(38), 1.0, 100][:, None], np.ones((40, 1), bool))  # an outlier
    widths = [half_widths(scores, np.array([n]), level)[0] for level in (50, 80, 90, 95, 99)]
    assert widths == sorted(widths)


@pytest.mark.parametrize("n", [4.0, 20.0])
def test_half_widths_do_not_jump_where_the_rule_changes(rng: np.random.Generator, n: float) -> None:
    scores = scores_table(rng.standard_t(3, size=(300, 1)), np.ones((300, 1), bool))
    below, above = (half_widths(scores, np.array([n + d]), 80)[0] for d in (-1e-4, 1e-4))
    assert above == pytest.approx(below, rel=0.05)


@pytest.mark.parametrize("law", ["normal", "uniform", "standard_t"])
def test_errors_that_hang_together_do_not_widen_the_intervals(law: str) -> None:
    """A walk forecast 24 steps ahead from 120 rows in turn: worth 5 errors, and the largest of 120 was taken."""
    rng, inside = np.random.default_rng(2), []
    draw = {"standard_t": lambda size: rng.standard_t(3, size=size)}.get(law, getattr(rng, law, None))
    shift = 0.5 if law == "uniform" else 0.0
    for _ in range(300):
        walk = np.concatenate([[0.0], np.cumsum(draw(size=144) - shift)])
        errors = np.stack([walk[k + 1 : k + 121] - walk[:120] for k in range(24)], 1)
        everywhere, follows = np.ones_like(errors, bool), np.arange(120) > 0
        counts = independent_counts(errors, everywhere, follows)
        assert 4 <= counts[-1] < 20
        width = half_widths(scores_table(errors, everywhere), counts, 80)[-1]
        inside.append((np.abs((draw(size=(20, 24)) - shift).sum(1)) <= width).mean())
    assert 0.77 < np.mean(inside) < 0.88


def test_origins_a_horizon_apart_count_as_independent(rng: np.random.Generator) -> None:
    walk = np.cumsum(rng.normal(size=124))
    errors = np.stack([walk[k + 1 : k + 101] - walk[:100] for k in range(24)], 1)
    counts = independent_counts(errors, np.ones(errors.shape, bool), np.arange(100) > 0)
    assert counts[-1] >= 4
    assert counts[0] > 50


def test_a_long_gap_stays_near_the_season_before_it(rng: np.random.Generator) -> None:
    season = 10 * np.sin(np.arange(300) * 2 * np.pi / 7)
    x = 50 + season + rng.normal(size=300)
    x[200:] = np.nan
    assert np.abs(fill(x, 7)[200:] - 50 - season[200:]).max() < 10
