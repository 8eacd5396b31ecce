"""The model as a value, and its file.

- `Network` of `Recurrent` (of `Weights`), `Dense`, `LastStep`: what a model is, checked and immutable;
- `ForecastModel`: what a forecaster has learned;
- `save(value, path)`, `load(path)`: the model file of either;
- `document`, `Texts`: what lets another class into the file.
"""

from carousel.network.document import Texts, document
from carousel.network.file import load, save
from carousel.network.forecaster import ForecastModel
from carousel.network.layers import Dense, LastStep, Layer, Recurrent, Weights
from carousel.network.stack import Network

__all__ = [
    "Dense",
    "ForecastModel",
    "LastStep",
    "Layer",
    "Network",
    "Recurrent",
    "Texts",
    "Weights",
    "document",
    "load",
    "save",
]
