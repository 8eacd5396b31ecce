"""Day-ahead electric load: fit on the past, forecast 24 hours at every midnight after it, beside the baselines.

    python examples/load.py [FILE START]

FILE has a column of local times, hourly, and one of loads; the hour that autumn repeats is averaged. START is
the first midnight to forecast. Without a file, a made-up load of half a year shows how it is done.
"""

import sys

import numpy as np
import pandas as pd

from carousel import Forecaster
from carousel.forecast.read import read_frame, read_table


def made_up(days: int = 180) -> pd.DataFrame:
    """A load with a morning and an evening peak, lower at weekends, that follows the weather."""
    rng = np.random.default_rng(0)
    ds = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    hour, weekend = ds.hour.to_numpy(), ds.day_of_week.to_numpy() >= 5
    weather = np.convolve(rng.normal(size=24 * days), np.ones(48) / 7, "same")
    y = 300 - 80 * np.cos(hour * np.pi / 12) - 40 * np.cos(hour * np.pi / 6) - 50 * weekend + 20 * weather
    return pd.DataFrame({"ds": ds, "y": y + rng.normal(size=24 * days)})


def read(path: str) -> pd.DataFrame:
    """The hours of a file, one row each; missing ones are NaN."""
    panel = read_frame(read_table(path), duplicates="mean").panel
    return pd.DataFrame({"ds": panel.times(0), "y": panel.values})


def main() -> None:
    load = read(sys.argv[1]) if len(sys.argv) > 1 else made_up()
    start = pd.Timestamp(sys.argv[2] if len(sys.argv) > 2 else "2024-06-01")
    forecaster = Forecaster(24).fit(load[load["ds"] < start])
    print(*forecaster.notes_, sep="\n")
    print(forecaster.backtest(load, start=start))


if __name__ == "__main__":
    main()
