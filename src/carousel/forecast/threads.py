"""How many threads a fit uses, and for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["fitting_threads", "side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGE = 256  # hidden units from which a step has enough work for several threads
_THREADS: ContextVar[int] = ContextVar("threads", default=1)  # that the caller of a fit lets it use


@contextmanager
def fitting_threads(hidden_size: int) -> Iterator[None]:
    """One thread for a small network and for every matrix product; the caller's setting for a large one.

    A training step of a small network takes about a millisecond and passes several barriers. A second thread
    saves a third of that on an idle machine; where another program runs, each barrier may wait for a time slice,
    and a fit takes up to ten times as long.
    """
    import torch

    before = torch.get_num_threads()
    token = _THREADS.set(before)
    with threadpool_limits(limits=1, user_api="blas"):
        torch.set_num_threads(before if hidden_size >= LARGE else 1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            _THREADS.reset(token)


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of every item, on as many threads as the caller of the fit lets torch use.

    For pieces of a second or so that NumPy computes without Python's lock. There is no barrier inside of one, and
    its bits do not depend on the number of threads.
    """
    with ThreadPoolExecutor(_THREADS.get()) as pool:
        return list(pool.map(function, items))
