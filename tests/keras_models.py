"""A program of its own: real Keras makes models, carousel reads and writes them, Keras opens what was written.

    python keras_models.py DIRECTORY

leaves in DIRECTORY the models, as .keras and .h5, `refused.json`: what is said of those that are refused, and
`found.json`: for every case and way the largest difference
from Keras's own predictions, relative to the largest of them or 1.
"""

import json
import sys
import traceback
from pathlib import Path

import keras
import numpy as np
from keras import layers

from carousel import stream
from carousel.errors import UnsupportedError
from carousel.interop.keras import load, read, save

T, B, I = 7, 4, 3
RNG = np.random.default_rng(0)
CELLS = {
    "lstm": lambda **o: layers.LSTM(5, **o),
    "gru": lambda **o: layers.GRU(5, **o),
    "gru_before": lambda **o: layers.GRU(5, reset_after=False, **o),
    "rnn": lambda **o: layers.SimpleRNN(5, **o),
}


def tutorial():
    model = keras.Sequential([layers.LSTM(50, input_shape=(None, 1)), layers.Dense(1)])
    model.compile("adam", "mean_squared_error")
    wave = np.sin(np.linspace(0, 20, 120))
    windows = np.stack([wave[k : k + 21] for k in range(99)])
    model.fit(windows[:, :20, None], windows[:, 20], epochs=3, batch_size=32, verbose=0)
    return model, windows[::10, :20, None].astype(np.float32)


def sequential(*stack, shape=(None, I), dtype=None):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *stack])


def functional(*stack, shape=(None, I), dtype=None):
    start = end = keras.Input(shape, dtype=dtype)
    for layer in stack:
        end = layer(end)
    return keras.Model(start, end)


def adapted(**options):
    layer = layers.Normalization(**options)
    layer.adapt(RNG.normal(3, 2, size=(50, T, I)))
    return layer


def tail(take):
    start = keras.Input((None, I))
    return keras.Model(start, layers.Dense(2)(take(layers.LSTM(5, return_sequences=True)(start))))


def cases():
    yield "tutorial", tutorial
    for name, cell in CELLS.items():
        for kind, options in {
            "last": {},
            "sequences": {"return_sequences": True},
            "backwards_last": {"go_backwards": True},
            "backwards_sequences": {"go_backwards": True, "return_sequences": True},
            "no_bias": {"use_bias": False},
            "dropout": {"dropout": 0.2, "recurrent_dropout": 0.1},
        }.items():
            yield (
                f"{name}_{kind}",
                lambda cell=cell, o=options: sequential(cell(**o), layers.Dense(2, "tanh")),
            )
        for merge in ("concat", "sum", "mul", "ave") if name == "lstm" else ("mul",):
            for sequences in (False, True):
                yield (
                    f"{name}_two_{merge}_{sequences}",
                    lambda cell=cell, m=merge, s=sequences: sequential(
                        layers.Bidirectional(cell(return_sequences=s), merge_mode=m), layers.Dense(2)
                    ),
                )
        for kind, make in {
            "last": lambda cell: [cell()],
            "sequences": lambda cell: [cell(return_sequences=True)],
            "zero": lambda cell: [cell(return_sequences=True, zero_output_for_mask=True)],
            "backwards": lambda cell: [cell(go_backwards=True)],
            "two": lambda cell: [layers.Bidirectional(cell())],
            "two_sequences": lambda cell: [layers.Bidirectional(cell(return_sequences=True), "ave")],
            "stacked": lambda cell: [
                layers.Bidirectional(cell(return_sequences=True)), layers.Dropout(0.5), layers.Dense(4, "relu"),
                cell(),
            ],
        }.items():  # fmt: skip
            for way in (sequential, functional) if name == "lstm" else (sequential,):
                yield (
                    f"{name}_masked_{kind}_{way.__name__}",
                    lambda cell=cell, make=make, way=way: way(
                        layers.Masking(0.5), *make(cell), layers.Dense(2, "sigmoid")
                    ),
                )
    yield "last_by_index", lambda: tail(lambda y: y[:, -1, :])
    yield (
        "within",
        lambda: functional(
            layers.LSTM(4, return_sequences=True),
            keras.Sequential([layers.LSTM(4, return_sequences=True), keras.Sequential([layers.LSTM(5)])]),
            layers.Dense(2),
        ),
    )
    yield (
        "masked_behind",
        lambda: sequential(
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(4, return_sequences=True, go_backwards=True),
            layers.Masking(0.0),
            layers.LSTM(2),
        ),
    )
    relu = {"activation": "relu", "kernel_initializer": "zeros"}
    yield "rnn_relu", lambda: sequential(layers.SimpleRNN(5, **relu), layers.Dense(2, "softmax"))
    yield "stacked", lambda: sequential(
        layers.LSTM(4, return_sequences=True), layers.GRU(6, return_sequences=True), layers.LSTM(3, unroll=True),
        shape=(T, I),
    )  # fmt: skip
    yield "distributed", lambda: sequential(
        layers.GRU(4, return_sequences=True), layers.TimeDistributed(layers.Dense(3, "relu")),
        layers.Activation("softmax"), layers.TimeDistributed(layers.Activation("tanh")),
    )  # fmt: skip
    yield (
        "activations",
        lambda: sequential(
            layers.LSTM(4),
            layers.ReLU(),
            layers.Dense(3),
            layers.Softmax(),
            layers.Identity(),
            layers.AlphaDropout(0.2),
            layers.ActivityRegularization(0.1),
        ),
    )
    yield "fixed", lambda: sequential(layers.GRU(4, return_sequences=True), layers.Dense(2), shape=(T, I))
    yield "normalized", lambda: sequential(adapted(), layers.LSTM(4))
    yield "normalized_masked", lambda: functional(adapted(), layers.Masking(0.5), layers.LSTM(4))
    yield "masked_normalized", lambda: sequential(layers.Masking(0.5), adapted(), layers.LSTM(4))
    yield "normalized_all", lambda: sequential(adapted(axis=None), layers.LSTM(4))
    yield (
        "normalized_given",
        lambda: sequential(layers.Normalization(mean=[1, 2, 3], variance=[1, 4, 9]), layers.GRU(4)),
    )
    yield "normalized_back", lambda: functional(layers.GRU(3, return_sequences=True), adapted(invert=True))
    yield (
        "functional",
        lambda: functional(layers.LSTM(4, return_sequences=True), layers.GRU(3), layers.Dense(1)),
    )
    ids = {"shape": (None,), "dtype": "int32"}
    for way in (sequential, functional):
        yield f"ids_{way.__name__}", lambda way=way: way(layers.Embedding(9, 4), layers.LSTM(3), **ids)
        yield (
            f"padded_{way.__name__}",
            lambda way=way: way(
                layers.Embedding(9, 4, mask_zero=True),
                layers.Bidirectional(layers.GRU(3, return_sequences=True)),
                layers.LSTM(3),
                **ids,
            ),
        )
    yield "float64", double


