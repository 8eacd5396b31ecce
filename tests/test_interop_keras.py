"""Keras files to Network and back: real Keras agrees, hostile files are refused, and nothing is approximated."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from carousel import layout
from carousel.errors import ArgumentError, FormatError, UnsupportedError
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
)
from carousel.stream import Model

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'carousel-rnn[keras]'")
from carousel.interop import _keras_equations, _keras_layers  # noqa: E402
from carousel.interop._keras_equations import evaluate  # noqa: E402
from carousel.interop._keras_file import layers_of  # noqa: E402
from carousel.interop.keras import load, read, save  # noqa: E402

DATA = Path(__file__).parent / "data"
SINE, MASKED = DATA / "keras-sine.keras", DATA / "keras-masked.h5"  # written by Keras 3.15.1

# What Keras 3.15.1 on torch predicted, float32.
SINE_SAYS = [
    -0.18850394,
    -1.09167635,
    0.41684645,
    1.01077199,
    -0.57207209,
    -0.89365679,
    0.80177611,
    0.6431331,
    -0.88377804,
    -0.48099679,
]
MASKED_SAYS = [0.06270458, 0.06604432]


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def drawn(rng, cell, inputs=3, H=4, directions=1, **options):
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    return Recurrent(
        cell,
        tuple(
            Weights(
                *(
                    rng.normal(size=size).astype(np.float32)
                    for size in ((G * H, inputs), (G * H, H), G * H, G * H)
                )
            )
            for _ in range(directions)
        ),
        **options,
    )


def dense(rng, I, O=2, activation="identity"):
    return Dense(
        rng.normal(size=(O, I)).astype(np.float32), rng.normal(size=O).astype(np.float32), activation
    )


# Real Keras


def sine_windows():
    wave = np.sin(np.linspace(0, 20, 120))
    return np.stack([wave[k : k + 20] for k in range(0, 99, 10)]).T[..., None].astype(np.float32)


def test_the_tutorials_model_predicts_what_keras_predicted():
    network = load(SINE)
    y = Model(network).run(sine_windows())
    assert np.abs(y[:, 0] - SINE_SAYS).max() < 1e-6


def test_masks_and_merged_directions_of_an_older_file():
    x = np.random.default_rng(1).normal(size=(2, 5, 2)).astype(np.float32)
    x[0, 3:] = x[1, 1] = 0
    assert np.abs(Model(load(MASKED)).run(x.swapaxes(0, 1))[:, 0] - MASKED_SAYS).max() < 1e-6


@pytest.fixture(scope="session")
def tried_in(tmp_path_factory):
    """The folder of what real Keras says: one process makes, reads, writes and opens all models."""
    backend = next((name for name in ("torch", "jax", "tensorflow") if find_spec(name)), None)
    if find_spec("keras") is None or backend is None:
        pytest.skip("Keras is not installed with a backend: pip install keras, and torch or jax")
    directory = tmp_path_factory.mktemp("keras")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "keras_models.py"), str(directory)],
        env={**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def tried(tried_in):
    return json.loads((tried_in / "found.json").read_text())


def test_a_model_that_is_there_is_compared_with_itself(tried_in):
    told = json.loads((tried_in / "refused.json").read_text())
    assert "in Keras, the model computes something else" in told["own function"]


def test_keras_agrees_on_every_model(tried):
    assert len(tried) > 80
    errors = [f"{name}: {found['error']}" for name, found in tried.items() if "error" in found]
    assert not errors, "\n".join(errors)
    for name, found in tried.items():
        for way in (
            "read.keras",
            "in_memory",
            "written",
            "largest.keras",
            *({"read.h5", "largest.h5"} & set(found)),
        ):
            assert found[way] < 1e-6, (name, way, found)
        assert "keras 3" in found["check.keras"]
    assert sum("read.h5" in found for found in tried.values()) > 50


def test_what_is_no_model_is_refused(tmp_path):
    for nothing in (None, 3, np.ones(3)):
        with pytest.raises(ArgumentError, match="`path` must be a path or a model of Keras, got"):
            load(nothing)
        with pytest.raises(
            ArgumentError, match="`model` must be a Network, a torch module or a model of Keras, got"
        ):
            save(nothing, tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["list", "Sequential", "Model"])
def test_files_of_keras_2_are_read(rng, tmp_path, form):
    """Names end in `:0`, shapes are `batch_input_shape`, a GRU does not say `reset_after`, calls are lists."""
    gru = drawn(rng, "gru", reset="before", inputs=2)
    head = dense(rng, 4)
    arrays = dict(
        zip(
            ("kernel", "recurrent_kernel", "bias"),
            layout.to_keras("gru", *weights_of(gru), reset="before"),
            strict=True,
        )
    )
    names = {"name": "gru_1", "batch_input_shape": [None, None, 2], "dtype": "float32"}
    layers = [
        {"class_name": "GRU", "config": {**names, "units": 4, "return_sequences": False}},
        {"class_name": "Dense", "config": {"name": "dense_1", "units": 2, "activation": "linear"}},
    ]
    if form == "Model":
        start = {"class_name": "InputLayer", "config": {**names, "name": "input_1"}, "inbound_nodes": []}
        layers[0]["inbound_nodes"] = [[["input_1", 0, 0, {}]]]
        layers[1]["inbound_nodes"] = [[["gru_1", 0, 0, {}]]]
        inner = {
            "layers": [start, *layers],
            "input_layers": [["input_1", 0, 0]],
            "output_layers": [["dense_1", 0, 0]],
        }
    else:
        inner = layers if form == "list" else {"name": "s", "layers": layers}
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        kind = "Model" if form == "Model" else "Sequential"
        file.attrs["model_config"] = json.dumps({"class_name": kind, "config": inner}).encode()
        for layer, held in (("gru_1", arrays), ("dense_1", {"kernel": head.W.T, "bias": head.b})):
            group = file.create_group(f"model_weights/{layer}")
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in held]
            for name, array in held.items():
                group.create_dataset(f"{layer}/{name}:0", data=array)
    network = load(path)
    x = rng.normal(size=(5, 2, 2)).astype(np.float32)
    expected = Model(Network((gru, LastStep(), head))).run(x)
    np.testing.assert_allclose(Model(network).run(x), expected, rtol=0, atol=1e-6)


def weights_of(layer):
    (w,) = layer.directions
    return w.W, w.R, w.b_W, w.b_R


# The trial


def test_the_trial_notices_a_wrong_gate(monkeypatch, rng, tmp_path):
    path = tmp_path / "m.keras"
    report = save(Network((drawn(rng, "gru"), LastStep())), path)
    assert report.largest < 1e-6
    assert report.check == "Keras's equations in NumPy, over the arrays of the file"
    monkeypatch.setitem(_keras_layers.layout.ORDERS["gru"], "keras", "rzn")
    before = path.read_bytes()
    with pytest.raises(
        UnsupportedError, match=r"computes something else than the network made of it: .* off by"
    ):
        load(path)
    monkeypatch.setitem(_keras_layers.layout.ORDERS["gru"], "keras", "znr")
    with pytest.raises(UnsupportedError, match="computes something else"):
        save(Network((drawn(rng, "gru"), LastStep(), dense(rng, 4))), path)
    assert path.read_bytes() == before


def test_the_report_says_what_became_of_every_layer():
    report = read(MASKED)
    assert report.layers[1:3] == (
        ("masking (Masking)", "Masking, 0"),
        ("bidirectional (Bidirectional)", "GRU, bidirectional ave"),
    )
    assert report.largest < 1e-6


# There and back


def networks(rng):
    both = {"directions": 2}
    return {
        "plain": [drawn(rng, "lstm"), drawn(rng, "gru", 4), LastStep(), dense(rng, 4, activation="tanh")],
        "late last step": [
            drawn(rng, "gru", reset="before"),
            dense(rng, 4),
            Activation("softmax"),
            LastStep(),
        ],
        "relu": [drawn(rng, "rnn", activation="relu"), Activation("relu")],
        "merged": [
            drawn(rng, "lstm", merge="mul", **both),
            drawn(rng, "gru", 4, return_sequences=False, **both),
        ],
        "turned": [
            drawn(rng, "lstm", reverse=True),
            Reverse(),
            drawn(rng, "rnn", 4, reverse=True, return_sequences=False),
        ],
        "masked": [
            Normalization(np.ones(3, np.float32), np.array([4, 9, 0], np.float32)),
            Masking(0.25),
            drawn(rng, "gru", zero_output_for_mask=True, **both),
            drawn(rng, "lstm", 8, zero_output_for_mask=True),
            Normalization(np.ones(4, np.float32), np.full(4, 2, np.float32), invert=True),
        ],
        "masked behind": [
            drawn(rng, "lstm", **both),
            drawn(rng, "gru", 8, reverse=True),
            Reverse(),
            Masking(0.0),
            drawn(rng, "lstm", 4),
            LastStep(),
        ],
        "ids": [
            Embedding(rng.normal(size=(5, 3)).astype(np.float32), mask_zero=True),
            drawn(rng, "lstm"),
            LastStep(),
        ],
    }


@pytest.mark.parametrize("name", networks(np.random.default_rng(0)))
def test_there_and_back(rng, tmp_path, name):
    network, path = Network(tuple(networks(rng)[name])), tmp_path / "m.keras"
    assert save(network, path).largest < 1e-5
    first = path.read_bytes()
    again = load(path)
    x = rng.normal(size=(6, 2, 3)).astype(np.float32)
    x[4:, 1] = 0.25
    if network.takes_ids:
        x = rng.integers(0, 5, size=(6, 2))
    np.testing.assert_allclose(Model(again).run(x), Model(network).run(x), rtol=0, atol=1e-5)
    save(again, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda r: [drawn(r, "lstm", clip=1.0)], "Keras's LSTM has no `clip`"),
        (
            lambda r: [drawn(r, "lstm", directions=2), LastStep()],
            "no last step of .*`return_sequences` = False",
        ),
        (lambda r: [drawn(r, "lstm", reverse=True)], "in the order of time"),
        (lambda r: [dense(r, 3), Reverse()], "no layer for Reverse"),
        (lambda r: [LastStep(), dense(r, 3)], "no layer for LastStep"),
        (lambda r: [Masking(0.0), drawn(r, "gru", directions=2)], "`zero_output_for_mask` = True"),
        (
            lambda r: [Masking(0.0), drawn(r, "gru"), dense(r, 4), drawn(r, "lstm", 2, directions=2)],
            "`zero_output_for_mask` = True",
        ),
        (
            lambda r: [Masking(0.0), drawn(r, "gru", reverse=True), Reverse()],
            "followed by a Reverse, without masks",
        ),
    ],
)
def test_what_keras_cannot_be_is_refused_and_nothing_written(rng, tmp_path, make, text):
    with pytest.raises(UnsupportedError, match=text):
        save(Network(tuple(make(rng))), tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(rng, tmp_path):
    with pytest.raises(ArgumentError, match=r"must end in \.keras"):
        save(Network((drawn(rng, "gru"),)), tmp_path / "m.h5")


# What is not supported


def archive(path, change=lambda config: None, **members):
    """The kept archive at `path` with its configuration changed, and other members."""
    with zipfile.ZipFile(SINE) as source:
        content = {name: source.read(name) for name in source.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content |= {"config.json": json.dumps(config).encode(), **members}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in content.items():
            if data is not None:
                target.writestr(name, data)
    return path


def layer(config, k):
    return config["config"]["layers"][k]


def setting(k, **values):
    return lambda config: layer(config, k)["config"].update(values)


def inserted(kind, **config):
    def change(tree):
        entry = {"module": "keras.layers", "class_name": kind, "config": {"name": "extra", **config}}
        tree["config"]["layers"].insert(1, {**entry, "registered_name": None})

    return change


def test_an_input_of_other_features_than_the_weights_is_refused(tmp_path):
    path = archive(tmp_path / "m.keras", setting(0, batch_shape=[None, None, 7]))
    refused(path, FormatError, "its input has 7 features, but its weights are of 1")


def nested(config):
    """The LSTM within a model of its own, twice deep, as Keras keeps its group."""
    layers = config["config"]["layers"]
    for name in ("inner", "outer"):
        layers[1] = {
            "module": "keras", "class_name": "Sequential", "registered_name": None,
            "config": {"name": name, "layers": [layers[0], layers[1]]},
        }  # fmt: skip


def moved(where):
    """The weights, those of the LSTM at `where`."""
    with zipfile.ZipFile(SINE) as source:
        content = io.BytesIO(source.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        file.move("layers/lstm", where)
    return content.getvalue()


def test_a_sequential_within_a_model_is_its_layers(tmp_path):
    where = "layers/sequential/layers/sequential/layers/lstm"
    report = read(archive(tmp_path / "m.keras", nested, **{"model.weights.h5": moved(where)}))
    assert report.network == load(SINE)
    assert report.layers[1] == ("outer/inner/lstm (LSTM)", "LSTM + LastStep")

    def deep(config):
        for _ in range(50):
            nested(config)

    refused(archive(tmp_path / "d.keras", deep), FormatError, "within one another more than 20 deep")


def test_a_sequential_within_an_older_file_is_refused(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(MASKED.read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        nested(config)
        file.attrs["model_config"] = json.dumps(config)
    refused(path, UnsupportedError, "read from .keras only")


def test_names_of_a_file_reach_no_terminal(tmp_path):
    """What a terminal would obey, in the name of a layer and in that of a class."""
    evil = "evil\x1b[2J\x1b]0;owned\x07\nmodel: \u202e"
    (_, _), (name, _), *_ = read(archive(tmp_path / "m.keras", setting(1, name=evil))).layers
    assert name == r"evil\x1b[2J\x1b]0;owned\x07\nmodel: \u202e (LSTM)"
    refused(
        archive(tmp_path / "m.keras", lambda c: layer(c, 1).update(class_name=evil)),
        UnsupportedError,
        r"\(evil\\x1b",
    )


UNSUPPORTED = {
    "Conv1D": (
        inserted("Conv1D"),
        r"layer 'extra' \(Conv1D\) is not supported; InputLayer, LSTM, GRU, .*are",
    ),
    "Lambda": (
        inserted("Lambda", function=["4wEAAA==", None, None]),
        r"layer 'extra' \(Lambda\) is not supported",
    ),
    "own class": (
        lambda c: layer(c, 1).update(module="mine", registered_name="mine>LSTM"),
        "a class of its own",
    ),
    "own module": (lambda c: layer(c, 1).update(module="mine"), "a class of its own, 'mine'"),
    "subclassed": (lambda c: c.update(class_name="MyModel"), "the model is a 'MyModel'"),
    "activation": (setting(1, activation="elu"), r"\(LSTM\) has `activation` = 'elu'; 'tanh' is supported"),
    "gates": (setting(1, recurrent_activation="hard_sigmoid"), "`recurrent_activation` = 'hard_sigmoid'"),
    "dense": (setting(2, activation="gelu"), r"layer 'dense.*' \(Dense\) has `activation` = 'gelu'"),
    "stateful": (setting(1, stateful=True), "has `stateful` = True"),
    "state": (setting(1, return_state=True), "has `return_state` = True"),
    "half": (setting(1, dtype="mixed_float16"), "computes in 'mixed_float16'; float32 and float64"),
    "quantized": (setting(2, quantization_config={"a": 1}), "`quantization_config`"),
    "four axes": (setting(0, batch_shape=[None, None, 3, 1]), "takes 4 axes"),
    "no sequence": (setting(0, batch_shape=[None, 1]), "takes no sequence"),
    "zero output": (
        lambda c: (inserted("Masking", mask_value=0.0)(c), setting(2, zero_output_for_mask=True)(c)),
        "`zero_output_for_mask` = True without sequences",
    ),
    "backwards": (
        lambda c: (
            inserted("Masking", mask_value=0.0)(c),
            setting(2, go_backwards=True, return_sequences=True)(c),
        ),
        "Keras turns the outputs, but not the mask",
    ),
    "mask value": (inserted("Masking", mask_value={"class_name": "x"}), "a number is supported"),
    "axis": (inserted("Normalization", axis=[1], mean=[0.0], variance=[1.0]), r"over `axis` = \[1\]"),
    "layer as activation": (
        setting(2, activation={"class_name": "ReLU", "config": {"name": "relu", "max_value": 0.1}}),
        r"\(Dense\) has `activation` = 'a layer ReLU', which is not supported",
    ),
    "unrolled zeros": (
        lambda c: (
            inserted("Masking", mask_value=0.0)(c),
            setting(2, unroll=True, return_sequences=True, zero_output_for_mask=True)(c),
        ),
        "`unroll` = True and gives zeros for masked steps, .* `unroll` = False it has the same weights",
    ),
    "distributed": (
        inserted("TimeDistributed", layer={"class_name": "Conv1D", "config": {"name": "c"}}),
        "of Conv1D is not supported",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(tmp_path, name):
    change, text = UNSUPPORTED[name]
    refused(archive(tmp_path / "m.keras", change), UnsupportedError, text)


def changed(network, path, change, **metadata):
    """The file of a network, its configuration changed."""
    save(network, path)
    with zipfile.ZipFile(path) as source:
        content = {name: source.read(name) for name in source.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    content |= {"metadata.json": json.dumps(metadata).encode()} if metadata else {}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in content.items():
            target.writestr(name, data)
    return path


def test_outputs_of_two_directions_side_by_side_are_refused(rng, tmp_path):
    network = Network((drawn(rng, "gru", 3, directions=2),))
    path = changed(network, tmp_path / "m.keras", setting(1, merge_mode=None))
    refused(path, UnsupportedError, "`merge_mode` = None, which gives two outputs")


@pytest.mark.parametrize("sequences", [False, True])
def test_unrolled_directions_that_give_zeros_for_masked_steps_are_refused(rng, tmp_path, sequences):
    """Of those, Keras's backends give one or the other; of last states, all give the same."""
    two = drawn(rng, "lstm", directions=2, return_sequences=sequences, zero_output_for_mask=sequences)

    def unroll(config):
        (entry,) = (e for e in config["config"]["layers"] if e["class_name"] == "Bidirectional")
        for name in ("layer", "backward_layer"):
            if name in entry["config"]:
                entry["config"][name]["config"]["unroll"] = True

    path = changed(Network((Masking(0.0), two)), tmp_path / "m.keras", unroll)
    if sequences:
        refused(path, UnsupportedError, r"\(Bidirectional\) has `unroll` = True and gives zeros")
    else:
        assert not load(path).per_step


