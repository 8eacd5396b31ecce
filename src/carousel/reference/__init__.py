"""The equations as printed, in NumPy: the judge of every kernel, and the place to read them.

`lstm`, `gru`, `rnn` are one direction of one layer; `stack` puts them together and ends in `dense`. `Options` is
what they can do beyond the plain equations, each of which then stands in `lstm_options` and so on.
Each module has

    step(x, state, w) -> state, gates                 one step in time
    forward(x, w, state) -> y, state, cache           T steps; the cache holds what happened at every one
    backward(dy, w, cache, dstate) -> x, w, state     the gradients, named after what they belong to

Arrays are time-major, (T, B, I); weights are those of `carousel.layout.Weights`. Any float or complex
dtype will do: no function here takes a conjugate, so that derivatives can be had by the complex step.
Nothing is fast. Only tests and documentation import this package.
"""

from carousel.layout import Weights
from carousel.reference import dense, gru, lstm, rnn, stack
from carousel.reference.options import LayerNorm, Options

__all__ = ["LayerNorm", "Options", "Weights", "dense", "gru", "lstm", "rnn", "stack"]
