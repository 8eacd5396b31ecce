"""How long does a fit take beside NeuralForecast and Darts, on the same data, windows and epochs?

    pip install -c constraints/cpu.txt neuralforecast "darts[torch]"
    python benchmarks/fits.py [--threads 1] [--rounds 3] [--only gru]

Every side trains one recurrent layer and a dense head, windows of 72 hours to the 24 after them, in batches of 64 with
its own default optimiser, from the data in its own form to a fitted model. What is not installed is left out. Ours does
more meanwhile: it holds the last rows out, calibrates intervals and scores baselines on them, and trains again on all
rows, so that it passes nearly twice the windows. Printed are the whole of a fit, what one thousand windows of it took,
their ratios to ours, and of ours the part of its threads' time that loading took, waits for Python's lock included.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from carousel import Forecaster
from carousel.bench import ratio
from carousel.bench.malloc import keep_memory
from carousel.bench.script import begin, options, store
from carousel.forecast import recurrent_fit
from wild.forecasters import NO_FILES, QUIET, hourly

LOOKBACK, HORIZON, BATCH = 72, 24, 64
SERIES, ROWS, EPOCHS = 20, 1000, 2
WINDOWS = SERIES * (ROWS - LOOKBACK - HORIZON + 1)  # of an epoch
HIDDEN = (50, 128)
COLUMNS = (
    "cell", "hidden", "who", "fit_s", "windows", "ms_per_1000", "loading_share",
    "fit_ratio", "low", "high", "window_ratio", "window_low", "window_high",
)  # fmt: skip

Array = np.ndarray[Any, Any]


@dataclass
class Spent:
    """Of one fit: windows passed, seconds of training, and the seconds that its threads took for their batches."""

    windows: int = 0
    training: float = 0.0
    loading: float = 0.0


def main() -> None:
    parsed = options(__doc__, rounds=3, seconds=0.0, only=("lstm", "gru")).parse_args()
    machine = begin(parsed)
    keep_memory()
    rows: list[tuple[Any, ...]] = []
    print(
        f"{'':32}{'fit s':>8}{'windows':>9}{'ms / 1000':>11}{'loading':>9}   fit / ours, window / window of ours"
    )
    for cell in [parsed.only] if parsed.only else ("lstm", "gru"):
        for hidden in HIDDEN[:1] if parsed.quick else HIDDEN:
            rows += measured(cell, hidden, parsed)
    store(parsed, machine, "fits", COLUMNS, rows)


def measured(cell: str, hidden: int, parsed: Namespace) -> list[tuple[Any, ...]]:
    """The sides in turn, ours first."""
    series, epochs = hourly(2 if parsed.quick else SERIES, ROWS), 1 if parsed.quick else EPOCHS
    sides = {"carousel": ours}
    for who, side in {"NeuralForecast": neuralforecast, "Darts BlockRNN": darts}.items():
        with suppress(ImportError):
            side(cell, hidden, series[:2, :200], 1)  # imports, and all that a first call does
            sides[who] = side
    ours(cell, hidden, series[:2, :400], 1)
    whole: dict[str, list[float]] = {who: [] for who in sides}
    each: dict[str, list[float]] = {who: [] for who in sides}
    spent = Spent()
    for _ in range(parsed.rounds):
        for who, side in sides.items():
            start = time.perf_counter()
            spent = side(cell, hidden, series, epochs)
            whole[who].append(time.perf_counter() - start)
            each[who].append(1e6 * whole[who][-1] / spent.windows)
            if who == "carousel":
                mine = spent
    rows = []
    for who in sides:
        windows = round(1e6 * whole[who][0] / each[who][0])
        share = 100 * mine.loading / (parsed.threads * mine.training) if who == "carousel" else None
        fits, per_window = (ratio(times[who], times["carousel"]) for times in (whole, each))
        print(
            f"{cell.upper() + ', ' + str(hidden) + ' units, ' + who:32}{median(whole[who]):8.2f}{windows:9}"
            f"{median(each[who]):11.1f}{'' if share is None else f'{share:.1f} %':>9}   "
            f"{fits.median:.2f} ({fits.low:.2f}–{fits.high:.2f}), {per_window.median:.2f}",
            flush=True,
        )
        rows.append(
            (cell, hidden, who, median(whole[who]), windows, median(each[who]), "" if share is None else share,
             fits.median, fits.low, fits.high, per_window.median, per_window.low, per_window.high)
        )  # fmt: skip
    return rows


def ours(cell: str, hidden: int, series: Array, epochs: int) -> Spent:
    spent = Spent()
    train = recurrent_fit.train

    def watched(net: Any, load: Callable[[Array], Any], *rest: Any, **more: Any) -> Any:
        def timed(rows: Array) -> Any:
            start = time.perf_counter()
            batch = load(rows)
            spent.loading += time.perf_counter() - start
            spent.windows += len(rows)
            return batch

        start = time.perf_counter()
        run = train(net, timed, *rest, **more)
        spent.training += time.perf_counter() - start
        return run

    model = Forecaster(
        HORIZON,
        architecture="plain",
        cell=cell,
        hidden_size=hidden,
        layers=1,
        lookback=LOOKBACK,
        epochs=epochs,
        patience=epochs,
        batch_size=BATCH,
        progress=False,
    )
    with mock.patch.object(recurrent_fit, "train", watched):
        model.fit(_frame(series))
    return spent


def neuralforecast(cell: str, hidden: int, series: Array, epochs: int) -> Spent:
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import GRU, LSTM

    count = len(series) * (series.shape[1] - LOOKBACK - HORIZON + 1)
    steps = epochs * count // BATCH
    model = {"lstm": LSTM, "gru": GRU}[cell](
        h=HORIZON,
        input_size=LOOKBACK,
        encoder_n_layers=1,
        encoder_hidden_size=hidden,
        decoder_layers=1,
        decoder_hidden_size=hidden,
        loss=MSE(),
        max_steps=steps,
        batch_size=len(series),
        windows_batch_size=BATCH,
        random_seed=0,
        **QUIET,
        **NO_FILES,
    )
    NeuralForecast([model], freq="h").fit(_frame(series))
    return Spent(steps * BATCH)


def darts(cell: str, hidden: int, series: Array, epochs: int) -> Spent:
    from darts import TimeSeries
    from darts.models import BlockRNNModel

    model = BlockRNNModel(
        model=cell.upper(),
        input_chunk_length=LOOKBACK,
        output_chunk_length=HORIZON,
        hidden_dim=hidden,
        n_rnn_layers=1,
        batch_size=BATCH,
        n_epochs=epochs,
        random_state=0,
        pl_trainer_kwargs={**QUIET, **NO_FILES},
    )
    model.fit([TimeSeries.from_values(row) for row in series])
    return Spent(epochs * len(series) * (series.shape[1] - LOOKBACK - HORIZON + 1))


def _frame(series: Array) -> Any:
    import pandas as pd

    S, T = series.shape
    stamps = np.tile(pd.date_range("2024-01-01", periods=T, freq="h"), S)
    return pd.DataFrame({"unique_id": np.repeat(np.arange(S), T), "ds": stamps, "y": series.ravel()})


if __name__ == "__main__":
    main()
