"""recompute=k: the same numbers as without it, and a backward pass that keeps little."""

import pytest

torch = pytest.importorskip("torch")

from carousel import kernel_path, nn  # noqa: E402
from modules import arguments_of, called, module_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = ["LSTM", "GRU", "RNN"]
layers = pytest.mark.parametrize("kind", LAYERS)
BEYOND = {
    "plain": {},
    "zoneout": {"zoneout": 0.3},
    "masks": {"state_dropout": 0.3, "input_dropout": 0.3, "zoneout": 0.2},
    "layer_norm": {"layer_norm": True},
    "frozen": {},
}


@layers
@pytest.mark.parametrize("k", [1, 2, 3, 7, 20, True], ids=str)
@pytest.mark.parametrize("form", ["one", "deep"])
@pytest.mark.parametrize("lengths", [None, [4, 7, 0, 6]], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", BEYOND)
def test_the_same_numbers(kind, k, form, lengths, name):
    """Same bits of all outputs and of the gradients of x and hx; weights' gradients add up in parts."""
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True} if form == "deep" else {}
    seen = []
    for recompute in (False, k):
        module = module_of(kind, **options, **BEYOND[name], recompute=recompute)
        x, hx = arguments_of(module)
        if name == "frozen":
            x, hx = (
                x.detach().requires_grad_(),
                tuple(s.detach() for s in hx) if kind == "LSTM" else hx.detach(),
            )
            module.weight_ih_l0.requires_grad_(False)
        torch.manual_seed(8)
        if name == "frozen":
            y, _ = module(x, hx, lengths=lengths)
            (dx,) = torch.autograd.grad(y.sin().sum(), x)
            seen.append({"y": y.detach().numpy(), "dx": dx.numpy()})
            continue
        seen.append(called(module, x, hx, lengths=lengths))
    right, found = seen
    assert right.keys() == found.keys()
    for name_, value in right.items():
        same_bits = name_ in ("y", "h_n", "c_n", "dx", "dh_0", "dc_0")
        tolerance = 0 if same_bits else 1e-13
        assert abs(found[name_] - value).max() <= tolerance * max(1, abs(value).max()), name_


def saved_bytes(module, x):
    """Of the storages that a call keeps for its backward pass, beside the parameters and x."""
    kept = {}
    known = {t.untyped_storage().data_ptr() for t in (x, *module.parameters())}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y, _ = module(x)
    assert y.requires_grad
    return sum(kept.values())


@layers
def test_little_is_kept(kind):
    """y, and of an LSTM its cells at every k-th step: (T + T/k) B H numbers instead of those of all gates."""
    T, B, H, k = 100, 8, 16, 10
    x = torch.randn(T, B, 3)
    found = saved_bytes(getattr(nn, kind)(3, H, recompute=k), x)
    cells = (T // k - 1) * B * H if kind == "LSTM" else 0
    assert found == 4 * (T * B * H + cells)
    everything = saved_bytes(getattr(nn, kind)(3, H), x)
    assert everything >= {"LSTM": 6, "GRU": 5, "RNN": 1}[kind] * 4 * T * B * H


def test_true_is_the_root_of_the_steps():
    x = torch.randn(100, 8, 3)
    assert saved_bytes(nn.LSTM(3, 16, recompute=True), x) == saved_bytes(nn.LSTM(3, 16, recompute=10), x)


def test_backward_twice_and_second_derivatives():
    module = module_of("LSTM", recompute=3, bidirectional=True)
    x, hx = arguments_of(module)
    loss = module(x, hx)[0].sin().sum()
    wanted = [x, *hx, *module.parameters()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted, create_graph=True)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    plain = module_of("LSTM", bidirectional=True)
    x_plain, hx_plain = arguments_of(plain)
    right = torch.autograd.grad(
        plain(x_plain, hx_plain)[0].sin().sum(), [x_plain, *hx_plain, *plain.parameters()], create_graph=True
    )
    penalty, right_penalty = (sum(g.square().sum() for g in gs) for gs in (second, right))
    penalty.backward()
    right_penalty.backward()
    for a, b in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)


def test_a_state_that_is_not_contiguous():
    """Its gradient, and the gradient of that, reach it."""
    module = module_of("LSTM", recompute=3)
    x, (h, c) = arguments_of(module)
    strided = c.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    assert not strided.is_contiguous()
    seen = []
    for cell in (c, strided):
        (dc,) = torch.autograd.grad(module(x, (h, cell))[0].sin().sum(), cell, create_graph=True)
        seen += [torch.autograd.grad(dc.square().sum(), cell)[0]]
    torch.testing.assert_close(*seen, rtol=0, atol=1e-12)


def test_gates_can_still_be_returned():
    module = module_of("LSTM", recompute=3)
    x, hx = arguments_of(module)
    y, _, gates = module(x, hx, return_gates=True)
    assert torch.equal(y, module(x, hx)[0])
    gates.f.sum().backward()
    assert x.grad.abs().sum() > 0


def test_inference_keeps_nothing():
    module = module_of("LSTM", recompute=3)
    x, hx = arguments_of(module)
    with torch.no_grad():
        y, _ = module(x, hx)
    assert torch.equal(y, module(x, hx)[0])
    assert kernel_path(module, x, hx).startswith("carousel: ")


def test_a_graph_serves_every_length():
    """The distance of the kept states follows from the length; in a graph, which keeps them all, it must not."""
    module = module_of("LSTM", recompute=True)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for T in (9, 7, 5):
        x = torch.randn(T, 4, 3, dtype=torch.float64)
        torch.testing.assert_close(compiled(x)[0], module(x)[0])
