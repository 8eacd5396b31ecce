"""Keras files, `.keras` and `.h5`, to Network and back, without Keras; h5py reads and writes the weights.

A Network is (T, B, I), a Keras model (B, T, I): the numbers are the same, the first two axes change places.

Every `load` and `save` ends with a trial: the Network and Keras's equations, written out in NumPy over the arrays of
the file, run on the same random sequence. Where the program has imported Keras, Keras itself runs, too; a model that is
there runs as it is.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from carousel.errors import ArgumentError, CarouselError, FormatError, UnsupportedError, printable
from carousel.interop._keras_equations import evaluate
from carousel.interop._keras_file import KerasLayer, layers_of
from carousel.interop._keras_layers import ours
from carousel.interop._keras_write import written
from carousel.interop._models import as_network
from carousel.interop.verification import Conversion, Trial, random_state, sample
from carousel.network import Network, atomic

__all__ = ["load", "read", "save"]

_EQUATIONS = "Keras's equations in NumPy, over the arrays of the file"
STEPS, ROWS = 7, 3  # of the trial, where a model fixes none


def load(path: Any) -> Network:
    """The Network of a Keras model, saved whole as `.keras` or `.h5`.

    Args:
        path: of the file; or a model of Keras that is there, which is saved to a folder of its own and read.

    Sequential, or a functional model that is one line of layers, of LSTM, GRU (reset_after or not), SimpleRNN and
    Bidirectional of them, Dense, TimeDistributed(Dense), Embedding, Masking, Normalization, Activation, ReLU, Softmax
    and dropout, which leaves nothing behind.

    Raises:
        FormatError: the file is damaged, hostile or no Keras model, or has weights that are not finite.
        UnsupportedError: something in it that a Network cannot express; the text names the layer and the option.
        ArgumentError: `path` is neither.
        OSError: the system could not read.
    """
    network: Network = read(path).network
    return network


def read(path: Any) -> Conversion:
    """As `load`, with the largest difference of the trial, which check ran, and what became of every layer."""
    if isinstance(path, str | os.PathLike):
        return _read_file(path, path)
    if not _is_keras(path):
        raise ArgumentError(f"`path` must be a path or a model of Keras, got {type(path).__name__}.")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.keras"
        path.save(file)
        return _read_file(file, f"the model {path.name!r}", path)


def _is_keras(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _read_file(path: str | os.PathLike[str], name: str | os.PathLike[str], live: Any = None) -> Conversion:
    """Args: live: the model of Keras that was saved as this file, where it is there."""
    with _naming(name), _opened(path) as file:
        layers, network, told = _read(file)
        largest, check = _trial(layers, network, Path(path), live=live)
    return Conversion(network, largest, check, tuple(told))


def save(network: Any, path: str | os.PathLike[str]) -> Conversion:
    """Writes a `.keras` file that Keras opens, and that gives the same predictions; atomically.

    Args:
        network: a Network, or a torch module that `carousel.interop.torch.load` takes.
        path: exactly this file.

    Raises:
        UnsupportedError: the network has something that Keras's layers cannot express; nothing is written.
        ArgumentError: `network` is something else; `path` does not end in .keras, as Keras wants it, or is a
            directory or a device.
        OSError: the system could not write.
    """
    if not os.fspath(path).endswith(".keras"):
        raise ArgumentError(f"`path` must end in .keras, for Keras opens no other, got {os.fspath(path)!r}.")
    if _is_keras(network):
        raise ArgumentError("`model` is Keras's own already; its method `save` writes it.")
    network = as_network(network)
    content = written(network)
    with _naming(path):
        layers, again, told = _read(io.BytesIO(content))
        if again.input_size != network.input_size or again.output_size != network.output_size:
            raise UnsupportedError("what was written came back with other sizes")
        with tempfile.TemporaryDirectory() as directory:
            trial = Path(directory) / "trial.keras"
            trial.write_bytes(content)
            largest, check = _trial(layers, network, trial, written=True)
    atomic.write(path, [content])
    return Conversion(network, largest, check, tuple((ours, foreign) for foreign, ours in told))


def _read(file: BinaryIO) -> tuple[list[KerasLayer], Network, list[tuple[str, str]]]:
    layers = layers_of(file)
    network, told = ours(layers)
    return layers, network, told


def _trial(
    layers: list[KerasLayer], network: Network, path: Path, written: bool = False, live: Any = None
) -> tuple[float, str]:
    """The largest difference and the check; raises an UnsupportedError above the tolerance.

    Args:
        path: of the file, for Keras.
        written: whether it is ours, which Keras must open.
        live: the model that was saved there; it may hold functions of which the file says only the name.
    """
    from carousel.stream import Model

    rng = np.random.default_rng(0)
    model = Model(network)
    B, T = _sizes(live)
    x = sample(network, rng, T, B)
    batch_first = x.swapaxes(0, 1)
    # Under a mask, Keras gives zeros, not the state, before the first step that counts.
    state = model.start(B) if network.masks else random_state(model, rng, B)
    states = [(h, h if c is None else c) for h, c in zip(state.h, state.c, strict=True)]
    expected = _time_first(evaluate(layers, batch_first, states), network)
    largest = Trial(network, x, state).check(
        model.run_from(x, state)[0], expected, "by Keras's equations, the model"
    )
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "saving"):
        return largest, _EQUATIONS
    try:
        theirs = keras.saving.load_model(path, compile=False) if live is None else live
        found = _predicted(keras, theirs, batch_first)
    except Exception as error:  # anything may go wrong in there
        reason = " ".join(str(error).split())[:160]
        if live is not None:
            raise UnsupportedError(f"Keras cannot run it: {reason}") from error
        if written:
            raise UnsupportedError(f"Keras cannot open it: {reason}") from error
        return (
            largest,
            f"{_EQUATIONS}; Keras itself cannot open the file",
        )  # functional .h5 with masks, for one
    by_keras = Trial(network, x).check(
        model.run(x), _time_first(found, network), "in Keras, the model", "float32"
    )  # some of its float64 is float32
    return max(largest, by_keras), f"{_EQUATIONS}, and keras {keras.__version__} on {keras.backend.backend()}"


def _sizes(live: Any) -> tuple[int, int]:
    """Rows and steps of the trial: those that a model fixes, others where it does not."""
    shape = getattr(live, "input_shape", None)
    fixed = shape[:2] if isinstance(shape, tuple) and len(shape) > 1 else (None, None)
    return fixed[0] or ROWS, fixed[1] or STEPS


def _time_first(y: Any, network: Network) -> Any:
    return y.swapaxes(0, 1) if network.per_step else y


def _predicted(keras: Any, model: Any, x: Any) -> Any:
    tensor = keras.ops.convert_to_tensor(x, dtype=str(x.dtype))  # an array of float64 would become float32
    return keras.ops.convert_to_numpy(model(tensor, training=False))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
        raise FormatError("it is not a regular file")
    with open(path, "rb") as file:
        yield file


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, what is wrong with the file begins with its path."""
    try:
        yield
    except RecursionError:
        raise FormatError(f"{os.fspath(path)}: it is nested too deeply.") from None
    except UnsupportedError as error:
        raise UnsupportedError(f"{os.fspath(path)}: {_said(error)}.") from error
    except CarouselError as error:
        raise FormatError(f"{os.fspath(path)}: {_said(error)}.") from error


def _said(error: CarouselError) -> str:
    """Its text, in which names of the file stand."""
    return printable(error, 600).rstrip(".")
