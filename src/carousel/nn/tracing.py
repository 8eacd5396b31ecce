"""torch.fx.symbolic_trace through one of our modules: one node of the graph, as a layer of torch is.

torch's tracer takes a module whole if its class comes from `torch.nn`, and goes into every other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Proxy

__all__ = ["Proxy", "is_node", "node"]

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_node(module: torch.nn.Module, input: Proxy) -> bool:
    """Whether a call while tracing may stand in the graph as it is.

    Not of the module that is traced itself, as with torch's; nor of a class that somebody derived from ours, or of a
    module with hooks: the tracer has recorded part of such a call already, which the node would do again.
    """
    tracer: Any = input.tracer
    ours = type(module).__module__.startswith("carousel.")
    return ours and module is not tracer.root and not any(getattr(module, hooks) for hooks in _HOOKS)


def node(module: torch.nn.Module, input: Proxy, hx: Any, **keywords: Any) -> Proxy:
    """The call as a node; keywords that are None or False are those that were not given."""
    tracer: Any = input.tracer
    given = {name: value for name, value in keywords.items() if value is not None and value is not False}
    arguments = (input,) if hx is None else (input, hx)
    found: Proxy = tracer.create_proxy("call_module", tracer.path_of_module(module), arguments, given)
    return found
