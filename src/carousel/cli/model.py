"""The model of `carousel fit` that a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carousel import Forecaster

__all__ = ["fitted_forecaster"]


def fitted_forecaster(path: str) -> Forecaster:
    """The forecaster in a file.

    Raises:
        FormatError: the file holds a network, or is no model.
    """
    from carousel import Forecaster, load
    from carousel.errors import FormatError

    forecaster = load(path)
    if not isinstance(forecaster, Forecaster):
        raise FormatError(f"{path} holds a network, not a model of `carousel fit`; fit one on your data.")
    return forecaster
