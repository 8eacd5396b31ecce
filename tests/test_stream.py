"""Streams of a network: what the reference computes, cut anywhere, kept as a value."""

import gc
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel import _core, stream
from carousel.errors import ArgumentError, FormatError, ShapeError, UnsupportedError
from carousel.layout import Weights as Arrays
from carousel.network import Dense, LastStep, Network, Recurrent, Weights, save
from carousel.reference import stack

CELLS = {
    "lstm": (4, {}),
    "gru": (3, {}),
    "gru_before": (3, {"reset": "before"}),
    "rnn": (1, {}),
    "rnn_relu": (1, {"activation": "relu"}),
}

# Against the reference in float64. The rounding of a step is about I + H units in the last place and cells
# forget, so errors do not grow with T; the factor is a few such steps.
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def recurrent(rng, name, I, H, D=1, dtype="float64"):
    G, options = CELLS[name]

    def array(*shape):
        return rng.uniform(-0.7, 0.7, shape).astype(dtype)

    directions = tuple(
        Weights(array(G * H, I), array(G * H, H), array(G * H), array(G * H)) for _ in range(D)
    )
    return Recurrent(name.partition("_")[0], directions, **options)


def dense(rng, I, O, activation="identity", dtype="float64"):
    return Dense(rng.uniform(-1, 1, (O, I)).astype(dtype), rng.uniform(-1, 1, O).astype(dtype), activation)


def deep(rng, dtype="float64", last=False):
    """Every cell, one on top of the other, and a head."""
    layers, I = [], 3
    for k, name in enumerate(CELLS):
        layers.append(recurrent(rng, name, I, 4 + k, dtype=dtype))
        I = 4 + k
    head = [LastStep()] if last else []
    return Network((*layers, *head, dense(rng, I, 2, "sigmoid", dtype)))


def reference(network, x):
    """What `carousel.reference` gives for `network` on x (T, B, I), in float64."""
    layers = []
    for layer in network.recurrent:
        options = {"gru": {"reset": layer.reset}, "rnn": {"activation": layer.activation}}.get(layer.cell, {})
        directions = [
            Arrays(*(a.astype(np.float64) for a in (w.W, w.R, w.b_W, w.b_R))) for w in layer.directions
        ]
        layers.append(stack.Layer(layer.cell, directions, options))
    y, _, _ = stack.forward(x.astype(np.float64), stack.Stack(layers))
    if not network.per_step:
        y = y[-1]
    act = {
        "identity": lambda a: a,
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "tanh": np.tanh,
        "relu": lambda a: a * (a > 0),
    }
    for layer in network.layers:
        if isinstance(layer, Dense):
            y = act[layer.activation](y @ layer.W.astype(np.float64).T + layer.b)
    return y


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize(("T", "B", "I", "H"), [(7, 3, 3, 5), (1, 1, 1, 1), (12, 5, 2, 33), (4, 3, 9, 16)])
@pytest.mark.parametrize("name", CELLS)
def test_run_is_the_reference(rng, name, T, B, I, H, D, dtype):
    network = Network((recurrent(rng, name, I, H, D, dtype), recurrent(rng, name, D * H, H, D, dtype)))
    x = rng.normal(size=(T, B, I)).astype(dtype)
    y = stream.Model(network).run(x)
    assert (y.shape, y.dtype) == ((T, B, D * H), dtype)
    expected = reference(network, x)
    scale = max(1, np.abs(expected).max())  # relu has no bound
    np.testing.assert_allclose(y / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("last", [False, True])
def test_deep_networks(rng, last, dtype):
    network = deep(rng, dtype, last)
    x = rng.normal(size=(9, 3, 3)).astype(dtype)
    y = stream.Model(network).run(x)
    assert y.shape == ((3, 2) if last else (9, 3, 2))
    np.testing.assert_allclose(y, reference(network, x), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("I", "O"), [(1, 1), (4, 6), (7, 8), (16, 9), (33, 20)]
)  # the kernel's panels are of 8
@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu"])
def test_heads(rng, activation, I, O, dtype):
    network = Network((recurrent(rng, "lstm", 3, I, dtype=dtype), dense(rng, I, O, activation, dtype)))
    x = rng.normal(size=(5, 3, 3)).astype(dtype)
    y = stream.Model(network).run(x)
    np.testing.assert_allclose(y, reference(network, x), rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(stream.Model(network).run(x[:, 1:2]), y[:, 1:2])


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu"])
def test_heads_pass_nan_on(rng, activation):
    model = stream.Model(Network((dense(rng, 3, 9, activation),)))
    y = model.run(np.array([[[1, np.nan, 2], [1, 0, 2]]]))
    assert np.isnan(y[0, 0]).all()
    assert np.isfinite(y[0, 1]).all()


def test_nan_comes_out_where_it_went_in(rng):
    model = stream.Model(deep(rng))
    x = rng.normal(size=(6, 3, 3))
    clean = model.run(x)
    x[2, 1, 0] = np.nan
    y = model.run(x)
    assert np.isnan(y[2:, 1]).all()
    np.testing.assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
    np.testing.assert_array_equal(y[:2], clean[:2])


# A sequence may be cut anywhere: equal bits


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_steps_are_the_run(rng, dtype):
    model = stream.Model(deep(rng, dtype))
    x = rng.normal(size=(11, 3, 3)).astype(dtype)
    whole = model.run(x)
    state, other, out = model.start(batch=3), model.start(batch=3), np.empty((3, 2), dtype)
    for t in range(11):
        y, state = model.step(x[t], state)
        np.testing.assert_array_equal(y, whole[t])
        model.step_into(x[t], other, out)
        np.testing.assert_array_equal(out, whole[t])
    np.testing.assert_array_equal(state.h[0], other.h[0])


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 13), max_size=5), B=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_sequence_may_be_cut_anywhere(cuts, B, seed):
    rng = np.random.default_rng(seed)
    model = stream.Model(deep(rng))
    x = rng.normal(size=(13, B, 3))
    state, pieces = model.start(B), []
    for piece in np.split(x, sorted(cuts)):
        y, state = model.advance(piece, state)
        pieces.append(y)
    np.testing.assert_array_equal(np.concatenate(pieces), model.run(x))


