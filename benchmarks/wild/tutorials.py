"""Networks of tutorials, at their sizes, in torch.nn alone."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor, nn

LEARNING_RATE = 1e-3


class Recurrent(nn.Module):
    """A recurrent layer and a Linear, on every step or on the last."""

    def __init__(self, layer: nn.Module, width: int, on_last: bool) -> None:
        super().__init__()
        self.layer, self.head, self.on_last = layer, nn.Linear(width, 1), on_last

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x)
        return self.head(y[:, -1] if self.on_last else y)


def many_to_many(steps: int) -> None:
    """An LSTM of two layers over (5, 3, 10), and a Linear at every step."""
    x, target = torch.randn(5, 3, 10), torch.randn(5, 3, 1)
    fit(Recurrent(nn.LSTM(10, 20, 2), 20, on_last=False), repeat((x, target), steps))


def gru(steps: int) -> None:
    """A GRU of one sequence of one step."""
    x, target = torch.randn(1, 1, 3), torch.randn(1, 1, 1)
    fit(Recurrent(nn.GRU(3, 5), 5, on_last=False), repeat((x, target), steps))


def sine(steps: int) -> None:
    """Windows of 50 points of a sine wave in shuffled batches of 64, an LSTM of two layers of 50."""
    data = torch.utils.data.TensorDataset(*windows())
    train, _ = torch.utils.data.random_split(data, [0.8, 0.2], torch.Generator().manual_seed(42))
    loader = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True)
    epochs = -(-steps // len(loader))
    model = Recurrent(nn.LSTM(1, 50, 2, batch_first=True), 50, on_last=True)
    fit(model, chain.from_iterable(repeat(loader, epochs)))


def last_step(steps: int) -> None:
    """The same windows in one batch, an LSTM of one layer of 50."""
    fit(Recurrent(nn.LSTM(1, 50, 1, batch_first=True), 50, on_last=True), repeat(windows(), steps))


def windows(length: int = 50) -> tuple[Tensor, Tensor]:
    """(N, 50, 1) windows of a sine wave, and the (N, 1) points that follow."""
    wave = torch.from_numpy(np.sin(np.linspace(0, 1000, 1000))).float()
    return wave.unfold(0, length, 1)[:-1].unsqueeze(-1), wave[length:].unsqueeze(-1)


def fit(model: nn.Module, batches) -> None:
    """Adam on the mean squared error."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for x, target in batches:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), target).backward()
        optimizer.step()
