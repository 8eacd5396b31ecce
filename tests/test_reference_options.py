"""The options of the reference: forward by the printed sums, number for number; gradients by the complex step."""

import re
from math import exp, inf, sqrt, tanh
from pathlib import Path

import numpy as np
import pytest

from carousel.errors import ArgumentError, ShapeError, UnsupportedError
from carousel.layout import Weights
from carousel.reference import (
    LayerNorm,
    Options,
    gru,
    gru_options,
    lstm,
    lstm_options,
    rnn,
    rnn_options,
    stack,
)
from carousel.reference.dense import Dense
from carousel.reference.random import philox, zoneout_masks
from carousel.reference.stack import Layer, Stack
from complex_step import EXACT, arrays, assert_gradient, inner, replaced

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
ALL = ("layer_norm", "zoneout_h", "state_mask", "input_mask", "clip")
OFFERED = {
    "lstm": (*ALL, "projection", "peephole", "coupled", "zoneout_c", "candidate_mask", "cell_clip"),
    "gru": (*ALL, "candidate_mask"),
    "rnn": ALL,
}
PARAMETERS = ("projection", "peephole", "coupled", "layer_norm")  # that have a gradient, or shape one
T, B, I, H = 5, 3, 2, 4
RAGGED = [5, 0, 3]

form = pytest.mark.parametrize(
    ("cell", "kind"), FORMS, ids=lambda v: v if isinstance(v, str) else "-".join(v.values())
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def drawn(rng, cell, names, T=T, B=B, I=I, H=H):
    """x, w, state, options: random and not zero, every bound such that about half of the sums are beyond it."""
    P = 3 if "projection" in names else H
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell] - ("coupled" in names)
    gain = 1 + 0.3 * rng.normal(size=2 * G * H + H)

    def mask(units):
        return rng.normal(size=(B, units)) * (rng.random((B, units)) < 0.7)

    values = {
        "projection": rng.normal(size=(P, H)),
        "peephole": rng.normal(size=(3 - ("coupled" in names), H)),
        "coupled": True,
        "layer_norm": LayerNorm(
            gain[: G * H],
            gain[G * H : 2 * G * H],
            *((gain[-H:], rng.normal(size=H)) if cell == "lstm" else ()),
            epsilon=0.01,
        ),
        "zoneout_h": rng.random((T, B, P)),
        "zoneout_c": 1.0 * (rng.random((T, B, H)) < 0.4),
        "candidate_mask": mask(H),
        "state_mask": mask(P),
        "input_mask": mask(I),
        "clip": 0.7,
        "cell_clip": 0.4,
    }
    options = Options(**{name: values[name] for name in names})
    w = Weights(*(rng.normal(size=s) for s in ((G * H, I), (G * H, P), (G * H,), (G * H,))))
    h, c = rng.normal(size=(B, P)), rng.normal(size=(B, H))
    return rng.normal(size=(T, B, I)), w, lstm.State(h, c) if cell == "lstm" else h, options


def parameters(options):
    """The options without what has no gradient."""
    return Options(**{name: getattr(options, name) for name in PARAMETERS})


def like(rng, tree):
    return replaced(tree, iter([rng.normal(size=a.shape) for a in arrays(tree)]))


def judge_gradients(rng, cell, kind, names, lengths=None, sizes=(T, B, I, H), fault=None):
    """The gradients of x, w, the state and the options; `fault` changes the cache before `backward` sees it."""
    x, w, s, options = drawn(rng, cell, names, *sizes)

    def forward(x, w, s, p):
        given = options._replace(**{name: getattr(p, name) for name in PARAMETERS})
        return MODULES[cell].forward(x, w, s, options=given, lengths=lengths, **kind)

    y, _, cache = forward(x, w, s, options)
    dy, ds = rng.normal(size=y.shape), like(rng, s)

    def loss(*arguments):
        y, last, _ = forward(*arguments)
        return inner(y, dy) + inner(last, ds)

    cache = fault(cache) if fault else cache
    assert_gradient(loss, (x, w, s, parameters(options)), MODULES[cell].backward(dy, w, cache, ds), rng)


# ---- gradients, by calculus ----


@pytest.mark.parametrize(
    ("cell", "kind", "name"), [(cell, kind, name) for cell, kind in FORMS for name in OFFERED[cell]]
)
def test_gradients_of_each_option(rng, cell, kind, name):
    judge_gradients(rng, cell, kind, [name])


