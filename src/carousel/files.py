"""`carousel.save` and `carousel.load`: a Network or a Forecaster, one file (docs/model-file.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from carousel import network
from carousel.errors import ArgumentError, FormatError
from carousel.network.schema import kind_of

if TYPE_CHECKING:
    from carousel.forecast import Forecaster

__all__ = ["load", "save"]


def save(model: Forecaster | network.Network, path: str | os.PathLike[str]) -> None:
    """Writes `model` to exactly `path`, atomically: whatever happens, the file is the old one or the new one.

    Raises:
        ArgumentError: `model` is something else.
        NotFittedError: a Forecaster that has not been fitted.
        OSError: the file cannot be written.
    """
    if isinstance(model, (network.Network, network.ForecastModel)):
        network.save(model, path)
        return
    from carousel.forecast import Forecaster

    if not isinstance(model, Forecaster):
        raise ArgumentError(f"`model` must be a Forecaster or a Network, got {type(model).__name__}.")
    model.save(path)


def load(path: str | os.PathLike[str]) -> Forecaster | network.Network:
    """The Network or Forecaster in the file at `path`.

    Raises:
        FormatError: the file is not a carousel model, is damaged, is of a later version, or holds
            something else that `carousel.network.save` wrote.
    """
    model = network.load(path)
    if isinstance(model, network.Network):
        return model
    if not isinstance(model, network.ForecastModel):
        raise FormatError(
            f"{os.fspath(path)}: it must hold a network or a forecaster, "
            f"got the kind {kind_of(type(model))!r}; `carousel.network.load` reads it."
        )
    import carousel  # whose Forecaster says what to install

    return carousel.Forecaster.from_model(model)
