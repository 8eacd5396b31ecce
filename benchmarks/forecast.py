"""How accurate is the default forecaster, beside persistence, seasonal naive and ridge on the same origins?

    python benchmarks/forecast.py airline path/to/airline-passengers.csv
    python benchmarks/forecast.py pjm     path/to/PJME_hourly.csv.gz
    python benchmarks/forecast.py sales   path/to/monthly-car-sales.csv path/to/…
    python benchmarks/forecast.py retail  path/to/aus_retail.csv.gz
    python benchmarks/forecast.py m4      path/to/Hourly-train.csv.gz path/to/Hourly-test.csv.gz

One default setting for all; nothing is tuned per set, and all errors are of rows after those that were
fitted on. `airline` fits five seeds on the first 132 months and forecasts the last 12, then fits anew at
each of 36 origins.
"""

from __future__ import annotations

import csv
import gzip
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from carousel import Forecaster
from carousel.forecast.holdout import backtest_from_start
from carousel.forecast.read import read_frame, read_table


def main() -> None:
    """Runs the set that the command line names."""
    sets = {"airline": airline, "pjm": pjm, "sales": sales, "retail": retail, "m4": m4}
    if len(sys.argv) < 3 or sys.argv[1] not in sets:
        sys.exit(str(__doc__))
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    sets[sys.argv[1]](*sys.argv[2:])


def airline(path: str) -> None:
    """The last 12 months by five seeds, and origins 97 to 132, each fitted anew."""
    table = read_table(path)
    for seed in range(5):
        start = time.perf_counter()
        forecaster = Forecaster(12, seed=seed, progress=False).fit(table.slice(0, 132))
        seconds = time.perf_counter() - start
        result = forecaster.backtest(table, origins=1)
        print(f"seed {seed}, {seconds:.1f} s to fit, RMSE {result.scores['carousel'].rmse:.2f}")
    print("last 12 months, seed 4:", result, sep="\n")
    rolling: dict[str, list[float]] = {}
    for rows in range(97, 133):
        model = Forecaster(12, progress=False).fit(table.slice(0, rows))
        for name, scores in model.backtest(table.slice(0, rows + 12), origins=1).scores.items():
            rolling.setdefault(name, []).append(scores.rmse)
    print("mean RMSE over the 36 origins 97 to 132, fitted anew at each:")
    for name, values in sorted(rolling.items(), key=lambda item: np.mean(item[1])):
        print(f"  {name:16} {np.mean(values):.2f}")


def pjm(path: str) -> None:
    """24 hours at each midnight of 2015 and later, fitted on the years before."""
    reading = read_frame(read_table(path), duplicates="mean")
    start = time.perf_counter()
    forecaster = Forecaster(24)
    result = backtest_from_start(forecaster, reading, start=np.datetime64("2015-01-01T00:00:00"))
    print(f"{time.perf_counter() - start:.0f} s", *forecaster.model_.notes, result, sep="\n")


def sales(*paths: str) -> None:
    """The last 12 months of each file."""
    for path in paths:
        print(path, backtest_from_start(Forecaster(12), read_frame(read_table(path)), origins=1), sep="\n")


def retail(path: str) -> None:
    """The last 12 months of all series of at least 120 months, one model for all."""
    table = read_table(path)
    ids = np.array(table["Series ID"].to_pylist())
    names, counts = np.unique(ids, return_counts=True)
    kept = pa.array(np.isin(ids, names[counts >= 120]))
    reading = read_frame(table.filter(kept), id="Series ID", time="Month", target="Turnover")
    print(backtest_from_start(Forecaster(12), reading, origins=1))


def m4(train: str, test: str) -> None:
    """The official split of one frequency; the name of the file says which."""
    freq, horizon, season = ("h", 48, 24) if "Hourly" in train else ("W", 13, 1)
    rows: dict[str, list[Any]] = {"unique_id": [], "ds": [], "y": []}
    for first, second in zip(_series(train), _series(test), strict=True):
        values = first[1] + second[1]
        rows["unique_id"] += [first[0]] * len(values)
        rows["ds"] += range(len(values))
        rows["y"] += values
    print(
        freq, backtest_from_start(Forecaster(horizon, season=season), read_frame(pa.table(rows)), origins=1)
    )


def _series(path: str) -> Iterator[tuple[str, list[float]]]:
    with gzip.open(path, "rt") as file:
        for row in list(csv.reader(file))[1:]:
            yield row[0], [float(cell) for cell in row[1:] if cell]


if __name__ == "__main__":
    main()
