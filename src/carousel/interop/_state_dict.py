"""Files of torch that hold a state_dict: weights by name, and nothing of the model around them.

What a state_dict does not say is not guessed: an RNN's activation, or what stands between two linear layers.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from typing import Any

from carousel.errors import CarouselError, FormatError, UnsupportedError, printable
from carousel.interop import torch as interop
from carousel.interop.verification import Conversion
from carousel.network import (
    Dense,
    Embedding,
    Layer,
    Network,
    Normalization,
    Recurrent,
    Weights,
    atomic,
)

__all__ = ["conversion", "read", "save"]

_CHECK = "torch's own layers with these weights"
_ASSUMED = "taken to follow each other directly at every step, which a state_dict does not say"
_SAVE = "save `model.state_dict()`, or load the model in Python, where you trust it, and convert it there"
_NAME = re.compile(r"(weight|bias)_(ih|hh)_l([0-9]{1,4})(_reverse)?")
EXPANSION, ALLOWANCE = (
    20,
    4096,
)  # torch stores, it does not compress; who packs a file again gains a few per cent
_CELLS: dict[int, Any] = {4: "lstm", 3: "gru"}


def read(path: str | os.PathLike[str]) -> Conversion:
    """The Network of LSTM or GRU layers, and at most one Linear after them, each step's output through it.

    The file has weights alone: that the Linear reads the layers at every step, nothing between, is assumed and told.

    Raises:
        FormatError: the file is damaged, or holds anything but tensors by name.
        UnsupportedError: weights whose use their names do not say.
        OSError: the system could not read.
    """
    import torch

    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}.") from None
    except (FileNotFoundError, PermissionError):
        raise
    except (
        Exception
    ) as error:  # of a damaged file; torch's unpickler and zipfile raise whatever they stumble over
        raise FormatError(
            f"{os.fspath(path)}: torch cannot read it as weights alone: {_reason(str(error) or type(error).__name__)}."
        ) from None
    return conversion(state, os.fspath(path))


def conversion(state: Any, name: str = "the state_dict") -> Conversion:
    """As `read`, of what a file held; errors begin with `name`."""
    try:
        entry, state = _weights(state)
        _check_metadata(state)
        network, told = _network(state)
        largest = interop.checked(interop.save(network), network, "in torch, the model")
    except UnsupportedError as error:
        raise UnsupportedError(f"{name}: {printable(error).rstrip('.')}.") from error
    except CarouselError as error:
        raise FormatError(f"{name}: {printable(error).rstrip('.')}.") from error
    told = tuple((f"{entry}: {theirs}" if entry else theirs, ours) for theirs, ours in told)
    if len(told) == 1:
        return Conversion(network, largest, _CHECK, told)
    names = " and ".join(repr(theirs) for theirs, _ in told)
    numbered = all(theirs.rpartition(".")[2].isdecimal() for theirs, _ in told)
    assumed = (
        "" if numbered else f"{name}: {names} are {_ASSUMED}; where they do not, convert the module itself"
    )
    return Conversion(network, largest, f"{_CHECK}, {_ASSUMED}", told, assumed)


def save(network: Network, path: str | os.PathLike[str]) -> Conversion:
    """Writes the state_dict of the module that `carousel.interop.torch.save` makes."""
    import torch

    module = interop.save(network)
    largest = interop.checked(module, network, "in torch, the module")
    sink = io.BytesIO()
    torch.save(module.state_dict(), sink)
    atomic.write(path, [sink.getvalue()])
    told = [(layer.title, type(child).__name__) for layer, child in zip(network.layers, module, strict=False)]
    unsaid = tuple(filter(None, map(_unsaid, network.layers)))
    return Conversion(
        network, largest, f"{_CHECK}; a state_dict holds the weights alone", tuple(told), unsaid=unsaid
    )


def _unsaid(layer: Layer) -> str:
    """What the weights of a layer do not say of it; "" where they say all."""
    if isinstance(layer, Dense):
        return "" if layer.activation == "identity" else f"the {layer.activation} of Dense"
    if isinstance(layer, Normalization):
        return f"the inversion of {layer.title}" * layer.invert
    if not isinstance(layer, Recurrent):
        return "" if isinstance(layer, Embedding) else layer.title
    options = {
        "activation": layer.cell == "rnn" and layer.activation,
        "merge": layer.merge != "concat" and layer.merge,
        "reverse": layer.reverse,
        "return_sequences=False": not layer.return_sequences,
    }
    said = [name if value is True else f"{name}={value}" for name, value in options.items() if value]
    return f"{', '.join(said)} of {layer.title}" if said else ""


def _reason(text: str) -> str:
    """What torch's message says, in one line, and the way out of what it advises against."""
    if found := re.search(r"GLOBAL `?([\w.]+)", text):
        return f"it holds {printable(found[1], 60)}, whose code does not run here; {_SAVE}"
    return printable(" ".join(text.split(". ")[0].split()), 160)


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Refuses what is no file, and members that would unpack to far more than is stored of them."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
        raise FormatError("it is not a regular file")
    if not os.path.getsize(path):
        raise FormatError("it is empty")
    if not zipfile.is_zipfile(path):
        return  # torch's older form, which packs nothing
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > EXPANSION * member.compress_size + ALLOWANCE:
                raise FormatError(
                    f"{member.filename[:60]!r} unpacks from {member.compress_size} bytes to {member.file_size}; "
                    f"the limit is {EXPANSION} times as many"
                )


