"""Modules of carousel.nn judged by the NumPy reference: outputs, last states, gates and every gradient.

The masks that a call in training draws are read where they are drawn (`carousel.nn.masks`), and given to
the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from carousel import nn
from carousel.layout import Weights
from carousel.nn import compute, masks
from carousel.nn.spec import Batch
from carousel.reference import LayerNorm, Options
from carousel.reference import stack as judge
from carousel.reference.random import zoneout_masks

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
I, H = 3, 5

Results = dict[str, np.ndarray]


class Draws(NamedTuple):
    """What a call in training drew: a batch with the masks of all layers; of each layer, the mask of its inputs."""

    batches: list[Batch]
    inputs: list[Tensor]


@contextmanager
def recorded() -> Iterator[Draws]:
    """What the call inside draws."""
    draws, drawn, dropped = Draws([], []), masks.drawn, masks.dropped

    def seen(*arguments: Any) -> Batch:
        draws.batches.append(drawn(*arguments))
        return draws.batches[-1]

    def seen_inputs(p: float, spec: Any, batch: Batch, x: Tensor) -> Tensor:
        mask = masks._mask
        with mock.patch.object(
            masks, "_mask", lambda *given: draws.inputs.append(mask(*given)) or draws.inputs[-1]
        ):
            return dropped(p, spec, batch, x)

    with mock.patch.object(compute, "drawn", seen), mock.patch.object(compute, "dropped", seen_inputs):
        yield draws


def module_of(kind: str, *, seed: int = 0, **keywords: Any) -> torch.nn.Module:
    """A module in float64 with sizes I and H whose every parameter is random and not zero, gains near 1."""
    torch.manual_seed(seed)
    module: torch.nn.Module = getattr(nn, kind)(I, H, dtype=torch.float64, **keywords)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.startswith(("gain", "shift", "bias", "weight_ch", "h_0", "c_0")):
                p.copy_(torch.randn_like(p) * 0.3 + name.startswith("gain"))
    return module


def arguments_of(module: Any, T: int = 7, B: int = 4, seed: int = 1) -> tuple[Tensor, Any]:
    """x and hx with a gradient, laid out as the module takes them."""
    torch.manual_seed(seed)
    x = torch.randn(B, T, I) if module.batch_first else torch.randn(T, B, I)
    count = module.num_layers * (2 if module.bidirectional else 1)
    h, c = torch.randn(count, B, module.proj_size or H), torch.randn(count, B, H)
    x, h, c = (0.7 * a.to(module.weight_ih_l0.dtype) for a in (x, h, c))
    x, h, c = (a.detach().requires_grad_() for a in (x, h, c))
    return x, ((h, c) if module.mode == "LSTM" else h)


def flat(tree: Any) -> list[Tensor]:
    if tree is None:
        return []
    return [tree] if isinstance(tree, Tensor) else [t for part in tree for t in flat(part)]


def called(module: Any, x: Tensor, hx: Any, weigh: float = 1.0, **keywords: Any) -> Results:
    """Outputs and gradients of a call, whose loss weighs all outputs by the numbers of `weights_of`."""
    y, state, *gates = module(x, hx, **keywords)
    outputs = [y, *flat(state)]
    loss = sum((o * w).sum() for o, w in zip(outputs, weights_of(outputs), strict=True))
    sources = {"dx": x} | dict(zip(("dh_0", "dc_0"), flat(hx), strict=False))
    sources |= {f"d{name}": p for name, p in module.named_parameters()}
    found = torch.autograd.grad(loss, list(sources.values()), allow_unused=True)
    named = dict(zip(("y", "h_n", "c_n"), outputs, strict=False)) | dict(zip(sources, found, strict=True))
    named |= {name: gate for g in gates for name, gate in g._asdict().items()}
    return {name: value.detach().numpy() for name, value in named.items() if value is not None}


def weights_of(outputs: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]


def reference(module: Any, x: Tensor, hx: Any, draws: Draws, lengths: Any = None) -> Results:
    """What `called` must give, by the reference."""
    L, D, lstm = module.num_layers, 2 if module.bidirectional else 1, module.mode == "LSTM"
    T, B = (x.shape[1], x.shape[0]) if module.batch_first else x.shape[:2]
    parameters = {name: p.detach().numpy().astype(np.float64) for name, p in module.named_parameters()}
    network = judge.Stack([_layer(module, parameters, layer, draws, T, B) for layer in range(L)])
    h, *c = (s.detach().numpy().astype(np.float64) for s in flat(hx))
    states = [
        [(h[k], c[0][k]) if lstm else h[k] for k in range(layer * D, layer * D + D)] for layer in range(L)
    ]
    seen = x.detach().numpy().astype(np.float64)
    seen = seen.swapaxes(0, 1) if module.batch_first else seen
    y, finals, cache = judge.forward(seen, network, states, lengths=lengths)
    last = [final for layer in finals for final in layer]
    h_n = np.stack([final.h if lstm else final for final in last])
    outputs = {"y": y.swapaxes(0, 1) if module.batch_first else y, "h_n": h_n}
    outputs |= {"c_n": np.stack([final.c for final in last])} if lstm else {}
    dy, dh, *dc = (w.numpy() for w in weights_of([torch.from_numpy(o.copy()) for o in outputs.values()]))
    dstates = [
        [(dh[k], dc[0][k]) if lstm else dh[k] for k in range(layer * D, layer * D + D)] for layer in range(L)
    ]
    found = judge.backward(dy.swapaxes(0, 1) if module.batch_first else dy, network, cache, dstates)
    initial = [state for layer in found.states for state in layer]
    outputs |= {"dx": found.x.swapaxes(0, 1) if module.batch_first else found.x}
    outputs |= {"dh_0": np.stack([s.h if lstm else s for s in initial])}
    outputs |= {"dc_0": np.stack([s.c for s in initial])} if lstm else {}
    for layer, gradients in enumerate(found.w.layers):
        for d, (w, beyond) in enumerate(zip(gradients.directions, gradients.beyond, strict=True)):
            end = f"l{layer}" + ("_reverse" if d else "")
            outputs |= {f"d{name}_{end}": value for name, value in _named(w, beyond).items()}
    return outputs | _gates(cache, lengths, D, module.batch_first)


def _layer(module: Any, parameters: Results, layer: int, draws: Draws, T: int, B: int) -> judge.Layer:
    """One layer of `module` as the reference has it."""
    directions, beyond = [], []
    for d in range(2 if module.bidirectional else 1):
        end = f"_l{layer}" + ("_reverse" if d else "")
        mine = {name.removesuffix(end): value for name, value in parameters.items() if name.endswith(end)}
        zeros = np.zeros(len(mine["weight_ih"]))
        biases = (mine.get("bias_ih", zeros), mine.get("bias_hh", zeros))
        directions.append(Weights(mine["weight_ih"], mine["weight_hh"], *biases))
        beyond.append(_options(module, mine, layer, d, draws, T, B))
    options = {"reset": module._beyond.reset} if module.mode == "GRU" else {}
    if module.mode == "RNN_RELU":
        options = {"activation": "relu"}
    return judge.Layer(CELLS[module.mode.partition("_")[0]], directions, options, beyond)


def _options(module: Any, mine: Results, layer: int, d: int, draws: Draws, T: int, B: int) -> Options:
    """What a direction does beyond its equations, with the masks that the call drew."""
    own, drawn = module._beyond, {}
    rates = own.rates if module.mode == "LSTM" else (own.rates[0], 0.0)
    sizes = (T, B, H, module.proj_size or H)
    shares = (np.full((T, B, sizes[3]), rates[0]), np.full((T, B, H), rates[1]))
    if draws.batches:
        (batch,), k = draws.batches, layer * (2 if module.bidirectional else 1) + d
        drawn = {name: getattr(batch, name) for name in ("candidate_mask", "state_mask")}
        drawn = {name: mask[k].numpy() for name, mask in drawn.items() if mask is not None}
        drawn |= {"input_mask": draws.inputs[layer].numpy()} if draws.inputs else {}
        shares = zoneout_masks((batch.key + k) % 2**32, *rates, *sizes)
    norm = None
    if own.layer_norm:
        norm = LayerNorm(*(mine.get(name) for name in ("gain_ih", "gain_hh", "gain_ch", "shift_ch")))
    return Options(
        projection=mine.get("weight_hr"), peephole=mine.get("weight_ch"), coupled=own.coupled_gates,
        layer_norm=norm, clip=own.clip, cell_clip=own.cell_clip, zoneout_h=shares[0],
        zoneout_c=shares[1] if module.mode == "LSTM" else None, **drawn,
    )  # fmt: skip


def _named(w: Weights, options: Options) -> Results:
    """The gradients of a direction under torch's names."""
    norm = options.layer_norm or LayerNorm(None, None)
    named = dict(
        weight_ih=w.W, weight_hh=w.R, bias_ih=w.b_W, bias_hh=w.b_R, weight_hr=options.projection,
        weight_ch=options.peephole, gain_ih=norm.gain_x, gain_hh=norm.gain_h, gain_ch=norm.gain_c,
        shift_ch=norm.shift_c,
    )  # fmt: skip
    return {name: value for name, value in named.items() if value is not None}


