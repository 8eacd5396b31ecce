"""Every option of carousel.nn, alone and together, through the torch module, judged by the NumPy reference."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from carousel import kernel_path  # noqa: E402
from modules import arguments_of, called, differences, module_of, recorded, reference  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

# Both sides compute in float64 and round in their orders: sums of up to 20 terms over 7 steps, forward and back.
TOLERANCE = 1e-12

EVERY = {
    "none": {},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": 0.3},
    "state_dropout": {"state_dropout": 0.3},
    "input_dropout": {"input_dropout": 0.3},
    "clip": {"clip": 0.4},
    "recompute": {"recompute": 3},
    "nobias": {"bias": False},
}
GATED = EVERY | {"recurrent_dropout": {"recurrent_dropout": 0.3}}
OPTIONS = {
    "LSTM": GATED | {
        "zoneout of c": {"zoneout": (0.0, 0.4)},
        "peephole": {"peephole": True},
        "coupled_gates": {"coupled_gates": True},
        "cell_clip": {"cell_clip": 0.2},
        "projection": {"proj_size": 2},
    },
    "GRU": GATED | {"reset": {"reset": "before"}},
    "RNN": EVERY | {"relu": {"nonlinearity": "relu"}},
}  # fmt: skip
MIXES = {
    "LSTM": [
        ("peephole", "coupled_gates", "projection", "zoneout", "recompute"),
        ("layer_norm", "zoneout", "recurrent_dropout", "peephole", "nobias"),
        ("layer_norm", "projection", "coupled_gates", "cell_clip", "input_dropout", "state_dropout"),
        ("clip", "cell_clip", "peephole", "recurrent_dropout", "state_dropout", "recompute"),
        ("projection", "zoneout of c", "state_dropout", "clip", "nobias"),
    ],
    "GRU": [
        ("layer_norm", "reset", "zoneout", "recurrent_dropout"),
        ("reset", "clip", "state_dropout", "input_dropout", "recompute", "nobias"),
        ("layer_norm", "clip", "state_dropout", "recompute"),
    ],
    "RNN": [("layer_norm", "zoneout", "clip"), ("relu", "state_dropout", "input_dropout", "recompute")],
}
CASES = [
    *((kind, (name,)) for kind, options in OPTIONS.items() for name in options),
    *((kind, mix) for kind, mixes in MIXES.items() for mix in mixes),
]
cases = pytest.mark.parametrize(
    ("kind", "names"), CASES, ids=lambda value: "+".join(value) if isinstance(value, tuple) else value
)
SHAPES = list(itertools.product((1, 2), (False, True), (False, True)))
shapes = pytest.mark.parametrize(("num_layers", "bidirectional", "ragged"), SHAPES, ids=lambda v: str(v))
LENGTHS = [4, 7, 0, 6]


def keywords_of(kind, names):
    return {name: value for each in names for name, value in OPTIONS[kind][each].items()}


@cases
@shapes
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_is_the_references(kind, names, num_layers, bidirectional, ragged, training):
    """Outputs and all gradients, float64."""
    keywords = keywords_of(kind, names) | {"num_layers": num_layers, "bidirectional": bidirectional}
    module = module_of(kind, **keywords, batch_first=num_layers == 2).train(training)
    lengths = LENGTHS if ragged else None
    x, hx = arguments_of(module)
    if ragged:  # nobody looks beyond a row's end
        with torch.no_grad():
            for row, length in enumerate(lengths):
                (x[row, length:] if module.batch_first else x[length:, row]).fill_(float("nan"))
    assert kernel_path(module, x, hx).startswith("carousel: ")
    with recorded() as draws:
        found = called(module, x, hx, lengths=lengths)
    right = reference(module, x, hx, draws, lengths)
    assert differences(found, right, TOLERANCE) == []
    if ragged:
        assert (found["dx"][np.isnan(x.detach().numpy())] == 0).all()


@pytest.mark.parametrize("name", ["dx", "dweight_hh_l0", "dweight_ch_l1_reverse", "y", "f"])
def test_a_wrong_number_is_noticed(name):
    """What `test_is_the_references` looks at is there, and a last digit changed differs."""
    module = module_of("LSTM", num_layers=2, bidirectional=True, peephole=True)
    x, hx = arguments_of(module)
    with recorded() as draws:
        found = called(module, x, hx, return_gates=True)
    right = reference(module, x, hx, draws)
    assert found.keys() == right.keys()
    found[name] = found[name] + 1e-11
    assert differences(found, right, TOLERANCE)[0].startswith(f"{name} differs")


@cases
def test_float32(kind, names):
    module = module_of(kind, **keywords_of(kind, names), num_layers=2).float()
    x, hx = arguments_of(module)
    with recorded() as draws:
        found = called(module, x, hx)
    assert found["y"].dtype == np.float32
    # 2^-23 for 2^-52.
    assert differences(found, reference(module, x, hx, draws), TOLERANCE * 2**29) == []


@cases
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
def test_the_formula_computes_the_same(kind, names, num_layers, lengths):
    """Where no kernel can go, and in second derivatives: the same outputs, gradients and drawn masks."""
    module = module_of(kind, **keywords_of(kind, names), num_layers=num_layers, bidirectional=num_layers == 2)
    x, hx = arguments_of(module)
    torch.manual_seed(3)
    right = called(module, x, hx, lengths=lengths)
    torch.manual_seed(3)
    with torch.overrides.BaseTorchFunctionMode():
        assert kernel_path(module, x, hx).startswith("torch")
        found = called(module, x, hx, lengths=lengths)
    assert found.keys() == right.keys()
    assert differences(found, right, TOLERANCE) == []


@cases
def test_second_derivatives(kind, names):
    """Of everything; where masks are drawn, for those of one seed."""
    smooth = {"clip": None, "cell_clip": None}  # the kink of a bound is no place for finite differences
    keywords = keywords_of(kind, names)
    keywords = {name: 1e3 if name in smooth else value for name, value in keywords.items()}
    module = module_of(kind, **keywords, bidirectional=True)
    (x, hx), lengths = arguments_of(module, T=3, B=2), [3, 2]
    states = hx if kind == "LSTM" else (hx,)
    named = dict(module.named_parameters())

    def function(x, *rest):
        torch.manual_seed(3)
        state = rest[: len(states)] if kind == "LSTM" else rest[0]
        parameters = dict(zip(named, rest[len(states) :], strict=True))
        y, state = torch.func.functional_call(module, parameters, (x, state), {"lengths": lengths})
        return (y, *state) if kind == "LSTM" else (y, state)

    inputs = (x, *states, *named.values())
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"recompute": 2}], ids=str)
@pytest.mark.parametrize(
    ("kind", "bound"),
    [("LSTM", "clip"), ("LSTM", "cell_clip"), ("GRU", "clip"), ("RNN", "clip"), ("relu", "clip")],
)
def test_no_gradient_passes_at_a_bound(kind, bound, options):
    """Of sums, or of a first cell, that are the bound to the bit; nor in a pass that can be differentiated again."""
    given = {"nonlinearity": "relu"} if kind == "relu" else {}
    module = module_of("RNN" if kind == "relu" else kind, **{bound: 1.0}, **options, **given)
    x, hx = arguments_of(module, T=1 if bound == "cell_clip" else 7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.startswith("gain_ch"):
                parameter.zero_()
        if bound == "clip":
            module.bias_ih_l0.fill_(1.0)[::3] = -1.0
        else:
            hx[1].fill_(2.0)[..., ::3] = -2.0  # halved by f = σ(0)
    stopped = hx[1] if bound == "cell_clip" else module.bias_ih_l0
    sources, seen = [stopped, *module.parameters()], []
    y = module(x, hx)[0]
    for again in (False, True):
        found = torch.autograd.grad(
            y.sum(), sources, create_graph=again, retain_graph=True, materialize_grads=True
        )
        assert not found[0].any()
        seen.append([gradient.detach() for gradient in found])
    for first, second in zip(*seen, strict=True):
        torch.testing.assert_close(second, first, rtol=0, atol=TOLERANCE)