def _network(state: Any) -> tuple[Network, tuple[tuple[str, str], ...]]:
    groups = _groups(state)
    layers: list[Layer] = []
    told: list[tuple[str, str]] = []
    last = None
    for prefix, named in groups.items():
        if last is not None and not _follows(last, prefix, isinstance(layers[-1], Dense), named):
            raise UnsupportedError(
                f"a state_dict does not say what stands between {last!r} and {prefix!r}; "
                "build the module and use carousel.interop.torch.load"
            )
        last = prefix
        new = _recurrent(prefix, named) if _is_recurrent(named) else [_linear(prefix, named)]
        layers += new
        told.append((prefix or "weights", " + ".join(layer.title for layer in new)))
    return Network(tuple(layers)), tuple(told)


def _follows(last: str, prefix: str, dense: bool, named: dict[str, Any]) -> bool:
    """Whether a module reads what the one before it gives, for all that their names say.

    The parts of a Sequential are numbered, also those without weights; elsewhere nothing tells the order of two
    recurrent modules, nor the activation between two linear ones.
    """
    root, _, number = last.rpartition(".")
    if number.isdecimal():
        return prefix == f"{root}.{int(number) + 1}".lstrip(".") and not dense
    return not dense and not _is_recurrent(named)


def _is_recurrent(named: dict[str, Any]) -> bool:
    return any(map(_NAME.fullmatch, named))


def _check_metadata(state: Any) -> None:
    """Refuses weights of layers of `carousel.nn` that compute something else than torch's with the same names."""
    metadata = getattr(state, "_metadata", None)  # of a file: it may be anything
    for name, told in metadata.items() if isinstance(metadata, dict) else ():
        if isinstance(told, dict) and "carousel" in told:
            of = f" of {str(name)[:60]!r}" if name else ""
            raise UnsupportedError(
                f"the weights{of} are those of carousel.nn.{printable(str(told['carousel']), 160)}, which computes "
                "something else than torch's layers of these names; build that module and load its state_dict: "
                "carousel.interop.torch.load takes the module where a Network can be that"
            )


def _weights(state: Any) -> tuple[str, Any]:
    """The weights in a checkpoint, with the name of their entry; "" where `state` holds them itself."""
    if not isinstance(state, dict) or _holds_weights(state):
        return "", state
    inner = {
        str(name): value for name, value in state.items() if isinstance(value, dict) and _holds_weights(value)
    }
    if len(inner) > 1:
        names = " and ".join(map(repr, inner))
        raise FormatError(f"it holds weights in {names}; save one of them as a state_dict of its own")
    return next(iter(inner.items()), ("", state))


