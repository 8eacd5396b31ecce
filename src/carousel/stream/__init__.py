"""Running a model without torch: whole sequences, pieces of them, or one step at a time.

- `Model(value)`: of a Network a NetworkModel, of what a forecaster has learned a ForecasterModel;
- `load(path)`: the same, of a model file.

Example:
    >>> import numpy as np
    >>> from carousel.network import Dense, Network, Recurrent, Weights
    >>> from carousel.stream import Model
    >>> lstm = Recurrent("lstm", (Weights(np.ones((20, 3)), np.ones((20, 5))),))
    >>> model = Model(Network((lstm, Dense(np.ones((1, 5))))))
    >>> model.run(np.zeros((7, 2, 3))).shape
    (7, 2, 1)
    >>> state = model.start(batch=2)
    >>> y, state = model.step(np.zeros((2, 3)), state)
    >>> y.shape
    (2, 1)
"""

from carousel.stream.model import Model, load
from carousel.stream.network import NetworkModel, State

__all__ = ["Model", "NetworkModel", "State", "load"]
