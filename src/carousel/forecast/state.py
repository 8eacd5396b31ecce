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
    """Weights, their average, the optimiser's moments, and the generators of the modules."""
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
    for index, generator in enumerate(_generators(net)):
        generator.set_state(kept[f"generator.{index}"].to(torch.uint8))


def named(values: Mapping[str, Tensor]) -> Named:
    """Tensors as arrays; bytes, which a document does not know, as int64."""
    arrays = [tensor.detach().numpy().copy() for tensor in values.values()]
    return Named(tuple(values), tuple(a.astype(np.int64) if a.dtype == np.uint8 else a for a in arrays))


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
    yield from ((f"generator.{number}", g.get_state()) for number, g in enumerate(_generators(net)))


def _generators(net: nn.Module) -> list[torch.Generator]:
    """The generators that modules draw from, each once."""
    found = [g for module in net.modules() for g in vars(module).values() if isinstance(g, torch.Generator)]
    return list(dict.fromkeys(found))
