"""Recurrent layers of any cells and widths one above the other: shortcuts, dilation, merged directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from carousel.errors import (
    ArgumentError,
    UnsupportedError,
    check_choice,
    check_integer,
)
from carousel.nn import metadata
from carousel.nn.beyond import check_flag, is_number, plain
from carousel.nn.dilation import first_states, interleaved, joined, last_states, lengths_of
from carousel.nn.layers import GRU, LSTM, RNN
from carousel.nn.ragged import check_lengths, still_running
from carousel.nn.stack_arguments import (
    State,
    check_packed,
    check_sizes,
    check_states,
    each,
    mapped,
    options_of,
    time_first,
)

__all__ = ["Stack"]

_CELLS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class Stack(torch.nn.Module):
    """Layers one above the other, each of its own cell and width.

    Layer l reads x_l, of which x_1 is the input, and gives y_l, its directions merged:

        plain      x_{l+1} = y_l
        residual   x_{l+1} = y_l + W_l x_l         W_l is learned where widths differ, else the identity
        dense      x_{l+1} = [x_l; y_l]            the input and the outputs of all layers below

    The output is x_{L+1}; of dense layers it is y_L. A layer of dilation d reads the state of d steps ago. Every
    layer is a `carousel.nn.LSTM`, `GRU` or `RNN` with the parameters of torch's, in `layers`.

    What a layer can have of its own is one value for all, or a list of one value per layer: `cell`,
    `bidirectional`, `merge`, `dilation`, and the options.

    Args:
        input_size: I, features of a step.
        hidden_sizes: H of every layer.
        cell: "lstm", "gru" or "rnn".
        bias: whether cells have the biases b_ih and b_hh.
        batch_first: x and y are (B, T, ·) instead of (T, B, ·); states are not.
        dropout: share of x_l that is dropped on its way into the layers above the first, in training; what goes
            past a layer is not.
        bidirectional: whether a second direction reads from the end.
        merge: how the two directions make one output: "concat", "sum", "mean" or "mul", their product.
        residual: adds what a layer reads to what it gives.
        dense: every layer reads the input and the outputs of all layers below it.
        dilation: d, in steps.
        **options: `proj_size` for LSTMs, `nonlinearity` for RNNs, and those of `carousel.nn.beyond.Beyond`, such as
            layer_norm=True. With dilation, masks are drawn for each of a row's d interleaved sequences.

    Raises:
        ArgumentError: a value is of another type or out of range, or a list has another length than `hidden_sizes`.
        UnsupportedError: a cell does not offer the option.
        TypeError: an argument has another name.

    Source:
        Wu et al. (2016), arXiv:1609.08144, section 3.1, residual LSTMs; He et al. (2016), equations 1 and 2, the
        shortcut of other width; Huang et al. (2017), equation 2, and for recurrent layers Ding et al. (2018),
        arXiv:1802.00889, dense connections; Chang et al. (2017), dilation.

    Example:
        >>> stack = Stack(3, [8, 6], cell=["lstm", "gru"], bidirectional=True, merge=["concat", "sum"], dilation=[1, 2])
        >>> y, (first, second) = stack(torch.zeros(20, 4, 3))
        >>> y.shape, first[0].shape, second.shape
        (torch.Size([20, 4, 6]), torch.Size([2, 4, 8]), torch.Size([4, 4, 6]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        cell: str | Sequence[str] = "lstm",
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool | Sequence[bool] = False,
        merge: str | Sequence[str] = "concat",
        residual: bool = False,
        dense: bool = False,
        dilation: int | Sequence[int] = 1,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        input_size, sizes = check_sizes(input_size, hidden_sizes)
        bias, batch_first, dropout, residual, dense = map(
            plain, (bias, batch_first, dropout, residual, dense)
        )
        flags = {"bias": bias, "batch_first": batch_first, "residual": residual, "dense": dense}
        for name, value in flags.items():
            check_flag(name, value)
        if not (is_number(dropout) and 0 <= dropout <= 1):
            raise ArgumentError(f"`dropout` must be a number in [0, 1], got {dropout!r}.")
        if residual and dense:
            raise ArgumentError("`residual` and `dense` exclude each other; leave one of them out.")
        self.input_size, self.hidden_sizes, self.batch_first = input_size, sizes, batch_first
        self.dropout, self.residual, self.dense = dropout, residual, dense
        cells, both = each("cell", cell, len(sizes)), each("bidirectional", bidirectional, len(sizes))
        for kind in cells:
            check_choice("cell", kind, tuple(_CELLS))
        self.merge, self.dilation = each("merge", merge, len(sizes)), each("dilation", dilation, len(sizes))
        own = options_of(options, cells)
        self.layers, widths = torch.nn.ModuleList(), [input_size]  # of x_1, x_2, …
        for k, (H, two) in enumerate(zip(sizes, both, strict=True)):
            check_choice("merge", self.merge[k], ("concat", *_MERGES))
            check_integer("dilation", self.dilation[k], 1)
            check_flag("bidirectional", two)
            keywords = {"bias": bias, "bidirectional": two, "device": device, "dtype": dtype, **own[k]}
            self.layers.append(_CELLS[cells[k]](widths[-1], H, **keywords))
            self.output_size = own[k].get("proj_size") or H
            self.output_size *= 2 if two and self.merge[k] == "concat" else 1
            widths.append(widths[-1] * dense + self.output_size)
        self.shortcuts = torch.nn.ModuleList(
            torch.nn.Identity() if a == b else torch.nn.Linear(a, b, bias=False, device=device, dtype=dtype)
            for a, b in (pairwise(widths) if residual else ())
        )

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> tuple[Any, tuple[State, ...]]:
        """All layers over a batch of sequences.

        Args:
            input: (T, B, I), with batch_first (B, T, I), (T, I) without a batch, or a PackedSequence.
            hx: for every layer the state before the first step: (h, c) of an LSTM, else h; h is (D·d, B, P) and c
                (D·d, B, H) with D directions and dilation d, without the B of an input that has none. Of each
                direction, the k-th of the d states is what its k-th step reads. A layer's may be None, as may hx:
                zeros, or what the layer has learned.
            lengths: (B,) steps of each row; beyond them x is not read, y is 0, and the last state is the row's
                last. No order is needed.

        Returns:
            y of (T, B, output_size), laid out like `input`; and the states after the last step, as hx has
            them, so that a sequence may be cut anywhere between calls.

        Raises:
            ShapeError: `input` or a state has another shape.
            ArgumentError: `hx` has another structure, or a length is out of range.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise UnsupportedError("`lengths` come with a PackedSequence; leave the argument out.")
            return self._run_packed(input, hx)
        batched, x = time_first(input, self.input_size, self.batch_first)
        states = check_states(hx, self.layers, self.dilation, x.shape[1:2] if batched else ())
        ends = None if lengths is None else check_lengths(lengths, *x.shape[:2])
        if batched:
            y, finals = self._run(x, states, ends)
            return y.transpose(0, 1) if self.batch_first else y, finals
        y, finals = self._run(x, [mapped(state, lambda s: s.unsqueeze(1)) for state in states], ends)
        return y.squeeze(1), tuple(mapped(state, lambda s: s.squeeze(1)) for state in finals)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """As torch's; what the layers' weights do not say of the way between them goes into the metadata."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata.tell(destination, prefix, self, self._recipe())

    def _load_from_state_dict(self, state: Any, prefix: str, told: Any, strict: bool, *problems: Any) -> None:
        """As torch's; warns where the weights were saved by a stack of another way between its layers."""
        super()._load_from_state_dict(state, prefix, told, strict, *problems)
        metadata.compare(told, prefix, self, self._recipe())

    def _recipe(self) -> dict[str, Any]:
        """The way between the layers, where it is not straight."""
        merged = any(layer.bidirectional for layer in self.layers) and set(self.merge) != {"concat"}
        way = {
            "residual": self.residual,
            "dense": self.dense,
            "merge": list(self.merge) if merged else None,
            "dilation": list(self.dilation) if set(self.dilation) != {1} else None,
        }
        return {name: value for name, value in way.items() if value}

    def kernel_path(self, input: Any, hx: Any = None) -> str:
        """Which path a call takes: one line if it is the same for all layers, else one for each."""
        if isinstance(input, PackedSequence):
            check_packed(input, self.input_size)
            data, T, B = input.data, len(input.batch_sizes), int(input.batch_sizes[0])
            batch: tuple[int, ...] = (B,)
        else:
            batched, data = time_first(input, self.input_size, self.batch_first)
            T, B = data.shape[:2]
            batch = (B,) if batched else ()
        layers: Any = self.layers
        states = check_states(hx, layers, self.dilation, batch)
        paths: list[str] = []
        for layer, d, state in zip(layers, self.dilation, states, strict=True):
            first = mapped(state, lambda s: s.new_empty(len(s) // d, d * B, s.shape[-1]))  # noqa: B023 (called at once)
            paths.append(layer.kernel_path(data.new_empty(-(-T // d), d * B, layer.input_size), first))
        if len(set(paths)) == 1:
            return paths[0]
        return "\n".join(f"layers.{k}: {path}" for k, path in enumerate(paths))

    def extra_repr(self) -> str:
        """The arguments that `layers` do not tell."""
        given = {
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0.0),
            "merge": (self.merge, ["concat"] * len(self.merge)),
            "residual": (self.residual, False),
            "dense": (self.dense, False),
            "dilation": (self.dilation, [1] * len(self.dilation)),
        }
        shown = (f"{name}={value!r}" for name, (value, default) in given.items() if value != default)
        return ", ".join((f"{self.input_size}, {self.hidden_sizes}", *shown))

    def _run(
        self, x: Tensor, states: Sequence[State | None], ends: Tensor | None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """All layers over (T, B, I)."""
        alive = None
        if ends is not None and (self.residual or self.dense):
            # Nobody looks beyond an end, shortcuts neither, forward or backward.
            alive = still_running(ends.to(x.device), len(x))[..., None]
            x = torch.where(alive, x, 0)
        finals: list[State] = []
        y = x
        for k, state in enumerate(states):
            read = torch.dropout(x, self.dropout, True) if k and self.dropout and self.training else x
            y, final = self._run_layer(k, read, state, ends)
            finals.append(final)
            if self.residual:
                beside = self.shortcuts[k](x)
                y = y + (beside if alive is None else torch.where(alive, beside, 0))
            x = torch.cat([x, y], dim=-1) if self.dense and k + 1 < len(self.layers) else y
        return y, tuple(finals)

    def _run_layer(self, k: int, x: Tensor, state: State | None, ends: Tensor | None) -> tuple[Tensor, State]:
        """Layer k over (T, B, ·), its directions merged."""
        layer, d, (T, B) = self.layers[k], self.dilation[k], x.shape[:2]
        if d == 1:
            y, final = layer(x, state, lengths=ends)
        else:
            n = torch.full((B,), T) if ends is None else ends
            lengths = None if ends is None and T % d == 0 else lengths_of(n, d)
            first = mapped(state, lambda s: first_states(s, d, n))
            y, final = layer(interleaved(x, d), first, lengths=lengths)
            y, final = joined(y, d, T), mapped(final, lambda s: last_states(s, d, n))
        if layer.bidirectional and self.merge[k] != "concat":
            y = _MERGES[self.merge[k]](*y.chunk(2, dim=-1))
        return y, final

    def _run_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, tuple[State, ...]]:
        """A PackedSequence in and out: its rows are sorted by length; the states of a call are not."""
        check_packed(input, self.input_size)
        data, sizes, order, back = input
        x, ends = pad_packed_sequence(PackedSequence(data, sizes))
        states = check_states(hx, self.layers, self.dilation, x.shape[1:2])
        if order is not None:
            states = [mapped(state, lambda s: s.index_select(1, order)) for state in states]
        y, finals = self._run(x, states, ends)
        rows = y[still_running(ends.to(y.device), len(y))]
        if back is not None:
            finals = tuple(mapped(state, lambda s: s.index_select(1, back)) for state in finals)
        return PackedSequence(rows, sizes, order, back), finals
