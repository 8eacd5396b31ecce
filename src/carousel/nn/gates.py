"""The gates and cells of every step, as views of what the kernels leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from carousel.nn.kernels import compiled
from carousel.nn.ragged import still_running
from carousel.nn.spec import Batch, Spec

__all__ = ["Gates", "gates_of", "joined"]


class Gates(NamedTuple):
    """The gates of every step after their activations, and the cells; of an LSTM i f g o c, of a GRU r z n.

    Each is (L*D, T, B, H), with batch_first (L*D, B, T, H), without the B of an input that has none; what a cell
    does not have is None. Steps beyond a row's length are 0. With coupled gates f is 1 - i.
    """

    i: Tensor | None = None
    f: Tensor | None = None
    g: Tensor | None = None
    o: Tensor | None = None
    c: Tensor | None = None
    r: Tensor | None = None
    z: Tensor | None = None
    n: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Gates:
        """Those that are there, each changed."""
        return Gates(*(None if gate is None else change(gate) for gate in self))


def gates_of(spec: Spec, batch: Batch, block: Tensor) -> Gates:
    """Each (L*D, T, B, H): of every direction the block holds the gates (T, B, G, H), then an LSTM's cells."""
    layers, T, B, H = compiled(spec, block.dtype, batch.packed), batch.steps, batch.size, spec.hidden_size
    count, size = spec.num_layers * spec.directions, block.element_size()
    reserve = layers.reserve_bytes(T, B) // size
    parts = block[: count * reserve].view(count, reserve)
    alive = None if batch.lengths is None else still_running(batch.lengths, T)[..., None]

    def seen(first: int, *axes: int) -> Tensor:
        """(L*D, T, B, …); the kernels leave nothing where a row has ended."""
        length = torch.Size((T, B, *axes)).numel()
        found = parts[:, first : first + length].view(count, T, B, *axes)
        return found if alive is None else torch.where(alive.view(T, B, *(1 for _ in axes)), found, 0)

    if spec.mode == "GRU":  # leaves R_n h + b_Rn, too
        r, z, n, _ = seen(0, 4, H).unbind(3)
        return Gates(r=r, z=z, n=n)
    each = seen(0, spec.gates, H)
    c = seen(layers.gate_bytes(T, B) // size, H)
    if not spec.options.coupled_gates:
        i, f, g, o = each.unbind(3)
        return Gates(i, f, g, o, c)
    i, g, o = each.unbind(3)
    f = 1 - i if alive is None else torch.where(alive, 1 - i, 0)
    return Gates(i, f, g, o, c)


def joined(layers: Sequence[Gates]) -> Gates:
    """Those of one layer after the other."""
    return Gates(*(None if parts[0] is None else torch.cat(parts) for parts in zip(*layers, strict=True)))
