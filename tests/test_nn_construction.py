"""Modules with options as objects: parameters, initial values, copies, state dicts, texts, errors."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations  # noqa: E402

import carousel  # noqa: E402
from carousel import kernel_path, nn  # noqa: E402
from carousel.errors import ArgumentError, UnsupportedError  # noqa: E402
from modules import flat  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {
    "LSTM": {"layer_norm": True, "peephole": True, "coupled_gates": True, "zoneout": (0.1, 0.2), "cell_clip": 3.0,
             "learn_initial_state": True, "proj_size": 2},
    "GRU": {"layer_norm": True, "reset": "before", "recurrent_dropout": 0.1, "clip": 2.0, "recompute": 4},
    "RNN": {"layer_norm": True, "state_dropout": 0.1, "input_dropout": 0.2, "learn_initial_state": True},
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", OPTIONS)


def module_of(kind, **more):
    torch.manual_seed(2)
    return getattr(nn, kind)(3, 5, **OPTIONS[kind], **more)


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


# ---- parameters ----


def test_parameters_of_an_lstm():
    assert shapes(module_of("LSTM", num_layers=2, bidirectional=True)) == {
        f"{name}_l{layer}{end}": shape
        for layer, inputs in ((0, 3), (1, 4))
        for end in ("", "_reverse")
        for name, shape in {
            "weight_ih": (15, inputs), "weight_hh": (15, 2), "bias_ih": (15,), "bias_hh": (15,),
            "weight_hr": (2, 5), "weight_ch": (2, 5), "gain_ih": (15,), "gain_hh": (15,), "gain_ch": (5,),
            "shift_ch": (5,),
        }.items()
    } | {"h_0": (4, 1, 2), "c_0": (4, 1, 5)}  # fmt: skip


def test_parameters_of_the_others():
    weights = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, 5), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    assert shapes(nn.GRU(3, 5, layer_norm=True)) == weights | {"gain_ih_l0": (15,), "gain_hh_l0": (15,)}
    assert shapes(nn.LSTM(3, 5, peephole=True, bias=False)) == {
        "weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "weight_ch_l0": (3, 5)
    }  # fmt: skip
    assert shapes(nn.RNN(3, 5, learn_initial_state=True)).keys() == {
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "h_0"
    }  # fmt: skip


@kinds
def test_weights_that_torch_has_begin_as_torchs(kind):
    """Options come after torch's constructor: one seed gives one W, R and b."""
    options = {"proj_size": 2} if kind == "LSTM" else {}
    torch.manual_seed(2)
    right = dict(getattr(torch.nn, kind)(3, 5, **options).named_parameters())
    for name, p in module_of(kind).named_parameters():
        if name in right:
            assert torch.equal(p, right[name][: len(p)])


@kinds
def test_first_values(kind):
    module = module_of(kind, num_layers=2, bidirectional=True)

    def check():
        for name, p in module.named_parameters():
            if name.startswith("gain"):
                assert (p == 1).all()
            elif name.startswith(("shift", "h_0", "c_0")):
                assert (p == 0).all()
            else:
                assert p.abs().max() <= 5**-0.5
                assert p.abs().max() > 0.1

    check()
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7)
    module.reset_parameters()
    check()


def test_forget_bias():
    """b_ih of the forget gate is what was asked, b_hh 0: their sum is what the gate sees; all else as torch's."""
    torch.manual_seed(2)
    right = torch.nn.LSTM(3, 5, 2, bidirectional=True)
    torch.manual_seed(2)
    module = nn.LSTM(3, 5, 2, bidirectional=True, forget_bias=1.0)
    assert repr(module) == "LSTM(3, 5, num_layers=2, bidirectional=True, forget_bias=1.0)"
    for (name, p), (_, q) in zip(module.named_parameters(), right.named_parameters(), strict=True):
        if name.startswith("bias"):
            assert (p[5:10] == (1.0 if "ih" in name else 0.0)).all()
            p, q = (torch.cat([t[:5], t[10:]]) for t in (p, q))
        assert torch.equal(p, q)
    module.load_state_dict(right.state_dict(), strict=True)


