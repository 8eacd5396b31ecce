"""bfloat16, as a module's dtype and under autocast: dtypes as torch's, errors bounded, inference and training."""

import itertools

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

from carousel import _core, kernel_path, nn  # noqa: E402
from modules import flat  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
LAYERS = ["LSTM", "GRU", "RNN"]
layers = pytest.mark.parametrize("kind", LAYERS)
ROUNDING = 2.0**-8  # half a unit in the last of bfloat16's 8 digits, for numbers below 2
LOW = torch.bfloat16

OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "nobias": {"bias": False},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": 0.3},
    "recompute": {"recompute": 2},
    "state_dropout": {"state_dropout": 0.3, "input_dropout": 0.2},
}
forms = pytest.mark.parametrize("name", OPTIONS)


def module_of(kind, name="plain", **options):
    """Weights and inputs are numbers of bfloat16: a float32 module computes with them as they are."""
    torch.manual_seed(2)
    module = getattr(nn, kind)(16, 32, **OPTIONS[name], **options)
    for p in module.parameters():
        p.data = p.data.to(LOW).float()
    return module


def inputs(module, T=12, B=5):
    torch.manual_seed(3)
    x = torch.randn(B, T, 16) if module.batch_first else torch.randn(T, B, 16)
    count = module.num_layers * (2 if module.bidirectional else 1)
    h, c = (0.5 * torch.randn(count, B, 32) for _ in range(2))
    x, h, c = (t.to(LOW).float() for t in (x, h, c))
    return x, ((h, c) if module.mode == "LSTM" else h)


def low(tree):
    return tuple(map(low, tree)) if isinstance(tree, tuple) else tree.to(LOW)


def assert_near(found, right, roundings=3):
    """Within so many roundings; seen is at most one, which is mostly that of the result."""
    for a, b in zip(flat(found), flat(right), strict=True):
        assert a.dtype is LOW
        error, scale = (a.float() - b).detach().abs().max(), b.detach().abs().max()
        assert float(error) <= roundings * ROUNDING * max(1.0, float(scale))


@layers
@forms
@pytest.mark.parametrize("training", [False, True], ids=["no_grad", "grad"])
def test_a_module_in_bfloat16(kind, name, training):
    """The same computation in float32, with one seed, differs by less than three roundings."""
    module = module_of(kind, name)
    x, hx = inputs(module)
    torch.manual_seed(7)
    right = module(x, hx)
    half = module.bfloat16()
    assert kernel_path(half, low(x), low(hx)) == f"carousel: {_core.isa()} bfloat16"
    torch.manual_seed(7)
    with torch.set_grad_enabled(training):
        found = half(low(x), low(hx))
    assert found[0].requires_grad == training
    assert_near(found, right)


@layers
@forms
@pytest.mark.parametrize("training", [False, True], ids=["no_grad", "grad"])
def test_autocast(kind, name, training):
    module = module_of(kind, name)
    x, hx = inputs(module)
    torch.manual_seed(7)
    right = module(x, hx)
    with torch.autocast("cpu", LOW), torch.set_grad_enabled(training):
        assert kernel_path(module, x, hx) == f"carousel: {_core.isa()} bfloat16"
        torch.manual_seed(7)
        found = module(x, hx)
    if kind == "GRU":
        found = low(found)  # whose dtype is that of the state
    assert_near(found, right)


@layers
@pytest.mark.parametrize("name", ["plain", "deep"])
def test_dtypes_are_torchs(kind, name):
    """For inputs, states and weights in either dtype, under autocast or not."""
    ours = module_of(kind, name)
    theirs = getattr(torch.nn, kind)(16, 32, **OPTIONS[name])
    theirs.load_state_dict(ours.state_dict())
    for wide, autocast, x_low, hx_low in itertools.product((True, False), repeat=4):
        for module in (ours, theirs):
            module.to(torch.float32 if wide else LOW)
        for given in (True, False):
            x, hx = inputs(ours)
            x, hx = low(x) if x_low else x, (low(hx) if hx_low else hx) if given else None
            seen = []
            for module in (ours, theirs):
                with torch.no_grad(), torch.autocast("cpu", LOW, enabled=autocast):
                    try:
                        seen.append([t.dtype for t in flat(module(x, hx))])
                    except (RuntimeError, ValueError) as error:
                        seen.append(str(error))
            assert seen[0] == seen[1], f"{wide=} {autocast=} {x_low=} {hx_low=} {given=}"