@form
@pytest.mark.parametrize("seed", range(6))
def test_gradients_of_mixed_options(cell, kind, seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(OFFERED[cell], rng.integers(2, len(OFFERED[cell])), replace=False).tolist()
    judge_gradients(rng, cell, kind, names, RAGGED if seed % 2 else None)


@form
@pytest.mark.parametrize("lengths", [None, RAGGED])
def test_gradients_of_all_options(rng, cell, kind, lengths):
    judge_gradients(rng, cell, kind, OFFERED[cell], lengths)


@form
@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 4), (1, 3, 2, 1), (1, 1, 1, 4), (3, 0, 2, 4), (3, 3, 2, 0), (3, 2, 0, 17)]
)
def test_gradients_at_the_edges(rng, cell, kind, sizes):
    judge_gradients(rng, cell, kind, OFFERED[cell], sizes=sizes)


def altered(field, change):
    """A fault: `backward` is told something else of one option than `forward`."""
    return lambda cache: cache._replace(
        options=cache.options._replace(**{field: change(getattr(cache.options, field))})
    )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("p", lambda p: p[[1, 0, 2]]),
        ("p", lambda p: p[[0, 2, 1]]),
        ("W_p", lambda W: W[::-1]),
        ("gain_x", lambda g: np.roll(g, 1)),
        ("gain_h", lambda g: np.roll(g, 1)),
        ("gain_c", lambda g: np.roll(g, 1)),
        ("epsilon", lambda e: 2 * e),
        ("d_h", lambda d: d[::-1]),
        ("d_c", lambda d: d[::-1]),
        ("m_x", lambda m: m[::-1]),
        ("m_h", lambda m: m[::-1]),
        ("m_g", lambda m: m[::-1]),
        ("clip", lambda _: inf),
        ("cell_clip", lambda _: inf),
    ],
)
def test_a_planted_fault_is_caught(rng, field, change):
    with pytest.raises(AssertionError, match=r"Mismatched elements|Not equal to tolerance"):
        judge_gradients(
            rng, "lstm", {}, [n for n in OFFERED["lstm"] if n != "coupled"], fault=altered(field, change)
        )


# ---- forward, by the printed sums ----


def product(M, v):
    return [sum(m * u for m, u in zip(row, v, strict=True)) for row in M]


def normalised(s, gain, epsilon):
    mean = sum(s) / len(s)
    variance = sum((v - mean) ** 2 for v in s) / len(s)
    return [g * (v - mean) / sqrt(variance + epsilon) for g, v in zip(gain, s, strict=True)]


def sigma(a):
    return 1 / (1 + exp(-a))


def bounded(a, bound):
    return max(-bound, min(bound, a))


def printed_lstm(x, h, c, W, R, b, o, t, row):
    """One step of one row, unit by unit: h, c, and i f g o."""
    H, norm = len(c), o.layer_norm
    s_x = product(W, [u * m for u, m in zip(x, o.input_mask[row], strict=True)])
    s_h = product(R, [u * m for u, m in zip(h, o.state_mask[row], strict=True)])
    n_x, n_h = normalised(s_x, norm.gain_x, norm.epsilon), normalised(s_h, norm.gain_h, norm.epsilon)
    s = [u + v + w for u, v, w in zip(n_x, n_h, b, strict=True)]
    gates, new = [], []
    for j in range(H):
        if o.coupled:
            (p_i, p_o), (s_i, s_g, s_o) = o.peephole[:, j], s[j::H]
            i = sigma(bounded(s_i + p_i * c[j], o.clip))
            f = 1 - i
        else:
            (p_i, p_f, p_o), (s_i, s_f, s_g, s_o) = o.peephole[:, j], s[j::H]
            i = sigma(bounded(s_i + p_i * c[j], o.clip))
            f = sigma(bounded(s_f + p_f * c[j], o.clip))
        g = tanh(bounded(s_g, o.clip))
        new.append(bounded(f * c[j] + i * g * o.candidate_mask[row, j], o.cell_clip))
        gates.append((i, f, g, sigma(bounded(s_o + p_o * new[j], o.clip))))
    shown = normalised(new, norm.gain_c, norm.epsilon)
    shown = [gate[3] * tanh(u + v) for gate, u, v in zip(gates, shown, norm.shift_c, strict=True)]
    out = shown if o.projection is None else product(o.projection, shown)
    h = [d * u + (1 - d) * v for d, u, v in zip(o.zoneout_h[t, row], h, out, strict=True)]
    c = [d * u + (1 - d) * v for d, u, v in zip(o.zoneout_c[t, row], c, new, strict=True)]
    return h, c, np.transpose(gates)


