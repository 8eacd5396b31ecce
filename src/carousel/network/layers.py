"""The layers of a network as values: what they compute and with which numbers.

Arrays are (T, B, features), gates in torch's order (`carousel.layout`), and every layer has both
biases. A value checks itself when it is made, owns its arrays, and cannot be changed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from carousel.errors import ArgumentError, ShapeError, check_choice, check_shape
from carousel.layout import ORDERS
from carousel.network.arrays import Floats, check_same_dtype, finite
from carousel.network.document import document, later

__all__ = ["Dense", "LastStep", "Recurrent", "Reverse", "Weights"]


@document("weights")
@dataclass(frozen=True, repr=False)
class Weights:
    """One direction of a recurrent layer: a = W x + b_W + R h + b_R, all gates at once.

    Args:
        W: (GH, I), with G = 4 gates for an LSTM, 3 for one with coupled gates and for a GRU, 1 for an RNN.
        R: (GH, H).
        b_W: (GH,); None is no bias, which is a bias of zeros.
        b_R: (GH,); likewise.
        peephole: of an LSTM p_i, p_f, p_o, (3, H), or with coupled gates p_i, p_o, (2, H); None is none.

    All are float32 or all are float64.

    Raises:
        ShapeError: shapes or dtypes that do not fit one another.
        ArgumentError: a number that is not finite.
    """

    W: Floats
    R: Floats
    b_W: Floats = None  # type: ignore[assignment]  # becomes zeros below
    b_R: Floats = None  # type: ignore[assignment]
    peephole: Floats | None = later(None)

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
        arrays = {"W": W, "R": R, "b_W": b_W, "b_R": b_R}
        if self.peephole is not None:
            arrays["peephole"] = finite("peephole", self.peephole)
            check_shape("peephole", arrays["peephole"], f"{GH // H - 1 if H else 0}, H", H=H)
        check_same_dtype(**arrays)
        for name, array in arrays.items():
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
        peephole = 0 if self.peephole is None else self.peephole.size
        return self.W.size + self.R.size + self.b_W.size + self.b_R.size + peephole

    def __repr__(self) -> str:
        return f"Weights(W {self.W.shape}, R {self.R.shape}, {self.dtype})"


@document("recurrent")
@dataclass(frozen=True, repr=False)
class Recurrent:
    """A recurrent layer, one output a step, (T, B, I) -> (T, B, DH), or one a sequence, (B, DH).

    Where a mask (`Masking`, `Embedding`) leaves a step out, the state stays, and the output is that of the step
    before it.

    Args:
        cell: "lstm", "gru" or "rnn"; the equations are in `carousel.reference`.
        directions: one, or two: forward and backward, whose outputs are merged.
        reset: of a GRU, whether the reset gate acts "after" the product with R, as in torch, or "before".
        activation: of an RNN, "tanh" or "relu".
        coupled_gates: of an LSTM, f = 1 - i; weights are of the gates i g o.
        clip: bound of the sums before the activations; None for none.
        reverse: the one direction reads from the end; y[t] still belongs to x[t].
        merge: of two directions: "concat" side by side, or "sum", "mul" or "ave" of them, (T, B, H).
        return_sequences: False gives the state of each direction after its own last step, (B, DH).
        zero_output_for_mask: the output is 0 where a mask leaves a step out.

    Raises:
        ShapeError: weights that do not fit the cell or one another.
        ArgumentError: an option that does not exist, or not for this cell.
    """

    cell: Literal["lstm", "gru", "rnn"]
    directions: tuple[Weights, ...]
    reset: Literal["after", "before"] = "after"
    activation: Literal["tanh", "relu"] = "tanh"
    coupled_gates: bool = later(False)
    clip: float | None = later(None)
    reverse: bool = later(False)
    merge: Literal["concat", "sum", "mul", "ave"] = later("concat")
    return_sequences: bool = later(True)
    zero_output_for_mask: bool = later(False)

    def __post_init__(self) -> None:
        check_choice("cell", self.cell, tuple(ORDERS))
        check_choice("reset", self.reset, ("after", "before"))
        check_choice("activation", self.activation, ("tanh", "relu"))
        check_choice("merge", self.merge, ("concat", "sum", "mul", "ave"))
        for name in ("coupled_gates", "reverse", "return_sequences", "zero_output_for_mask"):
            if type(getattr(self, name)) is not bool:
                raise ArgumentError(f"`{name}` must be True or False, got {getattr(self, name)!r}.")
        directions = tuple(self.directions)
        if len(directions) not in (1, 2) or not all(isinstance(w, Weights) for w in directions):
            raise ArgumentError(
                "`directions` must be one Weights, or two, forward and backward, "
                f"got {[type(w).__name__ for w in directions]}."
            )
        object.__setattr__(self, "directions", directions)
        self._check_options()
        self._check_weights()

    def _check_options(self) -> None:
        """Refuses options of another cell, or of another number of directions."""
        of_cells = {"reset": "gru", "activation": "rnn", "coupled_gates": "lstm"}
        for name, cell in of_cells.items():
            value = getattr(self, name)
            if value not in ("after", "tanh", False) and self.cell != cell:
                raise ArgumentError(
                    f"`{name}` = {value!r} is an option of the cell {cell!r}, got cell {self.cell!r}."
                )
        if self.clip is not None:
            if isinstance(self.clip, bool) or not 0 < self.clip < float("inf"):
                raise ArgumentError(f"`clip` must be above 0, or None for no bound, got {self.clip!r}.")
            object.__setattr__(self, "clip", float(self.clip))
        if self.bidirectional and self.reverse:
            raise ArgumentError("`reverse` is for one direction; the second of two reads backwards anyway.")
        if not self.bidirectional and self.merge != "concat":
            raise ArgumentError(f"`merge` = {self.merge!r} needs two directions, got one.")

    def _check_weights(self) -> None:
        G = len(ORDERS[self.cell]["torch"]) - self.coupled_gates
        for w in self.directions:
            check_shape("R", w.R, f"{G}H, H")
            if w.peephole is not None and self.cell != "lstm":
                raise ArgumentError(f"`peephole` is an option of the cell 'lstm', got cell {self.cell!r}.")
        sizes = {(w.hidden_size, w.input_size) for w in self.directions}
        if len(sizes) > 1:
            raise ShapeError(
                f"`directions` must have the same sizes, got (H, I) = {' and '.join(map(str, sizes))}."
            )
        if len({w.peephole is None for w in self.directions}) > 1:
            raise ArgumentError("`directions` must both have a `peephole`, or neither.")
        check_same_dtype(forward=self.directions[0].W, backward=self.directions[-1].W)

    @property
    def input_size(self) -> int:
        return self.directions[0].input_size

    @property
    def hidden_size(self) -> int:
        return self.directions[0].hidden_size

    @property
    def output_size(self) -> int:
        return self.hidden_size * (len(self.directions) if self.merge == "concat" else 1)

    @property
    def bidirectional(self) -> bool:
        return len(self.directions) == 2

    @property
    def reads_backwards(self) -> bool:
        """Whether a direction starts at the end of the sequence."""
        return self.bidirectional or self.reverse

    @property
    def beyond(self) -> tuple[str, ...]:
        """The options that are on, of those that torch's equations and layers do not have."""
        on = {
            "peephole": self.directions[0].peephole is not None,
            "coupled_gates": self.coupled_gates,
            "clip": self.clip is not None,
            "reverse": self.reverse,
            "merge": self.merge != "concat",
            "return_sequences": not self.return_sequences,
            "zero_output_for_mask": self.zero_output_for_mask,
        }
        return tuple(name for name, is_on in on.items() if is_on)

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
            words.append("bidirectional" if self.merge == "concat" else f"bidirectional {self.merge}")
        words += [name for name in ("peephole", "coupled_gates", "reverse") if name in self.beyond]
        if self.clip is not None:
            words.append(f"clip {self.clip:g}")
        if not self.return_sequences:
            words.append("last")
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
        check_same_dtype(W=W, b=b)
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

    title = "LastStep"


@document("reverse", since=2)
@dataclass(frozen=True)
class Reverse:
    """The steps of a sequence from last to first, (T, B, F) -> (T, B, F); a mask stays where it is."""

    title = "Reverse"
