"""A Network as the bytes of a `.keras` file; the same network, the same bytes."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carousel import layout
from carousel.errors import UnsupportedError
from carousel.interop._hdf5 import h5py
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
)

__all__ = ["written"]

Array = NDArray[Any]
Groups = dict[str, list[Array]]

_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}
_VERSION = "3.0.0"  # of the form: the first that reads it


def written(network: Network) -> bytes:
    """The archive: metadata.json, config.json and model.weights.h5, not compressed, as Keras writes them."""
    writer = _Writer(network)
    sink = io.BytesIO()
    with h5py().File(sink, "w") as file:
        for path, arrays in writer.groups.items():
            group = file.create_group(f"{path}/vars")
            for k, array in enumerate(arrays):
                group.create_dataset(str(k), data=array)
    metadata = {"keras_version": _VERSION, "date_saved": "1980-01-01@00:00:00"}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for name, content in (
            ("metadata.json", json.dumps(metadata).encode()),
            ("config.json", json.dumps(writer.config()).encode()),
            ("model.weights.h5", sink.getvalue()),
        ):
            members.writestr(zipfile.ZipInfo(name), content)  # dated 1980, whenever it is written
    return archive.getvalue()


class _Writer:
    """The layers of a Sequential model, and the groups of their arrays."""

    def __init__(self, network: Network) -> None:
        self.groups: Groups = {}
        self._layers: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}
        self._dtype = str(network.dtype)
        self._masks = False  # whether steps may be left out where the next layer is
        self._shape = [None, None] if network.takes_ids else [None, None, network.input_size]
        self._input(network)
        layers = _last_steps_first(network.layers)
        while layers:
            layers = layers[self._add(layers) :]

    def config(self) -> dict[str, Any]:
        return {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"name": "carousel", "trainable": True, "dtype": self._policy, "layers": self._layers},
            "registered_name": None,
            "build_config": {"input_shape": self._shape},
        }

    @property
    def _policy(self) -> dict[str, Any]:
        return {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": self._dtype},
            "registered_name": None,
        }

    def _input(self, network: Network) -> None:
        dtype = "int32" if network.takes_ids else self._dtype
        config = {"batch_shape": self._shape, "dtype": dtype, "sparse": False, "name": "input"}
        self._layers.append(
            {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}
        )

    def _add(self, layers: list[Layer]) -> int:
        """Adds the first of `layers`, with what follows where Keras has both in one; returns how many."""
        first, second = layers[0], layers[1] if len(layers) > 1 else None
        if isinstance(first, Recurrent):
            return self._add_recurrent(first, second)
        if isinstance(first, Dense):
            config = {"units": first.output_size, "activation": _function(first.activation), "use_bias": True}
            self._append("Dense", config, {"": [np.ascontiguousarray(first.W.T), first.b]})
        elif isinstance(first, Activation):
            self._append("Activation", {"activation": first.function}, {})
        elif isinstance(first, Masking):
            self._append("Masking", {"mask_value": first.value}, {})
            self._masks = True
        elif isinstance(first, Embedding):
            sizes = {"input_dim": first.input_size, "output_dim": first.output_size}
            self._append("Embedding", {**sizes, "mask_zero": first.mask_zero}, {"": [first.W]})
            self._masks = first.mask_zero
        elif isinstance(first, Normalization):
            arrays = [first.mean, first.variance, np.array(0, np.int32)]
            self._append("Normalization", {"axis": [-1], "invert": first.invert}, {"": arrays})
        else:
            raise UnsupportedError(
                f"Keras has no layer for {first!r} here; it has one for a Recurrent with what follows it at once."
            )
        return 1

    def _add_recurrent(self, layer: Recurrent, second: Layer | None) -> int:
        for option in ("peephole", "coupled_gates", "clip"):
            if option in layer.beyond:
                raise UnsupportedError(f"Keras's {_KINDS[layer.cell]} has no `{option}`, as {layer!r} has.")
        config: dict[str, Any] = {
            "return_sequences": layer.return_sequences,
            "go_backwards": layer.reverse,
            "zero_output_for_mask": layer.zero_output_for_mask and layer.return_sequences,
            "units": layer.hidden_size,
            "activation": layer.activation,
            "use_bias": True,
        }
        if layer.cell != "rnn":
            config["recurrent_activation"] = "sigmoid"
        if layer.cell == "gru":
            config["reset_after"] = layer.reset == "after"
        arrays = [
            list(layout.to_keras(layer.cell, w.W, w.R, w.b_W, w.b_R, reset=layer.reset))
            for w in layer.directions
        ]
        if layer.bidirectional:
            return self._add_bidirectional(layer, config, arrays, second)
        taken = 1
        if layer.reverse and layer.return_sequences:
            if not isinstance(second, Reverse) or self._masks:
                raise UnsupportedError(
                    f"Keras has no {layer!r} that gives its outputs in the order of time; one followed by a "
                    "Reverse, without masks, it has."
                )
            taken = 2
        elif isinstance(second, LastStep):
            config["return_sequences"] = False
            taken = 2
        self._append(_KINDS[layer.cell], config, {"cell": arrays[0]})
        self._masks &= config["return_sequences"]
        return taken

    def _add_bidirectional(
        self, layer: Recurrent, config: dict[str, Any], arrays: list[list[Array]], second: Layer | None
    ) -> int:
        if isinstance(second, LastStep):
            raise UnsupportedError(
                f"Keras has no last step of {layer!r}, whose second direction has read one step then; "
                "`return_sequences` = False, the last state of each direction, it has."
            )
        if self._masks and layer.return_sequences and not layer.zero_output_for_mask:
            raise UnsupportedError(
                "Keras's Bidirectional gives zeros where a mask leaves a step out: "
                f"{layer!r} must have `zero_output_for_mask` = True."
            )
        kind = _KINDS[layer.cell]
        inner = self._entry(kind, {**config, "name": f"forward_{layer.cell}"})
        back = self._entry(kind, {**config, "name": f"backward_{layer.cell}", "go_backwards": True})
        both = {"merge_mode": layer.merge, "layer": inner, "backward_layer": back}
        self._append(
            "Bidirectional", both, {"forward_layer/cell": arrays[0], "backward_layer/cell": arrays[1]}
        )
        self._masks &= layer.return_sequences
        return 1

    def _append(self, kind: str, config: dict[str, Any], groups: Groups) -> None:
        snake = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}.get(kind, kind.lower())
        count = self._counts.get(snake, 0)
        self._counts[snake] = count + 1
        name = f"{snake}_{count}" if count else snake
        self._layers.append(self._entry(kind, {"name": name, **config}))
        for group, arrays in groups.items():
            self.groups[f"layers/{name}/{group}".rstrip("/")] = arrays

    def _entry(self, kind: str, config: dict[str, Any]) -> dict[str, Any]:
        full = {"trainable": True, "dtype": self._policy, **config}
        return {"module": "keras.layers", "class_name": kind, "config": full, "registered_name": None}


def _function(activation: str) -> str:
    return "linear" if activation == "identity" else activation


def _last_steps_first(layers: tuple[Layer, ...]) -> list[Layer]:
    """The same network, every LastStep before the layers that act on each step by itself."""
    found: list[Layer] = []
    for layer in layers:
        place = len(found)
        if isinstance(layer, LastStep):
            while place and isinstance(found[place - 1], Dense | Activation | Normalization):
                place -= 1
        found.insert(place, layer)
    return found
