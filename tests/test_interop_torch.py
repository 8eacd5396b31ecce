"""torch modules to Network and back: the same weights, the same numbers, or a refusal."""

import warnings
from copy import deepcopy

import numpy as np
import pytest

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

torch = pytest.importorskip("torch")
from carousel import nn, stream  # noqa: E402
from carousel.interop.torch import difference, load, read, save  # noqa: E402


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(7)


RECURRENT = {
    "lstm": lambda **options: torch.nn.LSTM(3, 5, **options),
    "gru": lambda **options: torch.nn.GRU(3, 5, **options),
    "rnn": lambda **options: torch.nn.RNN(3, 5, **options),
    "rnn_relu": lambda **options: torch.nn.RNN(3, 5, nonlinearity="relu", **options),
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RECURRENT)
def test_module_made_of_the_network_computes_the_same(name, dtype, bidirectional):
    module = RECURRENT[name](num_layers=2, bidirectional=bidirectional, dtype=dtype)
    again = save(load(module))
    x = torch.randn(7, 2, 3, dtype=dtype)
    expected = module(x)[0]
    torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("name", RECURRENT)
def test_network_comes_back_equal(name):
    network = load(torch.nn.Sequential(RECURRENT[name](), torch.nn.Linear(5, 2), torch.nn.Sigmoid()))
    network = Network((*network.layers[:1], LastStep(), *network.layers[1:]))
    assert load(save(network)) == network


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_torch_module_and_its_network_agree(name, batch_first):
    module = torch.nn.Sequential(
        RECURRENT[name](num_layers=2, bidirectional=True, batch_first=batch_first, dtype=torch.float64),
        torch.nn.Linear(10, 2, dtype=torch.float64),
    )
    assert difference(module, load(module)) < 1e-14
    torch.nn.init.ones_(module[1].bias)
    assert difference(module, load(save(load(module)))) < 1e-14


def test_difference_sees_one_weight():
    module = torch.nn.LSTM(3, 5)
    network = load(module)
    with torch.no_grad():
        module.weight_hh_l0[7, 3] += 0.1
    assert difference(module, network) > 1e-4


def test_a_module_that_computes_something_else_is_refused():
    class Doubled(torch.nn.GRU):
        def forward(self, x, h=None):
            y, h = super().forward(x, h)
            return 2 * y, h

    with pytest.raises(UnsupportedError, match="`module` computes something else"):
        load(Doubled(3, 5))


def test_the_module_stays_in_training_mode():
    module = torch.nn.LSTM(3, 5, num_layers=2, dropout=0.9)
    load(module)
    assert module.training


def test_weights_are_copies():
    module = torch.nn.LSTM(3, 5)
    network = load(module)
    before = network.layers[0].directions[0].W.copy()
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    np.testing.assert_array_equal(network.layers[0].directions[0].W, before)


def test_missing_biases_are_zeros():
    network = load(torch.nn.Sequential(torch.nn.GRU(3, 5, bias=False), torch.nn.Linear(5, 1, bias=False)))
    assert not network.layers[0].directions[0].b_R.any()
    assert not network.layers[1].b.any()


def test_dropout_and_nesting_leave_nothing():
    inner = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(5, 4), torch.nn.Tanh())
    network = load(torch.nn.Sequential(torch.nn.LSTM(3, 5, num_layers=2, dropout=0.2), inner))
    assert [type(layer) for layer in network.layers] == [Recurrent, Recurrent, Dense]
    assert network.layers[2].activation == "tanh"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.nn.LSTM(3, 5, proj_size=2), "`proj_size` = 2"),
        (lambda: torch.nn.Sequential(torch.nn.Conv1d(3, 5, 1)), "`module.0` is Conv1d"),
        (
            lambda: torch.nn.Sequential(torch.nn.LSTM(3, 5), torch.nn.Softmax(dim=0)),
            "`module.1` is Softmax with `dim` = 0",
        ),
        (lambda: torch.nn.LSTM(3, 5).bfloat16(), "got torch.bfloat16"),
    ],
)
def test_what_a_network_cannot_be_is_refused(make, text):
    with pytest.raises(UnsupportedError, match=text):
        load(make())


