"""Measuring in a process of its own: the caller's threads, malloc and libraries have no part in the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from carousel.bench.errors import BenchmarkError
from carousel.bench.problem import Problem

__all__ = ["measure"]


def measure(
    problems: list[Problem], *, threads: int | None, rounds: int, seconds: float, keep: bool, peak: bool
) -> Iterator[dict[str, Any]]:
    """The answers of `carousel.bench.worker`, one at a time, from a new process.

    Raises:
        BenchmarkError: the process could not measure; the text says why.
    """
    options = {"threads": threads, "rounds": rounds, "seconds": seconds, "keep": keep, "peak": peak}
    request = {"problems": [asdict(problem) for problem in problems], **options}
    command = [sys.executable, "-m", "carousel.bench.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with process.stdin as stdin:
                json.dump(request, stdin)
            for line in process.stdout:
                answer = json.loads(line)
                if "error" in answer:
                    raise BenchmarkError(answer["error"])
                yield answer
            code = process.wait()
        except BaseException:  # Ctrl-C, or a caller who has seen enough
            process.kill()
            raise
    if code != 0:
        raise BenchmarkError(f"The process that measures ended with code {code}.")
