"""The reference judged by calculus: gradients by the complex step, and what must hold of any recurrence."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel import layout, reference
from carousel.errors import ArgumentError, ShapeError, UnsupportedError
from carousel.layout import Weights
from carousel.reference import dense, gru, lstm, rnn, stack
from carousel.reference.dense import Dense
from carousel.reference.stack import Layer, Stack
from complex_step import EXACT, arrays, assert_gradient, inner, replaced

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
MODULES = {"lstm": lstm, "gru": gru, "rnn": rnn}
FORMS = [
    ("lstm", {}),
    ("gru", {"reset": "after", "update": "state"}),
    ("gru", {"reset": "before", "update": "state"}),
    ("gru", {"reset": "after", "update": "candidate"}),
    ("gru", {"reset": "before", "update": "candidate"}),
    ("rnn", {"activation": "tanh"}),
    ("rnn", {"activation": "relu"}),
]
form = pytest.mark.parametrize(
    ("cell", "options"), FORMS, ids=lambda v: v if isinstance(v, str) else "-".join(v.values())
)
forms = st.sampled_from(FORMS)
seeds = st.integers(0, 2**32 - 1)


def weights(rng, cell, I, H, dtype=np.float64):
    G = GATES[cell] * H
    scale = 1 / np.sqrt(H)
    return Weights(*((scale * rng.normal(size=s)).astype(dtype) for s in ((G, I), (G, H), (G,), (G,))))


def state(rng, cell, B, H):
    h, c = rng.normal(size=(2, B, H))
    return lstm.State(h, c) if cell == "lstm" else h


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@form
@pytest.mark.parametrize("H", [1, 3, 17])
@pytest.mark.parametrize("T", [0, 1, 7])
def test_gradients_of_the_cells(rng, cell, options, T, H):
    B, I = 3, 2
    x, w, s = rng.normal(size=(T, B, I)), weights(rng, cell, I, H), state(rng, cell, B, H)
    dy, ds = rng.normal(size=(T, B, H)), state(rng, cell, B, H)

    def loss(x, w, s):
        y, last, _ = MODULES[cell].forward(x, w, s, **options)
        return inner(y, dy) + inner(last, ds)

    y, _, cache = MODULES[cell].forward(x, w, s, **options)
    assert y.shape == (T, B, H)
    assert_gradient(loss, (x, w, s), MODULES[cell].backward(dy, w, cache, ds), rng)


@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
@pytest.mark.parametrize("head_on", ["every", "last"])
@form
def test_gradients_of_a_bidirectional_stack(rng, cell, options, head_on, activation):
    T, B, I, H1, H2 = 5, 2, 3, 4, 3
    layers = [
        Layer(cell, [weights(rng, cell, I, H1), weights(rng, cell, I, H1)], options),
        Layer(cell, [weights(rng, cell, 2 * H1, H2), weights(rng, cell, 2 * H1, H2)], options),
    ]
    net = Stack(layers, Dense(rng.normal(size=(2, 2 * H2)), rng.normal(size=2), activation), head_on)
    x = rng.normal(size=(T, B, I))
    states = [[state(rng, cell, B, H) for _ in range(2)] for H in (H1, H2)]
    dstates = [[state(rng, cell, B, H) for _ in range(2)] for H in (H1, H2)]
    y, _, cache = stack.forward(x, net, states)
    dy = rng.normal(size=(T, B, 2) if head_on == "every" else (B, 2))
    assert y.shape == dy.shape

    def loss(x, net, states):
        y, last, _ = stack.forward(x, net, states)
        return inner(y, dy) + inner(last, dstates)

    assert_gradient(loss, (x, net, states), stack.backward(dy, net, cache, dstates), rng)


def test_gradients_of_a_mixed_stack_without_a_head(rng):
    layers = [
        Layer("lstm", [weights(rng, "lstm", 2, 3), weights(rng, "lstm", 2, 3)]),
        Layer("gru", [weights(rng, "gru", 6, 4)], {"reset": "before"}),
        Layer("rnn", [weights(rng, "rnn", 4, 1)]),
    ]
    x, dy = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 3, 1))
    gradients = stack.backward(dy, Stack(layers), stack.forward(x, Stack(layers))[2])

    def loss(x, net):
        return inner(stack.forward(x, net)[0], dy)

    assert_gradient(loss, (x, Stack(layers)), (gradients.x, gradients.w), rng)


@given(forms, st.integers(1, 9), st.data(), seeds)
@settings(deadline=None)
def test_a_sequence_may_be_cut_anywhere(form, T, data, seed):
    (cell, options), rng = form, np.random.default_rng(seed)
    cut = data.draw(st.integers(0, T))
    x, w, s = rng.normal(size=(T, 3, 2)), weights(rng, cell, 2, 5), state(rng, cell, 3, 5)
    whole, last, _ = MODULES[cell].forward(x, w, s, **options)
    first, middle, _ = MODULES[cell].forward(x[:cut], w, s, **options)
    second, end, _ = MODULES[cell].forward(x[cut:], w, middle, **options)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(arrays(end), arrays(last))


@given(forms, st.permutations(range(4)), seeds)
@settings(deadline=None)
def test_permuting_the_batch_permutes_the_output(form, order, seed):
    (cell, options), rng = form, np.random.default_rng(seed)
    x, w, s = rng.normal(size=(5, 4, 2)), weights(rng, cell, 2, 5), state(rng, cell, 4, 5)
    y, _, _ = MODULES[cell].forward(x, w, s, **options)
    s = replaced(s, iter([a[order] for a in arrays(s)]))
    permuted, _, _ = MODULES[cell].forward(x[:, order], w, s, **options)
    np.testing.assert_allclose(permuted, y[:, order], **EXACT)  # BLAS may sum a row in another order


@given(st.integers(0, 6), st.integers(0, 5), seeds)
@settings(deadline=None)
def test_no_output_changes_when_the_future_does(T, cut, seed):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(T, 2, 3)), weights(rng, "lstm", 3, 4)
    changed = x.copy()
    changed[cut:] += 1
    np.testing.assert_array_equal(lstm.forward(changed, w)[0][:cut], lstm.forward(x, w)[0][:cut])


@form
def test_forward_is_its_steps(rng, cell, options):
    x, w, s = rng.normal(size=(4, 3, 2)), weights(rng, cell, 2, 5), state(rng, cell, 3, 5)
    y, last, cache = MODULES[cell].forward(x, w, s, **options)
    for t in range(4):
        s, gates = MODULES[cell].step(x[t], s, w, **options)
        np.testing.assert_array_equal(arrays(s)[0], y[t])
        for name, gate in zip(getattr(gates, "_fields", ()), gates, strict=True):
            np.testing.assert_array_equal(gate, getattr(cache, name)[t])
    np.testing.assert_array_equal(arrays(s), arrays(last))


def test_a_stack_is_its_steps(rng):
    layers = [Layer("lstm", [weights(rng, "lstm", 2, 3)]), Layer("gru", [weights(rng, "gru", 3, 4)])]
    net = Stack(layers, Dense(rng.normal(size=(1, 4)), np.ones(1), "sigmoid"))
    x = rng.normal(size=(5, 3, 2))
    states = [[state(rng, "lstm", 3, 3)], [state(rng, "gru", 3, 4)]]
    y, last, _ = stack.forward(x, net, states)
    for t in range(5):
        y_t, states, gates = stack.step(x[t], states, net)
        np.testing.assert_array_equal(y_t, y[t])
    assert [type(g) for g in gates] == [lstm.Gates, gru.Gates]
    assert all((a == b).all() for a, b in zip(arrays(states), arrays(last), strict=True))


def test_the_second_direction_is_the_first_on_the_turned_sequence(rng):
    x, w = rng.normal(size=(5, 2, 3)), [weights(rng, "lstm", 3, 4), weights(rng, "lstm", 3, 4)]
    y, (states,), _ = stack.forward(x, Stack([Layer("lstm", w)]))
    backwards, last, _ = lstm.forward(x[::-1], w[1])
    np.testing.assert_array_equal(y[..., 4:], backwards[::-1])
    np.testing.assert_array_equal(states[1].h, last.h)
    np.testing.assert_array_equal(y[0, :, 4:], last.h)  # its last step is the first of the sequence


def test_the_six_equations_with_one_unit():
    """Equations 1 to 6 with numbers that a pocket calculator gives."""
    w = Weights(np.array([[1.0], [2.0], [3.0], [4.0]]) / 10, np.zeros((4, 1)), np.zeros(4), np.zeros(4))
    (h, c), (i, f, g, o) = lstm.step(np.array([[1.0]]), (np.zeros((1, 1)), np.array([[0.5]])), w)
    assert np.round([i, f, g, o, c, h], 6).ravel().tolist() == [
        0.524979,  # σ(0.1)
        0.549834,  # σ(0.2)
        0.291313,  # tanh(0.3)
        0.598688,  # σ(0.4)
        0.427850,  # 0.549834 · 0.5 + 0.524979 · 0.291313
        0.241584,  # 0.598688 · tanh(0.427850)
    ]


def test_the_opposite_update_is_the_other_form(rng):
    x, w = rng.normal(size=(6, 3, 2)), weights(rng, "gru", 2, 5)
    for reset in ("after", "before"):
        ours = gru.forward(x, w, reset=reset)[0]
        theirs = gru.forward(x, layout.opposite_update(*w), reset=reset, update="candidate")[0]
        np.testing.assert_allclose(theirs, ours, **EXACT)


@form
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "complex64", "complex128"])
def test_the_dtype_stays(rng, cell, options, dtype):
    w, x = weights(rng, cell, 2, 3, dtype), rng.normal(size=(4, 2, 2)).astype(dtype)
    y, last, cache = MODULES[cell].forward(x, w, **options)
    gradients = MODULES[cell].backward(np.ones_like(y), w, cache)
    assert {a.dtype for a in arrays((y, last, cache, gradients))} == {np.dtype(dtype)}


@form
def test_nan_comes_out_where_nan_went_in(rng, cell, options):
    x, w = rng.normal(size=(4, 2, 3)), weights(rng, cell, 3, 3)
    x[2, 1, 0] = np.nan
    y, _, _ = MODULES[cell].forward(x, w, **options)
    assert np.isnan(y[2:, 1]).all()
    assert not np.isnan(y[:, 0]).any()
    assert not np.isnan(y[:2]).any()


def test_refusals(rng):
    x, w = rng.normal(size=(4, 2, 3)), weights(rng, "lstm", 3, 5)
    with pytest.raises(ShapeError, match=r"^`x` must have shape \(T, B, I\) with I = 3, got \(2, 3\)\.$"):
        lstm.forward(x[0], w)
    with pytest.raises(ShapeError, match=r"^`c` must have shape \(B, H\) = \(2, 5\), got \(2, 4\)\.$"):
        lstm.forward(x, w, (None, np.zeros((2, 4))))
    with pytest.raises(ShapeError, match=r"^`R` must have shape \(3H, H\) = \(15, 5\), got \(20, 5\)\.$"):
        gru.forward(x, w)
    with pytest.raises(
        ShapeError, match=r"^`dy` must have shape \(T, B, H\) = \(4, 2, 5\), got \(3, 2, 5\)\.$"
    ):
        lstm.backward(np.zeros((3, 2, 5)), w, lstm.forward(x, w)[2])
    with pytest.raises(ArgumentError, match=r"^`update` must be 'state' or 'candidate', got 'old'\.$"):
        gru.forward(x, weights(rng, "gru", 3, 5), update="old")
    with pytest.raises(ArgumentError, match=r"^`activation` must be 'tanh' or 'relu', got 'elu'\.$"):
        rnn.forward(x, weights(rng, "rnn", 3, 5), activation="elu")
    with pytest.raises(ArgumentError, match=r"^`cell` must be 'lstm' or 'gru' or 'rnn', got 'esn'\.$"):
        stack.forward(x, Stack([Layer("esn", [w])]))
    with pytest.raises(ArgumentError, match=r"^`len\(directions\)` must be 1 or 2, got 3\.$"):
        stack.forward(x, Stack([Layer("lstm", [w, w, w])]))
    with pytest.raises(ArgumentError, match=r"^`reset` must be 'after' or 'before', got 'befor'\.$"):
        gru.step(x[0], np.zeros((2, 5)), weights(rng, "gru", 3, 5), reset="befor")
    both = Stack([Layer("lstm", [w, w])])
    with pytest.raises(
        UnsupportedError, match=r"^`layers\[0\]` reads in both directions and cannot go step by step\.$"
    ):
        stack.step(x[0], [[None, None]], both)
    with pytest.raises(
        ShapeError, match=r"^`x` must have at least one step for a head on the last one, got 0\.$"
    ):
        stack.forward(x[:0], Stack([Layer("lstm", [w])], Dense(np.ones((1, 5)), np.ones(1)), "last"))
    with pytest.raises(ShapeError, match=r"^`W` must have shape \(O, I\) = \(1, 5\), got \(1, 4\)\.$"):
        dense.forward(np.zeros((2, 5)), Dense(np.ones((1, 4)), np.ones(1)))


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(reference.__path__)])
def test_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(f"carousel.reference.{name}")).failed == 0


@pytest.mark.parametrize("lengths", [None, [5, 3]])
@pytest.mark.parametrize("cell", GATES)
def test_results_are_the_callers_to_change(rng, cell, lengths):
    """Clipping gradients in place, or writing into y, changes nothing else."""
    module, w = MODULES[cell], weights(rng, cell, 3, 4)
    options = {} if lengths is None else {"lengths": lengths}
    x, dy = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 4))
    y, last, cache = module.forward(x, w, **options)
    right = module.backward(dy, w, cache)
    for result in (y, *(last if cell == "lstm" else (last,))):
        result[...] = np.nan
    again = module.backward(dy, w, cache)
    for a, b in zip(again.w, right.w, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.shares_memory(again.w.b_W, again.w.b_R)
