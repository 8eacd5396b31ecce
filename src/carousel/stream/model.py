"""The entrance: the class that runs a value, by what the value is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, overload

from carousel import network
from carousel.errors import ArgumentError, FormatError
from carousel.network import ForecastModel, Network
from carousel.network.schema import kind_of
from carousel.stream.network import NetworkModel

if TYPE_CHECKING:
    from carousel.stream.forecaster import ForecasterModel

__all__ = ["Model", "load"]


@overload
def Model(value: Network) -> NetworkModel: ...
@overload
def Model(value: ForecastModel) -> ForecasterModel: ...
def Model(value: Network | ForecastModel) -> NetworkModel | ForecasterModel:
    """What runs `value`; its weights are packed for the kernels here, once.

    Args:
        value: a Network, or what a Forecaster has learned (its `model_`).

    Raises:
        ArgumentError: `value` is something else.
    """
    if isinstance(value, Network):
        return NetworkModel(value)
    if isinstance(value, ForecastModel):
        from carousel.stream.forecaster import ForecasterModel

        return ForecasterModel(value)
    raise ArgumentError(f"`value` must be a Network or a ForecastModel, got {type(value).__name__}.")


def load(path: str | os.PathLike[str]) -> NetworkModel | ForecasterModel:
    """What runs the model in the file at `path`.

    Raises:
        FormatError: the file is damaged, foreign, or of a newer format.
        OSError: the system could not read.
    """
    value = network.load(path)
    if not isinstance(value, (Network, ForecastModel)):
        raise FormatError(
            f"{os.fspath(path)}: it must hold a network or a forecaster, "
            f"got the kind {kind_of(type(value))!r}; `carousel.network.load` reads it."
        )
    return Model(value)
