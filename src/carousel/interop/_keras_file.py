"""What is in a Keras file, `.keras` or `.h5`: a linear list of layers, each with its configuration and arrays.

Without Keras: the archive is opened by zipfile, the weights by h5py, and no class is looked up by name.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from numpy.typing import NDArray

from carousel.errors import FormatError, UnsupportedError
from carousel.interop._hdf5 import Hdf5
from carousel.interop._keras_graph import chain
from carousel.network.canonical import parse

__all__ = ["KerasLayer", "layers_of"]

Array = NDArray[Any]

CONFIG_LIMIT = 16 * 2**20  # bytes of config.json; a thousand layers have one million
EXPANSION = 20  # Keras stores, it does not compress; who packs an archive again gains a few per cent
LAYER_LIMIT = 1000

_METADATA = "metadata.json"

# Where the arrays of a layer are, under its own group; nothing is the layer itself.
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_GROUPS = {
    **dict.fromkeys(_RECURRENT, ("cell",)),
    "Bidirectional": ("forward_layer/cell", "backward_layer/cell"),
    "TimeDistributed": ("layer",),
}


@dataclass(frozen=True)
class KerasLayer:
    """A layer as Keras has it.

    Args:
        name: in the model.
        kind: the name of its class.
        config: its configuration.
        arrays: one list for each part that has any: of a Bidirectional those of the forward and the backward cell.
        mask_of: of a layer that a functional model calls with a mask, which layer's output is compared with what.
        ends_mask: whether the mask of its input does not hold for its output, though it has the same steps.
    """

    name: str
    kind: str
    config: dict[str, Any]
    arrays: tuple[list[Array], ...]
    mask_of: tuple[str, Any] | None = None
    ends_mask: bool = False

    @property
    def title(self) -> str:
        return f"layer {self.name[:60]!r} ({self.kind[:60]})"


def layers_of(file: BinaryIO) -> list[KerasLayer]:
    """The layers of the Keras model in an open file, from the input to the output.

    Raises:
        FormatError: the file is damaged, hostile or no Keras model.
        UnsupportedError: the model is not one line of layers.
    """
    start = file.read(8)
    file.seek(0)
    if start.startswith(b"PK"):
        return _of_archive(file)
    if start == b"\x89HDF\r\n\x1a\n":
        with Hdf5.opened(file) as store:
            return _of_hdf5(store)
    raise FormatError("it is neither a .keras archive nor an HDF5 file")


def _of_archive(file: BinaryIO) -> list[KerasLayer]:
    with _archive(file) as archive:
        text = _member(archive, "config.json", CONFIG_LIMIT)
        weights = _member(archive, "model.weights.h5", None)
        names = archive.namelist()
        metadata = parse(_member(archive, _METADATA, CONFIG_LIMIT), _METADATA) if _METADATA in names else {}
    config = parse(text, "config.json")
    entries, version = _entries(config), metadata.get("keras_version") if isinstance(metadata, dict) else None
    with Hdf5.opened(io.BytesIO(weights)) as store:
        places = _places(config)
        layers = [_layer(store, entry, places.get(entry["name"], "")) for entry in entries]
    return _of_version(layers, str(version or ""))


def _of_hdf5(store: Hdf5) -> list[KerasLayer]:
    if not store.has("model_weights"):
        raise FormatError("it has no `model_weights`: weights alone are no model")
    config = parse("".join(store.texts("", "model_config")), "model_config")
    entries = _entries(config)
    for entry in entries:
        if entry.get("within"):
            raise UnsupportedError(
                f"layer {entry['name']!r} ({entry['class_name']}) is of a model within the model, which is read from "
                ".keras only; open the file in Keras and save it as that"
            )
    version = (
        "".join(store.texts("", "keras_version")[:1]) if store.has_attribute("", "keras_version") else ""
    )
    return _of_version([_legacy_layer(store, entry) for entry in entries], version)


def _of_version(layers: list[KerasLayer], version: str) -> list[KerasLayer]:
    """Before Keras 3, `Identity` and `Normalization` gave no mask on."""
    if not version.startswith("2."):
        return layers
    return [replace(layer, ends_mask=layer.kind in ("Identity", "Normalization")) for layer in layers]


@contextmanager
def _archive(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive, its names and sizes checked before anything is read."""
    try:
        with zipfile.ZipFile(file) as archive:
            seen = set()
            for info in archive.infolist():
                name = PurePosixPath(info.filename)
                if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename:
                    raise FormatError(f"the archive has a member {info.filename!r}, which leads out of it")
                if info.filename in seen:
                    raise FormatError(f"the archive has two members {info.filename!r}")
                seen.add(info.filename)
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, FormatError | UnsupportedError):
            raise
        raise FormatError(f"zipfile cannot read it: {ascii(str(error))[1:-1][:160]}") from None
    except Exception as error:  # zlib.error, struct.error: no common base
        if type(error).__name__ != "error":
            raise
        raise FormatError(f"zipfile cannot read it: {ascii(str(error))[1:-1][:160]}") from None


