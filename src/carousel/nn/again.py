"""A call like the one before: same module, tensors of the same kind. One question of C++ instead of twenty of Python.

For small models the checks of a call cost more than its mathematics. What a plain call has found out is kept, and
holds until anything that it was derived from has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from carousel.nn.call import Seen, given_states
from carousel.nn.function import run_as
from carousel.nn.kernels import plan_of
from carousel.nn.spec import Batch, Outputs, Spec

__all__ = ["Again", "Known", "again", "remember"]

# Bound once: they are asked in every call.
_dispatch_modes, _function_modes = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack

# What a module may change between calls, besides its parameters.
_settings = itemgetter(
    "mode", "input_size", "hidden_size", "proj_size", "num_layers", "bidirectional", "bias", "batch_first",
    "dropout", "training",
)  # fmt: skip


class Known:
    """Whether a call is like one before: tensors of the same kind, a module with the same settings.

    The guard of torch.compile compares type, dtype, device, layout, sizes, strides, requires_grad and pending
    operations of all tensors; it holds no reference to them. It does not see every mode of torch: not FakeTensorMode
    among those that dispatch, nor those of functions and of forward differentiation, nor whether gradients are enabled.
    """

    def __init__(
        self,
        module: Any,
        settings: Callable[[Any], Any],
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        tensors = (x, *states, *weights)
        sizes, strides = [list(t.shape) for t in tensors], [list(t.stride()) for t in tensors]
        guard: Any = torch._C._dynamo.guards.TensorGuards
        self.guard = guard(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
        self.settings_of, self.settings = settings, settings(module.__dict__)
        self.states = len(states)

    def holds(self, module: Any, x: Any, states: Sequence[Any], weights: Sequence[Any]) -> bool:
        """Whether a call is like the one before. No mode of torch may be on."""
        return (
            self.settings == self.settings_of(module.__dict__)
            and self.states == len(states)
            and not any(map(_is_nested, (x, *states)))  # of whose sizes the guard could ask
            and bool(self.guard.check(x, *states, *weights))
            and not (_dispatch_modes() or _function_modes())
            and forward_ad._current_level < 0
        )


class Again(Known):
    """What a call of a layer with a tensor, plain in every respect, has found out."""

    def __init__(
        self,
        module: Any,
        spec: Spec,
        batch: Batch,
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        super().__init__(module, _settings, x, states, weights)
        self.plan = plan_of(spec, batch, x)

    def run(self, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> Outputs:
        """As `function.run`."""
        h_0, c_0 = states if len(states) == 2 else (*states, None) if states else (None, None)
        return run_as(self.plan, x, h_0, c_0, weights)


def _is_nested(given: Any) -> bool:
    return isinstance(given, Tensor) and given.is_nested


def again(module: Any, x: Any, hx: Any, weights: Sequence[Any]) -> Outputs | None:
    """The result of a call like the one before; None if it is another."""
    if torch.compiler.is_compiling():
        return None
    known: Again | None = module._again
    if known is None:
        return None
    states = given_states(hx, known.plan.c_shape is not None)
    if states is None:
        return None
    return known.run(x, states, weights) if known.holds(module, x, states, weights) else None


def remember(
    module: Any,
    spec: Spec,
    batch: Batch,
    x: Tensor,
    states: Sequence[Tensor | None],
    weights: Sequence[Tensor],
) -> None:
    """Keeps what a plain call has found out, the second time that x has this shape."""
    if torch.compiler.is_compiling():
        return
    seen: Seen | None = module._seen
    if seen is None:
        return
    if seen.shape != x.shape:
        seen.shape = x.shape
        return
    given = [state for state in states if state is not None]
    module._again = Again(module, spec, batch, x, given, weights)
