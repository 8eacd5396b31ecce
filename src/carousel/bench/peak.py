"""How many multiplications and additions a second can this machine do?

There is no portable way to ask. Measured is the best float32 matrix product that torch can do, by torch.mm or by
oneDNN, at sizes that fit the caches. That is a lower bound: a good product reaches nine tenths of the peak, so
shares of it flatter by as much. torch.mm alone would not do: the library behind it reaches half on some processors.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from carousel.bench.timing import Call, timed

__all__ = ["Peak", "measure_peak"]


@dataclass(frozen=True)
class Peak:
    """Multiplications and additions per second, and the product that reached them."""

    flops: float
    product: str


def measure_peak(seconds: float = 0.2, sizes: tuple[int, ...] = (256, 512, 1024)) -> Peak:
    """The best product of square matrices with as many threads as torch has now.

    Args:
        seconds: for each size and each library; the fastest call counts.
        sizes: of the matrices.
    """
    best = Peak(0.0, "none")
    for n in sizes:
        for library, call in _products(n).items():
            call()
            end = time.perf_counter() + seconds
            fastest = timed(call)
            while time.perf_counter() < end:
                fastest = min(fastest, timed(call))
            best = max(best, Peak(2.0 * n**3 / fastest, f"{library} of {n} x {n}"), key=lambda p: p.flops)
    return best


def _products(n: int) -> dict[str, Call]:
    a, b, c = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    products: dict[str, Call] = {"torch.mm": lambda: torch.mm(a, b, out=c)}
    if torch.backends.mkldnn.is_available():
        packed_a, packed_b = a.to_mkldnn(), b.to_mkldnn()
        products["a oneDNN product"] = lambda: torch.nn.functional.linear(packed_a, packed_b)
    return products
