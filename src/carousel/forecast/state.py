"""The state of a training as arrays, and back: all that its next step depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from carousel.errors import FormatError
from carousel.network.checkpoint import Named

__all__ = ["named", "restore", "snapshot", "tensors"]


def snapshot(net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Named:
    """Weights, their average and the optimiser's moments."""
    return named(dict(_parts(net, average, optimizer)))


def restore(state: Named, net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts a snapshot back, in place.

    Raises:
        FormatError: it is one of another network.
    """
    kept = tensors(state)
    with torch.no_grad():
        for prefix, module in (("net.", net), ("average.", average)):
            weights = {name.removeprefix(prefix): kept[name] for name in kept if name.startswith(prefix)}
            try:
                module.load_state_dict(weights)
            except RuntimeError:
                raise FormatError("the checkpoint holds the weights of another network.") from None
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in kept.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            moments.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def named(values: Mapping[str, Tensor]) -> Named:
    """Tensors as arrays."""
    return Named(tuple(values), tuple(tensor.detach().numpy().copy() for tensor in values.values()))


def tensors(values: Named) -> dict[str, Tensor]:
    """The way back of `named`."""
    return {
        name: torch.from_numpy(np.array(array))
        for name, array in zip(values.names, values.arrays, strict=True)
    }


def _parts(
    net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"net.{name}", tensor) for name, tensor in net.state_dict().items())
    yield from ((f"average.{name}", tensor) for name, tensor in average.state_dict().items())
    for number, moments in optimizer.state_dict()["state"].items():
        yield from ((f"optimizer.{number}.{key}", tensor) for key, tensor in moments.items())
