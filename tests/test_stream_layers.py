"""Layers beyond the plain ones, in `carousel.stream`: options, masks, merged directions, what stands between."""

import numpy as np
import pytest

from carousel import layout, reference
from carousel.errors import ArgumentError, ShapeError, UnsupportedError
from carousel.network import (
    Activation,
    Dense,
    Embedding,
    LastStep,
    Masking,
    Network,
    Normalization,
    Recurrent,
    Reverse,
    Weights,
    load,
    save,
)
from carousel.reference import Options
from carousel.stream import Model, State

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
T, B, I, H = 9, 4, 3, 5
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64; sums in another order


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def weights(rng, cell, inputs=I, coupled=False, peephole=False):
    G = GATES[cell] - coupled
    arrays = [rng.normal(size=size) for size in ((G * H, inputs), (G * H, H), G * H, G * H)]
    return Weights(*arrays, rng.normal(size=(G - 1, H)) if peephole else None)


CASES = {
    "lstm": ("lstm", {}),
    "gru": ("gru", {}),
    "gru before": ("gru", {"reset": "before"}),
    "rnn": ("rnn", {}),
    "relu, clip": ("rnn", {"activation": "relu", "clip": 0.5}),
    "lstm, clip": ("lstm", {"clip": 0.7}),
    "gru before, clip": ("gru", {"reset": "before", "clip": 0.7}),
    "peephole": ("lstm", {"peephole": True}),
    "coupled": ("lstm", {"coupled_gates": True}),
    "coupled peephole": ("lstm", {"coupled_gates": True, "peephole": True, "clip": 1.5}),
}


def layer_of(rng, name, directions=1, inputs=I, **more):
    cell, options = CASES[name]
    options = dict(options)
    peephole = options.pop("peephole", False)
    each = [
        weights(rng, cell, inputs, options.get("coupled_gates", False), peephole) for _ in range(directions)
    ]
    return Recurrent(cell, tuple(each), **options, **more)


def expected_direction(layer, w, x, alive, h, c, backwards):
    """Step by step with the reference: y (T, B, H), h, c."""
    plain = layout.Weights(w.W, w.R, w.b_W, w.b_R)
    own = {"gru": {"reset": layer.reset}, "rnn": {"activation": layer.activation}}.get(layer.cell, {})
    module = getattr(reference, layer.cell)
    options = Options(peephole=w.peephole, coupled=layer.coupled_gates, clip=layer.clip)
    y = np.zeros((*x.shape[:2], H))
    for t in range(T)[::-1] if backwards else range(T):
        state = (h, c) if layer.cell == "lstm" else (h,)
        new, _ = module.step(
            x[t], *([state] if layer.cell == "lstm" else state), plain, options=options, **own
        )
        new = new if layer.cell == "lstm" else (new, c)
        keep = alive[t][:, None]
        h, c = np.where(keep, new[0], h), np.where(keep, new[1], c)
        y[t] = np.where(keep, h, 0) if layer.zero_output_for_mask else h
    return y, h, c


@pytest.fixture
def x(rng):
    return rng.normal(size=(T, B, I))


def masked(x, rng, value):
    """`x` with steps of nothing but `value`: at the start, in the middle, at the end; one row of them only."""
    alive = rng.random(x.shape[:2]) > 0.4
    alive[:, 1] = False
    alive[0, 0] = alive[-1, 2] = False
    return np.where(alive[..., None], x, value), alive


