"""Programs around recurrent layers of torch.nn that others wrote; none of them knows of carousel.

Each is a function of the number of training steps; it imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wild import agents, forecasters, tutorials

__all__ = ["PROGRAMS", "Program"]


@dataclass(frozen=True)
class Program:
    """What trains for so many steps, and how many of them are timed."""

    name: str
    train: Callable[[int], None]
    steps: int


PROGRAMS = (
    Program("NeuralForecast LSTM", forecasters.neuralforecast_lstm, 60),
    Program("NeuralForecast GRU", forecasters.neuralforecast_gru, 60),
    Program("Darts RNNModel", forecasters.darts_rnn, 300),
    Program("Darts BlockRNNModel", forecasters.darts_block_rnn, 300),
    Program("GluonTS DeepAR", forecasters.gluonts_deepar, 50),
    Program("sb3-contrib RecurrentPPO", agents.recurrent_ppo, 40),
    Program("tutorial 1b, many to many", tutorials.many_to_many, 1000),
    Program("tutorial 2b, one GRU step", tutorials.gru, 2000),
    Program("tutorial 3, sine wave", tutorials.sine, 60),
    Program("tutorial 4b, last step", tutorials.last_step, 60),
)
