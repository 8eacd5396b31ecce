"""Draws the pictures of the documentation, from real runs: `python docs/figures.py [FOLDER]`.

gates.svg      the tutorials' sine model is trained with carousel.nn; its weights then run in the NumPy
               reference, whose cache holds every gate of every step
gradients.svg  how far back a gradient reaches, measured with the reference's backward pass
airline.svg    what `carousel demo airline` draws
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from carousel.cli.demos import airline
from carousel.layout import Array, Weights
from carousel.nn import LSTM
from carousel.reference import lstm, rnn, stack
from carousel.reference.stack import Layer, Stack

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
UNITS = ("#0b6e99", "#d9730d", "#6940a5")  # told apart by colour-blind readers too
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "carousel",  # same picture, same bytes
}

WINDOW, HIDDEN = 50, 50


def sine_model(epochs: int = 60) -> tuple[Stack, Array, float]:
    """The sine model after training: the network, the series, the loss on the last fifth of it."""
    torch.manual_seed(42)
    series = np.sin(np.linspace(0, 1000, 1000))
    windows = torch.tensor(series, dtype=torch.float32).unfold(0, WINDOW + 1, 1)
    # In the order of time; no window of one part reaches into the other.
    train, test = windows[:760], windows[800:]
    recurrent, head = LSTM(1, HIDDEN, 2), torch.nn.Linear(HIDDEN, 1)
    parameters = [*recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        h, _ = recurrent(rows[:, :WINDOW].T[..., None])
        return torch.nn.functional.mse_loss(head(h[-1])[:, 0], rows[:, WINDOW])

    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
    W_ih, W_hh, b_ih, b_hh = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    state = {name: value.double().numpy() for name, value in recurrent.state_dict().items()}
    layers = [
        Layer("lstm", [Weights(*(state[f"{name}_l{k}"] for name in (W_ih, W_hh, b_ih, b_hh)))])
        for k in range(2)
    ]
    readout = stack.Dense(head.weight.detach().double().numpy(), head.bias.detach().double().numpy())
    with torch.no_grad():
        return Stack(layers, readout), series, loss(test).item()


def draw_gates(path: Path) -> None:
    """The gates, cell and hidden state of three units of the last layer, over one window."""
    net, series, error = sine_model()
    x = series[850 : 850 + WINDOW, None, None]
    forecast, _, cache = stack.forward(x, net)
    print(f"sine model: test MSE {error:.1e}")
    top = cache.layers[1][0]
    weight = np.abs(net.head.W[0]) * top.h[1:, 0].std(axis=0)  # what moves the forecast
    units = np.argsort(weight)[::-1][: len(UNITS)]
    rows = [
        ("f", "forget gate", "(1)", top.f, (0, 1)),
        ("i", "input gate", "(2)", top.i, (0, 1)),
        ("g", "candidate", "(3)", top.g, (-1, 1)),
        ("c", "cell state", "(4)", top.c[1:], None),
        ("o", "output gate", "(5)", top.o, (0, 1)),
        ("h", "hidden state", "(6)", top.h[1:], (-1, 1)),
    ]
    figure, axes = plt.subplots(
        7, 1, figsize=(7.4, 8.6), sharex=True, height_ratios=[1.15, 1, 1, 1, 1, 1, 1], layout="constrained"
    )
    steps = np.arange(1, WINDOW + 1)
    axes[0].plot(steps, x[:, 0, 0], color=MUTED, label="input x")
    axes[0].plot(
        steps + 1, forecast[:, 0, 0], "--", color=INK, linewidth=1.1, label="forecast of the next step"
    )
    axes[0].legend(loc="upper right", ncols=2, frameon=False, bbox_to_anchor=(1, 1.42))
    _label(axes[0], "x", "sine wave", "")
    for axis, (symbol, name, number, values, limits) in zip(axes[1:], rows, strict=True):
        for unit, colour in zip(units, UNITS, strict=True):
            axis.plot(steps, values[:, 0, unit], color=colour, label=f"unit {unit}")
        if limits:
            pad = 0.06 * (limits[1] - limits[0])
            axis.set_ylim(limits[0] - pad, limits[1] + pad)
            axis.set_yticks([limits[0], sum(limits) / 2, limits[1]])
        _label(axis, symbol, name, number)
    axes[1].legend(loc="upper right", ncols=3, frameon=False, bbox_to_anchor=(1, 1.42))
    axes[-1].set_xlabel("step t of the window")
    axes[-1].set_xlim(1, WINDOW + 1)
    _save(figure, path)


def draw_gradients(path: Path) -> None:
    """∂L/∂x over the distance from the loss, for a plain RNN and for three forget biases."""
    figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    curves = [("RNN, tanh", gradient_norms(rnn, 0), INK, "-")]
    for bias, colour in zip((0, 1, 2), UNITS, strict=True):
        curves.append((f"LSTM, forget bias {bias}", gradient_norms(lstm, bias), colour, "-"))
    for label, norms, colour, line in curves:
        print(f"{label}: {norms[-1] / norms[0]:.1e} after {len(norms) - 1} steps")
        axis.semilogy(norms / norms[0], line, color=colour)
        axis.text(len(norms), norms[-1] / norms[0], f" {label}", color=colour, va="center")
    axis.set_xlim(0, 100)
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("steps between the input and the loss")
    axis.set_ylabel("gradient, relative to the last input's")
    _save(figure, path)


def gradient_norms(cell, forget_bias: float, T: int = 101, B: int = 8, H: int = 32) -> Array:
    """‖∂L/∂x_t‖ (T,), the last step first, of an untrained layer with torch's initial weights."""
    rng = np.random.default_rng(0)
    G = 4 * H if cell is lstm else H
    W, R = (rng.uniform(-1, 1, (G, n)) / np.sqrt(H) for n in (1, H))
    b = np.zeros(G)
    if cell is lstm:
        b[H : 2 * H] = forget_bias
    w = Weights(W, R, b, np.zeros(G))
    dy = np.zeros((T, B, H))
    dy[-1] = rng.normal(size=(B, H))
    dx = cell.backward(dy, w, cell.forward(rng.normal(size=(T, B, 1)), w)[2]).x
    return np.linalg.norm(dx, axis=(1, 2))[::-1]


def _label(axis: Axes, symbol: str, name: str, number: str) -> None:
    """The symbol, upright at the left, and what it is above the panel."""
    axis.set_ylabel(symbol, rotation=0, labelpad=14, va="center", fontsize=12, fontstyle="italic")
    axis.set_title(f"{name}  {number}".rstrip(), loc="left", fontsize=9, color=MUTED, pad=3)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def main(folder: Path, suffix: str = ".svg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        draw_gates(folder / f"gates{suffix}")
        draw_gradients(folder / f"gradients{suffix}")
        _save(airline.draw(airline.run()), folder / f"airline{suffix}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2] or [Path(__file__).with_name("figures")]), *sys.argv[2:3])
