"""The layers as a formula of torch's own operations: for a gradient of the gradient, and where no kernel can go.

Every option and every length, step by step; the equations are those of docs/options.md. Slow, and differentiable
as often as one likes. A plain batch goes through torch's own formula, `torch._VF`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from carousel.errors import UnsupportedError
from carousel.nn.call import torch_can
from carousel.nn.ragged import still_running
from carousel.nn.spec import SLOTS, Batch, Options, Outputs, Spec, slots

__all__ = ["backward", "is_asked_for", "layers"]

_EPSILON = 1e-5  # of the layer normalisation, as in nn.function's kernels


def backward(
    spec: Spec,
    batch: Batch,
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    dout: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of x, h_0, c_0 and the weights, None where not wanted; in grad mode with a graph that leads to them."""
    again = torch.is_grad_enabled()
    if batch.wants_gates and dout[-1] is not None:
        raise UnsupportedError("A gradient of the gradient of returned gates is not supported.")
    with _without_onednn(), torch.enable_grad():  # its fused layer has no second derivative
        # Views, so that the graph of this pass ends here and joins the caller's graph through autograd.grad.
        x, h_0, c_0, *weights = (None if tensor is None else tensor.view_as(tensor) for tensor in inputs)
        assert x is not None
        y, h_n, c_n, _ = layers(spec, batch, x, h_0, c_0, weights)
        outputs = (y, h_n) if c_n is None else (y, h_n, c_n)
        known = [(o, g) for o, g in zip(outputs, dout, strict=False) if g is not None]
        targets, gradients = zip(*known, strict=True)
        sources = (x, h_0, c_0, *weights)
        asked = [t for t, want in zip(sources, wanted, strict=True) if want and t is not None]
        found = iter(torch.autograd.grad(targets, asked, gradients, create_graph=again, allow_unused=True))
    return [next(found) if want else None for want in wanted]


def is_asked_for(dout: Sequence[Tensor | None]) -> bool:
    """Whether a backward pass must consist of torch's own operations: it is recorded, batched or dual."""
    if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:
        return True
    return any(gradient is not None and not torch._C._has_storage(gradient) for gradient in dout)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """`torch.backends.mkldnn.flags(enabled=False)` without its warning about other devices."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def layers(
    spec: Spec, batch: Batch, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Any]
) -> Outputs:
    """As `nn.function.run`, without the block."""
    D, count = spec.directions, spec.num_layers * spec.directions
    h = x.new_zeros(count, batch.size, spec.width) if h_0 is None else h_0
    c = x.new_zeros(count, batch.size, spec.hidden_size) if c_0 is None else c_0
    if _is_torchs(spec, batch) and torch_can((x, h, c, *weights)):
        function = getattr(torch._VF, spec.mode.lower())
        state = (h, c) if spec.has_cells else h
        flags = (spec.bias, spec.num_layers, 0.0, True, D == 2, spec.batch_first)
        return Outputs(*function(x, state, weights, *flags))
    alive = _alive(batch, x)
    y = _padded(batch, x, alive) if batch.packed else x.transpose(0, 1) if spec.batch_first else x
    names = [SLOTS[slot] for slot in slots(spec)]
    h_n, c_n = [], []
    for layer in range(spec.num_layers):
        ys = []
        for d in range(D):
            k = layer * D + d
            mine = dict(zip(names, weights[k * len(names) : (k + 1) * len(names)], strict=True))
            backwards = bool(d) != spec.reverse
            turned = _turned(batch, y) if backwards else y
            y_d, h_last, c_last = _direction(spec, batch, k, turned, alive, h[k], c[k], mine)
            ys.append(_turned(batch, y_d) if backwards else y_d)
            h_n.append(h_last)
            c_n.append(c_last)
        y = torch.cat(ys, dim=-1)
    if batch.packed:
        y = y[alive.squeeze(-1)]
    elif spec.batch_first:
        y = y.transpose(0, 1)
    return Outputs(y, torch.stack(h_n), torch.stack(c_n) if spec.has_cells else None)


def _is_torchs(spec: Spec, batch: Batch) -> bool:
    """Whether torch has these layers."""
    masks = (batch.candidate_mask, batch.state_mask)
    return spec.options == Options() and not spec.reverse and batch.lengths is None and masks == (None, None)


def _alive(batch: Batch, x: Tensor) -> Tensor:
    """(T, B, 1): whether the row has that step."""
    if batch.lengths is None:
        return torch.ones(batch.steps, batch.size, 1, dtype=torch.bool, device=x.device)
    return still_running(batch.lengths.to(x.device), batch.steps)[..., None]


def _padded(batch: Batch, x: Tensor, alive: Tensor) -> Tensor:
    return x.new_zeros(batch.steps, batch.size, x.shape[-1]).masked_scatter(alive, x)


def _turned(batch: Batch, x: Tensor) -> Tensor:
    """Each row from its last step to its first."""
    if batch.lengths is None:
        return x.flip(0)
    t = torch.arange(batch.steps, device=x.device)[:, None]
    lengths = batch.lengths.to(x.device)
    return x.gather(0, torch.where(t < lengths, lengths - 1 - t, t)[..., None].expand_as(x))


def _direction(
    spec: Spec, batch: Batch, k: int, x: Tensor, alive: Tensor, h: Tensor, c: Tensor, w: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Direction k over x (T, B, ·): y, and the last h and c."""
    kept_h = _kept(spec.options.zoneout_h, batch, k, h, word=0)
    kept_c = _kept(spec.options.zoneout_c, batch, k, c, word=1)
    cell = {"LSTM": _lstm, "GRU": _gru}.get(spec.mode, _rnn)
    masks = tuple(None if m is None else m[k] for m in (batch.candidate_mask, batch.state_mask))
    products = torch.where(alive, x, 0) @ w["weight_ih"].T
    products = _normalised(spec, products, w.get("gain_ih")) + w.get("bias_ih", 0)
    ys = []
    for t in range(batch.steps):
        h_new, c_new = cell(spec, products[t], h, c, w, masks)
        h_new = kept_h[t] * h + (1 - kept_h[t]) * h_new
        c_new = kept_c[t] * c + (1 - kept_c[t]) * c_new
        h, c = torch.where(alive[t], h_new, h), torch.where(alive[t], c_new, c)
        ys.append(torch.where(alive[t], h, 0))
    return torch.stack(ys), h, c


