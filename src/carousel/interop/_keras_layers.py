"""Keras's layers as those of a Network, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carousel import layout
from carousel.errors import CarouselError, FormatError, UnsupportedError
from carousel.interop._keras_file import KerasLayer
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Masking,
    Network,
    Normalization,
    Recurrent,
    Reverse,
    Weights,
)

__all__ = ["ours"]

Array = NDArray[Any]

_CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
_SILENT = (
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
)  # nothing in inference
_SUPPORTED = (
    "InputLayer, LSTM, GRU, SimpleRNN, Bidirectional, Dense, TimeDistributed, Embedding, Masking, Normalization, "
    "Activation, ReLU, Softmax, dropout and [:, -1, :] are"
)


def ours(layers: list[KerasLayer]) -> tuple[Network, list[tuple[str, str]]]:
    """The network, and for every layer of Keras its title and what became of it.

    Raises:
        UnsupportedError: a layer or an option that a Network cannot express; the text names it.
        FormatError: weights that do not fit their layer.
    """
    reading = _Reading(layers)
    for k, layer in enumerate(layers):
        reading.add(k, layer)
    try:
        network = Network(tuple(reading.found))
    except CarouselError as error:
        raise FormatError(f"its layers do not fit one another: {error}") from None
    if reading.takes not in (None, network.input_size) and not network.takes_ids:
        raise FormatError(
            f"its input has {reading.takes} features, but its weights are of {network.input_size}"
        )
    return network, reading.told


class _Reading:
    """The layers so far, and what Keras knows of the data after them."""

    def __init__(self, layers: list[KerasLayer]) -> None:
        self._layers = layers
        self.found: list[Layer] = []
        self.told: list[tuple[str, str]] = []
        self.takes: int | None = None  # features of the input, where it says how many
        self._rank: int | None = None  # of the data, with the batch
        self._features: int | None = None
        self._mask: tuple[str, Any] | None = None  # of which layer's output, compared with what
        self._ended = ""  # the layer that let it end

    def add(self, k: int, layer: KerasLayer) -> None:
        before = len(self.found)
        self._start(layer)
        if layer.kind not in _ADDED:
            raise UnsupportedError(f"{layer.title} is not supported; {_SUPPORTED}")
        self._check_common(layer)
        try:
            _ADDED[layer.kind](self, k, layer)
        except (FormatError, UnsupportedError):
            raise
        except CarouselError as error:
            raise FormatError(f"{layer.title}: {str(error).rstrip('.')}") from None
        for made in self.found[before:]:
            if isinstance(made, Recurrent | Dense | Embedding | Normalization):
                self._features = made.output_size
        if layer.ends_mask and self._mask is not None:
            self._mask, self._ended = None, layer.title
        new = [getattr(made, "title", repr(made)) for made in self.found[before:]]
        self.told.append((f"{layer.name} ({layer.kind})", " + ".join(new) or "nothing to compute"))

    def _start(self, layer: KerasLayer) -> None:
        """The shape of the input, which the first layer has in one of three ways."""
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
        if shape is None or self.found:
            return
        if not isinstance(shape, list) or not all(n is None or type(n) is int for n in shape):
            raise FormatError(f"{layer.title} has no shape that can be read")
        self._rank, self._features = len(shape), shape[-1] if len(shape) > 2 else None
        self.takes = self._features
        if len(shape) not in (2, 3):
            raise UnsupportedError(
                f"{layer.title} takes {len(shape)} axes; (batch, steps, features), or of ids (batch, steps), "
                "are supported"
            )

    def _check_common(self, layer: KerasLayer) -> None:
        dtype = _dtype(layer)
        if layer.kind != "InputLayer" and dtype not in (None, "float32", "float64"):
            raise UnsupportedError(f"{layer.title} computes in {dtype!r}; float32 and float64 are supported")
        _refuse(layer, sparse=False, ragged=False, stateful=False, return_state=False, time_major=False)
        _refuse(layer, quantization_config=None, lora_rank=None)
        if layer.mask_of is not None and layer.mask_of != self._mask:
            raise UnsupportedError(f"{layer.title} is called with a mask that is not of a layer before it")

    def _sequence(self, layer: KerasLayer) -> None:
        if self._rank == 2:
            raise UnsupportedError(f"{layer.title} takes no sequence; (batch, steps, features) are supported")

    def _input(self, k: int, layer: KerasLayer) -> None:
        if k > 0:
            raise UnsupportedError(f"{layer.title} is a second input; one is supported")

    def _nothing(self, k: int, layer: KerasLayer) -> None:
        pass

    def _embedding(self, k: int, layer: KerasLayer) -> None:
        (W,) = _arrays(layer, 0, 1)
        masks = bool(layer.config.get("mask_zero", False))
        self.found.append(Embedding(_shaped(layer, W, "input_dim", "output_dim"), masks))
        self._rank = 3
        if masks:
            self._mask = (self._layers[k - 1].name if k else "", 0)

    def _masking(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        value = layer.config.get("mask_value", 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedError(f"{layer.title} masks {value!r}; a number is supported")
        self.found.append(Masking(value))
        self._ended = ""
        self._mask = (self._layers[k - 1].name if k else "", value)

    def _item(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        index = layer.config.get("index")
        whole = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
        if index not in ([whole, -1], [whole, -1, whole]):
            raise UnsupportedError(
                f"{layer.title} takes {_index(index)}; [:, -1, :], the last step, is supported"
            )
        self.found.append(LastStep())
        self._after(False)

    def _normalization(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        config = layer.config
        axis = config.get("axis", -1)
        axes = [axis] if type(axis) is int else list(axis or [])
        if axes not in ([], [-1], [(self._rank or 3) - 1]):
            raise UnsupportedError(
                f"{layer.title} normalises over `axis` = {axis!r}; the last one is supported"
            )
        arrays: list[Any] = layer.arrays[0]
        if config.get("mean") is not None:
            arrays = [config["mean"], config.get("variance")]
        if len(arrays) < 2:
            raise FormatError(f"{layer.title} has neither a mean nor weights")
        try:
            given = [np.asarray(a, _dtype(layer) or np.float32).ravel() for a in arrays[:2]]
        except (TypeError, ValueError):
            raise FormatError(f"{layer.title}: mean and variance must be numbers") from None
        F = self._features or max(a.size for a in given)
        if any(a.size not in (1, F) for a in given):
            raise FormatError(f"{layer.title}: mean and variance must have {F} numbers")
        mean, variance = (np.full(F, a[0]) if a.size == 1 else a for a in given)
        self.found.append(Normalization(mean, variance, bool(config.get("invert", False))))

    def _dense(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        self.found += _dense(layer, layer.config, layer.arrays[0])

    def _activation(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        if layer.kind == "ReLU":
            _refuse(layer, max_value=None, negative_slope=0, threshold=0)
        if layer.kind == "Softmax":
            _refuse(layer, axis=-1)
        function = (
            layer.kind.lower() if layer.kind != "Activation" else _function(layer.config.get("activation"))
        )
        if function not in ("linear", "sigmoid", "tanh", "relu", "softmax"):
            raise UnsupportedError(f"{layer.title} has `activation` = {function!r}, which is not supported")
        if function != "linear":
            self.found.append(Activation(cast(Any, function)))

    def _time_distributed(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        inner = _inner(layer, "layer")
        if inner["class_name"] in ("Dropout", "Identity"):
            return
        wrapped = KerasLayer(layer.name, str(inner["class_name"]), inner["config"], layer.arrays)
        if wrapped.kind == "Dense":
            self._check_common(wrapped)
            self._dense(k, wrapped)
        elif wrapped.kind == "Activation":
            self._activation(k, wrapped)
        else:
            raise UnsupportedError(f"{layer.title} of {wrapped.kind} is not supported; one of Dense is")

    def _check_mask(self, layer: KerasLayer, config: dict[str, Any], zeros: bool) -> None:
        """Refuses masks that a recurrent layer treats in another way than ours do.

        Args:
            zeros: whether it gives zeros for masked steps.
        """
        if self._ended:
            raise UnsupportedError(
                f"{layer.title} would read a mask that {self._ended} let end in Keras 2, which is not supported; put "
                "the mask behind that, or open and save the model in Keras 3, where it stays"
            )
        if self._mask is not None and zeros and config.get("unroll"):
            raise UnsupportedError(
                f"{layer.title} has `unroll` = True and gives zeros for masked steps, on which Keras's backends do not "
                "agree; with `unroll` = False it has the same weights, and is supported"
            )

    def _recurrent(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        config = layer.config
        self._check_mask(layer, config, bool(config.get("zero_output_for_mask")))
        sequences, backwards = bool(config.get("return_sequences")), bool(config.get("go_backwards"))
        zero = self._mask is not None and bool(config.get("zero_output_for_mask"))
        if zero and not sequences:
            raise UnsupportedError(
                f"{layer.title} has `zero_output_for_mask` = True without sequences, which is not supported"
            )
        if backwards and sequences and self._mask is not None:
            raise UnsupportedError(
                f"{layer.title} has `go_backwards` = True with a mask and sequences, which is not supported: "
                "Keras turns the outputs, but not the mask"
            )
        made = Recurrent(
            directions=(_weights(layer, layer.kind, config, 0),),
            reverse=backwards,
            return_sequences=sequences or not backwards,
            zero_output_for_mask=zero,
            **_options(layer, layer.kind, config),
        )
        self.found.append(made)
        if backwards and sequences:
            self.found.append(Reverse())
        elif not backwards and not sequences:
            self.found.append(LastStep())
        self._after(sequences)

    def _bidirectional(self, k: int, layer: KerasLayer) -> None:
        self._sequence(layer)
        merge = layer.config.get("merge_mode", "concat")
        if merge not in ("concat", "sum", "mul", "ave"):
            raise UnsupportedError(
                f"{layer.title} has `merge_mode` = {merge!r}, which gives two outputs; "
                "'concat', 'sum', 'mul' and 'ave' are supported"
            )
        forward = _inner(layer, "layer")
        backward = _inner(layer, "backward_layer") if layer.config.get("backward_layer") else forward
        for inner in (forward, backward):
            wrapped = KerasLayer(
                inner["config"].get("name", layer.name), inner["class_name"], inner["config"], ()
            )
            if wrapped.kind not in _CELLS:
                raise UnsupportedError(
                    f"{layer.title} of {wrapped.kind} is not supported; of {', '.join(_CELLS)} it is"
                )
            self._check_common(wrapped)
        kind, config = forward["class_name"], forward["config"]
        options = [_options(layer, inner["class_name"], inner["config"]) for inner in (forward, backward)]
        sequences = bool(config.get("return_sequences"))
        self._check_mask(
            layer, {"unroll": config.get("unroll") or backward["config"].get("unroll")}, sequences
        )
        if options[0] != options[1] or sequences != bool(backward["config"].get("return_sequences")):
            raise UnsupportedError(f"{layer.title} has two different layers, which is not supported")
        turned = backward is forward or backward["config"].get("go_backwards")
        if config.get("go_backwards") or not turned:
            raise UnsupportedError(
                f"{layer.title} has a forward layer that goes backwards, which is not supported"
            )
        self.found.append(
            Recurrent(
                directions=(
                    _weights(layer, kind, config, 0),
                    _weights(layer, kind, backward["config"], 1),
                ),
                merge=merge,
                return_sequences=sequences,
                zero_output_for_mask=sequences and self._mask is not None,  # as Keras sets it
                **options[0],
            )
        )
        self._after(sequences)

    def _after(self, sequences: bool) -> None:
        if not sequences:
            self._rank, self._mask = None, None


_ADDED: dict[str, Callable[[_Reading, int, KerasLayer], None]] = {
    "InputLayer": _Reading._input,
    **dict.fromkeys(_SILENT, _Reading._nothing),
    **dict.fromkeys(_CELLS, _Reading._recurrent),
    **dict.fromkeys(("Activation", "ReLU", "Softmax"), _Reading._activation),
    "Bidirectional": _Reading._bidirectional,
    "Dense": _Reading._dense,
    "Embedding": _Reading._embedding,
    "GetItem": _Reading._item,
    "Masking": _Reading._masking,
    "Normalization": _Reading._normalization,
    "TimeDistributed": _Reading._time_distributed,
}


def _refuse(layer: KerasLayer, **wanted: Any) -> None:
    """Refuses an option that is there and has another value."""
    for name, value in wanted.items():
        got = layer.config.get(name, value)
        if got != value and not (value is False and got is None):
            raise UnsupportedError(f"{layer.title} has `{name}` = {str(got)[:60]}, which is not supported")


def _index(index: Any) -> str:
    """What stands in the brackets of a GetItem."""
    parts = index if isinstance(index, list) else [index]
    shown = []
    for part in parts:
        kind, config = (part.get("class_name"), part.get("config")) if isinstance(part, dict) else ("", None)
        if kind == "__slice__" and isinstance(config, dict):
            ends = [config.get(name) for name in ("start", "stop", "step")]
            shown.append(
                ":".join("" if end is None else str(end) for end in ends[: 2 + (ends[2] is not None)])
            )
        else:
            shown.append("..." if kind == "__ellipsis__" else str(part))
    return f"[{', '.join(shown)}]"[:60]


def _inner(layer: KerasLayer, name: str) -> dict[str, Any]:
    """The layer that a wrapper holds."""
    inner = layer.config.get(name)
    if not isinstance(inner, dict) or not isinstance(inner.get("config"), dict):
        raise FormatError(f"{layer.title} has no `{name}`")
    if not isinstance(inner.get("class_name"), str):
        raise FormatError(f"{layer.title} has a `{name}` without a class")
    return inner


def _function(activation: Any) -> str:
    """The name of an activation, which may be the configuration of a function; of a layer that of its class."""
    if isinstance(activation, dict):
        if activation.get("class_name") != "function":
            return f"a layer {activation.get('class_name')}"[:60]
        activation = activation.get("config")
    return "linear" if activation is None else str(activation)[:60]


def _options(layer: KerasLayer, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """What the weights do not say of a cell."""
    function = _function(config.get("activation", "tanh"))
    if function not in (functions := ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)):
        supported = f"{' and '.join(map(repr, functions))} {'are' if len(functions) > 1 else 'is'} supported"
        raise UnsupportedError(f"{layer.title} has `activation` = {function!r}; {supported}")
    recurrent = _function(config.get("recurrent_activation", "sigmoid"))
    if kind != "SimpleRNN" and recurrent != "sigmoid":
        raise UnsupportedError(
            f"{layer.title} has `recurrent_activation` = {recurrent!r}; 'sigmoid' is supported"
        )
    options: dict[str, Any] = {"cell": _CELLS[kind]}
    if kind == "GRU":
        options["reset"] = "after" if config.get("reset_after", False) else "before"
    if kind == "SimpleRNN":
        options["activation"] = function
    return options


def _weights(layer: KerasLayer, kind: str, config: dict[str, Any], part: int) -> Weights:
    bias = bool(config.get("use_bias", True))
    kernel, recurrent_kernel, *rest = _arrays(layer, part, 2 + bias)
    cell = _CELLS[kind]
    H, G = config.get("units"), len(layout.ORDERS[cast(Any, cell)]["keras"])
    if type(H) is not int or recurrent_kernel.shape != (H, G * H):
        raise FormatError(f"{layer.title} has `units` = {H!r}, but weights of shape {recurrent_kernel.shape}")
    if kind == "GRU" and bias and (rest[0].ndim == 2) != bool(config.get("reset_after", False)):
        raise FormatError(
            f"{layer.title} has a bias of shape {rest[0].shape}, which is not of its `reset_after`"
        )
    made = layout.from_keras(cast(Any, cell), kernel, recurrent_kernel, *rest)
    return Weights(*made)


def _dense(layer: KerasLayer, config: dict[str, Any], arrays: list[Array]) -> list[Layer]:
    bias = bool(config.get("use_bias", True))
    if len(arrays) != 1 + bias:
        raise FormatError(f"{layer.title} must have {1 + bias} weights, got {len(arrays)}")
    kernel = arrays[0]
    if kernel.ndim != 2 or kernel.shape[1] != config.get("units"):
        raise FormatError(
            f"{layer.title} has `units` = {config.get('units')!r}, but weights of {kernel.shape}"
        )
    function = _function(config.get("activation"))
    if function not in ("linear", "sigmoid", "tanh", "relu", "softmax"):
        raise UnsupportedError(f"{layer.title} has `activation` = {function!r}, which is not supported")
    own = {"linear": "identity", "softmax": "identity"}.get(function, function)
    dense = Dense(np.ascontiguousarray(kernel.T), arrays[1] if bias else None, cast(Any, own))  # type: ignore[arg-type]
    return [dense, Activation("softmax")] if function == "softmax" else [dense]


def _arrays(layer: KerasLayer, part: int, count: int) -> list[Array]:
    arrays = layer.arrays[part]
    if len(arrays) != count:
        raise FormatError(f"{layer.title} must have {count} weights, got {len(arrays)}")
    return arrays


def _shaped(layer: KerasLayer, array: Array, *names: str) -> Array:
    wanted = tuple(layer.config.get(name) for name in names)
    if array.shape != wanted:
        raise FormatError(f"{layer.title} must have weights of shape {wanted}, got {array.shape}")
    return array


def _dtype(layer: KerasLayer) -> str | None:
    """The name of the dtype that a layer computes in; None where it does not say."""
    dtype = layer.config.get("dtype")
    if isinstance(dtype, dict):
        dtype = (dtype.get("config") or {}).get("name")
    return None if dtype is None else str(dtype)[:60]
