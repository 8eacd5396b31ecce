"""What a call has found out about its module serves the next one (nn/again.py), and never once too often."""

import copy
import io
from contextlib import nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import carousel.nn
from carousel.nn.call import HAS_GUARDS

pytestmark = pytest.mark.skipif(not HAS_GUARDS, reason="this torch has no guards of tensors")


def pair(cell="LSTM", **options):
    torch.manual_seed(0)
    true = getattr(torch.nn, cell)(3, 5, 2, **options)
    ours = getattr(carousel.nn, cell)(3, 5, 2, **options)
    ours.load_state_dict(true.state_dict())
    return true, ours


def inputs(cell="LSTM", stateful=True, batch_first=False):
    torch.manual_seed(1)
    x, h, c = torch.randn(4, 4, 3), torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    return x, ((h, c) if cell == "LSTM" else h) if stateful else None


def flat(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


def outcome(module, x, hx):
    """The results of a call with their gradients, or the type of its error."""
    try:
        results = flat(module(x, hx))
    except Exception as error:
        return type(error)
    return [r.detach() for r in results], [r.requires_grad for r in results]


def same(true, ours, x, hx):
    right, found = outcome(true, x, hx), outcome(ours, x, hx)
    if isinstance(right, type):
        assert found is right
        return
    assert found[1] == right[1]
    for a, b in zip(right[0], found[0], strict=True):
        assert a.dtype is b.dtype
        torch.testing.assert_close(b, a)


def known(ours, x, hx):
    """Calls until the module remembers, and shows that it does."""
    for _ in range(3):
        ours(x, hx)
    assert ours._again is not None
    states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    assert ours._again.holds(ours, x, states, list(ours.parameters()))
    return ours._again


@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_a_known_call_gives_what_the_first_gave(cell, bidirectional, batch_first, stateful):
    _, ours = pair(cell, bidirectional=bidirectional, batch_first=batch_first)
    x = torch.randn(4, 6, 3)
    B, count = (4, 4) if batch_first else (6, 2)
    count = 4 if bidirectional else 2
    hx = None
    if stateful:
        hx = torch.randn(count, B, 5)
        hx = (hx, torch.randn(count, B, 5)) if cell == "LSTM" else hx
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            first = flat(ours(x, hx))
            known(ours, x, hx)
            for a, b in zip(first, flat(ours(x, hx)), strict=True):
                assert torch.equal(a, b)
                assert a.requires_grad == b.requires_grad
                assert a.stride() == b.stride()
                assert a.data_ptr() != b.data_ptr()


def test_gradients_of_a_known_call():
    true, ours = pair()
    x, hx = inputs()
    known(ours, x, hx)
    for module in (true, ours):
        module(x, hx)[0].square().sum().backward()
    for a, b in zip(true.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad)


def freeze(module):
    for p in module.parameters():
        p.requires_grad_(False)


def new_data(module):
    module.weight_hh_l0.data = module.weight_hh_l0.data * 2


def transposed_data(module):
    module.weight_hh_l1.data = module.weight_hh_l1.data.t().contiguous().t()


def in_place(module):
    module.weight_ih_l0.data.mul_(0.5)
    module.bias_hh_l1.detach().numpy()[:] = 0.25


def another_parameter(module):
    module.weight_hh_l0 = torch.nn.Parameter(torch.full_like(module.weight_hh_l0, 0.1))


def wrong_shape(module):
    module.weight_hh_l0 = torch.nn.Parameter(torch.zeros(3, 3))


def loaded(module):
    state = {name: 0.5 * p.detach() for name, p in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def parametrized(module):
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")


CHANGES = [
    freeze, new_data, transposed_data, in_place, another_parameter, loaded, parametrized,
    torch.nn.Module.double, torch.nn.Module.eval,
    lambda module: setattr(module, "batch_first", True),
    lambda module: setattr(module, "hidden_size", 6),
    lambda module: setattr(module, "num_layers", 1),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:RNN module weights")
@pytest.mark.parametrize("change", CHANGES)
def test_the_module_has_changed(change):
    true, ours = pair()
    x, hx = inputs()
    known(ours, x, hx)
    for module in (true, ours):
        change(module)
    same(true, ours, x, hx)
    same(true, ours, x, hx)


def test_a_weight_of_another_shape_is_left_to_torch():
    _, ours = pair()
    x, hx = inputs()
    memory = known(ours, x, hx)
    wrong_shape(ours)
    assert not memory.holds(ours, x, hx, list(ours.parameters()))
    assert "weights of another shape" in ours.kernel_path(x, hx)


X, (H, C) = inputs()
ARGUMENTS = [
    (X, None), (X[:2], (H, C)), (X[:, :2], (H[:, :2], C[:, :2])), (X[0], (H[:, 0], C[:, 0])), (X.double(), (H, C)),
    (X, (H, C.double())), (X, (H[:1], C)), (X, (H, C, C)), (X, (H,)), (X, H), (X, [H, C]), (X.half(), None),
    (X.bfloat16(), None), (X.transpose(0, 1), (H, C)), (X[..., :2], None), (X.clone().requires_grad_(), (H, C)),
    (X, (H.clone().requires_grad_(), C)), (X.to("meta"), None), (X.to_sparse(), None), ("x", None), (None, None),
    (X.expand(4, 4, 3), (H[:, :1].expand(2, 4, 5), C)), (torch._neg_view(X), (H, C)), (X.numpy(), None),
    (X[:, :0], None), (X[:0], None), (torch.nn.utils.rnn.pack_padded_sequence(X, [4, 3, 2, 1]), None),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_the_arguments_have_changed(number):
    true, ours = pair()
    known(ours, X, (H, C))
    x, hx = ARGUMENTS[number]
    if isinstance(x, torch.nn.utils.rnn.PackedSequence):
        assert torch.equal(ours(x)[0].data, carousel.nn.LSTM.forward(copy.deepcopy(ours), x)[0].data)
        torch.testing.assert_close(ours(x)[0].data, true(x)[0].data)
        return
    if isinstance(x, torch.Tensor) and x.dtype in (torch.bfloat16, torch.half):
        x, hx = x.double(), hx  # torch's CPU layers have no such mixture either
    same(true, ours, x, hx)


class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Dispatches(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, Functions, Dispatches, nullcontext,
             lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("cpu")],
)  # fmt: skip
def test_another_mode(mode):
    true, ours = pair()
    x, hx = inputs()
    known(ours, x, hx)
    with mode():
        right, found = flat(true(x, hx)), flat(ours(x, hx))
    for a, b in zip(right, found, strict=True):
        assert a.dtype is b.dtype
        assert a.requires_grad == b.requires_grad
        assert a.is_inference() == b.is_inference()
        torch.testing.assert_close(
            b.float(), a.float(), rtol=0, atol=2e-2 if a.dtype is torch.bfloat16 else 1e-5
        )


def test_a_dispatch_mode_sees_torchs_operations():
    seen = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    _, ours = pair()
    known(ours, X, (H, C))
    with torch.no_grad(), Record():
        ours(X, (H, C))
    assert len(seen) > 3


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_under_fake_tensors(kind):
    """Which have no memory: a known call is not one like them, although the tensors are the same."""
    from torch._subclasses import FakeTensor, FakeTensorMode

    ours = getattr(carousel.nn, kind)(3, 5)
    x = X[0] if kind.endswith("Cell") else X
    for _ in range(3):
        ours(x)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert not ours._again.holds(ours, x, (), list(ours.parameters()))
        first = tensors(ours(x))[0]
    assert isinstance(first, FakeTensor)
    assert first.shape == (*x.shape[:-1], 5)
    assert type(tensors(ours(x))[0]) is torch.Tensor


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own, for its forward mode
def test_transforms():
    true, ours = pair()
    known(ours, X, (H, C))
    weights = dict(ours.named_parameters())
    found = torch.func.grad(lambda w: torch.func.functional_call(ours, w, (X, (H, C)))[0].sum())(weights)
    right = torch.func.grad(lambda w: torch.func.functional_call(true, w, (X, (H, C)))[0].sum())(weights)
    for name in weights:
        torch.testing.assert_close(found[name], right[name])
    _, tangent = torch.func.jvp(lambda x: ours(x, (H, C))[0], (X,), (torch.ones_like(X),))
    step = 1e-3
    with torch.no_grad():
        slope = (ours(X + step, (H, C))[0] - ours(X - step, (H, C))[0]) / (2 * step)
    torch.testing.assert_close(tangent, slope, rtol=0, atol=1e-3)


def test_dropout_is_drawn_anew():
    _, ours = pair(dropout=0.5)
    ours.eval()
    known(ours, X, (H, C))
    ours.train()
    assert not torch.equal(ours(X, (H, C))[0], ours(X, (H, C))[0])
    ours.eval()
    assert torch.equal(ours(X, (H, C))[0], ours(X, (H, C))[0])


def test_a_copy_remembers_nothing():
    _, ours = pair()
    known(ours, X, (H, C))
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (copy.deepcopy(ours), torch.load(file, weights_only=False)):
        assert other._again is None
        assert torch.equal(other(X, (H, C))[0], ours(X, (H, C))[0])


def test_it_keeps_nobody_alive():
    import gc
    import weakref

    _, ours = pair()
    x = torch.randn(4, 4, 3)
    known(ours, x, None)
    weights = [weakref.ref(p) for p in ours.parameters()]
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None
    del ours
    gc.collect()
    assert [w() for w in weights] == [None] * len(weights)


# Cells

CELLS = ["LSTMCell", "GRUCell", "RNNCell"]


def cell_of(kind, batched=True, grad=False):
    torch.manual_seed(0)
    true, ours = getattr(torch.nn, kind)(3, 5), getattr(carousel.nn, kind)(3, 5)
    ours.load_state_dict(true.state_dict())
    rows = (4,) if batched else ()
    x, h, c = (torch.randn(*rows, n, requires_grad=grad) for n in (3, 5, 5))
    return true, ours, x, (h, c) if kind == "LSTMCell" else h


def tensors(state):
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_known_step(kind, batched, stateful, grad):
    """Numbers, gradients, second gradients; the first call and those that know of it."""
    true, ours, x, hx = cell_of(kind, batched, grad)
    sources = [x, *(tensors(hx) if stateful else ())] if grad else []
    seen = []
    for module in (true, ours, ours):
        state = tensors(module(x, hx if stateful else None))
        loss = sum(s.sin().sum() for s in state)
        first = torch.autograd.grad(loss, [*sources, *module.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), list(module.parameters()))
        with torch.no_grad():
            state += tensors(module(x, hx if stateful else None))
        seen.append([*state, *first, *second])
    assert ours._again is not None
    for other in seen[1:]:
        for right, found in zip(seen[0], other, strict=True):
            torch.testing.assert_close(found, right)
            assert found.shape == right.shape


@pytest.mark.parametrize("kind", CELLS)
def test_a_step_after_a_change(kind):
    true, ours, x, hx = cell_of(kind)
    ours(x, hx)
    states = tuple(tensors(hx))
    assert ours._again.holds(ours, x, states, list(ours.parameters()))
    for module in (true, ours):
        module.weight_hh.data.mul_(2)  # the same memory
        module.bias_ih.data = module.bias_ih.data + 1  # another
    for a, b in zip(tensors(true(x, hx)), tensors(ours(x, hx)), strict=True):
        torch.testing.assert_close(b, a)
    for other in (x[:2], x.double(), x[:, :2], x.expand(4, 3)[:, :3].clone().requires_grad_()):
        part = tuple(s[: len(other)] for s in states)
        found, right = (
            outcome_of_step(m, other, part if kind == "LSTMCell" else part[0]) for m in (ours, true)
        )
        if isinstance(right, type):
            assert found is right
            continue
        for a, b in zip(right, found, strict=True):
            torch.testing.assert_close(b, a)
            assert a.requires_grad == b.requires_grad
    for same_cell in (copy.deepcopy(ours), torch.load(saved(ours), weights_only=False)):
        assert same_cell._again is None
        for a, b in zip(tensors(ours(x, hx)), tensors(same_cell(x, hx)), strict=True):
            assert torch.equal(a, b)


def outcome_of_step(cell, x, hx):
    try:
        return tensors(cell(x, hx))
    except Exception as error:
        return type(error)


def saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("kind", CELLS)
def test_a_state_may_be_changed_in_place_as_in_torch(kind):
    true, ours, x, hx = cell_of(kind)
    found = []
    for module in (true, ours):
        state = tensors(module(x, hx))
        if kind != "RNNCell":  # torch's keeps its output
            state[0].mul_(0.5)
        sum(s.sum() for s in state).backward()
        found.append([p.grad for p in module.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a)


def test_an_output_that_the_backward_pass_reads_may_not_be_changed_as_in_torch():
    *cells, x, hx = cell_of("RNNCell")
    for cell in cells:
        y = cell(x, hx)
        y.mul_(0.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("kind", CELLS)
def test_spectral_norm_of_a_cell_is_asked_once(kind):
    """Each time that it is asked in training it is a little nearer to the norm."""
    found = []
    for module in cell_of(kind)[:2]:
        torch.manual_seed(5)
        torch.nn.utils.parametrizations.spectral_norm(module, "weight_hh")
        x, hx = cell_of(kind)[2:]
        found.append([t for _ in range(3) for t in tensors(module(x, hx))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a)
