"""An ONNX graph as the layers of a Network, or a refusal by name; imports onnx, so it is imported late.

Every value on the way is what the layers so far give, with its axes by letter: T steps, B rows, D directions, F
features, 1 the last step where its axis stays. Nodes that only move axes change the letters, the others add a layer.

A file may have 5,000 nodes, and ask for weights of 20 times what is stored; only what the outputs need is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from carousel.errors import CarouselError, FormatError, UnsupportedError
from carousel.interop._onnx_cut import needed
from carousel.interop._onnx_node import INPUTS, KINDS, recurrent
from carousel.interop._onnx_sizes import Sizes
from carousel.interop._onnx_states import Given, States
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Network,
    Normalization,
    Recurrent,
    Reverse,
)

__all__ = ["ALLOWANCE", "EXPANSION", "Reading", "reading"]

Array = NDArray[Any]

NODE_LIMIT = 5000  # a layer takes some ten
EXPANSION = 20  # weights that several nodes share, and constants that are one number for all features
ALLOWANCE = 2**20  # numbers that need not be stored at all
_TO_THE_END = 2**31 - 1

_FUNCTIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softmax": "softmax"}
_MERGES = {"ReduceSum": "sum", "ReduceProd": "mul", "ReduceMean": "ave"}


@dataclass(frozen=True)
class Value:
    """What `layers` give, or of the last of them the state that is no output.

    `open` says what the next node may complete: a "product" lacks its bias, "centred" its scale, "scaled" its mean.
    `states` are what h and c of every recurrent layer begin with.
    """

    axes: str
    layers: tuple[Layer, ...]
    open: str = ""
    states: tuple[tuple[Given | None, Given | None], ...] = ()

    def then(self, layers: tuple[Layer, ...], axes: str | None = None, **changes: Any) -> Value:
        """What these layers give, which nothing may complete if `changes` do not say so."""
        return replace(self, **{"layers": layers, "axes": axes or self.axes, "open": "", **changes})


@dataclass(frozen=True)
class Reading:
    """A graph that was read.

    Args:
        network: the layers.
        axes: of the input.
        output, output_axes: the name of the graph's output that the network gives, and its axes.
        input: the name of the graph's input.
        states: the inputs for h and c of every recurrent layer; None where it begins with zeros.
        lengths: the name of the input that tells the steps of each row, if there is one.
        zeros: the names of states that are zeros, with which nodes compute what they compute without.
        stored: how many numbers the graph's constants hold.
        told: for every node what it is, and what became of it.
    """

    network: Network
    axes: str
    output: str
    output_axes: str
    input: str
    states: tuple[tuple[Given | None, Given | None], ...]
    lengths: str | None
    zeros: frozenset[str]
    stored: int
    told: tuple[tuple[str, str], ...]


class _OtherAxes(Exception):
    """Steps are not where this order of the input's axes has them."""


