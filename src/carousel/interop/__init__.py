"""Foreign models to Network and back, exactly or not at all: one module per framework, each imported at first use.

- `torch`: modules; `keras`: .keras and .h5 files; `onnx`: models, and a backend; `numpy`: weights per gate;
- `files`: any of them by the ending of a name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carousel.interop import files, keras, numpy, onnx, torch, verification

__all__ = ["files", "keras", "numpy", "onnx", "torch", "verification"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'carousel.interop' has no attribute {name!r}")
    return importlib.import_module(f"carousel.interop.{name}")


def __dir__() -> list[str]:
    return __all__