def test_reset_before_is_refused_on_the_way_out():
    rng = np.random.default_rng(0)
    weights = Weights(rng.normal(size=(15, 3)), rng.normal(size=(15, 5)))
    with pytest.raises(UnsupportedError, match=r"carousel\.nn\.module"):
        save(Network((Recurrent("gru", (weights,), reset="before"),)))


@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm": True},
        {"zoneout": 0.1},
        {"cell_clip": 1.0},
        {"learn_initial_state": True},
    ],
)
def test_options_that_a_network_lacks_are_refused(options):
    module = nn.LSTM(3, 5, **options)
    with pytest.raises(UnsupportedError, match=next(iter(options))):
        load(module)


def test_a_gru_that_resets_before_the_product_goes_there():
    module = nn.GRU(3, 5, reset="before").eval()
    x = torch.randn(6, 4, 3)
    with torch.no_grad():
        expected = module(x)[0].numpy()
    assert np.abs(stream.Model(load(module)).run(x.numpy()) - expected).max() < 1e-6


OPTIONS = {
    "peephole": ("lstm", {"clip": 1.5}),
    "coupled": ("lstm", {"coupled_gates": True}),
    "before": ("gru", {"reset": "before"}),
    "merged": ("gru", {"merge": "ave"}),
    "states": ("lstm", {"return_sequences": False, "merge": "mul"}),
    "reverse": ("rnn", {"reverse": True, "activation": "relu"}),
}


def network_with(name):
    rng, (cell, options) = np.random.default_rng(3), OPTIONS[name]
    G = {"lstm": 4, "gru": 3, "rnn": 1}[cell] - (name == "coupled")

    def drawn(*shape):
        return rng.normal(size=shape)

    each = tuple(
        Weights(
            drawn(G * 5, 3), drawn(G * 5, 5), drawn(G * 5), drawn(G * 5),
            drawn(3, 5) if name == "peephole" else None,
        )
        for _ in range(1 if name == "reverse" else 2)
    )  # fmt: skip
    layer = Recurrent(cell, each, **options)
    ends = [] if layer.return_sequences else [Dense(drawn(2, layer.output_size)), Activation("softmax")]
    between = [Reverse()] if layer.return_sequences else []
    return Network((Normalization(drawn(3), rng.random(3)), layer, *between, *ends))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_network_with_options_is_a_module_of_ours(name):
    network = network_with(name)
    module = nn.module(network)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(
            module(x).numpy(), stream.Model(network).run(x.numpy()), rtol=0, atol=1e-12
        )
    assert load(module) == network
    assert load(nn.module(load(module))) == network
    if name in ("peephole", "coupled", "before"):
        with pytest.raises(UnsupportedError, match=r"torch\.nn\..* has no `.*; carousel\.nn\.module"):
            save(network)
    else:
        assert load(save(network)) == network


def test_masks_are_refused_and_an_embedding_goes_there():
    embedding, dense = Embedding(np.eye(4, 3)), Dense(np.ones((2, 3)))
    network = Network((embedding, dense))
    assert load(save(network)) == network
    for layer in (Masking(0.0), Embedding(np.eye(4, 3), mask_zero=True)):
        with pytest.raises(UnsupportedError, match=r"no masks, .*; it runs in carousel\.stream"):
            nn.module(Network((layer, dense)))


