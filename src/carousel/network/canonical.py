"""The JSON of the model file: what is refused, and the one way to write a tree."""

import json
from math import isfinite
from typing import Any

from carousel.errors import FormatError

__all__ = ["canonical", "parse"]


def canonical(tree: Any) -> str:
    """The one way to write a JSON tree: no spaces, the order as it is, UTF-8 as it is, shortest floats."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(text: str | bytes, what: str) -> Any:
    """The tree of a JSON text without repeated names, long integers and numbers that are not finite.

    Raises:
        FormatError: it is none; `what` names it.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_float
        )
    except FormatError as error:
        raise FormatError(f"{what} {error}") from None
    except ValueError:
        raise FormatError(f"{what} is not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        raise FormatError("has an object with the same name twice")
    return tree


def _integer(digits: str) -> int:
    if len(digits) > 20:  # -2**63 has 20; converting long ones takes quadratic time
        raise FormatError(f"has a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise FormatError("has a number that is not finite")
    return value
