"""How many threads a fit uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["fitting_threads"]

LARGE = 256  # hidden units from which a step has enough work for several threads


@contextmanager
def fitting_threads(hidden_size: int) -> Iterator[None]:
    """One thread for a small network and for its linear algebra; the caller's setting for a large one.

    A training step of a small network takes about a millisecond and passes several barriers. A second thread
    saves a third of that on an idle machine; where another program runs, each barrier may wait for a time slice,
    and a fit takes up to ten times as long.
    """
    before = torch.get_num_threads()
    with threadpool_limits(limits=1, user_api="blas"):
        torch.set_num_threads(before if hidden_size >= LARGE else 1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
