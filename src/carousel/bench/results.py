"""Results as CSV: lines that start with # say what was measured where, then come the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["csv_bytes", "read_csv"]


def csv_bytes(notes: Iterable[object], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The file; numbers with six digits, which is more than any timing has.

    Example:
        >>> print(csv_bytes(["a machine"], ["batch", "ms"], [[3, 0.123456789], [4, None]]).decode(), end="")
        # a machine
        batch,ms
        3,0.123457
        4,
    """
    text = io.StringIO()
    text.writelines(f"# {note}\n" for note in notes)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    return text.getvalue().encode()


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The notes at the top, and the rows."""
    lines = path.read_text(encoding="utf-8").splitlines()
    notes = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    return notes, list(csv.DictReader(lines[len(notes) :]))
