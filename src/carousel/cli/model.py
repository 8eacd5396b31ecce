"""The model of `carousel fit` that a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carousel import Forecaster
    from carousel.network import ForecastModel

__all__ = ["check_read", "fitted_forecaster"]


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


def check_read(model: ForecastModel, *, future: str | None, static: str | None) -> None:
    """Refuses files of covariates that the model does not read.

    Raises:
        ArgumentError: one is given.
    """
    from carousel.errors import ArgumentError
    from carousel.forecast.covariates import Wanted

    wanted = Wanted.again(model.covariates)
    for role, path, names in (("future", future, wanted.future), ("static", static, wanted.static)):
        if path is not None and not names:
            raise ArgumentError(f"--{role}: the model reads no {role} covariates that a file could give.")
