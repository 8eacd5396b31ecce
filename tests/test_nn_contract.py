"""What else users of torch.nn rely on: arguments, shared and frozen weights, old files, scripts, graphs, processes."""

import copy
import io
import itertools
import warnings

import pytest

torch = pytest.importorskip("torch")

from carousel import accelerate, kernel_path, nn  # noqa: E402
from carousel.errors import UnsupportedError  # noqa: E402
from differential import CELLS, LAYERS, flat  # noqa: E402
from test_nn_torch import inputs, outcome, pair, state  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
modules = pytest.mark.parametrize("kind", LAYERS + CELLS)
layers = pytest.mark.parametrize("kind", LAYERS)
TOLERANCE = {
    "rtol": 0,
    "atol": 1e-5,
}  # float32, both sides round: sums of 20 terms, a few steps, gradients near 1


def assert_close(found, right):
    for a, b in zip(found, right, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **TOLERANCE)


# ---- the constructor ----

CONSTRUCTORS = [
    ((), {}), ((3,), {}), ((3.5, 5), {}), ((3, 5.0), {}), ((0, 5), {}), ((3, 0), {}), ((-1, 5), {}), ((True, 5), {}),
    ((), {"input_size": 3, "hidden_size": 5}), ((3, 5), {"bias": 1}), ((3, 5), {"batch_first": 1}),
    ((3, 5), {"dropout": True}), ((3, 5), {"dropout": "a"}), ((3, 5), {"dropout": 0.5}), ((3, 5), {"num_layers": 1.5}),
    ((3, 5), {"num_layers": 0}), ((3, 5), {"proj_size": -1}), ((3, 5), {"proj_size": 5}), ((3, 5), {"proj_size": 2}),
    ((3, 5), {"bidirectional": 1}), ((3, 5), {"mode": "LSTM"}), ((3, 5), {"nonlinearity": "sigmoid"}),
    ((3, 5), {"nonlinearity": "relu"}), ((3, 5), {"device": "nowhere"}), ((3, 5), {"dtype": torch.int64}),
    ((3, 5, 2, True, True, 0.5, True), {}), ((3, 5, 1, "relu"), {}), ((3, 5, True, "relu"), {}),
]  # fmt: skip


@modules
@pytest.mark.parametrize(("arguments", "keywords"), CONSTRUCTORS, ids=map(str, CONSTRUCTORS))
def test_constructor(kind, arguments, keywords):
    """Accepts and refuses what torch's does: the same text of the module, of the error, and of every warning."""
    seen = []
    for library in (nn, torch.nn):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                made = repr(getattr(library, kind)(*arguments, **keywords))
            except Exception as error:
                made = (type(error), str(error))
        seen.append((made, [str(w.message) for w in warned]))
    assert seen[0] == seen[1]


# ---- arguments of a call ----


@modules
def test_arguments_by_name(kind):
    ours, theirs = pair(kind, 3, 5)
    x, hx = inputs(kind), state(kind)
    assert_close(flat(ours(input=x, hx=hx)), flat(theirs(input=x, hx=hx)))


@modules
def test_a_list_as_state(kind):
    ours, theirs = pair(kind, 3, 5)
    x, hx = inputs(kind), flat(state(kind))
    assert outcome(ours, (x, hx)) == outcome(theirs, (x, hx))


def test_states_of_another_form():
    """As torch takes or refuses them, also where a call before was fine."""
    h, c = torch.randn(2, 1, 4, 5)
    for kind, x, given in (
        ("LSTM", torch.randn(6, 4, 3), ((h, c), [h, c], (), (h,), (h, c, c), h, torch.cat([h, c]))),
        ("LSTMCell", torch.randn(4, 3), ((h[0], c[0]), [h[0], c[0]], (), (h[0],), torch.stack([h[0], c[0]]))),
    ):
        ours, theirs = pair(kind, 3, 5)
        for _ in range(3):
            for hx in given:
                right = outcome(theirs, (x, hx))
                assert outcome(ours, (x, hx)) == right, (kind, hx)
        assert kernel_path(ours, x, given[1]).startswith("carousel: ")


@modules
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused_as_by_torch(kind):
    nested = torch.nested.nested_tensor([torch.randn(6, 3), torch.randn(4, 3)])
    ours, theirs = pair(kind, 3, 5)
    for _ in range(3):
        ours(inputs(kind))
    assert outcome(ours, (nested,)) == outcome(theirs, (nested,))