class Forward(torch.nn.Module):
    """A user's class: `layers` by name, joined by `forward(self, x)`."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def lstm(**options):
    return torch.nn.LSTM(3, 5, **options)


ENDS = torch.nn.Linear(5, 4), torch.nn.Linear(4, 1)
WIRED = {
    "last step": (
        lambda: Forward(
            lambda m, x: m.fc(m.lstm(x)[0][:, -1]), lstm=lstm(batch_first=True), fc=torch.nn.Linear(5, 2)
        ),
        "found to take (B, T, I): the last step of `module.lstm` goes on",
        (("module.lstm (LSTM)", "LSTM + LastStep"), ("module.fc (Linear)", "Dense")),
    ),
    "every step": (
        lambda: Forward(
            lambda m, x: m.fc(m.drop(m.lstm(x)[0])),
            lstm=lstm(), drop=torch.nn.Dropout(), fc=torch.nn.Linear(5, 2), loss=torch.nn.MSELoss(),
        ),
        "found to take (T, B, I): every step of `module.lstm` goes on",
        (("module.lstm (LSTM)", "LSTM"), ("module.drop (Dropout)", "nothing"), ("module.fc (Linear)", "Dense")),
    ),
    "h_n": (
        lambda: Forward(
            lambda m, x: (m.b(m.a(m.gru(x)[1][-1])).squeeze(-1), None),
            gru=torch.nn.GRU(3, 5, 2, batch_first=True, dtype=torch.float64),
            a=deepcopy(ENDS[0]).double(), b=deepcopy(ENDS[1]).double(),
        ),
        "found to take (B, T, I): the last step of `module.gru` goes on",
        (
            ("module.gru (GRU)", "GRU + GRU + LastStep"), ("module.a (Linear)", "Dense"),
            ("module.b (Linear)", "Dense"),
        ),
    ),
    "both states": (
        lambda: Forward(
            lambda m, x: m.fc(torch.cat([*m.lstm(x.transpose(0, 1))[1][0]], -1)),
            lstm=lstm(bidirectional=True), fc=torch.nn.Linear(10, 1),
        ),
        "found to take (B, T, I): the last state of each direction of `module.lstm` goes on",
        (("module.lstm (LSTM)", "LSTM, bidirectional, last"), ("module.fc (Linear)", "Dense")),
    ),
    "a head of its own": (
        lambda: Forward(
            lambda m, x: m.head(m.body(x)[0][-1]),
            body=torch.nn.RNN(3, 5), head=torch.nn.Sequential(ENDS[0], torch.nn.ReLU(), ENDS[1]),
        ),
        "found to take (T, B, I): the last step of `module.body` goes on",
        (
            ("module.body (RNN)", "RNN, tanh + LastStep"), ("module.head.0 (Linear)", "Dense"),
            ("module.head.1 (ReLU)", "Dense, relu"), ("module.head.2 (Linear)", "Dense"),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WIRED)
def test_a_class_of_the_users_own_is_tried(name):
    make, check, layers = WIRED[name]
    module = make()
    report = read(module)
    assert report.check == f"the module itself, {check}"
    assert report.layers == layers
    assert report.largest < 1e-6
    assert module.training
    assert nn.module(load(module)) is not None


LAYERS = {"lstm": lstm(), "fc": torch.nn.Linear(5, 1)}
UNKNOWN = {
    "relu": lambda m, x: m.fc(m.lstm(x)[0].relu()),
    "relu at the end": lambda m, x: m.fc(m.lstm(x)[0]).relu(),
    "a cut": lambda m, x: m.fc(m.lstm(x)[0]).clamp(-5, 5),
    "the first step": lambda m, x: m.fc(m.lstm(x)[0][0]),
    "a mean": lambda m, x: m.fc(m.lstm(x)[0].mean(0)),
    "a state of its own": lambda m, x: m.fc(m.lstm(x, (torch.ones(1, x.shape[1], 5),) * 2)[0]),
    "the cell": lambda m, x: m.fc(m.lstm(x)[1][1][-1]),
    "a residual": lambda m, x: m.fc(m.lstm(x)[0]) + x[..., :1],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_class_of_the_users_own_that_does_something_else_is_refused(name):
    """Also where trained weights hide it: an output above 0, in which no ReLU shows."""
    module = Forward(UNKNOWN[name], **LAYERS)
    with torch.no_grad():
        module.fc.bias.fill_(3.0)
    with pytest.raises(UnsupportedError) as error:
        load(module)
    assert str(error.value) == (
        "`module` is Forward, whose forward does something else with its layers than to give every step, or the last "
        "one, to the next; if a Network can do it, join them as it does: of "
        "Network((*load(module.lstm).layers, LastStep(), *load(module.fc).layers)), which holds those with weights, "
        'with LastStep() and Activation("relu") where the forward does so.'
    )


def test_the_way_out_is_one_that_can_be_gone():
    layers = torch.nn.Sequential(lstm(), torch.nn.ReLU())
    with pytest.raises(UnsupportedError) as error:
        load(
            Forward(
                lambda m, x: m.fc(m.both[1](m.both[0](x)[0].mean(0))), both=layers, fc=torch.nn.Linear(5, 1)
            )
        )
    assert "Network((*load(module.both[0]).layers, LastStep(), *load(module.fc).layers))" in str(error.value)
    with pytest.raises(UnsupportedError, match="a Network has no shortcuts, no dilation"):
        load(nn.Stack(3, [4, 4], dilation=[1, 2]))


def test_a_forward_that_raises_or_layers_that_are_no_ones():
    def two(m, x):
        raise TypeError("forward() missing 1 required\x1b argument: 'h'")

    with pytest.raises(
        UnsupportedError, match=r"; its forward raises TypeError: .* required\\x1b argument: 'h'\.$"
    ):
        load(Forward(two, **LAYERS))
    with pytest.raises(UnsupportedError, match=r"`module\.conv` is Conv1d"):
        load(Forward(UNKNOWN["relu"], conv=torch.nn.Conv1d(3, 3, 1), **LAYERS))


def test_wrappers_of_torch_are_taken_off():
    module = torch.nn.GRU(3, 5)
    compiled = torch.compile(torch.nn.Sequential(torch.compile(module, backend="eager")), backend="eager")
    assert load(torch.nn.DataParallel(module)) == load(compiled) == load(module)


HOLLOW = {
    "meta": (lambda w: w.to("meta"), "is on the device meta, without numbers; load its weights first"),
    "sparse": (
        lambda w: w.to_sparse(),
        r"must be a dense tensor, got one that is sparse_coo; call \.to_dense\(\)",
    ),
    "empty": (lambda w: w[:, :0], r"must hold numbers, got shape \(20, 0\)"),
}


@pytest.mark.parametrize("name", HOLLOW)
def test_tensors_without_their_numbers_are_refused(name, tmp_path):
    change, text = HOLLOW[name]
    state = lstm().state_dict()
    state["weight_ih_l0"] = change(state["weight_ih_l0"])
    torch.save(state, tmp_path / "m.pt")
    for given in (state, tmp_path / "m.pt"):
        with pytest.raises((FormatError, UnsupportedError), match=f"'weight_ih_l0' {text}"):
            load(given)


def test_modules_without_weights_are_refused():
    with pytest.raises(UnsupportedError, match=r"^`module\.weight_ih_l0` is on the device meta"):
        load(lstm(device="meta"))
    with pytest.raises(UnsupportedError, match=r"^`module\.weight` has no shape yet; run the module once"):
        load(torch.nn.LazyLinear(3))


def test_a_checkpoint_is_its_one_entry_of_weights(tmp_path):
    module = lstm()
    optimizer = torch.optim.Adam(module.parameters())
    kept = {"epoch": 3, "model": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(kept, tmp_path / "m.pt")
    report = read(tmp_path / "m.pt")
    assert report.network == load(module)
    assert report.layers == (("model: weights", "LSTM"),)
    with pytest.raises(FormatError, match=r"it holds weights in 'model' and 'ema'; save one of them"):
        load(kept | {"ema": module.state_dict()})


def test_other_tensors_of_a_checkpoint_are_no_weights(tmp_path):
    module = lstm()
    for others in (
        {"loss": torch.tensor(0.5)},
        {"rng_state": torch.get_rng_state(), "rng": {"cpu": torch.get_rng_state()}},
    ):
        torch.save({"epoch": 5, "model_state_dict": module.state_dict(), **others}, tmp_path / "m.pt")
        report = read(tmp_path / "m.pt")
        assert report.network == load(module)
        assert report.layers == (("model_state_dict: weights", "LSTM"),)
    with pytest.raises(FormatError, match="must hold a state_dict, tensors by name, and nothing else"):
        load({**module.state_dict(), "ema": module.state_dict()})


def test_what_a_state_dict_does_not_say_is_said():
    """Numbers are of a Sequential, whose parts follow each other; names are anything."""
    module = Forward(UNKNOWN["relu"], **LAYERS)
    with pytest.warns(
        UserWarning, match="'lstm' and 'fc' are taken to follow each other directly at every step"
    ):
        load(module.state_dict())
    load(torch.nn.Sequential(*LAYERS.values()).state_dict())


def test_a_file_of_a_whole_module_says_the_way_out(tmp_path):
    torch.save(lstm(), tmp_path / "m.pt")
    with pytest.raises(
        FormatError, match=r"it holds torch\.nn\.modules\.rnn\.LSTM, .*; save `model\.state_dict\(\)`"
    ):
        load(tmp_path / "m.pt")


def test_files_and_state_dicts(tmp_path):
    """A state_dict, in memory or in a file, both ways; the file is torch's own."""
    module = torch.nn.Sequential(torch.nn.LSTM(3, 5, 2), torch.nn.Linear(5, 1))
    network, path = load(module), tmp_path / "m.pt"
    report = save(module, path)
    assert report.network == network
    assert report.largest < 1e-6
    assert load(path) == load(str(path)) == load(torch.load(path, weights_only=True)) == network
    torch.save(module.state_dict(), path)
    assert load(path) == load(module.state_dict()) == network
    assert read(module.state_dict()).layers == (("0", "LSTM + LSTM"), ("1", "Dense"))
    told = read(torch.nn.Sequential(torch.nn.GRU(3, 5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 1))).layers
    assert told == (
        ("module.0 (GRU)", "GRU"),
        ("module.1 (Dropout)", "nothing"),
        ("module.2 (Linear)", "Dense"),
    )