def double():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        return sequential(
            layers.Masking(0.5), layers.Bidirectional(layers.LSTM(4)), layers.Dense(2), dtype="float64"
        )
    finally:
        keras.config.set_dtype_policy(before)


def given(model):
    """The model with random weights, and an input for it, with masked steps."""
    for weight in model.trainable_weights:
        weight.assign(RNG.normal(0, 0.7, size=weight.shape))
    if len(model.input_shape) == 2:
        ids = RNG.integers(0, 9, size=(B, T))
        ids[:, -2:] = 0
        return ids
    x = RNG.normal(size=(B, T, I)).astype("float64" if "64" in model.inputs[0].dtype else "float32")
    x[RNG.random((B, T)) < 0.3] = 0.5
    x[0, -1] = x[1, 0] = x[2, :] = 0.5
    return x


def predicted(model, x):
    tensor = keras.ops.convert_to_tensor(x, dtype=str(x.dtype))  # an array of float64 would become float32
    return keras.ops.convert_to_numpy(model(tensor, training=False))


def difference(network, x, expected):
    y = stream.Model(network).run(x.swapaxes(0, 1))
    y = y.swapaxes(0, 1) if network.per_step else y
    assert y.shape == expected.shape, (y.shape, expected.shape)
    return float(np.abs(y - expected).max() / max(1, np.abs(expected).max()))


def tried(directory, name, make):
    made = make()
    model, x = made if isinstance(made, tuple) else (made, given(made))
    expected, found = predicted(model, x), {}
    other_cell = name.startswith(("gru", "rnn")) and not name.endswith(("last", "sequences"))
    keras_only = (
        other_cell or name == "within"
    )  # of models within models only this form says where the weights are
    for ending in (".keras",) if keras_only else (".keras", ".h5"):
        path = directory / (name + ending)
        model.save(path)
        conversion = read(path)
        found[f"read{ending}"] = difference(conversion.network, x, expected)
        found[f"check{ending}"] = conversion.check
        found[f"largest{ending}"] = conversion.largest
    again = directory / f"{name}-again.keras"
    save(conversion.network, again)
    found["in_memory"] = difference(load(model), x, expected)
    found["written"] = float(np.abs(predicted(keras.saving.load_model(again), x) - expected).max())
    found["written"] /= max(1, float(np.abs(expected).max()))
    return found


def own_function():
    """Of a function of the user's own a file says only the name, here that of one of Keras's."""

    def relu(x):
        return keras.ops.clip(x, 0, 1)

    return sequential(
        layers.LSTM(4), layers.Dense(1, relu, bias_initializer=keras.initializers.Constant(5.0))
    )


def refusals():
    """What is said of models that are there, by name."""
    for name, make in {"own function": own_function}.items():
        try:
            yield name, str(read(make()))
        except UnsupportedError as error:
            yield name, str(error)


def main(directory):
    (directory / "refused.json").write_text(json.dumps(dict(refusals())))
    found = {}
    for name, make in cases():
        try:
            found[name] = tried(directory, name, make)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    (directory / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
