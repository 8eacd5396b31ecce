"""A malloc that keeps its memory.

glibc gives large blocks back to the system when they are freed, so the next call faults in new pages, 4 kB at a
time. A training step of a small layer then spends up to half of its time in the system, torch's more than ours.
A long-running program settles somewhere between; two runs of a benchmark may settle differently. So figures are
taken with memory kept, the better case for torch, and those of a fresh process are shown beside them.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_memory"]

# From malloc.h. 0 and -1 mean: no block of its own for a large request, and never trim.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 200_000_000))


def keep_memory() -> bool:
    """From now on this process keeps the memory that it frees; whether its malloc can be told so (glibc's can)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all(mallopt(name, value) == 1 for name, value in _SETTINGS)
