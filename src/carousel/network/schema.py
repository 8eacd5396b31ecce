"""How a field of each type is kept: one class per form, made from the field's annotation.

`encode(value, path, tensors)` returns the JSON of `value` and puts its arrays into `tensors`;
`decode(tree, path, tensors)` goes back and takes them out. `path` names the place in messages and
the tensor in the file.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from carousel.errors import ArgumentError, CarouselError, FormatError

__all__ = ["Form", "Record", "Texts", "form_of", "kinds"]

kinds: dict[str, type] = {}
"""The registered classes, by kind."""

Json: TypeAlias = Any
Tensors: TypeAlias = dict[str, NDArray[Any]]

Texts: TypeAlias = Annotated[tuple[str, ...], "tensor"]
"""A tuple of strings of any length: a hundred thousand series ids are a tensor, not JSON."""

_TIMES = re.compile(r"datetime64\[(Y|M|W|D|h|m|s|ms|us|ns)\]")


class Form(Protocol):
    def encode(self, value: Any, path: str, tensors: Tensors) -> Json: ...
    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any: ...


@dataclass(frozen=True)
class Scalar:
    """str, int, float, bool: themselves in JSON. A float is finite, and may be written without a point."""

    types: tuple[type, ...]

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if isinstance(value, np.generic):
            value = value.item()
        return self._checked(value, path, ArgumentError)

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        return self._checked(tree, path, FormatError)

    def _checked(self, value: Any, path: str, error: type[CarouselError]) -> Any:
        if type(value) is int and float in self.types and int not in self.types:
            value = float(value) if abs(value) <= 2**53 else value
        if type(value) not in self.types:
            raise error(f"`{path}` must be {_or(t.__name__ for t in self.types)}, got {_short(value)}.")
        if type(value) is float and not math.isfinite(value):
            raise error(f"`{path}` must be finite, got {value}.")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise error(f"`{path}` must fit into 64 bits, got a number of {value.bit_length()} bits.")
        if type(value) is str and not _is_unicode(value):
            raise error(f"`{path}` must be text that UTF-8 can hold, got {_short(value)}.")
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
            raise error(f"`{path}` must be {_or(map(repr, self.names))}, got {_short(value)}.")
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
            raise ArgumentError(f"`{path}` must be a tuple, got {_short(value)}.")
        forms = self._forms(value, path, ArgumentError)
        return [
            f.encode(v, f"{path}.{k}", tensors) for k, (f, v) in enumerate(zip(forms, value, strict=True))
        ]

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        if type(tree) is not list:
            raise FormatError(f"`{path}` must be a list, got {_short(tree)}.")
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
            raise ArgumentError(f"`{path}` must be an array, got {_short(value)}.")
        dtype = value.dtype.newbyteorder("=")
        if not self._takes(dtype.name):
            raise ArgumentError(f"`{path}` must have dtype {_or(self.dtypes)}, got {value.dtype}.")
        kept = np.ascontiguousarray(value, dtype).reshape(value.shape)  # ascontiguousarray makes 0-d 1-d
        tensors[path] = kept.view(np.int64) if dtype.kind == "M" else kept
        return {"array": dtype.name}

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        name = _array_tag(tree, path)
        if not self._takes(name):
            raise FormatError(f"`{path}` must be an array of {_or(self.dtypes)}, got {_short(name)}.")
        if name in ("float32", "float64", "int64"):
            return _take(tensors, path, name)
        return _take(tensors, path, "int64").view(name)

    def _takes(self, name: str) -> bool:
        unit = _TIMES.fullmatch(name)
        return "datetime64" in self.dtypes if unit else name in self.dtypes and name != "datetime64"


@dataclass(frozen=True)
class TextsForm:
    """Strings are {"array": "texts"}: their UTF-8 end to end, `.bytes`, and where each begins, `.offsets`."""

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if type(value) is not tuple or not all(type(text) is str and _is_unicode(text) for text in value):
            raise ArgumentError(
                f"`{path}` must be a tuple of strings that UTF-8 can hold, got {_short(value)}."
            )
        encoded = [text.encode() for text in value]
        tensors[f"{path}.bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        tensors[f"{path}.offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return {"array": "texts"}

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        if _array_tag(tree, path) != "texts":
            raise FormatError(f"`{path}` must be an array of texts, got {_short(tree)}.")
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


@dataclass(frozen=True)
class Record:
    """An instance of one of the registered `classes`: an object of its kind and exactly its fields."""

    classes: tuple[type, ...]

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if type(value) not in self.classes:
            raise ArgumentError(
                f"{_place(path)} must be {_or(c.__name__ for c in self.classes)}, got {_short(value)}."
            )
        kind = _kind(type(value))
        tree: dict[str, Json] = {"kind": kind}
        for name, form in _forms(kind).items():
            tree[name] = form.encode(getattr(value, name), _join(path, name), tensors)
        return tree

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        known = [_kind(cls) for cls in self.classes]
        if type(tree) is not dict or type(tree.get("kind")) is not str or tree["kind"] not in known:
            got = tree.get("kind") if type(tree) is dict else tree
            raise FormatError(f"{_place(path)} must be of kind {_or(map(repr, known))}, got {_short(got)}.")
        forms = _forms(tree["kind"])
        if odd := sorted({"kind", *forms} ^ set(tree)):
            what = "lacks" if odd[0] in forms else "must not have"
            raise FormatError(f"{_place(path)}, of kind {tree['kind']!r}, {what} the field {_short(odd[0])}.")
        values = {name: form.decode(tree[name], _join(path, name), tensors) for name, form in forms.items()}
        try:
            return kinds[tree["kind"]](**values)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # CarouselErrors among them
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{_place(path)}: {error}") from error


@cache
def _forms(kind: str) -> dict[str, Form]:
    cls = kinds[kind]
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: form_of(hints[field.name], f"{cls.__name__}.{field.name}") for field in fields(cls)}


def form_of(hint: Any, where: str) -> Form:
    """The form of what `hint` annotates; a TypeError names `where` if there is none."""
    if get_origin(hint) in (Union, UnionType):
        return _form_of_union(get_args(hint), where)
    if hint in (str, int, float, bool):
        return Scalar((hint,))
    if hint == Texts:
        return TextsForm()
    if hint in kinds.values():
        return Record((hint,))
    if get_origin(hint) is Literal:
        return Choice(get_args(hint))
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        if rest == [...]:
            return Tuple((form_of(first, where),), repeated=True)
        return Tuple(tuple(form_of(item, where) for item in (first, *rest)), repeated=False)
    if get_origin(hint) is np.ndarray:
        scalar = get_args(get_args(hint)[1])[0]
        if scalar in _ARRAYS:
            return Array((_ARRAYS[scalar],))
    raise TypeError(f"{where}: a document cannot hold {hint}; carousel.network.document lists what it can.")


_ARRAYS = {np.float32: "float32", np.float64: "float64", np.int64: "int64", np.datetime64: "datetime64"}


def _form_of_union(hints: tuple[Any, ...], where: str) -> Form:
    forms = [form_of(hint, where) for hint in hints if hint is not NoneType]
    first = forms[0]
    if len(forms) > 1:
        merge: dict[type, Callable[[], Form]] = {
            Scalar: lambda: Scalar(sum((f.types for f in forms), ())),  # type: ignore[attr-defined]
            Array: lambda: Array(sum((f.dtypes for f in forms), ())),  # type: ignore[attr-defined]
            Record: lambda: Record(sum((f.classes for f in forms), ())),  # type: ignore[attr-defined]
        }
        if type(first) not in merge or any(type(f) is not type(first) for f in forms):
            raise TypeError(f"{where}: a union must be of scalars, of arrays or of registered classes.")
        first = merge[type(first)]()
    return Optional(first) if NoneType in hints else first


def _take(tensors: Tensors, name: str, dtype: str) -> NDArray[Any]:
    if name not in tensors:
        raise FormatError(f"the tensor `{name}` is missing.")
    tensor = tensors.pop(name)
    if tensor.dtype.name != dtype:
        raise FormatError(f"the tensor `{name}` must be {dtype}, got {tensor.dtype.name}.")
    return tensor


def _array_tag(tree: Json, path: str) -> str:
    if type(tree) is not dict or set(tree) != {"array"} or type(tree["array"]) is not str:
        raise FormatError(f"`{path}` must be an array, got {_short(tree)}.")
    return tree["array"]


def _kind(cls: type) -> str:
    return next(kind for kind, known in kinds.items() if known is cls)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(path: str) -> str:
    return f"`{path}`" if path else "the value"


def _or(words: Any) -> str:
    return " or ".join(words)


def _short(value: object) -> str:
    """A value in a message: what it is, never more than one line of it."""
    text = ascii(value) if isinstance(value, str | int | float | NoneType) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
