"""On a GPU: torch's own path (cuDNN) for what it covers, the formula for our options; kernel_path says which."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

from carousel import accelerate, kernel_path, nn  # noqa: E402
from differential import CELLS, LAYERS, flat  # noqa: E402
from modules import arguments_of, module_of  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    pytest.mark.usefixtures("one_thread"),
]
OPTIONS = {
    "LSTM": {"layer_norm": True, "peephole": True, "zoneout": 0.2, "proj_size": 2},
    "GRU": {"layer_norm": True, "reset": "before", "clip": 0.5},
    "RNN": {"layer_norm": True, "zoneout": 0.2, "learn_initial_state": True},
}
TOLERANCE = {"rtol": 0, "atol": 1e-10}  # float64 on both sides, whose sums go round in other orders


def moved(tree):
    return tuple(map(moved, tree)) if isinstance(tree, tuple) else tree.detach().cuda().requires_grad_()


def called(module, x, hx, **keywords):
    """Outputs and gradients, on the CPU."""
    outputs = flat(module(x, hx, **keywords))
    wanted = [x, *flat(hx), *module.parameters()]
    gradients = torch.autograd.grad(sum(o.sin().sum() for o in outputs), wanted, allow_unused=True)
    return [None if t is None else t.cpu() for t in (*outputs, *gradients)]


def assert_close(found, right):
    for a, b in zip(found, right, strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
def test_a_layer_takes_torchs_path(kind, options):
    module = module_of(kind, **options)
    x, hx = arguments_of(module)
    right = called(module, x, hx)
    module.cuda()
    assert kernel_path(module, moved(x), moved(hx)) == "torch: device cuda:0"
    assert_close(called(module, moved(x), moved(hx)), right)


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_takes_torchs_path(kind):
    module = getattr(nn, kind)(3, 5, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)
    right = flat(module(x))
    module.cuda()
    assert kernel_path(module, x.cuda()) == "torch: device cuda:0"
    assert_close([o.cpu() for o in flat(module(x.cuda()))], right)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("lengths", [None, [4, 7, 0, 6]])
def test_options_take_the_formula(kind, lengths):
    module = module_of(kind, num_layers=2, bidirectional=True, **OPTIONS[kind]).eval()
    x, hx = arguments_of(module)
    right = called(module, x, hx, lengths=lengths)
    module.cuda()
    assert kernel_path(module, moved(x), moved(hx)) == "torch operations: device cuda:0"
    assert_close(called(module, moved(x), moved(hx), lengths=lengths), right)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("options", [False, True], ids=["plain", "options"])
def test_packed_sequences(kind, options):
    module = module_of(kind, **(OPTIONS[kind] if options else {})).eval()
    x, hx = arguments_of(module)
    seen = []
    for device in ("cpu", "cuda"):
        module.to(device)
        packed = pack_padded_sequence(x.to(device), [4, 7, 1, 6], enforce_sorted=False)
        y, state = module(packed, tuple(s.to(device) for s in hx) if kind == "LSTM" else hx.to(device))
        seen.append([t.cpu() for t in (pad_packed_sequence(y)[0], *flat(state))])
    assert_close(*seen)


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_train(kind):
    """Masks are drawn where the tensors are; every parameter has a finite gradient."""
    module = getattr(nn, kind)(3, 5, 2, **OPTIONS[kind], input_dropout=0.2, state_dropout=0.2).cuda()
    y, _ = module(torch.randn(6, 4, 3, device="cuda"), lengths=torch.tensor([6, 2, 1, 4], device="cuda"))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_there_and_back():
    """`.cuda()` and `.cpu()` of an accelerated model; the weights are those of the moment."""
    model = accelerate(torch.nn.Sequential(torch.nn.GRU(3, 5)))
    x = torch.randn(6, 4, 3)
    right = model(x)[0]
    torch.testing.assert_close(
        model.cuda()(x.cuda())[0].cpu(), right, rtol=0, atol=1e-3
    )  # cuDNN may use TF32
    assert torch.equal(model.cpu()(x)[0], right)
    assert kernel_path(model[0], x).startswith("carousel: ")


def test_devices_that_do_not_fit():
    ours, theirs = nn.LSTM(3, 5).cuda(), torch.nn.LSTM(3, 5).cuda()
    seen = []
    for module in (ours, theirs):
        with pytest.raises(RuntimeError) as caught:
            module(torch.zeros(6, 4, 3))
        seen.append(str(caught.value))
    assert seen[0] == seen[1]
