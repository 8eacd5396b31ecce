"""How accurate is the default forecaster, and what does its recurrent part give?

    python benchmarks/accuracy.py ROW [ROW ...] --data DIR [--seeds 3]

ROW is one of those printed by --help. DIR holds a folder per data set with its files as their sources spread them.
One default setting for all: nothing is chosen per set. Every forecast is made from rows before it; what is fitted is
fitted on rows before the first origin of the test. Beside the forecaster stand, at the same origins, the forecaster
without its recurrent path (the same fit, the path left out), persistence, seasonal naive and ridge; and figures from
papers, which mostly fit on fewer rows: their validation rows are kept apart, ours are given to the fit, which splits
them off by itself. Monthly series are also forecast by exponential smoothing, where its library is there:

    pip install statsforecast
"""

from __future__ import annotations

import csv
import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from carousel import Forecaster, errors
from carousel.bench.script import begin, options, store
from carousel.forecast.baselines import baselines, seasonal_unit
from carousel.forecast.names import Names
from carousel.forecast.plan import plan
from carousel.forecast.read import Reading, read_frame, read_table
from carousel.forecast.split import Spans
from carousel.series import Panel
from carousel.series.history import Origins
from carousel.stream.forecast import Forecast
from carousel.stream.forecaster import ForecasterModel

COLUMNS = ("row", "case", "metric", "who", "value", "spread", "seeds", "fit_seconds")
COVERED = "% covered by 80 %"
CHUNK = 40_000  # origins at a time
SHOWN = 8  # cases of a row, beyond which only their mean is shown
M4 = {
    "Hourly": (48, 24, 18.383, 2.395),
    "Weekly": (13, 1, 9.161, 2.777),
}  # horizon, m, sMAPE and MASE of Naive2

Metric = Callable[
    [np.ndarray, np.ndarray, np.ndarray], np.ndarray
]  # truth, forecast (B, K), series (B,): (B,)
Result = dict[tuple[str, str], list[float]]  # (metric, who) to a value per seed


@dataclass(frozen=True)
class Case:
    """Forecasts of `horizon` rows from `origins`, after a fit on the first `rows` (S,) of every series.

    Args:
        metrics: by name; the mean over origins counts, of "RMSE" its root.
        published: (metric, who, value).
        months: the only origin of each series is the end of its known rows, and exponential smoothing with a
            season of 12 forecasts from there, too.
    """

    name: str
    panel: Panel
    rows: np.ndarray
    horizon: int
    origins: Origins
    metrics: dict[str, Metric]
    published: tuple[tuple[str, str, float], ...] = ()
    months: bool = False


