"""nn.Stack against a step-by-step reference, whose derivatives are those of the complex step."""

import copy
import pickle
from itertools import count

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence  # noqa: E402

from carousel import accelerated, kernel_path, nn  # noqa: E402
from carousel.errors import ArgumentError, ShapeError, UnsupportedError  # noqa: E402
from carousel.layout import Weights  # noqa: E402
from carousel.nn import dilation  # noqa: E402
from carousel.reference import LayerNorm, Options, gru, lstm, rnn  # noqa: E402
from modules import flat  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"rtol": 1e-11, "atol": 1e-12}  # float64; sums of up to 20 terms over 7 steps and 3 layers
SAME = {"rtol": 0, "atol": 1e-13}  # the same kernels on the same rows, in another order
I, T, B = 3, 7, 4
LENGTHS = [5, 0, 7, 1]
JUDGES = {"LSTM": lstm, "GRU": gru, "RNN": rnn}
FORMS = {
    "widths": ([5, 2, 4], {}),
    "cells": ([5, 4, 3], {"cell": ["lstm", "gru", "rnn"]}),
    "directions": ([4, 3, 2, 2], {"bidirectional": True, "merge": ["concat", "sum", "mean", "mul"]}),
    "residual": ([3, 4, 4], {"residual": True, "cell": "gru"}),
    "residual both ways": ([3, 2], {"residual": True, "bidirectional": True, "merge": ["sum", "concat"]}),
    "dense": ([4, 2, 3], {"dense": True, "cell": ["rnn", "lstm", "gru"], "bidirectional": [True, False, True]}),
    "dilation": ([4, 3, 2], {"dilation": [1, 2, 4], "cell": ["gru", "lstm", "rnn"]}),
    "longer than the sequence": ([3], {"dilation": 9}),
    "dilation both ways": ([4, 3], {"dilation": [3, 2], "bidirectional": True, "merge": ["sum", "concat"]}),
    "options": ([4, 3], {"layer_norm": True, "peephole": True, "dilation": [1, 3], "proj_size": [2, 0]}),
    "batch first": ([4, 3], {"batch_first": True, "dilation": [2, 1], "cell": ["lstm", "gru"], "residual": True}),
}  # fmt: skip
forms = pytest.mark.parametrize("form", FORMS)


def stack_of(form, seed=0, **more):
    """In float64, every parameter random and not zero."""
    torch.manual_seed(seed)
    sizes, options = FORMS[form]
    stack = nn.Stack(I, sizes, dtype=torch.float64, **options, **more)
    with torch.no_grad():
        for name, p in stack.named_parameters():
            p.copy_(0.4 * torch.randn_like(p) + ("gain" in name))
    return stack


def states_of(stack, size=B):
    """Random states, whose gradients are asked for."""

    def drawn(d, layer, width):
        rows = d * (2 if layer.bidirectional else 1)
        return (0.5 * torch.randn(rows, size, width, dtype=torch.float64)).requires_grad_()

    states = []
    for layer, d in zip(stack.layers, stack.dilation, strict=True):
        h = drawn(d, layer, layer.proj_size or layer.hidden_size)
        states.append((h, drawn(d, layer, layer.hidden_size)) if layer.mode == "LSTM" else h)
    return states


def input_of(stack, steps=T, size=B):
    shape = (size, steps, I) if stack.batch_first else (steps, size, I)
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


# The reference: every row by itself, step by step, as the equations have it


