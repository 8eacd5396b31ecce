"""How fast is a layer against torch.nn, forward only and forward with backward? The figures of the README.

    python benchmarks/layers.py [--threads 2] [--rounds 15] [--seconds 0.2]
    python benchmarks/readme_table.py benchmarks/results/DATE-MACHINE-layers.csv

`carousel bench` with more rounds, kept with date and machine; how it measures is said in carousel.bench.
"""

from __future__ import annotations

from carousel.bench import layers, picture_bytes, problems, report_csv, report_text
from carousel.bench.script import options, result_path


def main() -> None:
    parsed = options(__doc__, threads=2, rounds=15, seconds=0.2).parse_args()
    which = [p for p in problems() if not parsed.quick or p.flops < 1e6]
    report = layers(
        which,
        threads=parsed.threads,
        rounds=parsed.rounds,
        seconds=parsed.seconds,
        progress=lambda what, done, total: print(f"{done + 1} of {total}: {what}", flush=True),
    )
    print(report_text(report))
    for suffix, content in ((".csv", report_csv(report)), (".png", picture_bytes(report))):
        path = result_path(parsed, report.machine, "layers", suffix)
        path.write_bytes(content)
        print(f"# {path}")


if __name__ == "__main__":
    main()
