"""The one error of `carousel.bench`."""

from __future__ import annotations

from carousel.errors import CarouselError

__all__ = ["BenchmarkError"]


class BenchmarkError(CarouselError):
    """A figure could not be taken, or would mean nothing because results differ."""
