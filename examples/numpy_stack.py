"""Two bidirectional LSTM layers and a sigmoid on the last step, in NumPy: forward, backward, training.

Weights are kept per gate, Wf Wi Wo Wc, each (H, H + I) on [h; x], as NumPy tutorials have them.
"""

import numpy as np

from carousel import layout
from carousel.reference import stack
from carousel.reference.dense import Dense
from carousel.reference.stack import Layer, Stack

T, B, FEATURES, HIDDEN = 10, 16, 3, (5, 3)
rng = np.random.default_rng(0)


def direction(I: int, H: int) -> layout.Weights:
    """One direction of one layer, from its weights per gate."""
    Wf, Wi, Wo, Wc = rng.normal(size=(4, H, H + I)) / np.sqrt(H + I)
    bf, bi, bo, bc = np.zeros((4, H, 1))
    return layout.from_gates("lstm", (Wf, Wi, Wo, Wc), (bf, bi, bo, bc))


def layer(I: int, H: int) -> Layer:
    return Layer("lstm", [direction(I, H), direction(I, H)])


def descend(net: Stack, slope: Stack, rate: float) -> None:
    """Moves every weight of the network one step down its gradient, in place."""
    for layer, dlayer in zip(net.layers, slope.layers, strict=True):
        for w, dw in zip(layer.directions, dlayer.directions, strict=True):
            for p, dp in zip(w, dw, strict=True):
                p -= rate * dp
    net.head.W[:] -= rate * slope.head.W
    net.head.b[:] -= rate * slope.head.b


net = Stack(
    layers=[layer(FEATURES, HIDDEN[0]), layer(2 * HIDDEN[0], HIDDEN[1])],
    head=Dense(rng.normal(size=(1, 2 * HIDDEN[1])), np.zeros(1), "sigmoid"),
    head_on="last",
)
x = rng.normal(size=(T, B, FEATURES))
truth = (x[..., :1].sum(axis=0) > 0).astype(float)  # is the first feature positive on the whole?

for epoch in range(201):
    y, states, cache = stack.forward(x, net)
    loss = -np.mean(truth * np.log(y) + (1 - truth) * np.log(1 - y))
    dy = (y - truth) / (y * (1 - y)) / B
    if epoch % 50 == 0:
        print(f"epoch {epoch:3d}  loss {loss:.4f}  right {np.mean((y > 0.5) == truth):.0%}")
    descend(net, stack.backward(dy, net, cache).w, rate=0.5)

f = cache.layers[0][0].f  # layer 0, first direction
print("forget gate of the first layer at each step:", f.mean(axis=(1, 2)).round(2))
(Wf, Wi, Wo, Wc), _ = layout.to_gates("lstm", *net.layers[0].directions[0])
print("trained weights per gate:", Wf.shape, Wi.shape, Wo.shape, Wc.shape)
