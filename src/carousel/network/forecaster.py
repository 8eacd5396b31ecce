"""What a forecaster has learned, as a value: NumPy arrays in frozen dataclasses, one file per tree.

    forecast = linear path(smoothing, window) + scale * shrink * recurrent path, then back from the logarithm

The mathematics is in `carousel.series`, the run in `carousel.stream`, the training in `carousel.forecast`.
Axes: S series, L look-back, K horizon, G smoothing models, M their memory, F features, P phases, N scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel.errors import FormatError
from carousel.network.document import Texts, document, later
from carousel.network.layers import Dense, Recurrent
from carousel.network.stack import Network

__all__ = [
    "Calibration",
    "Columns",
    "ForecastModel",
    "LinearPath",
    "PlainPath",
    "RecurrentPath",
    "Scaling",
    "Smoothing",
    "Tail",
]


@document("forecaster.columns")
@dataclass(frozen=True)
class Columns:
    """The names that the user's frame had, and its kind: what a forecast is written back into."""

    id: str | None  # None: one series without a column of ids
    time: str | None  # None: the rows were counted
    target: str
    frame: str  # "pandas", "polars" or "pyarrow"


@document("forecaster.scaling")
@dataclass(frozen=True)
class Scaling:
    """From the user's unit to the model's: the logarithm or not, then per series a centre and a scale.

    Args:
        log: the model sees log(y).
        center: (S,) mean of each series; of training rows only.
        scale: (S,) typical distance from the level of the last season; never 0.
    """

    log: bool
    center: NDArray[np.float64]
    scale: NDArray[np.float64]


@document("forecaster.smoothing")
@dataclass(frozen=True)
class Smoothing:
    """A weighted mean of G exponential smoothing models, each in its ARIMA form.

        x̂[t] = Σ_j ar[j] x[t - lags[j]] + Σ_j ma[j] e[t - lags[j]]        e[t] = x[t] - x̂[t]

    Args:
        lags: (G, 3) at least 1.
        ar: (G, 3).
        ma: (G, 3).
        weights: (G,) at least 0, of sum 1.
    """

    lags: NDArray[np.int64]
    ar: NDArray[np.float64]
    ma: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        G = len(self.weights)
        if self.lags.shape != (G, 3) or self.ar.shape != (G, 3) or self.ma.shape != (G, 3) or G == 0:
            raise FormatError(f"smoothing: lags, ar and ma must have shape (G, 3) = ({G}, 3), G at least 1.")
        if self.lags.min() < 1:
            raise FormatError("smoothing: lags must be at least 1.")

    @property
    def memory(self) -> int:
        """M, the rows and errors that a forecast needs."""
        return int(self.lags.max())


@document("forecaster.linear")
@dataclass(frozen=True)
class LinearPath:
    """One matrix per phase of the season, or one for all: features of the window to K steps.

        linear path = level + share * (smoothing - level) + scale * F A

    Args:
        coefficients: (P, F, K) A.
        share: what is kept of the smoothing, 0 to 1; the level is the mean of the window's last season.
        calendar: the features hold the calendar of the origin.
        interplay: the features hold the last season times the time of the year.
    """

    coefficients: NDArray[np.float64]
    share: float
    calendar: bool
    interplay: bool


@document("forecaster.recurrent")
@dataclass(frozen=True)
class RecurrentPath:
    """Segments of the window through recurrent layers; future ones decoded at once from the last state.

    Args:
        segment: rows that a recurrent step reads and writes.
        embed: of a past segment, its calendar and the level, (segment + C + 1) -> hidden.
        layers: recurrent layers of one direction, used for reading and for decoding.
        position: of a future segment's calendar, the level and its place among J, (C + 1 + J) -> hidden.
        head: hidden -> segment.
        shrink: what the validation rows left of its output, 0 to 1.
    """

    segment: int
    embed: Dense
    layers: tuple[Recurrent, ...]
    position: Dense
    head: Dense
    shrink: float

    def __post_init__(self) -> None:
        for layer in self.layers:
            if layer.beyond or layer.bidirectional:
                raise FormatError(f"the recurrent path: {layer!r} must have one direction and no options.")