@settings(max_examples=20, deadline=None)
@given(rows=st.permutations(range(6)), seed=st.integers(0, 99))
def test_rows_do_not_know_one_another(rows, seed):
    rng = np.random.default_rng(seed)
    model = stream.Model(deep(rng))
    x = rng.normal(size=(5, 6, 3))
    y = model.run(x)
    np.testing.assert_array_equal(model.run(x[:, rows]), y[:, rows])
    np.testing.assert_array_equal(model.run(x[:, :1]), y[:, :1])


def test_last_step_in_a_stream_is_the_current_step(rng):
    model = stream.Model(deep(rng, last=True))
    x = rng.normal(size=(6, 3, 3))
    state = model.start(3)
    for t in range(6):
        y, state = model.step(x[t], state)
        np.testing.assert_array_equal(y, model.run(x[: t + 1]))


# State is a value


def test_step_leaves_its_arguments_untouched(rng):
    model = stream.Model(deep(rng))
    x = rng.normal(size=(2, 3))
    _, state = model.step(x, model.start(2))
    kept, x_kept = state.copy(), x.copy()
    first = model.step(x, state)
    model.advance(x[None], state)
    for a, b in zip((*state.h, *state.c, x), (*kept.h, *kept.c, x_kept), strict=True):
        np.testing.assert_array_equal(a, b)
    again = model.step(x, kept)
    np.testing.assert_array_equal(first[0], again[0])
    assert not any(np.shares_memory(a, b) for a in first[1].h for b in state.h)


def test_zeros(rng):
    model = stream.Model(deep(rng))
    assert model.run(np.zeros((0, 3, 3))).shape == (0, 3, 2)
    assert model.run(np.zeros((4, 0, 3))).shape == (4, 0, 2)
    _, state = model.step(rng.normal(size=(2, 3)), model.start(2))
    y, after = model.advance(np.zeros((0, 2, 3)), state)
    assert y.shape == (0, 2, 2)
    np.testing.assert_array_equal(after.h[0], state.h[0])


