"""What a fit that was stopped leaves behind, as a value: written by `carousel.forecast.checkpoint`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel.errors import FormatError
from carousel.network.document import document

__all__ = ["Checkpoint", "Named", "Training"]


@document("checkpoint.named", since=3)
@dataclass(frozen=True)
class Named:
    """Arrays by name."""

    names: tuple[str, ...]
    arrays: tuple[NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.arrays):
            raise FormatError(f"{len(self.names)} names for {len(self.arrays)} arrays.")


@document("checkpoint.training", since=3)
@dataclass(frozen=True)
class Training:
    """One training after its last whole epoch.

    Args:
        ended: nothing is left to do.
        steps: of the optimiser.
        loss: the least on held-out rows; None without such rows.
        best_epoch: counted from 1; 0 is the start.
        history: (E, 3) epoch, loss in training, loss on held-out rows (NaN without).
        best: the averaged weights of least loss; None where the start was never beaten.
        last: weights, their average and the optimiser; None where nothing is left to do.
    """

    ended: bool
    steps: int
    loss: float | None
    best_epoch: int
    history: NDArray[np.float64]
    best: Named | None
    last: Named | None

    def __post_init__(self) -> None:
        if self.history.shape[1:] != (3,):
            raise FormatError(f"`history` must have shape (E, 3), got {self.history.shape}.")
        if self.ended == (self.last is not None):
            raise FormatError("`last` must be there unless the training has ended.")


@document("checkpoint", since=3)
@dataclass(frozen=True)
class Checkpoint:
    """A fit, as far as it has come.

    Args:
        version: the programs that wrote it; others may give other bits.
        data: SHA-256 of the rows.
        settings: JSON of the settings.
        trainings: of both rounds, in their order.
    """

    version: str
    data: str
    settings: str
    trainings: tuple[Training, ...]
