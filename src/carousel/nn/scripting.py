"""What torch.jit.script compiles in the place of one of our modules: torch's own, over the same parameters."""

from __future__ import annotations

import copy

import torch

from carousel.errors import UnsupportedError
from carousel.nn.beyond import PLAIN

__all__ = ["scriptable"]


def scriptable(module: torch.nn.Module) -> torch.nn.Module:
    """`module` as torch's class; a class that somebody derived from ours is left as it is.

    Raises:
        UnsupportedError: the module has options that torch's class does not know.
    """
    cls = type(module)
    if not cls.__module__.startswith("carousel."):
        return module
    if getattr(module, "_beyond", PLAIN) is not PLAIN:
        raise UnsupportedError(f"torch.jit.script knows no options of carousel.nn, got {module}.")
    plain = copy.copy(module)
    plain.__class__ = next(base for base in cls.__mro__ if base.__module__.startswith("torch."))
    plain.__dict__.pop("_carousel_swapped", None)  # our mark on a module; no type of TorchScript
    return plain
