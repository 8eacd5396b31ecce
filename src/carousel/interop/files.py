"""Models in files of any of our formats, by the ending of the name.

.keras          Keras, both ways        .onnx         ONNX, both ways
.h5 .hdf5       Keras, read only        .pt .pth      a state_dict of torch, both ways
anything else   carousel's own, but nothing is written under the endings of other programs
"""

from __future__ import annotations

import os
from pathlib import Path

from carousel import network as own
from carousel.errors import FormatError, UnsupportedError
from carousel.interop import keras, onnx
from carousel.interop.verification import Conversion
from carousel.network import ForecastModel, Network

__all__ = ["read", "save"]

# Endings of others, under which nobody looks for a file of ours.
OTHERS = {
    ".tflite": "TensorFlow Lite",
    ".pb": "TensorFlow",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".xml": "OpenVINO",
    ".engine": "TensorRT",
    ".gguf": "GGUF",
    ".ckpt": "checkpoints",
    ".pkl": "pickles",
    ".pickle": "pickles",
    ".joblib": "pickles",
    ".npz": "NumPy archives",
    ".npy": "NumPy arrays",
    ".json": "JSON",
    ".csv": "CSV",
    ".parquet": "Parquet",
    ".txt": "texts",
    ".html": "HTML",
    ".ort": "ONNX Runtime's own format",
    ".pte": "ExecuTorch",
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"), "compressed files"),
}


def read(path: str | os.PathLike[str]) -> Conversion:
    """The network in the file at `path`, and what the trial says.

    Raises:
        FormatError: the file is damaged, hostile, or not of the format that its name says.
        UnsupportedError: something in it that a Network cannot express.
        OSError: the system could not read.
    """
    ending = Path(path).suffix.lower()
    if ending in (".keras", ".h5", ".hdf5"):
        return keras.read(path)
    if ending == ".onnx":
        return onnx.read(path)
    if ending in (".pt", ".pth"):
        from carousel.interop import _state_dict

        return _state_dict.read(path)
    from carousel.stream.checkpoint import Checkpoint  # and what else is kept in files of ours

    value = own.load(path)
    if not isinstance(value, Network | ForecastModel):
        state = ", but the state that `--state` keeps; convert its model" * isinstance(value, Checkpoint)
        raise FormatError(f"{os.fspath(path)}: it holds neither a network nor a forecaster{state}.")
    return _of_ours(value)


def save(network: Network | ForecastModel, path: str | os.PathLike[str]) -> Conversion:
    """Writes `network`, or a whole forecaster, to exactly `path`, atomically; nothing where the trial fails.

    Raises:
        UnsupportedError: something that the format cannot express.
        OSError: the system could not write.
    """
    ending = Path(path).suffix.lower()
    if ending in OTHERS:
        raise UnsupportedError(
            f"{os.fspath(path)}: {OTHERS[ending]} cannot be written; give a name that ends in .onnx, .keras or .pt, "
            "or for our own file in .carousel."
        )
    if isinstance(network, ForecastModel):
        return _save_forecaster(network, path, ending)
    if ending == ".keras":
        return keras.save(network, path)
    if ending in (".h5", ".hdf5"):
        raise UnsupportedError(f"{os.fspath(path)}: .h5 is only read; write .keras, which Keras opens, too.")
    if ending == ".onnx":
        return onnx.save(network, path)
    if ending in (".pt", ".pth"):
        from carousel.interop import _state_dict

        return _state_dict.save(network, path)
    own.save(network, path)
    return _of_ours(network)


def _save_forecaster(value: ForecastModel, path: str | os.PathLike[str], ending: str) -> Conversion:
    if ending == ".onnx":
        return onnx.save(value, path)
    if ending in (".keras", ".h5", ".hdf5", ".pt", ".pth"):
        raise UnsupportedError(
            f"{os.fspath(path)}: a whole forecaster can be written as .onnx, not as {ending}."
        )
    own.save(value, path)
    return _of_ours(value)


def _of_ours(network: Network | ForecastModel) -> Conversion:
    if isinstance(network, ForecastModel):
        return Conversion(network, 0.0, "the SHA-256 of the file", (("forecaster", "forecaster"),))
    titles = tuple((layer.title, layer.title) for layer in network.layers)
    return Conversion(network, 0.0, "the SHA-256 of the file", titles)