def weights_of(arrays, k, d):
    """Weights and options of direction d of layer k, out of arrays under their torch names."""
    end = f"_l0{'_reverse' if d else ''}"
    mine = {
        name.removeprefix(f"layers.{k}.").removesuffix(end): value
        for name, value in arrays.items()
        if name.startswith(f"layers.{k}.") and name.endswith(end)
    }
    w = Weights(*(mine[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
    if not set(mine) - {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}:
        return w, None
    norm = (
        LayerNorm(*(mine.get(name) for name in ("gain_ih", "gain_hh", "gain_ch", "shift_ch")))
        if "gain_ih" in mine
        else None
    )
    return w, Options(projection=mine.get("weight_hr"), peephole=mine.get("weight_ch"), layer_norm=norm)


def by_steps(stack, arrays, x, states, lengths):
    """y (T, B, ·) and the last states of all layers, from x (T, B, I); states are lists of arrays per layer."""
    finals = []
    alive = np.arange(len(x))[:, None, None] < np.asarray(lengths)[:, None]
    for k, layer in enumerate(stack.layers):
        outputs, final = [], [np.array(s) for s in states[k]]
        for d in range(2 if layer.bidirectional else 1):
            outputs.append(direction(stack, arrays, k, d, x, final, lengths))
        y = merged(stack.merge[k], *outputs)
        if stack.residual:
            W = arrays.get(f"shortcuts.{k}.weight")
            y = y + np.where(alive, x if W is None else x @ W.T, 0)
        x = np.concatenate([x, y], -1) if stack.dense else y
        finals.append(final)
    return y, finals


def merged(how, a, b=None):
    """One output of one direction or two."""
    if b is None:
        return a
    if how == "concat":
        return np.concatenate([a, b], axis=-1)
    return {"sum": a + b, "mean": (a + b) / 2, "mul": a * b}[how]


def direction(stack, arrays, k, d, x, final, lengths):
    """One direction of one layer; `final` holds its first states, and then its last ones."""
    layer, dilation = stack.layers[k], stack.dilation[k]
    judge, (w, options) = JUDGES[layer.mode.partition("_")[0]], weights_of(arrays, k, d)
    keywords = {} if options is None else {"options": options}
    width = layer.proj_size or layer.hidden_size
    y = np.zeros((*x.shape[:2], width), final[0].dtype)
    for b, n in enumerate(lengths):
        rows = slice(d * dilation, (d + 1) * dilation)
        past = [[s[j, b] for s in final] for j in range(d * dilation, (d + 1) * dilation)]
        for t in range(n) if d == 0 else reversed(range(n)):
            before = [part[None] for part in past.pop(0)]
            new, _ = judge.step(x[t, b][None], before if len(before) == 2 else before[0], w, **keywords)
            new = [part[0] for part in new] if len(before) == 2 else [new[0]]
            y[t, b] = new[0]
            past.append(new)
        for s, parts in zip(final, zip(*past, strict=True), strict=True):
            s[rows, b] = parts
    return y


@forms
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_step_by_step(form, lengths):
    """Outputs, last states, and the derivative along one direction of each parameter, of x and of each state."""
    stack = stack_of(form)
    x, states = input_of(stack), states_of(stack)
    assert kernel_path(stack, x, states).startswith("carousel: ")
    y, finals = stack(x, states, lengths=lengths)
    outputs = [y, *flat(finals)]
    drawn = torch.Generator().manual_seed(9)
    weigh = [torch.randn(o.shape, generator=drawn, dtype=torch.float64) for o in outputs]
    loss = sum((o * w).sum() for o, w in zip(outputs, weigh, strict=True))
    sources = (
        {"x": x} | {f"state {n}": s for n, s in enumerate(flat(states))} | dict(stack.named_parameters())
    )
    found = torch.autograd.grad(loss, list(sources.values()))

    def reference(point):
        counter, seen = count(), point["x"].swapaxes(0, 1) if stack.batch_first else point["x"]
        given = [[point[f"state {next(counter)}"] for _ in flat([s])] for s in states]
        y, finals = by_steps(stack, point, seen, given, lengths or [T] * B)
        return [y.swapaxes(0, 1) if stack.batch_first else y, *(s for final in finals for s in final)]

    point = {name: value.detach().numpy() for name, value in sources.items()}
    for mine, right in zip(outputs, reference(point), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), right, **CLOSE)
    rng = np.random.default_rng(1)
    for (name, value), slope in zip(point.items(), found, strict=True):
        along = rng.normal(size=value.shape)
        everywhere = {n: v.astype(complex) for n, v in point.items()}
        results = reference(everywhere | {name: value + 1e-30j * along})
        derivative = sum(np.sum(r.imag * w.numpy()) for r, w in zip(results, weigh, strict=True)) / 1e-30
        np.testing.assert_allclose(np.sum(slope.numpy() * along), derivative, err_msg=name, **CLOSE)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equal_widths_are_the_layers_of_torch(kind, bidirectional):
    """Numbers and, under one seed, dropout's masks."""
    theirs = getattr(torch.nn, kind)(I, 5, 3, bidirectional=bidirectional, dropout=0.5, dtype=torch.float64)
    stack = nn.Stack(I, [5] * 3, kind.lower(), bidirectional=bidirectional, dropout=0.5, dtype=torch.float64)
    for name, p in theirs.named_parameters():
        head, _, rest = name.partition("_l")
        layer, _, reverse = rest.partition("_")
        stack.get_parameter(f"layers.{layer}.{head}_l0" + f"_{reverse}" * bool(reverse)).data.copy_(p.data)
    x = torch.randn(T, B, I, dtype=torch.float64)
    seen = []
    for module in (stack, theirs):
        torch.manual_seed(6)
        y, state = module(x)
        tensors = flat(state)
        if module is stack:
            parts = zip(*state, strict=True) if kind == "LSTM" else [state]
            tensors = [torch.cat(list(part)) for part in parts]
        seen.append([y, *tensors])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, **SAME)


CUT = [form for form in FORMS if "both ways" not in form and form not in ("directions", "dense")]


@pytest.mark.parametrize("form", CUT)
@pytest.mark.parametrize("cut", [1, 2, 6])
def test_a_sequence_may_be_cut_anywhere(form, cut):
    stack = stack_of(form)
    x, states = input_of(stack), states_of(stack)
    axis = 1 if stack.batch_first else 0
    head, tail = x.split([cut, T - cut], dim=axis)
    y, finals = stack(x, states)
    y_head, between = stack(head, states)
    y_tail, last = stack(tail, between)
    torch.testing.assert_close(torch.cat([y_head, y_tail], dim=axis), y, **SAME)
    for a, b in zip(flat(last), flat(finals), strict=True):
        torch.testing.assert_close(a, b, **SAME)


@forms
def test_a_row_with_lengths_is_the_row_alone(form):
    """And nothing leaks from beyond its end."""
    stack = stack_of(form)
    x, states = input_of(stack), states_of(stack)
    turned = (lambda a: a.transpose(0, 1)) if stack.batch_first else (lambda a: a)
    alive = turned((torch.arange(T)[:, None] < torch.tensor(LENGTHS))[..., None])
    filled = torch.where(alive, x, float("nan")).detach().requires_grad_()
    y, finals = stack(filled, states, lengths=LENGTHS)
    assert not y.masked_select(~alive).any()
    gradients = torch.autograd.grad(y.sin().sum(), [filled, *stack.parameters()], retain_graph=True)
    assert not gradients[0].masked_select(~alive).any()
    assert all(g.isfinite().all() for g in gradients)
    for b, n in enumerate(LENGTHS):
        mine = [tuple(s[:, b : b + 1] for s in flat([state])) for state in states]
        mine = [state if len(state) == 2 else state[0] for state in mine]
        if n == 0:
            for final, state in zip(flat(finals), flat(states), strict=True):
                assert torch.equal(final[:, b], state[:, b])
            continue
        alone, last = stack(turned(turned(x)[:n, b : b + 1]), mine)
        torch.testing.assert_close(turned(y)[:n, b : b + 1], turned(alone), **SAME)
        for final, right in zip(flat(finals), flat(last), strict=True):
            torch.testing.assert_close(final[:, b : b + 1], right, **SAME)


@forms
@pytest.mark.parametrize("lengths", [[7, 4, 4, 1], [4, 7, 1, 4]], ids=["sorted", "unsorted"])
def test_packed(form, lengths):
    stack = stack_of(form)
    x, states = input_of(stack), states_of(stack)
    in_order = lengths == sorted(lengths, reverse=True)
    packed = pack_padded_sequence(x, lengths, batch_first=stack.batch_first, enforce_sorted=in_order)
    assert kernel_path(stack, packed, states).startswith("carousel: ")
    y, finals = stack(packed, states)
    assert isinstance(y, PackedSequence)
    assert (y.sorted_indices is None) == in_order
    padded, found = pad_packed_sequence(y, batch_first=stack.batch_first)
    assert found.tolist() == lengths
    right, last = stack(x, states, lengths=lengths)
    torch.testing.assert_close(padded, right, **SAME)
    for a, b in zip(flat(finals), flat(last), strict=True):
        torch.testing.assert_close(a, b, **SAME)


@forms
def test_without_a_batch(form):
    stack = stack_of(form)
    x, states = torch.randn(T, I, dtype=torch.float64), states_of(stack, 1)
    alone = [tuple(s.squeeze(1) for s in flat([state])) for state in states]
    alone = [state if len(state) == 2 else state[0] for state in alone]
    assert kernel_path(stack, x, alone).startswith("carousel: ")
    y, finals = stack(x, alone)
    right, last = stack(x.unsqueeze(0 if stack.batch_first else 1), states)
    torch.testing.assert_close(y, right.squeeze(0 if stack.batch_first else 1), **SAME)
    for a, b in zip(flat(finals), flat(last), strict=True):
        torch.testing.assert_close(a, b.squeeze(1), **SAME)


def test_without_states_they_are_zero():
    stack = stack_of("dilation both ways")
    x, zeros = input_of(stack), [tuple(torch.zeros_like(s) for s in pair) for pair in states_of(stack)]
    right = stack(x, zeros)
    for hx in (None, [None, None], [zeros[0], None]):
        for a, b in zip(flat(stack(x, hx)), flat(right), strict=True):
            assert torch.equal(a, b)


def test_learned_states_are_those_of_every_interleaved_sequence():
    stack = nn.Stack(I, [4, 3], "gru", dilation=[1, 3], learn_initial_state=True, dtype=torch.float64)
    with torch.no_grad():
        for layer in stack.layers:
            layer.h_0.normal_()
    x = input_of(stack)
    hx = [layer.h_0.expand(d, B, -1) for layer, d in zip(stack.layers, stack.dilation, strict=True)]
    for a, b in zip(flat(stack(x)), flat(stack(x, hx)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "options", [{"zoneout": (0.2, 0.3)}, {"recurrent_dropout": 0.4}, {"input_dropout": 0.4}]
)
def test_what_is_drawn_comes_from_torchs_generator(options):
    stack, x = nn.Stack(I, [5, 4], dilation=[1, 2], dropout=0.3, **options), torch.randn(T, B, I)

    def drawn(seed):
        torch.manual_seed(seed)
        return stack(x)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    stack.eval()
    before = torch.get_rng_state()
    assert torch.equal(stack(x)[0], stack(x)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_leaves_shortcuts_alone():
    """With all dropped, the second layer reads zeros; what goes past it is there."""
    stack = nn.Stack(4, [4, 4], "gru", residual=True, dropout=1.0)
    x = torch.randn(T, B, 4)
    below = x + stack.layers[0](x)[0]
    right = below + stack.layers[1](torch.zeros_like(below))[0]
    torch.testing.assert_close(stack(x)[0], right)


def test_double_backward():
    stack, x = stack_of("dilation both ways"), torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: stack(x)[0].sum(0), x)


@forms
def test_compiled(form):
    stack = stack_of(form)
    try:
        call = torch.compile(stack, backend="aot_eager", fullgraph=True)
        x, states = input_of(stack), states_of(stack)
        for lengths in (None, LENGTHS):
            found, right = ([*flat(f(x, states, lengths=lengths))] for f in (call, stack))
            for a, b in zip(found, right, strict=True):
                torch.testing.assert_close(a, b, **SAME)
            found, right = (torch.autograd.grad(sum(o.sin().sum() for o in f), x)[0] for f in (found, right))
            torch.testing.assert_close(found, right, **SAME)
    finally:
        torch._dynamo.reset()


def test_copies_pickles_and_state_dicts():
    stack = stack_of("residual")
    x = input_of(stack)
    other = stack_of("residual", seed=1)
    assert not torch.equal(other(x)[0], stack(x)[0])
    other.load_state_dict(stack.state_dict())
    for same in (other, copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert torch.equal(same(x)[0], stack(x)[0])
    assert [str(layer) for layer in accelerated(stack)] == [f"layers.{k}: GRU accelerated" for k in range(3)]


def test_its_text_tells_the_arguments():
    stack = nn.Stack(3, [8, 6], ["lstm", "gru"], dilation=[1, 2], dropout=0.1, residual=True, merge="sum")
    line = "3, [8, 6], dropout=0.1, merge=['sum', 'sum'], residual=True, dilation=[1, 2]"
    assert line in str(stack)
    assert nn.Stack(3, [8]).extra_repr() == "3, [8]"


def test_paths_of_layers_that_differ():
    stack = nn.Stack(3, [4, 4])
    stack.layers[1].half()
    first, second = kernel_path(stack, torch.zeros(5, 2, 3)).splitlines()
    assert first.startswith("layers.0: carousel: ")
    assert second == "layers.1: torch: dtypes torch.float32 and torch.float16 in one call"


def test_bfloat16():
    stack = nn.Stack(3, [8, 8], ["lstm", "gru"], residual=True, dilation=2, bidirectional=True, merge="mean")
    x = torch.randn(T, B, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert kernel_path(stack, x).endswith("bfloat16")
        low = stack(x)[0]
    torch.testing.assert_close(
        low.float(), stack(x)[0], rtol=0, atol=0.05
    )  # 8 bits of mantissa, values near 1


@pytest.mark.parametrize("d", [1, 2, 3, 5, 9])
def test_interleaving_there_and_back(d):
    x = torch.randn(T, B, 2)
    split = dilation.interleaved(x, d)
    assert split.shape == (-(-T // d), d * B, 2)
    assert torch.equal(dilation.joined(split, d, T), x)
    assert torch.equal(split[:, B * (d - 1) + 1][: len(x[d - 1 :: d])], x[d - 1 :: d, 1])
    ends = torch.tensor(LENGTHS)
    right = [len(range(p, n, d)) for p in range(d) for n in LENGTHS]
    assert dilation.lengths_of(ends, d).tolist() == right


# Refusals

CONSTRUCTOR = {
    "no layers": ({"hidden_sizes": []}, "`hidden_sizes` must be a list of one width per layer, got []."),
    "a number": ({"hidden_sizes": 4}, "`hidden_sizes` must be a list of one width per layer, got 4."),
    "width": ({"hidden_sizes": [4, 0]}, "`hidden_sizes` must be an integer of at least 1, got 0."),
    "cell": ({"cell": "tcn"}, "`cell` must be 'lstm' or 'gru' or 'rnn', got 'tcn'."),
    "list": ({"cell": ["gru"]}, "`cell` must be one value, or a list of one per layer, 2, got ['gru']."),
    "merge": ({"merge": "max"}, "`merge` must be 'concat' or 'sum' or 'mean' or 'mul', got 'max'."),
    "dilation": ({"dilation": [1, 0]}, "`dilation` must be an integer of at least 1, got 0."),
    "dropout": ({"dropout": 1.5}, "`dropout` must be a number in [0, 1], got 1.5."),
    "dropout's type": ({"dropout": "a"}, "`dropout` must be a number in [0, 1], got 'a'."),
    "bias": ({"bias": None}, "`bias` must be True or False, got None."),
    "batch_first": ({"batch_first": 1}, "`batch_first` must be True or False, got 1."),
    "bidirectional": (
        {"bidirectional": [True, "no"]},
        "`bidirectional` must be True or False, got 'no'.",
    ),
    "residual": ({"residual": "no"}, "`residual` must be True or False, got 'no'."),
    "dense": ({"dense": "no"}, "`dense` must be True or False, got 'no'."),
    "both": (
        {"dense": True, "residual": True},
        "`residual` and `dense` exclude each other; leave one of them out.",
    ),
    "projection": (
        {"cell": ["lstm", "gru"], "proj_size": 2},
        "`proj_size` is for the lstm only, not for the gru; "
        "give a list of one value per layer, 0 where it is another cell.",
    ),
    "projection's type": (
        {"proj_size": [2, None]},
        "`proj_size` must be an integer of at least 0, got None.",
    ),
    "peephole": ({"cell": "gru", "peephole": True}, "`peephole` is for the LSTM only, not for GRU."),
}


@pytest.mark.parametrize("what", CONSTRUCTOR)
def test_wrong_constructor(what):
    arguments, words = CONSTRUCTOR[what]
    with pytest.raises((ArgumentError, UnsupportedError)) as caught:
        nn.Stack(3, **{"hidden_sizes": [4, 4], **arguments})
    assert str(caught.value) == words


def test_arguments_of_numpy():
    """As Python's; torch takes no other widths."""
    one, yes = np.int64(1), np.True_
    stack = nn.Stack(
        3 * one, [5 * one, 4], bias=yes, dropout=np.float32(0.5), bidirectional=[yes, False], residual=yes,
        dilation=2 * one, proj_size=2 * one,
    )  # fmt: skip
    right = nn.Stack(
        3, [5, 4], dropout=0.5, bidirectional=[True, False], residual=True, dilation=2, proj_size=2
    )
    right.load_state_dict(stack.state_dict())
    x, seen = torch.randn(T, B, 3), []
    for module in (stack, right):
        torch.manual_seed(3)
        seen.append(module(x)[0])
    assert torch.equal(*seen)
    assert repr(stack) == repr(right)


def test_unknown_option():
    with pytest.raises(
        TypeError, match=r"Stack\(\) got an unexpected keyword argument 'depth'; its options are layer_"
    ):
        nn.Stack(3, [4], depth=2)


h, x = torch.zeros(1, 4, 5), torch.zeros(7, 4, 3)
CALLS = {
    "features": ((torch.zeros(7, 4, 2),), ShapeError, "`input` must have shape (T, B, I) = (7, 4, 3), got (7, 4, 2)."),
    "axes": ((torch.zeros(7),), ShapeError, "`input` must have shape (T, B, I), or (T, I) without a batch, got (7,)."),
    "a list": (([1.0],), ArgumentError, "`input` must be a tensor or a PackedSequence, got list."),
    "one state": ((x, h), ArgumentError, "`hx` must be a list of one state per layer, 2, got Tensor."),
    "too few": ((x, [h]), ArgumentError, "`hx` must be a list of one state per layer, 2, got 1."),
    "no cells": ((x, [h, None]), ArgumentError, "`hx[0]` must be two tensors, (h, c), got Tensor."),
    "cells": ((x, [None, (h, h)]), ArgumentError, "`hx[1]` must be a tensor, h, got tuple."),
    "dilated": ((x, [None, h]), ShapeError, "`hx[1]` must have shape (2, 4, 5), got (1, 4, 5)."),
    "c": ((x, [(h, h[..., :4]), None]), ShapeError, "`hx[0][1]` must have shape (1, 4, 5), got (1, 4, 4)."),
}  # fmt: skip


@pytest.mark.parametrize("what", CALLS)
def test_wrong_call(what):
    arguments, error, words = CALLS[what]
    stack = nn.Stack(3, [5, 5], ["lstm", "gru"], dilation=[1, 2])
    with pytest.raises(error) as caught:
        stack(*arguments)
    assert str(caught.value) == words


def test_wrong_packed_calls():
    stack = nn.Stack(3, [5])
    sequence = pack_padded_sequence(torch.zeros(6, 4, 3), [6, 4, 4, 1])
    with pytest.raises(
        UnsupportedError, match=r"`lengths` come with a PackedSequence; leave the argument out\."
    ):
        stack(sequence, lengths=[6, 4, 4, 1])
    for call in (stack, stack.kernel_path):
        with pytest.raises(ShapeError, match="must be a PackedSequence whose parts fit each other"):
            call(PackedSequence(torch.zeros(4, 3), torch.tensor([1, 3])))
    with pytest.raises(ShapeError, match=r"`input.data` must have shape \(N, I\) = \(15, 3\), got \(15, 2\)"):
        stack(pack_padded_sequence(torch.zeros(6, 4, 2), [6, 4, 4, 1]))


def test_no_steps_are_refused_as_by_torch():
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        nn.Stack(3, [5], dilation=2)(torch.zeros(0, 4, 3))
