"""What Prometheus asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from carousel.serve.sequences import Sequences

__all__ = ["Metrics"]

_SECONDS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics(Collector):
    """Counts of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "carousel_requests",
            "Requests to run a model, and messages, answered.",
            ("model", "status"),
            registry=self._registry,
        )
        self._batches = Histogram(
            "carousel_batch_size",
            "Requests in one call.",
            ("model",),
            buckets=_SIZES,
            registry=self._registry,
        )
        self._seconds = Histogram(
            "carousel_call_seconds",
            "Time of one call.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._sequences: dict[str, Sequences[object]] = {}
        self._registry.register(self)

    def watch(self, sequences: Mapping[str, Sequences[object]]) -> None:
        """Reports how many sequences of each model are held, and were forgotten."""
        self._sequences.update(sequences)

    def answered(self, model: str, status: int) -> None:
        """One more request to run a model, or message; `model` is "" where it is not served."""
        self._requests.labels(model, str(status)).inc()

    def ran(self, model: str, jobs: int, seconds: float) -> None:
        """One more call for `jobs` requests."""
        self._batches.labels(model).observe(jobs)
        self._seconds.labels(model).observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus's format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The sequences, counted when they are asked for."""
        held = GaugeMetricFamily("carousel_sequences", "Sequences held.", labels=["model"])
        evicted = CounterMetricFamily("carousel_evicted", "Idle sequences forgotten.", labels=["model"])
        for model, sequences in self._sequences.items():
            held.add_metric([model], len(sequences))
            evicted.add_metric([model], sequences.evicted)
        return [held, evicted]
