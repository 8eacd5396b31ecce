"""The sums that ridge regression needs; and what judges a linear path has not been seen by it."""

import numpy as np
import pytest

pytest.importorskip("torch")

from carousel.forecast.moments import Moments
from carousel.forecast.plan import plan
from carousel.forecast.quarters import Quarter, moments, quarter_of, quarters, total
from carousel.forecast.smoothing_fit import fit_smoothing
from carousel.forecast.split import Spans
from carousel.series import Panel
from carousel.series.history import History
from carousel.series.linear import by_phase

HORIZON, LOOKBACK = 5, 24
LENGTHS = (300, 260, 90)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def panel() -> Panel:
    rng = np.random.default_rng(0)
    return Panel.of([np.cumsum(rng.normal(size=n)) + 50 * s for s, n in enumerate(LENGTHS)], freq=1)


def divided(panel: Panel) -> tuple[History, Spans, tuple[Quarter, ...]]:
    settings = plan(panel, HORIZON, None, LOOKBACK)
    scaling, smoothing = fit_smoothing(panel, settings, "identity")
    history = History.of(panel, settings.season, scaling, smoothing, panel.ids)
    train = Spans(np.full(3, LOOKBACK), panel.lengths - HORIZON + 1)
    return history, train, quarters(history, smoothing, settings, train, 0)


def test_every_origin_is_in_one_quarter(panel: Panel) -> None:
    _, train, parts = divided(panel)
    rows = [set(zip(part.origins.series, part.origins.row, strict=True)) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows)) == len(train)
    for k, part in enumerate(parts):
        assert (quarter_of(part.origins, train) == k).all()


def test_rows_beside_a_quarter_are_those_that_share_targets_with_it(panel: Panel) -> None:
    """With features of one column of ones, the first entry of FᵀF counts rows."""
    history, train, parts = divided(panel)
    settings = plan(panel, HORIZON, None, LOOKBACK)
    _, smoothing = fit_smoothing(panel, settings, "identity")
    for k, part in enumerate(parts):
        of_quarter = quarter_of(train[:], train) == k
        inside = train[:].row[of_quarter]
        rows = train[:].row
        shares = ~of_quarter & (rows > inside.min() - HORIZON) & (rows < inside.max() + HORIZON)
        wanted = moments(history, smoothing, settings, train[np.flatnonzero(shares)], 0)
        # Rows at an edge itself may lie on either side.
        ones = [
            sum(sums.gram(p)[LOOKBACK, LOOKBACK] for p in range(sums.phases))
            for sums in (part.beside, wanted)
        ]
        assert ones[1] > 0
        assert abs(ones[0] - ones[1]) <= 2 * len(panel)


