"""States in an ONNX graph: what recurrent nodes begin with, and what becomes of their last ones.

A node begins with zeros, however they come to their size (which is never worked out: nothing is made of a size that a
file claims), with an input of the graph, or with some rows of one: torch gives all layers' states as one input and cuts
it. The last states of all layers may be joined again, of which a graph
then takes that of the top, or of both its directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import FormatError, UnsupportedError
from carousel.interop._onnx_node import KINDS

if TYPE_CHECKING:
    import onnx

    from carousel.interop._onnx_graph import Value

__all__ = ["Given", "Half", "Placed", "States"]

Array = NDArray[Any]

_SIZES = ("Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice", "Identity")
_MOVES = ("Slice", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Cast", "Concat")
_TO_THE_END = 2**31 - 1


@dataclass(frozen=True)
class Given:
    """Rows of an input of the graph along its first axis: the states of one layer's directions.

    Args:
        name: of the input.
        start, stop: the rows; `stop` None is the end.
    """

    name: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Half:
    """The last state of one of two directions, of a layer that `value` ends with."""

    value: Value
    direction: int


@dataclass(frozen=True)
class Placed:
    """The last states of several layers, one after the other: the d-th direction of each, and how many it has."""

    rows: tuple[tuple[Value, int, int], ...]

    def at(self, index: int) -> Value | Half | None:
        """One of them, without its axis of directions; None beyond the last."""
        if not -len(self.rows) <= index < len(self.rows):
            return None
        value, direction, of = self.rows[index]
        return Half(value, direction) if of > 1 else replace(value, axes=value.axes.replace("D", ""))


class States:
    """Follows the states of one graph.

    Args:
        inputs: names of the graph's inputs that are none of the sequence.
        constants: by name.
    """

    def __init__(self, inputs: Set[str], constants: Mapping[str, Array]) -> None:
        self._inputs, self._constants = inputs, constants
        self._sizes: set[str] = set()  # values that only say how large something is
        self._zeros: dict[str, tuple[int, ...] | None] = {}  # their shapes, where constants tell them
        self._parts: dict[str, Given] = {}
        self._placed: dict[str, Placed] = {}
        self._halves: dict[str, Half] = {}
        self._cells: set[str] = set()  # those of the last states that are c, not h
        self.used: set[str] = set()  # inputs that are states
        self.zeros: set[str] = set()  # values that nodes begin with, as they would without
        self.outputs: set[str] = set()  # last states, which may be outputs of the graph

    def follow(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> bool:
        """Whether a node gives a size, zeros of some size, or rows of an input; then its output is noted as that."""
        kind, output = node.op_type, node.output[0]
        if kind in _MOVES and node.input[0] in self._zeros:
            if kind == "Concat" and not all(name in self._zeros for name in node.input):
                return False
            self._zeros[output] = self._zeros[node.input[0]] if kind in ("Identity", "Cast") else None
        elif kind == "Shape" or self._of_sizes(node):
            self._sizes.add(output)
        elif kind in ("Expand", "ConstantOfShape"):
            shape = self._constants.get(node.input[-1])
            filled = attributes.get("value", np.zeros(1))
            if kind == "Expand":
                filled = self._constants.get(node.input[0])
            if (shape is None and node.input[-1] not in self._sizes) or filled is None or np.any(filled):
                return False
            known = shape if kind == "ConstantOfShape" else None
            self._zeros[output] = (
                None if known is None else tuple(known.ravel()[:4].tolist())
            )  # three are right
        elif (part := self._part(node, attributes)) is not None:
            self._parts[output] = part
        else:
            return False
        return True

    def _of_sizes(self, node: onnx.NodeProto) -> bool:
        if node.op_type in ("Mul", "Reshape"):  # of sizes themselves; others may be reshaped to them
            return node.input[0] in self._sizes
        return node.op_type in _SIZES and any(name in self._sizes for name in node.input)

    def _part(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Given | None:
        """The rows of an input that a Slice along the first axis takes."""
        if node.op_type != "Slice" or node.input[0] not in self._inputs:
            return None
        given = [self._constants.get(name) for name in list(node.input)[1:]]
        if not given:
            given = [np.array(attributes.get(name, ())) for name in ("starts", "ends", "axes")]
        if len(given) < 3 or any(a is None or a.size != 1 or a.dtype.kind not in "iu" for a in given):
            return None
        start, stop, axis, step = [int(a.ravel()[0]) for a in given if a is not None] + [1] * (4 - len(given))
        if axis != 0 or step != 1 or start < 0 or stop < 0:
            return None
        return Given(str(node.input[0]), start, None if stop >= _TO_THE_END else stop)

    def begins_with(self, title: str, name: str | None, axes: tuple[int | None, ...]) -> Given | None:
        """What a recurrent node begins with; None for zeros, of as many rows as they may be.

        Args:
            title: names the node in errors.
            name: of the state.
            axes: its sizes, None for that of the rows.

        Raises:
            FormatError: zeros of another shape.
            UnsupportedError: neither zeros nor an input of the graph.
        """
        if name is None:
            return None
        given = self._parts.get(name) or (Given(name) if name in self._inputs else None)
        if given is not None:
            self.used.add(given.name)
            return given
        constant = self._constants.get(name)
        if name not in self._zeros and (constant is None or np.any(constant)):
            raise UnsupportedError(
                f"{title} begins with the state {name!r}, which is neither an input nor zeros"
            )
        shape = self._zeros.get(name) if constant is None else constant.shape
        if shape is not None and (
            len(shape) != 3 or any(a not in (None, n) for a, n in zip(axes, shape, strict=True))
        ):
            wanted = ", ".join("B" if n is None else str(n) for n in axes)
            raise FormatError(f"{title} begins with zeros of shape {shape}, which must be ({wanted})")
        self.zeros.add(name)
        return None

    def ends_with(self, names: list[str], value: Value, directions: int) -> None:
        """Notes the outputs Y_h and Y_c of a recurrent node; `value` is Y_h."""
        self.outputs.update(name for name in names if name)
        self._cells.update(name for name in names[1:] if name)
        for name in names:
            if name and value.axes.startswith("D"):
                self._placed[name] = Placed(tuple((value, d, directions) for d in range(directions)))

    def join(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Value | bool:
        """What a Concat gives: the last states of both directions of a layer; True if it joins those of layers;
        False if it does neither.
        """
        halves = [self._halves.get(name) for name in node.input]
        if len(halves) == 2 and halves[0] is not None and halves[1] is not None:
            one, two = halves[0], halves[1]
            whole = one.value is two.value and (one.direction, two.direction) == (0, 1)
            if whole and attributes.get("axis") in (-1, 1):
                return replace(one.value, axes=one.value.axes.replace("D", ""))
        placed = [self._placed.get(name) for name in node.input]
        if attributes.get("axis") != 0 or any(p is None for p in placed):
            return False
        rows = tuple(row for p in placed if p is not None for row in p.rows)
        if len({(id(value), direction) for value, direction, _ in rows}) < len(rows):
            return False  # doubled again and again, they would be more than memory holds
        self._placed[node.output[0]] = Placed(rows)
        self.outputs.add(node.output[0])
        if self._cells.intersection(node.input):
            self._cells.add(node.output[0])
        return True

    def pick(self, title: str, node: onnx.NodeProto, index: int) -> Value | None:
        """What a Gather takes of last states: a value, or None where it is of one of two directions, and noted.

        Raises:
            UnsupportedError: there is no such state, or it is c.
        """
        self.check_taken(title, node)
        found = self._placed[node.input[0]].at(index)
        if found is None:
            raise UnsupportedError(f"{title} takes the state {index}, which is not there")
        if isinstance(found, Half):
            self._halves[node.output[0]] = found
            return None
        return found

    def check_taken(self, title: str, node: onnx.NodeProto) -> None:
        """Refuses a node that takes last states which no layer gives."""
        for name in node.input:
            if name in self._cells:
                raise UnsupportedError(
                    f"{title} takes {name!r}, the last cell state c, which no layer gives; h, the last output, is "
                    "supported"
                )
            if name in self._halves:
                raise UnsupportedError(
                    f"{title} takes {name!r}, the last state of one of two directions alone; of both, one after the "
                    "other, it is supported"
                )

    def is_last(self, name: str) -> bool:
        """Whether it is last states, with an axis of layers and directions in front."""
        return name in self._placed

    @staticmethod
    def taken(graph: onnx.GraphProto) -> set[str]:
        """Names that recurrent nodes take beside the sequence, and those that these are cut from."""
        names = {name for node in graph.node if node.op_type in KINDS for name in list(node.input)[1:]}
        return names | {
            node.input[0] for node in graph.node if node.op_type == "Slice" and node.output[0] in names
        }
