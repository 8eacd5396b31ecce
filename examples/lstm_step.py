"""One step of an LSTM, equation by equation."""

import numpy as np

from carousel.reference import Weights, lstm

B, I, H = 1, 3, 2
rng = np.random.default_rng(0)
w = Weights(rng.normal(size=(4 * H, I)), rng.normal(size=(4 * H, H)), rng.normal(size=4 * H), np.zeros(4 * H))
before = lstm.State(h=rng.normal(size=(B, H)), c=rng.normal(size=(B, H)))
after, gates = lstm.step(rng.normal(size=(B, I)), before, w)

print("(1) forget gate  f", gates.f)
print("(2) input gate   i", gates.i)
print("(3) candidate    g", gates.g)
print("(4) cell state   c", after.c)
print("(5) output gate  o", gates.o)
print("(6) hidden state h", after.h)
