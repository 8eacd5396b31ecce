"""Problems of the kernels as strings, shared by tests and benchmarks: one string reproduces one case.

    lstm:T7,B3,I5,H33,rev,nobias,f32

is an LSTM over 7 steps of 3 rows of 5 inputs, 33 hidden units, from the last step to the first, without
biases, in float32. Every failure names its problem; this judges it again, and any number of others:

    [CAROUSEL_ISA=avx2] python tests/kernels.py "lstm:T7,B3,I5,H33,rev,nobias,f32"

After the colon, in this order, what is not the default:

    T B I H        steps, batch rows, inputs, hidden units
    rev            reversed                     nobias    neither bias         nostate   no initial state
    batch          x and y are batch-major      half      y is half of a bidirectional layer's, x a slice
    proj5          projected to 5 units         peep      peepholes           coupled   f = 1 - i
    ln             layer norm                   zone      zoneout, masks      zonemean  zoneout, the rates
    gdrop          mask of the candidate        hdrop     mask of the state
    clip1.5        of the gates' sums           cclip2    of the cell         ragged    rows end early
    f32 f64        dtype                        seed=3    of the data

Options are those of `carousel.reference.Options`, which says what a cell offers; a problem that asks for more
is refused when it is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from carousel.layout import Weights
from carousel.reference import LayerNorm, Options
from carousel.reference.random import zoneout_masks

CELLS = ("lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu")  # in the order of csrc/carousel.h
GATES = dict(zip(CELLS, (4, 3, 3, 1, 1), strict=True))
DTYPES = {"f32": np.float32, "f64": np.float64}
LAYOUTS = ("time", "batch", "half")
ZONEOUT = {"h": 0.3, "c": 0.2}  # the rates of `zone` and `zonemean`
DROPOUT = 0.25  # of `gdrop` and `hdrop`
NUMBERS = {"proj": int, "clip": float, "cclip": float}  # options that are a word and a number
WORDS = ("proj", "peep", "coupled", "ln", "zone", "zonemean", "gdrop", "hdrop", "clip", "cclip", "ragged")
OFFERED = {"gdrop": ("lstm", "gru")} | dict.fromkeys(("proj", "peep", "coupled", "cclip"), ("lstm",))


class Data(NamedTuple):
    """What a layer reads, forward and backward, contiguous and time-major."""

    x: np.ndarray  # (T, B, I)
    h_0: np.ndarray | None  # (B, P); P = H without a projection
    c_0: np.ndarray | None  # (B, H)
    w: Weights  # biases are zeros where the problem has none
    dy: np.ndarray  # (T, B, P)
    dh_n: np.ndarray  # (B, P)
    dc_n: np.ndarray | None
    options: Options  # zoneout's step t is the t-th that the layer takes, from the end where it is reversed
    lengths: np.ndarray | None  # (B,) int64


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
    proj: int = 0  # of this and what follows, 0 and False are none
    peep: bool = False
    coupled: bool = False
    ln: bool = False
    zone: bool = False
    zonemean: bool = False
    gdrop: bool = False
    hdrop: bool = False
    clip: float = 0.0
    cclip: float = 0.0
    ragged: bool = False

    def __post_init__(self) -> None:
        for word in WORDS:
            if getattr(self, word) and not self.cell.startswith(OFFERED.get(word, CELLS)):
                raise ValueError(f"{self}: this cell does not offer {word!r}.")
        if self.zone and self.zonemean:
            raise ValueError(f"{self}: zone and zonemean exclude each other.")

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
            elif word in WORDS and word not in NUMBERS:
                said[word] = True
            elif option := re.fullmatch(r"(proj(?=\d+$)|c?clip)(\d+(?:\.\d+)?)", word):
                said[option[1]] = NUMBERS[option[1]](option[2])
            else:
                raise ValueError(f"{text!r}: unknown word {word!r}.")
        return cls(cell, **said)

    def __str__(self) -> str:
        words = [f"T{self.T}", f"B{self.B}", f"I{self.I}", f"H{self.H}"]
        words += [word for word, said in (("rev", self.reverse), ("nobias", not self.bias)) if said]
        words += [word for word, said in (("nostate", not self.state),) if said]
        words += [self.layout] if self.layout != "time" else []
        said = {word: getattr(self, word) for word in WORDS}
        words += [f"{word}{value}" if word in NUMBERS else word for word, value in said.items() if value]
        words += [self.dtype] + ([f"seed={self.seed}"] if self.seed else [])
        return f"{self.cell}:{','.join(words)}"

    @property
    def gates(self) -> int:
        return GATES[self.cell] - self.coupled

    @property
    def is_plain(self) -> bool:
        """Whether no option is on."""
        return not any(getattr(self, word) for word in WORDS)

    @property
    def P(self) -> int:
        return self.proj or self.H

    @property
    def has_cells(self) -> bool:
        return self.cell == "lstm"

    def data(self) -> Data:
        """Arrays of the problem's dtype, random and nowhere zero; equal for equal problems.

        Weights are such that sums before an activation are near 1 for any I and H, and that R shrinks what it
        carries. An initial state is drawn even where it is not used: equal seeds, equal rest.
        """
        T, B, I, H, P, G = self.T, self.B, self.I, self.H, self.P, self.gates * self.H
        rng = np.random.default_rng([self.seed, *(ord(c) for c in self.cell), T, B, I, H])

        def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
            return (scale * rng.normal(size=shape)).astype(DTYPES[self.dtype])

        x, dy = normal(T, B, I), normal(T, B, P)
        h_0, c_0, dh_n, dc_n = (normal(B, size, scale=0.7) for size in (P, H, P, H))
        W, R = normal(G, I, scale=max(I, 1) ** -0.5), normal(G, P, scale=0.5 * max(P, 1) ** -0.5)
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
            self._options(rng),
            self._lengths(rng),
        )

    def _options(self, rng: np.random.Generator) -> Options:
        """Gains near 1, peepholes and shifts about 0.5, W_p such that it keeps the size of what it projects."""
        T, B, H, P, G = self.T, self.B, self.H, self.P, self.gates * self.H
        dtype, lstm = DTYPES[self.dtype], self.has_cells

        def normal(*shape: int, mean: float = 0.0, scale: float) -> np.ndarray:
            return (mean + scale * rng.normal(size=shape)).astype(dtype)

        def dropout(units: int) -> np.ndarray:
            return ((rng.random((B, units)) >= DROPOUT) / (1 - DROPOUT)).astype(dtype)

        norm = None
        if self.ln:
            gains = [normal(size, mean=1.0, scale=0.2) for size in (G, G)]
            norm = LayerNorm(
                *gains, *((normal(H, mean=1.0, scale=0.2), normal(H, scale=0.5)) if lstm else ())
            )
        d_h = d_c = None
        if self.zone:
            d_h, d_c = (d.astype(dtype) for d in zoneout_masks(self.seed, *ZONEOUT.values(), T, B, H, P))
        if self.zonemean:
            d_h, d_c = np.full((T, B, P), ZONEOUT["h"], dtype), np.full((T, B, H), ZONEOUT["c"], dtype)
        return Options(
            projection=normal(P, H, scale=max(H, 1) ** -0.5) if self.proj else None,
            peephole=normal(2 if self.coupled else 3, H, scale=0.5) if self.peep else None,
            coupled=self.coupled,
            layer_norm=norm,
            zoneout_h=d_h,
            zoneout_c=d_c if lstm else None,
            candidate_mask=dropout(H) if self.gdrop else None,
            state_mask=dropout(P) if self.hdrop else None,
            clip=self.clip or None,
            cell_clip=self.cclip or None,
        )

    def _lengths(self, rng: np.random.Generator) -> np.ndarray | None:
        """Steps of each row: any, but one row has all and, of three or more, one has none."""
        if not self.ragged:
            return None
        lengths = rng.integers(0, self.T + 1, size=self.B)
        order = rng.permutation(self.B)
        lengths[order[:1]] = self.T
        if self.B >= 3:
            lengths[order[1]] = 0
        return lengths

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Problem:
        """Any problem: mostly small, of sizes on both sides of a register, with none, one or several options."""

        def flag(share: float) -> bool:
            return bool(rng.random() < share)

        def size(least: int, usual: int, large: int) -> int:
            return int(rng.integers(least, large if flag(0.1) else usual))

        cell = str(rng.choice(CELLS))
        offered = [word for word in WORDS if cell.startswith(OFFERED.get(word, CELLS))]
        share = rng.choice([0.0, 0.15, 0.5])
        numbers = {"proj": int(rng.integers(1, 40)), "clip": 0.5, "cclip": 0.7}
        options = {word: numbers.get(word, True) for word in offered if flag(share)}
        if options.get("zone"):
            options.pop("zonemean", None)
        T = size(0, 8, 8 if options.get("ln") else 60)  # normalised products pass errors on undamped
        return cls(
            cell, T, size(0, 9, 60), size(0, 20, 90), size(0, 40, 150), flag(0.5), flag(0.8), flag(0.7),
            str(rng.choice(LAYOUTS)), str(rng.choice(list(DTYPES))), int(rng.integers(1000)), **options,
        )  # fmt: skip


assert [field.name for field in fields(Problem)][1:5] == list("TBIH")  # as parse() reads them