@layers
def test_gradients(kind):
    """Of bfloat16's dtype, and near those of float32: two passes over 12 steps, sums of 60 terms rounded once."""
    module = module_of(kind, "deep")
    x, hx = inputs(module)
    right = torch.autograd.grad(module(x.requires_grad_(), hx)[0].sum(), [x, *module.parameters()])
    half, x = module.bfloat16(), low(x.detach()).requires_grad_()
    found = torch.autograd.grad(half(x, low(hx))[0].float().sum(), [x, *half.parameters()])
    assert_near(found, right)


@layers
def test_gradients_under_autocast_are_of_the_parameters_dtype(kind):
    module = module_of(kind)
    x, hx = inputs(module)
    with torch.autocast("cpu", LOW):
        y, _ = module(x.requires_grad_(), hx)
    y.float().sum().backward()
    assert {t.grad.dtype for t in (x, *module.parameters())} == {torch.float32}
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(x, hx)[0].sum().backward()
    for a, p in zip(found, module.parameters(), strict=True):
        assert float((a - p.grad).abs().max()) <= 3 * ROUNDING * max(1.0, float(p.grad.abs().max()))


@layers
def test_second_derivatives(kind):
    module = module_of(kind).bfloat16()
    x, hx = inputs(module)
    x = low(x).requires_grad_()
    (dx,) = torch.autograd.grad(module(x, low(hx))[0].float().square().sum(), x, create_graph=True)
    dx.float().square().sum().backward()
    assert module.weight_hh_l0.grad.dtype is LOW
    assert module.weight_hh_l0.grad.abs().sum() > 0


def test_packed_sequences_and_lengths():
    module = module_of("LSTM", "deep").bfloat16()
    x, hx = inputs(module)
    x, hx, lengths = low(x), low(hx), [12, 7, 7, 3, 1]
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    with torch.no_grad():
        y, state = module(x, hx, lengths=lengths)
        z, packed_state = module(packed, hx)
    assert kernel_path(module, packed, hx) == f"carousel: {_core.isa()} bfloat16"
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(z, batch_first=True)
    assert torch.equal(padded, y)
    assert all(torch.equal(a, b) for a, b in zip(state, packed_state, strict=True))


def test_projection():
    module = module_of("LSTM", proj_size=8)
    x, _ = inputs(module)
    right = module(x)
    with torch.no_grad():
        assert_near(module.bfloat16()(low(x)), right)


def test_gates_of_a_module_in_bfloat16():
    module = module_of("LSTM")
    x, hx = inputs(module)
    *_, right = module(x, hx, return_gates=True)
    y, _, found = module.bfloat16()(low(x), low(hx), return_gates=True)
    assert y.dtype is LOW
    for a, b in zip(found[:5], right[:5], strict=True):
        assert float((a - b).detach().abs().max()) <= 3 * ROUNDING


@layers
def test_state_dict_goes_there_and_back(kind):
    module = module_of(kind, "layer_norm")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    half = module_of(kind, "layer_norm").bfloat16()
    half.load_state_dict(before)
    module.load_state_dict(half.state_dict())
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


def test_other_halves_are_not_ours():
    module = module_of("GRU")
    x, _ = inputs(module)
    with torch.autocast("cpu", torch.float16):
        assert kernel_path(module, x) == "torch: autocast"
        assert kernel_path(module, x.to(LOW)) == "torch: dtype torch.bfloat16"
        assert kernel_path(module_of("GRU", "layer_norm"), x) == "torch operations: autocast"
    assert kernel_path(module.half(), x.half()) == "torch: dtype torch.float16"
    with torch.autocast("cpu", LOW):
        assert kernel_path(module_of("GRU").double(), x.double()) == "torch: autocast"


@pytest.mark.parametrize("H", [31, 48, 65])
@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in LAYERS), ("GRU", {"reset": "before"})]
)
def test_a_row_alone_has_the_bits_of_any_batch(kind, options, H):
    torch.manual_seed(4)
    module = getattr(nn, kind)(8, H, dtype=LOW, **options)
    x = torch.randn(20, 3, 8).to(LOW)
    with torch.no_grad():
        y, _ = module(x)
        alone = torch.cat([module(row)[0] for row in x.split(1, 1)], 1)
        ragged, _ = module(x, lengths=torch.tensor([20, 6, 11]))
    assert torch.equal(alone, y)
    assert torch.equal(ragged[:, 0], y[:, 0])  # the last row that runs


def test_a_mask_that_is_not_drawn_keeps_no_call_from_low_products():
    torch.manual_seed(5)
    masked = nn.LSTM(16, 64, state_dropout=0.3).bfloat16().eval()
    plain = nn.LSTM(16, 64).bfloat16()
    plain.load_state_dict(dict(masked.state_dict()))
    x = torch.randn(20, 4, 16).to(LOW)
    with torch.no_grad():
        assert torch.equal(masked(x)[0], plain(x)[0])  # the same roundings