@kinds
def test_learned_initial_state(kind):
    """Where no hx is given, h_0 and c_0 are it, for every row and with a gradient; hx wins where it is."""
    module = getattr(nn, kind)(3, 5, 2, bidirectional=True, learn_initial_state=True)
    plain = getattr(nn, kind)(3, 5, 2, bidirectional=True)
    plain.load_state_dict(module.state_dict(), strict=False)
    x = torch.randn(6, 4, 3)
    for a, b in zip(flat(module(x)), flat(plain(x)), strict=True):  # zeros at first
        assert torch.equal(a, b)
    names = ("h_0", "c_0") if kind == "LSTM" else ("h_0",)
    with torch.no_grad():
        for name in names:
            module.get_parameter(name).normal_()
    states = tuple(module.get_parameter(name).detach().expand(-1, 4, -1).clone() for name in names)
    hx = states if kind == "LSTM" else states[0]
    assert kernel_path(module, x).startswith("carousel: ")
    for a, b in zip(flat(module(x)), flat(plain(x, hx)), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(flat(module(x, hx)), flat(plain(x, hx)), strict=True):
        assert torch.equal(a, b)
    given = [s.clone().requires_grad_() for s in states]
    plain(x, tuple(given) if kind == "LSTM" else given[0])[0].sin().sum().backward()
    module(x)[0].sin().sum().backward()
    for name, g in zip(names, given, strict=True):
        torch.testing.assert_close(module.get_parameter(name).grad, g.grad.sum(1, keepdim=True))
    unbatched, _ = module(x[:, 0])
    torch.testing.assert_close(unbatched, module(x)[0][:, 0])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [4, 6, 2, 1], enforce_sorted=False)
    torch.testing.assert_close(module(packed)[1], module(x, lengths=[4, 6, 2, 1])[1])


def test_learned_state_with_batch_first():
    module = nn.LSTM(3, 5, batch_first=True, learn_initial_state=True)
    assert module(torch.zeros(4, 6, 3))[1][0].shape == (1, 4, 5)


# ---- errors ----

