"""The report and the pictures in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import carousel
from carousel import Forecaster
from carousel.errors import ArgumentError, DataError
from carousel.forecast.pictures import plot_training
from carousel.forecast.titles import shortened

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
from matplotlib.text import Text

QUICK: dict[str, Any] = {"epochs": 1, "hidden_size": 4, "progress": False}
HOSTILE = "<script>alert(1)</script>"
ODD = '"><img src=x onerror=alert(1)> $a$ & {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng, t = np.random.default_rng(7), np.arange(60)
    ds = pd.date_range("2010-01", periods=60, freq="MS")
    frames = [
        pd.DataFrame({"shop": name, "month": ds, ODD: 100 + 10 * np.sin(t * np.pi / 6) + rng.normal(size=60)})
        for name in (HOSTILE, "b")
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> Forecaster:
    names = {"id_col": "shop", "time_col": "month", "target_col": ODD}
    return Forecaster(4, **QUICK).fit(frame[frame["month"] < "2014-01"], **names)


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_is_whole_and_names_are_text(fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path) -> None:
    text = fitted.report(frame, tmp_path / "report.html", origins=3, step=4)
    assert (tmp_path / "report.html").read_text() == text
    page = Page(text)
    words = " ".join(" ".join(page.words).split())
    assert "script" not in page.tags
    assert f"Forecast of {ODD}" in words
    assert HOSTILE in words
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not re.search(r"https?://", text)
    assert "The model had not seen these rows." in words
    assert "6 forecasts were held against what came" in words
    for heading in (
        "What comes next",
        "How good it is",
        "Error by step ahead",
        "What each part is worth",
        "Training",
    ):
        assert heading in words
    assert "this model" in words
    assert text == fitted.report(frame, origins=3, step=4)


def test_rows_that_were_fitted_are_not_what_a_report_judges_on(
    fitted: Forecaster, frame: pd.DataFrame
) -> None:
    text = fitted.report(frame[frame["month"] < "2014-01"], origins=2)
    assert "it was fitted anew on the rows before them" in text


def test_a_report_takes_as_many_origins_as_leave_enough_to_fit_on(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Enough is two seasons, as the model has one, and the look-back that it was given."""
    short = frame[(frame["shop"] == "b") & (frame["month"] < "2013-05")]
    names = {"id_col": "shop", "time_col": "month", "target_col": ODD}
    for horizon, free, origins in ((3, 5, 4), (6, 2, 1)):
        for given, expected in (({}, free), ({"lookback": 24}, origins)):
            Forecaster(horizon, **given, **QUICK).fit(short, **names).save(tmp_path / "model")
            loaded = carousel.load(tmp_path / "model")
            assert isinstance(loaded, Forecaster)
            text = loaded.set_params(progress=False).report(short)
            assert f" {expected} forecasts were held against what came" in text
        with pytest.raises(
            DataError, match=f"left to fit on with 10 origins {horizon} rows apart: .* 40 rows; take"
        ):
            loaded.report(short, origins=10)
    with pytest.raises(
        DataError, match=r"left to fit on with an origin at 2011-02-01: .*; take fewer or later"
    ):
        loaded.report(short, start="2011-02")


