"""Options of the reference against torch in float64, outputs and gradients: projection and ragged rows against
torch.nn, layer norm, masks and zoneout against cells written with torch's functions.

A foreign judge, in addition to calculus (test_reference_options.py).
"""

import numpy as np
import pytest

from carousel.layout import Weights
from carousel.reference import LayerNorm, Options, gru, lstm, rnn, stack
from carousel.reference.stack import Layer, Stack
from complex_step import arrays

torch = pytest.importorskip("torch")
functional = torch.nn.functional
sequences = torch.nn.utils.rnn

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64; the two sum in different orders
T, B, I, H = 5, 3, 2, 4
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # W, R, b_W, b_R


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def directions(module, layer):
    """The names of the weights of a layer, a list a direction."""
    ends = [f"_l{layer}{suffix}" for suffix in ("", "_reverse")[: 1 + module.bidirectional]]
    return [[name + end for name in (*NAMES, *(["weight_hr"] if module.proj_size else []))] for end in ends]


@pytest.mark.parametrize("kind", ["lstm", "projected", "gru", "rnn"])
@pytest.mark.parametrize("lengths", [None, [5, 1, 3]])
def test_two_bidirectional_layers(rng, kind, lengths):
    """PackedSequence for the ragged rows: each starts its second direction at its own end."""
    torch.manual_seed(0)
    module = {"lstm": torch.nn.LSTM, "projected": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[
        kind
    ](I, H, 2, bidirectional=True, **({"proj_size": 3} if kind == "projected" else {})).double()
    cell = "lstm" if kind == "projected" else kind
    P = 3 if kind == "projected" else H
    values = {name: p.detach().numpy() for name, p in module.named_parameters()}
    layers = []
    for k in range(2):
        parts = [[values[name] for name in names] for names in directions(module, k)]
        beyond = [Options(projection=part[4]) for part in parts] if kind == "projected" else ()
        layers.append(Layer(cell, [Weights(*part[:4]) for part in parts], beyond=beyond))
    x = torch.from_numpy(rng.normal(size=(T, B, I))).requires_grad_()
    h, c = (torch.from_numpy(rng.normal(size=(4, B, size))).requires_grad_() for size in (P, H))
    dy, dh, dc = rng.normal(size=(T, B, 2 * P)), rng.normal(size=h.shape), rng.normal(size=c.shape)
    given = (
        x
        if lengths is None
        else sequences.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    )
    wanted, last = module(given, (h, c) if cell == "lstm" else h)
    wanted = wanted if lengths is None else sequences.pad_packed_sequence(wanted, total_length=T)[0]
    lasts, dlasts = (last, (dh, dc)) if cell == "lstm" else ((last,), (dh,))
    torch.autograd.backward([wanted, *lasts], [torch.from_numpy(a) for a in (dy, *dlasts)])

    def per_layer(h, c):
        pairs = [lstm.State(*pair) if cell == "lstm" else pair[0] for pair in zip(h, c, strict=True)]
        return [pairs[:2], pairs[2:]]

    net = Stack(layers)
    states = per_layer(h.detach().numpy(), c.detach().numpy())
    y, ends, cache = stack.forward(x.detach().numpy(), net, states, lengths=lengths)
    found = stack.backward(dy, net, cache, per_layer(dh, dc))
    np.testing.assert_allclose(y, wanted.detach().numpy(), **EXACT)
    np.testing.assert_allclose(found.x, x.grad.numpy(), **EXACT)
    flat = [state for layer in ends for state in layer]
    np.testing.assert_allclose([arrays(s)[0] for s in flat], lasts[0].detach().numpy(), **EXACT)
    np.testing.assert_allclose([arrays(s)[-1] for s in flat], lasts[-1].detach().numpy(), **EXACT)
    for k in range(2):
        for d, names in enumerate(directions(module, k)):
            gradients = [*found.w.layers[k].directions[d]]
            gradients += [found.w.layers[k].beyond[d].projection] if kind == "projected" else []
            for name, gradient in zip(names, gradients, strict=True):
                np.testing.assert_allclose(gradient, getattr(module, name).grad.numpy(), **EXACT)


def normed(s, gain):
    """Layer norm as torch has it."""
    return functional.layer_norm(s, gain.shape, gain, eps=0.01)


def lstm_step(x, h, c, W, R, b_W, b_R, o, t):
    a = (
        normed((x * o["input_mask"]) @ W.T, o["gain_x"])
        + b_W
        + normed((h * o["state_mask"]) @ R.T, o["gain_h"])
        + b_R
    )
    a_i, a_f, a_g, a_o = a.chunk(4, -1)
    p_i, p_f, p_o = o["peephole"]
    i, f = torch.sigmoid((a_i + p_i * c).clamp(-1, 1)), torch.sigmoid((a_f + p_f * c).clamp(-1, 1))
    new = (f * c + i * o["candidate_mask"] * torch.tanh(a_g.clamp(-1, 1))).clamp(-0.5, 0.5)
    out = torch.sigmoid((a_o + p_o * new).clamp(-1, 1)) * torch.tanh(normed(new, o["gain_c"]) + o["shift_c"])
    return torch.lerp(out, h, o["zoneout_h"][t]), torch.lerp(new, c, o["zoneout_c"][t])


def gru_step(reset):
    def step(x, h, c, W, R, b_W, b_R, o, t):
        w, v, m = (x * o["input_mask"]) @ W.T, o["gain_x"], o["state_mask"]
        rz = normed(w[:, : 2 * H], v[: 2 * H]) + b_W[: 2 * H] + b_R[: 2 * H]
        r, z = torch.sigmoid((rz + normed((h * m) @ R[: 2 * H].T, o["gain_h"][: 2 * H])).clamp(-1, 1)).chunk(
            2, -1
        )
        seen = h * m * r if reset == "before" else h * m
        n = normed(seen @ R[2 * H :].T, o["gain_h"][2 * H :]) + b_R[2 * H :]
        n = n if reset == "before" else r * n
        n = torch.tanh((normed(w[:, 2 * H :], v[2 * H :]) + b_W[2 * H :] + n).clamp(-1, 1))
        return torch.lerp(torch.lerp(n * o["candidate_mask"], h, z), h, o["zoneout_h"][t]), c

    return step


def rnn_step(x, h, c, W, R, b_W, b_R, o, t):
    a = (
        normed((x * o["input_mask"]) @ W.T, o["gain_x"])
        + b_W
        + normed((h * o["state_mask"]) @ R.T, o["gain_h"])
        + b_R
    )
    return torch.lerp(torch.tanh(a.clamp(-1, 1)), h, o["zoneout_h"][t]), c


@pytest.mark.parametrize(
    ("cell", "kind", "step"),
    [
        (lstm, {}, lstm_step),
        (gru, {"reset": "after"}, gru_step("after")),
        (gru, {"reset": "before"}, gru_step("before")),
        (rnn, {}, rnn_step),
    ],
    ids=["lstm", "gru-after", "gru-before", "rnn"],
)
def test_cells_with_options(rng, cell, kind, step):
    G = {lstm: 4, gru: 3, rnn: 1}[cell] * H

    def tensor(*shape, mean=0.0):
        return torch.from_numpy(mean + rng.normal(size=shape)).requires_grad_()

    w = [tensor(G, I), tensor(G, H), tensor(G), tensor(G)]
    parameters = {"gain_x": tensor(G, mean=1), "gain_h": tensor(G, mean=1)}
    masks = {"input_mask": tensor(B, I), "state_mask": tensor(B, H)}
    shares = {"zoneout_h": torch.from_numpy(rng.random((T, B, H)))}
    if cell is lstm:
        parameters |= {"gain_c": tensor(H, mean=1), "shift_c": tensor(H), "peephole": tensor(3, H)}
        shares["zoneout_c"] = torch.from_numpy(rng.random((T, B, H)))
    if cell is not rnn:
        masks["candidate_mask"] = tensor(B, H)
    x, h_0, c_0 = tensor(T, B, I), tensor(B, H), tensor(B, H)
    dy = rng.normal(size=(T, B, H))
    h, c, wanted = h_0, c_0, []
    for t in range(T):
        h, c = step(x[t], h, c, *w, parameters | masks | shares, t)
        wanted.append(h)
    torch.stack(wanted).backward(torch.from_numpy(dy))

    def numbers(values):
        return {name: value.detach().numpy() for name, value in values.items()}

    p = numbers(parameters)
    peephole = p.pop("peephole", None)
    bounds = {"clip": 1.0, "cell_clip": 0.5} if cell is lstm else {"clip": 1.0}
    options = Options(
        peephole=peephole,
        layer_norm=LayerNorm(**p, epsilon=0.01),
        **numbers(masks),
        **numbers(shares),
        **bounds,
    )
    state = lstm.State(h_0.detach().numpy(), c_0.detach().numpy()) if cell is lstm else h_0.detach().numpy()
    weights = Weights(*(v.detach().numpy() for v in w))
    y, _, cache = cell.forward(x.detach().numpy(), weights, state, options=options, **kind)
    found = cell.backward(dy, weights, cache)
    np.testing.assert_allclose(y, torch.stack(wanted).detach().numpy(), **EXACT)
    expected = [x, *w, h_0, *([c_0] if cell is lstm else [])]
    expected += [
        parameters[name]
        for name in ("peephole", "gain_x", "gain_h", "gain_c", "shift_c")
        if name in parameters
    ]
    for gradient, leaf in zip(arrays(found), expected, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), **EXACT)
