"""The code in README and docs runs, and the lines that they show are those of the library."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

from carousel.reference import gru, lstm

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"`[^`\n]+`|\]\([^)]+\)")  # code within a sentence, or where a link goes
EQUATION = re.compile(r"^(.*\S)  # \((\d)\)$", re.MULTILINE)


def run(page: Path) -> None:
    """Runs the python blocks of a page in order, in one namespace; a traceback names the line of the page."""
    text, names = page.read_text(encoding="utf-8"), {"__name__": page.name}
    for block in BLOCK.finditer(text):
        lines_above = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_above + block[1], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # torch's own, in forward mode and Dynamo
def test_code_of_the_page_runs(page, tmp_path, monkeypatch):
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # pages read files of a checkout, and write elsewhere
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run(page)


def test_a_broken_block_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\nand then\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as caught:
        run(page)
    assert (Path(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (page, 10)


def test_the_pictures_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib").use("Agg")
    names = runpy.run_path(str(ROOT / "docs" / "figures.py"))
    train = names["sine_model"]
    monkeypatch.setitem(names["main"].__globals__, "sine_model", lambda: train(epochs=1))
    names["main"](tmp_path)
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(path.name for path in (ROOT / "docs" / "figures").iterdir())


@pytest.mark.parametrize("language", ["", ".zh-CN"])
@pytest.mark.parametrize(("cell", "equations"), [(lstm, "123456"), (gru, "1234")])
def test_equations_are_the_lines_of_the_reference(cell, equations, language):
    name = cell.__name__.rpartition(".")[2]
    shown = EQUATION.findall((ROOT / "docs" / f"{name}{language}.md").read_text(encoding="utf-8"))
    assert "".join(number for _, number in shown) == equations
    source = {line.strip() for line in inspect.getsource(cell.step).splitlines()}
    for line, number in shown:
        assert f"{line}  # ({number})" in source


@pytest.mark.parametrize("page", ["README", "docs/lstm", "docs/gru"])
def test_both_languages_run_the_same_code(page):
    english, chinese = (BLOCK.findall(text) for text in both_languages(page))
    assert [without_words(block) for block in english] == [without_words(block) for block in chinese]


def test_both_readmes_name_the_same_things():
    english, chinese = (
        {name.replace(".zh-CN", "") for name in NAME.findall(text)} for text in both_languages("README")
    )
    assert english == chinese


def both_languages(page: str) -> list[str]:
    """The page in English and in Chinese."""
    return [(ROOT / f"{page}{language}.md").read_text(encoding="utf-8") for language in ("", ".zh-CN")]


def without_words(code: str) -> str:
    """Code without its comments and docstrings, which are translated."""
    return re.sub(r'""".*?"""|  #.*', "", code)