@document("forecaster.plain")
@dataclass(frozen=True)
class PlainPath:
    """The tutorials' network: the normalised window -> recurrent layers -> last state -> Dense(K).

    Args:
        network: (L, B, 1) -> (B, K).
    """

    network: Network


@document("forecaster.calibration")
@dataclass(frozen=True)
class Calibration:
    """Absolute errors on held-out origins, in the model's unit, sorted per step ahead.

    Args:
        scores: (N, K), rising along N; none (N = 0) where no origin could be held out.
        counts: (K,) how many independent scores they are worth.
        paths: (P, K) the errors of P whole held-out forecasts, signed, in units of the scale: how those of one
            forecast hang together over the steps. None where no forecast was observed whole.
    """

    scores: NDArray[np.float64]
    counts: NDArray[np.float64]
    paths: NDArray[np.float32] | None = later(None, since=3)  # noqa: RUF009


@document("forecaster.tail")
@dataclass(frozen=True)
class Tail:
    """The end of every fitted series: what a forecast without new data needs.

    Args:
        window: (S, L) the last rows in the model's unit, missing ones filled.
        errors: (S, M, G) the last errors of the smoothing models.
        next: (S,) the time stamps of the first forecasts.
        rows: (S,) of every series, where one is shorter than a season or the smoothing's memory: rows that come
            then change what was made up before its first one. None where all are long enough.
        fitted: (S,) the time stamps after the last rows that were fitted; None where that is `next`.
    """

    window: NDArray[np.float64]
    errors: NDArray[np.float64]
    next: NDArray[np.datetime64] | NDArray[np.int64]
    rows: NDArray[np.int64] | None = later(None, since=3)  # noqa: RUF009
    fitted: NDArray[np.datetime64] | NDArray[np.int64] | None = later(None, since=3)  # noqa: RUF009


@document("forecaster")
@dataclass(frozen=True)
class ForecastModel:
    """A fitted forecaster, whole.

    Args:
        horizon: K.
        frequency: alias of `carousel.series.Frequency`.
        season: rows of the shortest season, 1 for none.
        seasons: all seasons in rows, shortest first.
        lookback: L.
        level: the levels, in per cent, of the intervals that a forecast has by default.
        ids: S names.
    """

    horizon: int
    frequency: str
    season: int
    seasons: tuple[int, ...]
    lookback: int
    level: tuple[float, ...]
    columns: Columns
    ids: Texts
    scaling: Scaling
    smoothing: Smoothing | None
    linear: LinearPath | None
    recurrent: RecurrentPath | None
    plain: PlainPath | None
    calibration: Calibration
    tail: Tail
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        S, K = len(self.ids), self.horizon
        shapes = {
            "scaling.center": (self.scaling.center.shape, (S,)),
            "scaling.scale": (self.scaling.scale.shape, (S,)),
            "tail.window": (self.tail.window.shape, (S, self.lookback)),
            "tail.next": (self.tail.next.shape, (S,)),
            "calibration.scores": (self.calibration.scores.shape[1:], (K,)),
            "calibration.counts": (self.calibration.counts.shape, (K,)),
        }
        if self.calibration.paths is not None:
            shapes["calibration.paths"] = (self.calibration.paths.shape[1:], (K,))
        for name, array in (("tail.rows", self.tail.rows), ("tail.fitted", self.tail.fitted)):
            if array is not None:
                shapes[name] = (array.shape, (S,))
        if self.linear is not None:
            shapes["linear.coefficients"] = (self.linear.coefficients.shape[2:], (K,))
        for name, (got, wanted) in shapes.items():
            if got != wanted:
                raise FormatError(f"forecaster: `{name}` must have shape {wanted}, got {got}.")
        if (self.plain is None) == (self.smoothing is None):
            raise FormatError("forecaster: either `plain` or `smoothing` must be there, not both.")

    @property
    def memory(self) -> int:
        """M, the errors that the smoothing remembers; 0 without smoothing."""
        return 0 if self.smoothing is None else self.smoothing.memory