def test_the_quarters_make_up_the_whole(panel: Panel) -> None:
    history, train, parts = divided(panel)
    settings = plan(panel, HORIZON, None, LOOKBACK)
    _, smoothing = fit_smoothing(panel, settings, "identity")
    whole, sums = moments(history, smoothing, settings, train[:], 0), total(parts)
    np.testing.assert_allclose(sums.half, whole.half, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(sums.truth, whole.truth, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(("freq", "upto"), [(1, 1), ("h", 2)])
def test_a_quarter_is_judged_with_the_means_of_rows_before_it(
    panel: Panel, freq: int | str, upto: int
) -> None:
    parts_of = zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    starts = ["2024-01-01"] * len(panel) if freq == "h" else None
    panel = Panel.of([panel.values[a:b] for a, b in parts_of], starts=starts, freq=freq)
    settings = plan(panel, HORIZON, 6, LOOKBACK)
    scaling, smoothing = fit_smoothing(panel, settings, "identity")
    history = History.of(panel, settings.season, scaling, smoothing, panel.ids)
    train = Spans(np.full(3, LOOKBACK), panel.lengths - HORIZON + 1)
    parts = quarters(history, smoothing, settings, train, upto, judge=True)
    for part, plain in zip(parts, quarters(history, smoothing, settings, train, upto), strict=True):
        wanted = moments(part.unseen, smoothing, settings, part.origins, upto)
        assert part.judging is not None
        judging, own = part.judging.all(), part.own.all()
        for found, expected in ((judging, wanted), (own, plain.own.all()), (part.beside, plain.beside)):
            for name in ("half", "truth", "smooth", "squares"):
                np.testing.assert_allclose(
                    getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-7, err_msg=name
                )
        assert np.abs(judging.half - own.half).max() > 1, "the means of a quarter are its own"


def test_a_quarter_knows_the_mean_of_earlier_rows_only(panel: Panel) -> None:
    """The first one that of later rows, for there are no others."""
    history, train, parts = divided(panel)
    end = int(train[:].row.max())
    edges = [int(part.origins.row.max()) for part in parts]
    for k, part in enumerate(parts):
        first, stop = (0 if k == 0 else edges[k - 1] + 1), (edges[k] if k < 3 else end) + HORIZON
        for s, length in enumerate(panel.lengths):
            x = history.x[panel.offsets[s] : panel.offsets[s] + min(length, end)]
            known = x[:first] if k else x[stop:]
            wanted = known.mean() if len(known) else history.center[s]
            span = np.ptp(x)
            assert part.unseen.center[s] == pytest.approx(wanted, abs=0.02 * span)
            assert len(known) == 0 or part.unseen.center[s] != history.center[s]


def test_values_of_a_quarter_do_not_move_its_own_mean(panel: Panel) -> None:
    """The mean that a quarter is judged with does not change with the rows that judge."""
    history, _, parts = divided(panel)
    settings = plan(panel, HORIZON, None, LOOKBACK)
    scaling, smoothing = fit_smoothing(panel, settings, "identity")
    values = panel.values.copy()
    inside = slice(int(parts[1].origins.row.min()) + 1, int(parts[1].origins.row.max()))
    values[inside] += 1000.0
    raised = Panel.of(
        [values[a:b] for a, b in zip(panel.offsets[:-1], panel.offsets[1:], strict=True)], freq=1
    )
    other = History.of(raised, settings.season, scaling, smoothing, panel.ids)
    train = Spans(np.full(3, LOOKBACK), panel.lengths - HORIZON + 1)
    again = quarters(other, smoothing, settings, train, 0)
    assert again[1].unseen.center[0] == pytest.approx(parts[1].unseen.center[0], rel=1e-9)
    assert again[2].unseen.center[0] > parts[2].unseen.center[0] + 100
    assert history.center[0] == other.center[0]


# The sums


def test_ridge_is_the_least_squares_solution(rng: np.random.Generator) -> None:
    F, y, s = rng.normal(size=(200, 7)), rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    which = np.arange(200) % 3
    moments = Moments.zero(3, 7, 2)
    for part in (slice(0, 90), slice(90, None)):
        moments.add(F[part], y[part], s[part], which[part])
    penalty = 5.0
    stacked = np.concatenate([F, np.sqrt(penalty) * np.eye(7)])
    target = np.concatenate([y - 0.5 * s, np.zeros((7, 2))])
    expected = np.linalg.lstsq(stacked, target, rcond=None)[0]
    of_truth, of_smooth = moments.pooled().solve(penalty)
    np.testing.assert_allclose(of_truth[0] - 0.5 * of_smooth[0], expected, atol=1e-10)
    np.testing.assert_allclose(moments.pooled().coefficients(penalty, 0.5)[0], expected, atol=1e-10)
    rows, columns = which == 1, np.array([0, 2, 3, 6])
    stacked = np.concatenate([F[rows][:, columns], np.sqrt(penalty) * np.eye(4)])
    target = np.concatenate([y[rows], np.zeros((4, 2))])
    expected = np.linalg.lstsq(stacked, target, rcond=None)[0]
    np.testing.assert_allclose(moments.of(columns).solve(penalty)[0][1], expected, atol=1e-10)


def test_the_sums_know_the_squared_error(rng: np.random.Generator) -> None:
    F, y, s = rng.normal(size=(60, 5)), rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    which = np.arange(60) % 3
    moments, some = Moments.zero(3, 5, 2), Moments.zero(3, 5, 2)
    moments.add(F, y, s, which)
    some.add(F[:20], y[:20], s[:20], which[:20])
    A = rng.normal(size=(3, 5, 2))
    rest = y - 0.3 * s - by_phase(A, F, which)
    assert moments.loss(0.3, A) == pytest.approx((rest**2).sum())
    assert (moments - some).loss(0.3, A) == pytest.approx((rest[20:] ** 2).sum())
    assert ((moments - some) + some).loss(0.3, A) == pytest.approx((rest**2).sum())
    away = (1 - 0.3) * s - by_phase(A, F, which)
    assert moments.around_smoothing().loss(0.3, A) == pytest.approx((away**2).sum())
    second = np.array([1])
    assert moments.at(second).loss(0.3, A[..., second]) == pytest.approx((rest[:, 1] ** 2).sum())
    pooled = y - 0.3 * s - F @ A[0]
    assert moments.pooled().loss(0.3, A[:1]) == pytest.approx((pooled**2).sum())


def test_a_sum_that_rounding_made_indefinite_is_solved_all_the_same() -> None:
    moments = Moments.zero(1, 2, 1)
    moments.half[0] = [1e20, 1e20, 1e20 - 1e5]  # the matrix [[1e20, 1e20], [1e20, 1e20 - 1e5]]
    moments.truth[0] = [[1.0], [-1.0]]
    assert np.isfinite(moments.coefficients(1.0)).all()
