"""Layouts: there and back gives equal bits, and the doors agree with what the foreign formats compute."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel import layout
from carousel.errors import ArgumentError, ShapeError

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
FORMATS = ("torch", "keras", "onnx", "gates")

cells = st.sampled_from(tuple(GATES))
sizes = st.integers(1, 6)
dtypes = st.sampled_from((np.float16, np.float32, np.float64))
seeds = st.integers(0, 2**32 - 1)


def random(cell, H, I, dtype=np.float64, seed=0, two_biases=True):
    rng = np.random.default_rng(seed)
    G = GATES[cell] * H
    W, R, b_W, b_R = (rng.normal(size=s).astype(dtype) for s in ((G, I), (G, H), (G,), (G,)))
    return W, R, b_W, b_R if two_biases else np.zeros_like(b_R)


def equal_bits(got, wanted):
    """Same bits, dtype and shape; all contiguous, as the kernels want them."""
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.flags.c_contiguous
        assert a.tobytes() == np.ascontiguousarray(b).tobytes()


@given(cells, st.sampled_from(FORMATS), st.sampled_from(FORMATS), sizes, seeds)
def test_reorder_there_and_back(cell, source, target, H, seed):
    rows = np.random.default_rng(seed).normal(size=(GATES[cell] * H, 3))
    there = layout.reorder(rows, cell, source, target)
    equal_bits([layout.reorder(there, cell, target, source)], [rows])


@given(cells, sizes, sizes, dtypes, seeds)
def test_onnx_there_and_back(cell, H, I, dtype, seed):
    weights = random(cell, H, I, dtype, seed)
    equal_bits(layout.from_onnx(cell, *layout.to_onnx(cell, *weights)), weights)


@given(cells, sizes, sizes, dtypes, seeds, st.sampled_from(("after", "before")))
def test_keras_there_and_back(cell, H, I, dtype, seed, reset):
    weights = random(cell, H, I, dtype, seed, two_biases=cell == "gru" and reset == "after")
    equal_bits(layout.from_keras(cell, *layout.to_keras(cell, *weights, reset=reset)), weights)


@given(cells, sizes, sizes, dtypes, seeds)
def test_gates_there_and_back(cell, H, I, dtype, seed):
    weights = random(cell, H, I, dtype, seed, two_biases=False)
    equal_bits(layout.from_gates(cell, *layout.to_gates(cell, *weights)), weights)


@given(sizes, sizes, dtypes, seeds)
def test_opposite_update_is_its_own_inverse(H, I, dtype, seed):
    weights = random("gru", H, I, dtype, seed)
    there = layout.opposite_update(*weights)
    assert (there[0][H : 2 * H] == -weights[0][H : 2 * H]).all()
    equal_bits(layout.opposite_update(*there), weights)


def test_where_one_bias_is_all_there_is_it_is_the_sum():
    W, R, b_W, b_R = random("lstm", 3, 2)
    assert (layout.to_keras("lstm", W, R, b_W, b_R)[2] == b_W + b_R).all()
    assert (
        np.concatenate(layout.to_gates("rnn", W[:3], R[:3], b_W[:3], b_R[:3])[1]) == (b_W + b_R)[:3]
    ).all()


def test_missing_biases_are_zeros():
    kernel, recurrent, _ = layout.to_keras("gru", *random("gru", 3, 2))
    assert not np.any(layout.from_keras("gru", kernel, recurrent)[2:])
    W, R, _ = layout.to_onnx("gru", *random("gru", 3, 2))
    assert not np.any(layout.from_onnx("gru", W, R)[2:])


# What follows judges the table by the equations that each format publishes, written here with named gates.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def ours(cell, weights, x, h, c=None, reset="after"):
    """One step in carousel's order."""
    W, R, b_W, b_R = weights
    if cell == "rnn":
        return np.tanh(x @ W.T + b_W + h @ R.T + b_R)
    if cell == "lstm":
        i, f, g, o = np.split(x @ W.T + b_W + h @ R.T + b_R, 4, axis=1)
        return sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(g))
    r, z, n = np.split(x @ W.T + b_W, 3, axis=1)
    R_r, R_z, R_n = np.split(R, 3)
    b_r, b_z, b_n = np.split(b_R, 3)
    r, z = sigmoid(r + h @ R_r.T + b_r), sigmoid(z + h @ R_z.T + b_z)
    n = np.tanh(n + (r * (h @ R_n.T + b_n) if reset == "after" else (r * h) @ R_n.T + b_n))
    return (1 - z) * n + z * h