WRONG = [
    ("LSTM", {"zoneout": 1.1}, ArgumentError, "`zoneout` must be in [0, 1], got 1.1."),
    ("LSTM", {"zoneout": (0.1, -0.1)}, ArgumentError, "`zoneout` must be in [0, 1], got (0.1, -0.1)."),
    ("LSTM", {"zoneout": (0.1,)}, ArgumentError,
     "`zoneout` must be one number, or of an LSTM (h, c), got (0.1,)."),
    ("GRU", {"zoneout": (0.1, 0.2)}, ArgumentError,
     "`zoneout` must be one number, or of an LSTM (h, c), got (0.1, 0.2)."),
    ("LSTM", {"zoneout": float("nan")}, ArgumentError, "`zoneout` must be in [0, 1], got nan."),
    ("LSTM", {"zoneout": "a"}, ArgumentError,
     "`zoneout` must be one number, or of an LSTM (h, c), got 'a'."),
    ("RNN", {"zoneout": True}, ArgumentError, "`zoneout` must be one number, or of an LSTM (h, c), got True."),
    ("LSTM", {"zoneout": [0.1, 0.2]}, ArgumentError,
     "`zoneout` must be one number, or of an LSTM (h, c), got [0.1, 0.2]."),
    ("LSTM", {"zoneout": (0.1, None)}, ArgumentError,
     "`zoneout` must be one number, or of an LSTM (h, c), got (0.1, None)."),
    ("GRU", {"recurrent_dropout": 1.0}, ArgumentError, "`recurrent_dropout` must be a number in [0, 1), got 1.0."),
    ("RNN", {"state_dropout": -0.5}, ArgumentError, "`state_dropout` must be a number in [0, 1), got -0.5."),
    ("GRU", {"input_dropout": 2}, ArgumentError, "`input_dropout` must be a number in [0, 1), got 2."),
    ("GRU", {"clip": 0.0}, ArgumentError, "`clip` must be a number above 0, or None for no bound, got 0.0."),
    ("LSTM", {"cell_clip": -1}, ArgumentError, "`cell_clip` must be a number above 0, or None for no bound, got -1."),
    ("RNN", {"state_dropout": "0.5"}, ArgumentError, "`state_dropout` must be a number in [0, 1), got '0.5'."),
    ("LSTM", {"clip": "x"}, ArgumentError, "`clip` must be a number above 0, or None for no bound, got 'x'."),
    ("LSTM", {"cell_clip": float("inf")}, ArgumentError,
     "`cell_clip` must be a number above 0, or None for no bound, got inf."),
    ("LSTM", {"forget_bias": "a"}, ArgumentError, "`forget_bias` must be a finite number, or None, got 'a'."),
    ("LSTM", {"forget_bias": True}, ArgumentError, "`forget_bias` must be a finite number, or None, got True."),
    ("LSTM", {"forget_bias": float("nan")}, ArgumentError,
     "`forget_bias` must be a finite number, or None, got nan."),
    ("GRU", {"layer_norm": "no"}, ArgumentError, "`layer_norm` must be True or False, got 'no'."),
    ("RNN", {"layer_norm": None}, ArgumentError, "`layer_norm` must be True or False, got None."),
    ("LSTM", {"peephole": "false"}, ArgumentError, "`peephole` must be True or False, got 'false'."),
    ("LSTM", {"coupled_gates": 1}, ArgumentError, "`coupled_gates` must be True or False, got 1."),
    ("GRU", {"learn_initial_state": "no"}, ArgumentError, "`learn_initial_state` must be True or False, got 'no'."),
    ("GRU", {"reset": "never"}, ArgumentError, "`reset` must be 'after' or 'before', got 'never'."),
    ("GRU", {"recompute": -2}, ArgumentError, "`recompute` must be an integer of at least 1, got -2."),
    ("GRU", {"recompute": 2.5}, ArgumentError, "`recompute` must be an integer of at least 1, got 2.5."),
    ("GRU", {"peephole": True}, UnsupportedError, "`peephole` is for the LSTM only, not for GRU."),
    ("RNN", {"coupled_gates": True}, UnsupportedError, "`coupled_gates` is for the LSTM only, not for RNN_TANH."),
    ("GRU", {"cell_clip": 1.0}, UnsupportedError, "`cell_clip` is for the LSTM only, not for GRU."),
    ("GRU", {"forget_bias": 1.0}, UnsupportedError, "`forget_bias` is for the LSTM only, not for GRU."),
    ("LSTM", {"reset": "before"}, UnsupportedError, "`reset` is for the GRU only, not for LSTM."),
    ("RNN", {"recurrent_dropout": 0.5}, UnsupportedError,
     "`recurrent_dropout` is for the LSTM and the GRU only, not for RNN_TANH."),
    ("LSTM", {"forget_bias": 1.0, "coupled_gates": True}, ArgumentError,
     "`forget_bias` needs a forget gate with a bias: no coupled gates, bias=True."),
    ("LSTM", {"forget_bias": 1.0, "bias": False}, ArgumentError,
     "`forget_bias` needs a forget gate with a bias: no coupled gates, bias=True."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "error", "words"), WRONG, ids=[str(case[1]) for case in WRONG])
def test_wrong_options(kind, options, error, words):
    with pytest.raises(error) as caught:
        getattr(nn, kind)(3, 5, **options)
    assert str(caught.value) == words


def test_options_of_numpy():
    """As Python's: the kernels take them, and the module reads so."""
    numbers = {"zoneout": np.float32(0.5), "clip": np.int64(2), "forget_bias": np.float64(1)}
    flags = dict.fromkeys(("layer_norm", "peephole", "learn_initial_state", "recompute"), np.True_)
    module = nn.LSTM(3, 5, **flags, **numbers)
    right = nn.LSTM(3, 5, **dict.fromkeys(flags, True), zoneout=0.5, clip=2, forget_bias=1.0)
    right.load_state_dict(module.state_dict())
    x = torch.randn(6, 4, 3)
    assert torch.equal(module.eval()(x)[0], right.eval()(x)[0])
    assert "layer_norm=True" in repr(module)


def test_an_unknown_keyword_is_torchs_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'peepholes'"):
        nn.LSTM(3, 5, peepholes=True)


# ---- texts ----


