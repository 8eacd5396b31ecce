"""Values as documents: a tree of frozen dataclasses <-> JSON and tensors.

A class takes part by its decorator; the types of its fields say how each is kept, and what is
accepted when it comes back:

    @document("seasonal")                         the kind: its name in the file, for ever
    @dataclass(frozen=True)
    class Seasonal:
        period: int                               str, int, float, bool, a union of them, Literal["a", "b"]
        phase: float | None                       or nothing
        columns: tuple[str, ...]                  tuples, of one type or of one type each: tuple[int, str]
        profile: NDArray[np.float64]              a tensor: float32, float64, int64, datetime64[any unit]
        starts: NDArray[np.int64] | NDArray[np.datetime64]
        ids: Texts                                tuple[str, ...] of any length, kept as a tensor
        inner: Weights | None                     another registered class, or a union of them
    gap: bool = later(False)                  came with a later format: left out where it is the default

In JSON an instance is an object of its kind and its fields, a tuple is a list, an array is
`{"array": dtype}`; its numbers are the tensor named by its path, such as `layers.0.directions.0.W`.
"""

from collections.abc import Callable
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from carousel.network.schema import Record, Texts, kinds, since_of

__all__ = ["Texts", "decode", "document", "encode", "later"]

T = TypeVar("T")


def later(default: Any, since: int = 2) -> Any:
    """The default of a field that came with format `since`: a file has it only where it is another value."""
    return field(default=default, metadata={"since": since})


def document(kind: str, since: int = 1) -> Callable[[type[T]], type[T]]:
    """Registers a frozen dataclass as something that documents can hold, under the name `kind`.

    Files that hold one have at least the format `since`.

    The class gets an `==` that compares arrays by dtype, shape and elements (NaN equals NaN); it has
    no hash. Its `__post_init__` may refuse what it is given: a file with it is then refused too.

    Example:
        >>> from dataclasses import dataclass
        >>> @document("example.season")
        ... @dataclass(frozen=True)
        ... class Season:
        ...     period: int
        ...     profile: NDArray[np.float64]
        >>> tree, tensors = encode(Season(2, np.array([0.5, -0.5])))
        >>> tree
        {'kind': 'example.season', 'period': 2, 'profile': {'array': 'float64'}}
        >>> tensors
        {'profile': array([ 0.5, -0.5])}
    """

    def register(cls: type[T]) -> type[T]:
        if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"{cls.__name__} must be a frozen dataclass: write @document above @dataclass.")
        if kind in kinds:
            raise TypeError(f"The kind {kind!r} is {kinds[kind].__name__} already, got {cls.__name__}.")
        kinds[kind], since_of[kind] = cls, since
        cls.__eq__ = _equal  # type: ignore[method-assign]
        cls.__hash__ = None  # type: ignore[assignment]
        return cls

    return register


def encode(value: object) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The JSON tree of `value`, an instance of a registered class, and its tensors by name.

    Raises:
        ArgumentError: something in it is not what its class declares, or cannot be kept.
    """
    tensors: dict[str, NDArray[Any]] = {}
    return Record(tuple(kinds.values())).encode(value, "", tensors), tensors


def decode(tree: object, tensors: dict[str, NDArray[Any]]) -> Any:
    """The way back of `encode`; `tensors` loses those that were used.

    Raises:
        FormatError: anything is missing, left over or not what its class declares.
    """
    return Record(tuple(kinds.values())).decode(tree, "", tensors)


def _equal(self: object, other: object) -> bool:
    return type(self) is type(other) and all(
        _same(getattr(self, field.name), getattr(other, field.name))
        for field in fields(self)  # type: ignore[arg-type]
    )


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=True))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)  # 80 is 80.0, 1 is not True