@pytest.mark.parametrize("version", ["2.15.0", "3.0.0"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_mask_that_ends_in_keras_2(rng, tmp_path, version, behind):
    """At a Normalization; a recurrent layer behind it reads every step there."""
    normalization = Normalization(np.ones(3, np.float32), np.ones(3, np.float32))
    network = Network((Masking(0.0), normalization, drawn(rng, "gru") if behind else dense(rng, 3)))
    path = changed(network, tmp_path / "m.keras", lambda config: None, keras_version=version)
    if version.startswith("2.") and behind:
        refused(
            path, UnsupportedError, r"a mask that layer 'normalization.* \(Normalization\) let end in Keras 2"
        )
    else:
        assert load(path) == network


def test_the_version_of_an_older_file_is_read(tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(MASKED.read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        identity = {"module": "keras.layers", "class_name": "Identity", "config": {"name": "same"}}
        config["config"]["layers"].insert(2, {**identity, "registered_name": None})
        file.attrs["model_config"] = json.dumps(config)
        assert file.attrs["keras_version"].startswith("3.")
    assert load(path) == load(MASKED)
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "2.15.0"
    refused(path, UnsupportedError, r"a mask that layer 'same' \(Identity\) let end in Keras 2")
    layers = layers_of(io.BytesIO(path.read_bytes()))
    x = np.ones((1, 5, 2), np.float32)
    x[0, 3:] = 0
    states = load(MASKED).recurrent
    zeros = [(np.zeros((1, layer.hidden_size)),) * 2 for layer in states for _ in layer.directions]
    other = [replace(layer, ends_mask=False) for layer in layers]
    assert np.abs(evaluate(layers, x, zeros) - evaluate(other, x, zeros)).max() > 1e-4


def test_a_mask_value_that_float32_does_not_hold(rng, tmp_path):
    """A float64 layer compares with it as it is."""
    gru = drawn(rng, "gru")
    (w,) = gru.directions
    exact = Recurrent("gru", (Weights(*(a.astype(np.float64) for a in (w.W, w.R, w.b_W, w.b_R))),))
    for layer_of, allowed in ((gru, 1e-6), (exact, 1e-12)):
        network = Network((Masking(0.1), layer_of))
        assert save(network, tmp_path / "m.keras").largest < allowed
        assert load(tmp_path / "m.keras") == network
    unsaid = {"class_name": "DTypePolicy", "config": None}
    path = changed(
        Network((Masking(0.1), gru)),
        tmp_path / "m.keras",
        lambda c: layer(c, 1)["config"].update(dtype=unsaid),
    )
    assert load(path).masks


def test_an_operation_of_keras_2_is_refused_as_what_it_is(tmp_path):
    """As `h[:, -1]` of a functional model is kept there."""

    def change(config, tensor):
        entry = {"class_name": "SlicingOpLambda", "config": {"name": "item"}, "name": "item"}
        entry["inbound_nodes"] = [["lstm", 0, 0, {"slice_spec": {"class_name": "__tuple__"}}]]
        config["layers"].insert(2, entry)

    path = functional(tmp_path / "m.keras", change)
    refused(
        path, UnsupportedError, r"layer 'item' \(SlicingOpLambda\) is an operation of Keras 2, which is not"
    )


@pytest.mark.parametrize("without", ["forward_layer", "backward_layer"])
def test_one_direction_without_biases_in_an_older_file(tmp_path, without):
    """Its weights are one list, forward before backward."""
    path = tmp_path / "m.h5"
    path.write_bytes(MASKED.read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        (entry,) = (e for e in config["config"]["layers"] if e["class_name"] == "Bidirectional")
        entry["config"][{"forward_layer": "layer"}.get(without, without)]["config"]["use_bias"] = False
        group = file[f"model_weights/{entry['config']['name']}"]
        names = [str(n) if isinstance(n, str) else n.decode() for n in group.attrs["weight_names"]]
        k = {"forward_layer": 2, "backward_layer": 5}[without]
        group.attrs["weight_names"] = [name for name in names if name != names[k]]
        file.attrs["model_config"] = json.dumps(config)
    before = next(layer for layer in load(MASKED).layers if isinstance(layer, Recurrent))
    after = next(layer for layer in load(path).layers if isinstance(layer, Recurrent))
    forward, backward = after.directions
    assert ((forward.b_W == 0).all(), (backward.b_W == 0).all()) == (k == 2, k == 5)
    assert (backward.W == before.directions[1].W).all()


def refused(path, error, text):
    """One sentence with the path, and no memory to speak of."""
    tracemalloc.start()
    with pytest.raises(error, match=text) as caught:
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert peak < 32 * 2**20


# Functional models


def functional(path, change):
    """The kept model as a functional one, changed."""

    def tensor(name):
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    def turn(config):
        config["class_name"] = "Functional"
        before = None
        for entry in config["config"]["layers"]:
            entry["name"] = entry["config"]["name"]
            entry["inbound_nodes"] = [] if before is None else [{"args": [tensor(before)], "kwargs": {}}]
            before = entry["name"]
        first = config["config"]["layers"][0]["name"]
        config["config"] |= {"input_layers": [first, 0, 0], "output_layers": [before, 0, 0]}
        change(config["config"], tensor)

    return archive(path, turn)


def test_a_functional_model_is_read(tmp_path):
    assert load(functional(tmp_path / "m.keras", lambda c, t: None)) == load(SINE)


def taking(*index):
    """The last step of a sequence, taken by an index between the LSTM and the Dense."""

    def change(config, tensor):
        config["layers"][1]["config"]["return_sequences"] = True
        entry = {
            "module": "keras.src.ops.numpy", "class_name": "GetItem", "config": {"name": "item"}, "name": "item",
            "registered_name": "GetItem", "inbound_nodes": [{"args": [tensor("lstm"), [*index]], "kwargs": {}}],
        }  # fmt: skip
        config["layers"].insert(2, entry)
        config["layers"][3]["inbound_nodes"][0]["args"] = [tensor("item")]

    return change


def cut(start=None, stop=None, step=None):
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


@pytest.mark.parametrize("index", [(cut(), -1), (cut(), -1, cut())])
def test_the_last_step_taken_by_an_index(tmp_path, index):
    report = read(functional(tmp_path / "m.keras", taking(*index)))
    assert report.network == load(SINE)
    assert report.layers[2] == ("item (GetItem)", "LastStep")


GRAPHS = {
    "the first step": (
        taking(cut(), 0),
        r"'item' \(GetItem\) takes \[:, 0\]; \[:, -1, :\], the last step, is supported",
    ),
    "two steps": (taking(cut(), cut(-2), cut(step=2)), r"takes \[:, -2:, ::2\]"),
    "an ellipsis": (taking({"class_name": "__ellipsis__", "config": {}}, -1), r"takes \[..., -1\]"),
    "residual": (
        lambda c, t: c["layers"][2]["inbound_nodes"][0].update(args=[[t("lstm"), t("input_layer_1")]]),
        r"layer 'dense' \(Dense\) joins 2 tensors; only one line of layers is supported",
    ),
    "branch": (
        lambda c, t: c["layers"].append(
            {**c["layers"][2], "name": "b", "config": {**c["layers"][2]["config"], "name": "b"}}
        ),
        "only one line of layers",
    ),
    "two outputs": (
        lambda c, t: c.update(output_layers=[["a", 0, 0], ["b", 0, 0]]),
        "one of its output layers",
    ),
    "no input": (lambda c, t: c.update(input_layers=[]), "one of its input layers"),
    "shared": (lambda c, t: c["layers"][1]["inbound_nodes"].append({}), "is called 2 times"),
    "merge": (
        lambda c, t: c["layers"][2]["inbound_nodes"][0]["args"].append(t("lstm")),
        "joins 2 tensors",
    ),
    "state": (
        lambda c, t: c["layers"][1]["inbound_nodes"][0]["kwargs"].update(initial_state=t("x")),
        "`initial_state`",
    ),
    "mask": (
        lambda c, t: c["layers"][1]["inbound_nodes"][0]["kwargs"].update(mask=t("x")),
        "called with `mask`",
    ),
    "middle": (lambda c, t: c.update(output_layers=[c["layers"][1]["name"], 0, 0]), "not one line"),
    "circle": (
        lambda c, t: c["layers"][1]["inbound_nodes"][0].update(args=[t(c["layers"][2]["name"])]),
        "line",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_no_line_are_refused(tmp_path, name):
    change, text = GRAPHS[name]
    refused(functional(tmp_path / "m.keras", change), UnsupportedError, text)


# Hostile files


def weights_file(**changes):
    """The weights of the kept model with some of the LSTM's replaced; a function makes its own link or dataset."""
    with zipfile.ZipFile(SINE) as source:
        sink = io.BytesIO(source.read("model.weights.h5"))
    with h5py.File(sink, "r+") as file:
        group = file["layers/lstm/cell/vars"]
        for name, make in changes.items():
            del group[name[1:]]
            make(group, name[1:])
    return sink.getvalue()


def virtual(group, name):
    layout = h5py.VirtualLayout(shape=(1, 200), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", shape=(1, 200))
    group.create_virtual_dataset(name, layout)


def bomb(group, name):
    group.create_dataset(name, shape=(2**20, 2**20), dtype="f4", chunks=(1, 2**10), compression="gzip")


def zeros(group, name):
    group.create_dataset(name, data=np.zeros((2**11, 2**11), "f4"), compression="gzip", chunks=(2**11, 2**11))


def chunk(group, name):
    group.create_dataset(
        name, shape=(1, 200), maxshape=(None, None), chunks=(2**12, 2**12), dtype="f4", compression="gzip"
    )
    group[name][:] = 1


WEIGHTS = {
    "soft link": (
        {"_0": lambda g, n: g.__setitem__(n, h5py.SoftLink("/layers/lstm/cell/vars/1"))},
        "behind a SoftLink",
    ),
    "external link": (
        {"_0": lambda g, n: g.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/x"))},
        "behind a ExternalLink",
    ),
    "virtual": ({"_0": virtual}, "keeps its numbers in other files"),
    "external": (
        {"_0": lambda g, n: g.create_dataset(n, (1, 200), "f4", external=[("/etc/passwd", 0, 800)])},
        "in other files",
    ),
    "shape": ({"_0": bomb}, "claims 4398046511104 bytes, but 0 are stored; the limit is 20 times as many"),
    "zeros": ({"_0": zeros}, r"claims 16777216 bytes, but \d+ are stored"),
    "chunk": ({"_0": chunk}, r"claims 67108864 bytes, but \d+ are stored"),
    "text": ({"_0": lambda g, n: g.create_dataset(n, data=b"abc")}, "must be numbers"),
    "group": ({"_0": lambda g, n: g.create_group(n)}, "are missing"),
    "NaN": (
        {"_0": lambda g, n: g.create_dataset(n, data=np.full((1, 200), np.nan, "f4"))},
        r"lstm.*\(LSTM\): `W` must be finite, got nan",
    ),
    "half": ({"_0": lambda g, n: g.create_dataset(n, data=np.ones((1, 200), "f2"))}, "float32 or float64"),
    "shapes": (
        {"_0": lambda g, n: g.create_dataset(n, data=np.ones((1, 196), "f4"))},
        r"\(LSTM\): `kernel` must have shape",
    ),
    "units": (
        {"_1": lambda g, n: g.create_dataset(n, data=np.ones((49, 196), "f4"))},
        "`units` = 50, but weights of shape",
    ),
    "one more": (
        {"_2": lambda g, n: [g.create_dataset(k, data=np.ones(200, "f4")) for k in (n, "3")]},
        "must have 3 weights, got 4",
    ),
    "one less": ({"_2": lambda g, n: None}, "must have 3 weights, got 2"),
    "name": ({"_2": lambda g, n: g.create_dataset("x", data=np.ones(200, "f4"))}, "must hold 0, 1, ..., got"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights_are_refused(tmp_path, name):
    changes, text = WEIGHTS[name]
    refused(archive(tmp_path / "m.keras", **{"model.weights.h5": weights_file(**changes)}), FormatError, text)


def test_hostile_archives_are_refused(tmp_path):
    path = tmp_path / "m.keras"
    for name in ("../up", "/etc/x", "assets/../../x", "a\\b", "C:x"):
        refused(archive(path, **{name: b""}), FormatError, "which leads out of it")
    archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as target:
            target.writestr("config.json", "{}")
    refused(path, FormatError, "two members 'config.json'")
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            if name != "config.json":
                target.writestr("config.json", "{}")
            with target.open(name, "w", force_zip64=True) as member:
                for _ in range(100):
                    member.write(bytes(2**20))
        refused(path, FormatError, rf"'{name}' unpacks from \d+ bytes to 104857600; the limit is \d+")
    for name in ("config.json", "model.weights.h5"):
        refused(archive(path, **{name: None}), FormatError, f"no member '{name}'")
    refused(archive(path, **{"config.json": b"[" * 100_000}), FormatError, "nested too deeply")
    refused(archive(path, **{"config.json": b"{"}), FormatError, "is not JSON")
    refused(archive(path, **{"config.json": b"[]"}), FormatError, "names no class of model")
    refused(archive(path, **{"model.weights.h5": b"HDF"}), FormatError, "h5py cannot read it")
    refused(archive(path, lambda c: c["config"].update(layers=[])), FormatError, "has no layers")
    refused(
        archive(path, lambda c: c["config"]["layers"].extend([layer(c, 2)] * 1000)),
        FormatError,
        "limit is 1000",
    )


def test_a_declared_size_that_is_not_the_real_one_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("config.json", json.dumps({"class_name": "x" * 10_000}))
    raw = bytearray((tmp_path / "m.keras").read_bytes())
    directory = raw.rindex(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    (tmp_path / "m.keras").write_bytes(raw)
    refused(tmp_path / "m.keras", FormatError, "zipfile cannot read it|cut short")


@pytest.mark.parametrize("source", [SINE, MASKED], ids=lambda path: path.name)
def test_damaged_files_are_refused_or_read(tmp_path, source):
    """Whatever a flipped byte or a cut does, the end is a network or one sentence."""
    raw, rng, path = source.read_bytes(), np.random.default_rng(0), tmp_path / source.name
    read_anyway = 0
    for k in range(150):
        bent = bytearray(raw)
        for place in rng.integers(0, len(raw), 1 + k % 3):
            bent[place] ^= 1 << rng.integers(8)
        path.unlink(missing_ok=True)
        path.write_bytes(bent if k % 5 else bent[: rng.integers(len(bent))])
        with suppress(FormatError, UnsupportedError):
            load(path)
            read_anyway += 1
    assert read_anyway < 150


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "neither a .keras archive nor"),
        (b"PK\x03\x04", "zipfile cannot read"),
        (b"\x89HDF\r\n\x1a\n", "h5py cannot read"),
    ],
)
def test_what_is_no_keras_file_is_refused(tmp_path, content, text):
    path = tmp_path / "m"
    path.write_bytes(content)
    refused(path, FormatError, text)


def test_weights_alone_and_pipes_are_refused(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["x"] = 1
    refused(tmp_path / "w.h5", FormatError, "weights alone are no model")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", FormatError, "not a regular file")


def test_without_h5py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'carousel-rnn\[keras\]'"):
        load(SINE)


def test_the_equations_know_nothing_of_the_layout():
    source = Path(_keras_equations.__file__).read_text(encoding="utf-8")
    assert "import layout" not in source
    assert "layout." not in source.replace("`carousel.layout`", "")