def test_texts():
    assert repr(module_of("LSTM")) == (
        "LSTM(3, 5, proj_size=2, layer_norm=True, zoneout=(0.1, 0.2), peephole=True, coupled_gates=True, "
        "cell_clip=3.0, learn_initial_state=True)"
    )
    assert repr(nn.GRU(3, 5, 2, reset="before", recompute=True)) == (
        "GRU(3, 5, num_layers=2, reset='before', recompute=True)"
    )
    assert repr(nn.RNN(3, 5, recompute=1)) == "RNN(3, 5, recompute=1)"
    assert repr(nn.LSTM(3, 5)) == repr(torch.nn.LSTM(3, 5))


# ---- copies ----


def called(module, x):
    torch.manual_seed(4)
    return flat(module(x))


@kinds
@pytest.mark.parametrize("way", ["deepcopy", "copy", "pickle", "save", "state"])
def test_copies(kind, way):
    module, x = module_of(kind, num_layers=2), torch.randn(6, 4, 3)
    right = called(module, x)
    if way == "deepcopy":
        copied = copy.deepcopy(module)
    elif way == "copy":
        copied = copy.copy(module)
    elif way == "pickle":
        copied = pickle.loads(pickle.dumps(module))
    else:
        file = io.BytesIO()
        torch.save(module if way == "save" else module.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=way == "state")
        copied = loaded if way == "save" else getattr(nn, kind)(3, 5, 2, **OPTIONS[kind])
        if way == "state":
            copied.load_state_dict(loaded, strict=True)
    assert repr(copied) == repr(module)
    assert kernel_path(copied, x).startswith("carousel: ")
    assert all(torch.equal(a, b) for a, b in zip(called(copied, x), right, strict=True))
    if way != "copy":
        with torch.no_grad():
            copied.gain_hh_l0.add_(1)
        assert not torch.equal(called(copied, x)[0], right[0])
        assert torch.equal(called(module, x)[0], right[0])


