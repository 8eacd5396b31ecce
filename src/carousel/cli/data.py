"""DATA, the file of rows that a command learns from, and the options that say how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

import click

from carousel.cli.options import covariate_options, frame_options

if TYPE_CHECKING:
    from carousel.forecast.read import Reading

__all__ = ["Data", "data_options"]


@dataclass(frozen=True)
class Data:
    """What the user says of DATA; the fields are the options."""

    data: str
    id: str | None
    time: str | None
    target: str | None
    freq: str | None
    layout: Literal["long", "wide"]
    duplicates: Literal["error", "mean"]
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: str | None
    holidays: str | None

    @property
    def files(self) -> tuple[str | None, ...]:
        """Those that are read, which no result may overwrite."""
        return self.data, self.static

    def read(self) -> Reading:
        """The rows; what was found in them is said.

        Raises:
            DataError: they cannot be used.
        """
        from carousel.cli.output import say
        from carousel.forecast.read import Wanted, read_frame, read_table

        reading = read_frame(
            read_table(self.data),
            id=self.id,
            time=self.time,
            target=self.target,
            freq=self.freq,
            duplicates=self.duplicates,
            layout=self.layout,
            wanted=Wanted.of(self.past, self.future, (), self.holidays),
            static=None if self.static is None else read_table(self.static),
        )
        say(*reading.notes)
        return reading


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """The argument DATA and its options; the command gets them as one `data`."""

    @wraps(command)
    def taken(**options: Any) -> None:
        command(data=Data(**{field.name: options.pop(field.name) for field in fields(Data)}), **options)

    return click.argument("data", metavar="DATA")(frame_options(covariate_options(taken)))
