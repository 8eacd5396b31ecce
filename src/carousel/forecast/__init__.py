"""The estimator: from a frame to an honest forecast.

Forecaster   fit, predict, backtest, plot, save
Backtest     the result of a backtest
Scores       accuracy of a forecast
"""

from carousel.forecast.backtest import Backtest
from carousel.forecast.estimator import Forecaster
from carousel.forecast.scores import Scores

__all__ = ["Backtest", "Forecaster", "Scores"]
