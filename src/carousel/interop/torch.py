"""torch modules to Network and back.

torch's gate order is ours, so weights cross unchanged, bit by bit. A Network is always (T, B, I): of a
`batch_first` module the numbers are the same, the first two axes change places.

Every `load` ends with a trial: module and Network run on the same random sequence. Of a file only a `state_dict` is
read and written, weights by name and no code: what it does not say of the model around them is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from carousel.errors import ArgumentError, UnsupportedError
from carousel.interop._models import as_network
from carousel.interop.verification import Conversion, check_difference, distance, sample
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
    Weights,
)

if TYPE_CHECKING:
    import torch

    from carousel.interop._torch_layers import Layers

__all__ = ["difference", "load", "read", "recurrent_layers", "save"]

_SHARED = ("peephole", "coupled_gates", "reset", "clip")  # options of carousel.nn that a Network has


def load(module: torch.nn.Module | str | os.PathLike[str] | Mapping[str, torch.Tensor]) -> Network:
    """The Network that computes what `module` computes in evaluation mode.

    Args:
        module: LSTM, GRU, RNN or Linear of `torch.nn`, or a Sequential of them, nested at will. A Linear
            may be followed by Sigmoid, Tanh, ReLU or Softmax; Dropout and Identity leave nothing behind. Of a
            recurrent module the outputs go on to the next one. What `save` makes comes back equal. Or a
            `state_dict`, or the path of a file that holds one: LSTM or GRU layers, and at most one Linear.

    Raises:
        UnsupportedError: a module or an option that a Network cannot express; the text names it. Or the
            module, a subclass or one with hooks, computes something else than its weights say. Or weights whose
            use their names do not say.
        ShapeError: modules that do not fit one another, or neither float32 nor float64.
        FormatError: the file is damaged, or holds anything but tensors by name.
        ArgumentError: `module` is none of these.
        OSError: the system could not read.

    Example:
        >>> import torch
        >>> network = load(torch.nn.Sequential(torch.nn.LSTM(3, 8, num_layers=2), torch.nn.Linear(8, 1)))
        >>> network
        Network(Recurrent(LSTM, 3 -> 8), Recurrent(LSTM, 8 -> 8), Dense(identity, 8 -> 1))
    """
    network: Network = read(module).network
    return network


def read(module: torch.nn.Module | str | os.PathLike[str] | Mapping[str, torch.Tensor]) -> Conversion:
    """As `load`, with the largest difference of the trial, which check ran, and what became of every module."""
    import torch

    from carousel.interop import _state_dict

    if isinstance(module, str | os.PathLike):
        return _state_dict.read(module)
    if isinstance(module, Mapping):
        return _state_dict.conversion(module)
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(
            f"`module` must be a torch module, a state_dict or a path of one, got {type(module).__name__}."
        )
    layers: list[Layer] = []
    told: list[tuple[str, str]] = []
    for name, leaf in _leaves("module", module):
        before = list(layers)
        _append(layers, name, leaf)
        new = [layer for layer in layers if not any(layer is old for old in before)]
        told.append(
            (f"{name} ({type(leaf).__name__})", " + ".join(layer.title for layer in new) or "nothing")
        )
    network = Network(tuple(layers))
    largest = difference(module, network)
    check_difference(largest, network, "`module`")
    return Conversion(network, largest, "torch's own modules", tuple(told))


def difference(module: torch.nn.Module, network: Network) -> float:
    """The largest difference between their outputs, relative to the largest output or 1.

    Both run on the same random sequence, the module a copy of it in evaluation mode.
    """
    import torch

    from carousel.stream import Model

    x = sample(network, np.random.default_rng(0), T=5, B=3)
    with torch.no_grad():
        y = torch.from_numpy(x).to(next(module.parameters()).device)
        for _, leaf in _leaves("module", deepcopy(module).eval()):
            if not isinstance(leaf, torch.nn.RNNBase):
                y = leaf(y)
            elif leaf.batch_first:
                y = leaf(y.transpose(0, 1))[0].transpose(0, 1)
            else:
                y = leaf(y)[0]
    expected = y.cpu().numpy()
    return distance(Model(network).run(x), expected)


@overload
def save(network: Network | torch.nn.Module) -> Layers: ...
@overload
def save(network: Network | torch.nn.Module, path: str | os.PathLike[str]) -> Conversion: ...
def save(
    network: Network | torch.nn.Module, path: str | os.PathLike[str] | None = None
) -> Layers | Conversion:
    """A torch module of the same numbers: a Sequential of torch's own layers, (T, B, I) in.

    Args:
        network: a Network, a torch module that `load` takes, or a model of Keras.
        path: of a file to write the `state_dict` of that module to, atomically, instead of giving the module; what
            comes back is what `read` tells.

    Raises:
        UnsupportedError: masks, and what torch.nn has no option for, such as a GRU whose reset gate acts before
            the product; the text names it.
        ArgumentError: `network` is something else, or `path` is a directory or a device.
        OSError: the system could not write.
    """
    from carousel.interop import _state_dict
    from carousel.interop._torch_layers import Layers

    network = as_network(network)
    return Layers.of(network) if path is None else _state_dict.save(network, path)


def recurrent_layers(module: torch.nn.RNNBase) -> tuple[Recurrent, ...]:
    """The layers of a torch.nn.LSTM, GRU or RNN, bottom first; their weights are copies."""
    import torch

    if getattr(module, "proj_size", 0):
        raise UnsupportedError(
            f"torch LSTM with `proj_size` = {module.proj_size}: a Network has no projection."
        )
    ours: Any = getattr(module, "_options", None)  # of carousel.nn: what torch's equations do not have
    if ours is not None and ours != type(ours)()._replace(**{name: getattr(ours, name) for name in _SHARED}):
        raise UnsupportedError(f"{module}: of these options a Network has only {', '.join(_SHARED)}.")
    if "h_0" in module._parameters:
        raise UnsupportedError(
            f"{module}: a Network starts from zeros, `learn_initial_state` cannot be kept."
        )
    make: dict[str, Any] = {"cell": "rnn"}
    if isinstance(module, torch.nn.LSTM):
        make = {"cell": "lstm", "coupled_gates": ours is not None and ours.coupled_gates}
    elif isinstance(module, torch.nn.GRU):
        make = {"cell": "gru", "reset": "after" if ours is None else ours.reset}
    else:
        make["activation"] = str(module.nonlinearity)
    make["clip"] = (ours.clip or None) if ours is not None else None
    suffixes = ["", "_reverse"] if module.bidirectional else [""]
    return tuple(
        Recurrent(directions=tuple(_weights(module, f"l{k}{suffix}") for suffix in suffixes), **make)
        for k in range(module.num_layers)
    )


def _weights(module: torch.nn.RNNBase, suffix: str) -> Weights:
    def array(name: str) -> Any:
        tensor = getattr(module, f"{name}_{suffix}", None)
        return None if tensor is None else _array(tensor)

    return Weights(*map(array, ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch")))


def _leaves(name: str, module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    import torch

    from carousel.interop._torch_layers import Layers

    if type(module) in (torch.nn.Sequential, Layers):  # a subclass may compute anything
        for child, leaf in module.named_children():
            yield from _leaves(f"{name}.{child}", leaf)
    else:
        yield name, module


def _append(layers: list[Layer], name: str, leaf: torch.nn.Module) -> None:
    """Adds what `leaf` computes to `layers`."""
    from torch import nn

    from carousel.interop import _torch_layers as made

    if isinstance(leaf, nn.LSTM | nn.GRU | nn.RNN):
        layers.extend(recurrent_layers(leaf))
    elif isinstance(leaf, made.Merged):
        (layer,) = recurrent_layers(leaf.recurrent)
        options = {"reverse": leaf.reverse, "merge": leaf.merge, "return_sequences": leaf.return_sequences}
        layers.append(replace(layer, **cast(Any, options)))
    elif isinstance(leaf, nn.Linear):
        layers.append(Dense(_array(leaf.weight), None if leaf.bias is None else _array(leaf.bias)))
    elif isinstance(leaf, made.Last):
        layers.append(LastStep())
    elif isinstance(leaf, made.Flip):
        layers.append(Reverse())
    elif isinstance(leaf, made.Standardized):
        layers.append(Normalization(_array(leaf.mean), _array(leaf.variance), leaf.invert))
    elif isinstance(leaf, nn.Embedding) and leaf.max_norm is None:
        layers.append(Embedding(_array(leaf.weight)))
    elif isinstance(leaf, nn.Sigmoid | nn.Tanh | nn.ReLU | nn.Softmax):
        _append_activation(layers, name, leaf)
    elif not isinstance(leaf, nn.Dropout | nn.Identity):
        raise UnsupportedError(
            f"`{name}` is {type(leaf).__name__}, but a Network is made of LSTM, GRU, RNN and Linear; "
            "convert those inside it one by one."
        )


def _append_activation(layers: list[Layer], name: str, leaf: torch.nn.Module) -> None:
    """An activation becomes one with the Linear before it, where a Dense has it."""
    last, function = layers[-1] if layers else None, type(leaf).__name__.lower()
    if function == "softmax" and leaf.dim != -1:
        raise UnsupportedError(
            f"`{name}` is Softmax with `dim` = {leaf.dim}, but a Network has dim = -1 only."
        )
    if isinstance(last, Dense) and last.activation == "identity" and function != "softmax":
        layers[-1] = replace(last, activation=cast(Any, function))
    else:
        layers.append(Activation(cast(Any, function)))


def _array(tensor: torch.Tensor) -> Any:
    import torch

    if tensor.dtype not in (torch.float32, torch.float64):
        raise UnsupportedError(f"a Network is float32 or float64, got {tensor.dtype}; call .float() first.")
    return tensor.detach().cpu().numpy()
