"""carousel.nn behaves inside torch as torch.nn does: misuse, autograd, modes, transforms, memory."""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from carousel import _core, kernel_path, nn  # noqa: E402
from carousel.errors import UnsupportedError  # noqa: E402
from differential import CELLS, LAYERS, flat  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
modules = pytest.mark.parametrize("kind", LAYERS + CELLS)
layers = pytest.mark.parametrize("kind", LAYERS)
TOLERANCE = {
    "rtol": 0,
    "atol": 1e-5,
}  # float32, both sides round: sums of 20 terms, a few steps, gradients near 1


def pair(kind, *sizes, **options):
    """Ours and torch's under one seed."""
    made = []
    for library in (nn, torch.nn):
        torch.manual_seed(3)
        made.append(getattr(library, kind)(*sizes, **options))
    return made


def inputs(kind, dtype=torch.float32):
    torch.manual_seed(4)
    return torch.randn((4, 3) if kind in CELLS else (6, 4, 3), dtype=dtype, requires_grad=True)


def state(kind, *, batch=4, hidden=5, dims=None, dtype=torch.float32):
    """A complete state; `dims` shapes it otherwise."""
    shape = dims or ((batch, hidden) if kind in CELLS else (1, batch, hidden))
    h = torch.zeros(shape, dtype=dtype)
    return (h, h.clone()) if kind.startswith("LSTM") else h


# ---- misuse: the same exception, the same words ----


def x_of(kind, *shape, **options):
    return torch.zeros(*(shape[1:] if kind in CELLS else shape), **options)


MISUSE = {
    "features": lambda kind: (x_of(kind, 6, 4, 2),),
    "four axes": lambda kind: (torch.zeros(2, 6, 4, 3),),
    "no axis": lambda kind: (torch.tensor(1.0),),
    "float64 for float32": lambda kind: (x_of(kind, 6, 4, 3, dtype=torch.float64),),
    "integers": lambda kind: (x_of(kind, 6, 4, 3, dtype=torch.int64),),
    "complex": lambda kind: (x_of(kind, 6, 4, 3, dtype=torch.complex64),),
    "a list": lambda kind: ([1.0, 2.0, 3.0],),
    "None": lambda kind: (None,),
    "batch of the state": lambda kind: (x_of(kind, 6, 4, 3), state(kind, batch=2)),
    "size of the state": lambda kind: (x_of(kind, 6, 4, 3), state(kind, hidden=4)),
    "axes of the state": lambda kind: (x_of(kind, 6, 4, 3), state(kind, dims=(5,))),
    "a state of four axes": lambda kind: (x_of(kind, 6, 4, 3), state(kind, dims=(1, 1, 4, 5))),
    "dtype of the state": lambda kind: (x_of(kind, 6, 4, 3), state(kind, dtype=torch.float64)),
    "h for (h, c) and the reverse": lambda kind: (
        x_of(kind, 6, 4, 3),
        state("GRU" if kind.startswith("LSTM") else "LSTM", dims=(4, 5) if kind in CELLS else None),
    ),
    "one of two states": lambda kind: (x_of(kind, 6, 4, 3), (state("GRU"),)),
    "three states": lambda kind: (x_of(kind, 6, 4, 3), (state("GRU"),) * 3),
    "(h, None)": lambda kind: (x_of(kind, 6, 4, 3), (state("GRU"), None)),
    "batched state, unbatched input": lambda kind: (x_of(kind, 6, 4, 3)[0], state(kind)),
    "too many arguments": lambda kind: (x_of(kind, 6, 4, 3), None, None),
}


def outcome(module, arguments):
    """What came of the call: an exception's type and text, or the shapes of the results."""
    try:
        result = module(*arguments)
    except Exception as error:
        return type(error), str(error).replace(type(module).__qualname__, "Module")
    return [tuple(t.shape) for t in flat(result)]


