"""Arrays out of an HDF5 file that may be hostile; h5py is imported late.

Nothing but plain datasets behind plain links is read, and none whose numbers are not in the file: HDF5 lets a few
bytes claim any shape, and lets names point into other files.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from carousel.errors import CarouselError, FormatError

__all__ = ["Hdf5", "h5py"]

Array = NDArray[Any]

EXPANSION = 20  # compressed weights shrink by a few per cent; zeros by more, but few weights are zeros
ALLOWANCE = 4096  # bytes that need not be stored at all
PATIENCE, PACE = 20, 10 * 2**20  # seconds, and bytes a second, after which HDF5 is taken to hang
TEXT_LIMIT = 16 * 2**20  # bytes of an attribute: a configuration of a thousand layers has one million


def h5py() -> Any:
    """The library, imported at its first use.

    Raises:
        ModuleNotFoundError: it is not installed; the text says how to.
    """
    try:
        return import_module("h5py")
    except ModuleNotFoundError as error:
        text = "Keras files need h5py, which is not installed: pip install 'carousel-rnn[keras]'"
        raise ModuleNotFoundError(text, name=error.name) from error


def _try_elsewhere(content: bytes) -> None:
    """Reads everything once in another process: a damaged file can send HDF5's C code round in circles, or crash it."""
    if not sys.executable:
        return  # inside a program that embeds Python
    command = [sys.executable, "-m", "carousel.interop._hdf5"]
    limit = PATIENCE + len(content) / PACE
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise FormatError(f"the HDF5 library did not come to an end with it in {limit:.0f} s") from None
    if done.returncode < 0:
        raise FormatError(f"the HDF5 library crashed on it (signal {-done.returncode})")


def _read_everything(content: bytes) -> None:
    with h5py().File(io.BytesIO(content), "r") as root:
        store = Hdf5(root)

        def visit(name: str, item: Any) -> None:
            for attribute in item.attrs:
                with suppress(Exception):
                    store._attribute(item, attribute)
            with suppress(Exception):
                store.array(name)

        visit("", root)
        root.visititems(visit)


class Hdf5:
    """An open file; every method raises a FormatError for what is missing or not plain."""

    def __init__(self, file: Any) -> None:
        self._root = file

    @classmethod
    @contextmanager
    def opened(cls, file: BinaryIO) -> Iterator[Hdf5]:
        """Within it, whatever h5py says of the file is a FormatError; so is a file on which HDF5 hangs or crashes."""
        library = h5py()
        content = file.read()
        _try_elsewhere(content)
        try:
            with library.File(io.BytesIO(content), "r") as root:
                yield cls(root)
        except (CarouselError, MemoryError):
            raise
        except (
            Exception
        ) as error:  # of a damaged file; h5py has no base for what HDF5 and its own code stumble over
            raise FormatError(f"h5py cannot read it: {ascii(str(error))[1:-1][:160]}") from error

    def has(self, path: str) -> bool:
        """Whether there is anything at `path`."""
        return self._at(path) is not None

    def has_attribute(self, path: str, attribute: str) -> bool:
        """Whether there is an attribute of what is at `path`."""
        group = self._at(path)
        return group is not None and attribute in group.attrs

    def names(self, path: str) -> list[str]:
        """What is in the group at `path`; nothing where there is none."""
        group = self._at(path)
        return [] if group is None else sorted(group)

    def array(self, path: str) -> Array:
        """The numbers of the dataset at `path`."""
        dataset = self._at(path)
        if not isinstance(dataset, h5py().Dataset):
            raise FormatError(f"the weights `{path}` are missing")
        if dataset.is_virtual or dataset.external:
            raise FormatError(f"`{path}` keeps its numbers in other files, which is not allowed")
        if dataset.dtype.kind not in "fiu" or dataset.shape is None:
            raise FormatError(f"`{path}` must be numbers, got {dataset.dtype}")
        stored = dataset.id.get_storage_size()
        claimed = dataset.dtype.itemsize * max(prod(dataset.shape), prod(dataset.chunks or ()))
        if claimed > EXPANSION * stored + ALLOWANCE:
            raise FormatError(
                f"`{path}` claims {claimed} bytes, but {stored} are stored; the limit is {EXPANSION} times as many"
            )
        array: Array = np.asarray(dataset[()])
        return array

    def texts(self, path: str, attribute: str) -> list[str]:
        """The strings of an attribute; Keras cuts long lists into `attribute`0, `attribute`1, ..."""
        group = self._at(path)
        if group is None:
            raise FormatError(f"the group `{path}` is missing")
        if attribute in group.attrs:
            return self._attribute(group, attribute)
        found: list[str] = []
        part = 0
        while f"{attribute}{part}" in group.attrs:
            found += self._attribute(group, f"{attribute}{part}")
            part += 1
        if part == 0:
            raise FormatError(f"the attribute `{attribute}` of `{path or '/'}` is missing")
        return found

    def _attribute(self, group: Any, name: str) -> list[str]:
        held = h5py().h5a.open(group.id, name.encode())
        size = held.dtype.itemsize * prod(held.shape)
        if size > TEXT_LIMIT:
            raise FormatError(f"the attribute `{name}` claims {size} bytes; the limit is {TEXT_LIMIT}")
        value = group.attrs[name]
        items = np.atleast_1d(value).ravel().tolist()
        try:
            return [item.decode() if isinstance(item, bytes) else str(item) for item in items]
        except UnicodeDecodeError:
            raise FormatError(f"the attribute `{name}` is not text") from None

    def _at(self, path: str) -> Any:
        """What is at `path`, through hard links only; None where nothing is."""
        here = self._root
        for name in filter(None, path.split("/")):
            if name in (".", "..") or not isinstance(here, h5py().Group) or name not in here:
                return None
            link = here.get(name, getlink=True)
            if not isinstance(link, h5py().HardLink):
                raise FormatError(f"`{path}` is behind a {type(link).__name__}, which is not allowed")
            here = here[name]
        return here


if __name__ == "__main__":
    with suppress(Exception):  # what is merely wrong is said by the process that asked
        _read_everything(sys.stdin.buffer.read())