OTHERS = {  # modules whose weights have torch's names, and do something else
    "reset before": (lambda: nn.GRU(3, 4, reset="before"), r"GRU\(3, 4, reset='before'\)"),
    "coupled": (lambda: nn.LSTM(3, 4, coupled_gates=True), r"LSTM\(3, 4, coupled_gates=True\)"),
    "clip": (lambda: nn.LSTM(3, 4, clip=0.1), r"LSTM\(3, 4, clip=0\.1\)"),
    "zoneout": (lambda: nn.GRU(3, 4, zoneout=0.3), r"GRU\(3, 4, zoneout=0\.3\)"),
    "residual": (lambda: nn.Stack(3, [3, 3], residual=True), r"Stack\(3, \[3, 3\], residual=True\)"),
    "dense": (lambda: nn.Stack(3, [4, 4], dense=True), r"Stack\(3, \[4, 4\], dense=True\)"),
    "dilation": (lambda: nn.Stack(3, [4, 4], dilation=[1, 3]), r"Stack\(3, \[4, 4\], dilation=\[1, 3\]\)"),
    "merge": (lambda: nn.Stack(3, [4], bidirectional=True, merge="sum"), r"Stack\(3, \[4\], merge=\['sum'\]\)"),
    "within": (lambda: torch.nn.Sequential(nn.GRU(3, 4, clip=1.0)), r"GRU\(3, 4, clip=1\.0\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_layers_that_compute_something_else_are_refused(name, tmp_path):
    make, said = OTHERS[name]
    state = make().state_dict()
    torch.save(state, tmp_path / "m.pt")
    torch.save({"epoch": 3, "model": state}, tmp_path / "checkpoint.pt")
    for given in (state, tmp_path / "m.pt", tmp_path / "checkpoint.pt"):
        with pytest.raises(
            UnsupportedError, match=rf"the weights.* carousel\.nn\.{said}, which computes something"
        ):
            load(given)
    first, again, x = make().eval(), make().eval(), torch.randn(6, 2, 3)
    first.load_state_dict(state)
    again.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    torch.testing.assert_close(again(x), first(x))


@pytest.mark.parametrize("metadata", [5, {3: {"carousel": "x" * 999}}, {"": {"carousel": [1]}}, {"": 3}])
def test_metadata_of_a_file_may_be_anything(metadata, tmp_path):
    module = lstm()
    state = module.state_dict()
    state._metadata = metadata
    torch.save(state, tmp_path / "m.pt")
    if isinstance(metadata, dict) and any(isinstance(told, dict) for told in metadata.values()):
        with pytest.raises(UnsupportedError, match=r"the weights.* are those of carousel\.nn\.") as refused:
            load(tmp_path / "m.pt")
        assert len(str(refused.value)) < 600
    else:
        assert load(tmp_path / "m.pt") == load(module)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(3, 4, num_layers=2, dropout=0.5),
        lambda: nn.LSTM(3, 4, recurrent_dropout=0.1, recompute=True),
        lambda: nn.Stack(3, [4, 5], cell=["lstm", "gru"], dropout=0.1),
        lambda: nn.Stack(3, [4, 5], bidirectional=True),
    ],
)
def test_weights_of_layers_that_compute_what_torchs_do_are_read(make, tmp_path):
    module = make().eval()
    torch.save(module.state_dict(), tmp_path / "m.pt")
    x = torch.randn(6, 2, 3)
    y = stream.Model(load(tmp_path / "m.pt")).run(x.numpy())
    np.testing.assert_allclose(y, module(x)[0].detach().numpy(), rtol=0, atol=1e-6)


