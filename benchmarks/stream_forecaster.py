"""How long does a forecaster take for a row and the forecast after it, alone and for many series in one call?

    python benchmarks/stream_forecaster.py [--rounds 20] [--csv FILE]

One thread. `auto` is a whole forecaster of hours, look-back 336, horizon 24: smoothing of eight members with a memory
of 169 rows, a linear path for each hour of the day, a recurrent path, intervals at two levels. `plain` is the
tutorials' network over 336 steps; beside it the same network in torch.nn, from the same normalised window, is the peer,
and its forecast is first seen to be equal. Figures are medians of rounds that run in turn, in microseconds a call, with
the least and the greatest round.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before anything reads them

import numpy as np

from carousel import stream
from carousel.series.history import Context, normalise
from stream import machine, timed

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # random forecasters are made there
from forecast_models import HIDDEN, forecast_model

BATCHES = (1, 64, 1024, 4096)
COLUMNS = ("model", "batch", "side", "us", "low", "high", "us_a_series")

Array = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.02, help="least time of one side of one round")
    parser.add_argument("--csv", type=Path, help="also write the rows there")
    options = parser.parse_args()
    print(f"# {machine()}, 1 thread, {options.rounds} interleaved rounds")
    print(f"{'model':8}{'batch':>6}  {'side':24}{'us':>12}{'spread':>24}{'a series':>10}")
    rows = []
    for kind in ("auto", "plain"):
        model = stream.Model(forecast_model(np.random.default_rng(0), plain=kind == "plain")[0])
        for batch in BATCHES:
            for row in measured(kind, model, batch, options):
                print("{:8}{:6}  {:24}{:12.1f}{:12.1f}-{:11.1f}{:10.2f}".format(*row), flush=True)
                rows.append(row)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            file.write(f"# {machine()}, 1 thread\n")
            csv.writer(file).writerows([COLUMNS, *rows])


def measured(kind: str, model: Any, batch: int, options: argparse.Namespace) -> list[tuple[Any, ...]]:
    start = Context.join([model.start()] * (batch // 3 + 1))[:batch]
    y = np.random.default_rng(1).uniform(90, 110, batch)
    found = sides(kind, model, start)
    counts = {name: max(1, round(options.seconds / timed(side, y, 2))) for name, side in found.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.rounds):
        for name, side in found.items():
            times[name].append(timed(side, y, counts[name]) * 1e6)
    return [
        (kind, batch, name, m := statistics.median(us), min(us), max(us), m / batch)
        for name, us in times.items()
    ]


def sides(kind: str, model: Any, start: Context) -> dict[str, Callable[[Array], Any]]:
    state = start

    def both(y: Array) -> Any:
        nonlocal state
        state = model.observe(state.next, y, state)
        return model.forecast(state).mean

    found = {
        "observe": lambda y: model.observe(start.next, y, start),
        "forecast": lambda _: model.forecast(start),
        "observe and forecast": both,
    }
    return found | ({"torch.nn, network only": torch_side(model, start)} if kind == "plain" else {})


def torch_side(model: Any, start: Context) -> Callable[[Array], Any]:
    """The network of the plain path in torch; its forecast is checked."""
    import torch

    torch.set_num_threads(1)
    recurrent, _, head = model.value.plain.network.layers
    lstm, linear = torch.nn.LSTM(1, HIDDEN), torch.nn.Linear(HIDDEN, model.value.horizon)
    (w,) = recurrent.directions
    for parameter, array in zip(
        (*lstm.parameters(), *linear.parameters()), (w.W, w.R, w.b_W, w.b_R, head.W, head.b), strict=True
    ):
        parameter.data = torch.from_numpy(array.copy())
    z, level = normalise(start, model.value.season)
    x = torch.from_numpy(np.ascontiguousarray(z.T[..., None], np.float32))

    def run(_: Array) -> Any:
        with torch.no_grad():
            return linear(lstm(x)[1][0][0]).numpy()

    mean = level + run(x) * start.scale[:, None]
    np.testing.assert_allclose(mean, model.forecast(start).mean, atol=1e-4 * start.scale.max())
    return run


if __name__ == "__main__":
    main()
