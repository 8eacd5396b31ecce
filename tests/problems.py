"""Problems of the kernels as strings, shared by tests and benchmarks: one string reproduces one case.

    lstm:T7,B3,I5,H33,rev,nobias,f32

is an LSTM over 7 steps of 3 rows of 5 inputs, 33 hidden units, from the last step to the first, without
biases, in float32. Every failure names its problem; this judges it again, and any number of others:

    [CAROUSEL_ISA=avx2] python tests/kernels.py "lstm:T7,B3,I5,H33,rev,nobias,f32"

After the colon, in this order, what is not the default:

    T B I H        steps, batch rows, inputs, hidden units
    rev            reversed                     nobias    neither bias         nostate   no initial state
    batch          x and y are batch-major      half      y is half of a bidirectional layer's, x a slice
    f32 f64        dtype                        seed=3    of the data
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from carousel.layout import Weights

CELLS = ("lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu")  # in the order of csrc/carousel.h
GATES = dict(zip(CELLS, (4, 3, 3, 1, 1), strict=True))
DTYPES = {"f32": np.float32, "f64": np.float64}
LAYOUTS = ("time", "batch", "half")


class Data(NamedTuple):
    """What a layer reads, forward and backward, contiguous and time-major."""

    x: np.ndarray  # (T, B, I)
    h_0: np.ndarray | None  # (B, H)
    c_0: np.ndarray | None
    w: Weights  # biases are zeros where the problem has none
    dy: np.ndarray  # (T, B, H)
    dh_n: np.ndarray  # (B, H)
    dc_n: np.ndarray | None


@dataclass(frozen=True)
class Problem:
    """One direction of one layer over one batch."""

    cell: str
    T: int = 5
    B: int = 3
    I: int = 4
    H: int = 8
    reverse: bool = False
    bias: bool = True
    state: bool = True
    layout: str = "time"
    dtype: str = "f32"
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Problem:
        """The problem that a string says; ValueError names the word that it does not know."""
        cell, _, words = text.partition(":")
        if cell not in CELLS:
            raise ValueError(f"{text!r}: the cell must be one of {', '.join(CELLS)}, got {cell!r}.")
        said: dict[str, object] = {}
        for word in filter(None, words.split(",")):
            if word == "rev":
                said["reverse"] = True
            elif word in ("nobias", "nostate"):
                said[word[2:]] = False
            elif word in LAYOUTS:
                said["layout"] = word
            elif word in DTYPES:
                said["dtype"] = word
            elif word.startswith("seed=") and word[5:].isdigit():
                said["seed"] = int(word[5:])
            elif word[0] in "TBIH" and word[1:].isdigit():
                said[word[0]] = int(word[1:])
            else:
                raise ValueError(f"{text!r}: unknown word {word!r}.")
        return cls(cell, **said)  # type: ignore[arg-type]

    def __str__(self) -> str:
        words = [f"T{self.T}", f"B{self.B}", f"I{self.I}", f"H{self.H}"]
        words += [word for word, said in (("rev", self.reverse), ("nobias", not self.bias)) if said]
        words += [word for word, said in (("nostate", not self.state),) if said]
        words += [self.layout] if self.layout != "time" else []
        words += [self.dtype] + ([f"seed={self.seed}"] if self.seed else [])
        return f"{self.cell}:{','.join(words)}"

    @property
    def gates(self) -> int:
        return GATES[self.cell]

    @property
    def has_cells(self) -> bool:
        return self.cell == "lstm"

    def data(self) -> Data:
        """Arrays of the problem's dtype, random and nowhere zero; equal for equal problems.

        Weights are such that sums before an activation are near 1 for any I and H, and that R shrinks what it
        carries. An initial state is drawn even where it is not used: equal seeds, equal rest.
        """
        T, B, I, H, G = self.T, self.B, self.I, self.H, self.gates * self.H
        rng = np.random.default_rng([self.seed, *(ord(c) for c in self.cell), T, B, I, H])

        def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
            return (scale * rng.normal(size=shape)).astype(DTYPES[self.dtype])

        x, dy = normal(T, B, I), normal(T, B, H)
        h_0, c_0, dh_n, dc_n = (normal(B, H, scale=0.7) for _ in range(4))
        W, R = normal(G, I, scale=max(I, 1) ** -0.5), normal(G, H, scale=0.5 * max(H, 1) ** -0.5)
        b_W, b_R = normal(G, scale=0.5), normal(G, scale=0.5)
        if not self.bias:
            b_W, b_R = np.zeros_like(b_W), np.zeros_like(b_R)
        return Data(
            x,
            h_0 if self.state else None,
            c_0 if self.state and self.has_cells else None,
            Weights(W, R, b_W, b_R),
            dy,
            dh_n,
            dc_n if self.has_cells else None,
        )


assert [field.name for field in fields(Problem)][1:5] == list("TBIH")  # as parse() reads them
