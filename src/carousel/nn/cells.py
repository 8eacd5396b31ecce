"""torch.nn.LSTMCell, GRUCell and RNNCell on our kernels: one step, which is a sequence of length one."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from carousel.nn.again import Known
from carousel.nn.call import HAS_GUARDS, Beside, fallback, given_states, path
from carousel.nn.scripting import scriptable
from carousel.nn.spec import Spec
from carousel.nn.step import plan_of, step
from carousel.nn.tracing import Proxy, is_node, node

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _mode(cell: torch.nn.RNNCellBase) -> str:
    if isinstance(cell, torch.nn.LSTMCell):
        return "LSTM"
    return "GRU" if isinstance(cell, torch.nn.GRUCell) else f"RNN_{str(cell.nonlinearity).upper()}"


def _weights(cell: torch.nn.RNNCellBase) -> list[Any]:
    """As they are now; a parametrization is asked once."""
    names = _WEIGHTS if cell.bias else _WEIGHTS[:2]
    own = cell._parameters
    try:
        return [own[name] for name in names]
    except KeyError:
        return [getattr(cell, name) for name in names]


def _reason(cell: torch.nn.RNNCellBase, input: Any, hx: Any, weights: Sequence[Any]) -> str | None:
    """Why this call takes torch's path, or None."""
    states = given_states(hx, isinstance(cell, torch.nn.LSTMCell))
    if states is None:
        return "hx of another form"
    if not isinstance(input, Tensor) or not all(isinstance(t, Tensor) for t in (*states, *weights)):
        return "an argument that is not a tensor"
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
    weights = _weights(cell)
    known: _Again | None = None if torch.compiler.is_compiling() else cell._again
    if known is not None:
        states = given_states(hx, known.spec.has_cells)
        if states is not None and known.holds(cell, input, states, weights):
            known.missed = None
            return step(known.plan, input, states, weights)
    if isinstance(input, Proxy) and is_node(cell, input):
        return node(cell, input, hx)
    if _reason(cell, input, hx, weights) is not None:
        return cell._torchs(input, hx)
    spec = Spec(_mode(cell), cell.input_size, cell.hidden_size, 0, 1, 1, cell.bias, batch_first=False)
    states = () if hx is None else tuple(hx) if spec.has_cells else (hx,)
    if HAS_GUARDS and all(t.is_contiguous() for t in (input, *states, *weights)):
        _remember(cell, spec, input, states, weights)
    return step(plan_of(spec, input), input, states, [w.contiguous() for w in weights])


def _remember(cell: Any, spec: Spec, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Keeps what a call has found out; anew when calls of another shape follow each other."""
    known = cell._again
    if known is not None and known.missed != x.shape:
        known.missed = x.shape
    else:
        cell._again = _Again(cell, spec, x, states, weights)


class _Again(Known):
    """What a call of a cell has found out."""

    def __init__(
        self, cell: Any, spec: Spec, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> None:
        super().__init__(cell, cell._settings, x, states, weights)
        self.spec, self.plan = spec, plan_of(spec, x)
        self.missed: torch.Size | None = None


def _path(cell: torch.nn.RNNCellBase, input: Any, hx: Any) -> str:
    return path(_reason(cell, input, hx, _weights(cell)), cell.weight_ih.dtype)


class LSTMCell(torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` on our kernels.

    Example:
        >>> h, c = LSTMCell(3, 8)(torch.zeros(4, 3))
        >>> h.shape
        torch.Size([4, 8])
    """

    _torchs: ClassVar[Any] = torch.nn.LSTMCell.forward
    _settings: ClassVar[Any] = itemgetter("input_size", "hidden_size", "bias")
    _again = Beside()

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
    _settings: ClassVar[Any] = itemgetter("input_size", "hidden_size", "bias")
    _again = Beside()

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
    _settings: ClassVar[Any] = itemgetter("input_size", "hidden_size", "bias", "nonlinearity")
    _again = Beside()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.RNNCell.forward`: (B, I) in, h of (B, H) out."""
        return _forward(self, input, hx)

    kernel_path = _path
    __prepare_scriptable__ = scriptable
