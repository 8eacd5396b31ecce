"""Months dated by varying days, such as the last one of trading: from a frame to a forecast, and all that follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster, stream
from carousel.errors import DataError
from carousel.stream.rows import rows

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 8, "progress": False}
N, K = 72, 4
SAME = 1e-5  # of the forecasts: sums in float32, in batches of another size


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Rows of the last weekday of a month, two of nine a day before it, and of K months whose rows are to come."""
    rng = np.random.default_rng(21)
    days = pd.date_range("2016-01-01", periods=N + K + 2, freq="BME")
    t = np.arange(len(days))
    promo = (rng.random(len(t)) < 0.3).astype(float)
    y = 100 + 10 * np.sin(2 * np.pi * t / 12) + 15 * promo + rng.normal(size=len(t))
    ds = days - pd.to_timedelta((t % 9 < 2).astype(int), "D")
    return pd.DataFrame({"ds": ds, "y": y, "promo": promo})


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Path]:
    forecaster = Forecaster(K, **QUICK).fit(frame[:N], future="promo")
    assert forecaster.model_.covariates is not None, "the test needs a model that reads promo"
    path = tmp_path_factory.mktemp("months") / "m.carousel"
    forecaster.save(path)
    return forecaster, path


def test_forecasts_are_dated_by_the_end_of_their_months(
    frame: pd.DataFrame, fitted: tuple[Forecaster, Path]
) -> None:
    """Covariates of rows to come may be dated by any day, and rows that are given to `predict`."""
    forecaster, path = fitted
    assert forecaster.notes_[0] == "time column: ds (ME any day, 2016-01-31 to 2021-12-31)"
    assert "one row a month, on varying days: read as months, dated by their last day" in forecaster.notes_
    coming = frame[["ds", "promo"]]
    found = forecaster.predict(future=coming)
    assert found["ds"].tolist() == pd.date_range("2022-01-01", periods=K, freq="ME").tolist()
    pd.testing.assert_frame_equal(carousel.load(path).predict(future=coming), found)
    given = forecaster.predict(frame[:N], future=coming)
    np.testing.assert_allclose(given["carousel"], found["carousel"], rtol=SAME)


def test_rows_that_follow_may_be_on_any_day(
    frame: pd.DataFrame, fitted: tuple[Forecaster, Path], tmp_path: Path
) -> None:
    """Observed, as lines of a stream beside a file of what is known ahead, by `update`: one answer."""
    _, path = fitted
    new, coming = frame[N : N + 2], frame[["ds", "promo"]]
    after = carousel.load(path).update(new).predict(future=coming)
    assert after["ds"].tolist() == pd.date_range("2022-03-01", periods=K, freq="ME").tolist()
    model = stream.load(path)
    state = model.start()
    for ds, y, promo in new.itertuples(index=False):
        state = model.observe(np.datetime64(ds), y, state, {"promo": promo})
    future = {"promo": [frame["promo"].to_numpy()[N + 2 : N + 2 + K]]}
    np.testing.assert_allclose(model.forecast(state, future=future).mean[0], after["carousel"], rtol=SAME)
    ahead = tmp_path / "future.csv"
    coming.to_csv(ahead, index=False)
    taken = rows(model, "auto", None, str(ahead))
    lines = new[["ds", "y"]].to_csv(index=False).splitlines()
    assert taken.first(lines[0].encode())
    for number, line in enumerate(lines[1:], 2):
        answer = taken.answer(number, line.encode())
        assert answer.remark == ""
        taken.keep(answer)
    np.testing.assert_allclose(json.loads(answer.text)["carousel"], after["carousel"], rtol=SAME)
    with pytest.raises(
        DataError, match=r"row at 2022-02-03T00:00:00 was observed already; the next one is at 2022-03-31"
    ):
        taken.answer(9, b"2022-02-03,1")
    with pytest.raises(DataError, match=r"`ds` must be the next row, 2022-03-31.*, got 2022-04-30"):
        model.observe(np.datetime64("2022-04-12"), 1.0, state, {"promo": 0.0})


def test_a_server_takes_any_day(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("httpx2")
    testclient = pytest.importorskip("fastapi.testclient")
    from carousel.serve import create_app

    path = tmp_path / "m.carousel"
    forecaster = Forecaster(K, **QUICK).fit(frame[["ds", "y"]][:N])
    forecaster.save(path)
    new = frame[["ds", "y"]][N : N + 2]
    days = [str(day.date()) for day in new["ds"]]
    inputs = [
        {"name": "y", "datatype": "FP64", "shape": [2], "data": new["y"].tolist()},
        {"name": "ds", "datatype": "BYTES", "shape": [2], "data": days},
    ]
    body = {"inputs": inputs, "parameters": {"sequence_id": 1, "sequence_start": True}}
    with testclient.TestClient(create_app({"m": path})) as client:
        response = client.post("/v2/models/m/infer", json=body)
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    after = forecaster.update(new).predict()
    np.testing.assert_allclose(outputs["mean"], after["carousel"], rtol=SAME)
    assert outputs["ds"] == [f"{day.date()}T00:00:00" for day in after["ds"]]


def test_the_onnx_graph_goes_on_by_month_ends(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from carousel.interop import onnx

    forecaster = Forecaster(K, **QUICK).fit(frame[["ds", "y"]][:N])
    forecaster.save(tmp_path / "m.carousel")
    assert onnx.save(stream.load(tmp_path / "m.carousel"), tmp_path / "m.onnx").largest < SAME
