"""torch.nn's own LSTM, GRU, RNN and cells on our kernels, whoever makes them: what `carousel run` does to a script.

Only their `forward` changes, and only for instances of exactly these classes: a layer keeps its type, so that pickles,
`isinstance`, `type(layer) is torch.nn.LSTM` and tables of types hold, and a subclass keeps torch's method.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch.nn.utils.parametrize import cached

from carousel.nn.acceleration import OURS, SUBCLASS, SUBSTITUTED, written

__all__ = ["Tally", "substitute"]

# What our methods read of the class, of a layer and of a cell.
_OF_LAYERS = ("_beyond", "_options", "_seen", "_again", "_torchs")
_OF_CELLS = ("_settings", "_again", "_torchs")


@dataclass
class Tally:
    """What became of every layer at its first call.

    Args:
        accelerated: layers of each class on our kernels.
        left: those of each class that torch computed, and why.
    """

    accelerated: Counter[str] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __str__(self) -> str:
        """One line."""
        parts = []
        if self.accelerated:
            parts.append("accelerated " + ", ".join(f"{n} {kind}" for kind, n in self.accelerated.items()))
        if self.left:
            parts.append("left " + ", ".join(f"{n} {kind} ({why})" for (kind, why), n in self.left.items()))
        return "; ".join(parts) or "no LSTM, GRU or RNN of torch.nn was called"


def substitute() -> Tally:
    """From now on layers of torch.nn compute on our kernels, where `carousel.kernel_path` says so.

    Returns:
        What is known of the layers that have been called, at any time.
    """
    tally, known = Tally(), WeakSet[torch.nn.Module]()
    pairs: dict[Any, Any] = dict(OURS)
    scripting: Any = torch.jit
    torchs = {cls: cls.forward for cls in pairs}
    patched = {cls: _patched(cls, ours, tally, known) for cls, ours in pairs.items()}
    for cls, ours in pairs.items():
        for name in _OF_LAYERS if issubclass(cls, torch.nn.RNNBase) else _OF_CELLS:
            setattr(cls, name, getattr(ours, name))
        cls.forward = patched[cls]
    SUBSTITUTED.update(OURS)
    scripting.script = _with_methods(scripting.script, torchs, patched)
    return tally


def _patched(cls: Any, ours: Any, tally: Tally, known: WeakSet[torch.nn.Module]) -> Callable[..., Any]:
    """The `forward` of `cls` from now on."""
    torchs, takes = cls.forward, ours.forward

    @functools.wraps(torchs)
    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        exact = type(self) is cls or written(self) is cls
        method = takes if exact else torchs
        if torch.compiler.is_compiling() or self in known:
            return method(self, input, hx)
        known.add(self)
        with cached():  # a parametrization is asked once, as torch does
            _count(tally, self, ours.kernel_path(self, input, hx) if exact else SUBCLASS)
            return method(self, input, hx)

    return forward


def _count(tally: Tally, layer: torch.nn.Module, path: str) -> None:
    kind = type(layer).__name__
    if path.startswith("carousel: "):
        tally.accelerated[kind] += 1
    else:
        tally.left[kind, path.removeprefix("torch: ")] += 1


def _with_methods(script: Any, during: dict[Any, Any], after: dict[Any, Any]) -> Callable[..., Any]:
    """`torch.jit.script`, which compiles the source of a method, and knows torch's only."""

    @functools.wraps(script)
    def scripted(*args: Any, **kwargs: Any) -> Any:
        for cls, method in during.items():
            cls.forward = method
        try:
            return script(*args, **kwargs)
        finally:
            for cls, method in after.items():
                cls.forward = method

    return scripted
