"""A model of torch, the last step of an LSTM into a linear layer, and the same model accelerated."""

import copy

import torch

import carousel


class LastStep(torch.nn.Module):
    """(B, T, 1) -> (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(1, 50, 1, batch_first=True)
        self.head = torch.nn.Linear(50, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.lstm(x)
        return self.head(h[:, -1])


def train(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """The losses of ten epochs, each one step of Adam on all windows at once."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    torch.manual_seed(0)
    wave = torch.sin(torch.linspace(0, 100, 1000))
    windows = wave.unfold(0, 51, 1)[..., None]  # 50 steps in, the next one out
    x, y = windows[:, :50], windows[:, 50]

    model = LastStep()
    accelerated = carousel.accelerate(copy.deepcopy(model))
    print(", ".join(str(layer) for layer in carousel.accelerated(accelerated)))
    theirs, ours = train(model, x, y), train(accelerated, x, y)
    for epoch, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        print(f"epoch {epoch}  torch {a:.6f}  carousel {b:.6f}")
    print(f"largest difference {max(abs(a - b) for a, b in zip(theirs, ours, strict=True)):.0e}")


if __name__ == "__main__":
    main()
