"""torch.compile takes our layers whole, nothing set by the user: one graph for every T and B from 2 on; gradients."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

from carousel import nn  # noqa: E402
from carousel.errors import ArgumentError  # noqa: E402
from carousel.nn import operators  # noqa: E402
from carousel.nn.spec import Batch  # noqa: E402
from modules import arguments_of, flat, module_of  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread", "fresh_dynamo"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore:The .grad attribute of a Tensor",
        "ignore:LSTM with projections is not supported with oneDNN",
    ),
]
TOLERANCE = {"rtol": 0, "atol": 1e-12}  # float64; the same kernels, but a sum of two gradients may turn round
FORMS = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "RNN": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "deep LSTM": ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True, "proj_size": 2}),
    "GRU with dropout": ("GRU", {"num_layers": 3, "dropout": 0.5}),
    "LSTM with options": ("LSTM", {"layer_norm": True, "peephole": True, "cell_clip": 1.0, "bidirectional": True}),
    "LSTM that draws": ("LSTM", {"zoneout": (0.3, 0.2), "recurrent_dropout": 0.2, "num_layers": 2}),
    "GRU with options": ("GRU", {"reset": "before", "clip": 0.5, "state_dropout": 0.2, "recompute": 2}),
    "RNN with a state": ("RNN", {"layer_norm": True, "learn_initial_state": True, "input_dropout": 0.2}),
}  # fmt: skip
forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def fresh_dynamo():
    """What one test compiled, another must not find."""
    yield
    torch._dynamo.reset()


SHAPES = (
    (7, 11),
    (6, 9),
    (12, 13),
    (8, 17),
)  # no B is another number of the call: Dynamo would take them for one


def outcome(call, module, x, hx, seed=7, **keywords):
    """Outputs and gradients under one seed."""
    torch.manual_seed(seed)
    outputs = flat(call(x, hx, **keywords))
    loss = sum((o.sin() * (k + 1)).sum() for k, o in enumerate(outputs))
    wanted = [x, *flat(hx), *module.parameters()]
    return [*outputs, *torch.autograd.grad(loss, wanted, allow_unused=True)]


def assert_close(found, right):
    for a, b in zip(found, right, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **TOLERANCE)


@forms
@pytest.mark.parametrize("given", [True, False], ids=["hx", "no hx"])
def test_one_graph_for_every_length_and_batch(form, given):
    """And eager calls in between, which note on the module what they have checked, change nothing about it."""
    kind, options = FORMS[form]
    module = module_of(kind, **options)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for k, (T, B) in enumerate(SHAPES):
        x, hx = arguments_of(module, T, B)
        hx = hx if given else None
        with torch.compiler.set_stance("fail_on_recompile" if k else "default"):
            found = outcome(compiled, module, x, hx)
        assert_close(found, outcome(module, module, x, hx))


@forms
def test_sizes_of_one_are_right(form):
    """torch makes graphs of their own for them."""
    kind, options = FORMS[form]
    module = module_of(kind, **options)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for T, B in ((7, 11), (1, 11), (7, 1), (1, 1)):
        x, hx = arguments_of(module, T, B)
        assert_close(outcome(compiled, module, x, hx), outcome(module, module, x, hx))


def test_without_dynamic_the_second_shape_makes_it_so():
    module = module_of("LSTM")
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for k, (T, B) in enumerate(SHAPES):
        x, hx = arguments_of(module, T, B)
        with torch.compiler.set_stance("fail_on_recompile" if k > 1 else "default"):
            found = outcome(compiled, module, x, hx)
        assert_close(found, outcome(module, module, x, hx))


def test_a_layer_is_one_operator():
    graphs = []
    compiled = torch.compile(
        module_of("GRU"), backend=lambda g, _: graphs.append(g) or g.forward, fullgraph=True
    )
    compiled(*arguments_of(module_of("GRU")))
    calls = [node.target for node in graphs[-1].graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.carousel.layers.default) == 1


@forms
def test_inside_a_model_without_a_gradient(form):
    class Model(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.sin())[0].cos()

    kind, options = FORMS[form]
    model = Model(module_of(kind, **options)).eval()
    x = arguments_of(model.layer)[0].detach()
    with torch.no_grad():
        found = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
        torch.testing.assert_close(found, model(x), **TOLERANCE)


def test_by_inductor():
    """torch.compile's own backend, which may move strides and drop what nobody reads."""
    module = torch.nn.Sequential(module_of("LSTM", num_layers=2, bidirectional=True, batch_first=True))
    x, _ = arguments_of(module[0])
    found = outcome(lambda x, _: torch.compile(module, fullgraph=True)(x), module, x, None)
    assert_close(found, outcome(lambda x, _: module(x), module, x, None))