def test_a_state_dict_has_torchs_keys_whatever_the_options():
    for theirs, ours in (
        (torch.nn.GRU(3, 4, 2), nn.GRU(3, 4, 2, reset="before")),
        (torch.nn.LSTM(3, 4), nn.LSTM(3, 4, clip=0.1, zoneout=0.1)),
    ):
        assert [*ours.state_dict()] == [*theirs.state_dict()]
        theirs.load_state_dict(ours.state_dict())
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("wrapped", [False, True])
def test_weight_norm_of_old_is_refused_in_a_sentence(wrapped):
    module = torch.nn.GRU(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(module, "weight_hh_l0")
    with pytest.raises(
        UnsupportedError, match=r"^`module` cannot be copied, .*torch\.nn\.utils\.weight_norm"
    ):
        load(torch.nn.Sequential(module) if wrapped else module)
    torch.nn.utils.remove_weight_norm(module, "weight_hh_l0")
    load(module)


@pytest.mark.parametrize("make", [torch.nn.LSTM, torch.nn.GRU])
def test_a_state_dict_without_one_of_its_weights_is_refused(make):
    """A missing bias is no bias of zeros: torch's `bias` is one flag of all layers and directions."""
    module = make(3, 5, num_layers=2, bidirectional=True)
    for name in module.state_dict():
        state = module.state_dict()
        del state[name]
        with pytest.raises(FormatError, match=f"but {name} is missing"):
            load(state)
    bare = make(3, 5, bias=False)
    assert load(bare.state_dict()) == load(bare)


def test_what_is_no_model_is_refused(tmp_path):
    for nothing in (None, 3, torch.ones(3)):
        with pytest.raises(
            ArgumentError, match=r"`module` must be a torch module, a state_dict or a path of one"
        ):
            load(nothing)
        with pytest.raises(
            ArgumentError, match=r"`model` must be a Network, a torch module or a model of Keras"
        ):
            save(nothing, tmp_path / "m.pt")
    with pytest.raises(UnsupportedError, match=r"^the state_dict: .* whether tanh or relu"):
        load(torch.nn.RNN(3, 5).state_dict())
    with pytest.raises(FormatError, match=r"^the state_dict: .* tensors by name, and nothing else"):
        load({"weight": 3})
    assert not list(tmp_path.iterdir())
