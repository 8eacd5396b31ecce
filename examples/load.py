"""Day-ahead electric load: fit on the past, forecast 24 hours at every midnight, with honest company.

    python examples/load.py load.csv.gz 2015-01-01

The file has a column of local times, hourly, and one of loads; duplicates of the autumn hour are averaged.
"""

import sys

import numpy as np

from carousel import Forecaster
from carousel.forecast.read import read_frame, read_table


def main(path: str, start: str) -> None:
    table = read_table(path)
    panel = read_frame(table, duplicates="mean").panel
    rows = np.searchsorted(panel.times(0), np.datetime64(start))
    past = {"ds": panel.times(0)[:rows], "y": panel.values[:rows]}

    import pandas as pd

    forecaster = Forecaster(24).fit(pd.DataFrame(past))
    print(*forecaster.notes_, sep="\n")
    whole = pd.DataFrame({"ds": panel.times(0), "y": panel.values})
    print(forecaster.backtest(whole, start=start))
    forecaster.plot(whole[: rows + 24], "load.png", truth=True, with_baselines=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