def reading(model: onnx.ModelProto) -> Reading:
    """The network of a model's graph, whose input is (T, B, I) or (B, T, I), or ids (T, B) or (B, T).

    Raises:
        UnsupportedError: a node, an attribute or a form of graph that a Network cannot express.
        FormatError: arrays that do not fit one another.
    """
    refusal: Exception | None = None
    for batch_first in (False, True):
        try:
            with _naming("the graph"):
                return _Walk(model, batch_first).read()
        except _OtherAxes as error:
            refusal = refusal or UnsupportedError(str(error))
    assert refusal is not None
    raise refusal


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Within it, what is wrong with a part of a graph begins with the part; what nobody foresaw is damage, too."""
    try:
        yield
    except (UnsupportedError, FormatError, _OtherAxes):
        raise
    except CarouselError as error:
        raise FormatError(f"{what}: {str(error).rstrip('.')}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        text = " ".join(ascii(str(error))[1:-1].split())[:160]
        raise FormatError(f"{what} is damaged, it cannot be read ({text})") from error


class _Walk:
    def __init__(self, model: onnx.ModelProto, batch_first: bool) -> None:
        self._graph = model.graph
        self._constants: dict[str, Array] = {}
        for tensor in model.graph.initializer:
            with _naming(f"tensor {tensor.name[:60]!r}"):
                self._constants[tensor.name] = numpy_helper.to_array(tensor)
        self._shapes = {
            i.name: [axis.dim_value for axis in i.type.tensor_type.shape.dim]
            for i in model.graph.input
            if i.name not in self._constants
        }
        self._values: dict[str, Value] = {}
        self._states = States(set(self._shapes) & States.taken(self._graph), self._constants)
        self._sizes = Sizes(self._constants)
        self._lengths: dict[str, str | None] = {}  # of recurrent nodes
        self._told: list[tuple[str, str]] = []
        self._opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        self._order = "BT" if batch_first else "TB"
        self._stored = sum(tensor.size for tensor in self._constants.values())
        self._made = 0  # numbers of weights
        self._given: dict[str, int] = {}  # sizes of the input's axes, where the graph states them

    def read(self) -> Reading:
        if self._opset < 7:
            raise UnsupportedError(f"the model is of opset {self._opset}; 7 and later are supported")
        nodes = needed(self._graph, [output.name for output in self._graph.output])
        if len(nodes) > NODE_LIMIT:
            raise UnsupportedError(
                f"the graph has {len(nodes):,} nodes; at most {NODE_LIMIT:,} are supported"
            )
        start = self._start()
        axes = self._order + ("F" if len(self._shapes[start]) == 3 else "")
        self._given = {axis: n for axis, n in zip(axes, self._shapes[start], strict=True) if n}
        self._values[start] = Value(axes, ())
        for node in nodes:
            title = f"node {(node.name or node.output[0])[:60]!r} ({node.op_type})"
            with _naming(title), np.errstate(all="ignore"):  # what is not finite then is refused
                self._node(title, node)
        output = self._output()
        value = self._values[output]
        lengths = next(iter(self._lengths.values()), None)
        rest = set(self._shapes) - {start, lengths} - self._states.used
        if rest:
            raise UnsupportedError(
                f"the input {min(rest)!r} is neither the sequence nor a state; it is not supported"
            )
        try:
            network = Network(value.layers)
        except CarouselError as error:
            raise FormatError(f"its layers do not fit one another: {str(error).rstrip('.')}") from None
        zeros, told = frozenset(self._states.zeros), tuple(self._told)
        return Reading(
            network, axes, output, value.axes, start, value.states, lengths, zeros, self._stored, told
        )

    def _start(self) -> str:
        """The input that is the sequence: the one with features, or else ids."""
        for name, sizes in self._shapes.items():
            if any(n < 0 for n in sizes):
                raise FormatError(f"the input {name[:60]!r} has axes of the sizes {sizes}")
        taken = States.taken(self._graph)
        found = [name for name, sizes in self._shapes.items() if len(sizes) in (2, 3) and name not in taken]
        if len(found) != 1:
            raise UnsupportedError(
                "the graph must have one input (steps, rows, features), beside states, "
                f"got {', '.join(found) or 'none'}"
            )
        return str(found[0])

    def _output(self) -> str:
        names = [o.name for o in self._graph.output]
        main = [name for name in names if name in self._values]
        side = self._states.outputs
        if not main or any(name not in side and name not in main for name in names):
            raise UnsupportedError("an output of the graph is none of its layers")
        candidates = [name for name in main if name not in side] or main[:1]
        found, others = candidates[0], candidates[1:]
        if others:
            raise UnsupportedError(
                f"the graph has the outputs {found!r} and {others[0]!r}; one, beside states, is supported"
            )
        return str(found)

    def _node(self, title: str, node: onnx.NodeProto) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(f"{title} is of the domain {node.domain[:60]!r}, which is not supported")
        attributes = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
        if self._is_constant(node, attributes) or self._is_last_state(title, node, attributes):
            return
        self._states.check_taken(title, node)
        source = next((name for name in node.input if name in self._values), None)
        if source is None or node.op_type not in _READ:
            raise UnsupportedError(
                f"{title} is not supported; LSTM, GRU, RNN, Gemm, MatMul, Add, activations and what moves axes are"
            )
        before = self._values[source]
        after = _READ[node.op_type](self, title, node, attributes, before)
        for name, value in after.items():
            self._values[name] = value
        first = next(iter(after.values()), before)  # of an LSTM Y_c alone may have a name
        known = set(map(id, before.layers))
        new = [layer for layer in first.layers if id(layer) not in known]
        self._made += sum(getattr(layer, "parameter_count", 0) for layer in new)
        self._check_made(title, self._made)
        told = " + ".join(getattr(layer, "title", repr(layer)) for layer in new)
        self._told.append((title.removeprefix("node "), told or "the order of the axes"))

    def _check_made(self, title: str, made: int) -> None:
        """Refuses a graph whose weights take far more memory than the file does."""
        if made > EXPANSION * self._stored + ALLOWANCE:
            raise FormatError(
                f"{title} is of a graph whose weights are {made:,} numbers, but {self._stored:,} are stored; "
                f"the limit is {EXPANSION} times as many"
            )

    def _is_constant(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node gives a constant, or only leads to a state; then its output is noted as that."""
        value = attributes.get("value")
        if node.op_type == "Constant" and isinstance(value, np.ndarray):
            self._constants[node.output[0]] = value
            self._stored += value.size
            return True
        if node.op_type == "Shape" and node.input[0] in self._values:
            self._sizes.shape(node, attributes, self._values[node.input[0]].axes)
        self._sizes.follow(node, attributes)
        return self._states.follow(node, attributes)

    def _is_last_state(self, title: str, node: onnx.NodeProto, attributes: dict[str, Any]) -> bool:
        """Whether a node joins last states, or takes one of them; then its output is noted as that."""
        made: Value | bool | None = False
        if node.op_type == "Concat":
            made = self._states.join(node, attributes)
        elif (
            node.op_type == "Gather" and self._states.is_last(node.input[0]) and not attributes.get("axis", 0)
        ):
            if self._constant(title, node.input[1]).shape != ():
                raise UnsupportedError(f"{title} takes several last states at once")
            (index,) = self._integers(title, "an index", node.input[1])
            made = self._states.pick(title, node, index)
        if made is False:
            return False
        if isinstance(made, Value):
            self._values[node.output[0]] = made
        self._told.append((title.removeprefix("node "), "last states"))
        return True

    def _constant(self, title: str, name: str) -> Array:
        if name not in self._constants:
            raise UnsupportedError(
                f"{title} has weights {name!r} that are no constants, which is not supported"
            )
        return self._constants[name]

    def _integers(self, title: str, what: str, name: str) -> list[int]:
        """A constant that is a row of integers; one of an index may stand alone."""
        array = self._constant(title, name)
        if array.dtype.kind not in "iu" or (array.ndim != 1 and (array.ndim, what) != (0, "an index")):
            raise FormatError(
                f"{title} must have {what} of integers in one row, got shape {array.shape} of {array.dtype}"
            )
        integers: list[int] = array.ravel().tolist()
        return integers

    def _place(self, title: str, axis: Any, x: Value) -> int:
        """Where an axis is, which may be counted from the end."""
        n = len(x.axes)
        if type(axis) is not int or not -n <= axis < n:
            raise FormatError(
                f"{title} takes the axis {axis!r} of a value with {n} axes, {', '.join(x.axes)}"
            )
        return axis % n

    def _weights(self, title: str, name: str) -> Array:
        array = self._constant(title, name)
        if array.dtype not in (np.float32, np.float64):
            raise UnsupportedError(f"{title} has weights of {array.dtype}; float32 and float64 are supported")
        return array

    def _recurrent(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        given = {key: name for key, name in zip(INPUTS, node.input, strict=False) if name}
        layout = attributes.pop("layout", 0)
        missing = [key for key in "XWR" if key not in given]
        if missing:
            raise FormatError(f"{title} has no input `{missing[0]}`")
        if x.axes not in ("TBF", "BTF"):
            raise UnsupportedError(f"{title} takes what is no sequence any more")
        if x.axes != ("BTF" if layout else "TBF") or given["X"] not in self._values:
            raise _OtherAxes(f"{title} does not read the steps of the input")
        W, R, B, P = (self._weights(title, given[key]) if key in given else None for key in "WRBP")
        assert W is not None
        assert R is not None
        layer = recurrent(title, node.op_type, attributes, W, R, B, P)
        lengths = given.get("sequence_lens")
        self._note_lengths(title, lengths)
        if lengths is None:
            layer = replace(layer, zero_output_for_mask=False)
        D, H = len(layer.directions), layer.hidden_size
        sizes = (None, D, H) if layout else (D, None, H)
        h, c = (self._states.begins_with(title, given.get(key), sizes) for key in ("initial_h", "initial_c"))
        states = (*x.states, (h, c))
        outputs = [*node.output, "", "", ""]
        whole, last = (*x.layers, layer), (*x.layers, replace(layer, return_sequences=False))
        if lengths is None and not layer.reads_backwards:
            last = (*whole, LastStep())
        found = {
            outputs[0]: x.then(whole, "BTDF" if layout else "TDBF", states=states),
            outputs[1]: x.then(last, "BDF" if layout else "DBF", states=states),
        }
        self._states.ends_with(outputs[1:3], found[outputs[1]], D)
        return {name: value for name, value in found.items() if name}

    def _note_lengths(self, title: str, name: str | None) -> None:
        if name is not None and name not in self._shapes:
            raise UnsupportedError(
                f"{title} has `sequence_lens` {name!r}, which must be one input of the graph"
            )
        for other, theirs in self._lengths.items():
            if theirs != name:
                raise UnsupportedError(
                    f"{title} has {f'`sequence_lens` {name!r}' if name else 'no `sequence_lens`'}, but {other} has "
                    f"{repr(theirs) if theirs else 'none'}; one input for all recurrent nodes is supported, or none"
                )
        self._lengths[title] = name

    def _turned(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        n = len(x.axes)
        perm = attributes.get("perm", [*range(n)][::-1])
        if sorted(perm) != [*range(n)]:
            raise FormatError(f"{title} has `perm` = {perm}, which is no order of {n} axes")
        return {node.output[0]: replace(x, axes="".join(x.axes[k] for k in perm))}

    def _axes(self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value) -> list[int]:
        """Places of axes; an input from opset 13 on, an attribute before."""
        given = (
            self._integers(title, "axes", node.input[1])
            if len(node.input) > 1
            else attributes.get("axes", [])
        )
        return [self._place(title, axis, x) for axis in given]

    def _of_one(self, x: Value) -> set[str]:
        """The axes of one element: of one direction, of one feature, and that of the last step."""
        layer = next((l for l in reversed(x.layers) if isinstance(l, Recurrent)), None)
        single = layer is not None and not layer.bidirectional
        return {"1"} | ({"D"} if single else set()) | ({"F"} if self._features(x) == 1 else set())

    def _squeezed(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        places, of_one = self._axes(title, node, attributes, x), self._of_one(x)
        named = [x.axes[k] for k in places] or [axis for axis in x.axes if axis in of_one]
        if not named or not of_one.issuperset(named):
            raise UnsupportedError(
                f"{title} squeezes another axis than that of one direction, one feature or the last step"
            )
        return {node.output[0]: replace(x, axes="".join(axis for axis in x.axes if axis not in named))}

    def _flat(self, axes: str, x: Value) -> str:
        """Axes without those of one direction and the last step, the directions of a row side by side."""
        ones = self._of_one(x) - {"F"}
        return "".join(axis for axis in axes if axis not in ones).replace("DF", "F")

    def _reshaped(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        merged = self._flat(x.axes, x)
        if (sizes := self._sizes.of(node.input[1])) is None:
            shape = self._integers(title, "a shape", node.input[1])
        else:
            shape = self._sized(sizes, merged, x)
        ends = len(shape) == len(merged) and shape[-1] in (self._features(x), -1)
        stay = all(
            n in (0, -1, self._given.get(axis, -1)) for n, axis in zip(shape[:-1], merged, strict=False)
        )
        if not ends or "D" in merged or not stay or shape.count(-1) > 1:
            raise UnsupportedError(
                f"{title} gives the shape {sizes or shape} to what has the axes {', '.join(x.axes)}; which number is "
                "which axis must be plain"
            )
        return {node.output[0]: replace(x, axes=merged)}

    def _sized(self, sizes: tuple[str | int, ...], merged: str, x: Value) -> list[int]:
        """Sizes as a constant would have them: 0 for that of the axis in its place, -2 for another."""
        shape = []
        for k, size in enumerate(sizes):
            here = merged[k] if k < len(merged) else ""
            own = self._features(x) if here == "F" else 0
            shape.append(size if isinstance(size, int) else own if self._flat(size, x) == here else -2)
        return shape

    def _flattened(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axis = attributes.get("axis", 1)
        at = axis if axis == len(x.axes) else self._place(title, axis, x)
        if (self._flat(x.axes[:at], x), self._flat(x.axes[at:], x)) != ("B", "F"):
            raise UnsupportedError(
                f"{title} flattens what has the axes {', '.join(x.axes)}; one output for each row is supported"
            )
        return {node.output[0]: replace(x, axes="BF")}

    def _merged(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axes = self._axes(title, node, attributes, x)
        last = x.layers[-1] if x.layers else None
        if [x.axes[k] for k in axes] != ["D"] or attributes.get("keepdims", 1):
            raise UnsupportedError(f"{title} reduces another axis than that of the directions")
        if not isinstance(last, Recurrent) or not last.bidirectional:
            raise UnsupportedError(f"{title} does not follow two directions")
        merged = replace(last, merge=cast(Any, _MERGES[node.op_type]))
        return {node.output[0]: x.then((*x.layers[:-1], merged), x.axes.replace("D", ""))}

    def _features(self, x: Value) -> int:
        """How many features `x` has; -1 where nothing says it."""
        sized = [l for l in x.layers if isinstance(l, Recurrent | Dense | Embedding | Normalization)]
        return sized[-1].output_size if sized else self._given.get("F", -1)

    def _gathered(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        axis = attributes.get("axis", 0)
        if node.input[0] in self._constants and x.axes in ("TB", "BT") and axis == 0:
            table = Embedding(cast(Any, self._weights(title, node.input[0])))
            return {node.output[0]: x.then((*x.layers, table), x.axes + "F")}
        index, letter = self._integers(title, "an index", node.input[1]), x.axes[self._place(title, axis, x)]
        stays = letter if self._constant(title, node.input[1]).ndim else ""
        if letter in self._of_one(x) - {"F"} and index in ([0], [-1]):
            return {node.output[0]: replace(x, axes=x.axes.replace(letter, stays))}
        if index == [-1] and "D" not in x.axes:
            return self._last(title, node, letter, x, stays and "1")
        raise UnsupportedError(f"{title} takes other steps than the last")

    def _last(
        self, title: str, node: onnx.NodeProto, letter: str, x: Value, instead: str
    ) -> dict[str, Value]:
        """The last step, its axis `instead` of T."""
        if letter != "T":
            raise _OtherAxes(f"{title} takes the last of another axis than that of the steps")
        self._check_all_steps(title)
        return {node.output[0]: x.then((*x.layers, LastStep()), x.axes.replace("T", instead))}

    def _check_all_steps(self, title: str) -> None:
        """Refuses what counts steps from the end of the axis: layers of ours count from the end of a row."""
        if any(self._lengths.values()):
            raise UnsupportedError(
                f"{title} takes steps from the end of the axis, whatever `sequence_lens` says; the last state, Y_h, "
                "is that of each row"
            )

    def _sliced(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        rows: list[Any] = [attributes.get(name) for name in ("starts", "ends", "axes")]
        if len(node.input) > 1:  # from opset 10 on
            rows = [self._integers(title, "bounds", name) if name else None for name in node.input[1:5]]
        starts, ends, axes, steps = rows + [None] * (4 - len(rows))
        bounds = (starts or [], ends or [], [0] if axes is None else axes, [1] if steps is None else steps)
        if any(len(row) != 1 for row in bounds):
            raise UnsupportedError(f"{title} cuts several axes at once, which is not supported")
        start, end, axis, step = (int(row[0]) for row in bounds)
        letter = x.axes[self._place(title, axis, x)]
        if (start, step) == (-1, 1) and end >= _TO_THE_END and "D" not in x.axes:
            return self._last(title, node, letter, x, "1")
        if (start, step) != (-1, -1) or end > -(2**31) or "D" in x.axes:
            raise UnsupportedError(
                f"{title} takes {start}:{end}:{step} of the axis {letter}; the last step, -1:, and all steps turned "
                "round, ::-1, are supported"
            )
        if letter != "T":
            raise _OtherAxes(f"{title} turns another axis round than that of the steps")
        self._check_all_steps(title)
        return {node.output[0]: x.then((*x.layers, Reverse()))}

    def _gemm(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if attributes.get("transA", 0):
            raise UnsupportedError(f"{title} has `transA`, which is not supported")
        if len(x.axes) != 2:
            raise FormatError(f"{title} takes a matrix, got the axes {', '.join(x.axes)}")
        W = self._weights(title, node.input[1])
        W = W if attributes.get("transB", 0) else W.T
        bias = self._weights(title, node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is not None:
            if bias.shape not in ((), (1,), (1, 1), W.shape[:1], (1, *W.shape[:1])):
                raise UnsupportedError(
                    f"{title} has `C` of shape {bias.shape}; one number for each of the {len(W)} outputs is supported"
                )
            bias = np.broadcast_to(bias.ravel(), W.shape[:1])
        alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        W = W if alpha == 1 else W * W.dtype.type(alpha)
        bias = bias if bias is None or beta == 1 else bias * bias.dtype.type(beta)
        return self._dense(title, node, W, bias, x)

    def _product(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if node.input[0] not in self._values:
            raise UnsupportedError(f"{title} has its weights on the left, which is not supported")
        return self._dense(title, node, self._weights(title, node.input[1]).T, None, x)

    def _dense(
        self, title: str, node: onnx.NodeProto, W: Array, bias: Array | None, x: Value
    ) -> dict[str, Value]:
        if not x.axes.endswith("F") or "D" in x.axes or W.ndim != 2:
            raise UnsupportedError(f"{title} is no product with a matrix over the features")
        dense = Dense(cast(Any, W), cast(Any, bias))
        return {node.output[0]: x.then((*x.layers, dense), open="product" if bias is None else "")}

    def _added(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        return self._affine(title, node, x)

    def _affine(self, title: str, node: onnx.NodeProto, x: Value) -> dict[str, Value]:
        """Add, Sub, Mul or Div with a constant: the bias of a product, or a part of a normalisation."""
        left = node.input[0] in self._values
        names = [name for name in node.input if name not in self._values]
        if (
            len(names) != 1
            or not x.axes.endswith("F")
            or "D" in x.axes
            or (not left and node.op_type in ("Sub", "Div"))
        ):
            raise UnsupportedError(
                f"{title} is of two layers, or of a constant and a layer, which is not supported"
            )
        a, last = self._weights(title, names[0]), x.layers[-1] if x.layers else None
        F = self._features(x)
        F = a.size if F < 0 else F
        if a.size not in (1, F) or (a.size > 1 and a.shape[-1] != a.size) or a.ndim > len(x.axes):
            raise UnsupportedError(
                f"{title} has a constant of shape {a.shape}, which is none over the features"
            )
        self._check_made(title, self._made + 2 * F)  # F may be what the input claims
        a = np.broadcast_to(a.ravel(), (F,)).copy()
        if node.op_type == "Add" and x.open == "product":
            assert isinstance(last, Dense)
            return {node.output[0]: x.then((*x.layers[:-1], replace(last, b=cast(Any, a))))}
        if node.op_type in ("Mul", "Div"):
            return {node.output[0]: self._scaled(title, x, a, node.op_type == "Div")}
        if node.op_type == "Add" and x.open == "scaled" and isinstance(last, Normalization):
            return {node.output[0]: x.then((*x.layers[:-1], replace(last, mean=cast(Any, a))))}
        made = Normalization(cast(Any, a), cast(Any, np.ones_like(a)), invert=node.op_type == "Add")
        return {node.output[0]: x.then((*x.layers, made), open="centred" if node.op_type == "Sub" else "")}

    def _scaled(self, title: str, x: Value, a: Array, divides: bool) -> Value:
        """x / a, or x a: a Normalization of the variance a², or where its scale is not a, the inverse of 1 / a."""
        if not (a > 0).all():
            raise UnsupportedError(f"{title} scales by what is not above 0, which is not supported")
        last, zeros = x.layers[-1] if x.layers else None, np.zeros_like(a)
        if _is_scale(a):
            if divides and x.open == "centred" and isinstance(last, Normalization):
                return x.then((*x.layers[:-1], replace(last, variance=a * a)))
            made = Normalization(cast(Any, zeros), cast(Any, a * a), invert=not divides)
            return x.then((*x.layers, made), open="" if divides else "scaled")
        inverse = 1 / a
        if not _is_scale(inverse):
            raise UnsupportedError(
                f"{title} scales by numbers from {a.min():.1e} to {a.max():.1e}, which a Normalization cannot hold: "
                f"it has roots of {a.dtype}, from 1e-7 on"
            )
        made = Normalization(cast(Any, zeros), cast(Any, inverse * inverse), invert=divides)
        return x.then((*x.layers, made))

    def _activated(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        function = _FUNCTIONS[node.op_type]
        if function == "softmax":
            axis = attributes.get("axis", -1 if self._opset >= 13 else 1)
            if self._place(title, axis, x) != len(x.axes) - 1 or not x.axes.endswith("F"):
                raise UnsupportedError(
                    f"{title} has `axis` = {axis}; the last one, of the features, is supported"
                )
        last = x.layers[-1] if x.layers else None
        if isinstance(last, Dense) and last.activation == "identity" and function != "softmax":
            layers = (*x.layers[:-1], replace(last, activation=cast(Any, function)))
            return {node.output[0]: x.then(layers)}
        return {node.output[0]: x.then((*x.layers, Activation(cast(Any, function))))}

    def _passed(
        self, title: str, node: onnx.NodeProto, attributes: dict[str, Any], x: Value
    ) -> dict[str, Value]:
        if node.op_type == "Dropout" and len(node.input) > 2 and np.any(self._constant(title, node.input[2])):
            raise UnsupportedError(f"{title} is in training mode, which is not supported")
        return {node.output[0]: x}


_Reader = Callable[[_Walk, str, onnx.NodeProto, dict[str, Any], Value], dict[str, Value]]
_READ: dict[str, _Reader] = {
    **dict.fromkeys(KINDS, _Walk._recurrent),
    **dict.fromkeys(_FUNCTIONS, _Walk._activated),
    **dict.fromkeys(_MERGES, _Walk._merged),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Walk._added),
    **dict.fromkeys(("Identity", "Dropout"), _Walk._passed),
    "Flatten": _Walk._flattened,
    "Gather": _Walk._gathered,
    "Gemm": _Walk._gemm,
    "MatMul": _Walk._product,
    "Reshape": _Walk._reshaped,
    "Slice": _Walk._sliced,
    "Squeeze": _Walk._squeezed,
    "Transpose": _Walk._turned,
}


def _is_scale(a: Array) -> bool:
    """Whether these are the scales of a Normalization: its root of a² is a where a² neither over- nor underflows."""
    variance = a * a
    return bool(np.isfinite(variance).all() and (Normalization(a, cast(Any, variance)).scale == a).all())


def _plain(value: Any) -> Any:
    """An attribute: text as str, a tensor as an array."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
