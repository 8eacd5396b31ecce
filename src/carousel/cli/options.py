"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import click

__all__ = [
    "Names",
    "Seconds",
    "Whole",
    "coming_options",
    "covariate_options",
    "duplicates_option",
    "forecaster_options",
    "frame_options",
    "origin_options",
]

F = TypeVar("F", bound=Callable[..., Any])


class Whole(click.IntRange):
    """A whole number with a least value; click would call what is none "not a valid integer range"."""

    name = "integer"


class Seconds(click.FloatRange):
    """A finite number of at least `min`, which NaN would pass, too."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        number = super().convert(value, param, context)
        if not isfinite(number):
            self.fail(f"{number} is not a finite number.", param, context)
        return number


class Names(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """Names of columns, with commas between them."""

    name = "columns"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())


duplicates_option = click.option(
    "--duplicates",
    type=click.Choice(["error", "mean"]),
    default="error",
    show_default=True,
    help="Refuse two rows of one series at one time, or average them.",
)


layout_option = click.option(
    "--layout",
    type=click.Choice(["long", "wide"]),
    default="long",
    show_default=True,
    help="wide: a column per series, beside the time.",
)


def frame_options(command: F) -> F:
    """Where a file has its series."""
    return _all(
        click.option(
            "--target", metavar="COLUMN", help="Column to forecast; found if only one holds numbers."
        ),
        click.option("--time", metavar="COLUMN", help="Column of dates or whole numbers; found if obvious."),
        click.option("--id", metavar="COLUMN", help="Column that tells several series apart."),
        click.option(
            "--freq", metavar="STEP", help="Step of the series, such as h, D or MS; found if regular."
        ),
        layout_option,
        duplicates_option,
    )(command)


def covariate_options(command: F) -> F:
    """What is read beside the target."""
    return _all(
        click.option(
            "--past", type=Names(), default=(), metavar="A,B", help="Columns known up to the last row."
        ),
        click.option(
            "--future", type=Names(), default=(), metavar="A,B", help="Columns known in advance, too."
        ),
        click.option(
            "--static", metavar="FILE", help="File of columns per series, one row each: CSV or Parquet."
        ),
        click.option(
            "--holidays", metavar="COUNTRY", help="Public holidays of a country, such as US or DE-BY."
        ),
    )(command)


def coming_options(command: F) -> F:
    """What a fitted model reads beside its rows."""
    return _all(
        click.option(
            "--future", metavar="FILE", help="Future covariates of the rows to forecast, if it reads any."
        ),
        click.option("--static", metavar="FILE", help="Static covariates of series that were not fitted."),
    )(command)


def origin_options(command: F) -> F:
    """Where a backtest forecasts from."""
    return _all(
        click.option(
            "--origins",
            type=Whole(min=1),
            help="Forecasts per series: the last 10, fewer if rows are few, or all after --start, without.",
        ),
        click.option(
            "--step", type=Whole(min=1), help="Rows from one origin to the next; --horizon without."
        ),
        click.option("--start", metavar="TIME", help="First row to forecast, such as 2024-01-31."),
    )(command)


def forecaster_options(command: F) -> F:
    """What is learned, and how."""
    return _all(
        click.option("--horizon", type=Whole(min=1), required=True, help="Rows to forecast."),
        click.option("--season", type=Whole(min=1), help="Rows of one season; follows from the step."),
        click.option("--lookback", type=Whole(min=1), help="Rows that a forecast looks back on."),
        click.option(
            "--architecture",
            type=click.Choice(["auto", "plain", "deepar"]),
            default="auto",
            show_default=True,
            help="The accurate one, the tutorials' network, or DeepAR.",
        ),
        click.option(
            "--cell",
            type=click.Choice(["gru", "lstm", "rnn"]),
            default="gru",
            show_default=True,
            help="Kind of the recurrent layers.",
        ),
        click.option("--epochs", type=Whole(min=1), help="Passes over the training windows, at most."),
        click.option("--minutes", type=float, help="Budget; the best model until then is kept."),
        click.option("--max-steps", type=Whole(min=1), help="Of the optimiser in one training, at most."),
        click.option(
            "--nonnegative/--unbounded",
            default=None,
            help="No forecast is below 0, or one may be; found in the data.",
        ),
        click.option("--seed", type=Whole(min=0), default=0, show_default=True, help="Of all randomness."),
    )(command)


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, listed in the help in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
