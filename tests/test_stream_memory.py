"""Steps on memory of every kind: strided, unaligned, read-only, shared, kept, and used by several threads."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from carousel import stream
from carousel.errors import ArgumentError, ShapeError
from carousel.network import Dense, Network, Recurrent, Weights

I, O, H = 3, 2, 5


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def network(rng, inputs=I, hidden=H, outputs=O, dtype="float64", cells=("lstm", "gru", "rnn")):
    """Recurrent layers and, unless `outputs` is None, a head."""

    def array(*shape):
        return rng.uniform(-0.6, 0.6, shape).astype(dtype)

    layers = []
    for cell in cells:
        rows = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * hidden
        weights = Weights(array(rows, inputs), array(rows, hidden), array(rows), array(rows))
        layers.append(Recurrent(cell, (weights,)))
        inputs = hidden
    if outputs is not None:
        layers.append(Dense(array(outputs, inputs), array(outputs)))
    return Network(tuple(layers))


def arrays(state):
    return [*state.h, *(c for c in state.c if c is not None)]


def assert_same(state, other):
    for a, b in zip(arrays(state), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def model(rng):
    return stream.Model(network(rng))


@pytest.fixture
def case(model, rng):
    """x, a state that is not zero, and what a step gives."""
    x = rng.normal(size=(2, I))
    _, state = model.step(rng.normal(size=(2, I)), model.start(2))
    y, after = model.step(x, state)
    return x, state, y, after


def unaligned(array):
    block = np.empty(array.nbytes + 1, np.uint8)
    view = block[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def strided(array):
    view = np.empty((2 * array.shape[0], 3 * array.shape[1]), array.dtype)[::-2, ::3]
    view[...] = array
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def subclass(array):
    class Mine(np.ndarray):
        pass

    return array.copy().view(Mine)


KINDS = [unaligned, strided, read_only, subclass, np.asfortranarray]


@pytest.mark.parametrize("kind", KINDS)
def test_input_of_every_kind(model, case, kind):
    x, state, y, after = case
    got, its = model.step(kind(x), state)
    np.testing.assert_array_equal(got, y)
    assert_same(its, after)
    mine, out = state.copy(), np.empty_like(y)
    model.step_into(kind(x), mine, out)
    np.testing.assert_array_equal(out, y)
    assert_same(mine, after)


def test_input_that_is_no_array(model, case):
    x, state, y, _ = case
    np.testing.assert_array_equal(model.step(x.tolist(), state)[0], y)


@pytest.mark.parametrize("kind", KINDS)
def test_step_reads_states_of_every_kind(model, case, kind):
    x, state, y, after = case
    given = stream.State(tuple(map(kind, state.h)), tuple(None if c is None else kind(c) for c in state.c))
    got, its = model.step(x, given)
    np.testing.assert_array_equal(got, y)
    assert_same(its, after)
    assert_same(given, state)
    assert all(a.flags.writeable and a.flags.c_contiguous and type(a) is np.ndarray for a in arrays(its))


@pytest.mark.parametrize("kind", [unaligned, strided, subclass])
def test_outputs_of_every_kind(model, case, kind):
    x, state, y, after = case
    out = kind(np.zeros_like(y))
    mine = state.copy()
    model.step_into(x, mine, out)
    np.testing.assert_array_equal(out, y)
    assert_same(mine, after)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize(
    ("kind", "text"),
    [(unaligned, "contiguous and aligned"), (strided, "contiguous and aligned"), (read_only, "writable")],
)
def test_states_that_cannot_be_written(model, case, kind, text, k):
    x, state, y, _ = case
    mine = state.copy()
    h, c = list(mine.h), list(mine.c)
    if k < 3:
        name, h[k] = rf"`state.h\[{k}\]`", kind(h[k])
    else:
        name, c[0] = r"`state.c\[0\]`", kind(c[0])
    mine, out = stream.State(tuple(h), tuple(c)), np.zeros_like(y)
    with pytest.raises(ArgumentError, match=f"{name} must be {text}"):
        model.step_into(x, mine, out)
    assert_same(mine, state)
    assert not out.any()


# Shared memory


@pytest.mark.parametrize("cells", [(), ("lstm",), ("gru",), ("lstm", "gru", "rnn")])
def test_output_fed_back(rng, cells):
    """Wide enough for a kernel to write some of y before it has read all of x, which it would not read ahead."""
    width = 20
    model = stream.Model(network(rng, width, width, None if cells else width, cells=cells))
    x = rng.normal(size=(7, width))
    state, mine, y = model.start(7), model.start(7), x.copy()
    for _ in range(3):
        x, state = model.step(x, state)
        model.step_into(y, mine, y)
        np.testing.assert_array_equal(y, x)
    assert_same(mine, state)


def test_input_from_the_state(rng):
    """x is the newest h of the layer on top: read before it is written."""
    model = stream.Model(network(rng, hidden=I))
    x, state = rng.normal(size=(2, I)), model.start(2)
    _, state = model.step(x, state)
    for k in range(3):
        y, after = model.step(state.h[k], state)
        mine, out = state.copy(), np.empty_like(y)
        model.step_into(mine.h[k], mine, out)
        np.testing.assert_array_equal(out, y)
        assert_same(mine, after)


def test_states_and_outputs_that_share_memory(rng, model):
    wide = stream.Model(network(rng, outputs=None))
    x = rng.normal(size=(2, I))
    for name, other, share in [
        ("state.h[1]", "state.h[2]", lambda s: stream.State((s.h[0], s.h[1], s.h[1]), s.c)),
        ("state.h[0]", "state.c[0]", lambda s: stream.State(s.h, (s.h[0], None, None))),
    ]:
        state = share(wide.start(2))
        with pytest.raises(ArgumentError) as caught:
            wide.step_into(x, state, np.empty((2, H)))
        assert str(caught.value) == f"`{name}` and `{other}` must not share memory."
        assert not any(a.any() for a in arrays(state))
    block = np.zeros(11 + 2 * H)
    state = wide.start(2)
    for start in (0, 1, 9):  # the same, a row further, the last element
        h = block[: 2 * H].reshape(2, H)
        out = block[start : start + 2 * H].reshape(2, H)
        with pytest.raises(ArgumentError, match=r"`state.h\[1\]` and `out` must not share memory"):
            wide.step_into(x, stream.State((state.h[0], h, state.h[2]), state.c), out)
        assert not block.any()
    out = block[2 * H : 4 * H].reshape(2, H)  # right behind
    wide.step_into(x, stream.State((state.h[0], h, state.h[2]), state.c), out)
    np.testing.assert_array_equal(out, wide.step(x, wide.start(2))[0])


def test_state_given_twice_may_be_read(model, rng):
    state = model.start(2)
    shared = stream.State((state.h[0],) * 3, state.c)
    x = rng.normal(size=(2, I))
    np.testing.assert_array_equal(model.step(x, shared)[0], model.step(x, state)[0])


# Refusals that only a step in place knows


@pytest.mark.parametrize(
    ("x", "h", "out", "error", "text"),
    [
        (np.zeros((1, 1, I)), None, np.zeros((1, 1, O)), ShapeError, r"`x` must have shape \(B, I\)"),
        (np.zeros((1, I)), None, np.zeros((1, 1, O)), ShapeError, r"`out` must have shape \(B, O\)"),
        (np.zeros((1, I)), None, [[0.0] * O], ArgumentError, "`out` must be a NumPy array, got list"),
        (np.zeros((1, I), ">f8"), None, np.zeros((1, O)), ShapeError, "`x` must have dtype float64, got >f8"),
        (np.zeros((1, I)), None, np.zeros((1, O), ">f8"), ShapeError, "`out` must have dtype float64"),
        (np.zeros((1, I)), np.zeros((1, H), ">f8"), np.zeros((1, O)), ShapeError, r"`state.h\[0\]` .* dtype"),
        (np.zeros((1, I)), np.zeros((1, H), "f4"), np.zeros((1, O)), ShapeError, r"`state.h\[0\]` .* dtype"),
        (np.zeros((1, I)), np.zeros((1, H + 1)), np.zeros((1, O)), ShapeError, r"`state.h\[0\]` .* \(1, 5\)"),
        (
            np.zeros((1, I)),
            [[0.0] * H],
            np.zeros((1, O)),
            ArgumentError,
            r"`state.h\[0\]` .* NumPy array, got list",
        ),
    ],
)
def test_what_does_not_fit(model, x, h, out, error, text):
    state = model.start()
    if h is not None:
        state = stream.State((h, *state.h[1:]), state.c)
    with pytest.raises(error, match=text):
        model.step_into(x, state, out)
    if h is not None or np.shape(x) != (1, I) or x.dtype != "float64":
        with pytest.raises(error, match=text):
            model.step(x, state)


def test_states_of_other_networks(model, rng):
    x, out, state = np.zeros((1, I)), np.zeros((1, O)), model.start()
    other = stream.Model(network(rng, cells=("gru", "lstm", "rnn"))).start()
    for given, text in [
        (other, r"`state.c\[0\]` must be an array for an LSTM and None for others"),
        (stream.State(state.h, (None,) * 3), r"`state.c\[0\]` must be"),
        (stream.State(state.h, (state.c[0],) * 3), r"`state.c\[1\]` must be"),
        (stream.State(state.h[:2], state.c[:2]), "`state` must be of this network"),
        (stream.State(state.h, state.c[:2]), "`state` must be of this network"),
        ((state.h, state.c), "`state` must be of this network"),
        (None, "`state` must be of this network"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            model.step(x, given)
        with pytest.raises(ArgumentError, match=text):
            model.step_into(x, given, out)
        with pytest.raises(ArgumentError, match=text):
            model.advance(x[None], given)


# A state is a value


def test_state_is_kept_and_sent(model, case, tmp_path):
    x, state, y, after = case
    sent = pickle.loads(pickle.dumps(state))
    np.savez(tmp_path / "state.npz", *arrays(state))
    with np.load(tmp_path / "state.npz") as file:
        kept = list(file.values())
    made = stream.State(tuple(kept[:3]), (kept[3], None, None))
    for given in (sent, made, state.copy()):
        got, its = model.step(x, given)
        np.testing.assert_array_equal(got, y)
        assert_same(its, after)


def test_new_states_are_new_memory(model, case):
    x, state, y, after = case
    model.step_into(x, state, np.empty_like(y))
    assert_same(state, after)
    assert not any(np.shares_memory(a, b) for a in arrays(state) for b in arrays(after))


# Threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_step_their_own_states(rng, dtype):
    """Small batches keep Python's lock, large ones let go of it."""
    model = stream.Model(network(rng, hidden=50, dtype=dtype))

    def streamed(x):
        state, out, pieces = model.start(x.shape[1]), np.empty((x.shape[1], O), dtype), []
        for t, row in enumerate(x):
            if t % 2:
                model.step_into(row, state, out)
                pieces.append(out.copy())
            else:
                y, state = model.step(row, state)
                pieces.append(y)
        return np.stack(pieces)

    inputs = [rng.normal(size=(60, B, I)).astype(dtype) for B in (64, 1, 100, 3, 64, 200)]
    expected = [model.run(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for y, run in zip(pool.map(streamed, inputs), expected, strict=True):
                np.testing.assert_array_equal(y, run)
