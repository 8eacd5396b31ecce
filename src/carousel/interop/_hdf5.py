"""Arrays out of an HDF5 file that may be hostile; h5py is imported late.

Nothing but plain datasets behind plain links is read, and none whose numbers are not in the file: HDF5 lets a few
bytes claim any shape, and lets names point into other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class Hdf5:
    """An open file; every method raises a FormatError for what is missing or not plain."""

    def __init__(self, file: Any) -> None:
        self._root = file

    @classmethod
    @contextmanager
    def opened(cls, file: BinaryIO) -> Iterator[Hdf5]:
        """Within it, whatever h5py says of the file is a FormatError."""
        library = h5py()
        try:
            with library.File(file, "r") as root:
                yield cls(root)
        except CarouselError:
            raise
        except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
            raise FormatError(f"h5py cannot read it: {ascii(str(error))[1:-1][:160]}") from None

    def has(self, path: str) -> bool:
        """Whether there is anything at `path`."""
        return self._at(path) is not None

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
