"""The random numbers of a call in training: masks that stay the same for a whole sequence, and zoneout's key.

torch's generator draws them, for all layers before the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from carousel.errors import UnsupportedError
from carousel.nn.beyond import Beyond
from carousel.nn.ragged import still_running
from carousel.nn.spec import Batch, Spec

__all__ = ["drawn", "dropped"]


def drawn(own: Beyond, spec: Spec, batch: Batch, like: Tensor) -> Batch:
    """The batch with the masks of its layers, of `like`'s dtype and device."""
    count = spec.num_layers * spec.directions
    if own.rates != (0.0, 0.0):
        key = torch.randint(2**32, ())
        if torch._C._functorch.is_batchedtensor(key):
            raise UnsupportedError(
                "zoneout in training draws one key for all that a vmap maps over, not one for each; call "
                'vmap(..., randomness="same").'
            )
        batch = batch._replace(training=True, key=key if torch.compiler.is_compiling() else int(key))
    if own.recurrent_dropout > 0:
        candidate_mask = _mask(own.recurrent_dropout, like, count, batch.size, spec.hidden_size)
        batch = batch._replace(candidate_mask=candidate_mask)
    if own.state_dropout > 0:
        state_mask = _mask(own.state_dropout, like, count, batch.size, spec.width)
        batch = batch._replace(state_mask=state_mask)
    return batch


def dropped(p: float, spec: Spec, batch: Batch, x: Tensor) -> Tensor:
    """What a layer reads of x: a feature that a row drops is 0 at every step."""
    mask = _mask(p, x, batch.size, x.shape[-1])
    if batch.packed:
        assert batch.lengths is not None
        return x * mask.expand(batch.steps, -1, -1)[still_running(batch.lengths, batch.steps)]
    return x * (mask.unsqueeze(1) if spec.batch_first else mask)


def _mask(p: float, like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)
