"""The errors of carousel and the checks that raise them.

    CarouselError
    ├── ShapeError        (ValueError)                  an array has the wrong shape or dtype
    ├── ArgumentError     (ValueError)                  an argument has a value that it cannot have
    ├── DataError         (ValueError)                  a user's series cannot be used as it is
    ├── FormatError       (ValueError)                  a file or document is not what it says it is
    ├── UnsupportedError  (NotImplementedError)         understood, but it cannot be done as asked
    └── NotFittedError    (ValueError, AttributeError)  `fit` comes first

A message names the thing, what it must be, what it is and, where it is known, the way out.
Checks stand at public entrances, once; inside, `assert` states what we believe.
"""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, Protocol

__all__ = [
    "ArgumentError",
    "CarouselError",
    "DataError",
    "FormatError",
    "NotFittedError",
    "ShapeError",
    "UnsupportedError",
    "check_choice",
    "check_dtype",
    "check_integer",
    "check_shape",
    "printable",
]


class CarouselError(Exception):
    """Base of every error that carousel raises on purpose."""


class ShapeError(CarouselError, ValueError):
    """An array has the wrong shape or dtype."""


class ArgumentError(CarouselError, ValueError):
    """An argument has a value that it cannot have."""


class DataError(CarouselError, ValueError):
    """A series cannot be used as it is; the text names the series, the row, what is wrong, the way out."""


class FormatError(CarouselError, ValueError):
    """A file or document is not what it says it is."""


class UnsupportedError(CarouselError, NotImplementedError):
    """What was asked is understood, but cannot be done exactly; nothing is approximated instead."""


class NotFittedError(CarouselError, ValueError, AttributeError):
    """The estimator has not been fitted. The bases are those that scikit-learn's own error has.

    Where the program has imported scikit-learn, an instance is one of scikit-learn's `NotFittedError`, too.
    """

    def __new__(cls, *args: object) -> "NotFittedError":
        theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
        return super().__new__(cls if theirs is None else _also(theirs), *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return (NotFittedError, *super().__reduce__()[1:])  # whoever reads it may have no scikit-learn


@cache
def _also(theirs: Any) -> type[NotFittedError]:
    """Our error with scikit-learn's among its bases."""
    ours = NotFittedError
    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__doc__": ours.__doc__})


class _Array(Protocol):
    """What the checks ask of an array; NumPy's and torch's both have it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


def check_shape(name: str, array: _Array, axes: str, **sizes: int) -> tuple[int, ...]:
    """Returns the shape of `array`, which must be the one that `axes` spells.

    An axis is a number, a letter, a product or a sum of them: `1`, `B`, `4H`, `DH`, `H+I`, `T+1`.
    A letter that has no size in `sizes` takes that of the axis where it stands alone, else it may have any.

    Args:
        name: what the caller knows the array as.
        array: anything with a `shape`.
        axes: the axes, separated by commas, such as `"1, B, H"`.
        **sizes: the size of each letter that is known.

    Raises:
        ShapeError: the shape is another one.

    Example:
        >>> import numpy as np
        >>> T, B, I = check_shape("x", np.zeros((7, 2, 3)), "T, B, I", I=3)
        >>> check_shape("h", np.zeros((2, 5)), "1, B, H", B=B, H=5)
        Traceback (most recent call last):
            ...
        carousel.errors.ShapeError: `h` must have shape (1, B, H) = (1, 2, 5), got (2, 5).
    """
    shape = tuple(array.shape)
    letters = [axis.strip() for axis in axes.split(",")]
    if len(shape) == len(letters):
        alone = {axis: size for axis, size in zip(letters, shape, strict=True) if re.fullmatch("[A-Z]", axis)}
        sizes = alone | sizes
    wanted = [_size(axis, sizes) for axis in letters]
    if len(shape) == len(wanted) and all(w is None or w == s for w, s in zip(wanted, shape, strict=True)):
        return shape
    raise ShapeError(f"`{name}` must have shape {_spelled(letters, wanted, sizes)}, got {shape}.")


def check_dtype(name: str, array: _Array, choices: Collection[str]) -> None:
    """Raises a ShapeError unless the dtype of `array` is one of `choices`.

    Example:
        >>> import numpy as np
        >>> check_dtype("x", np.zeros(3, int), ("float32", "float64"))
        Traceback (most recent call last):
            ...
        carousel.errors.ShapeError: `x` must have dtype float32 or float64, got int64.
    """
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype not in choices:
        raise ShapeError(f"`{name}` must have dtype {' or '.join(choices)}, got {dtype}.")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raises an ArgumentError unless `value` is one of `choices`.

    Example:
        >>> check_choice("reset", "later", ("after", "before"))
        Traceback (most recent call last):
            ...
        carousel.errors.ArgumentError: `reset` must be 'after' or 'before', got 'later'.
    """
    if value not in choices:
        raise ArgumentError(f"`{name}` must be {' or '.join(map(repr, choices))}, got {value!r}.")


def check_integer(name: str, value: object, least: int) -> None:
    """Raises an ArgumentError unless `value` is an integer (a bool is none) of at least `least`.

    Example:
        >>> check_integer("horizon", 0, 1)
        Traceback (most recent call last):
            ...
        carousel.errors.ArgumentError: `horizon` must be an integer of at least 1, got 0.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise ArgumentError(f"`{name}` must be an integer of at least {least}, got {value!r}.")


def printable(text: object, most: int | None = None) -> str:
    r"""A name that others gave, as a message or a table may show it: what a terminal would obey is escaped.

    Args:
        text: anything; what `str` makes of it.
        most: letters, of which the end is cut off; None cuts nothing.

    Example:
        >>> printable("evil\x1b[2J\n"), printable("größe", 4)
        ('evil\\x1b[2J\\n', 'g...')
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return shown if most is None or len(shown) <= most else f"{shown[: most - 3]}..."


def _size(axis: str, sizes: Mapping[str, int]) -> int | None:
    """The size of `4H`, `H+I` or `T+1`; None where a letter is unknown.

    >>> _size("4H", {"H": 5}), _size("H+I", {"H": 5, "I": 3}), _size("T+1", {})
    (20, 8, None)
    """
    if any(letter not in sizes for letter in re.findall("[A-Z]", axis)):
        return None
    terms = [re.findall(r"\d+|[A-Z]", term) for term in axis.split("+")]
    return sum(prod(int(sizes.get(factor, factor)) for factor in term) for term in terms)


def _spelled(letters: Sequence[str], wanted: Sequence[int | None], sizes: Mapping[str, int]) -> str:
    """`(B, H) = (2, 5)` where every size is known, else `(T, B, I) with I = 3`."""
    text = _tuple(letters)
    if None not in wanted:
        numbers = _tuple(wanted)
        return text if text == numbers else f"{text} = {numbers}"
    known = [
        f"{letter} = {size}" for letter, size in sizes.items() if any(letter in axis for axis in letters)
    ]
    return f"{text} with {', '.join(known)}" if known else text


def _tuple(items: Sequence[object]) -> str:
    """A tuple as Python writes it, without quotes.

    >>> _tuple(["B", "H"]), _tuple(["H"])
    ('(B, H)', '(H,)')
    """
    return f"({', '.join(map(str, items))}{',' if len(items) == 1 else ''})"
