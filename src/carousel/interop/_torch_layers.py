"""The torch modules that `carousel.interop.torch.save` makes; imports torch, so it is imported late."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from carousel.errors import UnsupportedError
from carousel.network import Dense, Layer, Network, Recurrent

_ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class LastStep(nn.Module):
    """(T, B, F) -> (B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[-1]


class Layers(nn.Sequential):
    """Layers one after the other; of a recurrent one the outputs go on, its state does not."""

    @classmethod
    def of(cls, network: Network) -> Layers:
        return cls(*(module for layer in network.layers for module in _modules(layer)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)[0] if isinstance(layer, nn.RNNBase) else layer(x)
        return x


def _modules(layer: Layer) -> list[nn.Module]:
    if isinstance(layer, Recurrent):
        return [_recurrent(layer)]
    if isinstance(layer, Dense):
        linear = nn.Linear(layer.input_size, layer.output_size, dtype=_dtype(layer))
        _copy(linear, weight=layer.W, bias=layer.b)
        return [linear] if layer.activation == "identity" else [linear, _ACTIVATIONS[layer.activation]()]
    return [LastStep()]


def _recurrent(layer: Recurrent) -> nn.RNNBase:
    if layer.reset == "before":
        raise UnsupportedError(
            "torch.nn.GRU resets after the product with R; for `reset` = 'before' use carousel.nn.module."
        )
    sizes = (layer.input_size, layer.hidden_size)
    options: dict[str, Any] = {"bidirectional": layer.bidirectional, "dtype": _dtype(layer)}
    module: nn.RNNBase
    if layer.cell == "lstm":
        module = nn.LSTM(*sizes, **options)
    elif layer.cell == "gru":
        module = nn.GRU(*sizes, **options)
    else:
        module = nn.RNN(*sizes, nonlinearity=layer.activation, **options)
    for suffix, w in zip(("l0", "l0_reverse"), layer.directions, strict=False):
        named = {"weight_ih": w.W, "weight_hh": w.R, "bias_ih": w.b_W, "bias_hh": w.b_R}
        _copy(module, **{f"{name}_{suffix}": array for name, array in named.items()})
    return module


def _dtype(layer: Recurrent | Dense) -> torch.dtype:
    return torch.float64 if layer.dtype == "float64" else torch.float32


@torch.no_grad()
def _copy(module: nn.Module, **arrays: Any) -> None:
    for name, array in arrays.items():
        getattr(module, name).copy_(torch.from_numpy(array.copy()))