def _gates(cache: judge.Cache, lengths: Any, D: int, batch_first: bool) -> Results:
    """The gates and cells of all directions, (L*D, T, B, H) or (L*D, B, T, H), 0 where a row has ended."""
    caches = [seen for layer in cache.layers for seen in layer]
    names = [name for name in ("i", "f", "g", "o", "c", "r", "z", "n") if hasattr(caches[0], name)]
    found = {}
    for name in names:
        parts = []
        for k, seen in enumerate(caches):
            value = getattr(seen, name)[1:] if name == "c" else getattr(seen, name)
            if lengths is not None:
                alive = np.arange(len(value))[:, None, None] < np.asarray(lengths)[:, None]
                value = np.where(alive, value, 0)
            value = judge.turn(value, None if lengths is None else np.asarray(lengths)) if k % D else value
            parts.append(value.swapaxes(0, 1) if batch_first else value)
        found[name] = np.stack(parts)
    return found


def differences(found: Results, right: Results, tolerance: float) -> list[str]:
    """One line for each array that is further off than that share of its largest element, or of 1."""
    lines = []
    for name, value in found.items():
        expected = right[name]
        if value.shape != expected.shape:
            lines.append(f"{name} has shape {value.shape}, must be {expected.shape}")
            continue
        error = np.abs(value - expected).max(initial=0) / max(1.0, np.abs(expected).max(initial=0))
        if not error <= tolerance:
            lines.append(f"{name} differs by {error:.2e}")
    return lines
