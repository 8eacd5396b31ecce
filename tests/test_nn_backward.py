"""What a backward pass is given may have become something else since the forward pass, or be no plain tensor."""

import pytest

torch = pytest.importorskip("torch")

import torch.autograd.forward_ad as forward_ad  # noqa: E402

from carousel import nn  # noqa: E402
from carousel.errors import ArgumentError  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
I, H, T, B = 3, 4, 5, 2
KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
kinds = pytest.mark.parametrize("kind", KINDS)
layers = pytest.mark.parametrize("kind", KINDS[:3])
TOLERANCE = {"rtol": 0, "atol": 1e-12}  # float64, both sides round
WITHOUT_EACH_OTHER = pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # vmap, of torch's own layers


def made(kind, library=nn, dtype=torch.float64, **options):
    torch.manual_seed(0)
    module = getattr(library, kind)(I, H, **options).to(dtype)
    shape = (B, I) if kind.endswith("Cell") else (T, B, I)
    return module, torch.randn(shape, dtype=dtype, requires_grad=True)


def output(module, x):
    found = module(x)
    return found[0] if isinstance(found, tuple) else found


def gradients(module, x):
    return torch.autograd.grad(output(module, x).sin().sum(), [x, *module.parameters()])


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_another_dtype_is_refused(kind, dtype):
    module, x = made(kind)
    loss = output(module, x).sum()
    module.to(dtype)
    with pytest.raises(
        ArgumentError, match="of the dtype, device and shape that they had in the forward pass"
    ):
        loss.backward()


@kinds
@pytest.mark.parametrize("what", ["input", "weight"])
def test_another_shape_is_refused(kind, what):
    module, x = made(kind)
    loss = output(module, x).sum()
    given = x if what == "input" else next(module.parameters())
    given.data = given.data[:1].clone()
    with pytest.raises((ArgumentError, RuntimeError), match="shape"):
        loss.backward()


@kinds
def test_another_layout_is_read(kind):
    module, x = made(kind)
    right = gradients(module, x)
    loss = output(module, x).sin().sum()
    for weight in module.parameters():
        weight.data = weight.data.t().contiguous().t()
    for a, b in zip(torch.autograd.grad(loss, [x, *module.parameters()]), right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@kinds
@pytest.mark.parametrize("options", [{}, {"recompute": 2}])
def test_hooks_of_saved_tensors_may_lay_them_out_anew(kind, options):
    if options and kind.endswith("Cell"):
        return
    module, x = made(kind, **options)
    right = gradients(module, x)

    def turned(tensor):
        """Of the same values, but with strides of its own, and a pending negation."""
        if not tensor.is_floating_point():
            return tensor
        tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.dim() > 1 else tensor
        return torch._neg_view(-tensor)

    with torch.autograd.graph.saved_tensors_hooks(turned, lambda tensor: tensor):
        loss = output(module, x).sin().sum()
    for a, b in zip(torch.autograd.grad(loss, [x, *module.parameters()]), right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@layers
@pytest.mark.parametrize("options", [{}, {"recompute": 2}, {"batch_first": True}])
def test_hooks_of_saved_tensors_may_make_an_input_contiguous(kind, options):
    module, _ = made(kind, **options)
    x = torch.randn(B, 2, T, I, dtype=torch.float64)[:, 0].transpose(0, 1).requires_grad_()
    x = x.transpose(0, 1) if options.get("batch_first") else x
    right = gradients(module, x)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.contiguous(), lambda tensor: tensor):
        loss = output(module, x).sin().sum()
    for a, b in zip(torch.autograd.grad(loss, [x, *module.parameters()]), right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@kinds
def test_hooks_that_give_back_something_else_are_refused(kind):
    module, x = made(kind)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor.half(), lambda tensor: tensor.float()
    ):
        loss = output(module, x).sum()
    with pytest.raises(ArgumentError, match=r"Found torch.float32 on cpu"):
        loss.backward()


@kinds
def test_a_negation_of_gradients_is_carried_out(kind):
    module, x = made(kind)
    y = output(module, x)
    dy = torch.randn_like(y)
    wanted = [x, *module.parameters()]
    right = torch.autograd.grad(y, wanted, -dy, retain_graph=True)
    for a, b in zip(torch.autograd.grad(y, wanted, torch._neg_view(dy)), right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@layers
def test_a_negation_of_the_last_states_gradient_is_carried_out(kind):
    module, x = made(kind)
    states = module(x)[1]
    state = states[1] if kind == "LSTM" else states
    dstate = torch.randn_like(state)
    (right,) = torch.autograd.grad(state, x, -dstate, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(state, x, torch._neg_view(dstate))[0], right, **TOLERANCE)


@WITHOUT_EACH_OTHER
@kinds
@pytest.mark.parametrize("options", [{}, {"recompute": 2}, {"layer_norm": True}])
def test_batched_gradients(kind, options):
    if options and kind.endswith("Cell"):
        return
    module, x = made(kind, **options)
    y = output(module, x)
    wanted, dy = [x, *module.parameters()], torch.randn(7, *y.shape, dtype=y.dtype)
    right = [torch.autograd.grad(y, wanted, each, retain_graph=True) for each in dy]

    def one(each):
        return torch.autograd.grad(y, wanted, each, retain_graph=True)

    for found in (
        torch.autograd.grad(y, wanted, dy, is_grads_batched=True, retain_graph=True),
        torch.func.vmap(one)(dy),
    ):
        for a, b in zip(found, zip(*right, strict=True), strict=True):
            torch.testing.assert_close(a, torch.stack(b), **TOLERANCE)
            assert not a.requires_grad


@WITHOUT_EACH_OTHER
@kinds
def test_the_vectorized_jacobian_is_torchs(kind):
    found, right = (
        torch.autograd.functional.jacobian(
            lambda x, module=module: output(module, x), made(kind)[1], vectorize=True
        )
        for module, _ in (made(kind), made(kind, torch.nn))
    )
    torch.testing.assert_close(found, right, **TOLERANCE)


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dual_gradients(kind):
    """Forward over reverse: how the gradient of x moves with that of y, which it is linear in."""
    module, x = made(kind)
    y = output(module, x)
    dy, tangent = torch.randn_like(y), torch.randn_like(y)
    (right,) = torch.autograd.grad(y, x, tangent, retain_graph=True)
    with forward_ad.dual_level():
        (found,) = torch.autograd.grad(y, x, forward_ad.make_dual(dy, tangent))
        torch.testing.assert_close(forward_ad.unpack_dual(found).tangent, right, **TOLERANCE)


def test_a_distance_beyond_the_steps_needs_no_more_memory():
    module, x = made("LSTM")
    sparing, _ = made("LSTM", recompute=10**30)
    for a, b in zip(gradients(sparing, x), gradients(module, x), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_shortcuts_of_a_stack_do_not_look_beyond_an_end():
    torch.manual_seed(0)
    stack, x = nn.Stack(I, [H], residual=True), torch.randn(T, B, I)
    y, _ = stack(x, lengths=[T, 2])
    dy = torch.ones_like(y)
    dy[2:, 1] = float("nan")
    y.backward(dy)
    assert all(parameter.grad.isfinite().all() for parameter in stack.parameters())
