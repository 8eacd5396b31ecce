"""The errors that intervals are calibrated with: of all that was forecast and not fitted."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from carousel.forecast import judging
from carousel.forecast.judging import JUDGED, judge
from carousel.forecast.plan import Plan
from carousel.forecast.split import Split, split
from carousel.network.forecaster import ForecastModel
from carousel.series import Panel
from carousel.series.history import History, Origins
from carousel.stream.forecaster import ForecasterModel
from forecast_models import forecast_model

HORIZON, LENGTH = 24, 900


@pytest.fixture
def value() -> tuple[ForecastModel, Panel]:
    model, y = forecast_model(np.random.default_rng(0), length=LENGTH, horizon=HORIZON)
    return model, Panel.of(list(y), ids=model.ids, starts=[np.datetime64("2024-01-01")] * 3, freq="h")


def setting(model: ForecastModel, panel: Panel) -> tuple[Plan, Split, History]:
    plan = Plan.of(model, panel.frequency)
    return plan, split(panel, HORIZON, plan.lookback), ForecasterModel(model).history(panel)


def test_errors_of_unfitted_training_rows_count_as_their_weeks(
    value: tuple[ForecastModel, Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "own_widths", lambda *_: None)  # by which both would be divided
    model, panel = value
    model = replace(model, recurrent=None)
    plan, parts, history = setting(model, panel)
    far = 1e3 * history.scale.max()

    def unseen(origins: Origins) -> np.ndarray:
        return history.targets(origins, HORIZON)[0] + far

    judged = judge(panel, plan, parts, history, model, unseen)
    every = judged.unfitted.every
    of_training = np.isclose(np.abs(every.errors[:, 0]), far)
    share = len(parts.train) / (len(parts.train) + len(parts.judge))
    assert np.mean(of_training) == pytest.approx(share, abs=0.01)
    assert len(every) <= JUDGED / share + 1
    alone = judge(panel, plan, parts, history, model, None)
    assert alone.unfitted.every is alone.unfitted.held
    calibration, before = (j.calibration(history.scale) for j in (judged, alone))
    np.testing.assert_allclose(calibration.counts / before.counts, 1 / (1 - share), rtol=1e-6)
    assert calibration.sided > before.sided  # all of these are too low
    assert np.nanmax(before.scores) < 10 < np.nanmedian(np.abs(calibration.scores))
    assert judged.scores["carousel"].mae == alone.scores["carousel"].mae  # of held-out rows only


def test_training_errors_shrink_by_what_the_recurrent_path_gives(value: tuple[ForecastModel, Panel]) -> None:
    model, panel = value
    plan, parts, history = setting(model, panel)
    linear = ForecasterModel(replace(model, recurrent=None))
    origins = parts.judge[:]
    truth, observed = history.targets(origins, HORIZON)
    unit = history.scale[origins.series][:, None]
    whole, alone = (
        np.abs((truth - runner.points(history, origins)) / unit)[observed].sum()
        for runner in (ForecasterModel(model), linear)
    )
    assert whole != pytest.approx(alone, rel=1e-5)

    def unseen(origins: Origins) -> np.ndarray:
        return history.targets(origins, HORIZON)[0] + 1e6

    every = judge(panel, plan, parts, history, model, unseen).unfitted.every
    assert np.abs(every.errors[:, 0]).max() == pytest.approx(1e6 * whole / alone, rel=1e-8)


def test_rows_that_are_all_missing_are_replaced_by_training_rows(value: tuple[ForecastModel, Panel]) -> None:
    model, panel = value
    plan, parts, _ = setting(model, panel)
    values = panel.values.copy()
    for s, cut in enumerate(parts.cut):
        values[panel.offsets[s] + cut : panel.offsets[s + 1]] = np.nan
    gone = replace(panel, values=values)
    history = ForecasterModel(model).history(gone)
    judged = judge(gone, plan, parts, history, model, None)
    assert np.isfinite(judged.calibration(history.scale).scores).any()
    origins = judged.unfitted.held.origins
    assert (origins.row < parts.cut[origins.series]).all()