def printed_gru(x, h, W, R, b_W, b_R, o, t, row, reset, update):
    """One step of one row, unit by unit: h, and r z n."""
    H, norm = len(h), o.layer_norm
    masked = [u * m for u, m in zip(h, o.state_mask[row], strict=True)]
    s_x = product(W, [u * m for u, m in zip(x, o.input_mask[row], strict=True)])
    s_h = product(R[: 2 * H], masked)
    n_x = normalised(s_x[: 2 * H], norm.gain_x[: 2 * H], norm.epsilon)
    n_x += normalised(s_x[2 * H :], norm.gain_x[2 * H :], norm.epsilon)
    n_h = normalised(s_h, norm.gain_h[: 2 * H], norm.epsilon)
    a = [n_x[k] + b_W[k] + n_h[k] + b_R[k] for k in range(2 * H)]
    r, z = ([sigma(bounded(u, o.clip)) for u in half] for half in (a[:H], a[H:]))
    seen = [u * v for u, v in zip(r, masked, strict=True)] if reset == "before" else masked
    m = normalised(product(R[2 * H :], seen), norm.gain_h[2 * H :], norm.epsilon)
    m = [u + b for u, b in zip(m, b_R[2 * H :], strict=True)]
    n, out = [], []
    for j in range(H):
        n.append(
            tanh(bounded(n_x[2 * H + j] + b_W[2 * H + j] + m[j] * (r[j] if reset == "after" else 1), o.clip))
        )
        share = z[j] if update == "state" else 1 - z[j]
        d = o.zoneout_h[t, row, j]
        out.append(d * h[j] + (1 - d) * ((1 - share) * o.candidate_mask[row, j] * n[j] + share * h[j]))
    return out, [r, z, n]


def printed_rnn(x, h, W, R, b, o, t, row, activation):
    """One step of one row, unit by unit."""
    norm = o.layer_norm
    s_x = product(W, [u * m for u, m in zip(x, o.input_mask[row], strict=True)])
    s_h = product(R, [u * m for u, m in zip(h, o.state_mask[row], strict=True)])
    n_x, n_h = normalised(s_x, norm.gain_x, norm.epsilon), normalised(s_h, norm.gain_h, norm.epsilon)
    a = [bounded(u + v + w, o.clip) for u, v, w in zip(n_x, n_h, b, strict=True)]
    new = [tanh(u) if activation == "tanh" else max(u, 0) for u in a]
    return [d * u + (1 - d) * v for d, u, v in zip(o.zoneout_h[t, row], h, new, strict=True)]


@pytest.mark.parametrize("without", [(), ("coupled",), ("projection",)])
def test_the_lstm_is_its_printed_sums(rng, without):
    x, w, s, o = drawn(rng, "lstm", [n for n in OFFERED["lstm"] if n not in without])
    y, _, cache = lstm.forward(x, w, s, options=o)
    for row in range(B):
        h, c = s.h[row], s.c[row]
        for t in range(T):
            h, c, gates = printed_lstm(x[t, row], h, c, w.W, w.R, w.b_W + w.b_R, o, t, row)
            np.testing.assert_allclose(y[t, row], h, **EXACT)
            np.testing.assert_allclose(cache.c[t + 1, row], c, **EXACT)
            found = [cache.i[t, row], cache.f[t, row], cache.g[t, row], cache.o[t, row]]
            np.testing.assert_allclose(found, gates, **EXACT)


