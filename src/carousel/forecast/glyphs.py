"""Pictures of series named in any script: matplotlib's own font knows no Chinese, Japanese, Korean or Hindi."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["families", "save", "without_glyph"]

NO_FONT = "Last Resort"  # of matplotlib: a sign that a letter is missing, for every letter


def families(text: str) -> list[str]:
    """The default font, then installed ones with what it lacks of the text, each of which adds a letter."""
    from matplotlib import rcParams
    from matplotlib.font_manager import fontManager

    chosen, lacking = list(rcParams["font.family"]), without_glyph(text)
    for font in sorted(fontManager.ttflist, key=lambda font: (font.style != "normal", font.name)):
        if not lacking:
            break
        if not font.name.startswith(NO_FONT) and (here := lacking & _letters(font.fname)):
            chosen.append(font.name)
            lacking -= here
    return chosen


def without_glyph(text: str, fonts: list[str] | None = None) -> set[str]:
    """The letters of a text that are in none of the fonts; without `fonts`, that the default font lacks."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont

    lacking = {letter for letter in text if letter.isprintable()}
    for name in fonts or rcParams["font.family"]:
        if not lacking:
            break
        lacking -= _letters(findfont(FontProperties(family=[name])))
    return lacking


def save(
    figure: Figure,
    target: str | os.PathLike[str] | IO[bytes],
    warn: Callable[[str], object] | None = None,
    **how: Any,
) -> None:
    """`figure.savefig(target, **how)`, where letters may have no font here.

    An SVG then holds its text as text, for whoever opens it may have the font. In other formats the letters are empty
    boxes, and one warning says so.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    lacking = [
        letter for text in texts for letter in sorted(without_glyph(text.get_text(), text.get_fontfamily()))
    ]
    if not lacking:
        figure.savefig(target, **how)
        return
    svg = (how.get("format") or os.path.splitext(str(target))[1][1:]).lower() == "svg"
    if not svg:
        some = "".join(dict.fromkeys(lacking))[:8]
        (warn or _warn)(
            f"no installed font has the letters {some}: the picture shows boxes. Install a font that has them, such as "
            "Noto Sans CJK, or save an .svg, which takes the font of whoever opens it."
        )
    with rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(target, **how)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


@lru_cache(maxsize=256)
def _letters(path: str) -> frozenset[str]:
    from matplotlib.font_manager import get_font

    return frozenset(map(chr, get_font(path).get_charmap()))
