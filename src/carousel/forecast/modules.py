"""The two networks in torch: the same mathematics as `carousel.stream`, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carousel.interop.torch import recurrent_layers
from carousel.network import Dense, LastStep, Network
from carousel.network.forecaster import PlainPath, RecurrentPath
from carousel.nn import GRU, LSTM, RNN

__all__ = ["PlainNet", "SegmentNet", "recurrent"]

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def recurrent(cell: str, inputs: int, hidden: int, layers: int) -> nn.RNNBase:
    """A recurrent module of `layers` layers."""
    return CELLS[cell](inputs, hidden, layers)


class SegmentNet(nn.Module):
    """The recurrent path: reads past segments, decodes all future segments in parallel.

        h = R(relu(W_e past))        rows = W_o R(relu(W_p future); h)

    It starts at zero output, so that the forecast starts as the linear path's.

    Args:
        inputs: sizes of a past and a future segment's inputs.
        segment: rows of a segment.
        dropout: of the decoded state.
        generator: draws the dropout masks; torch's global one is left alone.
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        segment: int,
        cell: str,
        hidden: int,
        layers: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.segment, self.dropout, self.generator = segment, dropout, generator
        self.embed = nn.Linear(inputs[0], hidden)
        self.rnn = recurrent(cell, hidden, hidden, layers)
        self.position = nn.Linear(inputs[1], hidden)
        self.head = nn.Linear(hidden, segment)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, past: Tensor, future: Tensor) -> Tensor:
        """(T, B, ·) and (J, B, ·) to (B, J * segment)."""
        J, B, _ = future.shape
        _, state = self.rnn(torch.relu(self.embed(past)))
        if isinstance(state, tuple):
            state = tuple(s.repeat(1, J, 1) for s in state)
        else:
            state = state.repeat(1, J, 1)
        step = torch.relu(self.position(future)).reshape(1, J * B, -1)
        y, _ = self.rnn(step, state)
        rows: Tensor = self.head(self._drop(y[0])).reshape(J, B, self.segment)
        return rows.transpose(0, 1).reshape(B, J * self.segment)

    def value(self, shrink: float) -> RecurrentPath:
        """What was learned, as arrays."""
        return RecurrentPath(
            segment=self.segment,
            embed=_dense(self.embed, "relu"),
            layers=recurrent_layers(self.rnn),
            position=_dense(self.position, "relu"),
            head=_dense(self.head, "identity"),
            shrink=shrink,
        )

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.dropout
        return x * kept / (1 - self.dropout)


class PlainNet(nn.Module):
    """The tutorials' network: the window -> recurrent layers -> last state -> Linear(K)."""

    def __init__(self, cell: str, hidden: int, layers: int, horizon: int) -> None:
        super().__init__()
        self.rnn = recurrent(cell, 1, hidden, layers)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, window: Tensor) -> Tensor:
        """(L, B, 1) to (B, K)."""
        y, _ = self.rnn(window)
        output: Tensor = self.head(y[-1])
        return output

    def value(self) -> PlainPath:
        """What was learned, as arrays."""
        return PlainPath(Network((*recurrent_layers(self.rnn), LastStep(), _dense(self.head, "identity"))))


def _dense(linear: nn.Linear, activation: Any) -> Dense:
    W, b = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    return Dense(np.array(W), np.array(b), activation)
