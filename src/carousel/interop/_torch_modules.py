"""torch's modules, and those of carousel.nn, as layers of a Network; imports torch, so it is imported late."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from carousel.errors import UnsupportedError, printable
from carousel.interop import _torch_layers as made
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

__all__ = ["check_tensor", "check_tensors", "is_known", "joined", "leaves", "recurrent_layers", "unwrapped"]

_SHARED = ("peephole", "coupled_gates", "reset", "clip")  # options of carousel.nn that a Network has
_ACTIVATIONS = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Softmax)
_SILENT = (nn.Dropout, nn.Identity)
_MADE = (made.Merged, made.Last, made.Flip, made.Standardized)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module in a DataParallel, or in what torch.compile gave; any other as it is."""
    compiled = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(module, compiled):
            module = cast(Any, module)._orig_mod
        else:
            return module


def check_tensors(module: nn.Module) -> None:
    """Raises an UnsupportedError where a parameter or a buffer has no numbers, by its name."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise UnsupportedError(f"`module.{name}` has no shape yet; run the module once.")
        check_tensor(f"`module.{name}`", tensor)


def check_tensor(name: str, tensor: torch.Tensor) -> None:
    """Raises an UnsupportedError where `tensor` has no numbers, or not one in each place."""
    if tensor.is_meta:
        raise UnsupportedError(f"{name} is on the device meta, without numbers; load its weights first.")
    if tensor.layout is not torch.strided or tensor.is_nested:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise UnsupportedError(
            f"{name} must be a dense tensor, got one that is {layout}; call .to_dense() first."
        )


def is_known(module: nn.Module) -> bool:
    """Whether it is a layer that a Network can have, whatever its options."""
    return isinstance(module, (nn.RNNBase, nn.Linear, nn.Embedding, *_ACTIVATIONS, *_SILENT, *_MADE))


def leaves(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules in a Sequential, nested at will, by their names; of any other the module itself."""
    module = unwrapped(module)
    if type(module) in (nn.Sequential, made.Layers):  # a subclass may compute anything
        for child, leaf in module.named_children():
            yield from leaves(f"{name}.{child}", leaf)
    else:
        yield name, module


def joined(
    parts: Iterable[tuple[str, nn.Module]], after: Callable[[int, list[Layer]], None] | None = None
) -> tuple[Network, tuple[tuple[str, str], ...]]:
    """The Network of modules one after the other, and what became of each.

    Args:
        parts: with their names.
        after: is called with the number of each and the layers so far, which it may change.

    Raises:
        UnsupportedError: a module or an option that a Network cannot express.
        ShapeError: modules that do not fit one another.
    """
    layers: list[Layer] = []
    told: list[tuple[str, str]] = []
    for k, (name, leaf) in enumerate(parts):
        before = list(layers)
        _append(layers, name, leaf)
        if after is not None:
            after(k, layers)
        new = [layer.title for layer in layers if not any(layer is old for old in before)]
        told.append((f"{name} ({type(leaf).__name__})", " + ".join(new) or "nothing"))
    return Network(tuple(layers)), tuple(told)


def recurrent_layers(module: nn.RNNBase) -> tuple[Recurrent, ...]:
    """The layers of a torch.nn.LSTM, GRU or RNN, bottom first; their weights are copies."""
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
    if isinstance(module, nn.LSTM):
        make = {"cell": "lstm", "coupled_gates": ours is not None and ours.coupled_gates}
    elif isinstance(module, nn.GRU):
        make = {"cell": "gru", "reset": "after" if ours is None else ours.reset}
    else:
        make["activation"] = str(module.nonlinearity)
    make["clip"] = (ours.clip or None) if ours is not None else None
    suffixes = ["", "_reverse"] if module.bidirectional else [""]
    return tuple(
        Recurrent(directions=tuple(_weights(module, f"l{k}{suffix}") for suffix in suffixes), **make)
        for k in range(module.num_layers)
    )


def _weights(module: nn.RNNBase, suffix: str) -> Weights:
    def array(name: str) -> Any:
        tensor = getattr(module, f"{name}_{suffix}", None)
        return None if tensor is None else _array(tensor)

    return Weights(*map(array, ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch")))


def _append(layers: list[Layer], name: str, leaf: nn.Module) -> None:
    """Adds what `leaf` computes to `layers`."""
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
    elif isinstance(leaf, _ACTIVATIONS):
        _append_activation(layers, name, leaf)
    elif not isinstance(leaf, _SILENT):
        raise UnsupportedError(
            f"`{name}` is {printable(type(leaf).__name__)}, but a Network is made of LSTM, GRU, RNN and Linear; "
            "convert those inside it one by one."
        )


def _append_activation(layers: list[Layer], name: str, leaf: nn.Module) -> None:
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
    if tensor.dtype not in (torch.float32, torch.float64):
        raise UnsupportedError(f"a Network is float32 or float64, got {tensor.dtype}; call .float() first.")
    return tensor.detach().cpu().numpy()
