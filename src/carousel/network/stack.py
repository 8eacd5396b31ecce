"""A network: layers one after the other."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from carousel.errors import ArgumentError, ShapeError
from carousel.network.document import document
from carousel.network.layers import Dense, LastStep, Layer, Recurrent

__all__ = ["Network"]


@document("network")
@dataclass(frozen=True, repr=False)
class Network:
    """A plain stack of layers; its input is (T, B, I), its output (T, B, O), or (B, O) with a LastStep.

    Args:
        layers: each takes what the one before it gives; at least one has weights. After a LastStep
            there is no time left: only Dense may follow.

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
        for k, layer in enumerate(layers):
            if not isinstance(layer, Recurrent | Dense | LastStep):
                raise ArgumentError(
                    f"`layers[{k}]` must be Recurrent, Dense or LastStep, got {type(layer).__name__}."
                )
            if isinstance(layer, Recurrent | LastStep) and any(isinstance(l, LastStep) for l in layers[:k]):
                raise ArgumentError(
                    f"`layers[{k}]` is {layer!r}, but a LastStep before it has left no steps; "
                    "only Dense may follow a LastStep."
                )
        if not self._weighted:
            raise ArgumentError("`layers` must hold at least one Recurrent or Dense.")
        sized = [(k, layer) for k, layer in enumerate(layers) if not isinstance(layer, LastStep)]
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
    def _weighted(self) -> tuple[Recurrent | Dense, ...]:
        return tuple(layer for layer in self.layers if not isinstance(layer, LastStep))

    @property
    def input_size(self) -> int:
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
        return any(layer.bidirectional for layer in self.recurrent)

    @property
    def per_step(self) -> bool:
        """Whether there is one output a step, not one a sequence."""
        return not any(isinstance(layer, LastStep) for layer in self.layers)

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
            ("LastStep", "", "", "", "")
            if isinstance(layer, LastStep)
            else (
                layer.title,
                f"{layer.input_size}",
                "->",
                f"{layer.output_size}",
                f"{layer.parameter_count:,}",
            )
            for layer in self.layers
        ]
        titles, inputs, _, outputs, counts = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [
            f"  {k}  {title:{titles}}  {i:>{inputs}} {arrow:2} {o:{outputs}}  {count:>{counts}}".rstrip()
            for k, (title, i, arrow, o, count) in enumerate(rows)
        ]
        return "\n".join([head, *lines])