@pytest.mark.parametrize("changed", ["x", "weight", "state"])
def test_any_strides(changed):
    module = module_of("GRU", bidirectional=True)
    x, hx = arguments_of(module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    if changed == "x":
        x = x.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    elif changed == "state":
        hx = hx.detach()[:, :1].expand_as(hx).requires_grad_()
    else:
        module.weight_hh_l0.data = module.weight_hh_l0.data.t().contiguous().t()
    assert_close(outcome(compiled, module, x, hx), outcome(module, module, x, hx))


def test_lengths_are_checked_when_the_graph_runs():
    module = module_of("LSTM", num_layers=2, bidirectional=True)
    x, hx = arguments_of(module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for lengths in ([4, 7, 0, 6], torch.tensor([1, 2, 3, 4])):
        found = outcome(compiled, module, x, hx, lengths=lengths)
        assert_close(found, outcome(module, module, x, hx, lengths=lengths))
    with pytest.raises(ArgumentError, match=r"`lengths` must lie in \[0, T\] = \[0, 7\]"):
        compiled(x, hx, lengths=torch.tensor([1, 2, 3, 8]))


def test_without_a_batch_and_with_autocast():
    module = module_of("GRU").float()
    x = torch.randn(7, 3)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], module(x)[0])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(compiled(x)[0], module(x)[0])


def test_misuse_is_told_in_torchs_words():
    module = nn.LSTM(3, 5)
    for wrong in (torch.zeros(6, 4, 2), torch.zeros(6, 4, 3, dtype=torch.float64), torch.zeros(0, 4, 3)):
        seen = []
        for call in (torch.compile(module, backend="eager"), module):
            with pytest.raises((RuntimeError, ValueError)) as caught:
                call(wrong)
            seen.append(str(caught.value))
        assert seen[0] == seen[1]


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_break_the_graph_and_are_right(kind, backend):
    """In a model, as its whole, and for modules of several sizes in one process."""

    class Model(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x, hx):
            y, state, gates = self.layer(x.sin(), hx, return_gates=True)
            return (y.cos(), state, *(gate for gate in gates if gate is not None))

    for layers in (1, 2):
        module = module_of(kind, num_layers=layers)
        x, hx = arguments_of(module)
        compiled = torch.compile(Model(module), backend=backend)
        assert_close(outcome(compiled, module, x, hx), outcome(Model(module), module, x, hx))
        *_, found = torch.compile(module, backend=backend)(x, hx, return_gates=True)
        *_, right = module(x, hx, return_gates=True)
        assert_close(found, right)


def test_gates_in_a_graph_that_may_not_break_are_refused():
    compiled = torch.compile(nn.GRU(3, 5), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="`return_gates=True` has no place in a graph"):
        compiled(torch.zeros(6, 4, 3), return_gates=True)


def gates(module, x):
    torch.compile(module, backend="eager")(x, return_gates=True)


def another_width(module, x):
    with pytest.raises(RuntimeError, match="Expected 3, got 2"):
        torch.compile(module, backend="eager")(x[..., :2])


def broken_lengths(module, x):
    with pytest.raises(ArgumentError, match="`lengths` must be whole numbers"):
        torch.compile(module, backend="eager")(x, lengths=[1.5] * 4)


