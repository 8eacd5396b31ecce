"""ONNX models to Network and back, and onnx's own interface of a backend.

A Network is (T, B, I); a model that takes (B, T, I) has the same numbers, the first two axes change places. A whole
forecaster is written, too, from rows in the user's unit to a forecast with its intervals; it is not read back.

Every `load` and `save` ends with a trial: the Network and the model run on the same random sequence from a random
state, the model by the equations of the specification, written out in NumPy, and by ONNX Runtime where it is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from carousel.errors import ArgumentError, CarouselError, FormatError, UnsupportedError
from carousel.interop._models import as_network
from carousel.interop.verification import Conversion, Trial, sample
from carousel.network import ForecastModel, Network, atomic
from carousel.network.forecaster import Unit
from carousel.series.unit import in_unit

if TYPE_CHECKING:
    from carousel.interop._onnx_graph import Reading
    from carousel.interop._onnx_run import Backend
    from carousel.stream import State

__all__ = ["Backend", "load", "read", "save"]

Array = NDArray[Any]

_EQUATIONS = "the equations of the specification in NumPy"
T, B = 7, 3  # of the trial, where the graph fixes none
LARGEST_TRIAL = 2**16  # steps times rows
NUMBERS_OF_A_TRIAL = 2**25  # of all layers' outputs together; more where a twentieth of them is stored
LONGEST_SENTENCE = 380  # characters of an error, beside the path
FORECAST_TOLERANCE = 1e-5  # of a series' scale: its recurrent path is float32


def __getattr__(name: str) -> Any:
    if name != "Backend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _late("_onnx_run").Backend


def load(path: Any) -> Network:
    """The Network of an ONNX model: LSTM, GRU and RNN nodes, alone or with dense layers, in one line.

    Args:
        path: of the file; or an `onnx.ModelProto` that holds all its tensors.

    Nodes may have peepholes, clip, input_forget, linear_before_reset, any direction and layout, states as inputs or
    zeros, and sequence_lens as an input (the `lengths` of `carousel.stream.NetworkModel.run_from`). Beside them: Gemm,
    MatMul, Add, Sub, Mul and Div with a constant, Sigmoid, Tanh, Relu, Softmax, an embedding's Gather, the last step,
    the last state of the top layer, reductions over the directions, Dropout, and what moves axes. States of several
    layers may be one input. A last axis of one feature that the graph squeezes stays. Nodes that no output needs are
    left out.

    Raises:
        FormatError: the file is damaged, hostile or no ONNX model, or has weights that are not finite.
        UnsupportedError: something in it that a Network cannot express; the text names the node.
        ArgumentError: `path` is neither.
        OSError: the system could not read.
    """
    network: Network = read(path).network
    return network


def read(path: Any) -> Conversion:
    """As `load`, with the largest difference of the trial, which check ran, and what became of every node."""
    file, graph = _late("_onnx_file"), _late("_onnx_graph")
    at_path = isinstance(path, str | os.PathLike)
    if not at_path and not isinstance(path, import_module("onnx").ModelProto):
        raise ArgumentError(f"`path` must be a path or an onnx.ModelProto, got {type(path).__name__}.")
    with _naming(path if at_path else "the model"):
        model = file.model_at(path) if at_path else file.model_of(path)
        found = graph.reading(model)
        largest, check = _trial(model, found, found.network, written=False)
    return Conversion(found.network, largest, check, found.told)


def save(model: Any, path: str | os.PathLike[str]) -> Conversion:
    """Writes an ONNX model; atomically.

    The inputs of a network are x (T, B, I), and h_0_k and c_0_k (D, B, H) of the recurrent layer k; its outputs y,
    h_n_k and c_n_k. T and B are free. Those of a forecaster are in docs/interop.md. It is of opset 18.

    Args:
        model: a Network, a torch module that `carousel.interop.torch.load` takes, a model of Keras, or a fitted
            forecaster: a `carousel.Forecaster`, its `model_`, or a `carousel.stream` model of it.
        path: exactly this file.

    Raises:
        UnsupportedError: the network has masks; nothing is written.
        ArgumentError: `model` is something else, or `path` is a directory or a device.
        OSError: the system could not write.
    """
    value = _forecast_model(model)
    if value is not None:
        return _save_forecaster(value, path)
    network = as_network(model, "a Network, a torch module, a model of Keras or a fitted forecaster")
    made = _late("_onnx_write").model_of(network)
    with _naming(path):
        found = _late("_onnx_graph").reading(made)
        largest, check = _trial(made, found, network, written=True)
    atomic.write(path, [made.SerializeToString(deterministic=True)])
    return Conversion(network, largest, check, tuple((ours, node) for node, ours in found.told))


def _forecast_model(model: Any) -> ForecastModel | None:
    """What a forecaster has learned; None of anything else."""
    for value in (model, getattr(model, "model_", None), getattr(model, "value", None)):
        if isinstance(value, ForecastModel):
            return value
    return None


def _save_forecaster(value: ForecastModel, path: str | os.PathLike[str]) -> Conversion:
    made = _late("_onnx_forecaster").model_of(value)
    with _naming(path):
        largest, check = _forecaster_trial(made, value)
    atomic.write(path, [made.SerializeToString(deterministic=True)])
    parts = ("smoothing", "linear", "recurrent", "plain", "calibration")
    told = tuple((part, "nodes of the graph") for part in parts if getattr(value, part) is not None)
    return Conversion(value, largest, check, told)


def _forecaster_trial(made: Any, value: ForecastModel) -> tuple[float, str]:
    """As `_trial`; differences are in the model's unit, relative to the scale of the series."""
    from carousel.series.history import Context
    from carousel.stream.forecaster import ForecasterModel

    rng, runner = np.random.default_rng(0), ForecasterModel(value)
    series = np.arange(B) % len(value.ids)
    last = runner.last()[series]
    each = last.scale[:, None]
    window = last.window + each * rng.normal(size=last.window.shape)
    state = Context(
        window=np.abs(window)
        if value.scaling.unit == "root"
        else window,  # rows below 0 are none of its inputs
        errors=last.errors + each[..., None] * rng.normal(size=last.errors.shape),
        next=runner.frequency.shift(last.next, rng.integers(0, 1000, size=B)),
        center=last.center,
        scale=last.scale,
        series=last.series,
    )
    expected = runner.forecast(state)
    feeds = _late("_onnx_forecaster").feeds_of(value, state, series)
    names = [output.name for output in made.graph.output]
    ways = [(_EQUATIONS, _late("_onnx_run").by_equations(made).run(names, feeds))]
    if (session := _session(made)) is not None:
        ways.append((f"ONNX Runtime {import_module('onnxruntime').__version__}", session.run(names, feeds)))
    largest = 0.0
    for way, values in ways:
        found = dict(zip(names, values, strict=True))
        stamps = np.asarray(expected.ds)
        stamps = stamps.astype("datetime64[us]").astype(np.int64) if stamps.dtype.kind == "M" else stamps
        off = max(
            float("inf") if (found["ds"] != stamps).any() else 0.0,
            *(
                _off(found[n], getattr(expected, n), each, value.scaling.unit)
                for n in ("mean", "lower", "upper")
            ),
        )
        if not off <= FORECAST_TOLERANCE:
            raise UnsupportedError(
                f"the model computes something else than the forecaster by {way}: off by {off:.1e} of the scale"
            )
        largest = max(largest, off)
    return largest, ", and ".join(way for way, _ in ways)


