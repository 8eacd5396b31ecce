"""torch's own checks of input and hx, in torch's words, for calls that neither the kernels nor torch's method take."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.errors import ShapeError
from carousel.nn.ragged import is_whole

__all__ = ["check_as_torch"]


def check_as_torch(module: Any, input: Any, hx: Any) -> None:
    """Raises what `forward` of torch.nn.LSTM, GRU or RNN raises (torch 2.13, torch/nn/modules/rnn.py)."""
    lstm = module.mode == "LSTM"
    if isinstance(input, PackedSequence):
        if not is_whole(input):
            raise ShapeError("`input` must be a PackedSequence whose parts fit each other.")
        x, sizes = input.data, input.batch_sizes
    else:
        x, sizes = input, None
        if x.dim() not in (2, 3):
            name, noun = ("RNN", " tensor") if module.mode.startswith("RNN") else (module.mode, "")
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {x.dim()}D{noun} instead")
        _check_axes(x, hx, lstm)
        if x.dim() == 2:
            x = x.unsqueeze(0 if module.batch_first else 1)
            hx = None if hx is None else tuple(s.unsqueeze(1) for s in hx) if lstm else hx.unsqueeze(1)
    module.check_input(x, sizes)
    if hx is not None:
        module.check_forward_args(x, hx, sizes)
    if sizes is None and x.shape[1 if module.batch_first else 0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _check_axes(x: Tensor, hx: Any, lstm: bool) -> None:
    """Those of hx, which torch counts before anything else."""
    if hx is None:
        return
    axes, states = x.dim(), (hx[0], hx[1]) if lstm else (hx,)
    if all(state.dim() == axes for state in states):
        return
    start = f"For {'batched 3-D' if axes == 3 else 'unbatched 2-D'} input, hx "
    found = ", ".join(f"{state.dim()}-D" for state in states)
    if lstm:
        raise RuntimeError(f"{start}and cx should also be {axes}-D but got ({found}) tensors")
    raise RuntimeError(f"{start}should also be {axes}-D but got {found} tensor")
