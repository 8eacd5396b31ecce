"""What reading takes in memory beside the data, as NumPy counts it; of whole fits see benchmarks/scale.py."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from carousel.forecast.read import read_frame

ROWS = 2000


def panel(series: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ds = np.arange(ROWS).astype("datetime64[D]").astype("datetime64[us]")
    y = rng.normal(size=(series, ROWS)) + 3 * np.sin(2 * np.pi * np.arange(ROWS) / 7)
    return pl.DataFrame(
        {"unique_id": np.repeat(np.arange(series), ROWS), "ds": np.tile(ds, series), "y": y.ravel()}
    )


def peak(call: Callable[[], object]) -> int:
    """Bytes that were held at once during a call, beside those before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_frame_is_read_in_less_than_twice_its_size(shuffled: bool) -> None:
    frame = panel(500)
    frame = frame.sample(fraction=1, shuffle=True, seed=0) if shuffled else frame
    assert peak(lambda: read_frame(frame)) < (3 if shuffled else 2) * frame.estimated_size()
