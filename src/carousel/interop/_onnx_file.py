"""An ONNX model out of a file that may be hostile, whole in memory; imports onnx, so it is imported late."""

from __future__ import annotations

import os
import stat
from collections import Counter
from math import prod
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from carousel.errors import FormatError, UnsupportedError

__all__ = ["model_at", "model_of"]

LIMIT = 2**31 - 1  # bytes: protobuf's own
EXPANSION = 20  # of bytes in another file, which several tensors may share


def model_at(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The checked model in the file at `path`, with what it keeps in other files of the same folder.

    Raises:
        FormatError: the file is damaged, hostile or no ONNX model.
        UnsupportedError: tensors of a kind that no recurrent layer has.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("it is not a regular file")
    if status.st_size > LIMIT:
        raise FormatError(f"it has {status.st_size} bytes; the limit is {LIMIT}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except DecodeError:
        raise FormatError("it is no ONNX model") from None
    return _checked(model, Path(os.path.realpath(path)).parent)


def model_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The checked model of one in memory.

    Raises:
        FormatError, UnsupportedError: as of a file; also tensors that are kept in other files.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return _checked(copy, None)


def _checked(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    if not model.graph.node:
        raise FormatError("it is no ONNX model, or one without nodes")
    taken: Counter[Path] = Counter()
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            if folder is None:
                raise UnsupportedError("it keeps tensors in other files; give the path of its own")
            _take_in(tensor, folder, taken)
        _check_size(tensor)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise FormatError(
            f"onnx's checker refuses it: {' '.join(ascii(str(error))[1:-1].split())[:160]}"
        ) from None
    return model


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """The initializers, and those of nodes that hold a constant."""
    if model.graph.sparse_initializer or model.functions:
        raise UnsupportedError("it has sparse tensors or functions of its own, which are not supported")
    constants = [
        a.t for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR
    ]
    return [*model.graph.initializer, *constants]


def _check_size(tensor: TensorProto) -> None:
    """Refuses a tensor whose shape is not that of its numbers."""
    name = tensor.name[:60]
    try:
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise UnsupportedError(
            f"tensor {name!r} has data type {tensor.data_type}, which is not supported"
        ) from None
    if any(n < 0 for n in tensor.dims):
        raise FormatError(f"tensor {name!r} has shape {tuple(tensor.dims)}")
    fields = (tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data, tensor.uint64_data)
    there = len(tensor.raw_data) // itemsize if tensor.raw_data else max(map(len, fields))
    if prod(tensor.dims) != there and tensor.data_type != TensorProto.STRING:
        raise FormatError(f"tensor {name!r} has shape {tuple(tensor.dims)}, but {there} numbers")


def _take_in(tensor: TensorProto, folder: Path, taken: Counter[Path]) -> None:
    """Reads what a tensor keeps in another file of the model's folder; `taken` are the bytes read of each so far."""
    name, entries = tensor.name[:60], {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location)
    inside = location.isprintable() and bool(location) and not parts.is_absolute()
    inside = inside and ".." not in parts.parts and "\\" not in location
    target = Path(os.path.realpath(folder / location)) if inside else folder
    if not inside or not target.is_relative_to(folder) or not os.path.isfile(target):
        raise FormatError(
            f"tensor {name!r} is kept in {location[:80]!r}, which is no file in the folder of the model"
        )
    try:
        offset = int(entries.get("offset") or 0)
        wanted = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        length = int(entries.get("length") or wanted)
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"tensor {name!r} has no place in {location[:80]!r} that can be read") from None
    size = target.stat().st_size
    if offset < 0 or wanted < 0 or offset + wanted > size or length != wanted:
        raise FormatError(
            f"tensor {name!r} takes {wanted} bytes from {offset} on, but {location[:80]!r} has {size}"
        )
    taken[target] += wanted
    if taken[target] > EXPANSION * size:
        raise FormatError(
            f"tensor {name!r} and those before it take {taken[target]} bytes of {location[:80]!r}, which has {size}; "
            f"the limit is {EXPANSION} times as many"
        )
    with open(target, "rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(wanted)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
