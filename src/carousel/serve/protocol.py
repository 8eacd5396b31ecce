"""Requests and responses of the Open Inference Protocol, version 2, as JSON; every doubt is a RequestError."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite, prod
from typing import Any

import numpy as np

from carousel.errors import CarouselError
from carousel.serve.limits import Limits

__all__ = [
    "MESSAGE",
    "InferRequest",
    "RequestError",
    "Sequence",
    "check_keys",
    "parse_id",
    "parse_infer",
    "parse_json",
    "parse_sequence",
    "quoted",
    "tensor",
]

Array = np.ndarray[Any, Any]

_DTYPES = {
    "FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "INT16": np.int16,
    "INT8": np.int8, "UINT64": np.uint64, "UINT32": np.uint32, "UINT16": np.uint16, "UINT8": np.uint8,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_OBJECTS: dict[str, tuple[type, str]] = {"BYTES": (str, "texts"), "BOOL": (bool, "true or false")}
_REQUEST = ("id", "model_name", "model_version", "parameters", "inputs", "outputs")
_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end", "unique_id")
_UNUSED = ("binary_data_output", "priority", "timeout")  # that clients of the protocol send to any server
_LONGEST = 256  # characters of a name that a client gives
_MOST = 256  # tensors of a request

MESSAGE = ("id", "sequence_id", "sequence_start", "sequence_end")
"""What every message of a WebSocket may have."""


class RequestError(CarouselError):
    """A request that cannot be served; the text tells the client why.

    Args:
        status: of HTTP, 400 to 499, or 503.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Sequence:
    """Which sequence a request belongs to, and whether it is its first or last one."""

    id: str
    start: bool = False
    end: bool = False


@dataclass(frozen=True)
class InferRequest:
    """A checked request.

    Args:
        id: of the request, to be given back; None without.
        inputs: arrays of numbers by name; of str for BYTES and of bool for BOOL, NaN where missing.
        parameters: as they came.
        sequence: None for a request that stands alone.
        outputs: the names that are asked for; None for all.
    """

    id: str | None
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    sequence: Sequence | None
    outputs: tuple[str, ...] | None = field(default=None)


def parse_json(body: bytes | str) -> dict[str, Any]:
    """An object.

    Raises:
        RequestError: it is none, or holds numbers that JSON does not know.
    """

    def refuse(name: str) -> Any:
        raise RequestError(f"{name} is not JSON; a missing value is null.")

    try:
        tree = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body must be a JSON object: {_why(error)}.") from None
    if not isinstance(tree, dict):
        raise RequestError(f"The body must be a JSON object, got {_kind(tree)}.")
    return tree


