"""Any torch model with an LSTM, GRU or RNN in it, on our kernels by one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.utils.parametrize import is_parametrized

from carousel.errors import ArgumentError, UnsupportedError
from carousel.nn.cells import GRUCell, LSTMCell, RNNCell
from carousel.nn.layers import GRU, LSTM, RNN
from carousel.nn.stack import Stack

__all__ = [
    "OURS",
    "SUBCLASS",
    "SUBSTITUTED",
    "Layer",
    "accelerate",
    "accelerated",
    "kernel_path",
    "restore",
    "written",
]

_Module = TypeVar("_Module", bound=torch.nn.Module)

OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNN: RNN,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}
# Classes of torch's that `carousel run` has put on our kernels.
SUBSTITUTED: set[type[torch.nn.Module]] = set()
SUBCLASS = "a subclass may compute something else"
_KINDS = {cls.__name__ for cls in OURS}
_TORCH = {ours: torchs for torchs, ours in OURS.items()}
# On modules whose class `accelerate` changed, so that `restore` leaves those alone that were ours from the start.
_MARK = "_carousel_swapped"


@dataclass(frozen=True)
class Layer:
    """One recurrent layer of a model, and what `accelerate` did with it."""

    name: str
    type: str
    state: str  # "accelerated", "left"
    reason: str = ""

    def __str__(self) -> str:
        name = self.name or "(root)"
        return f"{name}: {self.type} {self.state}" + (f", {self.reason}" if self.reason else "")


def accelerate(module: _Module) -> _Module:
    """Puts every LSTM, GRU, RNN and cell of them inside `module`, or itself, on our kernels, in place.

    Only the class of a layer changes: parameters, buffers, hooks, parametrizations and names stay, so optimisers,
    checkpoints and references hold. Subclasses that somebody wrote are left alone; `accelerated` lists them.

    Returns:
        The same module.

    Raises:
        ArgumentError: `module` is none.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.GRU(3, 8))
        >>> accelerate(model) is model
        True
        >>> [str(layer) for layer in accelerated(model)]
        ['0: GRU accelerated']
    """
    _check(module)
    for layer in module.modules():
        ours = OURS.get(written(layer))
        if ours is not None:
            _turn(layer, ours)
            layer.__dict__[_MARK] = True
    return module


def restore(module: _Module) -> _Module:
    """Undoes `accelerate`, in place; layers that were ours from the start stay ours."""
    _check(module)
    for layer in module.modules():
        torchs = _TORCH.get(written(layer))
        if torchs is not None and layer.__dict__.pop(_MARK, False):
            _turn(layer, torchs)
    return module


def accelerated(module: torch.nn.Module) -> list[Layer]:
    """Every recurrent layer of `module`: those on our kernels, and those left with the reason."""
    _check(module)
    layers = []
    for name, layer in module.named_modules():
        if _ours(layer) is not None:
            layers.append(Layer(name, _kind(layer), "accelerated"))
        elif (reason := _why_left(layer)) is not None:
            layers.append(Layer(name, _kind(layer), "left", reason))
    return layers


def kernel_path(module: torch.nn.Module, x: Any, hx: Any = None) -> str:
    """Which path the call `module(x, hx)` takes, and why.

    Returns:
        "carousel: avx512 float32", or "torch: " and the reason.

    Raises:
        UnsupportedError: `module` is not a recurrent layer.

    Example:
        >>> kernel_path(LSTM(3, 8).half(), torch.zeros(20, 4, 3).half())
        'torch: dtype torch.float16'
    """
    ours: Any = type(module) if isinstance(module, Stack) else _ours(module)
    if ours is not None:
        return str(ours.kernel_path(module, x, hx))
    reason = _why_left(module)
    if reason is not None:
        return f"torch: {reason}"
    raise UnsupportedError(
        f"`module` must be a recurrent layer, got {type(module).__name__}; "
        "carousel.accelerated(model) lists those inside a model."
    )


def written(layer: torch.nn.Module) -> type[Any]:
    """The class of `layer`; of a parametrized one that from which torch has derived a class for it."""
    cls = type(layer)
    return cls.__bases__[0] if is_parametrized(layer) else cls


def _check(module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        got = f"{type(module).__name__}; several go in a torch.nn.ModuleList"
        if isinstance(module, type):
            got = f"the class {module.__name__}; give a module that it has made"
        raise ArgumentError(f"`module` must be a torch.nn.Module, got {got}.")


def _ours(layer: torch.nn.Module) -> type[Any] | None:
    """Our class whose method a call of `layer` runs, None where there is none."""
    if isinstance(layer, tuple(_TORCH)):  # subclasses too: parametrizations make one
        return type(layer)
    cls = written(layer)
    return OURS[cls] if cls in SUBSTITUTED else None


def _kind(layer: torch.nn.Module) -> str:
    kind = type(layer).__name__
    return str(getattr(layer, "original_name", kind)) if isinstance(layer, torch.jit.ScriptModule) else kind


def _why_left(layer: torch.nn.Module) -> str | None:
    """Why a recurrent layer that is not on our kernels is not; None of all else."""
    cls = written(layer)
    if cls in OURS:
        return "not accelerated; call carousel.accelerate(module)"
    if isinstance(layer, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return SUBCLASS
    if isinstance(layer, torch.jit.ScriptModule) and _kind(layer) in _KINDS:
        return "compiled by torch.jit, which takes torch's operations"
    if cls.__module__.startswith("torch.ao.nn.quant") and cls.__name__ in _KINDS:
        return "quantized"
    return None


def _turn(layer: torch.nn.Module, cls: type[torch.nn.Module]) -> None:
    """Makes `layer` a `cls`. Copies of a parametrized one share the class that torch derived, so it gets a new one."""
    derived = type(layer)
    layer.__class__ = type(derived.__name__, (cls,), dict(vars(derived))) if is_parametrized(layer) else cls