def _off(found: Array, expected: Array, scale: Array, unit: Unit) -> float:
    """The largest difference in the model's unit over the scale; infinite where one side alone is not finite."""
    if found.shape != expected.shape or (np.isfinite(found) != np.isfinite(expected)).any():
        return float("inf")
    found, expected = in_unit(found, unit), in_unit(expected, unit)
    return float(np.nanmax(np.abs(found - expected) / scale, initial=0))


def _trial(model: Any, found: Reading, network: Network, written: bool) -> tuple[float, str]:
    """The largest difference and the checks; raises an UnsupportedError above the tolerance."""
    from carousel.stream import Model, State

    rng, (T, B) = np.random.default_rng(0), _sizes(model, found)
    _check_numbers(T * B, found)
    runner, x = Model(network), sample(network, rng, T, B)
    state, feeds = _random_state(model, found, network, runner.start(B), rng)
    feeds[found.input] = x if found.axes.startswith("T") else x.swapaxes(0, 1)
    lengths = None
    if found.lengths is not None:
        lengths = feeds[found.lengths] = rng.integers(0, T + 1, size=B).astype(np.int32)
    y, _ = runner.run_from(x, State(*state), lengths)
    model = _late("_onnx_cut").cut(model, [found.output], found.zeros)
    try:
        (theirs,) = _late("_onnx_run").by_equations(model).run([found.output], dict(feeds))
    except Exception as error:  # of a model whose sizes do not fit; its errors have no common base
        raise FormatError(f"onnx's reference cannot run it: {' '.join(str(error).split())[:160]}") from None
    trial = Trial(network, x, State(*state), lengths)
    largest = trial.check(
        y, _arranged(theirs, found.output_axes), "by the equations of the specification, the model"
    )
    if found.lengths is not None:  # ONNX Runtime forgets the state of a row without steps
        lengths = feeds[found.lengths] = np.maximum(feeds[found.lengths], 1)
        y, _ = runner.run_from(x, State(*state), lengths)
        trial = replace(trial, lengths=lengths)
    try:
        by_runtime = _by_runtime(model, found, feeds)
    except UnsupportedError:
        if written:
            raise
        return largest, f"{_EQUATIONS}; ONNX Runtime refuses the model"  # names in lower case, for one
    if by_runtime is None:
        return largest, _EQUATIONS
    values, version = by_runtime
    off = trial.check(y, _arranged(values, found.output_axes), "in ONNX Runtime, the model")
    return max(largest, off), f"{_EQUATIONS}, and ONNX Runtime {version}"


