"""keras.layers.LSTM and GRU on our kernels, for models that stay in Keras, under its torch backend.

    from carousel.keras import GRU, LSTM        in place of those of keras.layers
    carousel.keras.accelerate(model)            or, for a model that is there, one line

Compile, fit, predict, weights and results stay as they are. `import carousel.keras` imports Keras; nothing else of
carousel does.
"""

from __future__ import annotations

from typing import Any

import keras
import torch
from torch import Tensor

from carousel.errors import UnsupportedError
from carousel.layout import ORDERS
from carousel.nn.call import fallback, path
from carousel.nn.function import run
from carousel.nn.spec import Batch, Options, Spec

if keras.backend.backend() != "torch":
    raise ImportError(
        f"carousel.keras runs under Keras's torch backend, got {keras.backend.backend()!r}; "
        "set KERAS_BACKEND=torch in the environment before Keras is imported"
    )

__all__ = ["GRU", "LSTM", "accelerate", "kernel_path", "restore"]

_MARK = "_carousel_swapped"  # on layers whose class `accelerate` changed


class _OnKernels:
    """What an LSTM and a GRU do in place of Keras's classes, which come after it."""

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """As Keras's: the output (B, H) or (B, T, H), and the states where they are to be returned."""
        found = _called(self, sequences, initial_state, mask, training)
        if found is not None:
            return found
        return super().call(sequences, initial_state, mask, training)  # type: ignore[misc]

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """As Keras's: the last output (B, H), all outputs (B, T, H), and the states (B, H): h, and c of an LSTM."""
        found = _computed(self, sequences, initial_state, mask, training)
        if found is not None:
            return found
        return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc]


@keras.saving.register_keras_serializable("carousel")
class LSTM(_OnKernels, keras.layers.LSTM):  # type: ignore[misc]
    """`keras.layers.LSTM` on our kernels; its equations are in `carousel.reference.lstm`.

    Same arguments, weights, results and errors as Keras's class; either takes the weights of the other. What
    the kernels do not cover takes Keras's own path; `kernel_path` says which and why.
    """


@keras.saving.register_keras_serializable("carousel")
class GRU(_OnKernels, keras.layers.GRU):  # type: ignore[misc]
    """`keras.layers.GRU`, `reset_after` or not, on our kernels; its equations are in `carousel.reference.gru`.

    All else as in `LSTM`.
    """


_OURS = {keras.layers.LSTM: LSTM, keras.layers.GRU: GRU}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}


def accelerate(model: Any) -> Any:
    """Puts every LSTM and GRU inside a Keras model, or itself, on our kernels, in place.

    Only the class of a layer changes: weights, optimizer and references hold. Subclasses that somebody wrote
    are left alone. A model that is saved so asks for carousel when it is opened; `restore` it first if it shall not.

    Returns:
        The same model.
    """
    for layer in _layers(model):
        if type(layer) in _OURS:
            object.__setattr__(layer, "__class__", _OURS[type(layer)])
            layer.__dict__[_MARK] = True
    return model


def restore(model: Any) -> Any:
    """Undoes `accelerate`, in place; layers that were ours from the start stay ours."""
    for layer in _layers(model):
        if layer.__dict__.pop(_MARK, False) and type(layer) in _THEIRS:
            object.__setattr__(layer, "__class__", _THEIRS[type(layer)])
    return model


def kernel_path(layer: Any, x: Any, training: bool = False) -> str:
    """Which path a layer takes with the input `x` (B, T, I), and why.

    Returns:
        "carousel: avx512 float32", or "keras: " and the reason.

    Raises:
        UnsupportedError: `layer` is no LSTM or GRU of Keras.
    """
    if isinstance(layer, keras.layers.LSTM | keras.layers.GRU) and type(layer) not in _THEIRS:
        return "keras: not accelerated; call carousel.keras.accelerate(model)"
    if type(layer) not in _THEIRS:
        raise UnsupportedError(f"`layer` must be an LSTM or GRU, got {type(layer).__name__}.")
    x = keras.ops.convert_to_tensor(x, dtype=layer.compute_dtype)
    if not layer.built:
        layer.build(x.shape)
    return path(_why_not(layer, x, _variables(layer.cell), training), x.dtype, instead="keras")


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=True, recursive=True))


def _why_not(layer: Any, x: Tensor, others: list[Tensor], training: bool) -> str | None:
    """Why a call cannot use the kernels, or None; `others` are its states and weights."""
    cell = layer.cell
    for name, wanted in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if getattr(cell, name) is not getattr(keras.activations, wanted):
            return f"{name} is not {wanted}"
    if layer.use_cudnn is True:
        return "use_cudnn=True"
    if training and cell.recurrent_dropout:
        return "recurrent_dropout has a mask for every gate"
    if training and cell.dropout and cell.implementation == 1:
        return "dropout has a mask for every gate where implementation=1"
    reason = fallback([x, *others])
    return f"an input of shape {tuple(x.shape)}" if reason is None and 0 in x.shape else reason


