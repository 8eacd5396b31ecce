"""The container of the model file: safetensors whose metadata is one JSON document, `carousel`.

The library writes the bytes, the same for the same tensors, and holds every tensor of a file against
its size. What it leaves open is here: which metadata there are, how long a header may be, and that
nothing is read before both are known.
"""

from typing import Any, BinaryIO

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from carousel.errors import ArgumentError, FormatError
from carousel.network.canonical import parse

__all__ = ["HEADER_LIMIT", "pack", "unpack"]

HEADER_LIMIT = 8 * 2**20
"""Bytes of the largest header. It holds names and options, no numbers: a hundred layers need 100 kB."""


def pack(document: str, tensors: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of the file.

    Raises:
        ArgumentError: the document is so long that `unpack` would refuse it.
    """
    if len(document) <= HEADER_LIMIT:  # far above it, the library has a limit of its own
        packed = save(tensors, {"carousel": document})
        if _header_length(packed) <= HEADER_LIMIT:
            return packed
    raise ArgumentError(
        f"the header would take more than {HEADER_LIMIT} bytes; "
        "keep long tuples of strings as Texts and those of numbers as arrays."
    )


def unpack(file: BinaryIO, size: int) -> tuple[str, dict[str, NDArray[Any]]]:
    """The document and the tensors, from the beginning of an open regular file, or of one in memory.

    Args:
        size: of the file, in bytes.

    Raises:
        FormatError: the file is no safetensors file, or one with other metadata.
    """
    if size < 8:
        raise FormatError(f"it has {size} bytes, fewer than any model")
    length = _header_length(file.read(8))
    if length > min(size - 8, HEADER_LIMIT):
        raise FormatError(
            f"a file of {size} bytes cannot have a header of {length} bytes; the limit is {HEADER_LIMIT}"
        )
    header = parse(file.read(length), "the header")
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or [*metadata] != ["carousel"] or type(metadata["carousel"]) is not str:
        raise FormatError("its metadata are not the text `carousel` alone; it was not written by carousel")
    file.seek(0)
    try:
        tensors = load(file.read(size))  # read, not mapped: a mapped file cut short kills the process
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError, ValueError: not for NumPy
        if (needed := _end(header)) > (there := size - 8 - length):
            raise FormatError(
                f"it is cut short: its tensors take {needed} bytes, but {there} are there"
            ) from None
        raise FormatError(f"safetensors cannot read it: {ascii(str(error))[1:-1][:160]}") from None
    return metadata["carousel"], tensors


def _end(header: dict[str, Any]) -> int:
    """Bytes that the tensors of a header take; 0 where it does not say so in numbers."""
    offsets = [entry.get("data_offsets") for entry in header.values() if isinstance(entry, dict)]
    pairs = [pair for pair in offsets if isinstance(pair, list) and len(pair) == 2]
    return max((pair[1] for pair in pairs if type(pair[1]) is int), default=0)


def _header_length(file: bytes) -> int:
    return int.from_bytes(file[:8], "little")
