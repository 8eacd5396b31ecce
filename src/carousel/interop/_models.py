"""What callers may give where a Network is wanted."""

from __future__ import annotations

import sys
from typing import Any

from carousel.errors import ArgumentError
from carousel.network import Network

__all__ = ["as_network"]


def as_network(model: Any, wanted: str = "a Network, a torch module or a model of Keras") -> Network:
    """`model`, or the Network of a torch module, or of a model of Keras.

    Raises:
        ArgumentError: it is something else; the text says what is `wanted`.
        UnsupportedError: a model that a Network cannot express.
    """
    if isinstance(model, Network):
        return model
    # Where a library is not imported, nothing is of it. Keras's models are modules where it runs on torch: it is first.
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        from carousel.interop import keras as of_keras

        return of_keras.load(model)
    if torch is not None and isinstance(model, torch.nn.Module):
        from carousel.interop import torch as of_torch

        return of_torch.load(model)
    raise ArgumentError(f"`model` must be {wanted}, got {type(model).__name__}.")
