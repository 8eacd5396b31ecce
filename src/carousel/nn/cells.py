"""torch.nn.LSTMCell, GRUCell and RNNCell on our kernels: one step, which is a sequence of length one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from carousel.nn.call import fallback, path
from carousel.nn.function import run
from carousel.nn.scripting import scriptable
from carousel.nn.spec import Batch, Spec

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


def _mode(cell: torch.nn.RNNCellBase) -> str:
    if isinstance(cell, torch.nn.LSTMCell):
        return "LSTM"
    return "GRU" if isinstance(cell, torch.nn.GRUCell) else f"RNN_{str(cell.nonlinearity).upper()}"


def _weights(cell: torch.nn.RNNCellBase) -> list[Tensor]:
    weights = [cell.weight_ih, cell.weight_hh]
    return [*weights, cell.bias_ih, cell.bias_hh] if cell.bias else weights


def _reason(cell: torch.nn.RNNCellBase, input: Any, hx: Any) -> str | None:
    """Why this call takes torch's path, or None."""
    lstm = isinstance(cell, torch.nn.LSTMCell)
    weights = _weights(cell)
    states = () if hx is None else tuple(hx) if lstm else (hx,)
    if not isinstance(input, Tensor) or not all(isinstance(t, Tensor) for t in (*states, *weights)):
        return "an argument that is not a tensor"
    if lstm and hx is not None and len(states) != 2:
        return "hx of another form"
    if isinstance(cell, torch.nn.RNNCell) and cell.nonlinearity not in ("tanh", "relu"):
        return f"nonlinearity {cell.nonlinearity}"
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export"
    reason = fallback([input, *states, *weights])
    if reason is not None:
        return reason
    if input.dim() not in (1, 2) or input.shape[-1] != cell.input_size or input.numel() == 0:
        return f"an input of shape {tuple(input.shape)}"
    expected = (*input.shape[:-1], cell.hidden_size)
    if any(state.shape != expected for state in states):
        return "hx of another shape"
    rows = weights[0].shape[0]
    shapes = [(rows, cell.input_size), (rows, cell.hidden_size), (rows,), (rows,)]
    gates = {"LSTM": 4, "GRU": 3}.get(_mode(cell), 1)
    if rows != gates * cell.hidden_size or [w.shape for w in weights] != shapes[: len(weights)]:
        return "weights of another shape"
    return None


def _forward(cell: Any, input: Any, hx: Any) -> Any:
    """A call of `cell`: ours, or torch's own method."""
    if _reason(cell, input, hx) is not None:
        return cell._torchs(input, hx)
    lstm = isinstance(cell, torch.nn.LSTMCell)
    h, c = (None, None) if hx is None else hx if lstm else (hx, None)
    in_front = (1,) if input.dim() == 2 else (1, 1)  # the step, and the batch where there is none
    h, c = (None if state is None else state.reshape(*in_front, *state.shape) for state in (h, c))
    spec = Spec(_mode(cell), cell.input_size, cell.hidden_size, 0, 1, 1, cell.bias, batch_first=False)
    x = input.reshape(*in_front, *input.shape)
    weights = [w.contiguous() for w in _weights(cell)]
    _, *states, _ = run(spec, Batch(1, x.shape[1]), x, h, c, weights)
    h_n, c_n = (None if state is None else state[(0,) * len(in_front)] for state in states)
    return (h_n, c_n) if lstm else h_n


def _path(cell: torch.nn.RNNCellBase, input: Any, hx: Any) -> str:
    return path(_reason(cell, input, hx), cell.weight_ih.dtype)


class LSTMCell(torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` on our kernels.

    Example:
        >>> h, c = LSTMCell(3, 8)(torch.zeros(4, 3))
        >>> h.shape
        torch.Size([4, 8])
    """

    _torchs: ClassVar[Any] = torch.nn.LSTMCell.forward

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTMCell.forward`: (B, I) in, h and c of (B, H) out."""
        return _forward(self, input, hx)

    kernel_path = _path
    __prepare_scriptable__ = scriptable


class GRUCell(torch.nn.GRUCell):
    """`torch.nn.GRUCell` on our kernels.

    Example:
        >>> GRUCell(3, 8)(torch.zeros(4, 3)).shape
        torch.Size([4, 8])
    """

    _torchs: ClassVar[Any] = torch.nn.GRUCell.forward

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.GRUCell.forward`: (B, I) in, h of (B, H) out."""
        return _forward(self, input, hx)

    kernel_path = _path
    __prepare_scriptable__ = scriptable


class RNNCell(torch.nn.RNNCell):
    """`torch.nn.RNNCell` on our kernels, tanh or relu.

    Example:
        >>> RNNCell(3, 8)(torch.zeros(4, 3)).shape
        torch.Size([4, 8])
    """

    _torchs: ClassVar[Any] = torch.nn.RNNCell.forward

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.RNNCell.forward`: (B, I) in, h of (B, H) out."""
        return _forward(self, input, hx)

    kernel_path = _path
    __prepare_scriptable__ = scriptable
