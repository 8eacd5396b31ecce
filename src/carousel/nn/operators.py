"""The layers as operators of torch's dispatcher, for torch.compile: opaque, of known shapes, with a gradient.

`carousel::layers` and `carousel::layers_backward` are `nn.function.run` over plain arguments. What shape a result has
follows from the arguments' shapes alone, so that one graph serves every T and B from 2 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from carousel.errors import UnsupportedError
from carousel.nn import kernels
from carousel.nn.ragged import check_range
from carousel.nn.spec import Batch, Options, Outputs, Spec

__all__ = ["run"]


def run(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
) -> Outputs:
    """`nn.function.run` inside a graph; states are kept, not computed anew, whatever `batch.distance` says.

    Raises:
        UnsupportedError: the gates are wanted.
    """
    if batch.wants_gates:
        raise UnsupportedError("`return_gates` has no operator; a call with it stays outside the graph.")
    trained = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, h_0, c_0, *weights)
    )
    key = batch.key if isinstance(batch.key, Tensor) else None
    y, h_n, c_n, _ = _layers(
        x, h_0, c_0, list(weights), batch.lengths, batch.candidate_mask, batch.state_mask, key, trained,
        *_words(spec),
    )  # fmt: skip
    return Outputs(y, h_n, c_n if spec.has_cells else None)


def _words(spec: Spec) -> tuple[str, str, list[int], list[bool], list[float]]:
    """The spec as an operator takes it."""
    own = spec.options
    sizes = [spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers, spec.directions]
    flags = [spec.bias, spec.batch_first, own.layer_norm, own.peephole, own.coupled_gates, spec.low_precision]
    return spec.mode, own.reset, sizes, flags, [own.clip, own.cell_clip, own.zoneout_h, own.zoneout_c]


def _spec(mode: str, reset: str, sizes: Sequence[int], flags: Sequence[bool], rates: Sequence[float]) -> Spec:
    # Symbols where Dynamo compiles a function of ours by itself, as it does after an error in what calls it.
    inputs, hidden, projected, count, directions = map(int, sizes)
    bias, batch_first, layer_norm, peephole, coupled, low = flags
    options = Options(layer_norm, peephole, coupled, reset, *map(float, rates))
    return Spec(mode, inputs, hidden, projected, count, directions, bias, batch_first, options, low)


def _batch(
    spec: Spec, x: Tensor, lengths: Tensor | None, candidate_mask: Tensor | None, state_mask: Tensor | None,
    key: Tensor | None,
) -> Batch:  # fmt: skip
    B, T = x.shape[:2] if spec.batch_first else x.shape[1::-1]
    if lengths is not None:
        check_range(lengths, T)
    return Batch(
        T, B, lengths, key=0 if key is None else int(key), training=key is not None,
        candidate_mask=kernels.contiguous(candidate_mask), state_mask=kernels.contiguous(state_mask),
    )  # fmt: skip


def _outputs(spec: Spec, x: Tensor, trained: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory of y, h_n, c_n and the block.

    The block is what one step of one row needs, T*B times: with every part of it rounded up once a row instead of
    once, this is never less than the kernels ask for, and linear in T and B.
    """
    B, T = x.shape[:2] if spec.batch_first else x.shape[1::-1]
    count = spec.num_layers * spec.directions
    block = x.new_empty(0)
    if trained:
        each = kernels.compiled(spec, x.dtype, False).block_bytes(1, 1, 1)
        block = x.new_empty(T * B, each // x.element_size())
    width = spec.directions * spec.width
    return (
        x.new_empty_strided((B, T, width), (width, B * width, 1))
        if spec.batch_first
        else x.new_empty(T, B, width),
        x.new_empty(count, B, spec.width),
        x.new_empty((count, B, spec.hidden_size) if spec.has_cells else 0),
        block,
    )


@torch.library.custom_op("carousel::layers", mutates_args=())
def _layers(
    x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], lengths: Tensor | None,
    candidate_mask: Tensor | None, state_mask: Tensor | None, key: Tensor | None, trained: bool, mode: str,
    reset: str, sizes: Sequence[int], flags: Sequence[bool], rates: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    spec = _spec(mode, reset, sizes, flags, rates)
    batch = _batch(spec, x, lengths, candidate_mask, state_mask, key)
    y, h_n, c_n, block = _outputs(spec, x, trained)
    if trained:
        needed = kernels.compiled(spec, x.dtype, False).block_bytes(batch.steps, batch.size, len(block))
        assert needed <= block.numel() * block.element_size()
    kernels.forward(
        kernels.plan_of(spec, batch, x), x, h_0, c_0, [w.contiguous() for w in weights], y, h_n,
        c_n if spec.has_cells else None, block if trained else None,
    )  # fmt: skip
    return y, h_n, c_n, block


@_layers.register_fake
def _shapes(x: Tensor, h_0: Tensor | None, c_0: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    trained, *words = rest[5:]
    return _outputs(_spec(*words), x, trained)


@torch.library.custom_op("carousel::layers_backward", mutates_args=())
def _layers_backward(
    dy: Tensor, dh_n: Tensor, dc_n: Tensor, y: Tensor, block: Tensor, x: Tensor, h_0: Tensor | None,
    c_0: Tensor | None, weights: Sequence[Tensor], lengths: Tensor | None, candidate_mask: Tensor | None,
    state_mask: Tensor | None, key: Tensor | None, wanted: Sequence[bool], mode: str, reset: str,
    sizes: Sequence[int], flags: Sequence[bool], rates: Sequence[float],
) -> list[Tensor]:  # fmt: skip
    spec = _spec(mode, reset, sizes, flags, rates)
    batch = _batch(spec, x, lengths, candidate_mask, state_mask, key)
    gradients = _gradients(x, h_0, c_0, weights, wanted)
    dx, dh_0, dc_0, *dweights = (g if want else None for g, want in zip(gradients, wanted, strict=True))
    kernels.backward(
        kernels.plan_of(spec, batch, x), x, h_0, c_0, [w.contiguous() for w in weights], y, block,
        dy, dh_n, dc_n if spec.has_cells else None, None, dx, dh_0, dc_0, dweights,
    )  # fmt: skip
    return gradients


def _gradients(
    x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor]:
    """Memory of the gradients, of x, h_0, c_0 and the weights; empty where not wanted."""
    of = (x, h_0, c_0, *weights)
    return [x.new_empty(t.shape if want and t is not None else 0) for t, want in zip(of, wanted, strict=True)]


@_layers_backward.register_fake
def _gradients_shapes(*given: Any) -> list[Tensor]:
    x, h_0, c_0, weights = given[5:9]
    return _gradients(x, h_0, c_0, weights, given[13])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, h_0, c_0, weights, *drawn, _, mode, reset, sizes, flags, rates = inputs
    y, _, _, block = output
    ctx.words = (mode, reset, sizes, flags, rates)
    ctx.save_for_backward(y, block, x, h_0, c_0, *drawn, *weights)


def _backward(ctx: Any, dy: Tensor, dh_n: Tensor, dc_n: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    y, block, x, h_0, c_0, lengths, candidate_mask, state_mask, key, *weights = ctx.saved_tensors
    tensors = (x, h_0, c_0, *weights)
    # Which of a list of weights need one, torch does not tell; a gradient that nobody wants is dropped.
    wanted = [t is not None and t.requires_grad for t in tensors]
    gradients = _layers_backward(
        dy, dh_n, dc_n, y, block, x, h_0, c_0, weights, lengths, candidate_mask, state_mask, key, wanted,
        *ctx.words,
    )  # fmt: skip
    dx, dh_0, dc_0, *dweights = (g if want else None for g, want in zip(gradients, wanted, strict=True))
    return (dx, dh_0, dc_0, dweights, *10 * (None,))


_layers.register_autograd(_backward, setup_context=_keep)
