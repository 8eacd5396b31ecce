"""A whole forecaster as one ONNX model: the same forecasts as `carousel.stream`, and the same calendar as `series`."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'carousel-rnn[onnx]'")

import onnx
from onnx.reference import ReferenceEvaluator

from carousel import network as own
from carousel import stream
from carousel.cli import main
from carousel.errors import ArgumentError, UnsupportedError
from carousel.interop import _onnx_forecaster, files
from carousel.interop._onnx_build import Graph
from carousel.interop._onnx_calendar import Calendar
from carousel.interop.onnx import save
from carousel.network import Network
from carousel.network.forecaster import PlainPath
from carousel.series.calendar import Frequency
from carousel.series.features import calendar_features, phase, phases, year_features
from carousel.series.unit import in_unit
from carousel.stream.forecaster import ForecasterModel
from forecast_models import CASES, forecaster, starts


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def run(path, feeds):
    """By onnx's own reference, which knows nothing of ours."""
    model = onnx.load(path)
    names = [output.name for output in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(names, feeds), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_graph_forecasts_as_the_stream_does(rng, tmp_path, name):
    value = forecaster(rng, name)
    report = save(value, tmp_path / "m.onnx")
    assert report.largest < 1e-5
    assert report.network is value
    assert "the equations of the specification in NumPy" in report.check
    assert ("ONNX Runtime" in report.check) == (find_spec("onnxruntime") is not None)
    assert [part for part, _ in report.layers] == ["smoothing", "linear", "recurrent", "calibration"]
    runner = ForecasterModel(value)
    state = runner.last()
    found = run(tmp_path / "m.onnx", _onnx_forecaster.feeds_of(value, state, np.arange(3)))
    expected = runner.forecast(state)
    for key in ("mean", "lower", "upper"):
        ours, theirs = (in_unit(rows[key], value.scaling.unit) for rows in (vars(expected), found))
        off = np.abs(theirs - ours) / state.scale[:, None]
        assert off.max() < 1e-5, key
    assert (found["lower"] < found["mean"]).all()
    np.testing.assert_array_equal(found["ds"], expected.ds.astype(np.int64))


def test_roots_near_0_are_tried_with_rows_that_can_be(rng, tmp_path):
    """As of counts: no row is below 0, whose root neither side has."""
    value = forecaster(rng, "quarterly")
    near = replace(value.scaling, center=np.full(3, 0.5), scale=np.ones(3))
    tail = replace(value.tail, window=np.abs(rng.normal(size=value.tail.window.shape)))
    value = replace(value, scaling=near, tail=tail)
    assert save(value, tmp_path / "m.onnx").largest < 1e-5


PARTS = {
    "smoothing alone": {"linear": False, "deep": False},
    "no recurrent path": {"deep": False},
    "no linear path": {"linear": False},
    "plain": {"plain": True},
    "no scores": {"scores": 0},
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_may_be_missing(rng, tmp_path, name):
    value = forecaster(rng, "daily", **PARTS[name])
    report = save(value, tmp_path / "m.onnx")
    assert report.largest < 1e-5
    (inputs,) = [{i.name for i in onnx.load(tmp_path / "m.onnx").graph.input}]
    assert inputs == {"y", "next", "series", *(() if value.plain else ("errors",))}
    found = run(
        tmp_path / "m.onnx", _onnx_forecaster.feeds_of(value, ForecasterModel(value).last(), np.arange(3))
    )
    assert np.isnan(found["lower"]).all() == (name == "no scores")


def test_one_row_more(rng, tmp_path):
    """`expected` is what the next row's errors are taken from; then the graph goes on as the stream does."""
    value = forecaster(rng, "hourly")
    save(value, tmp_path / "m.onnx")
    runner, path = ForecasterModel(value), tmp_path / "m.onnx"
    state = runner.last()
    feeds = _onnx_forecaster.feeds_of(value, state, np.arange(3))
    for _ in range(3):
        y = 5000 + rng.normal(size=3)
        expected = run(path, feeds)["expected"]
        state = runner.observe(state.next, y, state)
        feeds["errors"] = np.concatenate([feeds["errors"][:, 1:], (y[:, None] - expected)[:, None]], 1)
        feeds["y"] = np.concatenate([feeds["y"][:, 1:], y[:, None]], 1)
        feeds["next"] = state.next.astype(np.int64)
    off = np.abs(run(path, feeds)["mean"] - runner.forecast(state).mean) / state.scale[:, None]
    assert off.max() < 1e-5


def test_any_batch_and_series_in_any_order(rng, tmp_path):
    value = forecaster(rng, "monthly")
    save(value, tmp_path / "m.onnx")
    series = np.array([2, 0, 0, 1, 2])
    runner = ForecasterModel(value)
    state = runner.last()[series]
    found = run(tmp_path / "m.onnx", _onnx_forecaster.feeds_of(value, state, series))
    np.testing.assert_allclose(found["mean"], runner.forecast(state).mean, rtol=1e-6)


def test_what_the_file_says_of_itself(rng, tmp_path):
    value = forecaster(rng, "daily")
    save(value, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.metadata_props
    assert json.loads(entry.value) == {"frequency": "D", "level": [80.0, 95.0], "ids": list(value.ids)}
    first = (tmp_path / "m.onnx").read_bytes()
    save(value, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == first


def test_the_trial_notices_a_wrong_graph(rng, tmp_path, monkeypatch):
    value = forecaster(rng, "hourly")
    real = _onnx_forecaster.model_of
    wrong = replace(value, recurrent=replace(value.recurrent, shrink=0.79))
    monkeypatch.setattr(_onnx_forecaster, "model_of", lambda _: real(wrong))
    with pytest.raises(
        UnsupportedError, match=r"m.onnx: the model computes something else than the forecaster by"
    ):
        save(value, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_refusals_name_what_they_refuse(rng, tmp_path):
    value = forecaster(rng, "daily", plain=True)
    first, *rest = value.plain.network.layers
    odd = replace(value, plain=PlainPath(Network((replace(first, clip=1.0), *rest))))
    with pytest.raises(UnsupportedError, match=r"a forecaster's network with .* cannot be written to ONNX"):
        save(odd, tmp_path / "m.onnx")
    drawn = forecaster(rng, "daily", deepar="student")
    with pytest.raises(UnsupportedError, match="architecture='deepar' draws its paths at random"):
        save(drawn, tmp_path / "m.onnx")
    with pytest.raises(ArgumentError, match="a model of Keras or a fitted forecaster, got dict"):
        save({}, tmp_path / "m.onnx")
    for ending in ("keras", "h5", "pt"):
        with pytest.raises(UnsupportedError, match=rf"can be written as .onnx, not as \.{ending}"):
            files.save(value, tmp_path / f"m.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_files_and_stream_models_are_taken(rng, tmp_path):
    value = forecaster(rng, "daily")
    own.save(value, tmp_path / "m.carousel")
    read = files.read(tmp_path / "m.carousel")
    assert files.save(read.network, tmp_path / "m.onnx").largest < 1e-5
    save(stream.load(tmp_path / "m.carousel"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize(
    "text",
    ["h", "15min", "D", "2D", "W-WED", "B", "2B", "D Sun-Thu", "D Tue,Thu", "MS", "ME", "2ME", "QS-FEB", "YE",
     "BMS", "BME", "2BMS", "BQE", "BYS", "3"],
)  # fmt: skip
def test_the_calendar_is_that_of_series(rng, text):
    frequency = Frequency.parse(text)
    stamps = starts(frequency, rng, 300)
    g = Graph()
    calendar = Calendar(g, frequency)
    start = g.input("stamps", np.int64, ["B", 1])
    steps = np.array([-500, -13, -1, 0, 1, 2, 29, 900])
    moved = calendar.shifted(start, steps)
    g.output("moved", moved, np.int64, ["B", 8])
    features = calendar.features(moved)
    if features is not None:
        g.output("features", features, np.float64, ["B", 8, None])
        g.output("year", calendar.year(moved, 2), np.float64, ["B", 8, 4])
    m = 7
    if phases(frequency, m) > 1:
        g.output("phase", calendar.phase(start, m), np.int64, ["B", 1])
    model = g.model()
    names = [output.name for output in model.graph.output]
    found = dict(
        zip(
            names,
            ReferenceEvaluator(model).run(names, {"stamps": stamps.astype(np.int64)[:, None]}),
            strict=True,
        )
    )
    expected = frequency.shift(stamps[:, None], steps)
    np.testing.assert_array_equal(found["moved"], expected.astype(np.int64))
    if features is not None:
        np.testing.assert_allclose(
            found["features"], calendar_features(frequency, expected), rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(found["year"], year_features(expected, 2), rtol=0, atol=1e-12)
    if "phase" in found:
        np.testing.assert_array_equal(found["phase"][:, 0], phase(frequency, m, stamps))


def test_the_command_line_converts_it(rng, tmp_path, monkeypatch, capsys):
    own.save(forecaster(rng, "daily"), tmp_path / "m.carousel")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["carousel", "convert", "m.carousel", "m.onnx"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code or 0, err) == (0, "")
    assert "forecaster of 3 series, 30 rows -> 9" in out
    assert "by the equations of the specification in NumPy" in out
    assert (tmp_path / "m.onnx").exists()