@modules
@pytest.mark.parametrize("axis", [0, 1])
def test_expanded_inputs_and_states(kind, axis):
    """Strides of 0, of the steps or of the rows; their gradients are summed by autograd."""
    seen = []
    for module in pair(kind, 3, 5):
        torch.manual_seed(4)
        shape = (4, 3) if kind in CELLS else (6, 4, 3)
        one = list(shape)
        one[0 if kind in CELLS else axis] = 1
        x = torch.randn(one, requires_grad=True)
        h = torch.randn((1, 5) if kind in CELLS else (1, 1, 5), requires_grad=True)
        wide = h.expand((4, 5) if kind in CELLS else (1, 4, 5))
        hx = (wide, wide) if kind.startswith("LSTM") else wide
        outputs = flat(module(x.expand(shape), hx))
        gradients = torch.autograd.grad(sum(o.sin().sum() for o in outputs), [x, h, *module.parameters()])
        seen.append([*outputs, *gradients])
    assert_close(*seen)


# ---- which gradients ----


@modules
def test_gradients_of_any_subset(kind):
    """Of input, state and parameters: whatever is frozen has none, and what is not has torch's."""
    x, hx = inputs(kind).detach(), flat(state(kind))
    torch.manual_seed(5)
    hx = [torch.randn_like(s) for s in hx]
    for of_x, of_state, of_weights in itertools.product(
        (0, 1), (0, 1), ("all", "none", "weight_ih", "bias_hh")
    ):
        seen = []
        for module in pair(kind, 3, 5):
            for name, p in module.named_parameters():
                p.requires_grad_(of_weights == "all" or name.startswith(of_weights))
            leaf, states = (
                x.clone().requires_grad_(bool(of_x)),
                [s.clone().requires_grad_(bool(of_state)) for s in hx],
            )
            outputs = flat(module(leaf, tuple(states) if kind.startswith("LSTM") else states[0]))
            if outputs[0].requires_grad:
                sum(o.sin().sum() for o in outputs).backward()
            found = [t.grad for t in (leaf, *states, *module.parameters())]
            seen.append(([o.requires_grad for o in outputs], found))
        assert seen[0][0] == seen[1][0]
        assert_close(seen[0][1], seen[1][1])


@modules
@pytest.mark.parametrize("read", [0, -1])
def test_outputs_without_a_gradient(kind, read):
    """A loss that reads one output leaves the gradients of the others undefined."""
    seen = []
    for module in pair(kind, 3, 5):
        x, hx = inputs(kind), state(kind)
        flat(module(x, hx))[read].sin().sum().backward()
        seen.append([x.grad, *(p.grad for p in module.parameters())])
    assert_close(*seen)


@modules
def test_gradients_in_evaluation(kind):
    seen = []
    for module in pair(kind, 3, 5):
        loss = sum(o.sin().sum() for o in flat(module.eval()(inputs(kind))))
        seen.append(torch.autograd.grad(loss, list(module.parameters())))
    assert_close(*seen)


# ---- shared weights ----


@layers
def test_one_weight_in_two_layers_of_a_module(kind):
    seen = []
    for module in pair(kind, 5, 5, 2):
        module.weight_ih_l1, module.weight_hh_l1 = module.weight_ih_l0, module.weight_hh_l0
        y, _ = module(torch.linspace(-1, 1, 120).view(6, 4, 5))
        y.sin().sum().backward()
        seen.append([y, *(p.grad for p in module.parameters())])
    assert len(seen[0]) == 1 + 6
    assert_close(*seen)


@modules
def test_one_weight_in_two_modules(kind):
    seen = []
    for library in (nn, torch.nn):
        torch.manual_seed(3)
        first, second = (getattr(library, kind)(5, 5) for _ in range(2))
        name = "weight_hh" if kind in CELLS else "weight_hh_l0"
        setattr(second, name, getattr(first, name))
        x = (
            torch.linspace(-1, 1, 20).view(4, 5)
            if kind in CELLS
            else torch.linspace(-1, 1, 120).view(6, 4, 5)
        )
        y = flat(second(flat(first(x))[0]))[0]
        y.sin().sum().backward()
        seen.append([y, *(p.grad for p in first.parameters()), *(p.grad for p in second.parameters())])
    assert_close(*seen)


# ---- results ----


@modules
def test_results_are_never_written_again(kind):
    module, x = getattr(nn, kind)(3, 5), inputs(kind)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            first = flat(module(x))
            kept = [o.detach().clone() for o in first]
            second = flat(module(-x))
        assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
        assert not {o.data_ptr() for o in first} & {o.data_ptr() for o in second}


# ---- files ----


@layers
def test_modules_from_before_projections(kind):
    """What torch saved before 1.8 has no proj_size."""
    module, x = getattr(nn, kind)(3, 5, 2), inputs(kind)
    old = {name: value for name, value in module.__getstate__().items() if name != "proj_size"}
    loaded = type(module).__new__(type(module))
    loaded.__setstate__(copy.copy(old))
    assert torch.equal(loaded(x)[0], module(x)[0])
    assert kernel_path(loaded, x).startswith("carousel: ")