def test_pictures_of_a_backtest(fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path) -> None:
    result = fitted.backtest(frame, origins=3, step=4)
    errors = (result.forecasts["carousel"] - result.forecasts["y"]).abs().to_numpy().reshape(6, 4)
    for kind, expected in (("step", errors.mean(0)), ("origin", errors.reshape(2, 3, 4).mean((0, 2)))):
        axes = result.plot(tmp_path / f"{kind}.png", kind=kind).axes[0]
        line = next(line for line in axes.lines if line.get_label() == "carousel")
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)
        assert (tmp_path / f"{kind}.png").stat().st_size > 5000
    bars = result.plot(kind="coverage").axes[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx(
        [100 * share for share in result.scores["carousel"].coverage.values()]
    )
    with pytest.raises(ArgumentError, match="`kind` must be 'step' or 'origin' or 'coverage', got 'pie'"):
        result.plot(kind="pie")


def test_the_worth_of_parts(fitted: Forecaster, frame: pd.DataFrame) -> None:
    result = fitted.backtest(frame, origins=3, step=4)
    assert list(result.parts) == ["smoothing", "linear path", "recurrent path"]
    assert result.parts["recurrent path"] == pytest.approx(result.scores["carousel"].rmse)


def test_a_loaded_model_has_a_report(fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = carousel.load(tmp_path / "model")
    assert isinstance(loaded, Forecaster)
    assert "Training" not in loaded.report(frame, origins=3, step=4)


def drawn(*series: tuple[str, float]) -> pd.DataFrame:
    """Series of 80 days by name and size."""
    rng, days = np.random.default_rng(3), pd.date_range("2023-01-01", periods=80)
    y = 10 + np.sin(np.arange(80) * 2 * np.pi / 7)
    frames = [
        pd.DataFrame({"unique_id": name, "ds": days, "y": size * (y + rng.normal(size=80) / 3)})
        for name, size in series
    ]
    return pd.concat(frames, ignore_index=True)


def test_a_report_of_series_of_different_sizes_leads_with_figures_without_unit() -> None:
    names = ("small", "large", "north")
    alike = drawn(*((name, 3.0) for name in names))
    apart = drawn(*zip(names, (1e-6, 1e9, 1.0), strict=True))
    many = drawn(*((f"s{k}", 10.0**k) for k in range(9)))
    pages = {}
    for key, frame in (("alike", alike), ("apart", apart), ("many", many)):
        forecaster = Forecaster(3, **QUICK).fit(frame[frame["ds"] < "2023-03-01"])
        pages[key] = " ".join(" ".join(Page(forecaster.report(frame, origins=2)).words).split())
        tested = forecaster.backtest(frame, origins=2)
        score, table = tested.scores["carousel"], tested.forecasts
        if key == "apart":
            first = (
                f"Error beside a simple rule {score.mase:.2f} of what repeating the last season was off by"
            )
            assert first in pages[key]
            error = (table["carousel"] - table["y"]).abs().groupby(table["unique_id"]).mean()
            for name in names:
                assert (
                    f"{name} {f'{error[name]:,.0f}' if error[name] >= 1000 else f'{error[name]:.4g}'} "
                    in pages[key]
                )
    assert "Typical error" in pages["alike"]
    assert "The series are of different sizes" not in pages["alike"]
    for key in ("apart", "many"):
        assert "Typical error" not in pages[key]
        assert (
            "The series are of different sizes: MAE, RMSE and CRPS are means over all of them" in pages[key]
        )
    assert "Mean size of the values" in pages["alike"]
    assert "Mean size of the values" not in pages["many"]


def test_long_names_are_cut_to_their_panel_and_stay_apart() -> None:
    long = [
        f"a_very_long_name_of_one_series_{'x' * 30}_{k:02d}_and_what_all_of_them_end_in_{'y' * 10}"
        for k in (1, 2)
    ]
    frame = drawn(*((name, 1.0) for name in (*long, "short", "d")))
    forecaster = Forecaster(3, **QUICK).fit(frame)
    for width in (5.2, 9, 13):
        figure = forecaster.plot(frame, width=width)
        figure.draw_without_rendering()
        shown = [axes for axes in figure.axes if axes.get_visible()]
        titles = [axes.get_title(loc="left") for axes in shown]
        assert len(set(titles)) == 4
        assert titles[2:] == ["short", "d"]
        assert all("…" in title for title in titles[:2])
        for axes, title in zip(shown, titles, strict=True):
            (drawn_title,) = (text for text in axes.findobj(Text) if text.get_text() == title)
            assert drawn_title.get_window_extent().x1 <= axes.bbox.x1


def test_names_are_cut_in_their_middle_or_to_where_they_differ() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 12

    assert shortened(["a name that ends in 1", "a name that ends in 2", "b\nc"], fits) == [
        "a name… in 1",
        "a name… in 2",
        "b c",
    ]
    inside = [f"{'x' * 30}{letter}{'y' * 30}" for letter in "ab"]
    assert shortened(inside, fits) == ["…xxayyyyyyy…", "…xxbyyyyyyy…"]
    assert shortened(["same" * 9, "same" * 9], fits) == ["samesa…esame"[:12]] * 2


def test_one_epoch_is_a_point() -> None:
    lines = plot_training([{"epoch": 1.0, "train": 2.0, "valid": 3.0}]).axes[0].lines
    assert [line.get_marker() for line in lines] == ["o", "o"]


@pytest.mark.parametrize(
    ("center", "scale", "places"), [(1012.6, 0.1, (2, 3, 4)), (1e6, 2e4, (0,)), (3e-8, 1e-9, (11, 12))]
)
def test_numbers_of_a_table_are_told_apart_and_have_one_precision(
    center: float, scale: float, places: tuple[int, ...]
) -> None:
    frame = drawn(("a", 1.0))
    frame["y"] = center + scale * (frame["y"] - 10)
    text = Forecaster(3, **QUICK).fit(frame).report(frame, origins=2)
    (table,) = re.findall("The numbers</summary>.*?</table>", text, re.DOTALL)
    rows = [re.findall("<td>(.*?)</td>", row)[1:] for row in re.findall("<tr>(.*?)</tr>", table)][1:]
    assert len(rows) == 3
    numbers = [[row[0], *(end for cell in row[1:] for end in cell.split(" to "))] for row in rows]
    assert {len(number.partition(".")[2]) for row in numbers for number in row} <= {*places}
    assert len({len(number.partition(".")[2]) for row in numbers for number in row}) == 1
    for mean, *ends in numbers:
        assert len({mean, *ends}) == 5


def test_a_report_says_of_how_many_series_and_rows_it_has_numbers() -> None:
    few, many = drawn(("a", 1.0)), drawn(*((name, 1.0) for name in "abcd"))
    for frame, expected in ((few, ""), (many, "The numbers are those of the first 3 of 4 series; ")):
        forecaster = Forecaster(3, **QUICK).fit(frame)
        words = " ".join(" ".join(Page(forecaster.report(frame, origins=2)).words).split())
        assert (expected in words) if expected else "The numbers are those" not in words


def test_simple_rules_of_one_step_are_points() -> None:
    frame = drawn(("a", 1.0))
    for horizon, marked in ((1, True), (2, False)):
        forecaster = Forecaster(horizon, **QUICK).fit(frame)
        lines = forecaster.plot(frame, with_baselines=True).axes[0].lines
        rules = [line for line in lines if line.get_label() in ("persistence", "seasonal naive", "ridge")]
        assert len(rules) == 3
        assert all((line.get_marker() == "D") == marked for line in rules)