@pytest.mark.parametrize(
    "kind", [kind for cell, kind in FORMS if cell == "gru"], ids=lambda kind: "-".join(kind.values())
)
def test_the_gru_is_its_printed_sums(rng, kind):
    x, w, s, o = drawn(rng, "gru", OFFERED["gru"])
    y, _, cache = gru.forward(x, w, s, options=o, **kind)
    for row in range(B):
        h = s[row]
        for t in range(T):
            h, gates = printed_gru(x[t, row], h, *w, o, t, row, **kind)
            np.testing.assert_allclose(y[t, row], h, **EXACT)
            np.testing.assert_allclose([cache.r[t, row], cache.z[t, row], cache.n[t, row]], gates, **EXACT)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_rnn_is_its_printed_sums(rng, activation):
    x, w, s, o = drawn(rng, "rnn", OFFERED["rnn"])
    y, _, _ = rnn.forward(x, w, s, options=o, activation=activation)
    for row in range(B):
        h = s[row]
        for t in range(T):
            h = printed_rnn(x[t, row], h, w.W, w.R, w.b_W + w.b_R, o, t, row, activation)
            np.testing.assert_allclose(y[t, row], h, **EXACT)


def test_the_page_of_the_options_has_the_equations_of_the_modules():
    page = (Path(__file__).parents[1] / "docs" / "options.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    modules = (lstm_options, gru_options, rnn_options)
    printed = [re.findall(r"^    (.*)$", module.__doc__, re.MULTILINE) for module in modules]
    assert [block.splitlines() for block in blocks] == printed


# ---- properties ----


@form
def test_options_that_are_off_change_nothing(rng, cell, kind):
    x, w, s, _ = drawn(rng, cell, [])
    plain, last, cache = MODULES[cell].forward(x, w, s, **kind)
    y, same, seen = MODULES[cell].forward(x, w, s, options=Options(), lengths=[T] * B, **kind)
    np.testing.assert_allclose(y, plain, **EXACT)
    dy, ds = rng.normal(size=y.shape), like(rng, s)
    expected = MODULES[cell].backward(dy, w, cache, ds)
    found = MODULES[cell].backward(dy, w, seen, ds)
    assert arrays(found.options) == []
    for a, b in zip(arrays((same, found)), arrays((last, expected)), strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


@form
def test_forward_is_its_steps(rng, cell, kind):
    x, w, s, options = drawn(rng, cell, OFFERED[cell])
    y, last, cache = MODULES[cell].forward(x, w, s, options=options, **kind)
    for t in range(T):
        shares = {
            k: v[t : t + 1] for k, v in options._asdict().items() if k.startswith("zoneout") and v is not None
        }
        s, gates = MODULES[cell].step(x[t], s, w, options=options._replace(**shares), **kind)
        np.testing.assert_array_equal(arrays(s)[0], y[t])
        for name, gate in zip(getattr(gates, "_fields", ()), gates, strict=True):
            np.testing.assert_array_equal(gate, getattr(cache, name)[t])
    np.testing.assert_array_equal(arrays(s)[-1], arrays(last)[-1])


@form
def test_a_ragged_row_is_the_row_alone(rng, cell, kind):
    """And nothing beyond its end is read: NaN stands there."""
    x, w, s, options = drawn(rng, cell, OFFERED[cell])
    dy, ds = rng.normal(size=(T, B, arrays(s)[0].shape[1])), like(rng, s)
    for row, n in enumerate(RAGGED):
        x[n:, row] = dy[n:, row] = np.nan
    y, last, cache = MODULES[cell].forward(x, w, s, options=options, lengths=RAGGED, **kind)
    together = MODULES[cell].backward(dy, w, cache, ds)
    sums = [0 * a for a in arrays((together.w, together.options))]
    for row, n in enumerate(RAGGED):
        mine = np.s_[row : row + 1]
        masks = {k: v[mine] for k, v in options._asdict().items() if k.endswith("mask") and v is not None}
        shares = {
            k: v[:n, mine] for k, v in options._asdict().items() if k.startswith("zone") and v is not None
        }
        own = replaced(s, iter([a[mine] for a in arrays(s)]))
        y_row, last_row, cache_row = MODULES[cell].forward(
            x[:n, mine], w, own, options=options._replace(**masks, **shares), **kind
        )
        dlast = replaced(ds, iter([a[mine] for a in arrays(ds)]))
        alone = MODULES[cell].backward(dy[:n, mine], w, cache_row, dlast)
        np.testing.assert_allclose(y[:n, mine], y_row, **EXACT)
        np.testing.assert_allclose(together.x[:n, mine], alone.x, **EXACT)
        assert (y[n:, row] == 0).all()
        assert (together.x[n:, row] == 0).all()
        ends = zip(arrays((last, together.state)), arrays((last_row, alone.state)), strict=True)
        for found, expected in ends:
            np.testing.assert_allclose(found[mine], expected, **EXACT)
        sums = [a + b for a, b in zip(sums, arrays((alone.w, alone.options)), strict=True)]
    for found, expected in zip(arrays((together.w, together.options)), sums, strict=True):
        np.testing.assert_allclose(found, expected, **EXACT)


def test_coupled_gates_add_up_to_one(rng):
    """And are those of an LSTM whose forget gate has the opposite rows of the input gate."""
    x, w, s, o = drawn(rng, "lstm", ["coupled", "peephole", "clip", "projection"])
    y, _, cache = lstm.forward(x, w, s, options=o)
    np.testing.assert_allclose(cache.i + cache.f, 1, **EXACT)
    rows = Weights(*(np.concatenate([a[:H], -a[:H], a[H:]]) for a in w))
    p_i, p_o = o.peephole
    opposite = o._replace(coupled=False, peephole=np.stack([p_i, -p_i, p_o]))
    np.testing.assert_allclose(lstm.forward(x, rows, s, options=opposite)[0], y, **EXACT)


def test_zoneout_of_everything_is_standstill(rng):
    x, w, s, _ = drawn(rng, "lstm", [])
    y, last, _ = lstm.forward(
        x, w, s, options=Options(zoneout_h=np.ones((T, B, H)), zoneout_c=np.ones((T, B, H)))
    )
    np.testing.assert_array_equal(y, np.broadcast_to(s.h, y.shape))
    np.testing.assert_array_equal(last, s)


@form
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "complex64", "complex128"])
def test_the_dtype_stays(rng, cell, kind, dtype):
    x, w, s, options = drawn(rng, cell, OFFERED[cell])
    kept = {name: getattr(options, name) for name in ("coupled", "clip", "cell_clip")}

    def cast(tree):
        return replaced(tree, iter([a.astype(dtype) for a in arrays(tree)]))

    shares = {
        k: v.astype(dtype).real
        for k, v in options._asdict().items()
        if k.startswith("zone") and v is not None
    }
    options = cast(options)._replace(**kept, **shares)
    y, last, cache = MODULES[cell].forward(x.astype(dtype), cast(w), cast(s), options=options, **kind)
    gradients = MODULES[cell].backward(np.ones_like(y), cast(w), cache)
    assert {a.dtype for a in arrays((y, last, gradients))} == {np.dtype(dtype)}


