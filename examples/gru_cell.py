"""A GRU cell as NumPy tutorials write it: one matrix a gate on [h; x], and h' = (1 - z) h + z candidate.

    r, z = σ(W_r [h; x] + b_r), σ(W_z [h; x] + b_z)
    candidate = tanh(W_a [r ∘ h; x] + b_a)

The reset gate acts before the product, and z is the share of the candidate: both are options of the
reference. Negating the rows of z gives the same cell in the usual sense of z, which the kernels run.
"""

import numpy as np

from carousel import layout
from carousel.network import Network, Recurrent, Weights
from carousel.reference import gru
from carousel.stream import Model, State

I, H = 3, 5
rng = np.random.default_rng(0)
W_r, W_z, W_a = rng.normal(size=(3, H, H + I))
b_r, b_z, b_a = rng.normal(size=(3, H))
x, h = rng.normal(size=(1, I)), rng.normal(size=(1, H))

w = layout.from_gates("gru", (W_r, W_z, W_a), (b_r, b_z, b_a))
new, gates = gru.step(x, h, w, reset="before", update="candidate")
print("reset    ", gates.r.round(4))
print("update   ", gates.z.round(4))
print("candidate", gates.n.round(4))
print("h'       ", new.round(4))

usual = layout.opposite_update(*w)
model = Model(Network((Recurrent("gru", (Weights(*usual),), reset="before"),)))
on_kernels, _ = model.step(x, State(h=(h,), c=(None,)))
print("the kernels agree:", np.allclose(on_kernels, new, rtol=0, atol=1e-14))

weights, biases = layout.to_gates("gru", *w)  # and back, bit for bit
print("weights come back equal:", all((a == b).all() for a, b in zip(weights, (W_r, W_z, W_a), strict=True)))
