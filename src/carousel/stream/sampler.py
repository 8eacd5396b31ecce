"""Ancestral sampling of an autoregressive network: a row is drawn, and read as the next input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from carousel.network.forecaster import DeepARPath, Scaling
from carousel.series.autoregression import (
    Unit,
    location_and_scale,
    mean_and_shape,
    row_inputs,
    unit_of,
)
from carousel.series.features import CalendarTable
from carousel.series.history import Context
from carousel.stream.network import NetworkModel, State

__all__ = ["PATHS", "PathSampler"]

Array = np.ndarray[Any, Any]
Draw = Callable[[Array, Unit, int], tuple[Array, Array]]  # rows, and what they were expected to be

PATHS = 200  # of a forecast, and of its quantiles
ROWS = 16384  # paths in one batch: bounds the memory, 100 MB for 720 steps
WHOLE = 2.0**53  # from here on a float64 holds no odd numbers, and a Poisson draw is its mean


class PathSampler:
    """Draws paths from a `DeepARPath`; immutable. A window's paths depend on it and its seed, not on its neighbours.

    Args:
        path: what was learned.
        scaling: of the series that were fitted.
        calendar: of the rows.
        season: rows of the shortest season.
        horizon: K.
    """

    def __init__(
        self, path: DeepARPath, scaling: Scaling, calendar: CalendarTable, season: int, horizon: int
    ) -> None:
        self.path = path
        self._scaling, self._calendar, self._season, self._horizon = scaling, calendar, season, horizon
        self._network = NetworkModel(path.network)

    def point(self, context: Context) -> Array:
        """(B, K) the mean of the paths, the same at every call.

        What is averaged is not what was drawn but what each draw was expected to be, given the path so far: the
        same mean with less noise (Rao and Blackwell), which no draw from a heavy tail can rule.
        """
        blocks = [self._paths(block, PATHS, [0])[1] for block in _blocks(context, PATHS)]
        return np.concatenate(blocks)

    def quantiles(self, context: Context, quantiles: tuple[float, ...]) -> Array:
        """(Q, B, K) of the same paths; of counts whole numbers."""
        method: Any = "inverted_cdf" if self.path.counts else "linear"
        blocks = [
            np.quantile(self._paths(block, PATHS, [0])[0], quantiles, 0, method=method)
            for block in _blocks(context, PATHS)
        ]
        return np.concatenate(blocks, 1)

    def samples(self, context: Context, number: int, seed: int) -> Array:
        """(number, B, K) paths; those of different windows are independent."""
        blocks, first = [], 0
        for block in _blocks(context, number):
            seeds = [(seed, first + b) for b in range(len(block))]
            blocks.append(self._paths(block, number, seeds)[0])
            first += len(block)
        return np.concatenate(blocks, 1)

    def _paths(self, context: Context, number: int, seeds: Sequence[Any]) -> tuple[Array, Array]:
        """Paths (number, B, K) in the model's unit, and the mean (B, K) of what their rows were expected to be.

        Args:
            context: B windows.
            seeds: of NumPy's generators: one for every window, or one for all, whose noise is then the same.
        """
        B, L, K, n = len(context), context.window.shape[1], self._horizon, number
        unit = unit_of(context, self._scaling, self._season, self.path.counts)
        calendar = self._calendar.at(context.next, np.arange(1 - L, K))
        read = row_inputs(unit.inside(context.window), calendar[:, :L], unit.traits)
        output, state = self._network.advance(read, self._network.start(B))
        o, state = np.tile(output[-1], (n, 1)), _tiled(state, n)
        each = Unit(*(np.tile(part, (n, 1)) for part in (unit.level, unit.size, unit.traits)))
        draw = self._counts(seeds, n, B) if self.path.counts else self._real(seeds, n, B)
        rows, means = np.empty((K, n * B)), np.empty((K, B))
        for k in range(K):
            if k:
                ahead = calendar[:, L + k - 1 : L + k]
                ahead = np.tile(ahead, (n, 1, 1)) if len(ahead) == B else ahead
                before = each.inside(rows[k - 1][:, None])
                o, state = self._network.step(row_inputs(before, ahead, each.traits)[0], state)
            rows[k], expected = draw(o.astype(np.float64), each, k)
            means[k] = expected.reshape(n, B).mean(0)
        return np.ascontiguousarray(rows.reshape(K, n, B).transpose(1, 2, 0)), means.T

    def _real(self, seeds: Sequence[Any], n: int, B: int) -> Draw:
        """Student's t."""
        assert self.path.freedom is not None
        noise = np.empty((self._horizon, n, len(seeds)))
        for b, seed in enumerate(seeds):
            noise[..., b] = np.random.default_rng(seed).standard_t(self.path.freedom, (self._horizon, n))

        def draw(o: Array, unit: Unit, k: int) -> tuple[Array, Array]:
            location, scale = location_and_scale(o)
            expected = unit.level[:, 0] + unit.size[:, 0] * location
            deviation = scale * np.broadcast_to(noise[k], (n, B)).reshape(-1)
            return expected + unit.size[:, 0] * deviation, expected

        return draw

    def _counts(self, seeds: Sequence[Any], n: int, B: int) -> Draw:
        """Negative binomial: Poisson, with a mean that is gamma distributed."""
        generators = [np.random.default_rng(seeds[b % len(seeds)]) for b in range(B)]

        def draw(o: Array, unit: Unit, k: int) -> tuple[Array, Array]:
            mean, shape = (part.reshape(n, B) for part in mean_and_shape(o, unit.size[:, 0]))
            found = np.empty((n, B))
            for b, generator in enumerate(generators):
                rate = generator.gamma(1 / shape[:, b], shape[:, b] * mean[:, b])
                drawn = rate < WHOLE
                found[:, b] = np.where(drawn, generator.poisson(np.where(drawn, rate, 0)), np.floor(rate))
            return found.reshape(-1), mean.reshape(-1)

        return draw


def _blocks(context: Context, number: int) -> list[Context]:
    """The windows whose paths go into one batch; one block at least."""
    step = max(1, ROWS // number)
    return [context[slice(b, b + step)] for b in range(0, max(len(context), 1), step)]


def _tiled(state: State, n: int) -> State:
    """A state (B, H) repeated n times, one after the other."""
    return State.join([state] * n)
