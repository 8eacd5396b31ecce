"""A Network as a torch module on our kernels."""

from __future__ import annotations

import torch

from carousel.errors import ArgumentError
from carousel.interop._torch_layers import Layers
from carousel.network import Network
from carousel.nn.layers import GRU, LSTM, RNN

__all__ = ["module"]


def module(network: Network) -> torch.nn.Module:
    """A torch module of the same numbers, on our kernels; (T, B, I) in. Its parameters are copies.

    Raises:
        ArgumentError: `network` is something else, such as a forecaster, which runs in `carousel.stream`.
        UnsupportedError: the network has masks.

    Example:
        >>> import carousel
        >>> network = carousel.interop.torch.load(torch.nn.GRU(3, 8))
        >>> module(network)(torch.zeros(20, 4, 3)).shape
        torch.Size([20, 4, 8])
    """
    if not isinstance(network, Network):
        raise ArgumentError(f"`network` must be a Network, got {type(network).__name__}.")
    return Layers.of(network, {"lstm": LSTM, "gru": GRU, "rnn": RNN})
