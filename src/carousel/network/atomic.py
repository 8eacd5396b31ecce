"""Writing a file so that whoever opens it sees the old one or the new one, never a part.

A temporary file in the same directory is written, synchronised, and renamed over the old one. Its
writer holds a lock on it, which the kernel lets go when the writer ends, however it ends: a temporary
file that can be locked was left by a writer that is dead, and the next one removes it. (A process
number in the name would not do: numbers are used again, and differ between containers.)
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from carousel.errors import ArgumentError

__all__ = ["write"]

_TEMPORARY = re.compile(r"\.carousel-[0-9a-f]{16}\.tmp")


def write(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Makes `path` a file of `parts`, one after the other.

    A file that is replaced gives its permissions to the new one; a symbolic link stays, what it points
    to is replaced. After an error the old file is there, or, if only the last synchronisation of the
    directory failed, the new one.

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
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _synchronise(target.parent)


def _mode(target: Path) -> int | None:
    """The permissions of the file to be replaced; None if there is none."""
    try:
        status = target.stat()
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
        with suppress(
            OSError
        ):  # a file system without locks: then nobody can lock, nor remove, what is stale
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
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


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _synchronise(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
