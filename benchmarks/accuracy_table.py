"""Writes the table of docs/accuracy.md from the results of benchmarks/accuracy.py, the newest of every row.

python benchmarks/accuracy.py all --data DIR
python benchmarks/accuracy_table.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from carousel.bench.results import read_csv

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
TABLE = re.compile(r"(<!-- accuracy:begin -->\n).*?(<!-- accuracy:end -->)", re.DOTALL)
BASELINES = ("persistence", "seasonal naive", "seasonal naive 168", "ridge", "Holt-Winters", "AutoETS")
ROUNDING = 1e-9  # of a value
COVERED = "% covered by 80 %"
OURS = ("carousel", "carousel without recurrent path")


def table(paths: list[Path]) -> str:
    """One line for every case and metric; the best published figure with its name."""
    lines = [
        "| data | metric | carousel | without recurrent path | best baseline | best published | covered | s a fit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    machines = []
    for path in paths:
        (machine, *_), rows = read_csv(path)
        machines.append(f"{machine}; {path.stem[:10]}")
        inside = {row["case"]: f"{float(row['value']):.0f} %" for row in rows if row["metric"] == COVERED}
        for name, case, metric in dict.fromkeys((row["row"], row["case"], row["metric"]) for row in rows):
            if metric == COVERED:
                continue
            some = [row for row in rows if (row["case"], row["metric"]) == (case, metric)]
            values = {row["who"]: float(row["value"]) for row in some}
            ours = next(row for row in some if row["who"] == "carousel")
            spread = float(ours["spread"])
            spread = 0.0 if spread < ROUNDING * float(ours["value"]) else spread
            between = f" ± {spread:.2g}" if int(ours["seeds"]) > 1 else ""
            published = [who for who in values if who not in (*BASELINES, *OURS)]
            named = [best(values, BASELINES), best(values, published)]
            scores = [f"{values[OURS[0]]:.4g}{between}", f"{values[OURS[1]]:.4g}"]
            cells = [f"{name}, {case}", metric, *scores, *named, inside.get(case, ""), ours["fit_seconds"]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *dict.fromkeys(machines), ""])


def best(values: dict[str, float], names: Iterable[str]) -> str:
    """The least of some values, with its name."""
    some = [(values[who], who) for who in names if who in values]
    return "{:.4g}, {}".format(*min(some)) if some else ""


def newest() -> list[Path]:
    """The newest result of every row."""
    paths = sorted((ROOT / "benchmarks" / "results").glob("*-accuracy-*.csv"))
    return list({path.stem.rpartition("accuracy-")[2]: path for path in paths}.values())


def main() -> None:
    PAGE.write_text(TABLE.sub(lambda m: m[1] + table(newest()) + m[2], PAGE.read_text()))


if __name__ == "__main__":
    main()
