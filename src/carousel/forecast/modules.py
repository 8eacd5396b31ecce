"""The three networks in torch: the same mathematics as `carousel.stream`, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, NegativeBinomial, StudentT

from carousel.interop.torch import recurrent_layers
from carousel.network import Dense, LastStep, Network
from carousel.network.forecaster import DeepARPath, PlainPath, RecurrentPath
from carousel.nn import GRU, LSTM, RNN
from carousel.series.autoregression import LEAST, TINY

__all__ = ["DeepARNet", "PlainNet", "SegmentNet", "recurrent"]

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
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        segment: int,
        cell: str,
        hidden: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.segment = segment
        self.embed = nn.Linear(inputs[0], hidden)
        self.rnn = recurrent(cell, hidden, hidden, layers)
        self.position = nn.Linear(inputs[1], hidden)
        self.head = nn.Linear(hidden, segment)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, past: Tensor, future: Tensor, kept: Tensor | None = None) -> Tensor:
        """(T, B, ·) and (J, B, ·) to (B, J * segment).

        Args:
            kept: (J * B, H) what the decoded states are multiplied with: of dropout, 0 or 1 / (1 - rate).
        """
        J, B, _ = future.shape
        _, state = self.rnn(torch.relu(self.embed(past)))
        if isinstance(state, tuple):
            state = tuple(s.repeat(1, J, 1) for s in state)
        else:
            state = state.repeat(1, J, 1)
        step = torch.relu(self.position(future)).reshape(1, J * B, -1)
        y, _ = self.rnn(step, state)
        rows: Tensor = self.head(y[0] if kept is None else y[0] * kept).reshape(J, B, self.segment)
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


class PlainNet(nn.Module):
    """The tutorials' network: the window -> recurrent layers -> last state -> Linear(K)."""

    def __init__(self, cell: str, hidden: int, layers: int, horizon: int) -> None:
        super().__init__()
        self.rnn = recurrent(cell, 1, hidden, layers)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, window: Tensor) -> Tensor:
        """(L, B, 1) to (B, K)."""
        _, state = self.rnn(window)
        h = state[0] if isinstance(state, tuple) else state
        output: Tensor = self.head(h[-1])
        return output

    def value(self) -> PlainPath:
        """What was learned, as arrays."""
        return PlainPath(Network((*recurrent_layers(self.rnn), LastStep(), _dense(self.head, "identity"))))


class DeepARNet(nn.Module):
    """An autoregressive network: rows -> recurrent layers -> the distribution of the next row.

    Its degrees of freedom are one number for all rows, 2 + softplus(f), and start at about 5.

    Args:
        inputs: of a row.
        counts: the likelihood is the negative binomial; else Student's t.

    Source: Salinas, Flunkert, Gasthaus and Januschowski 2020, sections 3 and 3.1.
    """

    def __init__(self, cell: str, inputs: int, hidden: int, layers: int, counts: bool) -> None:
        super().__init__()
        self.counts = counts
        self.rnn = recurrent(cell, inputs, hidden, layers)
        self.head = nn.Linear(hidden, 2)
        self.f = None if counts else nn.Parameter(torch.tensor(3.0))

    def forward(self, rows: Tensor) -> Tensor:
        """(T, B, I) to (T, B, 2)."""
        y, _ = self.rnn(rows)
        output: Tensor = self.head(y)
        return output

    def loss(self, rows: Tensor, size: Tensor, target: Tensor) -> Tensor:
        """(B, K) the negative log-likelihood of the last K rows, in float64.

        Args:
            rows: (T, B, I), each with the row before it.
            size: (B, 1) of the unit of the window.
            target: (B, K) in the unit of the window.
        """
        o = self(rows)[-target.shape[1] :].transpose(0, 1).double()
        size, target = size.double(), target.double()
        spread = nn.functional.softplus(o[..., 1])
        if self.f is None:
            mean = size * (nn.functional.softplus(o[..., 0]) + TINY)
            shape = spread / size.sqrt() + TINY
            distribution: Distribution = NegativeBinomial(
                1 / shape, logits=(shape * mean).log(), validate_args=False
            )
            target = target * size
        else:
            distribution = StudentT(
                2 + nn.functional.softplus(self.f).double(), o[..., 0], spread + LEAST, validate_args=False
            )
        return -distribution.log_prob(target)

    def value(self) -> DeepARPath:
        """What was learned, as arrays."""
        network = Network((*recurrent_layers(self.rnn), _dense(self.head, "identity")))
        freedom = None if self.f is None else 2 + float(nn.functional.softplus(self.f.detach().double()))
        return DeepARPath(network, "student" if freedom else "negative-binomial", freedom)


def _dense(linear: nn.Linear, activation: Any) -> Dense:
    W, b = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    return Dense(np.array(W), np.array(b), activation)