def random_state(network, rng, batch=B):
    shape = [(batch, layer.hidden_size) for layer in network.recurrent for _ in layer.directions]
    cells = [layer.cell for layer in network.recurrent for _ in layer.directions]
    c = tuple(rng.normal(size=s) if cell == "lstm" else None for s, cell in zip(shape, cells, strict=True))
    return State(tuple(rng.normal(size=s) for s in shape), c)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("merge", ["one", "reverse", "concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_recurrent_layer_with_options(rng, x, name, mask, merge, zero):
    two = merge not in ("one", "reverse")
    layer = layer_of(
        rng,
        name,
        1 + two,
        reverse=merge == "reverse",
        merge=merge if two else "concat",
        zero_output_for_mask=zero,
    )
    x, alive = masked(x, rng, 0.25) if mask else (x, np.ones((T, B), bool))
    network = Network((Masking(0.25), layer) if mask else (layer,))
    state = random_state(network, rng)
    each = [
        expected_direction(
            layer,
            w,
            x,
            alive,
            state.h[d],
            np.zeros((B, H)) if state.c[d] is None else state.c[d],
            d == 1 or merge == "reverse",
        )
        for d, w in enumerate(layer.directions)
    ]
    expected = np.concatenate([y for y, *_ in each], -1)
    if merge == "sum":
        expected = each[0][0] + each[1][0]
    elif merge == "mul":
        expected = each[0][0] * each[1][0]
    elif merge == "ave":
        expected = (each[0][0] + each[1][0]) / 2
    y, after = Model(network).run_from(x, state)
    np.testing.assert_allclose(y, expected, **CLOSE)
    for d, (_, h, c) in enumerate(each):
        np.testing.assert_allclose(after.h[d], h, **CLOSE)
        if layer.cell == "lstm":
            np.testing.assert_allclose(after.c[d], c, **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_steps_give_what_the_whole_gives(rng, x, name):
    x, _ = masked(x, rng, -1.0)
    network = Network((Masking(-1.0), layer_of(rng, name), Activation("tanh"), layer_of(rng, name, inputs=H)))
    model = Model(network)
    whole, state = model.run(x), model.start(B)
    first, state = model.advance(x[:4], state)
    rest = []
    for t in range(4, T):
        y, state = model.step(x[t], state)
        rest.append(y)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    out = np.empty((B, H))
    state = model.start(B)
    for t in range(T):
        model.step_into(x[t], state, out)
    np.testing.assert_array_equal(out, whole[-1])


def test_without_sequences_each_direction_gives_its_own_last_state(rng, x):
    both = layer_of(rng, "lstm", 2)
    last = Recurrent("lstm", both.directions, return_sequences=False)
    y = Model(Network((both,))).run(x)
    found = Model(Network((last, Dense(rng.normal(size=(2, 2 * H)))))).run(x)
    assert found.shape == (B, 2)
    np.testing.assert_array_equal(
        Model(Network((last,))).run(x), np.concatenate([y[-1, :, :H], y[0, :, H:]], -1)
    )


def test_lengths_are_a_mask(rng, x):
    network = Network((layer_of(rng, "gru", 2), LastStep()))
    y, state = Model(network).run_from(x, Model(network).start(B), [9, 3, 0, 5])
    for row, steps in enumerate([9, 3, 0, 5]):
        if steps:
            alone = Model(Network((layer := network.layers[0],))).run(x[:steps, row : row + 1])
            np.testing.assert_allclose(y[row, :H], alone[-1, 0, :H], **CLOSE)
            np.testing.assert_allclose(state.h[1][row], alone[0, 0, H:], **CLOSE)
            assert layer.bidirectional
    assert not y[2].any()
    with pytest.raises(ArgumentError, match=r"`lengths` must be integers between 0 and T = 9"):
        Model(network).run_from(x, Model(network).start(B), [9, 10, 0, 5])


def test_lengths_hold_beside_masks_of_the_layers(rng, x):
    gru = layer_of(rng, "gru")
    table = Embedding(rng.normal(size=(7, I)), mask_zero=True)
    ids = rng.integers(1, 7, size=(T, B))
    for network, given in ((Network((Masking(-7.5), gru)), x), (Network((table, gru)), ids)):
        model = Model(network)
        _, state = model.run_from(given, model.start(B), [9, 3, 0, 5])
        for row, steps in enumerate([9, 3, 0, 5]):
            _, alone = model.run_from(given[:steps, row : row + 1], model.start(1))
            np.testing.assert_allclose(state.h[0][row], alone.h[0][0], **CLOSE)


def test_what_is_beyond_a_row_is_not_read(rng, x):
    """Whatever stands between, each row is as it would be alone: not even NaN beyond its end spoils it."""
    lengths = [9, 3, 1, 5]
    dense = Dense(rng.normal(size=(I, I)), rng.normal(size=I), activation="tanh")
    gru, both = layer_of(rng, "gru"), layer_of(rng, "lstm", 2)
    turned = layer_of(rng, "gru", reverse=True)
    padded = x.copy()
    for row, steps in enumerate(lengths):
        padded[steps:, row] = np.nan
    for layers in [
        (dense, LastStep()), (Reverse(), dense, LastStep()), (Reverse(), gru, LastStep()), (gru, Reverse(), LastStep()),
        (turned, Reverse()), (Reverse(), dense, both), (dense, Masking(0.3), Reverse(), gru, LastStep()),
        (Masking(-7.5), Reverse(), gru), (gru, LastStep(), Dense(rng.normal(size=(2, H)))),
    ]:  # fmt: skip
        model = Model(Network(layers))
        y, state = model.run_from(padded, model.start(B), lengths)
        for row, steps in enumerate(lengths):
            wanted, after = model.run_from(x[:steps, row : row + 1], model.start(1))
            found = y[:steps, row] if model.network.per_step else y[row]
            np.testing.assert_allclose(found, wanted[:, 0] if model.network.per_step else wanted[0], **CLOSE)
            for h, alone in zip(state.h, after.h, strict=True):
                np.testing.assert_allclose(h[row], alone[0], **CLOSE)


def test_a_last_step_after_ids_is_that_of_the_row(rng):
    ids = rng.integers(1, 7, size=(T, B))
    model = Model(Network((Embedding(rng.normal(size=(7, I))), LastStep())))
    y, _ = model.run_from(ids, model.start(B), [9, 3, 1, 5])
    np.testing.assert_array_equal(y, model.network.layers[0].W[ids[[8, 2, 0, 4], range(B)]])


def test_a_length_that_cannot_be_is_named_shortly(rng):
    model = Model(Network((layer_of(rng, "gru"),)))
    x = np.zeros((T, 5000, I))
    with pytest.raises(ArgumentError, match=r"between 0 and T = 9, got 0 to 10\.$"):
        model.run_from(x, model.start(5000), np.arange(5000) % 11)
    with pytest.raises(ArgumentError, match=r"between 0 and T = 9, got float64\.$"):
        model.run_from(x, model.start(5000), np.ones(5000))


def test_embedding_takes_ids_and_masks_zero(rng):
    table, lstm = rng.normal(size=(7, I)), layer_of(rng, "lstm")
    ids = rng.integers(0, 7, size=(T, B))
    plain = Model(Network((Embedding(table), lstm))).run(ids)
    np.testing.assert_array_equal(plain, Model(Network((lstm,))).run(table[ids]))
    model = Model(Network((Embedding(table, mask_zero=True), lstm, LastStep())))
    padded = np.concatenate([ids + (ids == 0), np.zeros((3, B), int)])
    np.testing.assert_allclose(model.run(padded), model.run(padded[:T]), **CLOSE)
    y, _ = model.step(padded[0], model.start(B))
    np.testing.assert_array_equal(y, model.run(padded[:1]))
    for bad, error, text in (
        (np.full((T, B), 7), ArgumentError, "ids from 0 to 6, got 7 to 7"),
        (np.full((T, B), -1), ArgumentError, "got -1 to -1"),
        (np.zeros((T, B)), ShapeError, "must be integers"),
        (np.zeros((T, B, 1), int), ShapeError, r"must have shape \(T, B\)"),
        (np.zeros((0, B), int), ShapeError, "at least one step"),
    ):
        with pytest.raises(error, match=text):
            model.run(bad)


def test_what_stands_between(rng, x):
    mean, variance = rng.normal(size=I), rng.random(size=I)
    variance[0] = 0
    y = Model(Network((Normalization(mean, variance),))).run(x)
    np.testing.assert_allclose(
        y[..., 1:], ((x - mean) / np.sqrt(np.maximum(variance, 1e-30)))[..., 1:], rtol=1e-12
    )
    np.testing.assert_allclose(y[..., 0], (x[..., 0] - mean[0]) / 1e-7, rtol=1e-12)
    back = Model(Network((Normalization(mean, variance), Normalization(mean, variance, invert=True)))).run(x)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    dense = Dense(rng.normal(size=(4, I)))
    a = x @ dense.W.T
    for function, expected in {
        "sigmoid": 1 / (1 + np.exp(-a)),
        "tanh": np.tanh(a),
        "relu": np.maximum(a, 0),
        "softmax": np.exp(a) / np.exp(a).sum(-1, keepdims=True),
    }.items():
        np.testing.assert_allclose(Model(Network((dense, Activation(function)))).run(x), expected, **CLOSE)
    np.testing.assert_array_equal(
        Model(Network((dense, Reverse()))).run(x), Model(Network((dense,))).run(x)[::-1]
    )


def test_softmax_of_large_numbers():
    y = Model(Network((Dense(np.eye(2)), Activation("softmax")))).run(np.array([[[1e4, 0.0]]]))
    assert y.tolist() == [[[1, 0]]]


@pytest.mark.parametrize("layers", [(Reverse(),), (), "reverse"])
def test_who_reads_backwards_takes_no_steps(rng, layers):
    reverse = layers == "reverse" or not layers
    network = Network((layer_of(rng, "gru", reverse=reverse), *(layers if layers and not reverse else ())))
    model = Model(network)
    with pytest.raises(UnsupportedError, match="reads backwards"):
        model.step(np.zeros((B, I)), model.start(B))


def test_no_steps(rng):
    network = Network((Masking(0.0), layer_of(rng, "peephole")))
    assert Model(network).run(np.zeros((0, B, I))).shape == (0, B, H)
    assert Model(network).run(np.zeros((T, 0, I))).shape == (T, 0, H)


def test_products_in_bfloat16(rng, x):
    def narrow(w):
        return Weights(
            *(None if a is None else a.astype(np.float32) for a in (w.W, w.R, w.b_W, w.b_R, w.peephole))
        )

    layer = layer_of(rng, "peephole")
    network = Network((Recurrent("lstm", tuple(map(narrow, layer.directions))),))
    full = Model(network).run(x.astype(np.float32))
    low = Model(network, products="bfloat16").run(x.astype(np.float32))
    assert 1e-5 < np.abs(low - full).max() < 0.1


# In a file


def everything(rng):
    return Network(
        (
            Normalization(rng.normal(size=I), rng.random(I)),
            Masking(0.5),
            layer_of(rng, "coupled peephole", 2, merge="ave", zero_output_for_mask=True),
            layer_of(rng, "gru", reverse=True, inputs=H),
            Reverse(),
            layer_of(rng, "rnn", 2, inputs=H, return_sequences=False),
            Dense(rng.normal(size=(2, 2 * H))),
            Activation("softmax"),
        )
    )


def test_a_file_holds_all_of_it(rng, x, tmp_path):
    network = everything(rng)
    save(network, tmp_path / "model")
    assert load(tmp_path / "model") == network
    assert b'{\\"format\\":2,' in (tmp_path / "model").read_bytes()
    embedded = Network((Embedding(rng.normal(size=(4, 2)), mask_zero=True), LastStep()))
    save(embedded, tmp_path / "model")
    assert load(tmp_path / "model") == embedded
    np.testing.assert_array_equal(
        Model(load(tmp_path / "model")).run(np.zeros((2, 1), int)), embedded.layers[0].W[:1]
    )


def test_what_a_format_of_1_can_hold_has_format_1(rng, tmp_path):
    save(Network((layer_of(rng, "gru before", 2), LastStep())), tmp_path / "model")
    assert b'{\\"format\\":1,' in (tmp_path / "model").read_bytes()


def test_a_network_prints_its_layers(rng):
    assert (
        str(everything(rng)).splitlines()[3]
        == "  2  LSTM, bidirectional ave, peephole, coupled_gates, clip 1.5   3 -> 5   320"
    )
    assert everything(rng).layers[1:2] == (Masking(0.5),)
    assert repr(Embedding(np.ones((3, 2)), mask_zero=True)) == "Embedding(3 -> 2, mask zero)"
    assert repr(Normalization(np.ones(2), np.ones(2))) == "Normalization(2)"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda r: layer_of(r, "lstm", merge="sum"), ArgumentError, "`merge` = 'sum' needs two directions"),
        (lambda r: layer_of(r, "lstm", 2, reverse=True), ArgumentError, "`reverse` is for one direction"),
        (lambda r: layer_of(r, "lstm", merge="max"), ArgumentError, "`merge` must be"),
        (lambda r: layer_of(r, "lstm", clip=0.0), ArgumentError, "`clip` must be above 0"),
        (lambda r: layer_of(r, "lstm", clip=True), ArgumentError, "`clip` must be above 0"),
        (lambda r: layer_of(r, "lstm", reverse=1), ArgumentError, "`reverse` must be True or False"),
        (lambda r: Recurrent("gru", (weights(r, "gru"),), coupled_gates=True), ArgumentError, "cell 'lstm'"),
        (lambda r: Recurrent("gru", (weights(r, "gru", peephole=True),)), ArgumentError, "`peephole` is an option"),
        (lambda r: Recurrent("lstm", (weights(r, "gru"),)), ShapeError, r"\(4H, H\)"),
        (lambda r: Recurrent("lstm", (weights(r, "lstm"), weights(r, "lstm", peephole=True))), ArgumentError, "both"),
        (lambda r: Weights(np.ones((4, 1)), np.ones((4, 1)), peephole=np.ones((2, 1))), ShapeError, "`peephole`"),
        (lambda r: Masking(np.nan), ArgumentError, "finite"),
        (lambda r: Activation("elu"), ArgumentError, "got 'elu'"),
        (lambda r: Normalization(np.ones(2), np.array([1, -1.0])), ArgumentError, "at least 0, got -1"),
        (lambda r: Network((layer_of(r, "lstm"), Embedding(np.ones((H, 2))))), ArgumentError, "only the first"),
        (
            lambda r: Network((layer_of(r, "lstm", return_sequences=False), Masking(0.0))),
            ArgumentError,
            "left no steps",
        ),
        (lambda r: Network((Masking(0.0),)), ArgumentError, "at least one"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(rng, make, error, text):
    with pytest.raises(error, match=text):
        make(rng)