@pytest.mark.parametrize("call", [gates, another_width, broken_lengths])
def test_what_breaks_a_graph_spoils_no_other(call):
    """Dynamo leaves out a function that has raised, and compiles those that it calls one by one."""
    x = torch.randn(7, 4, 3)
    module = nn.LSTM(3, 8)
    for _ in range(3):
        module(x)  # which notes what it has checked
    call(module, x)
    for other in (module, nn.LSTM(3, 16), nn.LSTM(3, 8, 2, zoneout=0.5).eval(), nn.GRU(3, 9, 2)):
        compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
        for lengths in (None, [7, 1, 2, 3]):
            torch.testing.assert_close(compiled(x, lengths=lengths)[0], other(x, lengths=lengths)[0])


def test_a_packed_sequence_breaks_the_graph_and_is_right():
    module = module_of("LSTM")
    x, hx = arguments_of(module)
    packed = pack_padded_sequence(x, [7, 3, 3, 1])
    found = torch.compile(module, backend="eager")(packed, hx)
    torch.testing.assert_close(found[0].data, module(packed, hx)[0].data, **TOLERANCE)


def test_torchs_own_layers_keep_what_the_user_has_set():
    config = torch._dynamo.config
    assert not config.allow_rnn
    torch.compile(nn.LSTM(3, 5), backend="eager", fullgraph=True)(torch.zeros(6, 4, 3))
    assert not config.allow_rnn
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        torch.compile(torch.nn.LSTM(3, 5), backend="eager", fullgraph=True)(torch.zeros(6, 4, 3))


SCRIPT = """
import sys, warnings
import torch
if sys.argv[1] == "dynamo":
    import torch._dynamo
from carousel import nn
assert ("torch._dynamo" in sys.modules) == (sys.argv[1] == "dynamo")
assert torch.compile(nn.GRU(3, 5), backend="eager", fullgraph=True)(torch.zeros(6, 4, 3))[0].shape == (6, 4, 5)
assert not any(type(finder).__module__ == "carousel.nn.dynamo" for finder in sys.meta_path)
"""


@pytest.mark.parametrize("first", ["dynamo", "carousel"])
def test_whichever_is_imported_first(first):
    """And importing carousel.nn does not import Dynamo, which takes seconds."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, first], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


# ---- the operator by itself ----


def operands(form, T=4, B=3):
    kind, options = FORMS[form]
    module = module_of(kind, **options)
    x, hx = arguments_of(module, T, B)
    from carousel.nn.layers import _spec, _weights

    spec = _spec(module)
    h, c = hx if spec.has_cells else (hx, None)
    return (x, h, c, _weights(module), None, None, None, None, True, *operators._words(spec))


@pytest.mark.parametrize("form", ["LSTM", "GRU", "RNN", "deep LSTM", "LSTM with options", "GRU with options"])
def test_by_torchs_own_check_of_operators(form):
    """Schema, gradient, shapes under fake tensors. Its fourth compares whole blocks, which have gaps."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.carousel.layers.default, operands(form), test_utils=checks)


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_block_is_large_enough(form, dtype):
    """Of every size: what the operator allocates, by one step of one row, against what the kernels ask for."""
    kind, options = FORMS[form]
    from carousel.nn.layers import _spec

    spec = _spec(module_of(kind, **options))
    for T in (1, 2, 3, 7, 50):
        for B in (1, 2, 5, 64):
            x = torch.empty((B, T, 3) if spec.batch_first else (T, B, 3), dtype=dtype)
            *_, block = operators._outputs(spec, x, True)
            asked = operators.kernels.block_of(operators.kernels.plan_of(spec, Batch(T, B), x), x, T)
            assert block.numel() >= asked.numel()


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_empty_batch_in_a_graph(kind, batch_first):
    """torch's LSTM ends the process there; what comes of it otherwise is what comes of a call outside."""
    module = getattr(nn, kind)(3, 8, 2, batch_first=batch_first)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for B in (4, 0, 2, 0):
        x = torch.randn((B, 5, 3) if batch_first else (5, B, 3), requires_grad=True)
        found, right = flat(compiled(x)), flat(module(x))
        assert [t.shape for t in found] == [t.shape for t in right]
        gradients = torch.autograd.grad(found[0].sum(), [x, *module.parameters()])
        assert gradients[0].shape == x.shape
        assert all(bool(g.any()) == (B > 0) for g in gradients[1:])
