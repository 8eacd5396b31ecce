"""Writing a file so that whoever opens it sees the old one or the new one, never a part.

A temporary file in the same directory is written, synchronised, and renamed over the old one. Its
writer holds a lock on it, which the kernel lets go when the writer ends, however it ends: a temporary
file that can be locked was left by a writer that is dead, and the next one removes it. (A process
number in the name would not do: numbers are used again, and differ between containers.)
"""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from carousel.errors import ArgumentError

__all__ = ["remove", "write"]

_TEMPORARY = re.compile(r"\.carousel-[0-9a-f]{16}\.tmp")


def write(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Makes `path` a file of `parts`, one after the other.

    A file that is replaced gives its permissions to the new one; a symbolic link stays, what it points
    to is replaced, or made. After an error the old file is there, or, if only the last synchronisation
    of the directory failed, the new one; no temporary file is left, unless it cannot be removed either.

    Raises:
        ArgumentError: `path` is a directory, a device or the like.
        OSError: the system could not write.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    _remove_stale(target.parent)
    descriptor, temporary = _create(target.parent)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
            os.replace(temporary, target)
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(temporary)
        raise
    _synchronise(target.parent)


def remove(path: str | os.PathLike[str]) -> None:
    """Makes `path` a file that is not there, also after the power fails; nothing where there is none.

    Raises:
        OSError: the system could not remove it.
    """
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        os.unlink(target)
        _synchronise(target.parent)


def _mode(target: Path) -> int | None:
    """The permissions of the file to be replaced; None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise ArgumentError(f"`path` must be a file or free, but {str(target)!r} is something else.")
    return stat.S_IMODE(status.st_mode)


def _create(directory: Path) -> tuple[int, Path]:
    """A new temporary file, locked; its permissions are 0666 less the process's umask."""
    while True:
        temporary = directory / f".carousel-{secrets.token_hex(8)}.tmp"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            with suppress(
                OSError
            ):  # no locks on this file system: nobody can lock, nor remove, what is stale
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, temporary
        except BaseException:
            _remove(temporary)
            os.close(descriptor)
            raise
        os.close(descriptor)  # another writer took it for stale before the lock was ours


def _remove_stale(directory: Path) -> None:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for name in names:
        with suppress(OSError):  # locked, so in use; or gone; or not ours to touch
            descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(directory / name)
            finally:
                os.close(descriptor)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # gone; or the next writer removes it, and the error on its way says why
        os.unlink(temporary)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        count = os.write(descriptor, rest)
        if count == 0:  # no error and no progress: it would go on for ever
            raise OSError(errno.EIO, "nothing was written")
        rest = rest[count:]


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
