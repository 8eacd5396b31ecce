"""A fit that was stopped, on disk: every training as it was after its last whole epoch.

What is fitted in closed form is not kept: it follows from data and settings, and is computed again with the
same bits. The file is that of `carousel.network.file`: sealed, replaced as a whole, without pickle.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields, is_dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from carousel import __version__, network
from carousel.errors import ArgumentError, FormatError
from carousel.network.checkpoint import Checkpoint, Training
from carousel.network.schema import kind_of

if TYPE_CHECKING:
    from carousel.forecast.settings import Settings
    from carousel.series.panel import Panel

__all__ = ["Trainings", "open_checkpoint"]


class Trainings:
    """The trainings of one fit, in their order; kept in a file after every change where there is one.

    Args:
        path: of the file; None to keep nothing.
        start: an empty checkpoint, or the one to go on from.
    """

    def __init__(self, path: str | os.PathLike[str] | None, start: Checkpoint) -> None:
        self._path, self._checkpoint, self._entered = path, start, 0
        self._write()

    def enter(self) -> tuple[int, Training | None]:
        """The number of the next training, and as far as it was kept."""
        number, kept = self._entered, self._checkpoint.trainings
        self._entered += 1
        return number, kept[number] if number < len(kept) else None

    @property
    def wanted(self) -> bool:
        """Whether anything is kept."""
        return self._path is not None

    def keep(self, number: int, training: Training) -> None:
        """Keeps a training; those after it began from an earlier state of it and are dropped.

        One that followed on a training of which nothing is kept is not kept either.
        """
        c = self._checkpoint
        if number > len(c.trainings):
            return
        self._checkpoint = Checkpoint(c.version, c.data, c.settings, (*c.trainings[:number], training))
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            network.save(self._checkpoint, self._path)


def open_checkpoint(
    panel: Panel,
    settings: Settings,
    checkpoint: str | os.PathLike[str] | None,
    resume: bool | str | os.PathLike[str],
    beside: object = None,
) -> Trainings:
    """The trainings of a fit on this panel: new ones, or those of a checkpoint.

    Args:
        checkpoint: file to write; without, that of `resume`.
        resume: file to go on from; True for `checkpoint`, if it is there.
        beside: what else the fit reads, such as the columns of covariates.

    Raises:
        ArgumentError: a checkpoint of other data, settings or versions, or nothing to resume.
        FormatError: a file that is no checkpoint, or a damaged one.
    """
    if resume is True and checkpoint is None:
        raise ArgumentError("`resume` = True goes on from `checkpoint`, got none; give its path.")
    new = Checkpoint(_versions(), _digest((panel, beside)), _json(settings), ())
    if resume is False or (resume is True and not os.path.exists(os.fspath(checkpoint or ""))):
        return Trainings(checkpoint, new)
    source = checkpoint if resume is True else resume
    assert isinstance(source, (str, os.PathLike))
    found = network.load(source)
    if not isinstance(found, Checkpoint):
        raise FormatError(
            f"{os.fspath(source)} is no checkpoint but a {kind_of(type(found))}; `carousel.load` reads it."
        )
    _check_same(os.fspath(source), found, new)
    return Trainings(source if checkpoint is None else checkpoint, found)


def _check_same(path: str, found: Checkpoint, wanted: Checkpoint) -> None:
    if found.version != wanted.version:
        raise ArgumentError(
            f"`resume`: {path} was written by {found.version}, this is {wanted.version}, which may give other "
            "bits; start anew without `resume`."
        )
    if found.settings != wanted.settings:
        old, new = json.loads(found.settings), json.loads(wanted.settings)
        names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        differences = ", ".join(f"{name}={old.get(name)!r}, not {new.get(name)!r}" for name in names)
        raise ArgumentError(
            f"`resume`: {path} is of a fit with {differences}; give the same settings, or start anew without "
            "`resume`."
        )
    if found.data != wanted.data:
        raise ArgumentError(
            f"`resume`: {path} is of a fit on other data; give the same rows, or start anew without `resume`."
        )


def _versions() -> str:
    import torch

    return f"carousel {__version__} with torch {torch.__version__}"


def _json(settings: Settings) -> str:
    """Canonical; a NumPy number counts as the number that it is."""
    return json.dumps(asdict(settings), sort_keys=True, default=lambda number: number.item())


def _digest(value: Any) -> str:
    """A SHA-256 over all that dataclasses and tuples hold."""
    digest = sha256()

    def add(item: Any) -> None:
        if is_dataclass(item):
            for field in fields(item):
                digest.update(f"{field.name}:".encode())
                add(getattr(item, field.name))
        elif isinstance(item, np.ndarray):
            digest.update(f"{item.dtype.str}{item.shape}".encode() + np.ascontiguousarray(item).tobytes())
        elif isinstance(item, tuple):
            digest.update(f"{len(item)}:".encode())
            for part in item:
                add(part)
        else:
            digest.update(f"{item!r};".encode())

    add(value)
    return digest.hexdigest()
