"""The form of every field of every registered class, from the annotations of its fields."""

from dataclasses import Field, dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

from carousel.errors import ArgumentError, FormatError
from carousel.network.forms import (
    Array,
    Choice,
    Form,
    Json,
    Optional,
    Scalar,
    Tensors,
    Text,
    Tuple,
    either,
    short,
)

__all__ = ["Record", "Texts", "form_of", "format_of", "kind_of", "kinds", "since_of"]

kinds: dict[str, type] = {}
"""The registered classes, by kind."""

since_of: dict[str, int] = {}
"""The first format that knows a kind."""

Texts: TypeAlias = Annotated[tuple[str, ...], "tensor"]
"""A tuple of strings of any length: a hundred thousand series ids are a tensor, not JSON."""

_SCALARS = (str, int, float, bool)
_ARRAYS = {np.float32: "float32", np.float64: "float64", np.int64: "int64", np.datetime64: "datetime64"}


@dataclass(frozen=True)
class Record:
    """An instance of one of the registered `classes`: an object of its kind and exactly its fields."""

    classes: tuple[type, ...]

    def encode(self, value: Any, path: str, tensors: Tensors) -> Json:
        if type(value) not in self.classes:
            raise ArgumentError(
                f"{_place(path)} must be {either(c.__name__ for c in self.classes)}, got {short(value)}."
            )
        kind = kind_of(type(value))
        tree: dict[str, Json] = {"kind": kind}
        for name, form in _forms(kind).items():
            field = getattr(value, name)
            if name not in _later(kind) or not _is_default(_later(kind)[name], field):
                tree[name] = form.encode(field, _join(path, name), tensors)
        return tree

    def decode(self, tree: Json, path: str, tensors: Tensors) -> Any:
        known = [kind_of(cls) for cls in self.classes]
        if type(tree) is not dict or type(tree.get("kind")) is not str or tree["kind"] not in known:
            got = tree.get("kind") if type(tree) is dict else tree
            wanted = f"kind {either(map(repr, known))}" if len(known) <= 8 else "kind known to this version"
            raise FormatError(f"{_place(path)} must be of {wanted}, got {short(got)}.")
        later = _later(tree["kind"])
        forms = {name: f for name, f in _forms(tree["kind"]).items() if name in tree or name not in later}
        if [*tree] != ["kind", *forms]:
            raise FormatError(
                f"{_place(path)}, of kind {tree['kind']!r}, must have the fields "
                f"{', '.join(forms) or 'none'}, in this order, got {short(', '.join(list(tree)[1:]))}."
            )
        values = {name: form.decode(tree[name], _join(path, name), tensors) for name, form in forms.items()}
        for name in values.keys() & later.keys():
            if _is_default(later[name], values[name]):
                raise FormatError(f"`{_join(path, name)}` must be left out where it is {values[name]!r}.")
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


@cache
def _later(kind: str) -> dict[str, Field[Any]]:
    """The fields of a kind that came with a later format than the kind itself."""
    return {field.name: field for field in fields(kinds[kind]) if "since" in field.metadata}


def _is_default(field: Field[Any], value: object) -> bool:
    return type(value) is type(field.default) and value == field.default


def format_of(tree: Json) -> int:
    """The first format that knows all kinds and fields of a tree that `Record.encode` has made."""
    if isinstance(tree, list):
        return max(map(format_of, tree), default=1)
    if not isinstance(tree, dict) or "kind" not in tree:
        return 1
    later: list[int] = [f.metadata["since"] for name, f in _later(tree["kind"]).items() if name in tree]
    return max(since_of[tree["kind"]], *later, *map(format_of, tree.values()))


def form_of(hint: Any, where: str) -> Form:
    """The form of what `hint` annotates; a TypeError names `where` if there is none."""
    if get_origin(hint) in (Union, UnionType):
        return _form_of_union(get_args(hint), where)
    if hint in _SCALARS:
        return Scalar((hint,))
    if hint == Texts:
        return Text()
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


def _form_of_union(hints: tuple[Any, ...], where: str) -> Form:
    forms = [form_of(hint, where) for hint in hints if hint is not NoneType]
    form = forms[0] if len(forms) == 1 else _merged(forms)
    if form is None:
        raise TypeError(f"{where}: a union must be of scalars, of arrays or of registered classes.")
    return Optional(form) if NoneType in hints else form


def _merged(forms: list[Form]) -> Form | None:
    """One form for what several take, if they are of a sort."""
    if all(isinstance(form, Scalar) for form in forms):
        return Scalar(tuple(t for form in forms for t in form.types))  # type: ignore[attr-defined]
    if all(isinstance(form, Array) for form in forms):
        return Array(tuple(d for form in forms for d in form.dtypes))  # type: ignore[attr-defined]
    if all(isinstance(form, Record) for form in forms):
        return Record(tuple(c for form in forms for c in form.classes))  # type: ignore[attr-defined]
    return None


def kind_of(cls: type) -> str:
    """The kind that a registered class is kept as."""
    return next(kind for kind, known in kinds.items() if known is cls)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _place(path: str) -> str:
    return f"`{path}`" if path else "the value"
