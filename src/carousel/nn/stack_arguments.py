"""The arguments of `carousel.nn.Stack`: of its constructor, one value per layer; of a call, their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.errors import ArgumentError, ShapeError, UnsupportedError, check_integer, check_shape
from carousel.nn.beyond import Beyond, plain
from carousel.nn.ragged import is_whole

__all__ = [
    "State",
    "check_packed",
    "check_sizes",
    "check_states",
    "each",
    "mapped",
    "options_of",
    "time_first",
]

State = Tensor | tuple[Tensor, Tensor]

# torch's own keywords that one cell has, and what they are without.
_OF_ONE_CELL = {"proj_size": ("lstm", 0), "nonlinearity": ("rnn", "tanh")}
_OPTIONS = (*Beyond.__dataclass_fields__, *_OF_ONE_CELL)


def check_sizes(input_size: Any, hidden_sizes: Any) -> tuple[int, list[int]]:
    """I, and H of every layer."""
    check_integer("input_size", input_size, 1)
    if not isinstance(hidden_sizes, list | tuple) or not hidden_sizes:
        raise ArgumentError(f"`hidden_sizes` must be a list of one width per layer, got {hidden_sizes!r}.")
    for H in hidden_sizes:
        check_integer("hidden_sizes", H, 1)
    return int(input_size), [int(H) for H in hidden_sizes]


def each(name: str, value: Any, count: int) -> list[Any]:
    """One value per layer, where one is given for all or a list for each. A tuple of zoneout is one value."""
    if not isinstance(value, list if name == "zoneout" else list | tuple):
        return [plain(value)] * count
    if len(value) != count:
        raise ArgumentError(
            f"`{name}` must be one value, or a list of one per layer, {count}, got {value!r}."
        )
    return [plain(mine) for mine in value]


def options_of(options: Mapping[str, Any], cells: Sequence[str]) -> list[dict[str, Any]]:
    """The keywords of every layer."""
    found: list[dict[str, Any]] = [{} for _ in cells]
    for name, value in options.items():
        if name not in _OPTIONS:
            raise TypeError(
                f"Stack() got an unexpected keyword argument {name!r}; its options are {', '.join(_OPTIONS)}"
            )
        only, default = _OF_ONE_CELL.get(name, (None, None))
        for cell, mine, given in zip(cells, each(name, value, len(cells)), found, strict=True):
            if only in (None, cell):
                if name == "proj_size":
                    check_integer(name, mine, 0)
                given[name] = mine
            elif mine != default:
                raise UnsupportedError(
                    f"`{name}` is for the {only} only, not for the {cell}; give a list of one value per layer, "
                    f"{default!r} where it is another cell."
                )
    return found


def time_first(input: Any, input_size: int, batch_first: bool) -> tuple[bool, Tensor]:
    """Whether `input` has a batch, and it as (T, B, I), with a batch of 1 where there is none."""
    if not isinstance(input, Tensor):
        raise ArgumentError(f"`input` must be a tensor or a PackedSequence, got {type(input).__name__}.")
    axes = "B, T, I" if batch_first else "T, B, I"
    if input.dim() not in (2, 3):
        got = tuple(input.shape)
        raise ShapeError(f"`input` must have shape ({axes}), or (T, I) without a batch, got {got}.")
    batched = input.dim() == 3
    if input.shape[-1] != input_size:
        check_shape("input", input, axes if batched else "T, I", I=input_size)
    if not batched:
        return False, input.unsqueeze(1)
    return True, input.transpose(0, 1) if batch_first else input


def check_packed(input: PackedSequence, input_size: int) -> None:
    """Raises a ShapeError unless the parts of `input` fit each other and the stack."""
    if not is_whole(input):
        raise ShapeError("`input` must be a PackedSequence whose parts fit each other.")
    check_shape("input.data", input.data, "N, I", I=input_size)


def check_states(
    hx: Any, layers: Iterable[Any], dilations: Sequence[int], batch: Sequence[int]
) -> list[State | None]:
    """The state of every layer, None where it has none; `batch` is (B,), or () without one."""
    count = len(dilations)
    if hx is None:
        return [None] * count
    if not isinstance(hx, list | tuple) or len(hx) != count:
        got = len(hx) if isinstance(hx, list | tuple) else type(hx).__name__
        raise ArgumentError(f"`hx` must be a list of one state per layer, {count}, got {got}.")
    return [
        None if state is None else _check_state(f"hx[{k}]", state, layer, d, batch)
        for k, (state, layer, d) in enumerate(zip(hx, layers, dilations, strict=True))
    ]


def _check_state(name: str, state: Any, layer: Any, d: int, batch: Sequence[int]) -> State:
    """The state of one layer."""
    count = d * (2 if layer.bidirectional else 1)
    P = layer.proj_size or layer.hidden_size
    if layer.mode != "LSTM":
        if not isinstance(state, Tensor):
            raise ArgumentError(f"`{name}` must be a tensor, h, got {type(state).__name__}.")
        return _of_shape(name, state, (count, *batch, P))
    if (
        not isinstance(state, list | tuple)
        or len(state) != 2
        or not all(isinstance(s, Tensor) for s in state)
    ):
        raise ArgumentError(f"`{name}` must be two tensors, (h, c), got {type(state).__name__}.")
    h, c = state
    H = layer.hidden_size
    return _of_shape(f"{name}[0]", h, (count, *batch, P)), _of_shape(f"{name}[1]", c, (count, *batch, H))


def _of_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.shape != shape:
        check_shape(name, tensor, ", ".join(map(str, shape)))
    return tensor


def mapped(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A layer's state, each of its tensors changed; None if it has none."""
    if isinstance(state, tuple):
        return tuple(change(s) for s in state)
    return None if state is None else change(state)
