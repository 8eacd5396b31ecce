"""The container of the model file: safetensors, in the one form that we write.

    8 bytes     N, little-endian
    N bytes     {"__metadata__":{"carousel":document},name:{"dtype":...,"shape":...,"data_offsets":...},...}
                and spaces up to a multiple of 8
    the rest    the numbers, little-endian, in the order of the header, with nothing between them

Any safetensors library reads it. We write it ourselves so that the same model gives the same bytes
whatever library is installed, and read it ourselves because every promise of a header is held against
the size of the file before memory is taken for it.
"""

import json
import os
import struct
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from carousel.errors import ArgumentError, FormatError

__all__ = ["HEADER_LIMIT", "Contents", "canonical", "pack", "parse", "unpack"]

HEADER_LIMIT = 8 * 2**20
"""Bytes of the largest header. It holds names and options, no numbers: a hundred layers need 100 kB."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "U8": np.dtype("u1"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_WIDEST_FIRST = list(_DTYPES)  # so every tensor begins at a multiple of its item, as its reader needs


@dataclass(frozen=True)
class Contents:
    """What a container holds, and the bytes that say so."""

    document: str
    tensors: dict[str, NDArray[Any]]
    parts: tuple[bytes, bytes, bytes]  # length, header, numbers


def pack(document: str, tensors: dict[str, NDArray[Any]]) -> list[bytes]:
    """The parts of the file, one after the other: length, header, tensors.

    Raises:
        ArgumentError: the document is so long that `unpack` would refuse it.
    """
    header: dict[str, Any] = {"__metadata__": {"carousel": document}}
    parts: list[bytes] = []
    end = 0
    named = ((_CODES[tensor.dtype], name, tensor) for name, tensor in tensors.items())
    for code, name, tensor in sorted(named, key=lambda item: _place(item[0], item[1])):
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        parts.append(tensor.tobytes())
    text = canonical(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise ArgumentError(
            f"the header would take {len(text)} bytes, the limit is {HEADER_LIMIT}; "
            "keep long tuples of strings as Texts and those of numbers as arrays."
        )
    return [struct.pack("<Q", len(text)), text, *parts]


def unpack(file: BinaryIO) -> Contents:
    """Reads a container, and nothing else, from an open regular file.

    Raises:
        FormatError: the file is not exactly what `pack` would have written.
    """
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise FormatError(f"a model file has at least 8 bytes, this one has {size}")
    start = _read(file, 8)
    (length,) = struct.unpack("<Q", start)
    if length > size - 8:
        raise FormatError(
            f"its header should have {length} bytes, but the file ends after {size - 8} of them"
        )
    if length > HEADER_LIMIT or length % 8:
        raise FormatError(f"its header must have a multiple of 8 bytes, at most {HEADER_LIMIT}, got {length}")
    text = _read(file, length)
    written = text.rstrip(b" ")
    if length - len(written) > 7:
        raise FormatError("its header is followed by more than 7 spaces")
    header = parse(_decoded(written), "the header")
    document, extents = _checked(header, size - 8 - length)
    numbers = _read(file, size - 8 - length)
    tensors = {
        name: np.frombuffer(numbers, dtype, prod(shape), begin).reshape(shape)
        for name, (dtype, shape, begin) in extents.items()
    }
    return Contents(document, tensors, (start, text, numbers))


def canonical(tree: Any) -> str:
    """The one way to write a JSON tree: no spaces, the order as it is, UTF-8 as it is, shortest floats."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(text: str, what: str) -> Any:
    """The JSON tree that `text` is the canonical form of.

    Raises:
        FormatError: it is none; `what` names it.
    """
    try:
        tree = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_float,
        )
        written = canonical(tree)
    except FormatError as error:
        raise FormatError(f"{what} {error}") from None
    except RecursionError:
        raise FormatError(f"{what} is nested too deeply") from None
    except ValueError:
        raise FormatError(f"{what} is not JSON") from None
    if written != text:
        raise FormatError(f"{what} is not written in the canonical form")
    return tree


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


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise FormatError("the header is not UTF-8") from None


def _checked(header: Any, size: int) -> tuple[str, dict[str, tuple[np.dtype[Any], list[int], int]]]:
    """The document, and (dtype, shape, begin) of each tensor, which fill `size` bytes without a gap."""
    first = next(iter(header), None) if isinstance(header, dict) else None
    metadata = header.pop(first) if first == "__metadata__" else None
    if not isinstance(metadata, dict) or [*metadata] != ["carousel"] or type(metadata["carousel"]) is not str:
        raise FormatError(
            "it does not begin with the metadata `carousel` alone; it was not written by carousel"
        )
    extents: dict[str, tuple[np.dtype[Any], list[int], int]] = {}
    end = 0
    for name, entry in header.items():
        what = f"the tensor {ascii(name)[:60]}"
        if not isinstance(entry, dict) or [*entry] != ["dtype", "shape", "data_offsets"]:
            raise FormatError(f"{what} must have dtype, shape and data_offsets, in this order")
        dtype, shape = _DTYPES.get(str(entry["dtype"])), entry["shape"]
        if dtype is None:
            raise FormatError(f"{what} must be one of {', '.join(_DTYPES)}")
        if not _is_shape(shape):
            raise FormatError(f"{what} must have a shape of at most 8 axes and 2^60 bytes")
        begin, end = end, end + prod(shape) * dtype.itemsize
        if canonical(entry["data_offsets"]) != canonical([begin, end]):  # [false, 8.0] is not [0, 8]
            raise FormatError(f"{what} must lie at bytes {begin} to {end}, where the one before it ends")
        extents[name] = (dtype, shape, begin)
    if [*extents] != sorted(extents, key=lambda name: _place(_CODES[extents[name][0]], name)):
        raise FormatError("its tensors must be ordered by dtype, widest first, and by name")
    if end != size:
        raise FormatError(f"its tensors take {end} bytes, but {size} bytes are there")
    return metadata["carousel"], extents


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= 8
        and all(type(n) is int and n >= 0 for n in shape)
        and 8 * prod(max(n, 1) for n in shape) <= 2**60  # an empty array may still have absurd axes
    )


def _place(code: str, name: str) -> tuple[int, str]:
    return _WIDEST_FIRST.index(code), name


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise FormatError("it became shorter while it was read")
    return data
