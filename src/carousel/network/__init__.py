"""The model as a value, and its file.

- `Network` of `Recurrent` (of `Weights`), `Dense`, `LastStep`: what a model is, checked and immutable;
- `Activation`, `Embedding`, `Masking`, `Normalization`, `Reverse`: layers that foreign models have around them;
- `ForecastModel`: what a forecaster has learned;
- `save(value, path)`, `load(path)`: the model file of either; `to_bytes`, `from_bytes`: the same in memory;
- `document`, `Texts`: what lets another class into the file.
"""

from carousel.network.checkpoint import Checkpoint
from carousel.network.document import Texts, document
from carousel.network.file import from_bytes, load, save, to_bytes
from carousel.network.forecaster import ForecastModel
from carousel.network.layers import Dense, LastStep, Recurrent, Reverse, Weights
from carousel.network.pointwise import Activation, Embedding, Masking, Normalization
from carousel.network.stack import Layer, Network

__all__ = [
    "Activation",
    "Checkpoint",
    "Dense",
    "Embedding",
    "ForecastModel",
    "LastStep",
    "Layer",
    "Masking",
    "Network",
    "Normalization",
    "Recurrent",
    "Reverse",
    "Texts",
    "Weights",
    "document",
    "from_bytes",
    "load",
    "save",
    "to_bytes",
]
