"""carousel.nn computes what torch.nn computes: random cases, initial values, state dicts, dropout, packing.

How a case is drawn and compared is in differential.py, which also runs for longer than a test may.
"""

import copy
import dataclasses
import io
import pickle
import random

import pytest

torch = pytest.importorskip("torch")

import differential  # noqa: E402
from carousel import kernel_path, nn  # noqa: E402
from differential import CELLS, LAYERS, Case, arguments_of, flat, module_of, random_case  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
CASES = 1200  # in twelve tests of 100
modules = pytest.mark.parametrize("kind", LAYERS + CELLS)
layers = pytest.mark.parametrize("kind", LAYERS)
TOLERANCE = {"rtol": 0, "atol": differential.TOLERANCE["f32"]}


def pair(kind, *sizes, **options):
    """Ours and torch's under one seed."""
    made = []
    for library in (nn, torch.nn):
        torch.manual_seed(3)
        made.append(getattr(library, kind)(*sizes, **options))
    return made


@pytest.mark.parametrize("seed", range(12))
def test_random_cases(seed):
    rng = random.Random(seed)
    lines = [line for _ in range(CASES // 12) for line in differential.confirmed(random_case(rng))]
    assert not lines, "\n".join(lines)


def test_random_cases_take_our_kernels():
    rng = random.Random(100)
    for _ in range(300):
        case = random_case(rng)
        x, hx = arguments_of(case)
        path = kernel_path(module_of(case, nn), x, hx)
        assert path.startswith("carousel: ") == (0 not in x.shape), f"{case}: {path}"


def test_random_cases_reach_everything():
    """Every word of a case, every option of every cell, in the sample of `test_random_cases`."""
    seen = set()
    for seed in range(12):
        rng = random.Random(seed)
        for case in (random_case(rng) for _ in range(CASES // 12)):
            seen |= {word.partition("=")[0] for word in str(case).partition(":")[2].split(",")}
            seen |= {(case.kind, word) for word in [*case.words, case.rows, case.dtype]}
    for kind in LAYERS:
        words = set(differential.OPTIONS) - differential.NOT_OF[kind]
        words |= {"packed", "unsorted", "lengths", "f32", "f64", "bf16"}
        assert {(kind, word) for word in words} <= seen
    flags = {field.name for field in dataclasses.fields(Case) if field.type == "bool"}
    assert flags | {"T0", "B0", "B1", "I1", "H1", "H37", "P1"} <= seen


def test_a_case_is_its_string():
    rng = random.Random(4)
    for _ in range(200):
        case = random_case(rng)
        assert Case.parse(str(case)) == case


@pytest.mark.parametrize("name", ["y", "dweight_hh_l0", "generator"])
def test_a_difference_is_noticed(name, monkeypatch):
    true = differential.run

    def perturbed(case, library):
        seen = true(case, library)
        if library is nn:
            seen[name] = seen[name].detach() + 1 if name == "generator" else seen[name] * 1.0001
        return seen

    monkeypatch.setattr(differential, "run", perturbed)
    assert name in differential.confirmed(Case("LSTM", I=3, H=5))[0]


@modules
def test_initial_values_are_torchs(kind):
    ours, theirs = pair(kind, 3, 5)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@modules
def test_state_dict_goes_both_ways(kind):
    options = {} if kind in CELLS else {"num_layers": 2, "bidirectional": True}
    for here, there in ((nn, torch.nn), (torch.nn, nn)):
        source, target = getattr(here, kind)(3, 5, **options), getattr(there, kind)(3, 5, **options)
        target.load_state_dict(source.state_dict(), strict=True)
        x = torch.randn(4, 3) if kind in CELLS else torch.randn(6, 4, 3)
        for a, b in zip(flat(source(x)), flat(target(x)), strict=True):
            torch.testing.assert_close(a, b, **TOLERANCE)


@modules
def test_looks_like_torchs(kind):
    ours, theirs = pair(kind, 3, 5)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours, type(theirs))


@layers
def test_dropout_draws_torchs_masks(kind):
    ours, theirs = pair(kind, 3, 16, num_layers=3, dropout=0.5, batch_first=True)
    x = torch.randn(4, 6, 3)
    torch.manual_seed(9)
    found = ours(x)[0]
    torch.manual_seed(9)
    torch.testing.assert_close(found, theirs(x)[0], **TOLERANCE)
    assert not torch.equal(found, ours(x)[0])
    assert torch.equal(ours.eval()(x)[0], ours(x)[0])


@layers
@pytest.mark.parametrize("options", [{"dropout": 0.0}, {"num_layers": 1}, {"eval": True}])
def test_without_dropout_the_generator_is_left_alone(kind, options):
    options = {"num_layers": 2, "dropout": 0.0 if "dropout" in options else 0.5} | options
    train = not options.pop("eval", False)
    if options["num_layers"] == 1:
        options["dropout"] = 0.0
    module = getattr(nn, kind)(3, 5, **options).train(train)
    before = torch.get_rng_state()
    module(torch.zeros(4, 2, 3))[0].sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@layers
def test_dropout_of_one(kind):
    ours, theirs = pair(kind, 3, 5, num_layers=2, dropout=1.0)
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], **TOLERANCE)


@layers
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "deep"])
def test_packed_sequences(kind, enforce_sorted, options):
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    ours, theirs = pair(kind, 3, 5, **options)
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 6, 1, 4]
    x = torch.randn(6, 4, 3)
    seen = []
    for module in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y, state = module(pack_padded_sequence(leaf, lengths, enforce_sorted=enforce_sorted))
        padded, found = pad_packed_sequence(y)
        assert found.tolist() == lengths
        (padded.sin().sum() + sum(s.cos().sum() for s in flat(state))).backward()
        seen.append([padded, *flat(state), leaf.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projection():
    ours, theirs = pair("LSTM", 3, 8, proj_size=2, num_layers=2)
    x = torch.randn(6, 4, 3)
    for a, b in zip(flat(ours(x)), flat(theirs(x)), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@modules
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind, dtype):
    ours, theirs = pair(kind, 3, 5, dtype=dtype)
    x = torch.randn(4, 3, dtype=dtype) if kind in CELLS else torch.randn(6, 4, 3, dtype=dtype)
    for a, b in zip(flat(ours(x)), flat(theirs(x)), strict=True):
        assert a.dtype is dtype
        # bfloat16 keeps 8 bits; ours sums in float32, and of 6 steps each may be off by one rounding.
        torch.testing.assert_close(a, b, rtol=0, atol=0 if dtype is torch.float16 or kind in CELLS else 0.03)


@modules
@pytest.mark.parametrize("copies", ["deepcopy", "pickle", "save", "state"])
def test_copies(kind, copies):
    module = getattr(nn, kind)(3, 5)
    x = torch.randn(4, 3) if kind in CELLS else torch.randn(6, 4, 3)
    module(x)
    if copies == "deepcopy":
        copied = copy.deepcopy(module)
    elif copies == "pickle":
        copied = pickle.loads(pickle.dumps(module))
    else:
        file = io.BytesIO()
        torch.save(module if copies == "save" else module.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=copies == "state")
        copied = loaded if copies == "save" else getattr(nn, kind)(3, 5)
        if copies == "state":
            copied.load_state_dict(loaded)
    assert type(copied) is type(module)
    assert all(torch.equal(a, b) for a, b in zip(flat(copied(x)), flat(module(x)), strict=True))
    with torch.no_grad():
        next(copied.parameters()).add_(1)  # the copy has weights of its own
    assert not torch.equal(flat(copied(x))[0], flat(module(x))[0])


def fresh(module, x):
    """The output of a module that never ran before, with the same weights."""
    other = type(module)(3, 5)
    other.load_state_dict(module.state_dict())
    return flat(other(x))[0]


@modules
@pytest.mark.parametrize("way", ["data", "numpy", "assign", "optimiser", "setattr", "double"])
def test_weights_are_never_stale(kind, way):
    module = getattr(nn, kind)(3, 5)
    x = torch.randn(4, 3) if kind in CELLS else torch.randn(6, 4, 3)
    first = flat(module(x))[0]
    name, weight = next(iter(module.named_parameters()))
    if way == "data":
        weight.data.mul_(2)
    elif way == "numpy":
        weight.detach().numpy()[...] *= 2
    elif way == "assign":
        changed = {key: value * 2 for key, value in module.state_dict().items()}
        module.load_state_dict(changed, assign=True)
    elif way == "optimiser":
        first.sum().backward()
        torch.optim.SGD(module.parameters(), lr=1.0).step()
    elif way == "setattr":
        setattr(module, name, torch.nn.Parameter(weight.detach() * 2))
    else:
        module.double()
        assert flat(module(x.double()))[0].dtype is torch.float64
        module.float()
        weight.data.mul_(2)
    found = flat(module(x))[0]
    assert not torch.equal(found, first)
    assert torch.equal(found, fresh(module, x))


@layers
def test_output_can_be_viewed(kind):
    y, state = getattr(nn, kind)(3, 5, bidirectional=True)(torch.randn(4, 6, 3))
    assert y.view(24, 10).shape == (24, 10)
    assert all(s.is_contiguous() for s in flat(state))


@layers
@pytest.mark.parametrize("shape", [(4, 6, 3), (1, 6, 3), (4, 1, 3), (6, 3)])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "dropout": 0.5}, {"bidirectional": True}])
@pytest.mark.parametrize("batch_first", [False, True])
def test_output_lies_in_memory_as_torchs(kind, shape, options, batch_first):
    """A dropout behind the layer draws its mask in the order of memory, and would draw another."""
    masks = []
    for package in (torch.nn, nn):
        torch.manual_seed(0)
        module = getattr(package, kind)(3, 5, batch_first=batch_first, **options)
        for _ in range(3):  # the first call, and those that remember it
            y, state = module(torch.ones(shape))
        torch.manual_seed(1)
        masks.append([torch.nn.functional.dropout(torch.ones_like(t)) for t in (y, *flat(state))])
    for right, found in zip(*masks, strict=True):
        assert torch.equal(found, right)


def test_a_dropout_behind_a_layer_trains_as_behind_torchs():
    losses = []
    for package in (torch.nn, nn):
        torch.manual_seed(0)
        layer, head = package.LSTM(3, 8, batch_first=True), torch.nn.Linear(8, 1)
        optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 0.01)
        x, target = torch.randn(6, 7, 3), torch.randn(6, 7, 1)
        found = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (head(torch.nn.functional.dropout(layer(x)[0])) - target).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        losses.append(found)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
