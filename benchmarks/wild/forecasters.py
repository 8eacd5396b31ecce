"""Forecasting libraries, as their own first examples use them, on hourly series with a daily and a weekly season."""

from __future__ import annotations

from typing import Any

import numpy as np

# Of Lightning's Trainer, which all three use.
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
NO_FILES = {"enable_checkpointing": False}


def hourly(count: int, length: int) -> np.ndarray:
    """(S, T) float32."""
    rng = np.random.default_rng(0)
    t = np.arange(length)
    phases = rng.uniform(0, 2 * np.pi, size=(2, count, 1))
    day, week = (np.sin(2 * np.pi * t / p + f) for p, f in zip((24, 168), phases, strict=True))
    return (10 + 3 * day + week + rng.normal(scale=0.3, size=(count, length))).astype(np.float32)


def neuralforecast_lstm(steps: int) -> None:
    from neuralforecast.models import LSTM

    _neuralforecast(LSTM, steps)


def neuralforecast_gru(steps: int) -> None:
    from neuralforecast.models import GRU

    _neuralforecast(GRU, steps)


def _neuralforecast(kind: Any, steps: int) -> None:
    import pandas as pd
    from neuralforecast import NeuralForecast

    y = hourly(20, 1000)
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat([f"series {k}" for k in range(len(y))], y.shape[1]),
            "ds": np.tile(pd.date_range("2024-01-01", periods=y.shape[1], freq="h"), len(y)),
            "y": y.ravel(),
        }
    )
    model = kind(h=24, input_size=72, max_steps=steps, random_seed=0, **QUIET, **NO_FILES)
    NeuralForecast([model], freq="h").fit(frame)


def darts_rnn(steps: int) -> None:
    from darts.models import RNNModel

    _darts(RNNModel(model="LSTM", input_chunk_length=72, training_length=96, **_darts_options(steps)))


def darts_block_rnn(steps: int) -> None:
    from darts.models import BlockRNNModel

    options = {"input_chunk_length": 72, "output_chunk_length": 24, "n_rnn_layers": 2}
    _darts(BlockRNNModel(model="GRU", **options, **_darts_options(steps)))


def _darts_options(steps: int) -> dict[str, Any]:
    trainer = {"max_steps": steps, **QUIET, **NO_FILES}
    return {"n_epochs": steps, "random_state": 0, "pl_trainer_kwargs": trainer}  # an epoch has several steps


def _darts(model: Any) -> None:
    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler

    model.fit(Scaler().fit_transform([TimeSeries.from_values(row) for row in hourly(4, 1000)]))


def gluonts_deepar(steps: int) -> None:
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator

    start = pd.Period("2024-01-01", freq="h")
    data = ListDataset([{"start": start, "target": row} for row in hourly(20, 1000)], freq="h")
    trainer = {"max_epochs": 1, **QUIET}  # it keeps its best epoch in a file
    DeepAREstimator(
        freq="h", prediction_length=24, context_length=72, num_batches_per_epoch=steps, trainer_kwargs=trainer
    ).train(data)
