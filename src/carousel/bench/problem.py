"""One thing to time: a cell, its sizes, and forward only or forward with backward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from carousel.errors import check_choice, check_integer
from carousel.layout import ORDERS

__all__ = ["MODES", "SHAPES", "SIZES", "Problem", "Shape", "problems"]

SIZES = ("inputs", "hidden", "layers", "batch", "steps")
MODES = ("inference", "training")

Shape: TypeAlias = tuple[int, int, int, int, int]
"""I, H, L, B, T."""

SHAPES: tuple[Shape, ...] = (
    (1, 50, 2, 64, 50),  # the tutorials' sine model
    (10, 20, 2, 3, 5),  # the many-to-many tutorial
    (8, 64, 1, 1, 100),  # a batch of one
    (32, 128, 1, 32, 100),
    (128, 256, 2, 64, 96),
    (512, 512, 1, 32, 100),
    (1024, 1024, 1, 16, 50),
)


@dataclass(frozen=True)
class Problem:
    """A stack of equal layers over a batch of sequences.

    Example:
        >>> print(Problem("gru", 1, 50, 2, 64, 50, "training"))
        GRU (1, 50, 2, 64, 50) training
    """

    cell: str
    inputs: int
    hidden: int
    layers: int
    batch: int
    steps: int
    mode: str

    def __post_init__(self) -> None:
        check_choice("cell", self.cell, ("lstm", "gru", "rnn"))
        check_choice("mode", self.mode, MODES)
        for name in SIZES:
            check_integer(name, getattr(self, name), 1)

    def __str__(self) -> str:
        return f"{self.cell.upper()} {self.shape} {self.mode}"

    @property
    def shape(self) -> Shape:
        """I, H, L, B, T."""
        return self.inputs, self.hidden, self.layers, self.batch, self.steps

    @property
    def flops(self) -> float:
        """Multiplications and additions of the matrix products.

        Backward needs twice what forward does, dx and dW; the dx of the first layer is not asked for.

        Example:
            >>> Problem("rnn", 3, 2, 1, 1, 1, "inference").flops, Problem("rnn", 3, 2, 1, 1, 1, "training").flops
            (20.0, 48.0)
        """
        I, H, L, B, T = self.shape
        GH = len(ORDERS[self.cell]["torch"]) * H  # type: ignore[index]
        first = 2.0 * GH * I * B * T
        forward = first + 2.0 * GH * (L * H + (L - 1) * H) * B * T
        return forward if self.mode == "inference" else 3 * forward - first


def problems(cells: Iterable[str] = ("lstm", "gru"), shapes: Sequence[Shape] = SHAPES) -> list[Problem]:
    """Every cell with every shape, inference and training."""
    return [Problem(cell, *shape, mode) for cell in cells for shape in shapes for mode in MODES]