def _masked(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else value * mask


def _bounded(a: Tensor, bound: float) -> Tensor:
    """Limited to [-bound, bound] where there is a bound; unlike clamp's, its gradient is 0 at the bound, too."""
    return torch.nn.functional.hardtanh(a, -bound, bound) if bound > 0 else a


def _clipped(spec: Spec, a: Tensor) -> Tensor:
    return _bounded(a, spec.options.clip)


def _normalised(spec: Spec, sums: Tensor, gain: Tensor | None) -> Tensor:
    """Layer normalisation of a product: of a GRU's r and z together and of its n, else of all gates together."""
    if gain is None:
        return sums
    sizes = [2 * spec.hidden_size, spec.hidden_size] if spec.mode == "GRU" else [sums.shape[-1]]
    parts = zip(torch.split(sums, sizes, -1), torch.split(gain, sizes), strict=True)
    return torch.cat([torch.layer_norm(s, s.shape[-1:], g, None, _EPSILON) for s, g in parts], -1)


def _lstm(
    spec: Spec, x: Tensor, h: Tensor, c: Tensor, w: Mapping[str, Any], masks: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    candidate_mask, state_mask = masks
    s = (
        x
        + _normalised(spec, _masked(h, state_mask) @ w["weight_hh"].T, w.get("gain_hh"))
        + w.get("bias_hh", 0)
    )
    s_i, *s_f, s_g, s_o = s.chunk(spec.gates, -1)
    p_i, *p_f, p_o = w["weight_ch"].unbind() if spec.options.peephole else [0] * (spec.gates - 1)
    i, g = torch.sigmoid(_clipped(spec, s_i + p_i * c)), torch.tanh(_clipped(spec, s_g))
    f = 1 - i if spec.options.coupled_gates else torch.sigmoid(_clipped(spec, s_f[0] + p_f[0] * c))
    c = _bounded(f * c + i * _masked(g, candidate_mask), spec.options.cell_clip)
    o = torch.sigmoid(_clipped(spec, s_o + p_o * c))
    shown = (
        torch.layer_norm(c, c.shape[-1:], w["gain_ch"], w["shift_ch"], _EPSILON)
        if spec.options.layer_norm
        else c
    )
    h = o * torch.tanh(shown)
    return (h @ w["weight_hr"].T if spec.proj_size else h), c


def _gru(
    spec: Spec, x: Tensor, h: Tensor, c: Tensor, w: Mapping[str, Any], masks: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    candidate_mask, state_mask = masks
    H = spec.hidden_size
    seen = _masked(h, state_mask)
    gain_rz, gain_n = (None, None) if w.get("gain_hh") is None else torch.split(w["gain_hh"], [2 * H, H])
    b_rz, b_n = (0, 0) if w.get("bias_hh") is None else torch.split(w["bias_hh"], [2 * H, H])

    def norm(sums: Tensor, gain: Tensor | None) -> Tensor:
        return sums if gain is None else torch.layer_norm(sums, sums.shape[-1:], gain, None, _EPSILON)

    a = x[..., : 2 * H] + norm(seen @ w["weight_hh"][: 2 * H].T, gain_rz) + b_rz
    r, z = torch.sigmoid(_clipped(spec, a)).chunk(2, -1)
    if spec.options.reset == "after":
        n = x[..., 2 * H :] + r * (norm(seen @ w["weight_hh"][2 * H :].T, gain_n) + b_n)
    else:
        n = x[..., 2 * H :] + norm((r * seen) @ w["weight_hh"][2 * H :].T, gain_n) + b_n
    n = _masked(torch.tanh(_clipped(spec, n)), candidate_mask)
    return (1 - z) * n + z * h, c


def _rnn(
    spec: Spec, x: Tensor, h: Tensor, c: Tensor, w: Mapping[str, Any], masks: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor]:
    s = _clipped(
        spec,
        x
        + _normalised(spec, _masked(h, masks[1]) @ w["weight_hh"].T, w.get("gain_hh"))
        + w.get("bias_hh", 0),
    )
    return (torch.tanh(s) if spec.mode == "RNN_TANH" else torch.relu(s)), c


def _kept(rate: float, batch: Batch, k: int, state: Tensor, word: int) -> Tensor:
    """(T, B, ·): the share of the old state that stays, as the kernels draw it: Philox2x32-10 (Salmon et al. 2011)."""
    if not batch.training or rate == 0:
        return state.new_full((batch.steps, 1, 1), rate)
    low = (
        torch.arange(state.numel(), device=state.device)
        .view(1, *state.shape)
        .expand(batch.steps, *state.shape)
    )
    high = torch.arange(batch.steps, device=state.device)[:, None, None].expand_as(low)
    key, word_mask = (batch.key + k) & 0xFFFFFFFF, 0xFFFFFFFF
    for _ in range(10):
        product = low * 0xD256D193  # mod 2^64, as a signed number
        low, high = ((product >> 32) & word_mask) ^ high ^ key, product & word_mask
        key = (key + 0x9E3779B9) & word_mask
    drawn = ((high if word else low) >> 8) < math.ceil(rate * 2**24)
    return drawn.to(state.dtype)
