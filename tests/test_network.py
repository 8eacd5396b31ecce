"""The network as a value: what it accepts, what it says, that it cannot change."""

import copy
import dataclasses

import numpy as np
import pytest

from carousel.errors import ArgumentError, ShapeError
from carousel.network import Dense, LastStep, Network, Recurrent, Weights

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def weights(rng, I, H, G=4, dtype=np.float64):
    return Weights(*(rng.normal(size=size).astype(dtype) for size in ((G * H, I), (G * H, H), G * H, G * H)))


def dense(rng, I, O, activation="identity", dtype=np.float64):
    return Dense(rng.normal(size=(O, I)).astype(dtype), rng.normal(size=O).astype(dtype), activation)


def test_sizes_and_counts(rng):
    two = Recurrent("gru", (weights(rng, 3, 5, 3), weights(rng, 3, 5, 3)), reset="before")
    network = Network((two, Recurrent("lstm", (weights(rng, 10, 4),)), LastStep(), dense(rng, 4, 2)))
    assert (two.input_size, two.hidden_size, two.output_size, two.bidirectional) == (3, 5, 10, True)
    assert (network.input_size, network.output_size, network.dtype) == (3, 2, np.float64)
    assert (network.bidirectional, network.per_step) == (True, False)
    assert network.parameter_count == 2 * (15 * 3 + 15 * 5 + 30) + (16 * 10 + 16 * 4 + 32) + (8 + 2)
    assert network.recurrent == network.layers[:2]


def test_a_network_prints_as_a_table(rng):
    network = Network(
        (
            Recurrent("gru", (weights(rng, 3, 5, 3),) * 2, reset="before"),
            Recurrent("rnn", (weights(rng, 10, 4, 1),), activation="relu"),
            dense(rng, 4, 1, "sigmoid"),
        )
    )
    assert str(network) == (
        "Network  3 -> 1, one output a step, float64, 369 parameters\n"
        "  0  GRU, reset before, bidirectional   3 -> 10  300\n"
        "  1  RNN, relu                         10 -> 4    64\n"
        "  2  Dense, sigmoid                     4 -> 1     5"
    )
    assert repr(network) == (
        "Network(Recurrent(GRU, reset before, bidirectional, 3 -> 10), Recurrent(RNN, relu, 10 -> 4), "
        "Dense(sigmoid, 4 -> 1))"
    )
    assert repr(weights(rng, 3, 5)) == "Weights(W (20, 3), R (20, 5), float64)"


