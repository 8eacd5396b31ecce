"""What does a fit of many rows or of many series take, in time and in memory?

    python benchmarks/scale.py [--only months]

One default forecaster per case, in a process of its own: one long series, a thousand of hours, ten thousand short ones
of months. Memory is that of the whole process at its peak, less what it held before the fit: Python, libraries (a small
fit has loaded them) and the frame, whose own size stands beside it.
"""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
import polars as pl

from carousel import Forecaster
from carousel.bench.script import begin, options, store

CASES = {"one": (1, 10_000_000, "h", 24), "hours": (1000, 10_000, "h", 24), "months": (10_000, 60, "MS", 12)}
COLUMNS = ("case", "series", "rows", "fit_s", "data_mb", "peak_mb", "peak_over_data", "said")
MB = 1e6


def main() -> None:
    parsed = options(__doc__, rounds=1, seconds=0.0, only=CASES).parse_args()
    machine = begin(parsed)
    rows = []
    print(f"{'':8}{'series':>8}{'rows':>12}{'fit s':>8}{'data MB':>9}{'peak MB':>9}")
    for case in [parsed.only] if parsed.only else ["months"] if parsed.quick else CASES:
        series, length, freq, horizon = CASES[case]
        if parsed.quick:
            series, length = min(series, 20), min(length, 500)
        # Spawned: a forked child would begin with the memory of this process.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(measured, (series, length, freq, horizon, parsed.threads))
        seconds, data, peak, said = found
        print(f"{case:8}{series:8}{series * length:12}{seconds:8.1f}{data:9.1f}{peak:9.0f}", flush=True)
        rows.append((case, series, series * length, seconds, data, peak, peak / data, said))
    store(parsed, machine, "scale", COLUMNS, rows)


def measured(
    series: int, length: int, freq: str, horizon: int, threads: int
) -> tuple[float, float, float, str]:
    """Seconds of a fit, MB of the frame, MB of the fit, and what it says of its paths."""
    import torch

    torch.set_num_threads(threads)
    Forecaster(horizon, progress=False).fit(panel(2, 200, freq))  # or the fit would load libraries
    frame = panel(series, length, freq)
    forget_peak()
    before = held()
    start = time.perf_counter()
    model = Forecaster(horizon, progress=False).fit(frame)
    seconds = time.perf_counter() - start
    peak = held("VmHWM")
    said = "; ".join(note for note in model.notes_ if " path: " in note)
    return seconds, frame.estimated_size() / MB, peak - before, said


def panel(series: int, length: int, freq: str) -> pl.DataFrame:
    """Two seasons and noise, of every series another phase."""
    rng = np.random.default_rng(0)
    unit, short, long = ("h", 24, 168) if freq == "h" else ("M", 12, 36)
    ds = np.arange(length).astype(f"datetime64[{unit}]").astype("datetime64[us]")
    t = np.arange(length)
    y = rng.normal(scale=0.3, size=(series, length))
    for row, (a, b) in zip(y, rng.uniform(0, 2 * np.pi, (series, 2)), strict=True):
        row += 10 + 3 * np.sin(2 * np.pi * t / short + a) + np.sin(2 * np.pi * t / long + b)
    ids = np.repeat(np.arange(series), length)
    return pl.DataFrame({"unique_id": ids, "ds": np.tile(ds, series), "y": y.ravel()})


def held(what: str = "VmRSS") -> float:
    """MB that this process holds, or with VmHWM has held at most."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 / MB for line in file if line.startswith(what))


def forget_peak() -> None:
    """From here on the peak is counted anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


if __name__ == "__main__":
    main()
