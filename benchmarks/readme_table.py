"""Writes the speed table of README.md and README.zh-CN.md from a result of benchmarks/layers.py.

python benchmarks/layers.py --csv benchmarks/results/DATE-MACHINE.csv
python benchmarks/readme_table.py benchmarks/results/DATE-MACHINE.csv
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- speed:begin -->\n).*?(<!-- speed:end -->)", re.DOTALL)


def table(path: Path) -> str:
    with path.open(newline="") as file:
        machine = file.readline().removeprefix("# ").strip()
        rows = list(csv.DictReader(file))
    ratios = {(r["cell"], r["name"], r["mode"]): float(r["ratio"]) for r in rows}
    lines = ["| (I, H, layers, B, T) | LSTM | GRU |", "|---|---|---|"]
    for name in dict.fromkeys(r["name"] for r in rows):
        shape = next(r for r in rows if r["name"] == name)
        sizes = ", ".join(shape[k] for k in ("inputs", "hidden", "layers", "batch", "steps"))
        pairs = [
            " / ".join(f"{ratios[cell, name, mode]:.3g}" for mode in ("inference", "training"))
            for cell in ("lstm", "gru")
        ]
        lines.append(f"| ({sizes}) | {pairs[0]} | {pairs[1]} |")
    return "\n".join([*lines, "", f"{machine}; {path.stem[:10]}; `{path.relative_to(ROOT)}`", ""])


def main() -> None:
    text = table(Path(sys.argv[1]).resolve())
    for name in ("README.md", "README.zh-CN.md"):
        page = ROOT / name
        page.write_text(TABLE.sub(lambda m: m[1] + text + m[2], page.read_text()))


if __name__ == "__main__":
    main()