def _member(archive: zipfile.ZipFile, name: str, limit: int | None) -> bytes:
    """The bytes of a member, at most `limit`; without one, at most `EXPANSION` times what is stored."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise FormatError(f"the archive has no member {name!r}") from None
    if info.flag_bits & 1:
        raise FormatError(f"the member {name!r} is encrypted")
    most = min(limit or info.file_size, EXPANSION * info.compress_size + 65536)
    if info.file_size > most:
        raise FormatError(
            f"the member {name!r} unpacks from {info.compress_size} bytes to {info.file_size}; the limit is {most}"
        )
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)  # what is not what was declared fails its checksum
    if len(data) != info.file_size:
        raise FormatError(f"the member {name!r} is cut short")
    return data


def _entries(config: Any) -> list[dict[str, Any]]:
    """The configurations of the layers, from the input to the output, each with `name` and `class_name`."""
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise FormatError("its configuration names no class of model")
    entries = chain(config)
    if len(entries) > LAYER_LIMIT:
        raise FormatError(f"it has {len(entries)} layers; the limit is {LAYER_LIMIT}")
    return entries


def _places(config: dict[str, Any], within: str = "", above: str = "") -> dict[str, str]:
    """The group of every layer: Keras counts the layers of a class, in the order of the configuration.

    Args:
        within: the group of the model that `config` is of.
        above: what the names of its layers begin with.
    """
    counts: dict[str, int] = {}
    places = {}
    for entry in config["config"]["layers"]:
        kind, name = entry["class_name"], above + entry["config"]["name"]
        if "inbound_nodes" not in entry and kind == "InputLayer":
            continue  # a Sequential does not count its input, which has no weights
        snake = _snake(kind)
        count = counts.get(snake, 0)
        counts[snake] = count + 1
        places[name] = f"{within}layers/{snake}_{count}" if count else f"{within}layers/{snake}"
        if kind == "Sequential":
            places |= _places(entry, f"{places[name]}/", f"{name}/")
    return places


def _snake(kind: str) -> str:
    """The name of a class as Keras writes it in paths.

    >>> _snake("LSTM"), _snake("SimpleRNN"), _snake("TimeDistributed")
    ('lstm', 'simple_rnn', 'time_distributed')
    """
    words = re.sub(r"\W+", "", kind)
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", words)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def _layer(store: Hdf5, entry: dict[str, Any], place: str) -> KerasLayer:
    groups = _GROUPS.get(entry["class_name"], ("",))
    found = tuple(_vars(store, f"{place}/{group}") for group in groups)
    return KerasLayer(entry["name"], entry["class_name"], entry["config"], found, entry.get("mask_of"))


def _vars(store: Hdf5, group: str) -> list[Array]:
    """The arrays `vars/0`, `vars/1`, ... of a group."""
    path = f"{group.rstrip('/')}/vars"
    names = store.names(path)
    if sorted(names) != sorted(map(str, range(len(names)))) or len(names) > 8:
        raise FormatError(f"`{path}` must hold 0, 1, ..., got {json.dumps(names)[:80]}")
    return [store.array(f"{path}/{k}") for k in range(len(names))]


def _legacy_layer(store: Hdf5, entry: dict[str, Any]) -> KerasLayer:
    """In the older format a layer has one list of names; that of two directions begins with the forward one's."""
    path = f"model_weights/{entry['name']}"
    names = [name for name in store.texts(path, "weight_names") if name != "0.0"] if store.has(path) else []
    if len(names) > 8:
        raise FormatError(f"`{path}` has {len(names)} weights; no layer here has so many")
    arrays = [store.array(f"{path}/{name}") for name in names]
    cut: tuple[list[Array], ...] = (arrays,)
    if entry["class_name"] == "Bidirectional":
        forward = _weight_count(entry["config"].get("layer"))
        cut = (arrays[:forward], arrays[forward:])
    return KerasLayer(entry["name"], entry["class_name"], entry["config"], cut, entry.get("mask_of"))


def _weight_count(inner: Any) -> int:
    """How many arrays a recurrent layer of this configuration has."""
    config = inner.get("config") if isinstance(inner, dict) else None
    return 2 + bool(config.get("use_bias", True) if isinstance(config, dict) else True)
