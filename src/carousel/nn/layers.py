"""torch.nn.LSTM, GRU and RNN on our kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.nn.call import fallback, path
from carousel.nn.function import Spec, run

__all__ = ["GRU", "LSTM", "RNN"]


def _reason(module: torch.nn.RNNBase, input: Any, hx: Any) -> str | None:
    """Why this call takes torch's path, or None."""
    if isinstance(input, PackedSequence):
        return "PackedSequence"
    if module.proj_size > 0:
        return "proj_size"
    weights = module._flat_weights
    states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    if not isinstance(input, Tensor) or not all(isinstance(t, Tensor) for t in (*states, *weights)):
        return "an argument that is not a tensor"
    if len(states) != (0 if hx is None else 2 if module.mode == "LSTM" else 1) or (
        module.mode != "LSTM" and isinstance(hx, tuple)
    ):
        return "hx of another form"
    reason = fallback([input, *states, *weights])
    if reason is not None:
        return reason
    if input.dim() not in (2, 3) or input.shape[-1] != module.input_size or input.numel() == 0:
        return f"an input of shape {tuple(input.shape)}"
    batch = 1 if input.dim() == 2 else input.shape[0 if module.batch_first else 1]
    directions = 2 if module.bidirectional else 1
    expected = (module.num_layers * directions, batch, module.hidden_size)
    if input.dim() == 2:
        expected = (expected[0], expected[2])
    if any(state.shape != expected for state in states):
        return "hx of another shape"
    return None


def _forward(module: torch.nn.RNNBase, input: Tensor, hx: Any) -> tuple[Tensor, Any]:
    """The call of a module whose `_reason` is None: adds the batch axis where there is none, and dropout."""
    batched = input.dim() == 3
    lstm = module.mode == "LSTM"
    h, c = (hx if lstm else (hx, None)) if hx is not None else (None, None)
    if not batched:
        input = input.unsqueeze(0 if module.batch_first else 1)
        h, c = (None if state is None else state.unsqueeze(1) for state in (h, c))
    directions = 2 if module.bidirectional else 1
    spec = Spec(module.mode, module.hidden_size, module.num_layers, directions, module.bias, module.batch_first)
    between = module.dropout if module.training and module.num_layers > 1 else 0.0
    layers = run if between == 0 else _with_dropout(between)
    y, h_n, c_n = layers(spec, input, h, c, module._flat_weights)
    if not batched:
        y = y.squeeze(0 if module.batch_first else 1)
        h_n, c_n = h_n.squeeze(1), None if c_n is None else c_n.squeeze(1)
    return y, ((h_n, c_n) if lstm else h_n)


def _with_dropout(p: float) -> Any:
    """`run`, layer by layer, with torch's dropout between them: the same masks as torch.nn under one seed."""

    def layers(
        spec: Spec, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        D = spec.directions
        each = D * (4 if spec.bias else 2)
        # torch draws its masks over (T, B, D*H), so time comes first between the layers.
        one = Spec(spec.mode, spec.hidden_size, 1, D, spec.bias, batch_first=False)
        y = x.transpose(0, 1) if spec.batch_first else x
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        for layer in range(spec.num_layers):
            mine = slice(layer * D, (layer + 1) * D)
            h, c = (None if state is None else state[mine] for state in (h_0, c_0))
            if layer > 0:
                y = torch.dropout(y, p, True)
            y, h, c = run(one, y, h, c, weights[layer * each : (layer + 1) * each])
            h_n.append(h)
            if c is not None:
                c_n.append(c)
        if spec.batch_first:
            y = y.transpose(0, 1)
        return y, torch.cat(h_n), torch.cat(c_n) if c_n else None

    return layers


def _path(module: torch.nn.RNNBase, input: Any, hx: Any) -> str:
    weights = module._flat_weights
    return path(_reason(module, input, hx), weights[0].dtype)


class LSTM(torch.nn.LSTM):
    """`torch.nn.LSTM` on our kernels; its equations are in `carousel.reference.lstm`.

    Same constructor, parameters, initial values, results and errors as torch's class: either loads the `state_dict`
    of the other. What the kernels do not cover takes torch's path; `carousel.kernel_path` tells which.

    Example:
        >>> y, (h, c) = LSTM(3, 8)(torch.zeros(20, 4, 3))
        >>> y.shape, h.shape
        (torch.Size([20, 4, 8]), torch.Size([1, 4, 8]))
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTM.forward`: (T, B, I) in, (T, B, D*H) and (h_n, c_n) of (L*D, B, H) out."""
        if _reason(self, input, hx) is not None:
            return super().forward(input, hx)
        return _forward(self, input, hx)

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
        if _reason(self, input, hx) is not None:
            return super().forward(input, hx)
        return _forward(self, input, hx)

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
        if _reason(self, input, hx) is not None:
            return super().forward(input, hx)
        return _forward(self, input, hx)

    kernel_path = _path
