"""accelerate, accelerated, restore: a model of torch's classes on our kernels by one line, and back."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations  # noqa: E402
from torch.nn.utils.parametrize import remove_parametrizations  # noqa: E402

import carousel  # noqa: E402
from carousel import accelerate, accelerated, kernel_path, nn, restore  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
# Ten steps of Adam: each divides a gradient by its own size, so that rounding of 1e-7 may grow tenfold a step.
LOSSES = {"rtol": 2e-4, "atol": 0}


class Model(torch.nn.Module):
    """The tutorials' network: a window in, LSTM, its last output, one number out."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(1, 50, 1, batch_first=True)
        self.linear = torch.nn.Linear(50, 1)

    def forward(self, x):
        return self.linear(self.lstm(x)[0][:, -1])


class Peephole(torch.nn.LSTM):
    """A layer that somebody wrote: it only looks like an LSTM."""

    def forward(self, input, hx=None):
        y, state = super().forward(input, hx)
        return 2 * y, state


def model():
    torch.manual_seed(0)
    return Model()


def losses(module, steps=10, optimiser=None):
    torch.manual_seed(1)
    x = torch.sin(torch.arange(64 * 20).reshape(64, 20, 1) / 7)
    y = torch.sin((torch.arange(64).reshape(64, 1) + 1) * 20 / 7)
    optimiser = optimiser or torch.optim.Adam(module.parameters(), lr=0.01)
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (module(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    return found


def test_in_place_by_exact_type():
    ours = torch.nn.ModuleDict({kind: getattr(torch.nn, kind)(3, 5) for kind in KINDS})
    parts = dict(ours.items())
    assert accelerate(ours) is ours
    for kind, part in parts.items():
        assert ours[kind] is part
        assert type(part) is getattr(nn, kind)
    assert [str(layer) for layer in accelerated(ours)] == [f"{kind}: {kind} accelerated" for kind in KINDS]


def test_the_root_itself():
    root = torch.nn.GRU(3, 5)
    assert accelerate(root) is root
    assert type(root) is nn.GRU
    assert [str(layer) for layer in accelerated(root)] == ["(root): GRU accelerated"]
    assert type(restore(root)) is torch.nn.GRU


def test_everything_is_kept():
    module = model()
    parameters = dict(module.named_parameters())
    buffer = torch.ones(2)
    module.lstm.register_buffer("mine", buffer)
    module.lstm.note = "kept"
    calls = []
    module.lstm.register_forward_hook(lambda *_: calls.append(1))
    module.lstm.eval()
    accelerate(module)
    module(torch.zeros(2, 5, 1))
    assert calls == [1]
    assert all(parameter is parameters[name] for name, parameter in module.named_parameters())
    assert (module.lstm.mine, module.lstm.note, module.lstm.training) == (buffer, "kept", False)
    assert kernel_path(module.lstm, torch.zeros(2, 5, 1)).startswith("carousel: ")


def test_shared_layers_stay_shared():
    layer = torch.nn.LSTM(3, 5)
    module = accelerate(torch.nn.ModuleList([layer, torch.nn.ModuleList([layer])]))
    assert module[0] is module[1][0]
    assert type(layer) is nn.LSTM


def test_losses_are_torchs():
    right = losses(model())
    assert right[-1] < right[0] / 2
    torch.testing.assert_close(losses(accelerate(model())), right, **LOSSES)


def test_an_optimiser_goes_on():
    module, other = model(), model()
    optimisers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (module, other)]
    right = losses(other, 5, optimisers[1]) + losses(other, 5, optimisers[1])
    found = losses(module, 5, optimisers[0])
    accelerate(module)
    found += losses(module, 5, optimisers[0])
    torch.testing.assert_close(found, right, **LOSSES)


def test_a_subclass_is_left_and_listed():
    module = torch.nn.Sequential(Peephole(3, 5), torch.nn.Linear(5, 1))
    accelerate(module)
    assert type(module[0]) is Peephole
    (layer,) = accelerated(module)
    assert (layer.name, layer.type, layer.state) == ("0", "Peephole", "left")
    assert layer.reason == "a subclass may compute something else"
    assert kernel_path(module[0], torch.zeros(6, 4, 3)) == "torch: a subclass may compute something else"


def test_a_subclass_of_ours_is_ours():
    class Named(nn.GRU):
        pass

    module = Named(3, 5)
    assert [str(layer) for layer in accelerated(accelerate(module))] == ["(root): Named accelerated"]
    assert kernel_path(module, torch.zeros(6, 4, 3)).startswith("carousel: ")
    assert type(restore(module)) is Named


class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.cell, self.linear = (
            torch.nn.LSTM(3, 5),
            torch.nn.GRUCell(3, 5),
            torch.nn.Linear(5, 1),
        )

    def forward(self, x):
        return self.linear(self.layer(x)[0]), self.cell(x[0])


OTHERS = {
    "script": (torch.jit.script, "compiled by torch.jit, which takes torch's operations"),
    "trace": (
        lambda m: torch.jit.trace(m, torch.zeros(6, 4, 3)),
        "compiled by torch.jit, which takes torch's operations",
    ),
    "quantize": (
        lambda m: torch.ao.quantization.quantize_dynamic(m, {torch.nn.LSTM, torch.nn.GRUCell}),
        "quantized",
    ),
}


@pytest.mark.parametrize("way", OTHERS)
@pytest.mark.filterwarnings("ignore")  # torch is done with both
def test_layers_that_torch_has_converted_are_left_and_listed(way):
    convert, reason = OTHERS[way]
    module = accelerate(convert(Both()))
    assert [str(layer) for layer in accelerated(module)] == [
        f"layer: LSTM left, {reason}",
        f"cell: GRUCell left, {reason}",
    ]
    assert kernel_path(module.layer, torch.zeros(6, 4, 3)) == f"torch: {reason}"
    assert len(restore(module)(torch.zeros(6, 4, 3))) == 2


def test_a_layer_added_later_is_listed():
    module = accelerate(torch.nn.Sequential(torch.nn.GRU(3, 5)))
    module.append(torch.nn.GRU(5, 5))
    assert [str(layer) for layer in accelerated(module)] == [
        "0: GRU accelerated",
        "1: GRU left, not accelerated; call carousel.accelerate(module)",
    ]
    found = kernel_path(module[1], torch.zeros(6, 4, 5))
    assert found == "torch: not accelerated; call carousel.accelerate(module)"


def test_restore_undoes_accelerate_and_no_more():
    module = torch.nn.ModuleList([torch.nn.LSTM(3, 5), nn.LSTM(3, 5), Peephole(3, 5)])
    accelerate(module)
    accelerate(module)  # a second time changes nothing
    assert restore(module) is module
    assert [type(layer) for layer in module] == [torch.nn.LSTM, nn.LSTM, Peephole]
    assert not any("carousel" in name for layer in module for name in vars(layer))
    accelerate(module)
    assert type(module[0]) is nn.LSTM


WAYS = {
    "accelerate parametrize restore remove": torch.nn.LSTM,
    "accelerate parametrize remove restore": torch.nn.LSTM,
    "parametrize accelerate restore remove": torch.nn.LSTM,
    "parametrize accelerate remove restore": torch.nn.LSTM,
    "accelerate parametrize remove": nn.LSTM,
    "parametrize accelerate remove": nn.LSTM,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_parametrized_layer_in_every_order(way):
    """The weight that a parametrization computes is the one that is used, whoever comes first."""
    x, first = torch.randn(6, 4, 3), torch.nn.LSTM(3, 5)
    right, module = first(x)[0], torch.nn.Sequential(first)
    steps = {
        "accelerate": accelerate,
        "restore": restore,
        "parametrize": lambda m: parametrizations.weight_norm(m[0], "weight_hh_l0"),
        "remove": lambda m: remove_parametrizations(m[0], "weight_hh_l0"),
    }
    for step in way.split():
        steps[step](module)
        (layer,) = accelerated(module)
        on_ours = isinstance(module[0], nn.LSTM)
        assert layer.type == type(module[0]).__name__
        assert layer.state == ("accelerated" if on_ours else "left")
        assert kernel_path(module[0], x).startswith("carousel: " if on_ours else "torch: ")
        torch.testing.assert_close(module(x)[0], right)
    assert type(module[0]) is WAYS[way]
    if "restore" in way:
        assert vars(first).keys() == vars(torch.nn.LSTM(3, 5)).keys()


def test_a_copy_of_a_parametrized_layer_is_restored_alone():
    layer = parametrizations.weight_norm(accelerate(torch.nn.GRU(3, 5)), "weight_hh_l0")
    other = copy.deepcopy(layer)
    restore(other)
    assert [isinstance(each, nn.GRU) for each in (layer, other)] == [True, False]
    x = torch.randn(6, 4, 3)
    torch.testing.assert_close(other(x)[0], layer(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_parametrized_layer_that_was_ours_stays_ours(kind):
    module = parametrizations.weight_norm(getattr(nn, kind)(3, 5), "weight_hh" + "_l0" * ("Cell" not in kind))
    restore(accelerate(module))
    assert isinstance(module, getattr(nn, kind))
    assert [layer.state for layer in accelerated(module)] == ["accelerated"]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_a_copy_can_be_restored(copied):
    module = accelerate(torch.nn.Sequential(torch.nn.GRU(3, 5)))
    other = copied(module)
    assert type(other[0]) is nn.GRU
    restore(other)
    assert (type(other[0]), type(module[0])) == (torch.nn.GRU, nn.GRU)


def test_nothing_to_do():
    module = torch.nn.Linear(3, 5)
    assert accelerate(module) is module
    assert restore(module) is module
    assert accelerated(module) == []


@pytest.mark.parametrize("function", [accelerate, restore, accelerated])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.nn.LSTM, "the class LSTM; give a module that it has made"),
        ([torch.nn.LSTM(3, 5)], "list; several go in a torch.nn.ModuleList"),
        (None, "NoneType; several go in a torch.nn.ModuleList"),
    ],
    ids=["class", "list", "None"],
)
def test_what_is_no_module(function, value, words):
    with pytest.raises(carousel.errors.ArgumentError) as caught:
        function(value)
    assert str(caught.value) == f"`module` must be a torch.nn.Module, got {words}."


def test_transformers_and_others_are_left_alone():
    module = torch.nn.TransformerEncoderLayer(8, 2)
    types = [type(part) for part in module.modules()]
    accelerate(module)
    assert [type(part) for part in module.modules()] == types


def test_public_names():
    assert carousel.accelerate is accelerate
    assert {"accelerate", "accelerated", "restore", "kernel_path"} <= set(carousel.__all__) & set(
        dir(carousel)
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_network_becomes_a_module_on_our_kernels(kind):
    """There and back: torch module -> Network -> our module gives the same numbers, on our path."""
    torch.manual_seed(0)
    original = torch.nn.Sequential(getattr(torch.nn, kind)(3, 8, 2, bidirectional=True))
    module = nn.module(carousel.interop.torch.load(original))
    x = torch.randn(7, 4, 3)
    torch.testing.assert_close(module(x), original[0](x)[0])
    layers = [layer for layer in module.modules() if isinstance(layer, getattr(nn, kind))]
    assert layers
    assert kernel_path(layers[0], x).startswith("carousel: ")


def test_only_a_network_becomes_a_module():
    with pytest.raises(carousel.errors.ArgumentError, match=r"`network` must be a Network, got int\."):
        nn.module(3)
