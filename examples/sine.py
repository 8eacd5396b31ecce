"""The tutorials' third program: an LSTM learns a sine wave from windows of 50 points.

The tutorials shuffle overlapping windows before the split, so that the test set is almost contained in the
training set. Here the last 200 points are the test, and nothing before them has seen them.
"""

import numpy as np

from carousel import Forecaster

wave = np.sin(np.linspace(0, 1000, 1000))
train, test = wave[:800], wave[800:]

for architecture in ("plain", "auto"):
    forecaster = Forecaster(10, architecture=architecture, cell="lstm", lookback=50, epochs=5, progress=False)
    forecaster.fit(train)
    for losses in forecaster.history_:
        print(f"epoch {losses['epoch']}: loss {losses['train']:.5f}, held out {losses['valid']:.5f}")
    backtest = forecaster.backtest(wave, start=800, step=1)
    print(f"{architecture}:", backtest, sep="\n")
