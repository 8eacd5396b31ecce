"""carousel.keras against Keras's own layers under its torch backend; test_keras_layers.py runs it in its own process.

KERAS_BACKEND=torch python -m pytest keras_layers.py
"""

import doctest

import keras
import numpy as np
import pytest
import torch
from keras import layers

import carousel.keras
from carousel import stream
from carousel.errors import UnsupportedError
from carousel.interop.keras import load
from carousel.keras import GRU, LSTM, accelerate, kernel_path, restore

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras's variables

T, B, I, H = 7, 4, 3, 5
KINDS = {"LSTM": (LSTM, layers.LSTM), "GRU": (GRU, layers.GRU)}
# Both add the same products, in another order: a few units in the last place of numbers up to some tens.
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
# Keras's cells, which it takes under a mask and without a reset after the product, round some float64 to float32.
STEP_BY_STEP = 2e-6

OPTIONS = {
    "last": {},
    "sequences": {"return_sequences": True},
    "states": {"return_sequences": True, "return_state": True},
    "last and states": {"return_state": True},
    "backwards": {"return_sequences": True, "go_backwards": True, "return_state": True},
    "no bias": {"use_bias": False, "return_sequences": True},
    "zeros for mask": {"return_sequences": True, "return_state": True, "zero_output_for_mask": True},
    "last, zeros for mask": {"zero_output_for_mask": True},
    "dropout": {"dropout": 0.5, "seed": 3, "return_sequences": True},
    "unroll": {"unroll": True, "return_state": True},
    "single precision": {"dtype": "float32", "return_sequences": True, "return_state": True},
}
BEYOND = {  # what takes Keras's own path, and why
    "activation": ({"activation": "relu"}, "activation is not tanh"),
    "recurrent activation": ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation is not sigmoid"),
    "recurrent dropout": (
        {"recurrent_dropout": 0.5, "seed": 3},
        "recurrent_dropout has a mask for every gate",
    ),
    "half": ({"dtype": "mixed_bfloat16"}, "dtype torch.bfloat16"),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pair(rng, kind, options, shape=(B, T, I)):
    """Our layer and Keras's, with the same random weights."""
    both = [make(H, **{"dtype": "float64", **options}) for make in KINDS[kind]]
    for layer in both:
        layer.build(shape)
    both[0].set_weights([rng.normal(0, 0.7, size=v.shape) for v in both[0].weights])
    both[1].set_weights(both[0].get_weights())
    return both


def masks(rng):
    random = rng.random((B, T)) < 0.6
    random[0], random[1, 0], random[2, -1] = False, False, False
    padded = np.arange(T) < np.array([T, 3, 1, 0])[:, None]
    return {"no mask": None, "holes": random, "padded": padded, "full": np.ones((B, T), bool)}


def found(layer, x, states, mask, training, weights_of_outputs):
    """Outputs and gradients by x, states and weights."""
    x = torch.tensor(x, requires_grad=True)
    states = None if states is None else [torch.tensor(s, requires_grad=True) for s in states]
    mask = None if mask is None else torch.tensor(mask)
    outputs = layer(x, initial_state=states, mask=mask, training=training)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    for weight in layer.weights:
        weight.value.grad = None
    sum(
        (torch.tensor(w).to(y) * y).sum() for w, y in zip(weights_of_outputs, outputs, strict=False)
    ).backward()
    leaves = [x, *(states or []), *(w.value for w in layer.trainable_weights)]
    return [t.detach().double().numpy() for t in (*outputs, *(leaf.grad for leaf in leaves))]


def compare(rng, ours, theirs, kind, mask, training, with_states, dtype):
    x = rng.normal(size=(B, T, I)).astype(dtype)
    states = [rng.normal(size=(B, H)).astype(dtype) for _ in range(2 if kind == "LSTM" else 1)]
    sequences = ours.return_sequences
    weights = [rng.normal(size=(B, T, H) if sequences and k == 0 else (B, H)) for k in range(3)]
    arguments = (x, states if with_states else None, mask, training, weights)
    values, expected = found(ours, *arguments), found(theirs, *arguments)
    by_cells = mask is not None or not getattr(ours, "reset_after", True)
    allowed = max(TOLERANCE[dtype], STEP_BY_STEP * by_cells)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=allowed * max(1, np.abs(other).max()))


