"""What does bfloat16 bring in inference, beside float32 of torch.nn and of ours, and how far are its results?

    python benchmarks/bfloat16.py [--only lstm]

Ours by `module.bfloat16()`: inputs, weights and outputs are bfloat16, sums, cells and states float32. `error` is the
largest difference of an output, which lies in [-1, 1], from torch's in float32.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from statistics import median
from typing import Any

from carousel.bench import SIZES, Problem, interleaved, problems, ratio
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import calls, forward, modules
from carousel.bench.script import begin, options, store

COLUMNS = ("cell", *SIZES, "ms", "torch_over_ours", "low", "high", "float32_over_ours", "error")


def main() -> None:
    parsed = options(__doc__, only=("lstm", "gru")).parse_args()
    machine = begin(parsed)
    keep_memory()
    asked = problems([parsed.only] if parsed.only else ("lstm", "gru"))
    asked = [problem for problem in asked if problem.mode == "inference"]
    print(f"{'':38}{'ms':>9}  {'torch float32 / ours':22}{'ours float32 / ours':>20}{'error':>10}")
    rows = []
    for problem in asked[1:3] if parsed.quick else asked:
        row = measured(problem, parsed)
        print("{!s:38}{:9.3f}  {:.2f} ({:.2f}–{:.2f}){:>28.2f}{:>10.1e}".format(problem, *row), flush=True)
        rows.append((problem.cell, *problem.shape, *row))
    store(parsed, machine, "bfloat16", COLUMNS, rows)


def measured(problem: Problem, parsed: Namespace) -> tuple[Any, ...]:
    """Of COLUMNS, those after the sizes."""
    ours, theirs, x, dy = modules(problem)
    low = copy.deepcopy(ours).bfloat16()
    error = (forward(low, x.bfloat16()).float() - forward(theirs, x)).abs().max().item()
    sides = [calls(problem.mode, *side, dy) for side in ((low, x.bfloat16()), (theirs, x), (ours, x))]
    times = interleaved(sides, rounds=parsed.rounds, seconds=parsed.seconds)
    torchs, full = (ratio(others, times[0]) for others in times[1:])
    return median(times[0]) * 1e3, torchs.median, torchs.low, torchs.high, full.median, error


if __name__ == "__main__":
    main()
