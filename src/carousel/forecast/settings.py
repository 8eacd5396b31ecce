"""The options of a Forecaster, complete and checked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, check_choice, check_integer
from carousel.network.forecaster import FitOptions
from carousel.stream.forecast import check_levels

__all__ = ["Settings", "check_minutes", "options_of"]


@dataclass(frozen=True)
class Settings:
    """What `Forecaster` was told, with its defaults resolved."""

    horizon: int
    season: int | None
    architecture: str
    cell: str
    level: tuple[float, ...]
    seed: int
    lookback: int | None
    hidden_size: int
    layers: int
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    max_steps: int | None
    nonnegative: bool | None

    @classmethod
    def of(cls, params: dict[str, Any]) -> Settings:
        """Settings from constructor arguments; None is the default of the architecture.

        Raises:
            ArgumentError: an option that cannot be.
        """
        check_choice("architecture", params["architecture"], ("auto", "plain", "deepar"))
        check_choice("cell", params["cell"], ("gru", "lstm", "rnn"))
        auto = params["architecture"] == "auto"
        usual = {
            "hidden_size": {"auto": 64, "plain": 50, "deepar": 40}[params["architecture"]],
            "layers": 1 if auto else 2,
            "dropout": 0.3 if auto else 0.0,
            "epochs": 20 if auto else 40,
            "learning_rate": 1e-3 if auto else 5e-3,
            "patience": 4 if auto else 8,
        }
        chosen: dict[str, Any] = {
            name: value if params[name] is None else params[name] for name, value in usual.items()
        }
        for name in ("horizon", "batch_size"):
            chosen[name] = params[name]
        for name in ("horizon", "hidden_size", "layers", "epochs", "batch_size", "patience"):
            check_integer(name, chosen[name], 1)
        for name in ("season", "lookback", "max_steps"):
            if params[name] is not None:
                check_integer(name, params[name], 1)
        check_integer("seed", params["seed"], 0)
        if params["seed"] >= 2**63:
            raise ArgumentError(f"`seed` must be below 2**63, got {params['seed']}.")
        for name in ("dropout", "learning_rate"):
            if isinstance(chosen[name], bool) or not isinstance(chosen[name], (int, float, np.number)):
                raise ArgumentError(f"`{name}` must be a number, got {chosen[name]!r}.")
        if not 0 <= chosen["dropout"] < 1:
            raise ArgumentError(f"`dropout` must be at least 0 and below 1, got {chosen['dropout']!r}.")
        if not auto and chosen["dropout"]:
            raise ArgumentError(
                "`dropout` is an option of architecture='auto'; "
                f"the {params['architecture']} network has none."
            )
        if not 0 < chosen["learning_rate"] < np.inf:
            raise ArgumentError(
                f"`learning_rate` must be above 0 and finite, got {chosen['learning_rate']!r}."
            )
        check_minutes(params["minutes"])
        bound = params["nonnegative"]
        if bound is not None and not isinstance(bound, (bool, np.bool_)):
            raise ArgumentError(f"`nonnegative` must be True, False or None, got {bound!r}.")
        return cls(
            **chosen,
            season=params["season"],
            architecture=params["architecture"],
            cell=params["cell"],
            level=check_levels(params["level"]),
            seed=int(params["seed"]),
            lookback=params["lookback"],
            max_steps=params["max_steps"],
            nonnegative=None if bound is None else bool(bound),
        )


def options_of(params: dict[str, Any]) -> FitOptions:
    """What a model file keeps of the constructor arguments that `Settings.of` has taken."""

    def kept(name: str) -> Any:
        value = params[name]
        return value.item() if isinstance(value, np.generic) else value

    options = {field.name: kept(field.name) for field in fields(FitOptions)}
    for name in ("dropout", "learning_rate", "minutes"):
        options[name] = None if options[name] is None else float(options[name])
    return FitOptions(**options)


def check_minutes(minutes: Any) -> None:
    """Raises an ArgumentError unless a budget of time is None or a finite number above 0."""
    number = isinstance(minutes, (int, float, np.number)) and not isinstance(minutes, bool)
    if minutes is not None and not (number and 0 < minutes < np.inf):
        raise ArgumentError(f"`minutes` must be a number above 0 and finite, got {minutes!r}.")
