"""Writes the speed table of README.md and README.zh-CN.md from a result of benchmarks/layers.py.

python benchmarks/layers.py
python benchmarks/readme_table.py benchmarks/results/DATE-MACHINE-layers.csv
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from carousel.bench import SIZES
from carousel.bench.results import read_csv

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- speed:begin -->\n).*?(<!-- speed:end -->)", re.DOTALL)


def table(path: Path) -> str:
    """Inference / training for every shape, and what they were measured on."""
    (machine, *_), rows = read_csv(path)
    shapes = dict.fromkeys(tuple(row[size] for size in SIZES) for row in rows)
    ratios = {
        (row["cell"], tuple(row[size] for size in SIZES), row["mode"]): float(row["ratio"]) for row in rows
    }
    lines = ["| (I, H, layers, B, T) | LSTM | GRU |", "|---|---|---|"]
    for shape in shapes:
        pairs = [
            " / ".join(f"{ratios[cell, shape, mode]:.3g}" for mode in ("inference", "training"))
            for cell in ("lstm", "gru")
        ]
        lines.append(f"| ({', '.join(shape)}) | {pairs[0]} | {pairs[1]} |")
    return "\n".join([*lines, "", f"{machine}; {path.stem[:10]}; `{path.relative_to(ROOT)}`", ""])


def main() -> None:
    text = table(Path(sys.argv[1]).resolve())
    for name in ("README.md", "README.zh-CN.md"):
        page = ROOT / name
        page.write_text(TABLE.sub(lambda m: m[1] + text + m[2], page.read_text()))


if __name__ == "__main__":
    main()
