"""Names of series in pictures, as long as there is room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["fitting_width", "shortened"]

ELLIPSIS = "…"
FULL_WIDTH = "—"  # as wide as a letter of other scripts can be


def shortened(names: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """The names, cut in the middle where they are too long; where that makes two alike, to where they differ.

    Example:
        >>> shortened(["a store in the north, milk", "a store in the north, eggs"], lambda text: len(text) <= 12)
        ['a stor… milk', 'a stor… eggs']
        >>> shortened(["the milk of the north", "the eggs of the north"], lambda text: len(text) <= 12)
        ['the mi…north', 'the eg…north']
    """
    names = [" ".join(name.split()) for name in names]
    short = [_cut(name, fits) for name in names]
    for alike, count in Counter(short).items():
        which = [k for k, text in enumerate(short) if text == alike]
        if count > 1 and len({names[k] for k in which}) > 1:
            letters = enumerate(zip(*(names[k] for k in which), strict=False))
            first = next((at for at, here in letters if len(set(here)) > 1), 0)
            first = max(0, first - 2)
            for k in which:
                short[k] = _cut(ELLIPSIS * (first > 0) + names[k][first:], fits, end=True)
    return short


def _cut(name: str, fits: Callable[[str], bool], end: bool = False) -> str:
    """The most of a name that fits, without its middle or its end."""
    if fits(name):
        return name
    low, high = 1, len(name) - 1  # characters that are kept: a bisection, for text grows with them
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if fits(_without(name, kept, end)) else (low, kept - 1)
    return _without(name, low, end)


def _without(name: str, kept: int, end: bool) -> str:
    tail = 0 if end else kept // 2
    return name[: kept - tail].rstrip() + ELLIPSIS + name[len(name) - tail :]


def fitting_width(inches: float, size: float) -> Callable[[str], bool]:
    """Whether a bold text of `size` points is at most so wide."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    from carousel.forecast.glyphs import without_glyph

    font, measure = FontProperties(weight="bold", size=size), TextToPath()

    def fits(text: str) -> bool:
        for letter in without_glyph(text):
            text = text.replace(letter, FULL_WIDTH)
        width, _, _ = measure.get_text_width_height_descent(text, font, False)
        return bool(width <= 72 * inches)

    return fits
