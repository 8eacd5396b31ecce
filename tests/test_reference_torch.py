"""The reference against torch.nn in float64: outputs, states, gradients of stacked layers, both directions.

A foreign judge, in addition to calculus (test_reference.py).
"""

import numpy as np
import pytest

from carousel.layout import Weights
from carousel.reference import stack
from carousel.reference.stack import Layer, Stack

torch = pytest.importorskip("torch")

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64; the two sum in different orders

MODULES = {
    "lstm": (torch.nn.LSTM, {}),
    "gru": (torch.nn.GRU, {}),
    "rnn-tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # W, R, b_W, b_R


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def reference_of(module, kind):
    """The value of a torch module."""
    cell, _, activation = kind.partition("-")
    suffixes = ("", "_reverse") if module.bidirectional else ("",)
    layers = [
        Layer(
            cell,
            [
                Weights(*(getattr(module, f"{name}_l{k}{suffix}").detach().numpy() for name in NAMES))
                for suffix in suffixes
            ],
            {"activation": activation} if activation else {},
        )
        for k in range(module.num_layers)
    ]
    return Stack(layers)


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(
    ("T", "B", "I", "H", "L", "D"), [(1, 3, 2, 1, 1, 1), (7, 3, 2, 3, 2, 1), (5, 4, 3, 17, 3, 2)]
)
def test_torch_agrees(rng, kind, T, B, I, H, L, D):
    kind_of, options = MODULES[kind]
    torch.manual_seed(0)
    module = kind_of(I, H, L, bidirectional=D == 2, **options).double()
    x = torch.from_numpy(rng.normal(size=(T, B, I))).requires_grad_()
    h, c = (torch.from_numpy(a).requires_grad_() for a in rng.normal(size=(2, L * D, B, H)))
    initial = (h, c) if kind == "lstm" else h
    wanted, last = module(x, initial)
    dy, dh = rng.normal(size=(T, B, D * H)), rng.normal(size=(L * D, B, H))
    h_n = last[0] if kind == "lstm" else last
    torch.autograd.backward([wanted, h_n], [torch.from_numpy(dy), torch.from_numpy(dh)])

    def per_layer(h, c):
        pairs = list(zip(h, c, strict=True)) if kind == "lstm" else list(h)
        return [pairs[k * D : (k + 1) * D] for k in range(L)]

    net = reference_of(module, kind)
    y, states, cache = stack.forward(
        x.detach().numpy(), net, per_layer(h.detach().numpy(), c.detach().numpy())
    )
    np.testing.assert_allclose(y, wanted.detach().numpy(), **EXACT)
    flat = [s.h if kind == "lstm" else s for layer in states for s in layer]
    np.testing.assert_allclose(flat, h_n.detach().numpy(), **EXACT)
    if kind == "lstm":
        np.testing.assert_allclose(
            [s.c for layer in states for s in layer], last[1].detach().numpy(), **EXACT
        )

    gradients = stack.backward(dy, net, cache, per_layer(dh, [None] * (L * D)))
    np.testing.assert_allclose(gradients.x, x.grad.numpy(), **EXACT)
    for k, layer in enumerate(gradients.w.layers):
        for d, w in enumerate(layer.directions):
            for name, gradient in zip(NAMES, w, strict=True):
                parameter = getattr(module, f"{name}_l{k}{'_reverse' * d}")
                np.testing.assert_allclose(gradient, parameter.grad.numpy(), **EXACT)
    flat = [s.h if kind == "lstm" else s for layer in gradients.states for s in layer]
    np.testing.assert_allclose(flat, h.grad.numpy(), **EXACT)
