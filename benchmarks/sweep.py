"""Does time grow as the work does? One size at a time over up to four decades, ours and torch.nn.

    python benchmarks/sweep.py [--threads 1] [--rounds 3] [--only lstm]

Steps, batch and layers should cost in proportion; hidden units, with as many inputs, by their square. Printed is how
much faster than the work the time grew over the last decade of each size, and between which two neighbours most: a
step there would be a cache, a path, or a shape that falls off a cliff. About three minutes; leaves a CSV and a
picture. Results are checked to be equal first, as in carousel.bench.
"""

from __future__ import annotations

from argparse import Namespace
from itertools import pairwise
from statistics import median

from carousel.bench import MODES, SIZES, Machine, Problem, interleaved
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import pair
from carousel.bench.plot import BLUE, GRID, INK, MUTED, ORANGE, titled
from carousel.bench.script import begin, options, result_path, store

# Which size moves, over what, and where the others stand.
BASE = {"inputs": 32, "hidden": 64, "layers": 1, "batch": 16, "steps": 64}
AXES: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "steps": (
        (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 100_000),
        {"inputs": 16, "hidden": 16, "batch": 1},
    ),
    "batch": (
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1000, 2000, 5000, 10_000),
        {"hidden": 32, "steps": 16},
    ),
    "layers": ((1, 2, 4, 8, 16, 32), {}),
    "hidden": (
        (8, 12, 16, 17, 24, 32, 48, 64, 65, 96, 128, 192, 256, 384, 512, 768, 1024, 2048),
        {"steps": 16},
    ),
}
COLUMNS = ("axis", "cell", *SIZES, "mode", "ours_ms", "torch_ms", "mflop")
Curve = list[tuple[Problem, float, float]]
"""Seconds of ours and torch's, point by point."""


def main() -> None:
    parsed = options(__doc__, rounds=3, seconds=0.02, only=("lstm", "gru")).parse_args()
    machine = begin(parsed)
    keep_memory()
    curves: dict[tuple[str, str, str], Curve] = {}
    print(f"{'axis':8}{'cell':6}{'mode':11}{'':14}{'time / work, last decade':26}largest between neighbours")
    for axis in AXES:
        for cell in [parsed.only] if parsed.only else ["lstm", "gru"]:
            for mode in MODES:
                curve = curves[axis, cell, mode] = measured(axis, cell, mode, parsed)
                for side, name in ((1, "carousel"), (2, "torch.nn")):
                    print(f"{axis:8}{cell:6}{mode:11}{name:14}{growth(curve, side)}", flush=True)
    rows = [
        (axis, p.cell, *p.shape, p.mode, ours * 1e3, theirs * 1e3, p.flops / 1e6)
        for (axis, _, _), curve in curves.items()
        for p, ours, theirs in curve
    ]
    store(parsed, machine, "sweep", COLUMNS, rows)
    path = result_path(parsed, machine, "sweep", ".png")
    draw(curves, machine).savefig(path, dpi=130)
    print(f"# {path}")


def measured(axis: str, cell: str, mode: str, parsed: Namespace) -> Curve:
    """Median times along one axis."""
    values, others = AXES[axis]
    curve = []
    for value in values[:3] if parsed.quick else values:
        sizes = BASE | others | {axis: value} | ({"inputs": value} if axis == "hidden" else {})
        problem = Problem(cell, *(sizes[name] for name in SIZES), mode)
        times = interleaved(pair(problem), rounds=parsed.rounds, seconds=parsed.seconds)
        curve.append((problem, *map(median, times)))
    return curve


def growth(curve: Curve, side: int) -> str:
    """How much more than the work the time grew: over the last decade, and at most between neighbours."""
    costs = [point[side] / point[0].flops for point in curve]
    last = curve[-1][0].flops
    start = max(k for k, point in enumerate(curve) if k == 0 or point[0].flops <= last / 10)
    rises = [after / before for before, after in pairwise(costs)]
    k = max(range(len(rises)), key=rises.__getitem__)
    places = f"{curve[k][0].shape} -> {curve[k + 1][0].shape}"
    return f"{costs[-1] / costs[start]:<26.2f}{rises[k]:.2f}  {places}"


def draw(curves: dict[tuple[str, str, str], Curve], machine: Machine):
    """Time over size, both axes logarithmic, and a grey line that grows as the work does."""
    from matplotlib.figure import Figure

    cells = list(dict.fromkeys(cell for _, cell, _ in curves))
    figure = Figure((15, 1.2 + 3.9 * len(cells)), layout="constrained")
    panels = figure.subplots(len(cells), len(AXES), squeeze=False, sharey="row")
    for row, cell in zip(panels, cells, strict=True):
        for axes, axis in zip(row, AXES, strict=True):
            panel(axes, axis, cell, curves)
        row[0].set_ylabel(f"{cell.upper()}\nms per call", color=INK)
    panels[0, list(AXES).index("layers")].legend(loc="lower right", frameon=False, fontsize=8)
    titled(figure, "Does time grow as the work does? Time per call over each size", str(machine))
    return figure


def panel(axes, axis: str, cell: str, curves: dict[tuple[str, str, str], Curve]) -> None:
    for mode, marker in zip(MODES, ("o", "s"), strict=True):
        curve = curves[axis, cell, mode]
        x = [getattr(problem, axis) for problem, _, _ in curve]
        work = [problem.flops / curve[-1][0].flops * curve[-1][1] * 1e3 for problem, _, _ in curve]
        label = "in proportion to the matrix products" if mode == "training" else None
        axes.loglog(x, work, color="0.75", lw=1, ls="--", label=label, zorder=1)
        for side, (name, colour) in enumerate((("carousel", BLUE), ("torch.nn", ORANGE)), 1):
            y = [point[side] * 1e3 for point in curve]
            fill = colour if side == 1 else "white"
            axes.loglog(x, y, marker + "-", color=colour, mfc=fill, ms=4, lw=1.3, label=f"{name}, {mode}")
    fixed = BASE | AXES[axis][1]
    others = ", ".join(f"{name} {fixed[name]}" for name in SIZES if name not in (axis, "inputs"))
    inputs = "as many inputs" if axis == "hidden" else f"inputs {fixed['inputs']}"
    axes.set_title(f"{inputs}, {others}", loc="left", fontsize=8, color=MUTED)
    axes.set_xlabel(axis, color=INK)
    axes.grid(color=GRID, lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
