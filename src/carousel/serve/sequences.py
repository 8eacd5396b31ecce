"""The states of a model's sequences, by name; those that nobody steps are forgotten. Safe from several threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from carousel.serve.limits import Limits
from carousel.serve.protocol import RequestError

__all__ = ["Sequences"]

S = TypeVar("S")


class Sequences(Generic[S]):
    """States, least recently used first.

    Args:
        limits: how many, and how long each is kept without a step.
        clock: seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._states: OrderedDict[str, tuple[S, float]] = OrderedDict()
        self._lock = threading.RLock()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, name: str) -> bool:
        return name in self._states

    def get(self, name: str) -> S:
        """The state of `name`.

        Raises:
            RequestError: there is none.
        """
        with self._lock:
            self.evict()
            if name in self._states:
                return self._states[name][0]
        raise RequestError(
            f"the sequence {name[:60]!r} is not known, or was forgotten; begin it with `sequence_start`.", 404
        )

    def begin(self, name: str, state: S) -> None:
        """Keeps the first state of a sequence; one of that name is replaced.

        Raises:
            RequestError: as many are held as can be.
        """
        most = self._limits.sequences
        with self._lock:
            self.evict()
            if name not in self._states and len(self._states) >= most:
                raise RequestError(
                    f"{most} sequences are held, as many as can be; end some with `sequence_end`.", 429
                )
            self.put(name, state)

    def put(self, name: str, state: S) -> None:
        """Keeps `state`, used now."""
        with self._lock:
            self._states[name] = (state, self._clock())
            self._states.move_to_end(name)

    def drop(self, name: str) -> None:
        """Forgets `name`, if it is there."""
        with self._lock:
            self._states.pop(name, None)

    def evict(self) -> None:
        """Forgets what has been idle for too long."""
        oldest = self._clock() - self._limits.idle
        with self._lock:
            while self._states and next(iter(self._states.values()))[1] < oldest:
                self._states.popitem(last=False)
                self.evicted += 1

    def states(self) -> dict[str, S]:
        """All of them, least recently used first."""
        with self._lock:
            return {name: state for name, (state, _) in self._states.items()}
