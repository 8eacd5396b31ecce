"""A GRU layer: one step of three inputs, five hidden units."""

import torch

import carousel.nn

torch.manual_seed(0)
gru = carousel.nn.GRU(input_size=3, hidden_size=5)
x = torch.randn(1, 1, 3)  # one step, one sequence
y, h = gru(x)
print("output", tuple(y.shape), "state", tuple(h.shape))
print("the output of the last step is the state:", torch.equal(y[-1], h[-1]))
