"""Keras 3 on torch or TensorFlow, whichever KERAS_BACKEND names; batch first, as its layers are."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from carousel.bench import Problem
from carousel.layout import Array, Weights, reorder, to_keras
from peer.base import Peer, Side

__all__ = ["Keras"]


def stack(problem: Problem, layers: Sequence[Weights]) -> keras.Model:
    I, H, _, _, T = problem.shape
    kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[problem.cell]
    model = keras.Sequential([keras.Input((T, I)), *(kind(H, return_sequences=True) for _ in layers)])
    for layer, weights in zip(model.layers, layers, strict=True):
        layer.set_weights(to_keras(problem.cell, *weights))
    return model


class Keras(Peer):
    version = keras.__version__

    def __init__(self, threads: int) -> None:
        self.backend = keras.backend.backend()
        self.name = f"Keras ({self.backend})"
        if self.backend == "tensorflow":
            import tensorflow

            tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)

    def inference(self, problem: Problem, layers: Sequence[Weights], x: Array) -> Side:
        model, tensor = stack(problem, layers), _tensor(x)
        if self.backend == "tensorflow":
            import tensorflow

            run = tensorflow.function(lambda: model(tensor, training=False))
        else:
            import torch

            def run():
                with torch.no_grad():
                    return model(tensor, training=False)

        return Side(run, lambda y: y.numpy().swapaxes(0, 1))

    def training(self, problem: Problem, layers: Sequence[Weights], x: Array, dy: Array) -> Side:
        model, tensor, output = stack(problem, layers), _tensor(x), _tensor(dy)
        if self.backend == "tensorflow":
            import tensorflow

            @tensorflow.function
            def run():
                with tensorflow.GradientTape() as tape:
                    y = model(tensor, training=True)
                return tape.gradient(y, model.trainable_weights, output)

        else:

            def run():
                for weight in model.trainable_weights:
                    weight.value.grad = None
                model(tensor, training=True).backward(output)
                return [weight.value.grad for weight in model.trainable_weights]

        return Side(
            run,
            lambda found: reorder(found[0].numpy().T, problem.cell, "keras", "torch"),
        )


def _tensor(sequence: Array):
    """(T, B, ·) -> (B, T, ·) as the backend's own."""
    return keras.ops.convert_to_tensor(np.ascontiguousarray(sequence.swapaxes(0, 1)))