@pytest.mark.parametrize("mask", ["no mask", "holes", "padded", "full"])
@pytest.mark.parametrize("name", [*OPTIONS, "reset before", "reset before, no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_keras_s(rng, kind, name, mask):
    if kind == "LSTM" and name.startswith("reset"):
        pytest.skip("an LSTM has no reset gate")
    before = {"reset_after": False, "return_sequences": True, "use_bias": "no bias" not in name}
    options = OPTIONS.get(name, before)
    ours, theirs = pair(rng, kind, options)
    dtype = options.get("dtype", "float64")
    for training in (False, True):
        assert kernel_path(ours, np.zeros((B, T, I), dtype), training).startswith("carousel: ")
        for with_states in (False, True):
            compare(rng, ours, theirs, kind, masks(rng)[mask], training, with_states, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_our_kernels_that_run(rng, monkeypatch, kind):
    ours, _ = pair(rng, kind, {})
    monkeypatch.setattr(KINDS[kind][1], "inner_loop", None)
    assert ours(rng.normal(size=(B, T, I))).shape == (B, H)


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_ours_takes_keras_s_path(rng, kind, name):
    options, reason = BEYOND[name]
    ours, theirs = pair(rng, kind, {**options, "return_sequences": True})
    x = rng.normal(size=(B, T, I)).astype(np.float32)
    assert kernel_path(ours, x, training=True) == f"keras: {reason}"
    np.testing.assert_array_equal(
        *(layer(x, training=True).detach().double().numpy() for layer in (ours, theirs))
    )


def test_other_input(rng):
    ours, theirs = pair(rng, "LSTM", {"return_sequences": True, "dtype": "float32"})
    whole = rng.integers(0, 5, size=(B, T, I))
    np.testing.assert_allclose(*(m(whole).detach().numpy() for m in (ours, theirs)), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="expected ndim=3"):
        ours(np.zeros((B, I), np.float32))
    assert kernel_path(ours, np.zeros((0, T, I))) == f"keras: an input of shape (0, {T}, {I})"
    assert kernel_path(theirs, whole).startswith("keras: not accelerated")
    with pytest.raises(UnsupportedError, match="must be an LSTM or GRU, got Dense"):
        kernel_path(layers.Dense(3), whole)


def weather(rng):
    x = rng.normal(size=(48, T, I)).astype(np.float32)
    x[rng.random((48, T)) < 0.2] = 0
    return x, x.sum((1, 2), keepdims=True)[:, 0]


def network(kinds, stateful=False):
    lstm, gru = kinds
    start = keras.Input(batch_shape=(16, T, I)) if stateful else keras.Input((T, I))
    x = layers.Masking()(start)
    if not stateful:
        x = layers.Bidirectional(gru(6, return_sequences=True), merge_mode="sum")(x)
    x = gru(5, return_sequences=True, go_backwards=stateful, stateful=stateful)(x)
    x = lstm(4, dropout=0.2, seed=1, stateful=stateful, kernel_regularizer="l2")(x)
    return keras.Model(start, layers.Dense(1)(x))


@pytest.mark.parametrize("stateful", [False, True])
def test_compile_fit_evaluate_and_predict_are_keras_s(rng, stateful):
    x, y = weather(rng)
    told = []
    for kinds in ((LSTM, GRU), (layers.LSTM, layers.GRU)):
        keras.utils.set_random_seed(0)
        model = network(kinds, stateful)
        model.compile("adam", "mse", metrics=["mae"])
        losses = model.fit(x, y, epochs=3, batch_size=16, verbose=0, shuffle=not stateful).history
        scores = model.evaluate(x, y, batch_size=16, verbose=0)
        told.append(
            [losses["loss"], losses["mae"], scores, model.predict(x, batch_size=16, verbose=0).ravel()]
        )
        assert model.output_shape == ((16, 1) if stateful else (None, 1))
    for ours, theirs in zip(*told, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)  # after nine steps of Adam
    assert told[0][0][-1] < told[0][0][0]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_keras_s_names_order_and_shapes(rng, tmp_path, kind):
    make, other = KINDS[kind]
    ours, theirs = (keras.Sequential([keras.Input((T, I)), k(H, name="r")], name="m") for k in (make, other))
    assert [(v.path, v.shape) for v in ours.weights] == [(v.path, v.shape) for v in theirs.weights]
    assert ours.layers[0].get_config() == theirs.layers[0].get_config()
    ours.save_weights(tmp_path / "m.weights.h5")
    theirs.load_weights(tmp_path / "m.weights.h5")
    x = rng.normal(size=(B, T, I)).astype(np.float32)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=0, atol=1e-6)


def test_saved_models_come_back(rng, tmp_path):
    x, _ = weather(rng)
    model = network((LSTM, GRU))
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    assert type(again.layers[2].forward_layer) is GRU
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
    ours = stream.Model(load(tmp_path / "m.keras")).run(x.swapaxes(0, 1))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    copy = keras.models.clone_model(model)
    assert type(copy.layers[-2]) is LSTM


def test_accelerate_and_restore(rng, tmp_path):
    class Own(layers.LSTM):
        pass

    x, _ = weather(rng)
    inner = network((layers.LSTM, layers.GRU))
    model = keras.Sequential([keras.Input((T, I)), inner, layers.Reshape((1, 1)), LSTM(3), layers.Dense(1)])
    before = model.predict(x, verbose=0)
    assert accelerate(model) is model
    bidirectional = inner.layers[2]
    assert [type(m) for m in (bidirectional.forward_layer, bidirectional.backward_layer)] == [GRU, GRU]
    assert [type(m) for m in inner.layers[3:5]] == [GRU, LSTM]
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=0, atol=1e-6)
    restore(model)
    assert [type(m) for m in inner.layers[3:5]] == [layers.GRU, layers.LSTM]
    assert type(model.layers[2]) is LSTM  # from the start
    restore(inner).save(tmp_path / "m.keras")
    assert b"carousel" not in (tmp_path / "m.keras").read_bytes()
    own = Own(3)
    assert type(accelerate(own)) is Own


def test_examples_run():
    assert doctest.testmod(carousel.keras).failed == 0
