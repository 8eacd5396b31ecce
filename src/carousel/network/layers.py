"""The layers of a network as values: what they compute and with which numbers.

Arrays are (T, B, features), gates in torch's order (`carousel.layout`), and every layer has both
biases. A value checks itself when it is made, owns its arrays, and cannot be changed.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from carousel.errors import ArgumentError, ShapeError, check_choice, check_shape
from carousel.layout import ORDERS, check_weights
from carousel.network.arrays import Floats, finite
from carousel.network.document import document

__all__ = ["Dense", "LastStep", "Layer", "Recurrent", "Weights"]


@document("weights")
@dataclass(frozen=True, repr=False)
class Weights:
    """One direction of a recurrent layer: a = W x + b_W + R h + b_R, all gates at once.

    Args:
        W: (GH, I), with G = 4 gates for an LSTM, 3 for a GRU, 1 for an RNN.
        R: (GH, H).
        b_W: (GH,); None is no bias, which is a bias of zeros.
        b_R: (GH,); likewise.

    All are float32 or all are float64.

    Raises:
        ShapeError: shapes or dtypes that do not fit one another.
        ArgumentError: a number that is not finite.
    """

    W: Floats
    R: Floats
    b_W: Floats = None  # type: ignore[assignment]  # becomes zeros below
    b_R: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        W, R = finite("W", self.W), finite("R", self.R)
        GH, H = check_shape("R", R, "GH, H")
        b_W, b_R = (
            finite(name, np.zeros(GH, W.dtype) if bias is None else bias)
            for name, bias in (("b_W", self.b_W), ("b_R", self.b_R))
        )
        if GH not in {len(gates["torch"]) * H for gates in ORDERS.values()}:
            raise ShapeError(f"`R` must have shape (GH, H) with G = 1, 3 or 4 gates, got {R.shape}.")
        for name, array, axes in (("W", W, f"{GH}, I"), ("b_W", b_W, f"{GH}"), ("b_R", b_R, f"{GH}")):
            check_shape(name, array, axes)
        _check_same_dtype(W=W, R=R, b_W=b_W, b_R=b_R)
        for name, array in (("W", W), ("R", R), ("b_W", b_W), ("b_R", b_R)):
            object.__setattr__(self, name, array)

    @property
    def input_size(self) -> int:
        return int(self.W.shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self.R.shape[1])

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self.W.dtype

    @property
    def parameter_count(self) -> int:
        return self.W.size + self.R.size + self.b_W.size + self.b_R.size

    def __repr__(self) -> str:
        return f"Weights(W {self.W.shape}, R {self.R.shape}, {self.dtype})"


@document("recurrent")
@dataclass(frozen=True, repr=False)
class Recurrent:
    """A recurrent layer, one output a step: (T, B, I) -> (T, B, DH).

    Args:
        cell: "lstm", "gru" or "rnn"; the equations are in `carousel.reference`.
        directions: one, or two: forward and backward, whose outputs stand side by side.
        reset: of a GRU, whether the reset gate acts "after" the product with R, as in torch, or "before".
        activation: of an RNN, "tanh" or "relu".

    Raises:
        ShapeError: weights that do not fit the cell or one another.
        ArgumentError: an option that does not exist, or not for this cell.
    """

    cell: Literal["lstm", "gru", "rnn"]
    directions: tuple[Weights, ...]
    reset: Literal["after", "before"] = "after"
    activation: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        check_choice("cell", self.cell, tuple(ORDERS))
        check_choice("reset", self.reset, ("after", "before"))
        check_choice("activation", self.activation, ("tanh", "relu"))
        if self.reset == "before" and self.cell != "gru":
            raise ArgumentError(f"`reset` = 'before' is an option of the cell 'gru', got cell {self.cell!r}.")
        if self.activation == "relu" and self.cell != "rnn":
            raise ArgumentError(
                f"`activation` = 'relu' is an option of the cell 'rnn', got cell {self.cell!r}."
            )
        directions = tuple(self.directions)
        if len(directions) not in (1, 2) or not all(isinstance(w, Weights) for w in directions):
            raise ArgumentError(
                "`directions` must be one Weights, or two, forward and backward, "
                f"got {[type(w).__name__ for w in directions]}."
            )
        sizes = {check_weights(self.cell, w.W, w.R, w.b_W, w.b_R) for w in directions}
        if len(sizes) > 1:
            raise ShapeError(
                f"`directions` must have the same sizes, got (H, I) = {' and '.join(map(str, sizes))}."
            )
        _check_same_dtype(forward=directions[0].W, backward=directions[-1].W)
        object.__setattr__(self, "directions", directions)

    @property
    def input_size(self) -> int:
        return self.directions[0].input_size

    @property
    def hidden_size(self) -> int:
        return self.directions[0].hidden_size

    @property
    def output_size(self) -> int:
        return self.hidden_size * len(self.directions)

    @property
    def bidirectional(self) -> bool:
        return len(self.directions) == 2

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self.directions[0].dtype

    @property
    def parameter_count(self) -> int:
        return sum(weights.parameter_count for weights in self.directions)

    @property
    def title(self) -> str:
        """What it is, in one line: `GRU, reset before, bidirectional`."""
        words = [self.cell.upper()]
        if self.cell == "gru" and self.reset == "before":
            words.append("reset before")
        if self.cell == "rnn":
            words.append(self.activation)
        if self.bidirectional:
            words.append("bidirectional")
        return ", ".join(words)

    def __repr__(self) -> str:
        return f"Recurrent({self.title}, {self.input_size} -> {self.output_size})"


@document("dense")
@dataclass(frozen=True, repr=False)
class Dense:
    """y = activation(W x + b) on the last axis, whatever axes stand before it.

    Args:
        W: (O, I), float32 or float64.
        b: (O,), of the same dtype; None is no bias, which is a bias of zeros.
        activation: "identity", "sigmoid", "tanh" or "relu".

    Raises:
        ShapeError: shapes or dtypes that do not fit one another.
        ArgumentError: an activation that does not exist, a number that is not finite.
    """

    W: Floats
    b: Floats = None  # type: ignore[assignment]  # becomes zeros below
    activation: Literal["identity", "sigmoid", "tanh", "relu"] = "identity"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ("identity", "sigmoid", "tanh", "relu"))
        W = finite("W", self.W)
        O, _ = check_shape("W", W, "O, I")
        b = finite("b", np.zeros(O, W.dtype) if self.b is None else self.b)
        check_shape("b", b, "O", O=O)
        _check_same_dtype(W=W, b=b)
        object.__setattr__(self, "W", W)
        object.__setattr__(self, "b", b)

    @property
    def input_size(self) -> int:
        return int(self.W.shape[1])

    @property
    def output_size(self) -> int:
        return int(self.W.shape[0])

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self.W.dtype

    @property
    def parameter_count(self) -> int:
        return self.W.size + self.b.size

    @property
    def title(self) -> str:
        """What it is, in one line: `Dense, sigmoid`."""
        return "Dense" if self.activation == "identity" else f"Dense, {self.activation}"

    def __repr__(self) -> str:
        return f"Dense({self.activation}, {self.input_size} -> {self.output_size})"


@document("last_step")
@dataclass(frozen=True)
class LastStep:
    """The last step of a sequence: (T, B, F) -> (B, F)."""


Layer: TypeAlias = Recurrent | Dense | LastStep


def _check_same_dtype(**arrays: Floats) -> None:
    if len({array.dtype for array in arrays.values()}) > 1:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise ShapeError(f"All arrays must have the same dtype, float32 or float64, got {listed}.")
