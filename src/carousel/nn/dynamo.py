"""Lets torch.compile trace our layers whole.

Dynamo refuses torch.nn.LSTM, GRU and RNN, and whatever is derived from them, unless its flag `allow_rnn` is on: their
loops over time would be unrolled. Ours are one operator (`nn.operators`). The flag is on while Dynamo looks at
one of ours and at no other time, so that torch's own layers keep what the user has set.

torch._dynamo takes seconds to import; it is prepared when somebody else imports it.
"""

from __future__ import annotations

from inspect import signature
from types import ModuleType
from typing import Any

from carousel.importing import when_imported

__all__ = ["admit", "keep_out"]

_BUILDER = "torch._dynamo.variables.builder"


def admit(layer: type) -> None:
    """From now on Dynamo traces instances of `layer` and of classes derived from it."""
    when_imported(_BUILDER, lambda builder: _prepare(builder, layer))


def keep_out(namespace: dict[str, Any], name: str, reason: str) -> None:
    """From now on Dynamo calls the function `name` of a module as it is, with all that it calls, and traces none of it.

    A graph breaks there; where it may not (`fullgraph=True`), Dynamo refuses and gives `reason`.
    """

    def prepare(dynamo: ModuleType) -> None:
        told = "reason" in signature(dynamo.disable).parameters  # not in torch 2.6
        namespace[name] = dynamo.disable(namespace[name], **({"reason": reason} if told else {}))

    when_imported("torch._dynamo", prepare)


def _prepare(builder: ModuleType, layer: type) -> None:
    """Wraps what looks at a module for the first time; a torch that has it elsewhere breaks the graph as before."""
    found = getattr(builder, "VariableBuilder", None)
    wrap = getattr(found, "wrap_module", None)
    if found is None or wrap is None:
        return

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, layer):
            return wrap(self, value)
        with builder.config.patch(allow_rnn=True):
            return wrap(self, value)

    found.wrap_module = wrap_module
