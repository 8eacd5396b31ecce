"""Where the answers of a stream go."""

from __future__ import annotations

import os
import sys
from select import select

from carousel.errors import ArgumentError

__all__ = ["Output"]


class Output:
    """stdout, or a file of ours: opened, and cut back to what the state says, when the first answer goes out.

    Args:
        path: of the file; None is stdout.
        written: bytes of the file that the state says.

    Raises:
        ArgumentError: the file is shorter, so another one; or stdout is closed.
    """

    def __init__(self, path: str | None, written: int) -> None:
        self.written, self._path = written, path
        self._descriptor: int | None = None
        if path is None:
            if sys.stdout is None:
                raise ArgumentError("stdout is closed; open it, or give --out FILE.")
            self._descriptor = sys.stdout.fileno()
            return
        size = os.stat(path).st_size if os.path.exists(path) else 0
        if size < written:
            raise ArgumentError(
                f"--out {path} has {size} bytes, but the state says {written}; give the file of old."
            )

    def open(self) -> int:
        """The descriptor."""
        if self._descriptor is None:
            assert self._path is not None
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.ftruncate(self._descriptor, self.written)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        return self._descriptor

    def write(self, text: bytes) -> bool:
        """Whether all of it went out; not if nobody reads stdout any more.

        Raises:
            OSError: the system could not write.
        """
        descriptor, rest = self.open(), memoryview(text)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BrokenPipeError:
                return False
            except BlockingIOError:  # a pipe that whoever opened it does not let wait
                select([], [descriptor], [])
            except OSError as error:
                reason = f"cannot be written: {str(error.strerror).lower()}"
                raise OSError(error.errno, reason, self._path or "stdout") from None
        if self._path is not None:
            self.written += len(text)
        return True

    def sync(self) -> None:
        """Waits until the disk has what is in the file."""
        if self._path is not None and self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file."""
        if self._path is not None and self._descriptor is not None:
            os.close(self._descriptor)
