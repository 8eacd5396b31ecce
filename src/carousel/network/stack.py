"""A network: layers one after the other."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, get_args

import numpy as np

from carousel.errors import ArgumentError, ShapeError
from carousel.network.document import document
from carousel.network.layers import Dense, LastStep, Recurrent, Reverse
from carousel.network.pointwise import Activation, Embedding, Masking, Normalization

__all__ = ["Layer", "Network"]

Layer: TypeAlias = Recurrent | Dense | LastStep | Activation | Embedding | Masking | Normalization | Reverse
_Sized: TypeAlias = Recurrent | Dense | Embedding | Normalization


@document("network")
@dataclass(frozen=True, repr=False)
class Network:
    """A plain stack of layers; its input is (T, B, I), its output (T, B, O), or (B, O) where time ends.

    A network that begins with an Embedding takes integers, (T, B).

    Args:
        layers: each takes what the one before it gives; at least one has weights. A LastStep, or a Recurrent
            that returns no sequences, ends time: only Dense, Activation and Normalization may follow.

    Raises:
        ShapeError: a layer takes another size or dtype than the one before it gives.
        ArgumentError: no layers, things that are none, or an order without a meaning.

    Example:
        >>> import numpy as np
        >>> from carousel.network import Dense, LastStep, Recurrent, Weights
        >>> lstm = Recurrent("lstm", (Weights(np.ones((80, 1)), np.ones((80, 20))),))
        >>> print(Network((lstm, LastStep(), Dense(np.ones((1, 20))))))
        Network  1 -> 1, one output a sequence, float64, 1,861 parameters
          0  LSTM       1 -> 20  1,840
          1  LastStep
          2  Dense     20 -> 1      21
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        object.__setattr__(self, "layers", layers)
        timeless = None
        for k, layer in enumerate(layers):
            if not isinstance(layer, get_args(Layer)):
                *kinds, last = (kind.__name__ for kind in get_args(Layer))
                raise ArgumentError(
                    f"`layers[{k}]` must be {', '.join(kinds)} or {last}, got {type(layer).__name__}."
                )
            if isinstance(layer, Embedding) and k > 0:
                raise ArgumentError(f"`layers[{k}]` is {layer!r}, but only the first layer can take ids.")
            if timeless is not None and not isinstance(layer, Dense | Activation | Normalization):
                raise ArgumentError(
                    f"`layers[{k}]` is {layer!r}, but {timeless!r} before it has left no steps; "
                    "only Dense, Activation and Normalization may follow."
                )
            timeless = layer if ends_time(layer) else timeless
        if not self._weighted:
            raise ArgumentError("`layers` must hold at least one Recurrent or Dense.")
        sized = [(k, layer) for k, layer in enumerate(layers) if isinstance(layer, _Sized)]
        for (_, before), (k, layer) in pairwise(sized):
            if layer.input_size != before.output_size:
                raise ShapeError(
                    f"`layers[{k}]` takes {layer.input_size} features, "
                    f"but the layer before it, {before!r}, gives {before.output_size}."
                )
            if layer.dtype != before.dtype:
                raise ShapeError(
                    f"`layers[{k}]` is {layer.dtype}, but the layers before it are {before.dtype}."
                )

    @property
    def _weighted(self) -> tuple[_Sized, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, _Sized))

    @property
    def takes_ids(self) -> bool:
        """Whether the input are integers (T, B), for an Embedding, not numbers (T, B, I)."""
        return isinstance(self.layers[0], Embedding)

    @property
    def input_size(self) -> int:
        """I; where the network takes ids, how many there are."""
        return self._weighted[0].input_size

    @property
    def output_size(self) -> int:
        return self._weighted[-1].output_size

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        return self._weighted[0].dtype

    @property
    def recurrent(self) -> tuple[Recurrent, ...]:
        """The recurrent layers: those that have a state."""
        return tuple(layer for layer in self.layers if isinstance(layer, Recurrent))

    @property
    def bidirectional(self) -> bool:
        """Whether any layer reads the sequence backwards: no step is known before the last one came."""
        return any(
            isinstance(layer, Reverse) or (isinstance(layer, Recurrent) and layer.reads_backwards)
            for layer in self.layers
        )

    @property
    def masks(self) -> bool:
        """Whether any layer leaves steps out."""
        return any(
            isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)
            for layer in self.layers
        )

    @property
    def per_step(self) -> bool:
        """Whether there is one output a step, not one a sequence."""
        return not any(map(ends_time, self.layers))

    @property
    def parameter_count(self) -> int:
        return sum(layer.parameter_count for layer in self._weighted)

    def __repr__(self) -> str:
        return f"Network({', '.join(map(repr, self.layers))})"

    def __str__(self) -> str:
        head = (
            f"Network  {self.input_size} -> {self.output_size}, "
            f"one output a {'step' if self.per_step else 'sequence'}, "
            f"{self.dtype}, {self.parameter_count:,} parameters"
        )
        rows = [
            (
                layer.title,
                f"{layer.input_size}",
                "->",
                f"{layer.output_size}",
                f"{layer.parameter_count:,}",
            )
            if isinstance(layer, _Sized)
            else (layer.title, "", "", "", "")
            for layer in self.layers
        ]
        titles, inputs, _, outputs, counts = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [
            f"  {k}  {title:{titles}}  {i:>{inputs}} {arrow:2} {o:{outputs}}  {count:>{counts}}".rstrip()
            for k, (title, i, arrow, o, count) in enumerate(rows)
        ]
        return "\n".join([head, *lines])


def ends_time(layer: Layer) -> bool:
    """Whether what `layer` gives has no steps any more."""
    return isinstance(layer, LastStep) or (isinstance(layer, Recurrent) and not layer.return_sequences)
