"""Weights per gate, as tutorials have them: the same numbers there and back, or a refusal."""

import numpy as np
import pytest

from carousel.errors import FormatError, UnsupportedError
from carousel.interop import numpy as gates
from carousel.network import Dense, Network, Recurrent, Weights
from carousel.stream import Model

I, H = 3, 5


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def lstm(rng, inputs=I, H=H):
    weights = {f"W{gate}": rng.normal(size=(H, H + inputs)) for gate in "fioc"}  # biases are columns
    return weights | {f"b{gate}": rng.normal(size=(H, 1)) for gate in "fioc"}


def gru(rng, inputs=I):
    return {f"W_{gate}": rng.normal(size=(H, H + inputs)) for gate in "rza"} | {
        f"b_{gate}": rng.normal(size=H) for gate in "rza"
    }


def σ(a):
    return 1 / (1 + np.exp(-a))


def test_the_tutorials_gru(rng):
    """One step by hand: hidden 5, input 3, weights (5, 8)."""
    p, x = gru(rng), rng.normal(size=I)
    y = Model(gates.load(p)).run(np.stack([x, -x])[:, None])[:, 0]
    h = np.zeros(H)
    for t, x_t in enumerate((x, -x)):
        r = σ(p["W_r"] @ np.concatenate([h, x_t]) + p["b_r"])
        z = σ(p["W_z"] @ np.concatenate([h, x_t]) + p["b_z"])
        candidate = np.tanh(p["W_a"] @ np.concatenate([r * h, x_t]) + p["b_a"])
        h = (1 - z) * h + z * candidate
        np.testing.assert_allclose(y[t], h, rtol=0, atol=1e-14)


def test_the_tutorials_stacked_lstm(rng):
    """Hidden 5, then 3."""
    below, above = lstm(rng), lstm(rng, H, 3)
    report = gates.read(below, above)
    assert report.largest < 1e-14
    assert report.layers[0] == ("layers[0]: Wf Wi Wo Wc bf bi bo bc", "LSTM")
    assert (report.network.input_size, report.network.output_size) == (I, 3)
    p, x = below, rng.normal(size=I)
    f, i, o, g = (p[f"W{k}"] @ np.concatenate([np.zeros(H), x]) + p[f"b{k}"][:, 0] for k in "fioc")
    h = σ(o) * np.tanh(σ(i) * np.tanh(g))
    np.testing.assert_allclose(Model(gates.load(below)).run(x[None, None])[0, 0], h, rtol=0, atol=1e-14)
    assert f.shape == (H,)


@pytest.mark.parametrize("make", [lstm, gru])
def test_there_and_back(rng, make):
    given = make(rng)
    (again,) = gates.save(gates.load(given))
    assert set(again) == set(given)
    for name, array in given.items():
        np.testing.assert_array_equal(again[name], array.reshape(again[name].shape))


def test_the_trial_notices_a_wrong_gate(rng, monkeypatch):
    monkeypatch.setitem(gates.layout.ORDERS["lstm"], "gates", "ifog")
    with pytest.raises(UnsupportedError, match=r"by the equations per gate, .* off by"):
        gates.load(lstm(rng))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.pop("bf"), "must have the names Wf Wi Wo Wc bf bi bo bc; or W_r"),
        (lambda p: p.update(Wy=np.ones(3)), "got .* Wy"),
        (
            lambda p: p.update(Wi=np.ones((5, 7))),
            r"`layers\[0\]`: `Wi` must have shape \(5, 8\), as most .* \(5, 7\)",
        ),
        (
            lambda p: p.update(Wf=np.ones((4, 8))),
            r"`layers\[0\]`: `Wf` must have shape \(5, 8\), as most .* \(4, 8\)",
        ),
        (lambda p: p.update(bc=np.full(5, np.nan)), "must be finite"),
        (
            lambda p: p.update(bc=np.ones(4)),
            r"`layers\[0\]`: `bc` must have shape \(5,\) or \(5, 1\), got \(4,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(rng, change, text):
    parameters = lstm(rng)
    change(parameters)
    with pytest.raises(FormatError, match=text):
        gates.load(parameters)


def test_layers_that_do_not_fit_one_another_are_refused(rng):
    with pytest.raises(FormatError, match="takes 3 features"):
        gates.load(lstm(rng), gru(rng))


def test_what_has_no_such_form_is_refused(rng):
    w = Weights(np.ones((15, 3)), np.ones((15, 5)))
    for layer, text in (
        (Recurrent("gru", (w,)), "resets after the product"),
        (Recurrent("gru", (w, w), reset="before"), "of one direction"),
        (Dense(np.ones((2, 3))), "LSTM and GRU"),
    ):
        with pytest.raises(UnsupportedError, match=text):
            gates.save(Network((layer,)))
