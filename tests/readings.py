"""Small files, and how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from carousel.errors import DataError, FormatError
from carousel.forecast.read import Reading, read_frame, read_table


def read(tmp_path: Path, content: str | bytes, name: str = "data.csv", **options: object) -> Reading:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_frame(read_table(path), **options)


def values(reading: Reading) -> list[float]:
    return reading.panel.values.tolist()


HOURLY = "ds,y\n2024-01-01 00:00:00,1\n2024-01-01 01:00:00,2\n2024-01-01 02:00:00,3\n"
DAYS = ("2024-01-30", "2024-01-31", "2024-02-01")


def daily(*days: str, separator: str = ",") -> str:
    return "ds,y\n".replace(",", separator) + "".join(f"{d}{separator}{i}\n" for i, d in enumerate(days))


def refused(tmp_path: Path, content: str | bytes, says: str, **options: object) -> None:
    with pytest.raises((DataError, FormatError)) as caught:
        read(tmp_path, content, **options)
    text = str(caught.value)
    assert says in text
    assert "data.csv" in text
    assert text.endswith(".")
    assert "\n" not in text


def in_shops(header: str, *rows: str) -> str:
    """Rows of every day; each day in turn."""
    return "\n".join([header, *(row.format(day=day, k=k) for k, day in enumerate(DAYS) for row in rows)])
