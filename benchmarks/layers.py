"""How fast is a layer against torch.nn, forward only and forward with backward?

    python benchmarks/layers.py [--threads 2] [--rounds 15] [--only lstm] [--csv FILE]

Every row first checks that outputs and gradients agree. Both sides then run in turn, A B A B, in one process,
so that a noisy or throttling machine slows both; each figure is a median over rounds, each ratio the median of
the rounds' ratios. torch's training time depends on malloc: in a fresh process it faults in new pages at every
call. The script therefore restarts itself with a malloc that keeps its memory (the better case for torch);
--malloc default leaves it alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# (inputs, hidden, layers, batch, steps)
SHAPES = {
    "sine model": (1, 50, 2, 64, 50),
    "many-to-many tutorial": (10, 20, 2, 3, 5),
    "batch of one": (8, 64, 1, 1, 100),
    "H 128": (32, 128, 1, 32, 100),
    "H 256": (128, 256, 2, 64, 96),
    "H 512": (512, 512, 1, 32, 100),
    "H 1024": (1024, 1024, 1, 16, 50),
}
KEPT = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "200000000",
}
SIZES = ("inputs", "hidden", "layers", "batch", "steps")
COLUMNS = ("cell", "name", *SIZES, "mode", "ours_ms", "torch_ms", "ratio", "low", "high", "gflops")


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="least time of one side of one round")
    parser.add_argument("--only", choices=("lstm", "gru", "rnn"), help="one cell")
    parser.add_argument("--malloc", choices=("kept", "default"), default="kept")
    parser.add_argument("--csv", type=Path, help="also write the rows there")
    options = parser.parse_args()
    if options.malloc == "kept" and not set(KEPT) <= set(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEPT})
    measure(options)


def measure(options: argparse.Namespace) -> None:
    import torch

    import carousel
    from carousel import _core

    torch.set_num_threads(options.threads)
    print(f"# {machine()}; carousel {carousel.__version__} {_core.isa()}; torch {torch.__version__}")
    print(f"# {options.threads} threads, malloc {options.malloc}, {options.rounds} interleaved rounds")
    columns = f"{'ours ms':>10}{'torch ms':>10}{'ratio':>8}{'spread':>14}{'GFLOP/s':>9}"
    print(f"{'cell':5}{'(I, H, L, B, T)':26}{'':12}{columns}")
    rows = []
    for cell in [options.only] if options.only else ["lstm", "gru"]:
        for name, shape in SHAPES.items():
            for mode in ("inference", "training"):
                ours, theirs, ratios = pair(cell, shape, mode, options)
                rate = flops(cell, shape, mode) / ours / 1e9
                ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
                figures = (ours * 1e3, theirs * 1e3, ratio, low, high, rate)
                rows.append((cell, name, *shape, mode, *figures))
                print(
                    f"{cell:5}{shape!s:26}{mode:12}"
                    + "{:10.3f}{:10.3f}{:8.2f}{:8.2f}-{:5.2f}{:9.0f}".format(*figures),
                    flush=True,
                )
    if options.csv:
        with options.csv.open("w", newline="") as file:
            software = f"{_core.isa()}, torch {torch.__version__}, {options.threads} threads"
            file.write(f"# {machine()}; {software}\n")
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)


def pair(
    cell: str, shape: tuple[int, ...], mode: str, options: argparse.Namespace
) -> tuple[float, float, list[float]]:
    """Seconds per call of ours and torch's, and torch's over ours in every round."""
    import torch

    import carousel

    I, H, L, B, T = shape
    torch.manual_seed(0)
    theirs = getattr(torch.nn, cell.upper())(I, H, L)
    ours = getattr(carousel.nn, cell.upper())(I, H, L)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I)
    dy = torch.randn(T, B, H)
    assert carousel.kernel_path(ours, x).startswith("carousel"), carousel.kernel_path(ours, x)

    def inference(module: torch.nn.Module) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return module(x)[0]

        return call

    def training(module: torch.nn.Module) -> Callable[[], object]:
        def call() -> object:
            for p in module.parameters():
                p.grad = None
            return module(x)[0].backward(dy)

        return call

    calls = [(inference if mode == "inference" else training)(module) for module in (ours, theirs)]
    agree(ours, theirs, calls, mode)
    count = [calibrated(call, options.seconds) for call in calls]
    times: list[list[float]] = [[], []]
    for _ in range(options.rounds):
        for side in (0, 1):
            times[side].append(timed(calls[side], count[side]))
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return statistics.median(times[0]), statistics.median(times[1]), ratios


def agree(ours: object, theirs: object, calls: list[Callable[[], object]], mode: str) -> None:
    import torch

    results = [call() for call in calls]
    if mode == "inference":
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    else:
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):  # type: ignore[attr-defined]
            scale = float(q.grad.abs().max()) or 1.0
            torch.testing.assert_close(p.grad / scale, q.grad / scale, rtol=1e-3, atol=2e-5)


def calibrated(call: Callable[[], object], seconds: float) -> int:
    call()
    return max(1, round(seconds / max(timed(call, 3), 1e-7)))


def timed(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def flops(cell: str, shape: tuple[int, ...], mode: str) -> float:
    """Multiplications and additions of the matrix products; the first layer's dx is not computed."""
    I, H, L, B, T = shape
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    per_row = [2.0 * gates * H * ((I if layer == 0 else H) + H) for layer in range(L)]
    forward = sum(per_row) * B * T
    return forward if mode == "inference" else 3 * forward - 2.0 * gates * H * I * B * T


def machine() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return f"{name}, {os.cpu_count()} cores"
    except (OSError, StopIteration):
        return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
