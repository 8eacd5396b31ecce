"""carousel: recurrent networks you can read, on kernels ahead of every framework on a CPU.

`import carousel` is light: everything below is loaded at first use (PEP 562), and torch only by what needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carousel import errors, forecast, interop, layout, network, nn, reference, series, stream
    from carousel.files import load, save
    from carousel.forecast import Forecaster
    from carousel.nn.acceleration import accelerate, accelerated, kernel_path, restore

__version__ = "0.1.0"

__all__ = [
    "Forecaster",
    "accelerate",
    "accelerated",
    "errors",
    "forecast",
    "interop",
    "kernel_path",
    "layout",
    "load",
    "network",
    "nn",
    "reference",
    "restore",
    "save",
    "series",
    "stream",
]

_ON_DEMAND = ("keras",)  # not for `import *`: they need a framework that few have

_HOMES = {
    "Forecaster": "carousel.forecast",
    "accelerate": "carousel.nn.acceleration",
    "accelerated": "carousel.nn.acceleration",
    "kernel_path": "carousel.nn.acceleration",
    "restore": "carousel.nn.acceleration",
    "load": "carousel.files",
    "save": "carousel.files",
}


def __getattr__(name: str) -> Any:
    if name not in (*__all__, *_ON_DEMAND):
        raise AttributeError(f"module 'carousel' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOMES.get(name, f"carousel.{name}"))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("carousel"):
            raise
        extra = f"`carousel.{name}` needs {error.name}: pip install 'carousel-rnn[all]'"
        if name == "keras":
            extra = "`carousel.keras` needs keras: pip install keras"
            if (
                error.name != "keras"
            ):  # Keras looks for the framework that it is set to, TensorFlow where it is not
                extra = f"Keras did not find {error.name}; set KERAS_BACKEND=torch before Keras is imported"
        raise ModuleNotFoundError(extra, name=error.name) from error
    value = getattr(home, name) if name in _HOMES else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
