"""The tutorials' program: an LSTM learns to continue a sine wave, and is judged in two ways.

1000 points of sin(x), windows of 50 points, the point after each window is the target. Most tutorials split
such windows at random. Neighbouring windows share 49 points, so the test windows have near twins among the
training windows: in principle the test error says nothing about the future. Here both splits are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from carousel.nn import LSTM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

__all__ = ["Outcome", "SineNet", "draw", "more_errors", "run", "train", "windows"]

POINTS, WINDOW, HIDDEN, LAYERS = 1000, 50, 50, 2
BATCH, EPOCHS, LEARNING_RATE, SPLIT_SEED, TRAINING_SHARE = 64, 5, 1e-3, 42, 0.8
LONGER = 20  # epochs: after five, the tutorials' number, the loss still falls steeply
SEEDS = 5  # the error after 5 epochs depends on the seed more than on the split


class SineNet(torch.nn.Module):
    """Window -> LSTM -> last step -> one number."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = LSTM(1, HIDDEN, LAYERS, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 1) -> (B, 1)."""
        y, _ = self.lstm(x)
        result: Tensor = self.head(y[:, -1])
        return result


@dataclass(frozen=True)
class Outcome:
    """What training on one split gave.

    Args:
        losses: mean squared error of each epoch, on the training windows.
        error: mean squared error on the test windows.
        index: (N,) which points of the series were tested.
        actual: (N,) their values.
        predicted: (N,) what the network said.
    """

    losses: tuple[float, ...]
    error: float
    index: np.ndarray[Any, Any]
    actual: np.ndarray[Any, Any]
    predicted: np.ndarray[Any, Any]


def windows(series: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Every stretch of `length` points, (N, length, 1), and the point after it, (N, 1).

    Example:
        >>> x, y = windows(torch.arange(5.0), 3)
        >>> x[..., 0].tolist(), y[..., 0].tolist()
        ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [3.0, 4.0])
    """
    return series[:-1].unfold(0, length, 1).unsqueeze(-1), series[length:].unsqueeze(-1)


def train(model: SineNet, x: Tensor, y: Tensor, epochs: int) -> Iterator[float]:
    """Trains by Adam on the mean squared error; yields the loss of each epoch."""
    batches = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for _ in range(epochs):
        total = 0.0
        for x_batch, y_batch in batches:
            loss = mse_loss(model(x_batch), y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x_batch)
        yield total / len(x)


def run(split: str, report: Callable[[int, float], None], seed: int = 0, epochs: int = EPOCHS) -> Outcome:
    """Trains on four fifths of the windows and tests on the rest.

    Args:
        split: "shuffled", a random fifth is the test part, or "chronological", the last fifth is.
        report: called with the number and the loss of each epoch.
        seed: of the weights and of the order of the batches.
    """
    x, y = windows(torch.sin(torch.linspace(0, POINTS, POINTS)), WINDOW)
    order = torch.arange(len(x))
    if split == "shuffled":
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SPLIT_SEED))
    training, test = order.tensor_split([int(TRAINING_SHARE * len(x))])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SineNet()
        losses = []
        for epoch, loss in enumerate(train(model, x[training], y[training], epochs), 1):
            report(epoch, loss)
            losses.append(loss)
    with torch.inference_mode():
        predicted = model(x[test])
    error = mse_loss(predicted, y[test]).item()
    return Outcome(tuple(losses), error, (test + WINDOW).numpy(), y[test, 0].numpy(), predicted[:, 0].numpy())


def more_errors(split: str) -> list[float]:
    """The test errors of the other seeds."""
    return [run(split, lambda epoch, loss: None, seed).error for seed in range(1, SEEDS)]


def draw(outcome: Outcome, longer: Outcome) -> Figure:
    """Actual against predicted values on the test part, and the errors below, those of a longer training too."""
    from matplotlib.figure import Figure

    from carousel.forecast.plot import BLUE

    figure = Figure((12, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    step = POINTS / (POINTS - 1)
    fine = np.linspace(outcome.index.min(), outcome.index.max(), 20 * len(outcome.index))
    upper.plot(fine, np.sin(step * fine), color="0.8", lw=1, label="sin")
    upper.plot(outcome.index, outcome.actual, "o", color="0.25", ms=4, label="actual")
    upper.plot(
        outcome.index,
        outcome.predicted,
        "o",
        color=BLUE,
        ms=6.5,
        mfc="none",
        mew=1.1,
        label=_predicted(outcome),
    )
    upper.plot(longer.index, longer.predicted, ".", color="#c2410c", ms=4, label=_predicted(longer))
    upper.set(ylabel="value", ylim=(-1.35, 1.55))
    upper.set_title(
        f"A sine wave, one step ahead: the last {len(outcome.index)} points, none of them seen in training",
        loc="left",
    )
    upper.legend(loc="upper right", ncols=4, frameon=False)
    lower.axhline(0, color="0.8", lw=1)
    for shown, color in ((outcome, BLUE), (longer, "#c2410c")):
        lower.vlines(shown.index, 0, shown.predicted - shown.actual, color=color, lw=1.2)
    lower.set(xlabel="point", ylabel="error")
    lower.set_title(
        f"mean squared error {outcome.error:.2g} and {longer.error:.2g}",
        loc="left",
        fontsize="medium",
    )
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    return figure


def _predicted(outcome: Outcome) -> str:
    return f"predicted after {len(outcome.losses)} epochs"