def test_strided_input(rng):
    model = stream.Model(deep(rng))
    x = rng.normal(size=(6, 3, 8))[::2, ::-1, 1:7:2]
    np.testing.assert_array_equal(model.run(x), model.run(x.copy()))
    np.testing.assert_array_equal(
        model.step(x[0], model.start(3))[0], model.step(x[0].copy(), model.start(3))[0]
    )


def test_network_without_recurrence(rng):
    model = stream.Model(Network((dense(rng, 3, 2),)))
    y, _ = model.step(np.ones((2, 3)), model.start(2))
    np.testing.assert_array_equal(y, model.run(np.ones((1, 2, 3)))[0])


def test_step_into_keeps_no_memory(rng):
    model = stream.Model(deep(rng))
    x, state, out = rng.normal(size=(2, 3)), model.start(2), np.empty((2, 2))
    model.step_into(x, state, out)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        model.step_into(x, state, out)
    gc.collect()  # Python's own free lists
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200 * 16  # less than any object a step; other threads of the test run may keep some


# Refusals


def test_both_directions_cannot_be_stepped(rng):
    model = stream.Model(Network((recurrent(rng, "gru", 3, 4, D=2),)))
    state = model.start(2)
    for call in (
        lambda: model.step(np.zeros((2, 3)), state),
        lambda: model.step_into(np.zeros((2, 3)), state, np.zeros((2, 8))),
        lambda: model.advance(np.zeros((1, 2, 3)), state),
    ):
        with pytest.raises(UnsupportedError, match="reads backwards: no step is known before the last one"):
            call()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.run(np.zeros((2, 3))), r"`x` must have shape \(T, B, I\) with I = 3, got \(2, 3\)"),
        (
            lambda m: m.run(np.zeros((2, 3, 4))),
            r"`x` must have shape \(T, B, I\) = \(2, 3, 3\), got \(2, 3, 4\)",
        ),
        (lambda m: m.run(np.zeros((2, 3, 3), "f4")), "`x` must have dtype float64, got float32"),
        (lambda m: m.run(np.zeros((2, 3, 3), int)), "`x` must have dtype float64, got int64"),
        (lambda m: m.step(np.zeros(3), m.start()), r"`x` must have shape \(B, I\)"),
        (lambda m: m.step(np.zeros((1, 3), "f4"), m.start()), "`x` must have dtype float64"),
        (
            lambda m: m.step(np.zeros((2, 3)), m.start(1)),
            r"`state.h\[0\]` must have shape \(B, H\) = \(2, 4\)",
        ),
        (lambda m: m.advance(np.zeros((2, 2, 3)), m.start(1)), r"`state.h\[0\]`"),
        (
            lambda m: m.step(
                np.zeros((1, 3)), stream.Model(deep(np.random.default_rng(0), "float32")).start()
            ),
            r"`state.h\[0\]` must have dtype float64",
        ),
        (
            lambda m: m.step_into(np.zeros((1, 3)), m.start(), np.zeros((1, 3))),
            r"`out` must have shape \(B, O\)",
        ),
        (lambda m: m.step_into(np.zeros((1, 3)), m.start(), np.zeros((1, 2), "f4")), "`out` must have dtype"),
    ],
)
def test_shapes_and_dtypes_are_checked(rng, call, text):
    with pytest.raises(ShapeError, match=text):
        call(stream.Model(deep(rng)))


def test_no_step_has_no_last_one(rng):
    with pytest.raises(ShapeError, match="at least one step"):
        stream.Model(deep(rng, last=True)).run(np.zeros((0, 2, 3)))


def test_arguments_are_checked(rng):
    model = stream.Model(deep(rng))
    other = stream.Model(Network((recurrent(rng, "gru", 3, 4),)))
    frozen = np.zeros((1, 2))
    frozen.flags.writeable = False
    with pytest.raises(ArgumentError, match="`state` must be of this network"):
        model.step(np.zeros((1, 3)), other.start())
    with pytest.raises(ArgumentError, match="`batch` must be an integer"):
        model.start(-1)
    with pytest.raises(ArgumentError, match="`out` must be writable"):
        model.step_into(np.zeros((1, 3)), model.start(), frozen)
    with pytest.raises(ArgumentError, match="`value` must be a Network or a ForecastModel, got str"):
        stream.Model("model.carousel")


