"""Scores against their definitions and against utilsforecast; verdicts."""

import numpy as np
import pytest

from carousel.forecast.comparison import gain
from carousel.forecast.scores import Scores, score
from carousel.forecast.verdict import is_shifted, verdict


def scores(rmse: float) -> Scores:
    return Scores(rmse, rmse, rmse, rmse, {})


def test_scores_by_hand() -> None:
    truth = np.array([[1.0, np.nan], [3.0, 4.0]])
    forecast = np.array([[2.0, 9.0], [3.0, 2.0]])
    inside = (forecast - 1, forecast + 1)
    found = score(truth, forecast, np.array([2.0, 0.0]), {80.0: inside})
    assert found.mae == pytest.approx(1.0)
    assert found.rmse == pytest.approx(np.sqrt(5 / 3))
    assert found.mase == pytest.approx(0.5)
    assert found.smape == pytest.approx(200 * (1 / 3 + 0 + 2 / 6) / 3)
    assert found.coverage == {80.0: pytest.approx(2 / 3)}


def test_scores_are_those_of_utilsforecast() -> None:
    losses = pytest.importorskip("utilsforecast.losses")
    import pandas as pd

    rng = np.random.default_rng(0)
    truth, forecast = rng.random((1, 12)) + 1, rng.random((1, 12)) + 1
    df = pd.DataFrame({"unique_id": "a", "ds": range(12), "y": truth[0], "m": forecast[0]})
    ours = score(truth, forecast, np.ones(1))
    assert ours.mae == pytest.approx(losses.mae(df, ["m"])["m"][0])
    assert ours.rmse == pytest.approx(losses.rmse(df, ["m"])["m"][0])
    assert ours.smape == pytest.approx(200 * losses.smape(df, ["m"])["m"][0])


def test_verdicts() -> None:
    assert verdict({"carousel": scores(1), "ridge": scores(2)}) == (
        "The model wins: its RMSE is 50.0% below that of ridge, the best baseline.",
    )
    lost = verdict({"carousel": scores(2), "ridge": scores(3), "seasonal naive": scores(1)})
    assert lost == (
        "Seasonal naive wins: RMSE 1 against 2 of the model.",
        "The model does not beat seasonal naive.",
    )
    assert "equals the last value" in verdict({"carousel": scores(1), "ridge": scores(2)}, 1)[1]


@pytest.mark.parametrize(("model", "ridge"), [(0, 0), (1, 1.0004), (1.0004, 1)])
def test_a_tie_is_no_win(model: float, ridge: float) -> None:
    """A difference that would be printed as 0.0 %, and two that are right."""
    said = verdict({"carousel": scores(model), "ridge": scores(ridge), "persistence": scores(5)})
    assert said == (f"A tie: the RMSE of the model and of ridge, the best baseline, is {model:.4g}.",)


@pytest.mark.parametrize(
    ("origins", "said"), [(4, False), (5, True), (6, True), (8, True), (9, True), (40, True)]
)
def test_five_origins_that_do_not_overlap_say_how_sure(origins: int, said: bool) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(origins, 3))
    near, far = truth + rng.normal(size=truth.shape), truth + 2 * rng.normal(size=truth.shape)
    found = gain(truth, near, far, np.arange(origins), np.zeros(origins), 1)
    assert np.isfinite(found.lower) == said


def test_a_shifted_input_is_noticed() -> None:
    rng = np.random.default_rng(0)
    walk = rng.normal(size=60).cumsum()
    window = np.lib.stride_tricks.sliding_window_view(walk, 5)[:-1]
    truth = walk[5:]
    assert is_shifted(window[:, -1] + 0.01, truth, window) == 1
    assert is_shifted(window[:, -2] + 0.01, truth, window) == 2
    assert is_shifted(truth + 0.5 * rng.normal(size=55), truth, window) == 0
