"""Complete lines from a pipe or a growing file, as they come."""

from __future__ import annotations

import os
import select
import stat
import time
from errno import EISDIR

from carousel.errors import DataError

__all__ = ["LINE_LIMIT", "Lines"]

LINE_LIMIT = 1 << 20
"""Bytes of the longest line; of a longer one only so much is kept, for whoever says that it is too long."""

_BLOCK = 1 << 16
_LOOK_AGAIN = 0.1  # seconds after which a file that has ended is read again


class Lines:
    """The lines that come out of a descriptor, without their ends.

    Args:
        descriptor: of a pipe, a terminal or a file.
        follow: a file goes on growing when its end is reached; its last line is complete when its end is there.
        wake: a descriptor that ends every wait as soon as it can be read.
        path: of the file that is followed, which must stay this one; None does not look.

    Raises:
        IsADirectoryError: it is one.
    """

    def __init__(
        self, descriptor: int, *, follow: bool = False, wake: int | None = None, path: str | None = None
    ) -> None:
        self._descriptor, self._follow, self._path = descriptor, follow, path
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path or "stdin")
        self._regular = stat.S_ISREG(mode)
        self._wake = [] if wake is None else [wake]
        self._begun = bytearray()
        self._read = 0

    def read(self, timeout: float | None) -> list[bytes] | None:
        """The lines that have come, none after `timeout` seconds without one; None when there are no more.

        Raises:
            DataError: a file that is followed has been cut short, replaced or removed; all its lines were read.
        """
        give_up = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self._ready(give_up):
                return []
            block = os.read(self._descriptor, _BLOCK)
            self._read += len(block)
            if block:
                if lines := self._split(block):
                    return lines
            elif not (self._follow and self._regular):
                last, self._begun = bytes(self._begun), bytearray()
                return [last] if last else None
            elif self._waited(give_up):
                return []
            if give_up is not None and time.monotonic() >= give_up:
                return []

    def _ready(self, give_up: float | None) -> bool:
        """Waits until there is something to read; False if there is not."""
        left = None if give_up is None else max(0.0, give_up - time.monotonic())
        ready, _, _ = select.select([self._descriptor, *self._wake], [], [], left)
        return self._descriptor in ready and not set(self._wake) & set(ready)

    def _waited(self, give_up: float | None) -> bool:
        """Waits a little for a file to grow; True if it is time to stop waiting."""
        if os.fstat(self._descriptor).st_size < self._read:
            raise DataError("The file that is followed has been cut short; start again on the new one.")
        self._check_path()
        left = _LOOK_AGAIN if give_up is None else min(_LOOK_AGAIN, max(0.0, give_up - time.monotonic()))
        ready, _, _ = select.select(self._wake, [], [], left)
        return bool(ready) or (give_up is not None and time.monotonic() >= give_up)

    def _check_path(self) -> None:
        if self._path is None:
            return
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            raise DataError(f"{self._path} has been removed; start again when there is a new one.") from None
        if not os.path.samestat(there, os.fstat(self._descriptor)):
            raise DataError(f"{self._path} has been replaced by another file; start again on the new one.")

    def _split(self, block: bytes) -> list[bytes]:
        *lines, rest = block.split(b"\n")
        if lines:
            lines[0] = bytes(self._begun) + lines[0]
            self._begun = bytearray()
        self._begun += rest[: max(0, LINE_LIMIT + 1 - len(self._begun))]
        return [line.removesuffix(b"\r") for line in lines]