def _check_numbers(positions: int, found: Reading) -> None:
    """Refuses a trial that takes far more memory than the file does."""
    graph = _late("_onnx_graph")
    width = numbers = 0
    for layer in found.network.layers:
        width = getattr(layer, "output_size", width)  # an activation is as wide as what it takes
        numbers += positions * width
    limit = max(NUMBERS_OF_A_TRIAL, graph.EXPANSION * found.stored)
    if numbers > limit:
        raise UnsupportedError(
            f"a trial of {positions:,} steps and rows takes {numbers:,} numbers, where the file stores "
            f"{found.stored:,}; the limit is {limit:,}"
        )


def _sizes(model: Any, found: Reading) -> tuple[int, int]:
    """Steps and rows of the trial: those that the graph fixes, others where it does not.

    Raises:
        UnsupportedError: more of them than a trial can have.
    """
    (given,) = (i for i in model.graph.input if i.name == found.input)
    fixed = dict(zip(found.axes, (axis.dim_value for axis in given.type.tensor_type.shape.dim), strict=False))
    sizes = (fixed.get("T") or T, fixed.get("B") or B)
    if sizes[0] * sizes[1] > LARGEST_TRIAL:
        raise UnsupportedError(
            f"the graph is of {sizes[0]:,} steps of {sizes[1]:,} rows only, too many to try it; export it with "
            "free axes (in torch, dynamic_axes)"
        )
    return sizes