def _called(layer: Any, x: Any, initial_state: Any, mask: Any, training: bool) -> Any:
    """What `call` shall give where it is a plain one, from zeros, without mask and dropout; None for Keras's own.

    Keras's makes states of zeros, and maps over trees of them: as long as a small layer takes.
    """
    cell = layer.cell
    if type(layer) not in _THEIRS or not isinstance(x, Tensor) or x.dim() != 3 or initial_state is not None:
        return None
    if mask is not None or layer.stateful or cell.dropout or cell.recurrent_dropout:
        return None
    found = _computed(layer, x, [], None, training)
    if found is None:
        return None
    last, y, states = found
    output = [y if layer.return_sequences else last, *(states if layer.return_state else ())]
    output = [keras.ops.cast(tensor, layer.compute_dtype) for tensor in output]
    return tuple(output) if layer.return_state else output[0]


def _computed(
    layer: Any, x: Any, initial_state: Any, mask: Any, training: bool
) -> tuple[Tensor, Tensor, list[Tensor]] | None:
    """What `inner_loop` shall give; None where Keras must compute it. Without states from zeros."""
    cell = layer.cell
    states = [*initial_state] if isinstance(initial_state, list | tuple) else [initial_state]
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    variables = _variables(cell)
    if isinstance(x, Tensor) and not x.is_floating_point():
        x = x.to(variables[0].dtype)
    if _why_not(layer, x, [*states, *variables], training) is not None or (
        mask is not None and mask.dim() != 2
    ):
        return None
    if training and cell.dropout:
        x = x * cell.get_dropout_mask(x[:, 0])[:, None]
    if layer.go_backwards:
        x, mask = x.flip(1), None if mask is None else mask.flip(1)
    if layer.stateful:  # Keras writes the new state over the old one before the backward pass reads that
        states = [state.clone() for state in states]
    B, T, I = x.shape
    lengths = None
    if mask is not None:
        mask = mask.bool()
        x, lengths = _in_front(x, mask), mask.sum(1).cpu()
    lstm = isinstance(layer, keras.layers.LSTM)
    options = Options() if lstm or cell.reset_after else Options(reset="before")
    mode = "LSTM" if lstm else "GRU"
    spec = Spec(mode, I, cell.units, 0, 1, 1, bool(cell.use_bias), True, options)
    h, c, *_ = [*(state[None] for state in states), None, None]
    y, h_n, c_n, _ = run(spec, Batch(T, B, lengths), x, h, c, _weights(variables, mode))
    if mask is not None:
        y = _spread(y, mask, layer.zero_output_for_mask)
    return y[:, -1], y, [h_n[0]] if c_n is None else [h_n[0], c_n[0]]


def _variables(cell: Any) -> list[Tensor]:
    """kernel (I, GH), recurrent kernel (H, GH), and the bias where there is one."""
    found = [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.use_bias else [])]
    return [keras.ops.convert_to_tensor(variable) for variable in found]


def _weights(variables: list[Tensor], mode: str) -> list[Tensor]:
    """W, R, b_W and b_R in our order of gates; a GRU's bias is (2, 3H) where the reset acts after the product."""
    kernel, recurrent, *bias = variables
    turned = [_reordered(mode, kernel.t()), _reordered(mode, recurrent.t())]
    if bias:
        b_W, b_R = bias[0] if bias[0].dim() == 2 else (bias[0], torch.zeros_like(bias[0]))
        turned += [_reordered(mode, b_W), _reordered(mode, b_R)]
    return turned


def _reordered(mode: str, array: Tensor) -> Tensor:
    theirs, ours = ORDERS[mode.lower()]["keras"], ORDERS[mode.lower()]["torch"]  # type: ignore[index]
    if theirs == ours:
        return array.contiguous()
    gates = array.chunk(len(theirs))
    return torch.cat([gates[theirs.index(gate)] for gate in ours])


def _in_front(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, T, I) with the steps that count first, in their order."""
    order = mask.logical_not().byte().argsort(dim=1, stable=True)
    return x.gather(1, order[..., None].expand_as(x))


def _spread(y: Tensor, mask: Tensor, zero: bool) -> Tensor:
    """Outputs of `_in_front` at the steps where they came; a step that does not count repeats the one before it.

    Before the first step that counts, and everywhere with `zero`, it is 0 instead.
    """
    place = mask.cumsum(1) - 1
    found = y.gather(1, place.clamp(min=0)[..., None].expand_as(y))
    return found.masked_fill((mask if zero else place >= 0).logical_not()[..., None], 0)