@form
def test_nan_comes_out_where_nan_went_in(rng, cell, kind):
    x, w, s, options = drawn(rng, cell, ["layer_norm", "clip", *(["cell_clip"] if cell == "lstm" else [])])
    x[2, 1, 0] = np.nan
    y, _, _ = MODULES[cell].forward(x, w, s, options=options, **kind)
    assert np.isnan(y[2:, 1]).all()
    assert not np.isnan(y[:, 0]).any()
    assert not np.isnan(y[:2]).any()


# ---- stacks ----


@form
@pytest.mark.parametrize("head_on", ["every", "last"])
def test_gradients_of_a_ragged_bidirectional_stack(rng, cell, kind, head_on):
    lengths = [5, 1, 3]
    x, w_0, s_0, o_0 = drawn(rng, cell, ["layer_norm"])
    _, w_1, s_1, o_1 = drawn(rng, cell, ["layer_norm"])
    _, w_2, s_2, _ = drawn(rng, cell, [], I=2 * H)
    layers = [Layer(cell, [w_0, w_1], kind, [o_0, o_1]), Layer(cell, [w_2], kind)]
    net = Stack(layers, Dense(rng.normal(size=(2, H)), rng.normal(size=2)), head_on)
    states = [[s_0, s_1], [s_2]]
    y, last, cache = stack.forward(x, net, states, lengths=lengths)
    dy, ds = rng.normal(size=y.shape), like(rng, last)

    def loss(x, net, states):
        y, last, _ = stack.forward(x, net, states, lengths=lengths)
        return inner(y, dy) + inner(last, ds)

    found = stack.backward(dy, net, cache, ds)
    assert_gradient(loss, (x, net, states), found, rng)
    for row, n in enumerate(lengths):
        x[n:, row] = np.nan
        if head_on == "every":
            assert (y[n:, row] == 0).all()
            dy[n:, row] = np.nan
    again, _, cache = stack.forward(x, net, states, lengths=lengths)
    np.testing.assert_array_equal(again, y)
    for a, b in zip(arrays(stack.backward(dy, net, cache, ds)), arrays(found), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_second_direction_of_a_row_starts_at_its_own_end(rng):
    x, w, _, o = drawn(rng, "lstm", ["projection", "peephole"])
    y, (states,), _ = stack.forward(x, Stack([Layer("lstm", [w, w], beyond=[o, o])]), lengths=RAGGED)
    for row, n in enumerate(RAGGED):
        alone, last, _ = lstm.forward(x[:n][::-1][:, row : row + 1], w, options=o)
        np.testing.assert_allclose(y[:n, row, 3:], alone[::-1, 0], **EXACT)
        np.testing.assert_allclose(states[1].h[row], last.h[0], **EXACT)


def test_a_stack_with_options_is_its_steps(rng):
    x, w, s, o = drawn(rng, "lstm", ["projection", "layer_norm", "clip"])
    net = Stack([Layer("lstm", [w], beyond=[o])])
    y, _, _ = stack.forward(x, net, [[s]])
    states = [[s]]
    for t in range(T):
        y_t, states, _ = stack.step(x[t], states, net)
        np.testing.assert_array_equal(y_t, y[t])


# ---- random numbers ----


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0x00000000, 0x00000000), 0x00000000, "ff1dae59 6cd10df2"),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, "2c3f628b ab4fd7ad"),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, "dd7ce038 f62a4c12"),
    ],
)
def test_known_answers_of_philox(counter, key, words):
    """Those of Random123, the authors' library."""
    assert " ".join(f"{word:08x}" for word in philox(np.array(counter), key)) == words


