"""The entrance: the class that runs a value, by what the value is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from carousel import network
from carousel.errors import ArgumentError, FormatError
from carousel.network import ForecastModel, Network
from carousel.network.schema import kind_of
from carousel.stream.network import NetworkModel

if TYPE_CHECKING:
    from carousel.stream.forecaster import ForecasterModel

__all__ = ["Model", "load"]


Products: TypeAlias = Literal["full", "bfloat16"]


@overload
def Model(value: Network, *, products: Products = "full") -> NetworkModel: ...
@overload
def Model(value: ForecastModel, *, products: Literal["full"] = "full") -> ForecasterModel: ...
def Model(value: Network | ForecastModel, *, products: Products = "full") -> NetworkModel | ForecasterModel:
    """What runs `value`; its weights are packed for the kernels here, once.

    Args:
        value: a Network, or what a Forecaster has learned (its `model_`).
        products: of a Network's recurrent layers; "bfloat16" is faster and has 8 bits (see `NetworkModel`).

    Raises:
        ArgumentError: `value` or `products` is something else.
    """
    if isinstance(value, Network):
        return NetworkModel(value, products)
    if isinstance(value, ForecastModel):
        if products != "full":
            raise ArgumentError(f'`products` must be "full" for a forecaster, got {products!r}.')
        from carousel.stream.forecaster import ForecasterModel

        return ForecasterModel(value)
    raise ArgumentError(
        f"`value` must be a Network or a ForecastModel, got {type(value).__name__}"
        f"{', whose `model_` is one' if hasattr(value, 'model_') else ''}."
    )


def load(path: str | os.PathLike[str], *, products: Products = "full") -> NetworkModel | ForecasterModel:
    """What runs the model in the file at `path`; `products` as for `Model`.

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
    return Model(value, products=products)  # type: ignore[arg-type]
