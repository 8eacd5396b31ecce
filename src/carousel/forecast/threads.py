"""How many threads a fit uses, and for what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["LARGE", "fitting_threads", "side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGE = 256  # hidden units from which an operation has enough work for several threads
_POOL: ContextVar[ThreadPoolExecutor | None] = ContextVar("pool", default=None)  # of a fit


@contextmanager
def fitting_threads(hidden_size: int) -> Iterator[None]:
    """One thread for an operation of a small network and for every matrix product, as many as the caller lets
    torch use for one of a large network and for what is done `side_by_side`.

    A training step of a small network passes many barriers in a few milliseconds. A second thread saves a third of
    that on an idle machine; where another program runs, each barrier may wait for a time slice, and a fit takes up
    to ten times as long.
    """
    import torch

    before = torch.get_num_threads()
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(before, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        token = _POOL.set(pool if before > 1 else None)
        torch.set_num_threads(before if hidden_size >= LARGE else 1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            _POOL.reset(token)


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of every item, on the threads of the fit.

    For pieces of some milliseconds or more that are computed without Python's lock. There is no barrier inside of
    one, and its bits do not depend on the number of threads.
    """
    pool = _POOL.get()
    if pool is None or len(items) < 2:
        return [function(item) for item in items]
    return list(pool.map(function, items))