@modules
@pytest.mark.parametrize("how", MISUSE)
def test_misuse(kind, how):
    ours, theirs = pair(kind, 3, 5)
    expected = outcome(theirs, MISUSE[how](kind))
    assert outcome(ours, MISUSE[how](kind)) == expected


def test_misuse_is_mostly_an_error():
    assert (
        sum(
            isinstance(outcome(getattr(torch.nn, k)(3, 5), f(k)), tuple)
            for k in LAYERS
            for f in MISUSE.values()
        )
        > 50
    )


@layers
@pytest.mark.parametrize("shape", [(0, 4, 3), (6, 0, 3), (0, 3), (0, 0, 3)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_nothing_to_read(kind, shape, batch_first):
    ours, theirs = pair(kind, 3, 5, batch_first=batch_first)
    expected = outcome(theirs, (torch.zeros(shape),))
    assert outcome(ours, (torch.zeros(shape),)) == expected


@pytest.mark.parametrize("kind", CELLS)
def test_no_rows(kind):
    ours, theirs = pair(kind, 3, 5)
    assert outcome(ours, (torch.zeros(0, 3),)) == outcome(theirs, (torch.zeros(0, 3),))


@layers
@pytest.mark.parametrize(
    "options", [{"dropout": 1.5}, {"num_layers": 0}, {"hidden_size": 0}, {"proj_size": 9}, {"x": 1}]
)
def test_constructor_misuse(kind, options):
    seen = []
    for library in (torch.nn, nn):
        with pytest.raises(Exception) as caught:  # noqa: PT011  whatever torch raises
            getattr(library, kind)(3, **{"hidden_size": 5, **options})
        seen.append((caught.type, str(caught.value)))
    assert seen[0] == seen[1]


@modules
@pytest.mark.parametrize(
    ("name", "shape"), [("weight_hh", (20, 4)), ("weight_ih", (20, 2)), ("bias_ih", (3,))]
)
def test_weights_of_another_shape_are_not_read(kind, name, shape):
    """Somebody replaced a weight: what torch makes of it is torch's affair, the kernels must not run."""
    module = getattr(nn, kind)(3, 5)
    module.get_parameter(name if kind in CELLS else f"{name}_l0").data = torch.zeros(shape)
    assert kernel_path(module, inputs(kind)).startswith("torch: ")


@modules
def test_weights_may_have_any_strides(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    right = backward(module, x)
    expected = torch.autograd.grad(right, [x, *module.parameters()])
    for p in module.parameters():
        if p.dim() == 2:
            p.data = p.data.t().contiguous().t()
    assert not module.get_parameter(name_of(module)).is_contiguous()
    loss = backward(module, x)
    assert torch.equal(loss, right)
    found = torch.autograd.grad(loss, [x, *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with torch.no_grad():
        assert torch.equal(backward(module, x), right)


# ---- autograd ----


def backward(module, x, hx=None):
    """Gradients of a loss that curves, and weighs every element differently."""
    outputs = flat(module(x, hx))
    torch.manual_seed(5)
    loss = sum((o.sin() * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outputs)
    return loss


@modules
def test_backward_twice(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    loss = backward(module, x)
    wanted = [x, *module.parameters()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, wanted)


@modules
def test_gradients_accumulate(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    backward(module, x).backward()
    once = [p.grad.clone() for p in module.parameters()]
    backward(module, x).backward()
    for p, g in zip(module.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, 2 * g)


@modules
@pytest.mark.parametrize("what", ["weight", "input", "output", "state"])
def test_change_in_place_before_backward(kind, what):
    """What the backward pass needs must not have changed: it raises, as in torch; no gradient is wrong.

    torch allows two changes more, because its GRU and RNN keep a copy of y, and its cells no weight that meets a
    state without gradient. The output of our LSTMCell and GRUCell is not what they keep, as in torch.
    """
    module, leaf = getattr(nn, kind)(3, 5), inputs(kind)
    x = leaf * 1
    hx = tuple(s * 1 for s in flat(state(kind)))
    hx = hx if kind.startswith("LSTM") else hx[0]
    right = torch.autograd.grad(sum(o.sum() for o in flat(module(x, hx))), [leaf, *module.parameters()])
    x = leaf * 1
    outputs = flat(module(x, hx))
    loss = sum(o.sum() for o in outputs)
    weight = module.get_parameter(name_of(module))
    with torch.no_grad():
        {"weight": weight, "input": x, "output": outputs[0], "state": flat(hx)[0]}[what].add_(1)
    if what == "output" and kind in ("LSTMCell", "GRUCell"):
        found = torch.autograd.grad(loss, [leaf, *module.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def name_of(module):
    return next(name for name, _ in module.named_parameters() if "weight_hh" in name)


@modules
def test_second_derivatives(kind):
    module, x = getattr(nn, kind)(3, 4, dtype=torch.float64), inputs(kind, torch.float64)
    x = x[:2, :3].detach().requires_grad_()
    names, parameters = zip(*module.named_parameters(), strict=True)

    def function(x, *parameters):
        return tuple(
            flat(torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,)))
        )

    assert kernel_path(module, x).startswith("carousel")
    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


@modules
@pytest.mark.parametrize("create_graph", [False, True])
def test_undefined_gradients_of_outputs(kind, create_graph):
    """A function between may have no gradient to give."""

    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x.clone()

        @staticmethod
        def backward(ctx, dx):
            return None

    module, x = getattr(nn, kind)(3, 5), inputs(kind).detach().requires_grad_()
    y = Nothing.apply(flat(module(x))[0]).sum()
    found = torch.autograd.grad(y, [x, *module.parameters()], create_graph=create_graph, allow_unused=True)
    assert found == (None,) * len(found)


@modules
def test_gradient_penalty_trains(kind):
    """A loss with a gradient in it, through two layers and an initial state, as torch computes it."""
    options = {} if kind in CELLS else {"num_layers": 2, "bidirectional": True, "batch_first": True}
    seen = []
    for module in pair(kind, 3, 5, **options, dtype=torch.float64):
        x = inputs(kind, torch.float64)
        loss = backward(module, x)
        (dx,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + dx.square().sum()).backward()
        seen.append([x.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@modules
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint(kind, use_reentrant):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    right = torch.autograd.grad(backward(module, x), [x, *module.parameters()])
    y = checkpoint(lambda x: flat(module(x))[0], x, use_reentrant=use_reentrant)
    backward(lambda *_: [y, *flat(module(x))[1:]], None).backward()
    for a, b in zip([x.grad, *(p.grad for p in module.parameters())], right, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@modules
def test_saved_tensor_hooks(kind):
    """What is saved is saved by autograd, where hooks and offloading find it."""
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t, lambda t: t.clone()):
        loss = backward(module, x)
    found = torch.autograd.grad(loss, [x, *module.parameters()])
    right = torch.autograd.grad(backward(module, x), [x, *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert x.shape in packed or (1, *x.shape) in packed


@modules
def test_saved_tensors_may_come_back_elsewhere(kind):
    """Hooks that write to disk or to NumPy return equal numbers in memory that is aligned to 16 bytes only."""
    module, x = getattr(nn, kind)(3, 5), inputs(kind)

    def moved(tensor):
        skip = 16 // tensor.element_size()
        return (
            torch.empty(tensor.numel() + skip, dtype=tensor.dtype)[skip:]
            .copy_(tensor.reshape(-1))
            .view(tensor.shape)
        )

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), moved):
        loss = backward(module, x)
    found = torch.autograd.grad(loss, [x, *module.parameters()])
    right = torch.autograd.grad(backward(module, x), [x, *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))


@modules
def test_inference_mode(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    with torch.inference_mode():
        found = flat(module(x))
    assert all(o.is_inference() for o in found)
    for a, b in zip(found, flat(module(x)), strict=True):
        assert torch.equal(a, b.detach())


@modules
def test_hooks_run(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    seen = []
    module.register_forward_hook(lambda *_: seen.append("forward"))
    module.register_full_backward_hook(lambda *_: seen.append("backward"))
    next(module.parameters()).register_hook(lambda g: seen.append("gradient") or g)
    flat(module(x))[0].sum().backward()
    assert set(seen) == {"forward", "backward", "gradient"}


# ---- modes and transforms ----


@modules
def test_functional_call(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    doubled = {name: 2 * p.detach() for name, p in module.named_parameters()}
    found = flat(torch.func.functional_call(module, doubled, (x,)))
    other = getattr(nn, kind)(3, 5)
    other.load_state_dict(doubled)
    assert all(torch.equal(a, b) for a, b in zip(found, flat(other(x)), strict=True))
    assert not torch.equal(found[0], flat(module(x))[0])  # and the module's own are back


@modules
@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrizations(kind, way):
    """A weight that is computed from others at every call is the one that is used, and they have gradients."""
    from torch.nn.utils import parametrizations

    seen = []
    for module in pair(kind, 3, 5):
        torch.manual_seed(6)
        getattr(parametrizations, way)(module, name_of(module))
        backward(module, inputs(kind)).backward()
        y = flat(module(inputs(kind)))[0]
        seen.append([y, *(p.grad for p in module.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@layers
def test_pruning(kind):
    from torch.nn.utils import prune

    seen = []
    for module in pair(kind, 3, 5):
        prune.l1_unstructured(module, "weight_hh_l0", 0.5)
        backward(module, inputs(kind)).backward()
        seen.append([flat(module(inputs(kind)))[0], *(p.grad for p in module.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@modules
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:The tensor attributes self._flat",
    "ignore:Converting a tensor to a Python",
)
def test_tracing_and_export(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind).detach()
    right = flat(module(x))
    traced = torch.jit.trace(module, x)
    exported = torch.export.export(module, (x,)).module()
    for found in (traced(x), exported(x)):
        for a, b in zip(flat(found), right, strict=True):
            torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor")
def test_compile():
    """Dynamo's part of torch.compile; what it does with its graph is its own affair."""
    for kind in ("LSTM", "GRUCell"):
        module, x = getattr(nn, kind)(3, 5), inputs(kind)
        compiled = torch.compile(module, backend="eager")
        right = torch.autograd.grad(backward(module, x), [x, *module.parameters()])
        found = torch.autograd.grad(backward(compiled, x), [x, *module.parameters()])
        for a, b in zip(found, right, strict=True):
            torch.testing.assert_close(a, b, **TOLERANCE)
    torch._dynamo.reset()


@modules
def test_transforms(kind):
    """torch.func works as it does on torch's own: grad and vmap over the parameters."""
    ours, theirs = pair(kind, 3, 5)
    x = inputs(kind).detach()

    def loss_of(module):
        return lambda parameters, x: flat(torch.func.functional_call(module, parameters, (x,)))[0].sin().sum()

    seen = []
    for module in (ours, theirs):
        parameters = {name: p.detach() for name, p in module.named_parameters()}
        seen.append(torch.func.grad(loss_of(module))(parameters, x))
    for name, value in seen[1].items():
        torch.testing.assert_close(seen[0][name], value, **TOLERANCE)


DEEP = {"num_layers": 2, "bidirectional": True, "batch_first": True}


def deep(kind):
    """A module in float64 whose every part the derivatives below go through, an input, and a direction."""
    torch.manual_seed(3)
    module = getattr(nn, kind)(3, 4, dtype=torch.float64, **({} if kind in CELLS else DEEP))
    x = inputs(kind, torch.float64).detach()
    return module, x, torch.randn_like(x)


@modules
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("way", ["jvp", "dual"])
def test_forward_mode(kind, way):
    """Against differences of the outputs: torch's LSTM has no forward mode, and a silent zero would be the bug."""
    module, x, direction = deep(kind)
    step = 1e-6
    with torch.no_grad():
        outputs = [flat(module(x + sign * step * direction)) for sign in (1, -1)]
        right = [(a - b) / (2 * step) for a, b in zip(*outputs, strict=True)]
    if way == "jvp":
        found = torch.func.jvp(lambda x: tuple(flat(module(x))), (x,), (direction,))[1]
    else:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, direction)
            found = [torch.autograd.forward_ad.unpack_dual(o).tangent for o in flat(module(dual))]
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
        assert a.abs().max() > 0.01
    if way == "jvp":  # in float32 torch's LSTM runs on oneDNN, which has no forward mode
        module.float()
        single = torch.func.jvp(lambda x: tuple(flat(module(x))), (x.float(),), (direction.float(),))[1]
        for a, b in zip(single, right, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kind", [*LAYERS, "GRUCell", "RNNCell"]
)  # torch's LSTMCell refuses, and ours is it there
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated", "ignore:There is a performance drop")
def test_vmap(kind):
    """Over inputs, and over models, which torch's layers refuse: each alone is right."""
    module, x, other = deep(kind)
    xs = torch.stack([x, other])
    found = flat(torch.func.vmap(lambda x: tuple(flat(module(x))))(xs))
    for k in (0, 1):
        for a, b in zip(found, flat(module(xs[k])), strict=True):
            torch.testing.assert_close(a[k], b, rtol=0, atol=1e-12)
    second = deep(kind)[0]
    second.reset_parameters()
    parameters, _ = torch.func.stack_module_state([module, second])

    def loss(parameters):
        return flat(torch.func.functional_call(module, parameters, (x,)))[0].sin().sum()

    gradients = torch.func.vmap(torch.func.grad(loss))(parameters)
    for k, model in enumerate((module, second)):
        right = torch.autograd.grad(flat(model(x))[0].sin().sum(), list(model.parameters()))
        for (name, _), g in zip(model.named_parameters(), right, strict=True):
            torch.testing.assert_close(gradients[name][k], g, rtol=0, atol=1e-12)


@modules
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated", "ignore:There is a performance drop")
def test_jacobians(kind):
    module, x, _ = deep(kind)
    x = x[:2, :2] if kind not in CELLS else x[:2]

    def function(x):
        return flat(module(x))[0].sum(0)

    right = torch.autograd.functional.jacobian(function, x)
    for found in (torch.func.jacrev(function)(x), torch.func.jacfwd(function)(x)):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor")
def test_transforms_inside_compile():
    module, x, direction = deep("LSTM")
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def gradient(parameters):
        return torch.func.grad(
            lambda p: torch.func.functional_call(module, p, (x,))[0].sin().sum()
        )(parameters)["weight_hh_l0"]  # fmt: skip

    def tangent(x):
        return torch.func.jvp(lambda x: module(x)[0], (x,), (direction,))[1]

    for function, argument in ((gradient, parameters), (tangent, x)):
        found = torch.compile(function, backend="aot_eager", fullgraph=True)(argument)
        torch.testing.assert_close(found, function(argument), rtol=0, atol=1e-12)
    torch._dynamo.reset()


@modules
def test_autocast(kind):
    ours, theirs = pair(kind, 3, 5)
    x = inputs(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cell = kind in CELLS
        expected = "torch: autocast" if cell else f"carousel: {_core.isa()} bfloat16"
        assert kernel_path(ours, x) == expected
        found, right = flat(ours(x)), flat(theirs(x))
    for a, b in zip(found, right, strict=True):
        assert a.dtype is b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0 if cell else 0.03)


def test_meta_device():
    module = nn.LSTM(3, 5, device="meta")
    y, _ = module(torch.zeros(6, 4, 3, device="meta"))
    assert (y.device.type, y.shape) == ("meta", (6, 4, 5))


# ---- kernel_path ----


@modules
def test_path(kind):
    module = getattr(nn, kind)(3, 5)
    x = inputs(kind)
    assert kernel_path(module, x) == f"carousel: {_core.isa()} float32"
    assert kernel_path(module.double(), x.double()) == f"carousel: {_core.isa()} float64"


def inside(mode, call):
    with mode:
        return call()


def transformed(call):
    paths = []
    torch.func.vmap(lambda x: paths.append(call(x)) or x)(torch.zeros(2, 6, 4, 3))
    return paths[0]


def test_path_tells_why():
    module, x = nn.LSTM(3, 5), torch.zeros(6, 4, 3)
    h = torch.zeros(1, 4, 5)

    class Mine(torch.Tensor):
        pass

    expected = {
        "an argument that is not a tensor": lambda: kernel_path(module, [1.0]),
        "hx of another form": lambda: kernel_path(module, x, h),
        "hx of another shape": lambda: kernel_path(module, x, (h[:, :2], h)),
        "dtype torch.float16": lambda: kernel_path(module, x.half()),
        "dtypes torch.float64 and torch.float32 in one call": lambda: kernel_path(module, x.double()),
        "device meta": lambda: kernel_path(module, x.to("meta")),
        "a Mine instead of a plain tensor": lambda: kernel_path(module, x.as_subclass(Mine)),
        "layout torch.sparse_coo": lambda: kernel_path(module, x.to_sparse()),
        "an input of shape (0, 4, 3)": lambda: kernel_path(module, x[:0]),
        "an input of shape (6, 4, 2)": lambda: kernel_path(module, x[..., :2]),
        "autocast": lambda: inside(torch.autocast("cpu", torch.float16), lambda: kernel_path(module, x)),
        "a torch dispatch or function mode": lambda: inside(
            torch.overrides.BaseTorchFunctionMode(), lambda: kernel_path(module, x)
        ),
        "torch.func": lambda: transformed(lambda x: kernel_path(module, x)),
        "not accelerated; call carousel.accelerate(module)": lambda: kernel_path(torch.nn.GRU(3, 5), x),
    }
    assert {reason: call() for reason, call in expected.items()} == {r: f"torch: {r}" for r in expected}
    assert inside(torch.device("cpu"), lambda: kernel_path(module, x)).startswith("carousel: ")
    assert kernel_path(nn.GRU(3, 5), x, (h, h)).startswith("torch: ")
    assert kernel_path(nn.GRUCell(3, 5), x[0], h) == "torch: hx of another shape"
    with pytest.raises(UnsupportedError, match=r"`module` must be a recurrent layer, got Linear"):
        kernel_path(torch.nn.Linear(3, 5), x)


def test_a_pending_negation_is_carried_out():
    module = nn.GRU(3, 5)
    x = torch.randn(6, 4, 3)
    negated = torch._neg_view(-x)  # as .imag of a conjugate, but contiguous
    assert negated.is_neg()
    torch.testing.assert_close(module(negated)[0], module(x)[0], **TOLERANCE)


def test_tensor_subclasses_keep_their_say():
    class Counted(torch.Tensor):
        calls = 0

        @classmethod
        def __torch_function__(cls, function, types, arguments=(), options=None):
            cls.calls += 1
            return super().__torch_function__(function, types, arguments, options or {})

    y, _ = nn.GRU(3, 5)(torch.zeros(6, 4, 3).as_subclass(Counted))
    assert isinstance(y, Counted)
    assert Counted.calls > 0


# ---- memory ----


@modules
@pytest.mark.parametrize("trained", [False, True])
def test_a_dropped_module_is_freed(kind, trained):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    outputs = flat(module(x))
    if trained:
        outputs[0].sum().backward()
    gone = [weakref.ref(module), weakref.ref(next(module.parameters()))]
    gc.disable()
    try:
        del module, outputs
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


@layers
def test_inputs_and_weights_are_untouched(kind):
    module, x = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True), inputs(kind)
    hx = state(kind, dims=(4, 4, 5))
    everything = [x, *flat(hx), *module.parameters()]
    before = [t.detach().clone() for t in everything]
    backward(module, x, hx).backward()
    assert all(torch.equal(t, b) for t, b in zip(everything, before, strict=True))
