"""A Network as a torch module on our kernels."""

from __future__ import annotations

import torch

from carousel.errors import ArgumentError
from carousel.interop import torch as interop
from carousel.network import Network
from carousel.nn.acceleration import accelerate

__all__ = ["module"]


def module(network: Network) -> torch.nn.Module:
    """A torch module of the same numbers, on our kernels; (T, B, I) in. Its parameters are copies.

    Raises:
        ArgumentError: `network` is something else, such as a forecaster, which runs in `carousel.stream`.
        UnsupportedError: a GRU whose reset gate acts before the product, which torch.nn.GRU cannot be.

    Example:
        >>> import carousel
        >>> network = carousel.interop.torch.load(torch.nn.GRU(3, 8))
        >>> module(network)(torch.zeros(20, 4, 3)).shape
        torch.Size([20, 4, 8])
    """
    if not isinstance(network, Network):
        raise ArgumentError(f"`network` must be a Network, got {type(network).__name__}.")
    made = interop.save(network)
    assert isinstance(made, torch.nn.Module)
    return accelerate(made)
