"""return_gates: the gates and cells of every step against the reference, and gradients through them."""

import pytest

torch = pytest.importorskip("torch")

from carousel import nn  # noqa: E402
from carousel.errors import UnsupportedError  # noqa: E402
from modules import arguments_of, called, differences, module_of, recorded, reference  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-12  # float64, both sides round
NAMES = {"LSTM": "ifgoc", "GRU": "rzn"}
OPTIONS = [
    ("LSTM", {}),
    ("LSTM", {"coupled_gates": True, "peephole": True}),
    ("LSTM", {"proj_size": 2, "zoneout": 0.3, "bias": False}),
    ("LSTM", {"layer_norm": True, "recurrent_dropout": 0.3, "clip": 0.5, "cell_clip": 0.3}),
    ("LSTM", {"recompute": 2, "input_dropout": 0.3}),
    ("GRU", {}),
    ("GRU", {"layer_norm": True, "reset": "before"}),
    ("GRU", {"zoneout": 0.3, "state_dropout": 0.3, "recurrent_dropout": 0.3}),
]
options = pytest.mark.parametrize(("kind", "given"), OPTIONS, ids=[f"{k} {' '.join(o)}" for k, o in OPTIONS])


@options
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 7, 0, 6]], ids=["whole", "ragged"])
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_gates_are_the_references(kind, given, num_layers, batch_first, lengths, grad):
    module = module_of(
        kind, **given, num_layers=num_layers, bidirectional=num_layers == 2, batch_first=batch_first
    )
    x, hx = arguments_of(module)
    with recorded() as draws:
        if grad:
            found = called(module, x, hx, lengths=lengths, return_gates=True)
        else:
            with torch.no_grad():
                y, _, gates = module(x, hx, lengths=lengths, return_gates=True)
            found = {"y": y.numpy()} | {n: g.numpy() for n, g in gates._asdict().items() if g is not None}
    assert {name for name in "ifgocrzn" if name in found} == set(NAMES[kind])
    assert differences(found, reference(module, x, hx, draws, lengths), TOLERANCE) == []


@options
def test_outputs_are_those_without_gates(kind, given):
    module = module_of(kind, **given, num_layers=2, bidirectional=True)
    x, hx = arguments_of(module)
    torch.manual_seed(3)
    right = called(module, x, hx)
    torch.manual_seed(3)
    found = called(module, x, hx, return_gates=True)
    for name, value in right.items():
        assert abs(found[name] - value).max() <= 1e-13, name


@options
@pytest.mark.parametrize("lengths", [None, [4, 2]], ids=["whole", "ragged"])
def test_gradients_through_gates(kind, given, lengths):
    """Of a loss that reads y and all gates and cells, by finite differences."""
    if "clip" in given:
        given = given | {"clip": 1e3, "cell_clip": 1e3}  # no kinks
    module = module_of(kind, **given, bidirectional=True)
    x, hx = arguments_of(module, T=4, B=2)
    named = dict(module.named_parameters())

    def function(x, *parameters):
        torch.manual_seed(3)
        y, _, gates = torch.func.functional_call(
            module,
            dict(zip(named, parameters, strict=True)),
            (x, hx),
            {"lengths": lengths, "return_gates": True},
        )
        return (y, *(gate for gate in gates if gate is not None))

    assert torch.autograd.gradcheck(function, (x, *named.values()), fast_mode=True)


def test_each_gate_has_a_gradient_of_its_own():
    module = module_of("LSTM", num_layers=2)
    x, hx = arguments_of(module)
    seen = []
    for name in NAMES["LSTM"]:
        *_, gates = module(x, hx, return_gates=True)
        (dx,) = torch.autograd.grad(getattr(gates, name).square().sum(), x)
        assert dx.abs().sum() > 0
        seen.append(dx)
    assert all(not torch.allclose(a, b) for k, a in enumerate(seen) for b in seen[:k])


def test_a_penalty_on_the_cells_trains():
    """Norm stabilisation (Krueger and Memisevic 2016): a loss on c and y, one step of descent lowers it."""
    module = nn.LSTM(3, 5)
    x = torch.randn(6, 4, 3)

    def loss():
        y, _, gates = module(x, return_gates=True)
        return (gates.c.norm(dim=-1).diff(dim=1) ** 2).mean() + y.square().mean()

    before = loss()
    before.backward()
    with torch.no_grad():
        for p in module.parameters():
            p -= 0.1 * p.grad
    assert loss() < before


def test_without_a_batch_axis():
    module = module_of("LSTM", num_layers=2)
    x, (h, c) = arguments_of(module)
    *_, right = module(x[:, :1], (h[:, :1], c[:, :1]), return_gates=True)
    *_, found = module(x[:, 0], (h[:, 0], c[:, 0]), return_gates=True)
    for a, b in zip(found[:5], right[:5], strict=True):
        assert a.shape == (2, 7, 5)
        assert torch.equal(a, b[:, :, 0])


def test_with_dropout_between_layers():
    module = module_of("LSTM", num_layers=3, dropout=0.5)
    x, hx = arguments_of(module)
    y, (_, c_n), gates = module(x, hx, return_gates=True)
    assert gates.c.shape == (3, 7, 4, 5)
    assert torch.equal(gates.c[:, -1], c_n)
    torch.testing.assert_close(y, gates.o[-1] * gates.c[-1].tanh())


def test_what_cannot_be():
    module = module_of("LSTM")
    x, hx = arguments_of(module)
    words = "`return_gates` needs the kernels; this call cannot use them: a torch dispatch or function mode."
    with torch.overrides.BaseTorchFunctionMode(), pytest.raises(UnsupportedError, match=words):
        module(x, hx, return_gates=True)
    *_, gates = module(x, hx, return_gates=True)
    (dx,) = torch.autograd.grad(module(x, hx)[0].sum(), x, create_graph=True)
    assert dx.requires_grad
    with pytest.raises(
        UnsupportedError, match="A gradient of the gradient of returned gates is not supported"
    ):
        torch.autograd.grad(gates.f.sum(), x, create_graph=True)
    with pytest.raises(TypeError, match="return_gates"):
        nn.RNN(3, 5)(torch.zeros(2, 4, 3), return_gates=True)


def test_second_derivatives_of_the_outputs_beside_gates():
    module = module_of("LSTM")
    x, hx = arguments_of(module)
    y, _, _ = module(x, hx, return_gates=True)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (right,) = torch.autograd.grad(module(x, hx)[0].square().sum(), x, create_graph=True)
    for loss, other in ((dx, right),):
        a, b = (torch.autograd.grad(v.square().sum(), x)[0] for v in (loss, other))
        torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCE)
