"""Options where no kernel can go: compile, export, torch.func, float16, other modes. The formula computes them."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

from carousel import kernel_path, nn  # noqa: E402
from modules import arguments_of, flat, module_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {
    "LSTM": {"layer_norm": True, "peephole": True, "zoneout": 0.2, "proj_size": 2},
    "GRU": {"layer_norm": True, "reset": "before", "clip": 0.5},
    "RNN": {"layer_norm": True, "zoneout": 0.2, "learn_initial_state": True},
}
kinds = pytest.mark.parametrize("kind", OPTIONS)
TOLERANCE = {"rtol": 0, "atol": 1e-12}  # float64, both sides round


def optioned(kind, **more):
    return module_of(kind, **OPTIONS[kind], **more).eval()


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor")
def test_compile(kind):
    module = optioned(kind, num_layers=2)
    x, hx = arguments_of(module)
    right = flat(module(x, hx))
    wanted = [x, *flat(hx)]
    right_gradients = torch.autograd.grad(right[0].sin().sum(), wanted)
    compiled = torch.compile(module, backend="eager")
    found = flat(compiled(x, hx))
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)
    for a, b in zip(torch.autograd.grad(found[0].sin().sum(), wanted), right_gradients, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)
    ragged = compiled(x, hx, lengths=torch.tensor([4, 7, 0, 6]))[0]
    torch.testing.assert_close(ragged, module(x, hx, lengths=[4, 7, 0, 6])[0], **TOLERANCE)
    torch._dynamo.reset()


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The tensor attributes self._flat")
def test_export(kind):
    module = optioned(kind)
    x, hx = arguments_of(module)
    exported = torch.export.export(module, (x.detach(), hx)).module()
    for a, b in zip(flat(exported(x, hx)), flat(module(x, hx)), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@kinds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Converting a tensor to a Python")
def test_trace(kind):
    module = optioned(kind)
    x, hx = arguments_of(module)
    x, hx = x.detach(), tuple(s.detach() for s in hx) if kind == "LSTM" else hx.detach()
    traced = torch.jit.trace(module, (x, hx), check_trace=False)
    for a, b in zip(flat(traced(x, hx)), flat(module(x, hx)), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@kinds
def test_func_grad(kind):
    module = optioned(kind, num_layers=2, bidirectional=True)
    x, hx = arguments_of(module)
    paths = []

    def loss(parameters):
        paths.append(kernel_path(module, x, hx))
        return torch.func.functional_call(module, parameters, (x, hx))[0].sin().sum()

    parameters = {name: p.detach() for name, p in module.named_parameters()}
    found = torch.func.grad(loss)(parameters)
    assert paths == ["torch operations: torch.func"]
    names = [name for name, _ in module.named_parameters()]
    right = torch.autograd.grad(module(x, hx)[0].sin().sum(), list(module.parameters()), allow_unused=True)
    for name, value in zip(names, right, strict=True):
        torch.testing.assert_close(
            found[name], torch.zeros_like(found[name]) if value is None else value, **TOLERANCE
        )


@kinds
def test_vmap(kind):
    """Over models: an ensemble in one call."""
    modules = [module_of(kind, **OPTIONS[kind], seed=seed).eval() for seed in (0, 1)]
    parameters, _ = torch.func.stack_module_state(modules)
    x = arguments_of(modules[0])[0].detach()
    found = torch.func.vmap(lambda p: torch.func.functional_call(modules[0], p, (x,))[0])(parameters)
    for a, module in zip(found, modules, strict=True):
        torch.testing.assert_close(a, module(x)[0], **TOLERANCE)


@kinds
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_forward_mode(kind):
    """torch's layers have none; the formula's operations do."""
    module = optioned(kind)
    x, hx = arguments_of(module)
    x = x.detach()
    _, tangent = torch.func.jvp(lambda x: module(x, hx)[0], (x,), (torch.ones_like(x),))
    step = 1e-6
    with torch.no_grad():
        right = (module(x + step, hx)[0] - module(x - step, hx)[0]) / (2 * step)
    torch.testing.assert_close(tangent, right, rtol=0, atol=1e-8)


@kinds
def test_float16(kind):
    module = optioned(kind)
    x, hx = arguments_of(module)
    right = module(x, hx)[0]
    module = module.half()
    x, hx = x.half(), tuple(s.half() for s in hx) if kind == "LSTM" else hx.half()
    assert kernel_path(module, x, hx) == "torch operations: dtype torch.float16"
    y = module(x, hx)[0]
    assert y.dtype is torch.float16
    torch.testing.assert_close(y.double(), right, rtol=0, atol=0.01)  # float16 keeps 11 bits


@kinds
def test_a_mode_of_torch(kind):
    module = optioned(kind)
    x, hx = arguments_of(module)
    with torch.overrides.BaseTorchFunctionMode():
        assert kernel_path(module, x, hx) == "torch operations: a torch dispatch or function mode"
        found = flat(module(x, hx))
    for a, b in zip(found, flat(module(x, hx)), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_lengths_and_packing_without_kernels():
    for kind in OPTIONS:
        plain = module_of(kind, num_layers=2, bidirectional=True)
        x, hx = arguments_of(plain)
        packed = pack_padded_sequence(x, [4, 7, 1, 6], enforce_sorted=False)
        right = flat(plain(x, hx, lengths=[4, 7, 1, 6])), plain(packed, hx)[0].data
        with torch.overrides.BaseTorchFunctionMode():
            assert kernel_path(plain, x, hx) == "torch: a torch dispatch or function mode"
            found = flat(plain(x, hx, lengths=[4, 7, 1, 6])), plain(packed, hx)[0].data
        for a, b in zip(found[0], right[0], strict=True):
            torch.testing.assert_close(a, b, **TOLERANCE)
        torch.testing.assert_close(found[1], right[1], **TOLERANCE)


# ---- misuse with options: torch's words ----


def x_of(*shape, **options):
    return torch.zeros(*shape, **options)


def hx_of(kind, *shape, **options):
    h = torch.zeros(*shape, **options)
    return (h, h.clone()) if kind == "LSTM" else h


MISUSE = {
    "features": lambda kind: (x_of(6, 4, 2),),
    "features without a batch": lambda kind: (x_of(6, 2),),
    "four axes": lambda kind: (x_of(2, 6, 4, 3),),
    "no axis": lambda kind: (torch.tensor(1.0),),
    "float64 for float32": lambda kind: (x_of(6, 4, 3, dtype=torch.float64),),
    "integers": lambda kind: (x_of(6, 4, 3, dtype=torch.int64),),
    "a list": lambda kind: ([1.0, 2.0, 3.0],),
    "None": lambda kind: (None,),
    "no steps": lambda kind: (x_of(0, 4, 3),),
    "no steps without a batch": lambda kind: (x_of(0, 3),),
    "batch of the state": lambda kind: (x_of(6, 4, 3), hx_of(kind, 1, 2, 5)),
    "size of the state": lambda kind: (x_of(6, 4, 3), hx_of(kind, 1, 4, 4)),
    "layers of the state": lambda kind: (x_of(6, 4, 3), hx_of(kind, 2, 4, 5)),
    "axes of the state": lambda kind: (x_of(6, 4, 3), hx_of(kind, 4, 5)),
    "a batched state, an unbatched input": lambda kind: (x_of(6, 3), hx_of(kind, 1, 4, 5)),
    "h for (h, c)": lambda kind: (x_of(6, 4, 3), hx_of("GRU" if kind == "LSTM" else "LSTM", 1, 4, 5)),
    "one of two states": lambda kind: (x_of(6, 4, 3), (hx_of("GRU", 1, 4, 5),)),
}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("how", MISUSE)
@pytest.mark.parametrize("given", ["option", "lengths"])
def test_misuse(kind, how, given):
    with pytest.raises(Exception) as right:  # noqa: PT011  whatever torch raises
        getattr(torch.nn, kind)(3, 5)(*MISUSE[how](kind))
    module = getattr(nn, kind)(3, 5, **({"clip": 1.0} if given == "option" else {}))
    with pytest.raises(Exception) as found:  # noqa: PT011
        module(*MISUSE[how](kind), **({"lengths": [6, 4, 1, 0]} if given == "lengths" else {}))
    assert (found.type, str(found.value)) == (right.type, str(right.value))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_no_rows(kind):
    y, state = getattr(nn, kind)(3, 5, clip=1.0)(torch.zeros(6, 0, 3))
    assert y.shape == (6, 0, 5)
    assert {s.shape for s in flat(state)} == {(1, 0, 5)}
