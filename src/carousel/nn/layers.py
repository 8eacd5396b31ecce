"""torch.nn.LSTM, GRU and RNN on our kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.nn.call import fallback, path
from carousel.nn.function import Outputs, Spec, run

__all__ = ["GRU", "LSTM", "RNN"]


def _forward(module: torch.nn.RNNBase, input: Any, hx: Any, torchs: Callable[..., Any]) -> Any:
    """A call of `module`: ours, or torch's own method `torchs`."""
    if isinstance(input, PackedSequence) or module.proj_size > 0:
        return torchs(input, hx)
    weights = _weights(module)
    return torchs(input, hx) if _reason(module, input, hx, weights) else _run(module, input, hx, weights)


def _path(module: torch.nn.RNNBase, input: Any, hx: Any) -> str:
    weights = _weights(module)
    return path(_reason(module, input, hx, weights), weights[0].dtype)


def _weights(module: torch.nn.RNNBase) -> list[Any]:
    """W, R[, b_W, b_R] of every direction, as they are now.

    functional_call swaps parameters. A parametrization computes them anew, spectral_norm differently each time:
    it is asked as often as torch asks it.
    """
    own, names = module._parameters, module._flat_weights_names
    if all(name in own for name in names):
        return [own[name] for name in names]
    module._update_flat_weights()
    return module._flat_weights


def _reason(module: torch.nn.RNNBase, input: Any, hx: Any, weights: list[Any]) -> str | None:
    """Why this call takes torch's path, or None."""
    if isinstance(input, PackedSequence):
        return "PackedSequence"
    if module.proj_size > 0:
        return "proj_size"
    states: tuple[Any, ...] = ()
    if hx is not None:
        states = hx if module.mode == "LSTM" and isinstance(hx, tuple) else (hx,)
        if len(states) != (2 if module.mode == "LSTM" else 1):
            return "hx of another form"
    if not all(isinstance(tensor, Tensor) for tensor in (input, *states, *weights)):
        return "an argument that is not a tensor"
    reason = fallback([input, *states, *weights])
    if reason is not None:
        return reason
    if input.dim() not in (2, 3) or input.shape[-1] != module.input_size or input.numel() == 0:
        return f"an input of shape {tuple(input.shape)}"
    count = module.num_layers * (2 if module.bidirectional else 1)
    batch = () if input.dim() == 2 else (input.shape[0 if module.batch_first else 1],)
    if any(state.shape != (count, *batch, module.hidden_size) for state in states):
        return "hx of another shape"
    if [weight.shape for weight in weights] != _weight_shapes(module):
        return "weights of another shape"
    return None


def _weight_shapes(module: torch.nn.RNNBase) -> list[tuple[int, ...]]:
    """What the constructor gave the weights; somebody may have put other tensors there since."""
    H, D = module.hidden_size, 2 if module.bidirectional else 1
    rows = {"LSTM": 4, "GRU": 3}.get(module.mode, 1) * H
    biases = [(rows,), (rows,)] if module.bias else []
    first, others = [(rows, module.input_size), (rows, H), *biases], [(rows, D * H), (rows, H), *biases]
    return D * first + (module.num_layers - 1) * D * others


def _run(module: torch.nn.RNNBase, input: Tensor, hx: Any, weights: list[Any]) -> tuple[Tensor, Any]:
    """A call that has no reason for torch's path: adds the batch axis where there is none, and dropout."""
    lstm, batched = module.mode == "LSTM", input.dim() == 3
    h, c = (None, None) if hx is None else hx if lstm else (hx, None)
    time_axis = 1 if module.batch_first else 0
    if not batched:
        input = input.unsqueeze(1 - time_axis)
        h, c = (None if state is None else state.unsqueeze(1) for state in (h, c))
    spec = Spec(
        mode=module.mode,
        hidden_size=module.hidden_size,
        num_layers=module.num_layers,
        directions=2 if module.bidirectional else 1,
        bias=module.bias,
        batch_first=module.batch_first,
    )
    if module.training and module.dropout > 0 and module.num_layers > 1:
        y, h_n, c_n = _run_with_dropout(module.dropout, spec, input, h, c, weights)
    else:
        y, h_n, c_n = run(spec, input, h, c, weights)
    if not batched:
        y = y.squeeze(1 - time_axis)
        h_n, c_n = h_n.squeeze(1), None if c_n is None else c_n.squeeze(1)
    return y, ((h_n, c_n) if lstm else h_n)


def _run_with_dropout(
    p: float, spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: Sequence[Tensor]
) -> Outputs:
    """`run`, layer by layer, with torch's dropout between them: the same masks as torch.nn under one seed."""
    D = spec.directions
    each = D * (4 if spec.bias else 2)
    one = replace(spec, num_layers=1, batch_first=False)  # torch draws its masks over (T, B, D*H)
    y = x.transpose(0, 1) if spec.batch_first else x
    h_n, c_n = [], []
    for layer in range(spec.num_layers):
        mine = slice(layer * D, (layer + 1) * D)
        h, c = (None if state is None else state[mine] for state in (h_0, c_0))
        if layer > 0:
            y = torch.dropout(y, p, True)
        y, h, c = run(one, y, h, c, weights[layer * each : (layer + 1) * each])
        h_n.append(h)
        c_n.append(c)
    if spec.batch_first:
        y = y.transpose(0, 1).contiguous()
    return y, torch.cat(h_n), torch.cat(c_n) if spec.has_cells else None  # type: ignore[arg-type]


class LSTM(torch.nn.LSTM):
    """`torch.nn.LSTM` on our kernels; its equations are in `carousel.reference.lstm`.

    Same constructor, parameters, initial values, results and errors as torch's class: either loads the
    `state_dict` of the other. What the kernels do not cover takes torch's path; `carousel.kernel_path` tells
    which.

    Example:
        >>> y, (h, c) = LSTM(3, 8)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 8]), torch.Size([1, 4, 8]))
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTM.forward`: (T, B, I) in, (T, B, D*H) and (h_n, c_n) of (L*D, B, H) out."""
        return _forward(self, input, hx, super().forward)

    kernel_path = _path


class GRU(torch.nn.GRU):
    """`torch.nn.GRU` on our kernels; its equations are in `carousel.reference.gru`. All else as in `LSTM`.

    Example:
        >>> y, h = GRU(3, 8, num_layers=2)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 8]), torch.Size([2, 4, 8]))
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.GRU.forward`: (T, B, I) in, (T, B, D*H) and h_n of (L*D, B, H) out."""
        return _forward(self, input, hx, super().forward)

    kernel_path = _path


class RNN(torch.nn.RNN):
    """`torch.nn.RNN` on our kernels, tanh or relu; its equations are in `carousel.reference.rnn`.

    Example:
        >>> y, h = RNN(3, 8, nonlinearity="relu", bidirectional=True)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 16]), torch.Size([2, 4, 8]))
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.RNN.forward`: (T, B, I) in, (T, B, D*H) and h_n of (L*D, B, H) out."""
        return _forward(self, input, hx, super().forward)

    kernel_path = _path