def _why(error: ValueError | RecursionError) -> str:
    """What is wrong with a text that is no JSON."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)[:200]
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number in it is too long"


def parse_infer(body: bytes, limits: Limits) -> InferRequest:
    """The request in `body`.

    Raises:
        RequestError: it is not one of the protocol, or too large.
    """
    tree = parse_json(body)
    check_keys("a request", tree, _REQUEST)
    id = parse_id(tree)
    if isinstance(id, int):
        raise RequestError("`id` must be a text, got a number.")
    listed = tree.get("inputs", [])
    if not isinstance(listed, list) or len(listed) > _MOST:
        raise RequestError(f"`inputs` must be a list of at most {_MOST} tensors.")
    inputs: dict[str, Array] = {}
    for k, item in enumerate(listed):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
            raise RequestError(f"`inputs[{k}]` must be an object with a `name`.")
        if name in inputs:
            raise RequestError(f"input {name[:40]!r} is there twice.")
        inputs[name] = _array(item, f"input {name[:40]!r}", limits)
    parameters = tree.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"`parameters` must be an object, got {_kind(parameters)}.")
    check_keys("`parameters`", parameters, _PARAMETERS + _UNUSED)
    return InferRequest(id, inputs, parameters, parse_sequence(parameters), _outputs(tree.get("outputs")))


def parse_id(tree: Mapping[str, Any]) -> str | int | None:
    """The `id` of a request or message, which its answer carries; None without.

    Raises:
        RequestError: it is no short text and no whole number.
    """
    id = tree.get("id")
    if id is None:
        return None
    if isinstance(id, bool) or not isinstance(id, int | str) or len(str(id)) > _LONGEST:
        raise RequestError(
            f"`id` must be a text of at most {_LONGEST} characters or a whole number, got {_kind(id)}."
        )
    if isinstance(id, str):
        _check_text("`id`", id)
    return id


def parse_sequence(parameters: Mapping[str, Any]) -> Sequence | None:
    """What `sequence_id`, `sequence_start` and `sequence_end` say; None where there is no id, or 0.

    Raises:
        RequestError: one of them is not what it must be.
    """
    id = parameters.get("sequence_id", 0)
    flags = {}
    for name in ("sequence_start", "sequence_end"):
        flags[name] = parameters.get(name, False)
        if not isinstance(flags[name], bool):
            raise RequestError(f"`{name}` must be true or false, got {_kind(flags[name])}.")
    if isinstance(id, bool) or not isinstance(id, int | str) or (isinstance(id, str) and len(id) > _LONGEST):
        raise RequestError(
            f"`sequence_id` must be a whole number or a text of at most {_LONGEST} characters, got {_kind(id)}."
        )
    if isinstance(id, int) and not 0 <= id < 2**64:
        raise RequestError("`sequence_id` as a number must be between 0 and 2^64 - 1.")
    if id in (0, ""):
        if any(flags.values()):
            raise RequestError("`sequence_start` and `sequence_end` need a `sequence_id` that is not 0.")
        return None
    if isinstance(id, str):
        _check_text("`sequence_id`", id)
    return Sequence(str(id), flags["sequence_start"], flags["sequence_end"])


def tensor(name: str, array: Array) -> dict[str, Any]:
    """An array as an output; NaN is null, and text BYTES."""
    if array.dtype.kind in "UO":
        datatype, data = "BYTES", array.reshape(-1).tolist()
    else:
        datatype, data = _NAMES[array.dtype], array.reshape(-1).tolist()
        if array.dtype.kind == "f":
            data = [number if isfinite(number) else None for number in data]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _array(item: dict[str, Any], what: str, limits: Limits) -> Array:
    datatype, shape, data = item.get("datatype"), item.get("shape"), item.get("data")
    if not isinstance(datatype, str) or datatype not in {*_DTYPES, *_OBJECTS}:
        raise RequestError(f"the datatype of {what} must be one of {', '.join([*_DTYPES, *_OBJECTS])}.")
    if (
        not isinstance(shape, list)
        or not all(type(size) is int and 0 <= size < 2**31 for size in shape)
        or len(shape) > 8
    ):
        raise RequestError(f"the shape of {what} must be a list of at most 8 whole numbers of at least 0.")
    if prod(shape) > limits.elements:
        raise RequestError(
            f"{what} of shape {shape} has {prod(shape)} elements; at most {limits.elements} are taken."
        )
    if (size := prod(max(size, 1) for size in shape)) > limits.elements:  # rows of nothing take memory, too
        raise RequestError(
            f"{what} of shape {shape}, an axis of 0 counted as one of 1, has {size} elements; "
            f"at most {limits.elements} are taken."
        )
    if not isinstance(data, list):
        raise RequestError(f"the data of {what} must be a list, got {_kind(data)}.")
    flat = _flat(data, what, limits)
    if len(flat) != prod(shape):
        raise RequestError(
            f"the data of {what} must have {prod(shape)} elements for shape {shape}, got {len(flat)}."
        )
    if datatype in _OBJECTS:
        return _objects(flat, datatype, what).reshape(shape)
    return _numbers(flat, _DTYPES[datatype], what).reshape(shape)


def _flat(data: list[Any], what: str, limits: Limits) -> list[Any]:
    """Nested lists, one element after the other."""
    flat = data
    while any(isinstance(item, list) for item in flat):
        if not all(isinstance(item, list) for item in flat):
            raise RequestError(f"the data of {what} must be nested evenly, or flat.")
        flat = [inner for item in flat for inner in item]
    if len(flat) > limits.elements:
        raise RequestError(f"the data of {what} must have at most {limits.elements} elements.")
    return flat


def _objects(flat: list[Any], datatype: str, what: str) -> Array:
    """Texts, or truth values, NaN where missing."""
    kind, called = _OBJECTS[datatype]
    for value in flat:
        if value is not None and not isinstance(value, kind):
            raise RequestError(
                f"the data of {what} must be {called}, or null where missing, got {_kind(value)}."
            )
        if isinstance(value, str):
            _check_text(what, value)
    return np.array([np.nan if value is None else value for value in flat], object)


def _numbers(flat: list[Any], dtype: Any, what: str) -> Array:
    floating = np.issubdtype(dtype, np.floating)
    for value in flat:
        if value is None and floating:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RequestError(f"the data of {what} must be numbers, got {_kind(value)}.")
        if not floating and not isinstance(value, int):
            raise RequestError(f"the data of {what} must be whole numbers, got {value}.")
    try:
        with np.errstate(over="ignore"):
            array = np.array([np.nan if value is None else value for value in flat], dtype)
    except (OverflowError, ValueError):
        raise RequestError(f"the data of {what} hold a number that does not fit.") from None
    if floating and np.isinf(array).any():
        raise RequestError(f"the data of {what} must be finite, or null where missing.")
    return array


def check_keys(what: str, tree: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuses an object with other keys: one that is misspelt would be as if it were not there.

    Raises:
        RequestError: it has some; the text names them.
    """
    unknown = [key for key in tree if key not in known]
    if unknown:
        raise RequestError(f"{what} must be of {', '.join(known)}, got {quoted(unknown)}.")


def quoted(names: Iterable[str]) -> str:
    """The first names that a client gave, for an error."""
    return ", ".join(repr(name[:60]) for name in islice(names, 8))


def _outputs(listed: Any) -> tuple[str, ...] | None:
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in listed
    ):
        raise RequestError("`outputs` must be a list of objects with a `name`.")
    return tuple(item["name"] for item in listed) or None


def _check_text(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{what} holds half of a character.") from None


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}[type(value)]
