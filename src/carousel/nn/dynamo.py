"""Lets torch.compile trace our layers whole.

Dynamo refuses torch.nn.LSTM, GRU and RNN, and whatever is derived from them, unless its flag `allow_rnn` is on: their
loops over time would be unrolled. Ours are one operator (`nn.operators`). The flag is on while Dynamo looks at
one of ours and at no other time, so that torch's own layers keep what the user has set.

torch._dynamo takes seconds to import; it is prepared when somebody else imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["admit"]

_BUILDER = "torch._dynamo.variables.builder"


def admit(layer: type) -> None:
    """From now on Dynamo traces instances of `layer` and of classes derived from it."""
    if _BUILDER in sys.modules:
        _prepare(sys.modules[_BUILDER], layer)
    else:
        sys.meta_path.insert(0, _WhenImported(layer))


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


class _WhenImported(MetaPathFinder):
    """Finds the builder as Python would, and prepares it once it has run."""

    def __init__(self, layer: type) -> None:
        self.layer = layer

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _prepare(module, self.layer)

            loader.exec_module = exec_module
        return spec
