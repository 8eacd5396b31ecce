"""How much memory does a layer take: for a training step, and for good, over thousands of different shapes?

    python benchmarks/memory.py [--shapes 10000] [--torch-shapes 3000]

1. One module is called, forward only, with --shapes different (T, B) in random order; torch.nn with fewer, for it
   takes longer. What the process holds more than after a call with the largest of them is what was kept per shape.
   Memory that is free inside malloc is given back before each reading, so it does not count.
2. The peak of one training step over that of the same process without it, ours and torch.nn, at several sizes.

Every figure is of a process of its own, with malloc as it is.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

from carousel.bench.script import begin, options, store

SIDES = ("carousel", "torch.nn")
LARGEST = 100  # steps and batch of the shapes: 100 x 100 different ones
STEPS = (
    (1, 50, 2, 64, 50),
    (32, 128, 1, 32, 100),
    (32, 128, 1, 256, 200),
    (128, 256, 2, 64, 96),
    (64, 64, 2, 32, 2000),
    (512, 512, 1, 32, 100),
    (1024, 1024, 1, 16, 50),
)
COLUMNS = ("table", "cell", "case", "side", "mb")


def main() -> None:
    parser = options(__doc__, rounds=1, seconds=0.0)
    parser.add_argument("--shapes", type=int, default=LARGEST**2, help=f"of ours; at most {LARGEST**2}")
    parser.add_argument("--torch-shapes", type=int, default=3000, help="of torch.nn")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        print(json.dumps(measured(**json.loads(parsed.child))))
        return
    machine = begin(parsed)
    rows = []
    print(f"{'':28}{'':6}{'':26}{'':10}{'MB':>10}")
    for row in cases(parsed):
        print("{:28}{:6}{:26}{:10}{:10.1f}".format(*row), flush=True)
        rows.append(row)
    store(parsed, machine, "memory", COLUMNS, rows)


def cases(parsed: argparse.Namespace):
    """The rows of both tables."""
    counts = dict(zip(SIDES, (parsed.shapes, parsed.torch_shapes), strict=True))
    cells = ("lstm",) if parsed.quick else ("lstm", "gru")
    for cell in cells:
        for side, count in counts.items():
            count = min(count, 50) if parsed.quick else count
            grown = child(what="growth", cell=cell, side=side, count=count, threads=parsed.threads)
            for shapes, mb in grown:
                yield "kept after different shapes", cell, f"{shapes} shapes", side, mb
    for cell in cells:
        for shape in STEPS[:1] if parsed.quick else STEPS:
            for side in SIDES:
                request = {
                    "what": "peak",
                    "cell": cell,
                    "side": side,
                    "threads": parsed.threads,
                    "shape": shape,
                }
                mb = child(**request, step=True) - child(**request, step=False)
                yield "peak of a training step", cell, str(shape), side, mb


def child(**request):
    """What `measured` finds in a new process."""
    command = [sys.executable, __file__, "--child", json.dumps(request)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(what: str, cell: str, side: str, threads: int, **sizes):
    import torch

    from carousel import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers = nn if side == "carousel" else torch.nn
    return {"growth": growth, "peak": peak}[what](getattr(layers, cell.upper()), **sizes)


def growth(kind, count: int) -> list[tuple[int, float]]:
    """MB held more than after the largest shape, after a tenth, three tenths, and all of `count` shapes."""
    import torch

    module, x = kind(8, 32), torch.randn(LARGEST, LARGEST, 8)
    shapes = [(T, B) for T in range(1, LARGEST + 1) for B in range(1, LARGEST + 1)]
    random.Random(0).shuffle(shapes)
    found = []
    with torch.no_grad():
        module(x)
        start = resident()
        for k, (T, B) in enumerate(shapes[:count], 1):
            module(x[:T, :B])
            if k in (count // 10, 3 * count // 10, count):
                found.append((k, resident() - start))
    return found


def peak(kind, shape: tuple[int, ...], step: bool) -> float:
    """Peak MB of a process that has the module, its input and the gradient of its output, and made a step or not."""
    import torch

    one = torch.zeros(1, 1, 1)
    kind(1, 1)(one)[0].backward(one)  # what autograd loads at its first use is not the step's
    I, H, L, B, T = shape
    module, x, dy = kind(I, H, L), torch.randn(T, B, I), torch.randn(T, B, H)
    if step:
        module(x)[0].backward(dy)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def resident() -> float:
    """MB that the process holds now, without those that malloc has free."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
