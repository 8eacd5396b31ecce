"""The model file: one document and its tensors, sealed by a SHA-256. Specified in docs/model-file.md.

The document is `{"format":1,"sha256":"...","value":{"kind":...}}`, the format the first that knows all that the value
holds, so that older versions read whatever they can. The digest is that of the document,
with its own 64 digits written as zeros, and of every tensor's name, dtype, shape and bytes: whatever
changes the model is noticed, however a version of safetensors writes its header.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from carousel.errors import CarouselError, FormatError
from carousel.network import atomic
from carousel.network.canonical import canonical, parse
from carousel.network.container import pack, unpack
from carousel.network.document import decode, encode
from carousel.network.schema import format_of

__all__ = ["FORMATS", "from_bytes", "load", "save", "to_bytes"]

FORMATS = (1, 2, 3)

_FOREIGN = (".keras", ".h5", ".hdf5", ".onnx", ".pt", ".pth")
_CONVERT = "`carousel convert FILE model.carousel` makes a carousel model of what it can read"
_RENAMED = ", once its name ends in what it is: .keras or .h5 of Keras, .pt of torch"


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
    atomic.write(path, [to_bytes(value)])


def to_bytes(value: object) -> bytes:
    """What `save` would write.

    Raises:
        ArgumentError: `value` cannot be kept.
    """
    tree, tensors = encode(value)
    document = {"format": format_of(tree), "sha256": "", "value": tree}
    document["sha256"] = _digest(document, tensors)
    return pack(canonical(document), tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """The value that `save` wrote to `path`: a Network, or what a forecaster has learned.

    Raises:
        FormatError: the file is damaged, foreign, or of a newer format; the text says which.
        OSError: the system could not read.
    """
    with _naming(f"{os.fspath(path)} is not a carousel model"):
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
            raise FormatError("it is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if foreign := _foreign(file.read(8)):
                known = Path(path).suffix.lower() in _FOREIGN
                raise FormatError(f"it is {foreign}; {_CONVERT}{'' if known else _RENAMED}")
            file.seek(0)
            try:
                document, tensors = _document(file, size)
            except FormatError as error:
                if Path(path).suffix.lower() not in _FOREIGN:
                    raise
                raise FormatError(f"by its name it is of another format; {_CONVERT}") from error
    with _naming(os.fspath(path)):
        return _value(document, tensors)


def from_bytes(data: bytes) -> Any:
    """The value that `to_bytes` gave `data` for.

    Raises:
        FormatError: `data` is damaged, foreign, or of a newer format.
    """
    with _naming("the data is not a carousel model"):
        document, tensors = _document(io.BytesIO(data), len(data))
    with _naming("the data"):
        return _value(document, tensors)


def _foreign(start: bytes) -> str:
    """What a file that begins like this is, where that is plain; as lengths of a header both are far too long."""
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive, as Keras and torch write them"
    return "an HDF5 file, as Keras writes them" if start == b"\x89HDF\r\n\x1a\n" else ""


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Within it, every error is a FormatError about `subject`."""
    try:
        yield
    except RecursionError:
        raise FormatError(f"{subject}: it is nested too deeply.") from None
    except CarouselError as error:
        raise FormatError(f"{subject}: {str(error).rstrip('.')}.") from error


def _document(file: BinaryIO, size: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What makes a file a model of ours: the container, and a document with a format number."""
    text, tensors = unpack(file, size)
    document = parse(text, "the document")
    if canonical(document) != text:
        raise FormatError("the document is not written in the canonical form")
    if type(document) is not dict or type(document.get("format")) is not int:
        raise FormatError("the document has no format number")
    return document, tensors


def _value(document: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Any:
    """The value of a document, sealed and complete."""
    if document["format"] not in FORMATS:
        newer = "; a newer one may read it" * (document["format"] > FORMATS[-1])
        raise FormatError(
            f"the file has format {document['format']}, this version of carousel reads formats 1 to {FORMATS[-1]}"
            f"{newer}"
        )
    if [*document] != ["format", "sha256", "value"]:
        raise FormatError("the document must have format, sha256 and value, in this order")
    if document["sha256"] != _digest(document, tensors):
        raise FormatError("the file is damaged: document and tensors do not give the SHA-256 that it states")
    value = decode(document["value"], tensors)
    needed = format_of(document["value"])
    if document["format"] != needed:
        raise FormatError(
            f"the file says format {document['format']}, but what it holds is of format {needed}"
        )
    if tensors:
        raise FormatError(f"the tensor {ascii(min(tensors))[:60]} belongs to nothing")
    return value


def _digest(document: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> str:
    """Each part says where it ends, a JSON tree by its brackets and a tensor by the shape before it."""
    digest = sha256(canonical({**document, "sha256": "0" * 64}).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(canonical([name, tensor.dtype.name, tensor.shape]).encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
