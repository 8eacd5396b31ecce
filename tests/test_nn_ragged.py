"""Rows of different lengths: `lengths`, which needs no order, and torch's PackedSequence, against torch.nn."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence  # noqa: E402

from carousel import kernel_path, nn  # noqa: E402
from carousel.errors import ArgumentError, ShapeError, UnsupportedError  # noqa: E402
from modules import flat  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
LAYERS = ["LSTM", "GRU", "RNN"]
layers = pytest.mark.parametrize("kind", LAYERS)
CLOSE = {"rtol": 0, "atol": 1e-13}  # float64, both sides round: sums of 20 terms over 6 steps
NUMBERS = r"4 whole numbers in \[0, T\] = \[0, 6\], one for each row"
SORTED, UNSORTED = [6, 4, 4, 1], [4, 6, 1, 4]
FORMS = {
    "one": {},
    "deep": {"num_layers": 3, "bidirectional": True},
    "batch first": {"num_layers": 2, "batch_first": True},
    "nobias": {"bias": False, "bidirectional": True},
}


def pair(kind, **options):
    made = []
    for library in (nn, torch.nn):
        torch.manual_seed(3)
        made.append(getattr(library, kind)(3, 5, **options, dtype=torch.float64))
    return made


def inputs(module, given=True, T=6, B=4):
    torch.manual_seed(4)
    x = torch.randn((B, T, 3) if module.batch_first else (T, B, 3), dtype=torch.float64, requires_grad=True)
    if not given:
        return x, None
    count = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(count, B, module.proj_size or 5, dtype=torch.float64, requires_grad=True)
    c = torch.randn(count, B, 5, dtype=torch.float64, requires_grad=True)
    return x, (h, c) if module.mode == "LSTM" else h


def packed_call(module, lengths, given=True, seed=None):
    """Everything that comes of a call with a PackedSequence."""
    x, hx = inputs(module, given)
    sort = lengths == sorted(lengths, reverse=True)
    sequence = pack_padded_sequence(x, lengths, batch_first=module.batch_first, enforce_sorted=sort)
    if seed is not None:
        torch.manual_seed(seed)
    y, state = module(sequence, hx)
    assert torch.equal(y.batch_sizes, sequence.batch_sizes)
    assert (y.sorted_indices is None) == sort
    padded, found = pad_packed_sequence(y, batch_first=module.batch_first)
    assert found.tolist() == lengths
    (padded.sin().sum() + sum(s.cos().sum() for s in flat(state))).backward()
    gradients = [t.grad for t in (x, *flat(hx), *module.parameters())]
    return [y.data, padded, *flat(state), *gradients]


@layers
@pytest.mark.parametrize("lengths", [SORTED, UNSORTED, [1, 1, 1, 1], [6, 6, 6, 6]], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [True, False], ids=["hx", "no hx"])
def test_packed(kind, lengths, form, given):
    ours, theirs = pair(kind, **FORMS[form])
    x, hx = inputs(ours, given)
    sequence = pack_padded_sequence(x, lengths, batch_first=ours.batch_first, enforce_sorted=False)
    assert kernel_path(ours, sequence, hx).startswith("carousel: ")
    for a, b in zip(packed_call(ours, lengths, given), packed_call(theirs, lengths, given), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("lengths", [SORTED, UNSORTED], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_packed_projection(lengths, form):
    ours, theirs = pair("LSTM", proj_size=2, **FORMS[form])
    for a, b in zip(packed_call(ours, lengths), packed_call(theirs, lengths), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@layers
@pytest.mark.parametrize("lengths", [SORTED, UNSORTED], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_packed_layers_draws_torchs_masks(kind, lengths, bidirectional):
    ours, theirs = pair(kind, num_layers=3, dropout=0.5, bidirectional=bidirectional)
    seen = [packed_call(module, lengths, seed=9) for module in (ours, theirs)]
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    assert not torch.equal(seen[0][0], packed_call(ours, lengths, seed=10)[0])


@layers
@pytest.mark.parametrize("form", FORMS)
def test_lengths_are_what_packing_computes(kind, form):
    module, _ = pair(kind, **FORMS[form])
    right = packed_call(module, UNSORTED)[1:]
    module.zero_grad()
    x, hx = inputs(module)
    y, state = module(x, hx, lengths=UNSORTED)
    (y.sin().sum() + sum(s.cos().sum() for s in flat(state))).backward()
    found = [y, *flat(state), *(t.grad for t in (x, *flat(hx), *module.parameters()))]
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


OPTIONS = {
    "layer_norm": {"layer_norm": True},
    "peephole": {"peephole": True, "proj_size": 2},
    "recompute": {"recompute": 2},
    "zoneout": {"zoneout": 0.3},
    "masks": {"recurrent_dropout": 0.3, "state_dropout": 0.3, "input_dropout": 0.3},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_packed_with_options(name, training):
    """The rows sorted by hand, with `lengths`, under the same draws: the same numbers."""
    module, _ = pair("LSTM", num_layers=1, bidirectional=True)
    module = nn.LSTM(3, 5, bidirectional=True, dtype=torch.float64, **OPTIONS[name]).train(training)
    order = torch.tensor([1, 0, 3, 2])  # UNSORTED, longest first
    x, hx = inputs(module)
    torch.manual_seed(8)
    sequence = pack_padded_sequence(x, UNSORTED, enforce_sorted=False)
    assert torch.equal(sequence.sorted_indices, order)
    assert kernel_path(module, sequence, hx).startswith("carousel: ")
    y, state = module(sequence, hx)
    padded, _ = pad_packed_sequence(y)
    torch.manual_seed(8)
    mine = tuple(s[:, order] for s in hx)
    y_sorted, sorted_state = module(x[:, order], mine, lengths=torch.tensor(UNSORTED)[order])
    torch.testing.assert_close(padded[:, order], y_sorted, **CLOSE)
    for a, b in zip(state, sorted_state, strict=True):
        torch.testing.assert_close(a[:, order], b, **CLOSE)


def test_gates_of_packed_rows_stand_where_the_rows_stand():
    module = nn.LSTM(3, 5, 2, bidirectional=True, dtype=torch.float64)
    x, hx = inputs(module)
    *_, right = module(x, hx, lengths=UNSORTED, return_gates=True)
    *_, found = module(pack_padded_sequence(x, UNSORTED, enforce_sorted=False), hx, return_gates=True)
    for a, b in zip(found[:5], right[:5], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@layers
@pytest.mark.parametrize("batch_first", [False, True])
def test_nothing_leaks_from_beyond_an_end(kind, batch_first):
    """Padding may hold anything: it is not read, y is 0 there, and so is its gradient. A row may have no steps."""
    module, _ = pair(kind, num_layers=2, bidirectional=True, batch_first=batch_first)
    lengths = [4, 0, 6, 1]
    seen = []
    for filling in (0.0, float("nan"), float("inf")):
        x, hx = inputs(module)
        alive = torch.arange(6)[:, None] < torch.tensor(lengths)
        alive = (alive.T if batch_first else alive)[..., None]
        with torch.no_grad():
            x.copy_(torch.where(alive, x, filling))
        y, state = module(x, hx, lengths=lengths)
        gradients = torch.autograd.grad(
            y.sin().sum() + sum(s.sin().sum() for s in flat(state)), [x, *flat(hx), *module.parameters()]
        )
        assert not y.masked_select(~alive).any()
        assert not gradients[0].masked_select(~alive).any()
        for initial, last in zip(flat(hx), flat(state), strict=True):
            assert torch.equal(last[:, 1], initial[:, 1])
        seen.append([y, *flat(state), *gradients])
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


@layers
def test_complete_rows_are_a_plain_batch(kind):
    module, _ = pair(kind, num_layers=2, bidirectional=True)
    x, hx = inputs(module)
    for a, b in zip(flat(module(x, hx, lengths=[6] * 4)), flat(module(x, hx)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "lengths",
    [
        (4, 6, 1, 4),
        np.array(UNSORTED),
        *(torch.tensor(UNSORTED, dtype=d) for d in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)),
        torch.tensor([[4, 0], [6, 0], [1, 0], [4, 0]])[:, 0],
    ],
    ids=lambda lengths: f"{type(lengths).__name__} {getattr(lengths, 'dtype', '')}",
)  # fmt: skip
def test_forms_of_lengths(lengths):
    module, _ = pair("GRU")
    x, hx = inputs(module)
    assert torch.equal(module(x, hx, lengths=lengths)[0], module(x, hx, lengths=UNSORTED)[0])


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([4, 7, 1, 4], ArgumentError, r"`lengths` must lie in \[0, T\] = \[0, 6\], got \[4, 7, 1, 4\]\."),
        ([4, -1, 1, 4], ArgumentError, r"`lengths` must lie in \[0, T\] = \[0, 6\], got \[4, -1, 1, 4\]\."),
        ([4, 6, 1], ShapeError, r"`lengths` must have shape \(B,\) = \(4,\), got \(3,\)\."),
        ([[4], [6], [1], [4]], ShapeError, r"`lengths` must have shape \(B,\) = \(4,\), got \(4, 1\)\."),
        (6, ShapeError, r"`lengths` must have shape \(B,\) = \(4,\), got \(\)\."),
        ([4.0, 6.0, 1.0, 4.0], ArgumentError, r"`lengths` must be whole numbers, got torch.float32\."),
        ([True] * 4, ArgumentError, r"`lengths` must be whole numbers, got torch.bool\."),
        ([], ShapeError, r"`lengths` must have shape \(B,\) = \(4,\), got \(0,\)\."),
        *(
            (what, ArgumentError, rf"`lengths` must be {NUMBERS}, got {re.escape(repr(what))}\.")
            for what in ({5: 1}, [None, 1, 2, 3], "abcd", [10**20, 1, 1, 1], [[1], [2, 3]])
        ),
    ],
)
def test_wrong_lengths(lengths, error, words):
    module, _ = pair("LSTM")
    with pytest.raises(error, match=f"^{words}$"):
        module(inputs(module)[0], lengths=lengths)


@pytest.mark.parametrize("form", [torch.tensor, np.array])
@pytest.mark.parametrize("options", [{}, {"recompute": 2}])
def test_lengths_are_the_callers_to_change(form, options):
    """A loader may fill its array anew between the forward pass and the backward pass."""
    module = nn.LSTM(3, 5, dtype=torch.float64, **options)
    x, gradients = inputs(module)[0].detach().requires_grad_(), []
    for change in (0, 1):
        lengths = form(UNSORTED)
        y = module(x, lengths=lengths)[0]
        before = y.detach().clone()
        lengths[:] = 6 * change + (1 - change) * lengths
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *module.parameters()]))
        assert torch.equal(y, before)
    for right, found in zip(*gradients, strict=True):
        assert torch.equal(found, right)


def test_lengths_of_a_reversed_array():
    module, _ = pair("LSTM")
    x, _ = inputs(module)
    assert torch.equal(module(x, lengths=np.array(UNSORTED)[::-1])[0], module(x, lengths=UNSORTED[::-1])[0])


@pytest.mark.parametrize("lengths", [[], (), np.zeros(0, int)], ids=["list", "tuple", "array"])
def test_no_lengths_of_no_rows(lengths):
    y, h_n = nn.GRU(3, 5)(torch.zeros(6, 0, 3), lengths=lengths)
    assert (y.shape, h_n.shape) == ((6, 0, 5), (1, 0, 5))


def test_lengths_of_one_sequence_without_a_batch():
    module, _ = pair("LSTM", bidirectional=True)
    x, _ = inputs(module, given=False)
    found, right = module(x[:, 0], lengths=[4]), module(x[:4, 0])
    torch.testing.assert_close(found[0][:4], right[0], **CLOSE)
    assert not found[0][4:].any()
    for a, b in zip(found[1], right[1], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_lengths_come_with_a_packed_sequence():
    module, _ = pair("LSTM")
    x, hx = inputs(module)
    words = "`lengths` come with a PackedSequence; leave the argument out."
    with pytest.raises(UnsupportedError, match=words):
        module(pack_padded_sequence(x, SORTED), hx, lengths=SORTED)


BROKEN = {
    "sizes that grow": lambda x: PackedSequence(x, torch.tensor([1, 3])),
    "more rows than sizes": lambda x: PackedSequence(x, torch.tensor([2, 1])),
    "fewer rows than sizes": lambda x: PackedSequence(x, torch.tensor([3, 3])),
    "a size of 0": lambda x: PackedSequence(x, torch.tensor([3, 1, 0])),
    "an order of another batch": lambda x: PackedSequence(
        x, torch.tensor([3, 1]), torch.tensor([1, 0]), torch.tensor([1, 0])
    ),
    "float sizes": lambda x: PackedSequence(x, torch.tensor([3.0, 1.0])),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_packed_sequence_whose_parts_do_not_fit(how):
    """The kernels never see it: torch's own method speaks, or, with options, we."""
    reason = "a PackedSequence whose parts do not fit each other"
    sequence = BROKEN[how](torch.zeros(4, 3))
    assert kernel_path(nn.GRU(3, 5), sequence) == f"torch: {reason}"
    with pytest.raises(ShapeError, match="`input` must be a PackedSequence whose parts fit each other"):
        nn.GRU(3, 5, clip=1.0)(sequence)


MISUSE = {
    "features": lambda: (pack_padded_sequence(torch.zeros(6, 4, 2), SORTED),),
    "dtype": lambda: (pack_padded_sequence(torch.zeros(6, 4, 3), SORTED),),
    "batch of hx": lambda: (
        pack_padded_sequence(torch.zeros(6, 4, 3, dtype=torch.float64), SORTED),
        torch.zeros(1, 2, 5, dtype=torch.float64),
    ),
    "axes of hx": lambda: (
        pack_padded_sequence(torch.zeros(6, 4, 3, dtype=torch.float64), SORTED),
        torch.zeros(4, 5, dtype=torch.float64),
    ),
}


@pytest.mark.parametrize("how", MISUSE)
@pytest.mark.parametrize("options", [{}, {"clip": 1.0}], ids=["plain", "options"])
def test_misuse_is_told_in_torchs_words(how, options):
    _, theirs = pair("GRU")
    ours = nn.GRU(3, 5, dtype=torch.float64, **options)
    with pytest.raises(Exception) as right:  # noqa: PT011  whatever torch raises
        theirs(*MISUSE[how]())
    with pytest.raises(right.type) as found:
        ours(*MISUSE[how]())
    assert str(found.value) == str(right.value)
