"""torch modules on our kernels: drop-ins for torch.nn.LSTM, GRU, RNN and their cells, and a Stack of them."""

from carousel.nn.cells import GRUCell, LSTMCell, RNNCell
from carousel.nn.convert import module
from carousel.nn.layers import GRU, LSTM, RNN
from carousel.nn.stack import Stack

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Stack", "module"]
