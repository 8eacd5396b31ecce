"""Any torch model with an LSTM, GRU or RNN in it, on our kernels by one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from carousel.errors import UnsupportedError
from carousel.nn.cells import GRUCell, LSTMCell, RNNCell
from carousel.nn.layers import GRU, LSTM, RNN
from carousel.nn.stack import Stack

__all__ = ["OURS", "SUBCLASS", "Layer", "accelerate", "accelerated", "kernel_path", "restore"]

_Module = TypeVar("_Module", bound=torch.nn.Module)

OURS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNN: RNN,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}
SUBCLASS = "a subclass may compute something else"
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

    Only the class of a layer changes: parameters, buffers, hooks and names stay, so optimisers, checkpoints
    and references hold. Subclasses that somebody wrote are left alone; `accelerated` lists them.

    Returns:
        The same module.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.GRU(3, 8))
        >>> accelerate(model) is model
        True
        >>> [str(layer) for layer in accelerated(model)]
        ['0: GRU accelerated']
    """
    for layer in module.modules():
        ours = OURS.get(type(layer))
        if ours is not None:
            layer.__class__ = ours
            layer.__dict__[_MARK] = True
    return module


def restore(module: _Module) -> _Module:
    """Undoes `accelerate`, in place; layers that were ours from the start stay ours."""
    for layer in module.modules():
        if layer.__dict__.pop(_MARK, False) and type(layer) in _TORCH:
            layer.__class__ = _TORCH[type(layer)]
    return module


def accelerated(module: torch.nn.Module) -> list[Layer]:
    """Every recurrent layer of `module`: those on our kernels, and those left with the reason."""
    layers = []
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        if type(layer) in _TORCH:
            layers.append(Layer(name, kind, "accelerated"))
        elif type(layer) in OURS:
            layers.append(Layer(name, kind, "left", "added since accelerate(model) was called, if ever"))
        elif isinstance(layer, torch.nn.RNNBase | torch.nn.RNNCellBase):
            layers.append(Layer(name, kind, "left", SUBCLASS))
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
    if isinstance(module, (*_TORCH, Stack)):  # subclasses too: parametrizations make one
        return str(module.kernel_path(x, hx))  # type: ignore[operator]
    if isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        return "torch: not accelerated; call carousel.accelerate(module)"
    raise UnsupportedError(
        f"`module` must be a recurrent layer, got {type(module).__name__}; "
        "carousel.accelerated(model) lists those inside a model."
    )