def lstm_of_keras(kernel, recurrent, bias, x, h, c):
    a = x @ kernel + h @ recurrent + bias
    H = h.shape[1]
    i, f, candidate, o = a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]
    return sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(candidate))


def lstm_of_onnx(W, R, B, x, h, c):
    H = h.shape[1]
    a = x @ W.T + h @ R.T + B[: 4 * H] + B[4 * H :]
    i, o, f, cell = a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]
    return sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(cell))


def lstm_of_gates(weights, biases, x, h, c):
    Wf, Wi, Wo, Wc = weights
    bf, bi, bo, bc = biases
    hx = np.concatenate([h, x], axis=1)
    c = sigmoid(hx @ Wf.T + bf) * c + sigmoid(hx @ Wi.T + bi) * np.tanh(hx @ Wc.T + bc)
    return sigmoid(hx @ Wo.T + bo) * np.tanh(c)


def gru_of_keras(kernel, recurrent, bias, x, h):
    a, H = x @ kernel, h.shape[1]
    if bias.ndim == 2:
        a, inner = a + bias[0], h @ recurrent + bias[1]
        z, r = sigmoid(a[:, :H] + inner[:, :H]), sigmoid(a[:, H : 2 * H] + inner[:, H : 2 * H])
        candidate = np.tanh(a[:, 2 * H :] + r * inner[:, 2 * H :])
    else:
        a = a + bias
        z = sigmoid(a[:, :H] + h @ recurrent[:, :H])
        r = sigmoid(a[:, H : 2 * H] + h @ recurrent[:, H : 2 * H])
        candidate = np.tanh(a[:, 2 * H :] + (r * h) @ recurrent[:, 2 * H :])
    return z * h + (1 - z) * candidate


def gru_of_onnx(W, R, B, x, h, linear_before_reset):
    H = h.shape[1]
    W_z, W_r, W_h = np.split(W, 3)
    R_z, R_r, R_h = np.split(R, 3)
    Wb_z, Wb_r, Wb_h, Rb_z, Rb_r, Rb_h = B.reshape(6, H)
    z = sigmoid(x @ W_z.T + h @ R_z.T + Wb_z + Rb_z)
    r = sigmoid(x @ W_r.T + h @ R_r.T + Wb_r + Rb_r)
    product = r * (h @ R_h.T + Rb_h) if linear_before_reset else (r * h) @ R_h.T + Rb_h
    return (1 - z) * np.tanh(x @ W_h.T + product + Wb_h) + z * h


def gru_of_gates(weights, biases, x, h):
    W_r, W_z, W_a = weights
    b_r, b_z, b_a = biases
    hx = np.concatenate([h, x], axis=1)
    r, z = sigmoid(hx @ W_r.T + b_r), sigmoid(hx @ W_z.T + b_z)
    candidate = np.tanh(np.concatenate([r * h, x], axis=1) @ W_a.T + b_a)
    return (1 - z) * h + z * candidate


@pytest.fixture
def state():
    rng = np.random.default_rng(1)
    return rng.normal(size=(4, 2)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))  # x, h, c


