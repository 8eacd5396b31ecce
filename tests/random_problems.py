"""Problems drawn at random, judged by the reference on the instruction set in use.

    python tests/random_problems.py COUNT [SEED]

Prints each problem that fails and what is wrong with it; exits 1 if any does. `python tests/kernels.py PROBLEM`
repeats one.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.progress import track

from carousel import _core
from kernels import judge
from problems import Problem


def wrong_with(problem: Problem) -> list[str]:
    """As `judge`; what it asserts on its way is wrong, too."""
    try:
        return judge(problem)
    except AssertionError as error:
        return [str(error) or f"{problem}: an assertion without words"]


def main(count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    failed = 0
    for _ in track(range(count), f"{_core.isa()}, seed {seed}"):
        problem = Problem.drawn(rng)
        lines = wrong_with(problem)
        if lines:
            failed += 1
            print(problem, *lines, sep="\n  ", flush=True)
    print(f"{count} problems on {_core.isa()}, {failed} of them fail")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
