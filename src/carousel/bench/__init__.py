"""How fast are our layers on this machine? `carousel bench` prints what `layers` measures.

Example, which takes a minute (doctest would print figures of its own):

    report = bench.layers(bench.problems(), threads=1)
    for row in report.rows:
        print(row.problem, row.ratio.median)
    bench.draw(report).savefig("layers.png")
"""

from carousel.bench.errors import BenchmarkError
from carousel.bench.layers import Report, Row, layers
from carousel.bench.machine import Machine, this_machine
from carousel.bench.plot import draw, picture_bytes
from carousel.bench.problem import MODES, SHAPES, SIZES, Problem, problems
from carousel.bench.table import COLUMNS, report_csv, report_text
from carousel.bench.timing import Ratio, interleaved, ratio

__all__ = [
    "COLUMNS",
    "MODES",
    "SHAPES",
    "SIZES",
    "BenchmarkError",
    "Machine",
    "Problem",
    "Ratio",
    "Report",
    "Row",
    "draw",
    "interleaved",
    "layers",
    "picture_bytes",
    "problems",
    "ratio",
    "report_csv",
    "report_text",
    "this_machine",
]
