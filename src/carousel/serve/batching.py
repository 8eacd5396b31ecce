"""Whatever waits when the kernel is free goes into its next call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from carousel.serve.protocol import RequestError

__all__ = ["Batcher"]

Job = TypeVar("Job")


@dataclass
class _Waiting(Generic[Job]):
    job: Job
    key: str | None
    result: asyncio.Future[Any]


class Batcher(Generic[Job]):
    """Runs jobs in the order in which they came, many at a time, at most one of each key in a call.

    Nothing waits for a clock: a job that comes alone runs at once, and those that come meanwhile run together.

    Args:
        run: takes some jobs, in a thread of its own; gives a result or an exception for each. Where it raises
            one itself, it has changed nothing: the jobs are run once more, each alone, so that one fails no other.
        batch: most jobs of a call.
        waiting: most jobs that wait; another one is refused.
    """

    def __init__(self, run: Callable[[list[Job]], Sequence[Any]], batch: int, waiting: int) -> None:
        self._run, self._batch, self._most = run, batch, waiting
        self._waiting: deque[_Waiting[Job]] = deque()
        self._thread = ThreadPoolExecutor(1, "carousel-kernel")
        self._task: asyncio.Task[None] | None = None

    async def submit(self, job: Job, key: str | None = None) -> Any:
        """The result of `job`, after those that came earlier with the same key; None is no key.

        Raises:
            RequestError: too many wait.
        """
        if len(self._waiting) >= self._most:
            raise RequestError(f"{self._most} requests are waiting; try again later.", 503)
        waiting = _Waiting(job, key, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await waiting.result

    async def close(self) -> None:
        """Waits for what was submitted, and ends the thread."""
        if self._task is not None:
            await asyncio.wait([self._task])  # which may have been cancelled
        self.stop()

    def stop(self) -> None:
        """Waits for the call that runs, and ends the thread."""
        self._thread.shutdown()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            some = self._next()
            results = await loop.run_in_executor(self._thread, self._results, [one.job for one in some])
            for one, result in zip(some, results, strict=True):
                if one.result.done():  # its client has gone
                    continue
                if isinstance(result, BaseException):
                    one.result.set_exception(result)
                else:
                    one.result.set_result(result)

    def _results(self, jobs: list[Job]) -> Sequence[Any]:
        try:
            return self._run(jobs)
        except Exception as error:
            return [error] if len(jobs) == 1 else [self._results([job])[0] for job in jobs]

    def _next(self) -> list[_Waiting[Job]]:
        taken: list[_Waiting[Job]] = []
        left: deque[_Waiting[Job]] = deque()
        keys: set[str] = set()
        while self._waiting and len(taken) < self._batch:
            one = self._waiting.popleft()
            if one.key in keys:
                left.append(one)
                continue
            taken.append(one)
            keys |= set() if one.key is None else {one.key}
        self._waiting.extendleft(reversed(left))
        return taken
