"""Layers that act on every step by itself: what stands around the recurrent ones in foreign models."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from carousel.errors import ArgumentError, check_choice, check_shape
from carousel.network.arrays import Floats, check_same_dtype, finite
from carousel.network.document import document

__all__ = ["Activation", "Embedding", "Masking", "Normalization"]


@document("activation", since=2)
@dataclass(frozen=True)
class Activation:
    """y = function(x), element by element; the softmax over the last axis."""

    function: Literal["sigmoid", "tanh", "relu", "softmax"]

    def __post_init__(self) -> None:
        check_choice("function", self.function, ("sigmoid", "tanh", "relu", "softmax"))

    @property
    def title(self) -> str:
        return f"Activation, {self.function}"


@document("masking", since=2)
@dataclass(frozen=True)
class Masking:
    """Leaves out every step of a row in which all features equal `value`; such a step becomes zeros.

    The mask holds for the recurrent layers that follow, up to the next mask.
    """

    value: float

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isfinite(self.value):
            raise ArgumentError(f"`value` must be a finite number, got {self.value!r}.")
        object.__setattr__(self, "value", float(self.value))

    @property
    def title(self) -> str:
        return f"Masking, {self.value:g}"


@document("embedding", since=2)
@dataclass(frozen=True, repr=False)
class Embedding:
    """A row of W for every id: (T, B) integers from 0 on -> (T, B, F).

    Args:
        W: (N, F), float32 or float64.
        mask_zero: id 0 is padding: its steps are left out, as by `Masking`, but keep their row of W.
    """

    W: Floats
    mask_zero: bool = False

    def __post_init__(self) -> None:
        W = finite("W", self.W)
        check_shape("W", W, "N, F")
        if type(self.mask_zero) is not bool:
            raise ArgumentError(f"`mask_zero` must be True or False, got {self.mask_zero!r}.")
        object.__setattr__(self, "W", W)

    @property
    def input_size(self) -> int:
        """N, how many ids there are."""
        return int(self.W.shape[0])

    @property
    def output_size(self) -> int:
        return int(self.W.shape[1])

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self.W.dtype

    @property
    def parameter_count(self) -> int:
        return self.W.size

    @property
    def title(self) -> str:
        return "Embedding, mask zero" if self.mask_zero else "Embedding"

    def __repr__(self) -> str:
        mask = ", mask zero" if self.mask_zero else ""
        return f"Embedding({self.input_size} -> {self.output_size}{mask})"


@document("normalization", since=2)
@dataclass(frozen=True, repr=False)
class Normalization:
    """y = (x - mean) / max(√variance, 1e-7), or with `invert` its inverse, y = mean + x max(√variance, 1e-7).

    Args:
        mean: (F,), float32 or float64.
        variance: (F,), at least 0, of the same dtype.
        invert: from the normalised unit back.
    """

    mean: Floats
    variance: Floats
    invert: bool = False

    def __post_init__(self) -> None:
        mean, variance = finite("mean", self.mean), finite("variance", self.variance)
        (F,) = check_shape("mean", mean, "F")
        check_shape("variance", variance, "F", F=F)
        check_same_dtype(mean=mean, variance=variance)
        if (variance < 0).any():
            raise ArgumentError(f"`variance` must be at least 0, got {variance.min()}.")
        if type(self.invert) is not bool:
            raise ArgumentError(f"`invert` must be True or False, got {self.invert!r}.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "variance", variance)

    @property
    def scale(self) -> Floats:
        """(F,) the standard deviation, kept from 0 by Keras's epsilon."""
        scale: Floats = np.maximum(np.sqrt(self.variance), self.dtype.type(1e-7))
        return scale

    @property
    def input_size(self) -> int:
        return int(self.mean.shape[0])

    @property
    def output_size(self) -> int:
        return self.input_size

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self.mean.dtype

    @property
    def parameter_count(self) -> int:
        return self.mean.size + self.variance.size

    @property
    def title(self) -> str:
        return "Normalization, invert" if self.invert else "Normalization"

    def __repr__(self) -> str:
        return f"Normalization({self.input_size}{', invert' if self.invert else ''})"