def test_compiled_layers_must_fit(rng):
    gru = recurrent(rng, "gru", 3, 4).directions[0]
    layer = (_core.Layer("gru", gru.W, gru.R, gru.b_W, gru.b_R),)
    head = _core.Dense(np.ones((2, 4)), np.ones(2), "relu")
    for layers, text in [
        ((), "There must be a layer with weights"),
        ((None,), "There must be a layer with weights"),
        ((head, layer), "must take what the one before it gives"),
        ((layer, _core.Dense(np.ones((2, 4), "f4"), np.ones(2, "f4"), "relu")), "must take what"),
        ((_core.Dense(np.ones((3, 5)), np.ones(3), "relu"), None, layer), "No recurrent layer may follow"),
    ]:
        with pytest.raises(ValueError, match=text):
            _core.Stack(layers)
    with pytest.raises(ValueError, match="`activation` must be identity, sigmoid, tanh or relu, got exp"):
        _core.Dense(np.ones((2, 4)), np.ones(2), "exp")
    with pytest.raises(ValueError, match=r"`b` must have shape \(2,\), got \(3,\)"):
        _core.Dense(np.ones((2, 4)), np.ones(3), "relu")


# The door


def test_load_is_the_model_of_the_file(rng, tmp_path):
    network = deep(rng, "float32")
    save(network, tmp_path / "deep")
    x = rng.normal(size=(4, 2, 3)).astype("float32")
    np.testing.assert_array_equal(stream.load(tmp_path / "deep").run(x), stream.Model(network).run(x))


def test_load_refuses_a_file_that_nothing_runs(tmp_path):
    save(Dense(np.eye(2)), tmp_path / "layer")
    with pytest.raises(
        FormatError, match="layer: it must hold a network or a forecaster, got the kind 'dense'"
    ):
        stream.load(tmp_path / "layer")


def test_import_is_light():
    code = "import sys, carousel.stream; print(*sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_products_in_bfloat16(cell):
    """Rounded numbers, the same however a sequence is cut; refused where they cannot be."""
    rng = np.random.default_rng(1)
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * 21

    def weights(inputs):
        return Weights(
            *(
                rng.normal(size=s, scale=0.2).astype(np.float32)
                for s in ((rows, inputs), (rows, 21), rows, rows)
            )
        )

    network = Network([Recurrent(cell, [weights(3)]), Recurrent(cell, [weights(21)])])
    x = rng.normal(size=(9, 4, 3)).astype(np.float32)
    exact, rounded = stream.Model(network).run(x), stream.Model(network, products="bfloat16")
    y = rounded.run(x)
    # 2^-9 of each factor; sums of 21 such terms, nine steps
    assert 0 < np.abs(y - exact).max() < 0.03
    state = rounded.start(4)
    for t in range(len(x)):
        step, state = rounded.step(x[t], state)
        assert np.array_equal(step, y[t])
    with pytest.raises(ArgumentError, match="`products` must be"):
        stream.Model(network, products="half")


def test_nothing_in_the_place_of_an_array_is_refused(rng):
    weights = Weights(rng.normal(size=(20, 3)), rng.normal(size=(20, 5)))
    model = stream.Model(Network((Recurrent("lstm", (weights,)),)))
    state, x = model.start(), np.zeros((1, 3))
    for call in (
        lambda: model.step(None, state),
        lambda: model.run(None),
        lambda: model.advance(None, state),
    ):
        with pytest.raises(ShapeError, match="`x` must"):
            call()
    with pytest.raises(ArgumentError, match="`out` must be a NumPy array, got NoneType"):
        model.step_into(x, state, None)
    for batch in (10**18, 2**63):
        with pytest.raises(
            ArgumentError, match="`batch` must be few enough sequences for their states to fit"
        ):
            model.start(batch)
