"""What our layers can do beyond torch's: the keywords of their constructors, all off by default.

docs/options.md has the equations and the papers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isfinite, isqrt
from typing import Any

import numpy as np

from carousel.errors import ArgumentError, UnsupportedError, check_choice, check_integer
from carousel.nn.spec import Options

__all__ = ["PLAIN", "Beyond", "check_flag", "is_number", "plain"]

_LEAST = float(np.finfo(np.float32).tiny)
_OFFERED = {
    **dict.fromkeys(("peephole", "coupled_gates", "cell_clip", "forget_bias"), ("LSTM",)),
    "reset": ("GRU",),
    "recurrent_dropout": ("LSTM", "GRU"),
}  # what is not here, every cell offers


@dataclass(frozen=True)
class Beyond:
    """The options of a layer.

    Args:
        layer_norm: normalises the products with x and h, and an LSTM's cell on its way to h (Ba et al. 2016).
        zoneout: share of h, and of an LSTM's c, that stays as it was; one number or (h, c) (Krueger et al. 2017).
        recurrent_dropout: drops candidates, one mask a sequence (Semeniuta et al. 2016); LSTM and GRU.
        state_dropout: drops h where R reads it, one mask a sequence (Gal and Ghahramani 2016).
        input_dropout: drops inputs of every layer, one mask a sequence (Gal and Ghahramani 2016).
        peephole: gates see the cell (Gers et al. 2002); LSTM.
        coupled_gates: f = 1 - i, gates i g o (Greff et al. 2017); LSTM.
        clip: bound of the sums before the gates' activations, as in ONNX; None for none.
        cell_clip: bound of the cell; LSTM; None for none.
        reset: the reset gate acts "after" the product, as in torch, or "before" it (Cho et al. 2014); GRU.
        forget_bias: first value of the forget gate's bias, b_ih + b_hh (Gers et al. 2000); LSTM; None as torch draws.
        learn_initial_state: where a call has no hx, the parameters h_0 and c_0 are the state of every row.
        recompute: for the backward pass only the cells of every k-th step are kept and the rest is computed
            anew: k, or True for k = √T (Chen et al. 2016).
    """

    layer_norm: bool = False
    zoneout: float | tuple[float, float] = 0.0
    recurrent_dropout: float = 0.0
    state_dropout: float = 0.0
    input_dropout: float = 0.0
    peephole: bool = False
    coupled_gates: bool = False
    clip: float | None = None
    cell_clip: float | None = None
    reset: str = "after"
    forget_bias: float | None = None
    learn_initial_state: bool = False
    recompute: bool | int = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            value = tuple(map(plain, value)) if isinstance(value, tuple) else plain(value)
            object.__setattr__(self, f.name, value)

    def __str__(self) -> str:
        """As torch writes the arguments of a module, those that are not the default."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return "".join(f", {name}={value!r}" for name, value in given.items())

    def options(self, mode: str) -> Options:
        """Those that enter the equations of a cell."""
        h, c = self.rates
        return Options(
            self.layer_norm, self.peephole, self.coupled_gates, self.reset, self.clip or 0.0,
            self.cell_clip or 0.0, h, c if mode == "LSTM" else 0.0,
        )  # fmt: skip

    @property
    def rates(self) -> tuple[float, float]:
        """Of zoneout, for h and c."""
        return self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout, self.zoneout)

    def distance(self, steps: int) -> int:
        """Of the states that are kept for the backward pass, in steps; 0: all are."""
        return max(1, isqrt(steps)) if self.recompute is True else min(int(self.recompute), max(1, steps))

    def check(self, mode: str, bias: bool) -> None:
        """Refuses values of another type, out of range, and what the cell does not offer."""
        for name, cells in _OFFERED.items():
            if getattr(self, name) != getattr(PLAIN, name) and mode not in cells:
                raise UnsupportedError(f"`{name}` is for the {' and the '.join(cells)} only, not for {mode}.")
        for name in ("layer_norm", "peephole", "coupled_gates", "learn_initial_state"):
            check_flag(name, getattr(self, name))
        pair = isinstance(self.zoneout, tuple)
        if not all(map(is_number, self.rates)) or (pair and (mode != "LSTM" or len(self.rates) != 2)):
            raise ArgumentError(f"`zoneout` must be one number, or of an LSTM (h, c), got {self.zoneout!r}.")
        for rate in self.rates:
            if not 0 <= rate <= 1:
                raise ArgumentError(f"`zoneout` must be in [0, 1], got {self.zoneout!r}.")
        for name in ("recurrent_dropout", "state_dropout", "input_dropout"):
            rate = getattr(self, name)
            if not (is_number(rate) and 0 <= rate < 1):
                raise ArgumentError(f"`{name}` must be a number in [0, 1), got {rate!r}.")
        for name in ("clip", "cell_clip"):
            bound = getattr(self, name)
            if bound is not None and not (is_number(bound) and 0 < bound < inf):
                raise ArgumentError(
                    f"`{name}` must be a number above 0, or None for no bound, got {bound!r}."
                )
            if bound is not None and bound < _LEAST:
                raise ArgumentError(
                    f"`{name}` must be at least {_LEAST:.2g}, which float32 has, got {bound!r}."
                )
        check_choice("reset", self.reset, ("after", "before"))
        if not isinstance(self.recompute, bool):
            check_integer("recompute", self.recompute, 1)
        first = self.forget_bias
        if first is not None and not (is_number(first) and isfinite(first)):
            raise ArgumentError(f"`forget_bias` must be a finite number, or None, got {first!r}.")
        if first is not None and (self.coupled_gates or not bias):
            raise ArgumentError("`forget_bias` needs a forget gate with a bias: no coupled gates, bias=True.")


def plain(value: Any) -> Any:
    """A number or flag of NumPy as Python's, which alone kernels and graphs take; all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_flag(name: str, value: Any) -> None:
    """Raises an ArgumentError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"`{name}` must be True or False, got {value!r}.")


def is_number(value: Any) -> bool:
    """Whether `value` is a real number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


PLAIN = Beyond()