def _holds_weights(entry: dict[Any, Any]) -> bool:
    """Whether tensors have the names of weights; others of a checkpoint are a loss, or the state of a generator."""
    import torch

    own = {str(name).rpartition(".")[2] for name, value in entry.items() if isinstance(value, torch.Tensor)}
    return any(name in ("weight", "bias") or _NAME.fullmatch(name) for name in own)


def _groups(state: Any) -> dict[str, dict[str, Any]]:
    """The arrays by the name of their module and their own."""
    import torch

    from carousel.interop._torch_modules import check_tensor

    if not isinstance(state, dict) or not state:
        raise FormatError(f"it must hold a state_dict, tensors by name, got {type(state).__name__}")
    groups: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise FormatError("it must hold a state_dict, tensors by name, and nothing else")
        if tensor.dtype not in (torch.float32, torch.float64):
            raise UnsupportedError(f"{name[:60]!r} is {tensor.dtype}; float32 and float64 are supported")
        check_tensor(repr(name[:60]), tensor)
        if not tensor.numel():
            raise FormatError(f"{name[:60]!r} must hold numbers, got shape {tuple(tensor.shape)}")
        stored = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > stored:  # a view of few numbers may claim any shape
            raise FormatError(
                f"{name[:60]!r} claims shape {tuple(tensor.shape)}, but {stored} bytes are stored"
            )
        prefix, _, own = name.rpartition(".")
        groups.setdefault(prefix, {})[own] = tensor.detach().cpu().numpy()
    return groups


def _linear(prefix: str, named: dict[str, Any]) -> Dense:
    if set(named) - {"bias"} != {"weight"} or named["weight"].ndim != 2:
        raise UnsupportedError(
            f"{prefix or 'the weights'!r} has {', '.join(sorted(named))[:80]}: no LSTM, GRU or Linear"
        )
    return Dense(named["weight"], named.get("bias"))  # type: ignore[arg-type]


def _recurrent(prefix: str, named: dict[str, Any]) -> list[Recurrent]:
    top = 0
    for name in sorted(named):
        if (match := _NAME.fullmatch(name)) is None:
            raise UnsupportedError(f"{prefix or 'the weights'!r} has {name[:60]!r}, which is not supported")
        top = max(top, int(match[3]))
    needed, suffixes = ["weight_ih", "weight_hh"], [""]
    if any(name.startswith("bias") for name in named):  # torch's `bias` is one flag of a whole module
        needed += ["bias_ih", "bias_hh"]
    if any(name.endswith("_reverse") for name in named):
        suffixes += ["_reverse"]
    layers: list[Recurrent] = []
    used: set[str] = set()
    for k in range(1 + top):
        directions = []
        for suffix in suffixes:
            names = [f"{name}_l{k}{suffix}" for name in needed]
            if missing := [name for name in names if name not in named]:
                raise FormatError(
                    f"{prefix or 'the weights'!r} must have {', '.join(names)}, but {missing[0]} is missing"
                )
            used.update(names)
            directions.append(Weights(*(named[name] for name in names)))
        W, R = directions[0].W, directions[0].R
        gates = len(W) // max(1, R.shape[1])
        if gates not in _CELLS:
            raise UnsupportedError(
                f"{prefix or 'the weights'!r} has {gates} gates: of an RNN a state_dict does not say whether tanh or "
                "relu; build the module and use carousel.interop.torch.load"
            )
        layers.append(Recurrent(_CELLS[gates], tuple(directions)))
    if set(named) - used:
        raise UnsupportedError(
            f"{prefix or 'the weights'!r} has {min(set(named) - used)!r}, which is not supported"
        )
    return layers