def main() -> None:
    parser = options(__doc__, threads=2, rounds=1, seconds=0.0)
    names = [*ROWS, "all"]
    parser.add_argument("rows", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data sets")
    parser.add_argument(
        "--seeds", type=int, default=3, help="fits of each case, of which mean and spread are told; 3"
    )
    parsed = parser.parse_args()
    machine = begin(parsed)
    seeds = 1 if parsed.quick else parsed.seeds
    for name in ROWS if "all" in parsed.rows else parsed.rows:
        found = []
        for line in run(name, ROWS[name](parsed.data), seeds):
            found.append(line)
            print("{:10} {:22} {:6} {:34} {:>9.5g} ±{:<8.2g} {:>2} {:>6}".format(*line), flush=True)
        store(parsed, machine, "accuracy", COLUMNS, found, name)


def run(name: str, cases: Iterable[Case], seeds: int) -> Iterator[tuple]:
    """The lines of one row: of its cases, unless there are many, and of the mean over them."""
    found, took = [], []
    for case in cases:
        result, seconds = measure(case, seeds)
        found.append((case.name, result))
        took.append(seconds)
    if len(found) <= SHOWN:
        for (title, result), seconds in zip(found, took, strict=True):
            yield from lines(name, title, result, seconds)
    if len(found) > 1:
        common = set.intersection(*(set(result) for _, result in found))
        means = {
            key: list(np.mean(np.broadcast_arrays(*(result[key] for _, result in found)), 0))
            for key in found[0][1]
            if key in common
        }
        yield from lines(name, f"mean of {len(found)}", means, sum(took))


def lines(name: str, title: str, result: Result, seconds: float) -> Iterator[tuple]:
    """The best first, for every metric."""
    for metric in dict.fromkeys(metric for metric, _ in result):
        some = {who: values for (m, who), values in result.items() if m == metric}
        for who, values in sorted(some.items(), key=lambda item: float(np.mean(item[1]))):
            ours = who.startswith("carousel")
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            count, took = (str(len(values)), f"{seconds:.1f}") if ours else ("", "")
            yield name, title, metric, who, float(np.mean(values)), spread, count, took


def measure(case: Case, seeds: int) -> tuple[Result, float]:
    """Fits with every seed and scores all origins; and the mean seconds of a fit."""
    result: Result = {}
    known = Reading(case.panel.head(case.rows), (), Names("unique_id", "ds", "y"))
    seconds = 0.0
    for seed in range(seeds):
        start = time.perf_counter()
        model = Forecaster(case.horizon, seed=seed).fit(known).model_
        seconds += time.perf_counter() - start
        for who, value in {
            "carousel": model,
            "carousel without recurrent path": replace(model, recurrent=None),
        }.items():
            forecasts = of_model(case, ForecasterModel(value))
            add(result, case, who, ((part, forecast.mean) for part, forecast in forecasts))
        result.setdefault((COVERED, "carousel"), []).append(covered(case, ForecasterModel(model)))
    shape = plan(known.panel, case.horizon, None, None)
    first = np.minimum(shape.lookback, np.maximum(case.rows // 3, 1))
    others = baselines(case.panel, shape, Spans(first, case.rows - case.horizon + 1), case.origins)
    if case.months:
        others |= exponential_smoothing(known.panel, case.horizon)
    for who in list(others):
        forecast = others.pop(who)
        add(result, case, who, ((part, forecast[part]) for part in chunks(len(case.origins))))
    for metric, who, value in case.published:
        result[metric, who] = [value]
    return result, seconds / seeds


def of_model(case: Case, runner: ForecasterModel) -> Iterator[tuple[slice, Forecast]]:
    history = runner.history(case.panel, case.rows)
    for part in chunks(len(case.origins)):
        yield part, runner.forecasts(history, case.origins[part], (80.0,))


def covered(case: Case, runner: ForecasterModel) -> float:
    """Per cent of the test's rows, where they are known, that lie in their intervals of 80 %."""
    inside = known = 0
    for part, forecast in of_model(case, runner):
        truth = truths(case, part)
        inside += int(((truth >= forecast.lower[0]) & (truth <= forecast.upper[0])).sum())
        known += int((~np.isnan(truth)).sum())
    return 100 * inside / known


def exponential_smoothing(panel: Panel, horizon: int) -> dict[str, np.ndarray]:
    """(S, K) after the last row of every series: models of their own library, one fit a series."""
    try:
        from statsforecast.models import AutoETS, HoltWinters
    except ImportError:
        return {}
    found = {}
    for who, kind in {"Holt-Winters": HoltWinters, "AutoETS": AutoETS}.items():
        series = (panel.series(s) for s in range(len(panel)))
        found[who] = np.stack([kind(season_length=12).forecast(y, horizon)["mean"] for y in series])
    return found


def truths(case: Case, part: slice) -> np.ndarray:
    """(B, K) what came after some origins."""
    origins = case.origins[part]
    index = (case.panel.offsets[origins.series] + origins.row)[:, None] + np.arange(case.horizon)
    return case.panel.values[index]


def chunks(count: int) -> Iterator[slice]:
    return (slice(b, b + CHUNK) for b in range(0, count, CHUNK))


def add(result: Result, case: Case, who: str, forecasts: Iterable[tuple[slice, np.ndarray]]) -> None:
    """One more value of every metric: the mean over the origins."""
    sums = dict.fromkeys(case.metrics, 0.0)
    for part, forecast in forecasts:
        truth, series = truths(case, part), case.origins[part].series
        for name, metric in case.metrics.items():
            sums[name] += float(metric(truth, forecast, series).sum())
    for name, total in sums.items():
        mean = total / len(case.origins)
        result.setdefault((name, who), []).append(float(np.sqrt(mean)) if name == "RMSE" else mean)


def squared(unit: float | np.ndarray = 1.0) -> Metric:
    """Mean squared error in units of `unit`, one number or one per series."""

    def metric(truth, forecast, series):
        units = np.asarray(unit)[series, None] if np.ndim(unit) else unit
        return np.nanmean(((forecast - truth) / units) ** 2, 1)

    return metric


def smape(truth: np.ndarray, forecast: np.ndarray, series: np.ndarray) -> np.ndarray:
    return 200 * np.nanmean(np.abs(forecast - truth) / (np.abs(forecast) + np.abs(truth)), 1)


def mase(panel: Panel, m: int, rows: np.ndarray) -> Metric:
    unit = seasonal_unit(panel, m, rows)
    return lambda truth, forecast, series: np.nanmean(np.abs(forecast - truth), 1) / unit[series]


def ett(name: str, scale: int, references: dict[str, tuple[float, ...]]) -> Callable[[Path], Iterator[Case]]:
    """Months of 30 days: 12 + 4 are fitted on, 4 are the test; errors in standard deviations of the first 12."""

    def cases(data: Path) -> Iterator[Case]:
        with gzip.open(data / "ett" / f"{name}.csv.gz", "rt") as file:
            rows = list(csv.reader(file))
        values = np.array([row[1:] for row in rows[1:]], float)
        freq, fitted, stop = "h" if scale == 1 else "15min", 11520 * scale, 14400 * scale
        panel = Panel.of(values[:stop].T, ids=rows[0][1:], starts=[rows[1][0]] * 7, freq=freq)
        unit = values[: 8640 * scale].std(0)
        for k, horizon in enumerate((96, 192, 336, 720)):
            known = np.full(7, fitted)
            origins = Spans(known, np.full(7, stop - horizon + 1))[:]
            published = tuple(("MSE", who, figures[k]) for who, figures in references.items())
            yield Case(f"{horizon} ahead", panel, known, horizon, origins, {"MSE": squared(unit)}, published)

    return cases


def exchange(data: Path) -> Iterator[Case]:
    values = np.loadtxt(data / "exchange_rate" / "exchange_rate.txt.gz", delimiter=",")
    panel, known = Panel.of(values.T), np.full(8, 6071)
    for horizon in (96, 192, 336, 720):
        origins = Spans(known, np.full(8, len(values) - horizon + 1))[:]
        metrics = {"MSE": squared(values[:5311].std(0))}
        yield Case(f"{horizon} ahead", panel, known, horizon, origins, metrics)


def m4(frequency: str, published: dict[str, float]) -> Callable[[Path], Iterator[Case]]:
    horizon, m, of_smape, of_mase = M4[frequency]

    def cases(data: Path) -> Iterator[Case]:
        train, test = (
            [np.array([float(cell) for cell in row[1:] if cell]) for row in rows[1:]]
            for rows in (lines_of(data / "m4" / f"{frequency}-{part}.csv.gz") for part in ("train", "test"))
        )
        panel = Panel.of([np.concatenate(both) for both in zip(train, test, strict=True)])
        known = np.array([len(x) for x in train])
        scaled = mase(panel, m, known)

        def owa(truth, forecast, series):
            return (
                smape(truth, forecast, series) / of_smape / 2 + scaled(truth, forecast, series) / of_mase / 2
            )

        metrics = {"OWA": owa, "sMAPE": smape, "MASE": scaled}
        others = tuple(("OWA", who, value) for who, value in published.items())
        yield Case(f"{horizon} ahead", panel, known, horizon, Spans(known, known + 1)[:], metrics, others)

    return cases


def lines_of(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.reader(file))


def pjm(data: Path) -> Iterator[Case]:
    panel = read_frame(read_table(data / "pjm_load" / "PJME_hourly.csv.gz"), duplicates="mean").panel
    first = int(np.searchsorted(panel.times(0), np.datetime64("2015-01-01T00")))
    origins = spaced(first, panel, 24, 24)
    published = (("RMSE", "ridge, 336 hours, midnights, calendar", 1821.0),)
    yield Case("24 ahead at midnight", panel, np.array([first]), 24, origins, {"RMSE": squared()}, published)


def household(data: Path) -> Iterator[Case]:
    name = "household_power_consumption_days.csv"
    table = read_table(data / "household_power" / name).select(["datetime", "Global_active_power"])
    panel = read_frame(table.slice(1, len(table) - 7)).panel
    first = int(panel.lengths[0]) - 46 * 7
    published = (
        ("RMSE", "LSTM(200), 14 days in (tutorial)", 370.0),
        ("RMSE", "encoder-decoder LSTM (tutorial)", 372.6),
    )
    origins = spaced(first, panel, 7, 7)
    yield Case("7 ahead, 46 weeks", panel, np.array([first]), 7, origins, {"RMSE": squared()}, published)


def airline(data: Path) -> Iterator[Case]:
    """Fitted anew at each of 36 origins."""
    panel = read_frame(read_table(data / "airline" / "airline-passengers.csv")).panel
    for rows in range(97, 133):
        known = np.array([rows])
        origins = Spans(known, known + 1)[:]
        yield Case(f"12 ahead of {rows}", panel, known, 12, origins, {"RMSE": squared()}, months=True)


def sales(data: Path) -> Iterator[Case]:
    for path in sorted((data / "sales").glob("*.csv")):
        table = read_table(path)
        try:
            panel = read_frame(table).panel
        except errors.DataError:  # months of a "year 1" are no dates
            panel = Panel.of([table["Sales"].to_numpy()], starts=["1901-01"], freq="MS")
        yield last_year(path.stem, panel)


def retail(data: Path) -> Iterator[Case]:
    """All series of at least 120 months, one model for all."""
    table = read_table(data / "aus_retail" / "aus_retail.csv.gz")
    panel = read_frame(table, id="Series ID", time="Month", target="Turnover").panel
    yield last_year("12 ahead", panel.select(np.flatnonzero(panel.lengths >= 120)))


def last_year(name: str, panel: Panel) -> Case:
    known = panel.lengths - 12
    metrics = {"sMAPE": smape, "MASE": mase(panel, 12, known)}
    return Case(name, panel, known, 12, Spans(known, known + 1)[:], metrics, months=True)


def sunspots(data: Path) -> Iterator[Case]:
    """Yearly, one ahead, errors over the variance 1535 of the classic test; and monthly, one ahead."""
    yearly = read_frame(read_table(data / "sunspots" / "yearly-sunspots.csv"), freq=1).panel
    known = np.array([1921 - 1700])
    for first, stop, published in ((1921, 1956, 0.123), (1956, 1980, 0.342)):
        origins = Spans(np.array([first - 1700]), np.array([stop - 1700]))[:]
        metrics = {"ARV": squared(np.sqrt(1535.0))}
        yield Case(f"{first}-{stop - 1}", yearly, known, 1, origins, metrics, (("ARV", "AR(9)", published),))
    monthly = read_frame(read_table(data / "sunspots" / "monthly-sunspots.csv")).panel
    published = (("RMSE", "AR(24)", 18.21), ("RMSE", "AR(132)", 18.34))
    origins = spaced(2256, monthly, 1, 1)
    yield Case("monthly", monthly, np.array([2256]), 1, origins, {"RMSE": squared()}, published)


def temperature(data: Path) -> Iterator[Case]:
    panel = read_frame(read_table(data / "daily_min_temp" / "daily-min-temperatures.csv")).panel
    first = int(panel.lengths[0]) - 365
    published = (("RMSE", "AR(7)", 2.297), ("RMSE", "AR(29)", 2.266))
    yield Case(
        "1 ahead, 365 days",
        panel,
        np.array([first]),
        1,
        spaced(first, panel, 1, 1),
        {"RMSE": squared()},
        published,
    )


def spaced(first: int, panel: Panel, horizon: int, step: int) -> Origins:
    """Origins of the first series, from row `first` on, `step` rows apart."""
    rows = np.arange(first, int(panel.lengths[0]) - horizon + 1, step)
    return Origins(np.zeros(len(rows), np.int64), rows)


ROWS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "etth1": ett(
        "ETTh1",
        1,
        {
            "two ridges, 336 and 720, mean": (0.366, 0.400, 0.423, 0.421),
            "SegRNN (720)": (0.351, 0.392, 0.423, 0.466),
            "PatchTST (720)": (0.375, 0.418, 0.462, 0.495),
        },
    ),
    "ettm1": ett(
        "ETTm1",
        4,
        {
            "two ridges, 336 and 720, mean": (0.298, 0.331, 0.362, 0.414),
            "SegRNN (720)": (0.293, 0.328, 0.357, 0.410),
            "PatchTST (720)": (0.300, 0.339, 0.368, 0.420),
        },
    ),
    "m4-hourly": m4("Hourly", {"ES-RNN (winner)": 0.440, "ES-RNN in PyTorch": 0.615}),
    "m4-weekly": m4("Weekly", {"ES-RNN (winner)": 0.851, "best entry": 0.739}),
    "pjm": pjm,
    "household": household,
    "airline": airline,
    "sales": sales,
    "retail": retail,
    "sunspots": sunspots,
    "temperature": temperature,
    "exchange": exchange,
}


if __name__ == "__main__":
    main()
