"""What a module of a class of its own does with the layers in it, found by trial.

Its forward may do anything, so it is run beside the Network of each way that tutorials join layers: every step goes on
to what follows the recurrent ones, or the last step does, or the last state of each direction. Random weights are
tried before its own: an activation that the module holds no layer for may not show in trained ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carousel.errors import ShapeError, UnsupportedError, printable
from carousel.interop._torch_modules import is_known, joined, leaves
from carousel.interop.verification import Conversion, Trial, distance, sample
from carousel.network import LastStep, Layer, Network, Recurrent
from carousel.stream import Model

__all__ = ["is_wired", "read"]

Parts = list[tuple[str, nn.Module]]
Array = NDArray[Any]

_SIZES = ((5, 3), (2, 4), (7, 2))  # T, B: none alike, so that no axis passes for another
_SPREADS = (0.1, 0.1, 30.0)  # of random biases: the last shows what cuts large outputs off
_EVERY, _LAST, _STATES = "every step", "the last step", "the last state of each direction"


def is_wired(module: nn.Module) -> bool:
    """Whether `module` holds others, and joins them in a forward of its own."""
    from carousel.interop._torch_layers import Layers, Merged

    known = type(module) in (nn.Sequential, Layers) or isinstance(module, nn.RNNBase | Merged)
    return not known and next(module.children(), None) is not None


def read(module: nn.Module) -> Conversion:
    """The Network of `module`; the report tells how its layers were found to be joined.

    Raises:
        UnsupportedError: a layer that a Network cannot express, or none of the ways gives what the module gives.
    """
    try:
        trial = deepcopy(module).eval()
    except Exception as error:  # of the user's own class
        raise UnsupportedError(f"{_refusal(module)}; it cannot be copied: {_reason(error)}.") from error
    way, batch_first = _found(module, trial)
    network, told = _joined(_parts(module), way)
    trial.load_state_dict(module.state_dict())
    largest = max(
        tried.check(y, expected, "`module`") for tried, y, expected in _tried(trial, network, batch_first)
    )
    axes = "(B, T, I)" if batch_first else "(T, B, I)"
    name = next((name for name, leaf in reversed(_parts(module)) if isinstance(leaf, nn.RNNBase)), None)
    joint = "" if name is None else f": {way} of `{name}` goes on"
    return Conversion(network, largest, f"the module itself, found to take {axes}{joint}", told)


def _found(module: nn.Module, trial: nn.Module) -> tuple[str, bool]:
    """The way, and whether the batch is in front; `trial`, a copy of `module`, gets other weights."""
    reasons = []
    for batch_first in dict.fromkeys([*_batch_first(trial), False, True]):
        ways = [_EVERY, _LAST, _STATES]
        try:
            for k, spread in enumerate(_SPREADS):
                _draw(trial, k, spread)
                ways = [way for way in ways if _agrees(trial, way, batch_first)]
        except UnsupportedError:
            raise
        except Exception as error:  # of the user's own forward
            reasons.append(_reason(error))
        else:
            if ways:
                return ways[0], batch_first
    told = f"; its forward raises {reasons[0]}" if len(reasons) == 2 else ""
    raise UnsupportedError(f"{_refusal(module)}{told}.")


def _agrees(trial: nn.Module, way: str, batch_first: bool) -> bool:
    try:
        network, _ = _joined(_parts(trial), way)
    except ShapeError:  # layers that do not fit one another in this order, or this way
        return False
    return all(
        tried.agrees(distance(y, expected), expected)
        for tried, y, expected in _tried(trial, network, batch_first)
    )


def _tried(trial: nn.Module, network: Network, batch_first: bool) -> Iterator[tuple[Trial, Array, Array]]:
    """Trials, what the network gives, and what the module gives."""
    model = Model(network)
    for x, expected in _outputs(trial, network, batch_first):
        y = model.run(x)
        if expected.ndim == y.ndim - 1 and network.output_size == 1:  # squeezed
            expected = expected[..., None]
        yield Trial(network, x), y, expected


def _outputs(trial: nn.Module, network: Network, batch_first: bool) -> Iterator[tuple[Array, Array]]:
    """Random input (T, B, I), and what the module gives for it: (T, B, O), or (B, O)."""
    rng, device = np.random.default_rng(0), next(trial.parameters()).device
    for T, B in _SIZES:
        x = sample(network, rng, T, B)
        given = torch.from_numpy(x).to(device)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            y = trial(given.transpose(0, 1) if batch_first else given)
        y = y[0] if isinstance(y, tuple) else y
        if batch_first and network.per_step and y.ndim > 1:
            y = y.transpose(0, 1)
        yield x, y.cpu().numpy()


def _parts(module: nn.Module, name: str = "module") -> Parts:
    """The layers, in the order in which the module got them; what has no weights and is not known is left out."""
    parts: Parts = []
    for child, leaf in module.named_children():
        here = f"{name}.{child}"
        if is_wired(leaf) or type(leaf) is nn.Sequential:
            parts += _parts(leaf, here)
        elif is_known(leaf) or next(leaf.parameters(), None) is not None:
            parts += leaves(here, leaf)
    return parts


def _joined(parts: Parts, way: str) -> tuple[Network, tuple[tuple[str, str], ...]]:
    last = max((k for k, (_, leaf) in enumerate(parts) if isinstance(leaf, nn.RNNBase)), default=None)

    def after(k: int, layers: list[Layer]) -> None:
        if k == last and way == _LAST:
            layers.append(LastStep())
        if k == last and way == _STATES and isinstance(layers[-1], Recurrent):
            layers[-1] = replace(layers[-1], return_sequences=False)

    return joined(parts, after)


def _batch_first(module: nn.Module) -> list[bool]:
    return [bool(leaf.batch_first) for _, leaf in _parts(module) if isinstance(leaf, nn.RNNBase)][:1]


@torch.no_grad()
def _draw(trial: nn.Module, seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in trial.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        # Of this size a matrix keeps the size of what it multiplies.
        parameter.copy_(drawn * (spread if parameter.ndim < 2 else parameter.shape[-1] ** -0.5))


def _refusal(module: nn.Module) -> str:
    what = (
        f"`module` is {printable(type(module).__name__)}, whose forward does something else with its layers than "
        "to give every step, or the last one, to the next; "
    )
    if (type(module).__module__, type(module).__name__) == (
        "carousel.nn.stack",
        "Stack",
    ):  # which stands on this
        return f"{what}a Network has no shortcuts, no dilation, and joins directions by concatenation"
    parts = _parts(module)
    last = max((k for k, (_, leaf) in enumerate(parts) if isinstance(leaf, nn.RNNBase)), default=None)
    calls = []
    for k, (name, leaf) in enumerate(parts):
        if next(leaf.parameters(), None) is not None:  # an activation, which stands in a Network by its name
            calls += [f"*load({_python(name)}).layers"] + ["LastStep()"] * (k == last)
    return (
        f"{what}if a Network can do it, join them as it does: of Network(({', '.join(calls)})), which holds those with "
        'weights, with LastStep() and Activation("relu") where the forward does so'
    )


def _python(name: str) -> str:
    """How Python writes it: `module.layers.0` is `module.layers[0]`."""
    return re.sub(r"\.(\d+)", r"[\1]", name)


def _reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}", 160)
