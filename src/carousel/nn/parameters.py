"""The parameters that options bring: their names, shapes and first values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.nn.spec import SLOTS, Spec, shapes, slots

__all__ = ["add", "learned_state", "reset"]


def add(module: Any, spec: Spec) -> None:
    """Gives `module`, whose constructor was torch's, the parameters of its options, under names like torch's."""
    like = module.weight_ih_l0
    wanted = iter(shapes(spec))
    names: list[list[str]] = []
    for layer in range(spec.num_layers):
        for suffix in ("", "_reverse")[: spec.directions]:
            names.append([f"{SLOTS[slot]}_l{layer}{suffix}" for slot in slots(spec)])
            for name in names[-1]:
                shape = next(wanted)
                old = module._parameters.get(name)
                if old is None:
                    module.register_parameter(name, torch.nn.Parameter(like.new_empty(shape)))
                elif old.shape != shape:  # three gates instead of four
                    module.register_parameter(name, torch.nn.Parameter(old.detach()[: shape[0]].clone()))
    module._all_weights = names
    module._flat_weights_names = [name for each in names for name in each]
    module._init_flat_weights()
    if module._beyond.learn_initial_state:
        count = spec.num_layers * spec.directions
        module.h_0 = torch.nn.Parameter(like.new_empty(count, 1, spec.width))
        if spec.has_cells:
            module.c_0 = torch.nn.Parameter(like.new_empty(count, 1, spec.hidden_size))
    reset(module)


@torch.no_grad()
def reset(module: Any) -> None:
    """Gains are 1, shifts and states 0, the forget gate's bias as asked; peepholes as torch draws every weight."""
    H, forget_bias = module.hidden_size, module._beyond.forget_bias
    for name, parameter in module.named_parameters(recurse=False):
        if name.startswith("gain_"):
            parameter.fill_(1)
        elif name.startswith(("shift_", "h_0", "c_0")):
            parameter.zero_()
        elif name.startswith("weight_ch_"):
            parameter.uniform_(-(H**-0.5), H**-0.5)
        elif name.startswith("bias_") and forget_bias is not None:
            parameter[H : 2 * H] = forget_bias if name.startswith("bias_ih_") else 0.0


def learned_state(module: Any, input: Any) -> Any:
    """hx of a call without one: h_0 and c_0, the same for every row; None where `input` is no sequence."""
    states = (module.h_0, module.c_0) if module.mode == "LSTM" else (module.h_0,)
    if isinstance(input, PackedSequence):
        states = tuple(state.expand(-1, int(input.batch_sizes[0]), -1) for state in states)
    elif isinstance(input, Tensor) and input.dim() == 3:
        rows = input.shape[0 if module.batch_first else 1]
        states = tuple(state.expand(-1, rows, -1) for state in states)
    elif isinstance(input, Tensor) and input.dim() == 2:
        states = tuple(state.squeeze(1) for state in states)
    else:
        return None
    return states if module.mode == "LSTM" else states[0]