def test_missing_biases_are_zeros_of_the_same_dtype():
    w = Weights(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    assert (w.b_W.dtype, w.b_W.tolist(), w.b_R.tolist()) == (np.float32, [0] * 4, [0] * 4)
    assert Dense(np.ones((3, 2))).b.tolist() == [0] * 3


def test_values_own_their_arrays_and_cannot_change(rng):
    mine = rng.normal(size=(20, 3))
    w = Weights(mine, rng.normal(size=(20, 5)))
    before = w.W.copy()
    mine[:] = 0
    np.testing.assert_array_equal(w.W, before)
    with pytest.raises(ValueError, match="read-only"):
        w.W[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        w.W = mine


def test_strided_arrays_become_contiguous(rng):
    w = Weights(rng.normal(size=(3, 20)).T, rng.normal(size=(40, 5))[::2])
    assert w.W.flags.c_contiguous
    assert w.R.flags.c_contiguous


def test_equality_is_by_value(rng):
    w = weights(rng, 3, 5)
    network = Network((Recurrent("lstm", (w,)), dense(rng, 5, 1)))
    assert network == copy.deepcopy(network)
    bent = w.R.copy()
    bent[7, 3] = np.nextafter(bent[7, 3], 9)
    assert w != Weights(w.W, bent, w.b_W, w.b_R)
    assert Dense(np.ones((1, 1))) != Dense(np.ones((1, 1), np.float32))
    assert Dense(np.ones((1, 1))) != Dense(np.ones((1, 1)), activation="tanh")
    assert LastStep() == LastStep()
    assert w != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(w)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda r: Weights(np.ones((20, 3)), np.ones((20,))), ShapeError, r"`R` must have shape \(GH, H\)"),
        (lambda r: Weights(np.ones((10, 3)), np.ones((10, 5))), ShapeError, "G = 1, 3 or 4 gates"),
        (lambda r: Weights(np.ones((19, 3)), np.ones((20, 5))), ShapeError, r"`W` must have shape \(20, I\)"),
        (lambda r: Weights(np.ones((20, 3)), np.ones((20, 5)), np.ones(19)), ShapeError, "`b_W`"),
        (lambda r: Weights(np.ones((20, 3)), np.ones((20, 5), np.float32)), ShapeError, "same dtype"),
        (lambda r: Weights(np.ones((20, 3), int), np.ones((20, 5))), ShapeError, "got int64"),
        (lambda r: Weights(np.ones((20, 3), np.float16), np.ones((20, 5))), ShapeError, "got float16"),
        (
            lambda r: Weights(np.full((4, 1), np.nan), np.ones((4, 1))),
            ArgumentError,
            r"finite, got nan at \[0, 0\]",
        ),
        (lambda r: Dense(np.ones((2, 3)), np.ones(3)), ShapeError, "`b`"),
        (lambda r: Dense(np.ones((2, 3)), np.array([1, np.inf])), ArgumentError, r"finite, got inf at \[1\]"),
        (lambda r: Dense(np.ones((2, 3)), activation="softmax"), ArgumentError, "got 'softmax'"),
        (lambda r: Recurrent("lstm", (weights(r, 3, 5, 3),)), ShapeError, r"\(4H, H\)"),
        (lambda r: Recurrent("LSTM", (weights(r, 3, 5),)), ArgumentError, "`cell` must be 'lstm'"),
        (lambda r: Recurrent("lstm", ()), ArgumentError, "one Weights, or two"),
        (lambda r: Recurrent("lstm", (3,)), ArgumentError, r"got \['int'\]"),
        (lambda r: Recurrent("lstm", (weights(r, 3, 5), weights(r, 3, 4))), ShapeError, "same sizes"),
        (
            lambda r: Recurrent("lstm", (weights(r, 3, 5), weights(r, 3, 5, dtype=np.float32))),
            ShapeError,
            "forward float64, backward float32",
        ),
        (lambda r: Recurrent("lstm", (weights(r, 3, 5),), reset="before"), ArgumentError, "cell 'gru'"),
        (lambda r: Recurrent("gru", (weights(r, 3, 5, 3),), activation="relu"), ArgumentError, "cell 'rnn'"),
        (lambda r: Network(()), ArgumentError, "at least one"),
        (lambda r: Network((LastStep(),)), ArgumentError, "at least one"),
        (lambda r: Network((dense(r, 2, 3), "x")), ArgumentError, r"`layers\[1\]` must be .* got str"),
        (
            lambda r: Network((dense(r, 2, 3), dense(r, 4, 1))),
            ShapeError,
            r"`layers\[1\]` takes 4 .* gives 3",
        ),
        (
            lambda r: Network((dense(r, 2, 2), LastStep(), dense(r, 2, 2, dtype=np.float32))),
            ShapeError,
            r"`layers\[2\]` is float32",
        ),
        (lambda r: Network((dense(r, 2, 3),) * 2), ShapeError, r"`layers\[1\]` takes 2 .* gives 3"),
        (lambda r: Network((LastStep(), Recurrent("lstm", (weights(r, 3, 5),)))), ArgumentError, "no steps"),
        (lambda r: Network((dense(r, 2, 2), LastStep(), LastStep())), ArgumentError, "no steps"),
    ],
)
def test_what_does_not_fit_is_refused(rng, make, error, text):
    with pytest.raises(error, match=text):
        make(rng)


def test_sizes_of_zero_are_sizes(rng):
    network = Network((Recurrent("lstm", (weights(rng, 0, 2),)), dense(rng, 2, 0)))
    assert (network.input_size, network.output_size) == (0, 0)
