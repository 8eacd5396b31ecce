"""An output at every step: two LSTM layers, and a linear layer on each step's hidden state."""

import torch

import carousel.nn


class ManyToMany(torch.nn.Module):
    """(T, B, input_size) -> (T, B, output_size)."""

    def __init__(self, input_size: int, hidden_size: int, layers: int, output_size: int) -> None:
        super().__init__()
        self.lstm = carousel.nn.LSTM(input_size, hidden_size, layers)
        self.head = torch.nn.Linear(hidden_size, output_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.lstm(x)
        return self.head(h)


def main() -> None:
    torch.manual_seed(0)
    model = ManyToMany(input_size=10, hidden_size=20, layers=2, output_size=1)
    x = torch.randn(5, 3, 10)  # 5 steps, 3 sequences, 10 inputs
    y = model(x)
    print("output", tuple(y.shape))  # (5, 3, 1): one number a step and sequence

    loss = torch.nn.functional.mse_loss(y, torch.zeros_like(y))
    loss.backward()
    reached = all(p.grad is not None and p.grad.any() for p in model.parameters())
    print("every weight has its gradient:", reached)

    theirs = torch.nn.LSTM(10, 20, 2)
    theirs.load_state_dict(model.lstm.state_dict())  # the same parameters under the same names
    print("as torch.nn.LSTM:", torch.allclose(theirs(x)[0], model.lstm(x)[0], atol=1e-6))


if __name__ == "__main__":
    main()
