"""Which path a call of a recurrent module takes, and why. Only what is certain takes ours.

Everything else goes to torch's own method: what the kernels do not cover, and every misuse, so that torch's
checks speak in their own words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

from carousel import _core

__all__ = ["fallback", "path"]


def fallback(tensors: list[Tensor]) -> str | None:
    """Why a call with these tensors must take torch's path, or None.

    Cheap checks first: this runs before every call.
    """
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export"
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        return f"dtype {dtype}"
    for tensor in tensors:
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return f"a {type(tensor).__name__} instead of a plain tensor"
        if not tensor.is_cpu:
            return f"device {tensor.device}"
        if tensor.dtype is not dtype:
            return f"dtypes {dtype} and {tensor.dtype} in one call"
        if tensor.layout is not torch.strided:
            return f"layout {tensor.layout}"
        if tensor.is_neg():
            return "a tensor with a pending negation"
    return _mode()


def _mode() -> str | None:
    """A mode of torch in which a call is not a plain one."""
    if torch._C._get_tracing_state() is not None:
        return "torch.jit"
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    if torch._C._are_functorch_transforms_active():
        return "torch.func"
    if torch._C._len_torch_dispatch_stack() > 0 or not _only_default_device():
        return "a torch dispatch or function mode"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    return None


def _only_default_device() -> bool:
    """Whether no function mode is on but `torch.device(...)` or `torch.set_default_device`."""
    if torch._C._len_torch_function_stack() == 0:
        return True
    modes = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return all(type(mode) is DeviceContext for mode in modes)


def path(reason: str | None, dtype: torch.dtype) -> str:
    """One line: ours with instruction set and dtype, or torch's with the reason."""
    if reason is not None:
        return f"torch: {reason}"
    return f"carousel: {_core.isa()} {str(dtype).removeprefix('torch.')}"
