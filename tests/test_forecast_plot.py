"""The pictures of a forecaster: what they show, and what they do not make up."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

QUICK: dict[str, Any] = {"epochs": 2, "hidden_size": 8, "progress": False}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_plot(rng: np.random.Generator, tmp_path: Path) -> None:
    months = pd.date_range("2010-01-01", periods=60, freq="MS")
    df = pd.concat(
        [pd.DataFrame({"unique_id": f"s{k}", "ds": months, "y": rng.normal(size=60)}) for k in range(3)]
    )
    forecaster = Forecaster(6, **QUICK).fit(df)
    figure = forecaster.plot(path=tmp_path / "a.png")
    assert "history" in [text.get_text() for text in figure.legends[0].get_texts()]
    figure = forecaster.plot(df, tmp_path / "b.png", truth=True, with_baselines=True, series="s1")
    assert (tmp_path / "b.png").stat().st_size > 10_000
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"history", "forecast", "truth", "80 %", "95 %", "ridge"} <= set(labels)
    with pytest.raises(ArgumentError, match="`series` must be one of 's0'"):
        forecaster.plot(df, series="s9")
    wide = df.pivot(index="ds", columns="unique_id", values="y").reset_index()
    assert forecaster.plot(wide, layout="wide").axes
    assert "<html" in forecaster.report(wide, layout="wide", origins=1)


@pytest.mark.parametrize("rows", [5, 10])  # fewer than a season, than the window
def test_a_plot_does_not_show_what_was_made_up_before_a_series_began(
    rng: np.random.Generator, rows: int
) -> None:
    days = pd.date_range("2024-01-01", periods=60)
    long = pd.DataFrame({"unique_id": "long", "ds": days, "y": rng.normal(size=60)})
    forecaster = Forecaster(3, **QUICK).fit(pd.concat([long, long[-rows:].assign(unique_id="short")]))
    new = pd.DataFrame({"unique_id": "short", "ds": pd.date_range("2024-03-01", periods=2), "y": [1.0, 2.0]})
    assert len(forecaster.plot(series="short").axes[0].lines[0].get_xdata()) == rows
    assert len(forecaster.update(new).plot(series="short").axes[0].lines[0].get_xdata()) == rows + 2


@pytest.mark.parametrize("column", [(), "beside"])
def test_a_plot_without_data_has_the_gaps_of_the_data(
    rng: np.random.Generator, tmp_path: Path, column: Any
) -> None:
    """After an update, too; the series are longer and shorter than the window, and one is new."""
    days = pd.date_range("2024-01-01", periods=90)
    frame = pd.concat(
        [
            pd.DataFrame({"unique_id": name, "ds": days[-rows:], "y": rng.normal(size=rows), "beside": 1.0})
            for name, rows in (("a", 90), ("b", 25), ("whole", 90), ("new", 40))
        ],
        ignore_index=True,
    )
    frame.loc[rng.random(len(frame)) < 0.3, "y"] = np.nan
    frame.loc[frame["unique_id"] == "whole", "y"] = rng.normal(size=90)
    first = frame[(frame["unique_id"] != "new") & (frame["ds"] < days[80])]
    forecaster = Forecaster(3, **QUICK).fit(first, past=column)

    def same(forecaster: Forecaster, df: pd.DataFrame) -> None:
        for name in forecaster.model_.ids:
            remembered, given = (forecaster.plot(rows, series=name).axes[0].lines[0] for rows in (None, df))
            np.testing.assert_array_equal(
                remembered.get_xdata(), given.get_xdata()[-len(remembered.get_xdata()) :]
            )
            np.testing.assert_allclose(
                remembered.get_ydata(), given.get_ydata()[-len(remembered.get_ydata()) :]
            )
            assert remembered.get_label() == given.get_label() == "history"

    same(forecaster, first)
    forecaster.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    if not column:
        later = frame[(frame["unique_id"] == "new") | (frame["ds"] >= days[80])]
        same(loaded.update(later), frame)
    whole = Forecaster(3, **QUICK).fit(frame[frame["unique_id"] == "whole"])
    assert whole.model_.tail.missing is None


def test_a_plot_of_some_says_of_how_many(rng: np.random.Generator) -> None:
    days = pd.date_range("2024-01-01", periods=40)
    frames = [pd.DataFrame({"unique_id": f"s{k}", "ds": days, "y": rng.normal(size=40)}) for k in range(8)]
    figure = Forecaster(3, **QUICK).fit(pd.concat(frames)).plot()
    assert figure.get_suptitle() == "the first 6 of 8 series"