def test_lstm_doors_against_the_published_equations(state):
    weights = random("lstm", 3, 2)
    wanted = ours("lstm", weights, *state)
    np.testing.assert_allclose(lstm_of_keras(*layout.to_keras("lstm", *weights), *state), wanted, rtol=1e-13)
    np.testing.assert_allclose(lstm_of_onnx(*layout.to_onnx("lstm", *weights), *state), wanted, rtol=1e-13)
    np.testing.assert_allclose(lstm_of_gates(*layout.to_gates("lstm", *weights), *state), wanted, rtol=1e-13)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru_doors_against_the_published_equations(state, reset):
    x, h, _ = state
    weights = random("gru", 3, 2)
    wanted = ours("gru", weights, x, h, reset=reset)
    keras = layout.to_keras("gru", *weights, reset=reset)
    np.testing.assert_allclose(gru_of_keras(*keras, x, h), wanted, rtol=1e-13)
    onnx = layout.to_onnx("gru", *weights)
    np.testing.assert_allclose(gru_of_onnx(*onnx, x, h, reset == "after"), wanted, rtol=1e-13)


def test_the_gru_of_the_tutorials(state):
    x, h, _ = state
    weights = random("gru", 3, 2, two_biases=False)
    gates = layout.to_gates("gru", *layout.opposite_update(*weights))
    np.testing.assert_allclose(
        gru_of_gates(*gates, x, h), ours("gru", weights, x, h, reset="before"), rtol=1e-13
    )
    assert not np.allclose(gru_of_gates(*gates, x, h), ours("gru", weights, x, h, reset="after"))


@pytest.mark.parametrize(
    ("cell", "format"), [(c, f) for c in ("lstm", "gru") for f in ("onnx", "gates", "keras")]
)
def test_a_wrong_order_is_noticed(state, monkeypatch, cell, format):
    """Exchange two gates of a format: the tests above must fail for it. (Guards the guards.)"""
    order = layout.ORDERS[cell][format]
    monkeypatch.setitem(layout.ORDERS[cell], format, order[1] + order[0] + order[2:])
    judge = {
        "lstm": lambda: test_lstm_doors_against_the_published_equations(state),
        "gru": lambda: test_gru_doors_against_the_published_equations(state, "after"),
        "gru gates": lambda: test_the_gru_of_the_tutorials(state),
    }
    with pytest.raises(AssertionError):
        judge["gru gates" if (cell, format) == ("gru", "gates") else cell]()


def test_columns_of_biases_are_accepted():
    weights, biases = layout.to_gates("lstm", *random("lstm", 3, 2))
    columns = [b.reshape(3, 1) for b in biases]
    equal_bits(layout.from_gates("lstm", weights, columns), layout.from_gates("lstm", weights, biases))


def test_refusals():
    W, R, b_W, b_R = random("lstm", 3, 2)
    with pytest.raises(ShapeError, match=r"^`R` must have shape \(4H, H\) = \(12, 3\), got \(9, 3\)\.$"):
        layout.to_onnx("lstm", W, R[:9], b_W, b_R)
    with pytest.raises(ShapeError, match=r"^`W` must have shape \(4H, I\) = \(12, 2\), got \(11, 2\)\.$"):
        layout.to_keras("lstm", W[:11], R, b_W, b_R)
    with pytest.raises(ShapeError, match=r"^`bias` must have shape \(4H,\) = \(12,\), got \(11,\)\.$"):
        layout.from_keras("lstm", W.T, R.T, b_W[:11])
    with pytest.raises(ShapeError, match=r"^`B` must have shape \(8H,\) = \(24,\), got \(12,\)\.$"):
        layout.from_onnx("lstm", W, R, b_W)
    weights, biases = layout.to_gates("lstm", W, R, b_W, b_R)
    with pytest.raises(ArgumentError, match=r"^`len\(weights\)` must be 4, got 3\.$"):
        layout.from_gates("lstm", weights[:3], biases[:3])
    with pytest.raises(
        ShapeError, match=r"^`weights\[2\]` must have shape \(H, H\+I\) = \(3, 5\), got \(3, 4\)\.$"
    ):
        layout.from_gates("lstm", [*weights[:2], weights[2][:, 1:], weights[3]], biases)
    with pytest.raises(ArgumentError, match=r"^`reset` must be 'after' or 'before', got 'later'\.$"):
        layout.to_keras("gru", *random("gru", 3, 2), reset="later")


def test_docstrings_run():
    assert doctest.testmod(layout).failed == 0
