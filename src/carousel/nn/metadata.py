"""What a state_dict says of its layers beside their weights: options that change the result, in torch's metadata."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["compare", "tell"]


def tell(destination: Any, prefix: str, module: Any, recipe: dict[str, Any]) -> None:
    """Writes the module's title and what it does beyond torch's layers, as plain values; nothing where it does not."""
    told = getattr(destination, "_metadata", {}).get(prefix[:-1])
    if told is not None and recipe:
        told["carousel"] = _title(module)
        told["recipe"] = recipe


def compare(told: Any, prefix: str, module: Any, recipe: dict[str, Any]) -> None:
    """Warns where weights were saved by a module that computes something else with them than this one.

    Weights that nothing is said of, as torch's own, fit any options: those of `accelerate` begin like that.
    """
    if not isinstance(told, dict) or "carousel" not in told or told.get("recipe", recipe) == recipe:
        return
    name = f" of {prefix[:-1]!r}" if prefix else ""
    warnings.warn(
        f"the weights{name} were saved by carousel.nn.{told['carousel']}, and this is {_title(module)}, which computes "
        "something else with them; give it the same options, unless that is what you want.",
        UserWarning,
        stacklevel=4,
    )


def _title(module: Any) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"