def _random_state(
    model: Any, found: Reading, network: Network, zeros: State, rng: np.random.Generator
) -> tuple[tuple[tuple[Any, ...], tuple[Any, ...]], dict[str, Array]]:
    """h and c of every direction, `zeros`, but random where they are inputs of the graph; and these inputs.

    Raises:
        FormatError: the layers do not take every row of an input once.
    """
    h: list[Any] = list(zeros.h)
    c: list[Any] = list(zeros.c)
    B = len(zeros.h[0]) if zeros.h else 0
    parts: dict[str, list[tuple[int, Array]]] = {}
    place = 0
    for layer, given in zip(network.recurrent, found.states, strict=True):
        D = len(layer.directions)
        for arrays, part in zip((h, c), given, strict=True):
            if part is not None:
                drawn = rng.normal(size=(D, B, layer.hidden_size)).astype(network.dtype)
                parts.setdefault(part.name, []).append((part.start, drawn))
                arrays[place : place + D] = drawn
        place += D
    feeds = {}
    for name, rows in parts.items():
        rows.sort(key=lambda row: row[0])
        starts = np.cumsum([0, *(len(drawn) for _, drawn in rows)])
        if [start for start, _ in rows] != starts[:-1].tolist() or len({d.shape[2] for _, d in rows}) > 1:
            raise FormatError(f"the layers do not take every row of the state {name!r} once")
        whole = np.concatenate([drawn for _, drawn in rows])
        feeds[name] = whole if _rank_first(model, name) else whole.swapaxes(0, 1)
    return (tuple(h), tuple(c)), feeds


def _rank_first(model: Any, name: str) -> bool:
    """Whether the state `name` is (D, B, H), not (B, D, H)."""
    for node in model.graph.node:
        if name in list(node.input)[5:7]:
            return not any(a.name == "layout" and a.i for a in node.attribute)
    return True


def _by_runtime(model: Any, found: Reading, feeds: dict[str, Array]) -> tuple[Array, str] | None:
    """What ONNX Runtime says, and its version; None where it is not there, or does not have these nodes."""
    try:
        if (session := _session(model)) is None:
            return None
        return session.run([found.output], feeds)[0], str(import_module("onnxruntime").__version__)
    except Exception as error:  # its errors have no common base
        if "NOT_IMPLEMENTED" in str(error) or "not support" in str(error):  # float64, and layout 1
            return None
        raise UnsupportedError(f"ONNX Runtime refuses it: {' '.join(str(error).split())[:160]}") from None


def _session(model: Any) -> Any:
    """The model in ONNX Runtime; None where that is not there."""
    if find_spec("onnxruntime") is None:
        return None
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _arranged(y: Array, axes: str) -> Array:
    """An output of these axes as a Network gives it: (T, B, O) or (B, O)."""
    if y.ndim != len(axes):
        raise FormatError(
            f"its output has the shape {y.shape}, where the graph gives the axes {', '.join(axes)}"
        )
    if "F" not in axes:  # squeezed: one feature
        y, axes = y[..., None], axes + "F"
    order = [axes.index(axis) for axis in "1TBDF" if axis in axes]
    y = y.transpose(order)
    y = y[0] if "1" in axes else y
    return y.reshape(*y.shape[:-2], -1) if "D" in axes else y


def _late(name: str) -> Any:
    """A module of ours that imports onnx at once.

    Raises:
        ModuleNotFoundError: onnx is not installed; the text says how to.
    """
    try:
        return import_module(f"carousel.interop.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("carousel"):
            raise
        text = f"ONNX models need {error.name}, which is not installed: pip install 'carousel-rnn[onnx]'"
        raise ModuleNotFoundError(text, name=error.name) from error


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, what is wrong with the file begins with its path."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(f"{os.fspath(path)}: {_sentence(error)}") from error
    except UnicodeDecodeError as error:  # protobuf looks at a text late, if at all
        raise FormatError(f"{os.fspath(path)}: it holds a name that is no UTF-8.") from error
    except CarouselError as error:
        raise FormatError(f"{os.fspath(path)}: {_sentence(error)}") from error


def _sentence(error: CarouselError) -> str:
    """What it says, in one line; names and shapes of a file may be of any length, and hold any character."""
    text = str(error).rstrip(".")
    text = "".join(a if a.isprintable() else ascii(a)[1:-1] for a in text)
    return f"{text if len(text) <= LONGEST_SENTENCE else text[:LONGEST_SENTENCE] + ' ...'}."
