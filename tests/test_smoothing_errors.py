"""The smoothing errors of a panel, which are worked out piece by piece, against the recursion as it is printed."""

from itertools import pairwise

import numpy as np
import pytest

from carousel.series import smoothing_errors
from carousel.series.smoothing import candidates, errors_from, subset
from carousel.series.smoothing_errors import SmoothingErrors
from smoothing_definitions import by_definition, known_at, some


@pytest.mark.parametrize("seasons", [(1,), (4, 9), (12,), (24, 168)])
@pytest.mark.parametrize("rows", [0, 1, 5, 63, 64, 65, 400])
def test_errors_are_those_of_the_recursion(seasons: tuple[int, ...], rows: int) -> None:
    rng = np.random.default_rng(rows)
    model, x = some(rng, seasons), 100 + rng.normal(size=(3, rows)).cumsum(1)
    found = errors_from(model, np.pad(x, ((0, 0), (model.memory, 0))), None)[:, model.memory :]
    assert found.shape == (3, rows, 7)
    for e, one in zip(found, x, strict=True):
        np.testing.assert_allclose(e, by_definition(model, one), atol=1e-10)


def test_a_series_that_a_model_continues_exactly_has_errors_of_zero() -> None:
    every = candidates((1,))
    trend = np.flatnonzero(every.lags.max(1) == 2)
    holt = subset(every, trend, np.ones(len(trend)))
    one = np.array([0, 200])
    assert not SmoothingErrors.of(every, np.full(200, 0.1), one).of_series(0)[2:].any()
    assert not SmoothingErrors.of(holt, np.arange(200.0) * 3, one).of_series(0).any()


@pytest.mark.parametrize("piece", [1, 50, 4096])
@pytest.mark.parametrize("numbers", [1, 2_000_000])
def test_a_panel_in_pieces_is_the_panel_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, piece: int, numbers: int
) -> None:
    monkeypatch.setattr(smoothing_errors, "PIECE", piece)
    monkeypatch.setattr(smoothing_errors, "NUMBERS", numbers)
    rng = np.random.default_rng(piece)
    model, lengths = some(rng, (4, 9)), np.array([700, 0, 3, 81, 80, 1])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    x = 50 + rng.normal(size=offsets[-1])
    found, M = SmoothingErrors.of(model, x, offsets), model.memory
    assert found.piece == max(piece, 8 * M)
    parts = [x[a:b] for a, b in pairwise(offsets)]
    series = np.concatenate([rng.integers(0, len(lengths), 300), np.arange(len(lengths))])
    row = np.concatenate([rng.integers(0, lengths[series[:300]] + 1), lengths])
    for rows in (1, M):
        before = found.before(series, row, rows)
        assert before.shape == (len(row), rows, 7)
        for e, s, t in zip(before, series, row, strict=True):
            known = np.concatenate([np.zeros((M, 7)), known_at(model, parts[s][:t])])[-rows:]
            np.testing.assert_allclose(e, known, atol=1e-10)


def test_what_is_kept_of_a_long_series_is_little() -> None:
    model, rng = some(np.random.default_rng(0), (24, 168)), np.random.default_rng(1)
    x = rng.normal(size=100_000)
    found = SmoothingErrors.of(model, x, np.array([0, len(x)]))
    assert found.starts.size < 0.05 * len(x) * len(model.weights)
