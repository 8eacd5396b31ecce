"""A whole forecaster as one ONNX model, pre- and post-processing inside; imports onnx, so it is imported late.

The same steps in the same order as `carousel.stream.forecaster`, in float64; the recurrent layers in their own float32.
docs/interop.md describes inputs and outputs.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from carousel.errors import UnsupportedError
from carousel.interop._onnx_build import Graph, Value
from carousel.interop._onnx_calendar import Calendar
from carousel.interop._onnx_node import arrays_of, attributes_of
from carousel.network import Activation, Dense, LastStep, Network, Recurrent
from carousel.network.forecaster import ForecastModel, LinearPath, RecurrentPath, Smoothing
from carousel.series.calendar import Frequency
from carousel.series.conformal import interval_errors
from carousel.series.features import has_interplay
from carousel.series.smoothing import maps
from carousel.series.unit import from_unit
from carousel.series.volatility import LEAST, MOST

__all__ = ["feeds_of", "model_of"]

Array = NDArray[Any]

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
_FUNCTIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}


def model_of(value: ForecastModel) -> onnx.ModelProto:
    """Inputs y (B, L), next (B,), series (B,) and, with smoothing, errors (B, M, G); outputs in the user's unit.

    Raises:
        UnsupportedError: covariates, paths that are drawn, or a layer of a plain network that is not plain.
    """
    if value.covariates is not None:
        names = ", ".join(column.name for column in value.covariates.columns)
        raise UnsupportedError(f"a forecaster that reads covariates ({names}) cannot be written to ONNX.")
    if value.deepar is not None:
        raise UnsupportedError(
            "architecture='deepar' draws its paths at random: it cannot be written to ONNX."
        )
    return _Forecaster(value).model()


def feeds_of(value: ForecastModel, context: Any, series: Array) -> dict[str, Array]:
    """The inputs of the model that stand for a state of `carousel.stream`.

    Args:
        context: B states, as `last` and `observe` give them.
        series: (B,) which of the fitted series each is.
    """
    stamps = np.asarray(context.next)
    feeds = {
        "y": from_unit(context.window, value.scaling.unit),
        "next": stamps.astype("datetime64[us]").astype(np.int64) if stamps.dtype.kind == "M" else stamps,
        "series": np.asarray(series, np.int64),
    }
    return feeds if value.smoothing is None else {**feeds, "errors": context.errors}


class _Forecaster:
    def __init__(self, value: ForecastModel) -> None:
        self._value, self._g = value, Graph()
        g, S = self._g, value.scaling
        y = g.input("y", np.float64, ["B", value.lookback])
        self._next = g("Unsqueeze", g.input("next", np.int64, ["B"]), _ints(1))
        self._series = series = g.input("series", np.int64, ["B"])
        self._window = y if S.unit == "identity" else g({"log": "Log", "root": "Sqrt"}[S.unit], y)
        self._center = g("Gather", S.center[:, None], series, axis=0)
        self._scale = g("Gather", S.scale[:, None], series, axis=0)
        self._frequency = Frequency.parse(value.frequency)
        self._calendar = Calendar(g, self._frequency)
        self._level = g("ReduceMean", self._rows(value.season), _ints(1), keepdims=1)
        self._z = g("Div", g("Sub", self._window, self._level), self._scale)
        self._u = g("Div", g("Sub", self._level, self._center), self._scale)

    def model(self) -> onnx.ModelProto:
        v, g = self._value, self._g
        K, Q, c = v.horizon, len(v.level), v.calibration
        x = self._plain(v.plain.network) if v.plain is not None else self._paths()
        ends, unit = interval_errors(c.scores, c.counts, v.level, c.sided)[:, :, None], self._unit()
        g.output("mean", self._back(x), np.float64, ["B", K])
        g.output("lower", self._back(g("Add", x, g("Mul", ends[0], unit))), np.float64, [Q, "B", K])
        g.output("upper", self._back(g("Add", x, g("Mul", ends[1], unit))), np.float64, [Q, "B", K])
        g.output("ds", self._calendar.shifted(self._next, np.arange(K)), np.int64, ["B", K])
        about = {"frequency": v.frequency, "level": v.level, "ids": v.ids}
        return g.model(carousel=json.dumps(about, ensure_ascii=False))

    def _unit(self) -> Value:
        """(B, 1) the scale, times how large the series' errors are, and how restless the window is."""
        g, v, powers = self._g, self._value, self._value.calibration.volatility
        unit, own = self._scale, self._value.calibration.own
        if own is not None:
            unit = g("Mul", unit, g("Gather", own[:, None], self._series, axis=0))
        if powers is None:
            return unit
        early = v.lookback - v.season
        distance = g("ReduceMean", g("Abs", self._z), _ints(1), keepdims=1)
        change = distance
        if early > 0:
            before = g("Slice", self._z, _ints(0), _ints(early), _ints(1))
            apart = g("Sub", self._last(self._z, early), before)
            change = g("ReduceMean", g("Abs", apart), _ints(1), keepdims=1)
        for measured, power in zip((change, distance), powers, strict=True):
            clipped = g("Min", g("Max", measured, np.float64(LEAST)), np.float64(MOST))
            unit = g("Mul", unit, g("Pow", clipped, np.float64(power)))
        return unit

    def _back(self, x: Value) -> Value:
        g, unit = self._g, self._value.scaling.unit
        if unit == "log":
            return g("Exp", x)
        if unit == "identity" and not self._value.nonnegative:
            return x
        x = g("Max", x, np.float64(0))
        return g("Mul", x, x) if unit == "root" else x

    def _rows(self, count: int) -> Value:
        """The last rows of the window."""
        return self._last(self._window, count)

    def _last(self, array: Value, count: int) -> Value:
        """The last columns of (B, ·)."""
        return self._g("Slice", array, _ints(-count), _ints(np.iinfo(np.int64).max), _ints(1))

    def _paths(self) -> Value:
        v, g = self._value, self._g
        assert v.smoothing is not None
        x = self._smoothed(v.smoothing)
        if v.linear is not None:
            x = self._linear(v.linear, x)
        if v.recurrent is not None:
            learned = g(
                "Mul", self._recurrent(v.recurrent), g("Mul", self._scale, np.float64(v.recurrent.shrink))
            )
            x = g("Add", x, learned)
        return x

    def _smoothed(self, smoothing: Smoothing) -> Value:
        """The mixture; and the next row that each member expects, for the error of that row."""
        g, K = self._g, self._value.horizon
        M, G = smoothing.memory, len(smoothing.weights)
        A, B = maps(smoothing, K)
        errors = g.input("errors", np.float64, ["B", M, G])
        window, flat = self._rows(M), g("Reshape", errors, _ints(0, M * G))
        of_next = np.zeros((M, G, G))
        of_next[:, np.arange(G), np.arange(G)] = B[:, 0]
        expected = g("Add", g("MatMul", window, A[:, 0]), g("MatMul", flat, of_next.reshape(M * G, G)))
        g.output("expected", expected, np.float64, ["B", G])
        if smoothing.own is None:
            mixed = (B * smoothing.weights).transpose(0, 2, 1).reshape(M * G, K)
            return g("Add", g("MatMul", window, A @ smoothing.weights), g("MatMul", flat, mixed))
        weights = g("Gather", smoothing.own, self._series, axis=0)
        weighed = g("Mul", errors, g("Unsqueeze", weights, _ints(1)))
        of_errors = g(
            "MatMul", g("Reshape", weighed, _ints(0, M * G)), B.transpose(0, 2, 1).reshape(M * G, K)
        )
        each = g("Reshape", g("MatMul", window, A.reshape(M, K * G)), _ints(0, K, G))
        of_values = g("MatMul", each, g("Unsqueeze", weights, _ints(2)))
        return g("Add", g("Squeeze", of_values, _ints(2)), of_errors)

    def _linear(self, path: LinearPath, x: Value) -> Value:
        g, v = self._g, self._value
        base = g("Add", self._level, g("Mul", g("Sub", x, self._level), np.float64(path.share)))
        P = len(path.coefficients)
        features = self._features(path)
        if P == 1:
            product = g("MatMul", features, path.coefficients[0])
        else:
            which = g("Squeeze", self._calendar.phase(self._next, v.season), _ints(1))
            matrices = g("Gather", path.coefficients, which, axis=0)
            product = g("Squeeze", g("MatMul", g("Unsqueeze", features, _ints(1)), matrices), _ints(1))
        found = g("Add", base, g("Mul", self._scale, product))
        if path.own is None:
            return found
        own = g("Gather", path.own[:, None], self._series, axis=0)
        return g("Add", x, g("Mul", own, g("Sub", found, x)))

    def _features(self, path: LinearPath) -> Value:
        g, m = self._g, self._value.season
        columns = [self._z, self._for_each(np.ones((1, 1)))]
        calendar = self._calendar.features(self._next)
        if path.calendar and path.level:
            columns.append(self._u)
        if path.calendar and calendar is not None:
            columns.append(g("Squeeze", calendar, _ints(1)))
        if path.interplay and has_interplay(self._frequency, m):
            u, year = self._u, g("Squeeze", self._calendar.year(self._next, 2), _ints(1))
            last = self._last(self._z, m)
            both = g("Mul", g("Unsqueeze", last, _ints(2)), g("Unsqueeze", year, _ints(1)))
            columns += [u, g("Mul", u, u), g("Mul", u, year), g("Reshape", both, _ints(0, 4 * m))]
        return g("Concat", *columns, axis=1)

    def _recurrent(self, path: RecurrentPath) -> Value:
        """(B, K): segments read one after the other, those to come decoded side by side."""
        g, v = self._g, self._value
        T, J = v.lookback // path.segment, -(-v.horizon // path.segment)
        rows = g("Slice", self._z, _ints(v.lookback - T * path.segment), _ints(v.lookback), _ints(1))
        past = [g("Reshape", rows, _ints(0, T, path.segment))]
        first = np.arange(-T * path.segment, 0, path.segment)
        read = self._dense(path.embed, self._segments(past, first))
        states = []
        for layer in path.layers:
            read, *state = self._cell(layer, read, [])
            states.append([g("Tile", s, _ints(1, J, 1)) for s in state])
        future = self._segments([], path.segment * np.arange(J), self._for_each(np.eye(J)[None]))
        steps = g("Reshape", self._dense(path.position, future), _ints(1, -1, path.position.W.shape[0]))
        for layer, state in zip(path.layers, states, strict=True):
            steps, *_ = self._cell(layer, steps, state)
        written = g("Reshape", self._dense(path.head, steps), _ints(J, -1, path.segment))
        whole = g("Reshape", g("Transpose", written, perm=[1, 0, 2]), _ints(0, J * path.segment))
        return g("Cast", g("Slice", whole, _ints(0), _ints(v.horizon), _ints(1)), to=_DOUBLE)

    def _for_each(self, array: Array) -> Value:
        """(1, ...) repeated for every row: (B, ...)."""
        g = self._g
        shape = g("Concat", g("Shape", self._level, end=1), _ints(*array.shape[1:]), axis=0)
        return g("Expand", array, shape)

    def _segments(self, parts: list[Value], first: Array, *after: Value) -> Value:
        """(N, B, ·) of float32: `parts`, the calendar of the first rows, the level, and what comes after."""
        g = self._g
        calendar = self._calendar.features(self._calendar.shifted(self._next, first))
        level = g("Tile", g("Unsqueeze", self._u, _ints(1)), _ints(1, len(first), 1))
        columns = [*parts, *([] if calendar is None else [calendar]), level, *after]
        joined = g("Cast", g("Concat", *columns, axis=2), to=_FLOAT)
        # In this order: ONNX Runtime 1.31.1 crashes when it optimises Transpose, Cast, MatMul.
        return g("Transpose", joined, perm=[1, 0, 2])

    def _plain(self, network: Network) -> Value:
        g = self._g
        x = g("Unsqueeze", g("Transpose", g("Cast", self._z, to=_FLOAT), perm=[1, 0]), _ints(2))
        for layer in network.layers:
            if isinstance(layer, Recurrent) and not layer.beyond and not layer.bidirectional:
                x, *_ = self._cell(layer, x, [])
            elif isinstance(layer, LastStep):
                x = g("Gather", x, np.array(-1, np.int64), axis=0)
            elif isinstance(layer, Dense):
                x = self._dense(layer, x)
            elif isinstance(layer, Activation) and layer.function in _FUNCTIONS:
                x = g(_FUNCTIONS[layer.function], x)
            else:
                raise UnsupportedError(f"a forecaster's network with {layer!r} cannot be written to ONNX.")
        return g("Add", self._level, g("Mul", g("Cast", x, to=_DOUBLE), self._scale))

    def _dense(self, layer: Dense, x: Value) -> Value:
        y = self._g("Add", self._g("MatMul", x, np.ascontiguousarray(layer.W.T)), layer.b)
        return y if layer.activation == "identity" else self._g(_FUNCTIONS[layer.activation], y)

    def _cell(self, layer: Recurrent, x: Value, states: list[Value]) -> list[Value]:
        """All outputs (T, B, H), and the last states (1, B, H), from these states or from zeros."""
        arrays, count = arrays_of(layer), 2 if layer.cell == "lstm" else 1
        inputs: list[Any] = [x, arrays["W"], arrays["R"], arrays["B"], *(["", *states] if states else [])]
        y, *last = self._g.many(layer.cell.upper(), 1 + count, *inputs, **attributes_of(layer))
        return [self._g("Squeeze", y, _ints(1)), *last]


def _ints(*numbers: Any) -> Array:
    return np.array(numbers, np.int64)
