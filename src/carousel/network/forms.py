"""How the parts of a value are kept: one class per form.

`encode(value, path, tensors)` returns the JSON of `value` and puts its arrays into `tensors`;
`decode(tree, path, tensors)` goes back and takes them out. `path` names the place in messages and
the tensor in the file.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from types import NoneType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carousel.errors import ArgumentError, CarouselError, FormatError

__all__ = [
    "Array",
    "Choice",
    "Form",
    "Json",
    "Optional",
    "Scalar",
    "Tensors",
    "Text",
    "Tuple",
    "either",
    "short",
]

Json: TypeAlias = Any
Tensors: TypeAlias = dict[str, NDArray[Any]]

_TIMES = re.compile(r"datetime64\[(Y|M|W|D|h|m|s|ms|us|ns)\]")


class Form(Protocol):
    def encode(self, value: Any, path: str, tensors: Tensors) -> Json: ...
    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any: ...


@dataclass(frozen=True)
class Scalar:
    """str, int, float, bool: themselves in JSON. A float is finite; an int may stand for one."""

    types: tuple[type, ...]

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if isinstance(value, np.generic):
            value = value.item()
        if type(value) is int and float in self.types and int not in self.types and abs(value) <= 2**53:
            value = float(value)
        return self._checked(value, path, ArgumentError)

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        return self._checked(tree, path, FormatError)

    def _checked(self, value: Any, path: str, error: type[CarouselError]) -> Any:
        if type(value) not in self.types:
            raise error(f"`{path}` must be {either(t.__name__ for t in self.types)}, got {short(value)}.")
        if type(value) is float and not math.isfinite(value):
            raise error(f"`{path}` must be finite, got {value}.")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise error(f"`{path}` must fit into 64 bits, got a number of {value.bit_length()} bits.")
        if type(value) is str and not _is_unicode(value):
            raise error(f"`{path}` must be text that UTF-8 can hold, got {short(value)}.")
        return value


@dataclass(frozen=True)
class Choice:
    """Literal["a", "b"]: one of the names."""

    names: tuple[Any, ...]

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        return self._checked(value, path, ArgumentError)

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        return self._checked(tree, path, FormatError)

    def _checked(self, value: Any, path: str, error: type[CarouselError]) -> Any:
        if not any(type(value) is type(name) and value == name for name in self.names):
            raise error(f"`{path}` must be {either(map(repr, self.names))}, got {short(value)}.")
        return value


@dataclass(frozen=True)
class Optional:
    """A form, or None, which is null in JSON."""

    form: Form

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        return None if value is None else self.form.encode(value, path, tensors)

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        return None if tree is None else self.form.decode(tree, path, tensors)


@dataclass(frozen=True)
class Tuple:
    """tuple[X, ...] or tuple[X, Y]: a list in JSON."""

    items: tuple[Form, ...]
    repeated: bool

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if type(value) is not tuple:
            raise ArgumentError(f"`{path}` must be a tuple, got {short(value)}.")
        forms = self._forms(value, path, ArgumentError)
        return [
            f.encode(v, f"{path}.{k}", tensors) for k, (f, v) in enumerate(zip(forms, value, strict=True))
        ]

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        if type(tree) is not list:
            raise FormatError(f"`{path}` must be a list, got {short(tree)}.")
        forms = self._forms(tree, path, FormatError)
        return tuple(
            f.decode(v, f"{path}.{k}", tensors) for k, (f, v) in enumerate(zip(forms, tree, strict=True))
        )

    def _forms(self, items: Any, path: str, error: type[CarouselError]) -> tuple[Form, ...]:
        if self.repeated:
            return self.items * len(items)
        if len(items) != len(self.items):
            raise error(f"`{path}` must have {len(self.items)} items, got {len(items)}.")
        return self.items


@dataclass(frozen=True)
class Array:
    """An array is {"array": dtype}, its numbers a tensor of that name; times are kept as int64."""

    dtypes: tuple[str, ...]  # of "float32", "float64", "int64", "datetime64"

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if not isinstance(value, np.ndarray):
            raise ArgumentError(f"`{path}` must be an array, got {short(value)}.")
        dtype = value.dtype.newbyteorder("=")
        if not self._takes(dtype.name):
            raise ArgumentError(f"`{path}` must have dtype {either(self.dtypes)}, got {value.dtype}.")
        kept = np.ascontiguousarray(value, dtype).reshape(value.shape)  # ascontiguousarray makes 0-d 1-d
        tensors[path] = kept.view(np.int64) if dtype.kind == "M" else kept
        return {"array": dtype.name}

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        name = _array_tag(tree, path)
        if not self._takes(name):
            raise FormatError(f"`{path}` must be an array of {either(self.dtypes)}, got {short(name)}.")
        if name in ("float32", "float64", "int64"):
            return _take(tensors, path, name)
        return _take(tensors, path, "int64").view(name)

    def _takes(self, name: str) -> bool:
        unit = _TIMES.fullmatch(name)
        return "datetime64" in self.dtypes if unit else name in self.dtypes and name != "datetime64"


@dataclass(frozen=True)
class Text:
    """Strings are {"array": "texts"}: their UTF-8 end to end, `.bytes`, and where each begins, `.offsets`."""

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if type(value) is not tuple or not all(type(text) is str and _is_unicode(text) for text in value):
            raise ArgumentError(
                f"`{path}` must be a tuple of strings that UTF-8 can hold, got {short(value)}."
            )
        encoded = [text.encode() for text in value]
        tensors[f"{path}.bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        tensors[f"{path}.offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return {"array": "texts"}

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        if _array_tag(tree, path) != "texts":
            raise FormatError(f"`{path}` must be an array of texts, got {short(tree)}.")
        data = _take(tensors, f"{path}.bytes", "uint8")
        offsets = _take(tensors, f"{path}.offsets", "int64")
        if data.ndim != 1 or offsets.ndim != 1 or offsets.size == 0:
            raise FormatError(
                f"`{path}` must have `.bytes` and `.offsets` of one axis, the offsets not empty."
            )
        if offsets[0] != 0 or offsets[-1] != data.size or (offsets[1:] < offsets[:-1]).any():
            raise FormatError(f"`{path}.offsets` must rise from 0 to the number of bytes, {data.size}.")
        joined, bounds = data.tobytes(), offsets.tolist()
        try:
            return tuple(joined[a:b].decode() for a, b in pairwise(bounds))
        except UnicodeDecodeError:
            raise FormatError(f"`{path}.bytes` must be UTF-8.") from None


def _take(tensors: Tensors, name: str, dtype: str) -> NDArray[Any]:
    if name not in tensors:
        raise FormatError(f"the tensor `{name}` is missing.")
    tensor = tensors.pop(name)
    if tensor.dtype.name != dtype:
        raise FormatError(f"the tensor `{name}` must be {dtype}, got {tensor.dtype.name}.")
    return tensor


def _array_tag(tree: Json, path: str) -> str:
    if type(tree) is not dict or set(tree) != {"array"} or type(tree["array"]) is not str:
        raise FormatError(f"`{path}` must be an array, got {short(tree)}.")
    return tree["array"]


def either(words: Iterable[str]) -> str:
    """a or b or c."""
    return " or ".join(words)


def short(value: object) -> str:
    """A value in a message: what it is, never more than one line of it."""
    text = ascii(value) if isinstance(value, str | int | float | NoneType) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
