"""How long does a forecaster take for a row and the forecast after it, alone and for many series in one call?

    python benchmarks/stream_forecaster.py [--rounds 20]

`auto` is a whole forecaster of hours, look-back 336, horizon 24: smoothing of eight members with a memory of 169 rows,
a linear path for each hour of the day, a recurrent path, intervals at two levels. `plain` is the tutorials' network
over 336 steps; beside it the same network in torch.nn, from the same normalised window, is the peer, and its forecast
is first seen to be equal. Figures are microseconds a call, with the least and the greatest round, and of each series.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy reads it

import numpy as np

from carousel import stream
from carousel.bench import interleaved
from carousel.bench.script import begin, options, store
from carousel.bench.timing import Call
from carousel.series.history import Context, normalise

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # random forecasters are made there
from forecast_models import HIDDEN, forecast_model

BATCHES = (1, 64, 1024, 4096)
COLUMNS = ("model", "batch", "side", "us", "low", "high", "us_a_series")

Array = np.ndarray[Any, Any]


def main() -> None:
    parsed = options(__doc__, rounds=20, seconds=0.02).parse_args()
    machine = begin(parsed)
    print(f"{'model':8}{'batch':>6}  {'side':24}{'us':>12}{'spread':>24}{'a series':>10}")
    rows = []
    for kind in ("auto", "plain"):
        model = stream.Model(forecast_model(np.random.default_rng(0), plain=kind == "plain")[0])
        for batch in BATCHES[:2] if parsed.quick else BATCHES:
            for row in measured(kind, model, batch, parsed):
                print("{:8}{:6}  {:24}{:12.1f}{:12.1f}–{:11.1f}{:10.2f}".format(*row), flush=True)
                rows.append(row)
    store(parsed, machine, "stream_forecaster", COLUMNS, rows)


def measured(kind: str, model: Any, batch: int, parsed: Namespace) -> Iterator[tuple[Any, ...]]:
    """As COLUMNS."""
    start = Context.join([model.start()] * (batch // 3 + 1))[:batch]
    y = np.random.default_rng(1).uniform(90, 110, batch)
    found = sides(kind, model, start, y)
    times = interleaved(list(found.values()), rounds=parsed.rounds, seconds=parsed.seconds)
    for name, seconds in zip(found, times, strict=True):
        us = median(seconds) * 1e6
        yield kind, batch, name, us, min(seconds) * 1e6, max(seconds) * 1e6, us / batch


def sides(kind: str, model: Any, start: Context, y: Array) -> dict[str, Call]:
    state = start

    def both() -> Any:
        nonlocal state
        state = model.observe(state.next, y, state)
        return model.forecast(state).mean

    found: dict[str, Call] = {
        "observe": lambda: model.observe(start.next, y, start),
        "forecast": lambda: model.forecast(start),
        "observe and forecast": both,
    }
    return found | ({"torch.nn, network only": torch_side(model, start)} if kind == "plain" else {})


def torch_side(model: Any, start: Context) -> Callable[[], Any]:
    """The network of the plain path in torch; its forecast is checked."""
    import torch

    recurrent, _, head = model.value.plain.network.layers
    lstm, linear = torch.nn.LSTM(1, HIDDEN), torch.nn.Linear(HIDDEN, model.value.horizon)
    (w,) = recurrent.directions
    for parameter, array in zip(
        (*lstm.parameters(), *linear.parameters()), (w.W, w.R, w.b_W, w.b_R, head.W, head.b), strict=True
    ):
        parameter.data = torch.from_numpy(array.copy())
    z, level = normalise(start, model.value.season)
    x = torch.from_numpy(np.ascontiguousarray(z.T[..., None], np.float32))

    def run() -> Any:
        with torch.no_grad():
            return linear(lstm(x)[1][0][0]).numpy()

    mean = level + run() * start.scale[:, None]
    np.testing.assert_allclose(mean, model.forecast(start).mean, atol=1e-4 * start.scale.max())
    return run


if __name__ == "__main__":
    main()