@modules
def test_a_whole_module_needs_trust(kind):
    """As torch's own: `weights_only=True`, the default, loads no class that was not allowed by name."""
    module, file = getattr(nn, kind)(3, 5), io.BytesIO()
    for _ in range(3):
        module(inputs(kind))  # what a call leaves behind for the next one stays behind
    torch.save(module, file)
    file.seek(0)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file)
    file.seek(0)
    reached = [getattr(nn, kind), getattr(torch.nn, kind)]
    from torch.serialization import safe_globals

    with safe_globals([*reached, set]):
        loaded = torch.load(file)
    assert torch.equal(flat(loaded(inputs(kind)))[0], flat(module(inputs(kind)))[0])


@layers
def test_a_whole_module_with_options_needs_no_more_trust(kind):
    """Whoever allows the layer by name need not name the classes of its options."""
    module, file = getattr(nn, kind)(3, 5, layer_norm=True, zoneout=0.1, recompute=2).eval(), io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    from torch.serialization import safe_globals

    with safe_globals([getattr(nn, kind)]):
        loaded = torch.load(file)
    assert repr(loaded) == repr(module)
    assert torch.equal(loaded(inputs(kind))[0], module(inputs(kind))[0])


# ---- torch.jit.script ----


@modules
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script(kind):
    """TorchScript gets torch's class over the same parameters; torch leaves it in the model, accelerate undoes it."""
    model, x = accelerate(torch.nn.Sequential(getattr(torch.nn, kind)(3, 5))), inputs(kind)
    right = flat(model(x))
    scripted = torch.jit.script(model)
    assert_close(flat(scripted(x)), right)
    assert not {"_seen", "_carousel_swapped"} & vars(model[0]).keys()
    assert type(accelerate(model)[0]) is getattr(nn, kind)
    with torch.no_grad():
        next(model.parameters()).add_(1)  # one tensor for both
    assert_close(flat(scripted(x)), flat(model(x)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_knows_no_options():
    with pytest.raises(
        UnsupportedError, match=r"torch\.jit\.script knows no options of carousel\.nn, got GRU\(3, 5, "
    ):
        torch.jit.script(nn.GRU(3, 5, layer_norm=True))


# ---- torch.fx ----


class _Reads(torch.nn.Module):
    """Something around a layer, which sees the results of a call."""

    def __init__(self, layer, *given, **keywords):
        super().__init__()
        self.layer, self.given, self.keywords = layer, given, keywords

    def forward(self, x):
        found = self.layer(x.tanh(), *self.given, **self.keywords)
        return found[0] * 2


@modules
def test_symbolic_trace(kind):
    """A layer is one node of the graph, as of torch's, called before or not, with a state and without."""
    layer, x = getattr(nn, kind)(3, 5), inputs(kind)
    for given in ((), (), (state(kind),)):
        model = _Reads(layer, *given)
        graph = torch.fx.symbolic_trace(model)
        called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
        assert (called, type(graph.layer)) == (["layer"], getattr(nn, kind))
        assert torch.equal(graph(x), model(x))


def test_symbolic_trace_with_options():
    model = _Reads(
        nn.LSTM(3, 5, peephole=True, learn_initial_state=True), lengths=[2, 0, 1], return_gates=True
    )
    x = torch.randn(4, 3, 3)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))


def test_symbolic_trace_of_what_a_node_would_do_twice():
    """A hook, and the method of a subclass, have met the tracer before us."""

    class Doubles(nn.LSTM):
        def forward(self, input, hx=None):
            return super().forward(input * 2, hx)

    hooked = nn.LSTM(3, 5)
    hooked.register_forward_pre_hook(lambda module, arguments: (arguments[0] * 2,))
    for model in (
        _Reads(hooked),
        _Reads(Doubles(3, 5)),
        nn.LSTM(3, 5),
    ):  # the last as root: torch's cannot be one
        with pytest.raises(torch.fx.proxy.TraceError):
            torch.fx.symbolic_trace(model)


# ---- several processes ----

PROCESSES = """
import sys, torch
import torch.distributed as dist
from carousel import nn

def work(rank, file):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.LSTM(3, 5, 2, bidirectional=True)
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    torch.manual_seed(1)
    x = torch.randn(2, 6, 4, 3)  # two steps that are accumulated
    with ddp.no_sync():
        ddp(x[0, :, rank * 2 : rank * 2 + 2])[0].square().mean().backward()
    ddp(x[1, :, rank * 2 : rank * 2 + 2])[0].square().mean().backward()
    alone = nn.LSTM(3, 5, 2, bidirectional=True)
    alone.load_state_dict(model.state_dict())
    for part in x:
        alone(part)[0].square().mean().backward()
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    dist.destroy_process_group()

if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1],), 2)
    print("equal")
"""


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch is built without torch.distributed"
)
def test_two_processes(python, tmp_path):
    """DistributedDataParallel with gradients that are accumulated: two halves of a batch are the whole batch."""
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES, encoding="utf-8")
    done = python(script, tmp_path / "rendezvous", threads=1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
