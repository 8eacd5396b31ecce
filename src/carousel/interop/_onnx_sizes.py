"""Sizes that an ONNX graph works out, to reshape by: which axes of its values they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["Sizes"]

Array = NDArray[Any]

_SAME = ("Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity")  # they move sizes, and change none
_MOST = 8  # sizes in a row, and axes in a product; a value has four


class Sizes:
    """Follows rows of sizes: each the letter of an axis, letters of those that it is the product of, or a number.

    Args:
        constants: of the graph, by name.
    """

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self._constants = constants
        self._known: dict[str, tuple[str | int, ...]] = {}

    def of(self, name: str) -> tuple[str | int, ...] | None:
        """What the sizes of this name are; None where it is nothing that was followed."""
        return self._known.get(name)

    def shape(self, node: onnx.NodeProto, attributes: Mapping[str, Any], axes: str) -> None:
        """Notes the output of a Shape of a value with these axes."""
        self._known[node.output[0]] = tuple(axes)[attributes.get("start", 0) : attributes.get("end")]

    def follow(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
        """Notes the output of a node that cuts, joins or multiplies sizes."""
        rows = [self._row(name) for name in node.input]
        if not any(name in self._known for name in node.input) or rows[0] is None:
            return
        found: tuple[str | int, ...] | None = None
        if node.op_type in _SAME:
            found = rows[0]
        elif node.op_type == "Concat" and None not in rows:
            found = tuple(size for row in rows if row is not None for size in row)
        elif node.op_type == "Mul" and [row and len(row) for row in rows] == [1, 1]:
            one, two = (row[0] for row in rows if row)
            if isinstance(one, str) and isinstance(two, str) and len(one) + len(two) <= _MOST:
                found = (one + two,)
        elif node.op_type == "Gather" and rows[1] and isinstance(k := rows[1][0], int):
            found = rows[0][k:][:1] if len(rows[1]) == 1 else None
        elif node.op_type == "Slice" and len(rows) in (3, 4):
            start, stop = (row[0] if row else None for row in rows[1:3])
            if isinstance(start, int) and isinstance(stop, int):
                found = rows[0][start:stop]
        if found is not None and len(found) <= _MOST:
            self._known[node.output[0]] = found

    def _row(self, name: str) -> tuple[str | int, ...] | None:
        array = self._constants.get(name)
        if array is None or array.dtype.kind not in "iu" or array.size > _MOST:
            return self._known.get(name)
        return tuple(np.ravel(array).tolist())
