"""The process that measures: `python -m carousel.bench.worker`, started by `carousel.bench.process`.

It reads a request from stdin and writes one JSON object a line to stdout: what it runs on and its peak, the times
of one problem after the other, the peak again; or, as its last line, an error.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch

from carousel.bench.machine import this_machine
from carousel.bench.malloc import keep_memory
from carousel.bench.others import Others
from carousel.bench.pair import pair
from carousel.bench.peak import measure_peak
from carousel.bench.problem import Problem
from carousel.bench.timing import interleaved
from carousel.errors import CarouselError

__all__ = ["answers"]

_PATIENCE = 10.0  # seconds for a problem; a quiet machine needs 4 at most


def answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is written for a request.

    Args:
        request: problems (their fields), threads (or None for torch's own choice), rounds, seconds, keep (whether
            memory is kept), peak (whether it is measured).
    """
    if request["threads"] is not None:
        torch.set_num_threads(request["threads"])
    kept = request["keep"] and keep_memory()

    def peak() -> dict[str, Any] | None:
        return dataclasses.asdict(measure_peak()) if request["peak"] else None

    yield {"machine": dataclasses.asdict(this_machine()), "kept": kept, "peak": peak()}
    for fields in request["problems"]:
        problem = Problem(**fields)
        sides = pair(problem)
        others = Others()
        ours, theirs = interleaved(
            sides, rounds=request["rounds"], seconds=request["seconds"], patience=_PATIENCE
        )
        yield {"ours": ours, "torch": theirs, "others": others.cores()}
    yield {"peak": peak()}  # once more: the machine may have been busy before


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to speak about
    try:
        for answer in answers(json.load(sys.stdin)):
            print(json.dumps(answer), flush=True)
    except (
        CarouselError,
        RuntimeError,
        MemoryError,
    ) as error:  # torch's are RuntimeErrors, out of memory too
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)


if __name__ == "__main__":
    main()
