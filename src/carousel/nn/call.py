"""Which path a call of a recurrent module takes, and why. Only what is certain takes ours.

Everything else goes to torch's own method: what the kernels do not cover, and every misuse, so that torch's
checks speak in their own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._device import DeviceContext

from carousel import _core
from carousel.nn.ragged import is_whole
from carousel.nn.spec import Spec, known_shapes, shapes

__all__ = [
    "Beside", "Seen", "are_certain", "fallback", "given_states", "is_low", "path", "torch_can", "why_not",
]  # fmt: skip

# torch.compile's own check of a list of tensors; not of torch's public face, so that a torch without it checks anew.
HAS_GUARDS = hasattr(getattr(torch._C._dynamo, "guards", None), "TensorGuards")
# Without it, what is compiled cannot be told from what is exported, and both take torch's path.
HAS_EXPORTING = hasattr(torch.compiler, "is_exporting")


class Seen:
    """Weights that a call has checked, as their module keeps them for the next.

    Whatever has become of a weight since, be it through `weight.data`, the guard of torch.compile finds: type,
    dtype, device, layout, sizes, strides and pending operations of all weights in one call of C++. It holds no
    reference to them.
    """

    def __init__(self, spec: Spec, weights: Sequence[Tensor]) -> None:
        guard: Any = torch._C._dynamo.guards.TensorGuards
        sizes, strides = [list(w.shape) for w in weights], [list(w.stride()) for w in weights]
        self.spec, self.dtype = spec, weights[0].dtype
        self.shape: torch.Size | None = None  # of the last input
        self.guard = guard(
            *weights, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides
        )  # none may differ


class Beside:
    """An attribute that a module keeps, but not in its `__dict__`: no copy, pickle or checkpoint meets it.

    None where nothing was set.
    """

    def __init__(self) -> None:
        self.kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def __get__(self, module: Any, owner: type) -> Any:
        """Of a class, the attribute itself."""
        return self if module is None else self.kept.get(module)

    def __set__(self, module: Any, value: Any) -> None:
        self.kept[module] = value


def are_certain(seen: Seen | None, spec: Spec, dtype: torch.dtype | None, weights: Sequence[Any]) -> bool:
    """Whether nothing about the weights has changed since `seen`."""
    if torch.compiler.is_compiling():  # by itself, after an error in what calls it
        return False
    if seen is None or seen.spec != spec or seen.dtype is not dtype:
        return False
    return bool(seen.guard.check(*weights))


def is_low(x: Any) -> bool:
    """Whether a call with this input computes in bfloat16: autocast, or else its dtype, says so."""
    if not isinstance(x, Tensor):
        return False
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu") is torch.bfloat16
        return low and x.dtype in (torch.float32, torch.bfloat16)
    return x.dtype is torch.bfloat16


def given_states(hx: Any, has_cells: bool) -> tuple[Any, ...] | None:
    """What `hx` holds, none where it is left out; None where it has no such form."""
    if hx is None:
        return ()
    if not has_cells:
        return (hx,)
    return tuple(hx) if isinstance(hx, tuple | list) and len(hx) == 2 else None


def why_not(spec: Spec, input: Any, hx: Any, weights: Sequence[Any], low: bool) -> str | None:
    """Why a call cannot use the kernels, or None. Weights that are certain are left out."""
    packed = isinstance(input, PackedSequence)
    if packed and torch.compiler.is_compiling():
        return "a PackedSequence in torch.compile"
    x = input.data if packed else input
    states = given_states(hx, spec.has_cells)
    if states is None:
        return "hx of another form"
    reason = fallback((x, *states, *weights), low)
    if reason is not None:
        return reason
    shape = x.shape
    # In a graph torch's own LSTM divides by the size of an empty batch, and ends the process.
    empty = torch.compiler.is_compiling() and len(shape) == 3 and shape[0 if spec.batch_first else 1] == 0
    nothing = shape[1 if spec.batch_first else 0] == 0 if empty else 0 in shape
    if len(shape) not in ((2,) if packed else (2, 3)) or shape[-1] != spec.input_size or nothing:
        return f"an input of shape {tuple(shape)}"
    if packed and not is_whole(input):
        return "a PackedSequence whose parts do not fit each other"
    if states:
        batch: tuple[int, ...] = () if len(shape) == 2 else (shape[0 if spec.batch_first else 1],)
        if packed:
            batch = (int(input.batch_sizes[0]),)
        for state, width in zip(states, (spec.width, spec.hidden_size), strict=False):
            if state.shape != (spec.num_layers * spec.directions, *batch, width):
                return "hx of another shape"
    # The constructor gave them these shapes; somebody may have put other tensors there since.
    if weights:
        expected = shapes if torch.compiler.is_compiling() else known_shapes
        if [w.shape for w in weights] != expected(spec):
            return "weights of another shape"
    return None


def fallback(tensors: Sequence[Any], low: bool = False) -> str | None:
    """Why a call with these tensors must take torch's path, or None.

    Cheap checks first: this runs before every call.
    """
    compiling = torch.compiler.is_compiling()
    if compiling and _is_exporting():
        return "torch.export"  # a program of torch's own operations runs where we are not installed
    first = tensors[0]
    if not isinstance(first, Tensor):
        return "an argument that is not a tensor"
    dtype, autocast = first.dtype, torch.is_autocast_enabled("cpu")
    if dtype is not torch.float32 and dtype is not torch.float64 and not low:
        return f"dtype {dtype}"
    if autocast and not low:
        return "autocast"
    for tensor in tensors:
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            if not isinstance(tensor, Tensor):
                return "an argument that is not a tensor"
            return f"a {type(tensor).__name__} instead of a plain tensor"
        if not tensor.is_cpu:
            return f"device {tensor.device}"
        if tensor.dtype is not dtype and not (autocast and tensor.dtype in (torch.float32, torch.bfloat16)):
            return f"dtypes {dtype} and {tensor.dtype} in one call"
        if tensor.layout is not torch.strided:
            return f"layout {tensor.layout}"
        if tensor.is_nested:
            return "a nested tensor"
        if not compiling and tensor.is_neg():  # for an operator torch carries it out
            return "a tensor with a pending negation"
    if compiling:
        return "torch.func" if torch._C._are_functorch_transforms_active() else None
    return _mode()


def _is_exporting() -> bool:
    return not HAS_EXPORTING or torch.compiler.is_exporting()


def _mode() -> str | None:
    """A mode of torch in which a call is not a plain one."""
    if torch._C._get_tracing_state() is not None:
        return "torch.jit"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if torch._C._len_torch_dispatch_stack() > 0 or not _only_default_device():
        return "a torch dispatch or function mode"
    return None


def torch_can(tensors: Sequence[Any]) -> bool:
    """Whether torch's own layers know the transforms that are on.

    They do not know forward mode, nor vmap, nor any inside torch.compile.
    """
    if torch.compiler.is_compiling():
        return _is_exporting() or not torch._C._are_functorch_transforms_active()
    if torch.autograd.forward_ad._current_level >= 0:
        return False
    return not (torch._C._are_functorch_transforms_active() and any(map(_is_batched, tensors)))


def _is_batched(tensor: Any) -> bool:
    functorch: Any = torch._C._functorch
    while isinstance(tensor, Tensor) and functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def _only_default_device() -> bool:
    """Whether no function mode is on but `torch.device(...)` or `torch.set_default_device`."""
    if torch._C._len_torch_function_stack() == 0:
        return True
    modes = torch.overrides._get_current_function_mode_stack()
    return all(type(mode) is DeviceContext for mode in modes)


def path(reason: str | None, dtype: torch.dtype, low: bool = False, instead: str = "torch") -> str:
    """One line: ours with instruction set and dtype, or another with the reason."""
    if reason is not None:
        return f"{instead}: {reason}"
    return f"carousel: {_core.isa()} {'bfloat16' if low else str(dtype).removeprefix('torch.')}"