@kinds
def test_a_state_dict_with_options_is_no_plain_one(kind):
    plain, optioned = getattr(nn, kind)(3, 5), getattr(nn, kind)(3, 5, layer_norm=True)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*gain_ih_l0"):
        plain.load_state_dict(optioned.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*gain_ih_l0"):
        optioned.load_state_dict(plain.state_dict())
    assert optioned.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []
    with pytest.raises(RuntimeError, match="size mismatch for weight_ih_l0"):
        nn.LSTM(3, 5, coupled_gates=True).load_state_dict(nn.LSTM(3, 5).state_dict())


@kinds
def test_modules_that_torch_made(kind):
    """Unpickled, or accelerated: no constructor of ours has seen them."""
    theirs, x = getattr(torch.nn, kind)(3, 5, 2), torch.randn(6, 4, 3)
    right = flat(theirs(x))
    ours = carousel.accelerate(copy.deepcopy(theirs))
    for module in (ours, pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert repr(module) == repr(theirs)
        for a, b in zip(flat(module(x)), right, strict=True):
            torch.testing.assert_close(a, b)
        module(x, lengths=[6, 2, 0, 1])
    restored = carousel.restore(ours)
    assert type(restored) is type(theirs)
    assert restored.__dict__.keys() == theirs.__dict__.keys()
    pickle.dumps(restored)


# ---- what torch does with modules ----


@kinds
def test_on_the_meta_device(kind):
    module = module_of(kind, num_layers=2, device="meta")
    assert {p.device.type for p in module.parameters()} == {"meta"}
    y, _ = module(torch.zeros(6, 4, 3, device="meta"))
    assert (y.device.type, y.shape[:2]) == ("meta", (6, 4))
    assert kernel_path(module, torch.zeros(6, 4, 3, device="meta")) == "torch operations: device meta"
    full = module.to_empty(device="cpu")
    full.reset_parameters()
    assert kernel_path(full, torch.zeros(6, 4, 3)).startswith("carousel: ")
    assert (full.gain_ih_l0 == 1).all()
    assert full(torch.zeros(6, 4, 3))[0].isfinite().all()


@kinds
def test_moves_and_flattens(kind):
    module, x = module_of(kind), torch.randn(6, 4, 3)
    module.eval()
    right = module(x)[0]
    module.flatten_parameters()
    module.to(torch.float64)
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    torch.testing.assert_close(module(x.double())[0].float(), right)
    assert torch.equal(module.to(torch.float32)(x)[0], right)


@kinds
def test_every_parameter_learns(kind):
    module = module_of(kind, num_layers=2, bidirectional=True)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):  # a gain of a state that is 0 has no gradient
        optimiser.zero_grad()
        sum(o.sin().sum() for o in flat(module(torch.randn(6, 4, 3)))).backward()
        optimiser.step()
    assert [n for n, p in module.named_parameters() if torch.equal(p, before[n])] == []


@kinds
def test_parametrizations(kind):
    """A weight that is computed from others at every call is the one that is used, and they have gradients."""
    module, x = module_of(kind), torch.randn(6, 4, 3)
    right = called(module, x)
    parametrizations.weight_norm(module, "weight_hh_l0")
    assert kernel_path(module, x).startswith("carousel: ")
    for a, b in zip(called(module, x), right, strict=True):
        torch.testing.assert_close(a, b)
    called(module, x)[0].sum().backward()
    weight = module.parametrizations.weight_hh_l0
    assert weight.original0.grad.abs().sum() > 0
    with torch.no_grad():
        weight.original0.mul_(2)
    assert not torch.equal(called(module, x)[0], right[0])


@kinds
@pytest.mark.parametrize("name", ["gain_ih_l0", "weight_hh_l0", "bias_hh_l0"])
def test_weights_of_another_shape_are_not_read(kind, name):
    module, x = module_of(kind), torch.randn(6, 4, 3)
    module(x)  # so that the weights have been seen once
    weight = module.get_parameter(name)
    weight.data = torch.zeros(4, 4) if weight.dim() == 2 else torch.zeros(4)
    assert kernel_path(module, x) == "torch operations: weights of another shape"
    with pytest.raises((RuntimeError, IndexError)):
        module(x)


CHANGES = {
    "shape": lambda w: w[:-1],
    "dtype": lambda w: w.double(),
    "negation": lambda w: torch._neg_view(w),
    "strides": lambda w: w.repeat_interleave(2, 0)[::2],
    "numbers": lambda w: 2 * w,
}


@kinds
@pytest.mark.parametrize("name", ["weight_hh_l0", "bias_ih_l0"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_weight_that_changed_behind_a_calls_back(kind, name, how, monkeypatch):
    """`weight.data = …` changes neither version nor identity; the next call finds out what has become of it."""
    module, x = getattr(nn, kind)(3, 5), torch.randn(6, 4, 3)
    for _ in range(3):
        module(x)
    weight = module.get_parameter(name)
    weight.data = CHANGES[how](weight.data)
    if how in ("strides", "numbers"):
        fresh = getattr(nn, kind)(3, 5)
        fresh.load_state_dict(module.state_dict())
        assert torch.equal(module(x)[0], fresh(x)[0])
    else:
        monkeypatch.setattr(type(module), "_torchs", lambda *_: "torch's")
        assert module(x) == "torch's"


@kinds
def test_a_configuration_or_input_that_changed(kind, monkeypatch):
    module, x = getattr(nn, kind)(3, 5), torch.randn(4, 4, 3)
    right = module(x)[0]
    module.batch_first = True
    torch.testing.assert_close(module(x.transpose(0, 1))[0].transpose(0, 1), right)
    monkeypatch.setattr(type(module), "_torchs", lambda *_: "torch's")
    assert module(x.double()) == "torch's"
    for name, value in (("hidden_size", 6), ("num_layers", 2), ("bidirectional", True), ("bias", False)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert module(x) == "torch's"
    assert isinstance(module(x), tuple)


def test_every_combination_is_made():
    """On and off of all options of an LSTM: it runs on the kernels, and its parameters are those of `shapes`."""
    names = ("layer_norm", "peephole", "coupled_gates", "learn_initial_state", "bias", "bidirectional")
    for values in itertools.product((False, True), repeat=len(names)):
        for proj_size in (0, 2):
            module = nn.LSTM(3, 5, **dict(zip(names, values, strict=True)), proj_size=proj_size)
            assert kernel_path(module, torch.zeros(2, 4, 3)).startswith("carousel: ")
            assert module(torch.zeros(2, 4, 3))[0].isfinite().all()