@pytest.mark.parametrize("P", [None, 3])
def test_masks_are_words_of_the_generator(P):
    key, (T, B, H) = 0xDEADBEEF, (4, 3, 5)
    h, c = zoneout_masks(key, 0.3, 0.2, T, B, H, P)
    for t, b, j in np.ndindex(h.shape):
        word, _ = philox(np.array([b * h.shape[-1] + j, t]), key)
        assert h[t, b, j] == (int(word) // 256 < 0.3 * 2**24)
    for t, b, j in np.ndindex(c.shape):
        _, word = philox(np.array([b * H + j, t]), key)
        assert c[t, b, j] == (int(word) // 256 < 0.2 * 2**24)


def test_masks_have_the_rates_and_the_ends():
    h, c = zoneout_masks(1, 0.3, 0.2, 100, 20, 50)
    assert abs(h.mean() - 0.3) < 0.006  # four standard deviations, 4 √(0.3 · 0.7 / 10⁵)
    assert abs(c.mean() - 0.2) < 0.006
    assert abs((h * c).mean() - 0.06) < 0.003
    never, always = zoneout_masks(1, 0.0, 1.0, 10, 5, 5)
    assert not never.any()
    assert always.all()


# ---- refusals ----


@pytest.mark.parametrize(
    ("cell", "name", "value", "text"),
    [
        ("gru", "peephole", np.ones((3, 4)), "`peephole` is for the LSTM only, not for the GRU."),
        ("rnn", "projection", np.ones((3, 4)), "`projection` is for the LSTM only, not for the RNN."),
        ("gru", "coupled", True, "`coupled` is for the LSTM only, not for the GRU."),
        ("rnn", "zoneout_c", np.ones((5, 3, 4)), "`zoneout_c` is for the LSTM only, not for the RNN."),
        ("gru", "cell_clip", 1.0, "`cell_clip` is for the LSTM only, not for the GRU."),
        (
            "rnn",
            "candidate_mask",
            np.ones((3, 4)),
            "`candidate_mask` is for the LSTM and the GRU only, not for the RNN.",
        ),
        (
            "gru",
            "layer_norm",
            LayerNorm(np.ones(12), np.ones(12), np.ones(4)),
            "`layer_norm.gain_c` is for the LSTM only, not for the GRU.",
        ),
    ],
)
def test_what_a_cell_does_not_offer(rng, cell, name, value, text):
    x, w, s, _ = drawn(rng, cell, [])
    with pytest.raises(UnsupportedError) as caught:
        MODULES[cell].forward(x, w, s, options=Options(**{name: value}))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("peephole", np.ones((2, 4)), ShapeError, "`peephole` must have shape (3, H) = (3, 4), got (2, 4)."),
        ("projection", np.ones((3, 4)), ShapeError, "`R` must have shape (4H, P) = (16, 3), got (16, 4)."),
        ("coupled", True, ShapeError, "`R` must have shape (3H, H) = (12, 4), got (16, 4)."),
        (
            "zoneout_h",
            np.ones((3, 4)),
            ShapeError,
            "`zoneout_h` must have shape (T, B, H) = (5, 3, 4), got (3, 4).",
        ),
        (
            "zoneout_c",
            np.full((5, 3, 4), 1.5),
            ArgumentError,
            "`zoneout_c` must be between 0 and 1 everywhere.",
        ),
        (
            "candidate_mask",
            np.ones(4),
            ShapeError,
            "`candidate_mask` must have shape (B, H) = (3, 4), got (4,).",
        ),
        (
            "state_mask",
            np.ones((2, 4)),
            ShapeError,
            "`state_mask` must have shape (B, H) = (3, 4), got (2, 4).",
        ),
        (
            "input_mask",
            np.ones((3, 4)),
            ShapeError,
            "`input_mask` must have shape (B, I) = (3, 2), got (3, 4).",
        ),
        ("clip", 0.0, ArgumentError, "`clip` must be above 0, got 0.0."),
        ("cell_clip", float("nan"), ArgumentError, "`cell_clip` must be above 0, got nan."),
        (
            "layer_norm",
            LayerNorm(np.ones(16), np.ones(4)),
            ShapeError,
            "`layer_norm.gain_h` must have shape (4H,) = (16,), got (4,).",
        ),
        (
            "layer_norm",
            LayerNorm(np.ones(16), np.ones(16), None, np.ones(4)),
            ArgumentError,
            "`layer_norm.shift_c` needs `layer_norm.gain_c`.",
        ),
    ],
)
def test_what_an_lstm_refuses(rng, name, value, error, text):
    x, w, s, _ = drawn(rng, "lstm", [])
    with pytest.raises(error) as caught:
        lstm.forward(x, w, s, options=Options(**{name: value}))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("lengths", "error", "text"),
    [
        ([5, 3], ShapeError, "`lengths` must have shape (B,) = (3,), got (2,)."),
        ([5, 3, 6], ArgumentError, "`lengths` must be between 0 and T = 5, got [5, 3, 6]."),
        ([5, 3, -1], ArgumentError, "`lengths` must be between 0 and T = 5, got [5, 3, -1]."),
        ([5, 3, 1.0], ShapeError, "`lengths` must be integers, got float64."),
    ],
)
@form
def test_lengths_that_are_none(rng, cell, kind, lengths, error, text):
    x, w, s, _ = drawn(rng, cell, [])
    with pytest.raises(error) as caught:
        MODULES[cell].forward(x, w, s, lengths=lengths, **kind)
    assert str(caught.value) == text


def test_shapes_of_a_projected_layer_and_of_a_ragged_stack(rng):
    x, w, s, o = drawn(rng, "lstm", ["projection"])
    with pytest.raises(ShapeError, match=r"^`h` must have shape \(B, P\) = \(3, 3\), got \(3, 4\)\.$"):
        lstm.forward(x, w, (s.c, s.c), options=o)
    y, _, cache = lstm.forward(x, w, s, options=o)
    with pytest.raises(
        ShapeError, match=r"^`dy` must have shape \(T, B, P\) = \(5, 3, 3\), got \(5, 3, 4\)\.$"
    ):
        lstm.backward(np.zeros((5, 3, 4)), w, cache)
    with pytest.raises(ShapeError, match=r"^`dh` must have shape \(B, P\) = \(3, 3\), got \(3, 4\)\.$"):
        lstm.backward(y, w, cache, (s.c, s.c))
    net = Stack([Layer("lstm", [w], beyond=[o])], Dense(np.ones((1, 3)), np.ones(1)), "last")
    with pytest.raises(
        ArgumentError, match=r"^`lengths` must be at least 1 for a head on the last step, got \[5, 0, 3\]\.$"
    ):
        stack.forward(x, net, lengths=RAGGED)
