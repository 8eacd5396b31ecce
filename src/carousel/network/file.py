"""The model file: one document and its tensors, sealed by a SHA-256. Specified in docs/model-file.md.

The document is `{"format":1,"sha256":"...","value":{"kind":...}}`. The digest is that of the whole
file, with the 64 digits themselves written as zeros: any byte that changes is noticed.
"""

import os
import stat
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from carousel.errors import CarouselError, FormatError
from carousel.network import atomic
from carousel.network.container import canonical, pack, parse, unpack
from carousel.network.document import decode, encode

__all__ = ["FORMAT", "load", "save"]

FORMAT = 1
_BLANK = "0" * 64


def save(value: object, path: str | os.PathLike[str]) -> None:
    """Writes `value`, a Network or another registered value, to exactly `path`.

    The same value gives the same bytes. The file is replaced as a whole: whoever reads it meanwhile,
    and whatever goes wrong, sees the old one or the new one.

    Raises:
        ArgumentError: `value` cannot be kept, or `path` is a directory or a device.
        OSError: the system could not write; the old file is untouched.

    Example:
        >>> import numpy as np, tempfile
        >>> from carousel.network import Dense, Network
        >>> network = Network((Dense(np.eye(2)),))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     save(network, f"{directory}/identity.carousel")
        ...     load(f"{directory}/identity.carousel") == network
        True
    """
    tree, tensors = encode(value)
    start, header, *numbers = pack(canonical({"format": FORMAT, "sha256": _BLANK, "value": tree}), tensors)
    digest = _digest([start, header, *numbers])
    atomic.write(path, [start, header.replace(_BLANK.encode(), digest.encode(), 1), *numbers])


def load(path: str | os.PathLike[str]) -> Any:
    """The value that `save` wrote to `path`: a Network, or what a forecaster has learned.

    Raises:
        FormatError: the file is damaged, foreign, or of a newer format; the text says which.
        OSError: the system could not read.
    """
    try:
        return _load(path)
    except CarouselError as error:
        raise FormatError(f"{os.fspath(path)}: {str(error).rstrip('.')}.") from error


def _load(path: str | os.PathLike[str]) -> Any:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
        raise FormatError("it is not a regular file")
    with open(path, "rb") as file:
        contents = unpack(file)
    document = parse(contents.document, "the document")
    if type(document) is not dict or type(document.get("format")) is not int:
        raise FormatError("the document has no format number")
    if document["format"] != FORMAT:
        raise FormatError(
            f"the file has format {document['format']}, this version of carousel reads format {FORMAT}; "
            "a newer one may read it"
        )
    if [*document] != ["format", "sha256", "value"] or type(document["sha256"]) is not str:
        raise FormatError("the document must have format, sha256 and value, in this order")
    start, header, numbers = contents.parts
    blank = header.replace(document["sha256"].encode(), _BLANK.encode(), 1)
    if document["sha256"] != _digest([start, blank, numbers]):
        raise FormatError("the file is damaged: its bytes do not give the SHA-256 that it states")
    value = decode(document["value"], contents.tensors)
    if contents.tensors:
        raise FormatError(f"the tensor {ascii(min(contents.tensors))[:60]} belongs to nothing")
    return value


def _digest(parts: Sequence[bytes]) -> str:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
