"""Pictures of series whose names matplotlib's own font cannot write."""

import warnings

import pytest
from matplotlib.figure import Figure

from carousel.forecast.glyphs import families, save, without_glyph
from carousel.forecast.titles import fitting_width

SANS_ALONE = "\U0001d5d4"  # a bold A of mathematics, which one of matplotlib's other fonts has
NOBODY = "北"


@pytest.fixture
def default_alone(monkeypatch):
    """A machine without fonts of its own."""
    monkeypatch.setattr("carousel.forecast.glyphs.NO_FONT", "")


def _figure(title):
    figure = Figure()
    figure.subplots().set_title(title, fontfamily=families(title))
    return figure


def test_the_default_font_comes_first_and_alone_where_it_will_do():
    assert len(families("Łódź, Αθήνα")) == 1
    assert families(SANS_ALONE)[0] == families("a")[0]


def test_an_installed_font_has_the_letter(tmp_path):
    assert without_glyph(SANS_ALONE) == {SANS_ALONE}
    chosen = families(SANS_ALONE)
    assert len(chosen) == 2
    assert not without_glyph(SANS_ALONE, chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a letter that is missing
        save(_figure(SANS_ALONE), tmp_path / "a.png")


def test_a_letter_without_a_font_is_said_once(default_alone, tmp_path):
    with pytest.warns(
        UserWarning, match="no installed font has the letters 北: the picture shows boxes"
    ) as said:
        save(_figure(NOBODY + NOBODY), tmp_path / "a.png")
    assert len(said) == 1


def test_an_svg_leaves_it_to_the_font_of_who_opens_it(default_alone, tmp_path):
    save(_figure(f"a {NOBODY}"), tmp_path / "a.svg")
    save(_figure("a b"), tmp_path / "b.svg")
    assert f"a {NOBODY}</text>" in (tmp_path / "a.svg").read_text("utf-8")
    assert "<text" not in (tmp_path / "b.svg").read_text("utf-8")  # elsewhere the same picture everywhere


def test_a_letter_without_a_font_counts_as_wide():
    fits = fitting_width(1.0, 10)  # 72 points
    assert fits("ii" * 7)
    assert fits("北" * 7)
    assert not fits("北" * 8)
