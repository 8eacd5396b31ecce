"""Progress of a fit on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from math import isnan

from carousel.cli.output import say

__all__ = ["progress"]


def progress() -> Callable[[Mapping[str, float]], None] | bool:
    """What `Forecaster(progress=...)` takes: a bar on a terminal, one line per epoch in a log."""
    return True if sys.stderr.isatty() else _print_epoch


def _print_epoch(losses: Mapping[str, float]) -> None:
    held_out = "" if isnan(losses["valid"]) else f", {losses['valid']:.4f} on held-out rows"
    say(f"epoch {losses['epoch']:.0f}: loss {losses['train']:.4f} in training{held_out}", err=True)
