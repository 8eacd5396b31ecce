"""The torch modules that `carousel.interop.torch.save` makes; imports torch, so it is imported late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from carousel.errors import UnsupportedError
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    Layer,
    Masking,
    Network,
    Normalization,
    Recurrent,
    Reverse,
)

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softmax": lambda: nn.Softmax(dim=-1),
}
_TORCHS: Mapping[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Last(nn.Module):
    """(T, B, F) -> (B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[-1]


class Flip(nn.Module):
    """(T, B, F) -> (T, B, F), the last step first."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


class Standardized(nn.Module):
    """(x - mean) / max(√variance, 1e-7), or its inverse; mean and variance are buffers."""

    mean: Tensor
    variance: Tensor

    def __init__(self, layer: Normalization) -> None:
        super().__init__()
        self.invert = layer.invert
        self.register_buffer("mean", torch.from_numpy(layer.mean.copy()))
        self.register_buffer("variance", torch.from_numpy(layer.variance.copy()))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.variance.sqrt().clamp_min(1e-7)
        return self.mean + x * scale if self.invert else (x - self.mean) / scale


class Merged(nn.Module):
    """A recurrent module that reads from the end, merges its directions otherwise, or gives its last states."""

    def __init__(self, recurrent: nn.RNNBase, layer: Recurrent) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.reverse, self.merge = layer.reverse, layer.merge
        self.return_sequences = layer.return_sequences

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.recurrent(x.flip(0) if self.reverse else x)
        if not self.return_sequences:
            return self._merged(list(state[0] if isinstance(state, tuple) else state))
        return self._merged(list((y.flip(0) if self.reverse else y).split(self.recurrent.hidden_size, -1)))

    def _merged(self, parts: list[Tensor]) -> Tensor:
        if self.merge == "concat":
            return torch.cat(parts, -1)
        forward, backward = parts
        if self.merge == "mul":
            return forward * backward
        return forward + backward if self.merge == "sum" else (forward + backward) / 2


class Layers(nn.Sequential):
    """Layers one after the other; of a recurrent one the outputs go on, its state does not."""

    @classmethod
    def of(cls, network: Network, own: Mapping[str, Any] | None = None) -> Layers:
        """`own`: the classes of "lstm", "gru" and "rnn" that take the options of `carousel.nn`; None is torch's."""
        return cls(*(module for layer in network.layers for module in _modules(layer, own)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)[0] if isinstance(layer, nn.RNNBase) else layer(x)
        return x


def _modules(layer: Layer, own: Mapping[str, Any] | None) -> list[nn.Module]:
    if isinstance(layer, Recurrent):
        return [_recurrent(layer, own)]
    if isinstance(layer, Dense):
        linear = nn.Linear(layer.input_size, layer.output_size, dtype=_dtype(layer))
        _copy(linear, weight=layer.W, bias=layer.b)
        return [linear] if layer.activation == "identity" else [linear, _ACTIVATIONS[layer.activation]()]
    if isinstance(layer, Activation):
        return [_ACTIVATIONS[layer.function]()]
    if isinstance(layer, Normalization):
        return [Standardized(layer)]
    if isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
        raise UnsupportedError(
            f"torch's layers have no masks, the network has {layer!r}; it runs in carousel.stream."
        )
    if isinstance(layer, Embedding):
        table = nn.Embedding(layer.input_size, layer.output_size, dtype=_dtype(layer))
        _copy(table, weight=layer.W)
        return [table]
    return [Flip()] if isinstance(layer, Reverse) else [Last()]


def _recurrent(layer: Recurrent, own: Mapping[str, Any] | None) -> nn.Module:
    beyond = {
        "peephole": layer.directions[0].peephole is not None,
        "coupled_gates": layer.coupled_gates,
        "clip": layer.clip,
        "reset": None if layer.reset == "after" else layer.reset,
    }
    beyond = {name: value for name, value in beyond.items() if value}
    if beyond and own is None:
        name, value = next(iter(beyond.items()))
        raise UnsupportedError(
            f"torch.nn.{layer.cell.upper()} has no `{name}` = {value!r}; carousel.nn.module makes a torch module of it."
        )
    options: dict[str, Any] = {"bidirectional": layer.bidirectional, "dtype": _dtype(layer), **beyond}
    if layer.cell == "rnn":
        options["nonlinearity"] = layer.activation
    module: nn.RNNBase = (own or _TORCHS)[layer.cell](layer.input_size, layer.hidden_size, **options)
    for suffix, w in zip(("l0", "l0_reverse"), layer.directions, strict=False):
        named = {"weight_ih": w.W, "weight_hh": w.R, "bias_ih": w.b_W, "bias_hh": w.b_R}
        if w.peephole is not None:
            named["weight_ch"] = w.peephole
        _copy(module, **{f"{name}_{suffix}": array for name, array in named.items()})
    plain = layer.merge == "concat" and layer.return_sequences and not layer.reverse
    return module if plain else Merged(module, layer)


def _dtype(layer: Recurrent | Dense | Embedding) -> torch.dtype:
    return torch.float64 if layer.dtype == "float64" else torch.float32


@torch.no_grad()
def _copy(module: nn.Module, **arrays: Any) -> None:
    for name, array in arrays.items():
        getattr(module, name).copy_(torch.from_numpy(array.copy()))
