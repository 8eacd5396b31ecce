"""How fast are carousel.keras.LSTM and GRU against Keras's own layers, under its torch backend, and a whole `fit`?

    pip install keras
    python benchmarks/keras_layers.py [--threads 1] [--rounds 5] [--only lstm]

Both are given the same weights; outputs, in training the gradient of the first kernel, of a fit the losses, are checked
to be equal before they are timed. A layer's figures are of calls without and with the backward pass; a fit is compile,
batches, optimizer and metrics of `Sequential([LSTM(50), Dense(1)])` and its like, three epochs of 640 windows.
Printed is the time of Keras's over ours.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

from carousel.bench import SHAPES, SIZES, interleaved, ratio
from carousel.bench.agreement import check_equal
from carousel.bench.malloc import keep_memory
from carousel.bench.script import begin, options, store
from carousel.keras import GRU, LSTM, kernel_path

COLUMNS = ("cell", *SIZES, "mode", "ours_ms", "keras_ms", "keras_over_ours", "low", "high")
KINDS = {"lstm": (LSTM, keras.layers.LSTM), "gru": (GRU, keras.layers.GRU)}
WINDOWS, EPOCHS = 640, 3

Side = Callable[[], Any]
Shape = tuple[int, int, int, int, int]


def main() -> None:
    parsed = options(__doc__, only=("lstm", "gru")).parse_args()
    machine = begin(parsed)
    keep_memory()
    print(f"# Keras {keras.__version__} on torch {torch.__version__}")
    print(f"{'':44}{'ours ms':>9}{'Keras ms':>10}  ratio")
    rows = []
    for cell in [parsed.only] if parsed.only else KINDS:
        for shape in SHAPES[1:2] if parsed.quick else SHAPES:
            for mode, prepare in (("inference", inference), ("training", training), ("fit", fit)):
                if mode == "fit" and shape[1] > 256:
                    continue  # minutes of Keras's own
                rows.append((cell, *shape, mode, *measured(cell, shape, mode, prepare, parsed)))
    store(parsed, machine, "keras_layers", COLUMNS, rows)


def measured(
    cell: str, shape: Shape, mode: str, prepare: Callable[..., tuple[Side, Side]], parsed: Namespace
) -> tuple[float, ...]:
    sides, found = zip(*(prepare(kind, shape) for kind in KINDS[cell]), strict=True)
    ours, theirs = (torch.as_tensor(np.asarray(value())) for value in found)
    check_equal(f"Keras, {cell.upper()} {shape} {mode}", ours, theirs, gradient=mode != "inference")
    times = interleaved(sides, rounds=parsed.rounds, seconds=parsed.seconds)
    over = ratio(times[1], times[0])
    ms = [median(side) * 1e3 for side in times]
    title = f"{cell.upper()} {shape} {mode}"
    print(
        f"{title:44}{ms[0]:9.3f}{ms[1]:10.3f}  {over.median:.2f} ({over.low:.2f}–{over.high:.2f})", flush=True
    )
    return (*ms, over.median, over.low, over.high)


def model_of(kind: Any, shape: Shape, head: bool) -> keras.Model:
    """A stack of layers with the weights that the seed gives."""
    I, H, L, _, T = shape
    keras.utils.set_random_seed(0)
    stack = [kind(H, return_sequences=not head or k < L - 1) for k in range(L)]
    model = keras.Sequential([keras.Input((T, I)), *stack, *([keras.layers.Dense(1)] if head else [])])
    if kind in (LSTM, GRU):
        assert all(
            kernel_path(layer, np.zeros((1, T, layer.input.shape[-1]))).startswith("carousel")
            for layer in stack
        )
    return model


def data(shape: Shape, rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(rows, shape[4], shape[0])).astype(np.float32)


def inference(kind: Any, shape: Shape) -> tuple[Side, Side]:
    """What to time, and what it gave."""
    model, x = model_of(kind, shape, head=False), torch.from_numpy(data(shape, shape[3]))

    def run() -> Any:
        with torch.no_grad():
            return model(x, training=False)

    return run, run


def training(kind: Any, shape: Shape) -> tuple[Side, Side]:
    model, x = model_of(kind, shape, head=False), torch.from_numpy(data(shape, shape[3]))
    weights = [weight.value for weight in model.trainable_weights]

    def run() -> None:
        for weight in weights:
            weight.grad = None
        model(x, training=True).square().mean().backward()

    def gradient() -> Any:
        run()
        return weights[0].grad.clone()

    return run, gradient


def fit(kind: Any, shape: Shape) -> tuple[Side, Side]:
    model, x = model_of(kind, shape, head=True), data(shape, WINDOWS)
    y = x.mean((1, 2))[:, None]
    model.compile("adam", "mse")

    def run() -> Any:
        return model.fit(x, y, batch_size=shape[3], epochs=EPOCHS, shuffle=False, verbose=0).history["loss"]

    return run, run


if __name__ == "__main__":
    main()
