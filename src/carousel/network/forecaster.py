"""What a forecaster has learned, as a value: NumPy arrays in frozen dataclasses, one file per tree.

    forecast = linear path(smoothing, window) + scale * shrink * recurrent path, then back from the logarithm

The mathematics is in `carousel.series`, the run in `carousel.stream`, the training in `carousel.forecast`.
Axes: S series, L look-back, K horizon, G smoothing models, M their memory, F features, P phases, N scores.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carousel.errors import FormatError
from carousel.network.document import Texts, document, later
from carousel.network.layers import Dense, Recurrent
from carousel.network.stack import Network

__all__ = [
    "Calibration",
    "Columns",
    "Covariate",
    "CovariatePaths",
    "DeepARPath",
    "FitOptions",
    "ForecastModel",
    "LinearPath",
    "PlainPath",
    "RecurrentPath",
    "Scaling",
    "Smoothing",
    "Tail",
]

LAGS = 24  # rows of a past covariate that its path reads one by one; of the window it reads the mean


Unit = Literal[
    "identity", "root", "log"
]  # of what a model sees of a value: itself, its square root, its logarithm


TimeUnit = Literal["D", "s", "ms", "us", "ns"]  # of time stamps in a frame, "D" for a column of dates


@document("forecaster.columns")
@dataclass(frozen=True)
class Columns:
    """The names that the user's frame had, and its kind: what a forecast is written back into."""

    id: str | None  # None: one series without a column of ids
    time: str | None  # None: the rows were counted
    target: str
    frame: str  # "pandas", "polars" or "pyarrow"
    zone: str | None = later(None, since=3)  # time zone that forecasts are given back in
    whole_ids: bool = later(False, since=3)  # ids were whole numbers
    unit: TimeUnit | None = later(None, since=3)  # of the times in the frame


@document("forecaster.scaling")
@dataclass(frozen=True)
class Scaling:
    """From the user's unit to the model's: the logarithm, the square root or neither, and per series centre and scale.

    Args:
        log: the model sees log(y).
        center: (S,) mean of each series; of training rows only.
        scale: (S,) typical distance from the level of the last season; never 0.
        root: the model sees the square root of y.
        carried: a missing value is the last one, for series without a season; else see `series.filling`.
    """

    log: bool
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    root: bool = later(False, since=3)
    carried: bool = later(False, since=3)

    def __post_init__(self) -> None:
        if self.log and self.root:
            raise FormatError("forecaster: `scaling` takes the logarithm or the square root, not both.")

    @classmethod
    def of(
        cls, unit: Unit, center: NDArray[np.float64], scale: NDArray[np.float64], carried: bool = False
    ) -> "Scaling":
        """With the unit given by its name."""
        return cls(unit == "log", center, scale, unit == "root", carried)

    def first(self, count: int | None) -> "Scaling":
        """That of the first `count` series; of all without."""
        return self if count is None else replace(self, center=self.center[:count], scale=self.scale[:count])

    def of_gaps(self, season: int) -> int:
        """The season by which missing values are filled; 1 where they are the last one."""
        return 1 if self.carried else season

    @property
    def unit(self) -> Unit:
        """The name of what the model sees."""
        return "log" if self.log else "root" if self.root else "identity"


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
        own: (S, G) those of each series that was fitted; None where all have `weights`.
    """

    lags: NDArray[np.int64]
    ar: NDArray[np.float64]
    ma: NDArray[np.float64]
    weights: NDArray[np.float64]
    own: NDArray[np.float64] | None = later(None, since=3)

    def __post_init__(self) -> None:
        G = len(self.weights)
        if self.lags.shape != (G, 3) or self.ar.shape != (G, 3) or self.ma.shape != (G, 3) or G == 0:
            raise FormatError(f"smoothing: lags, ar and ma must have shape (G, 3) = ({G}, 3), G at least 1.")
        if self.lags.min() < 1:
            raise FormatError("smoothing: lags must be at least 1.")
        if self.own is not None and (self.own.ndim != 2 or self.own.shape[1] != G):
            raise FormatError(f"smoothing: `own` must have shape (S, G) = (S, {G}), got {self.own.shape}.")

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
        level: with the calendar stands how high the window lies.
        own: (S + 1,) how far each series goes from its smoothing, 0 to 1, and one that was not fitted; None: all go 1.
    """

    coefficients: NDArray[np.float64]
    share: float
    calendar: bool
    interplay: bool
    level: bool = later(False)
    own: NDArray[np.float64] | None = later(None, since=3)


@document("forecaster.recurrent")
@dataclass(frozen=True)
class RecurrentPath:
    """Segments of the window through recurrent layers; future ones decoded at once from the last state.

    Args:
        segment: rows that a recurrent step reads and writes.
        embed: of a past segment, its calendar and the level, (segment + C + 1) -> hidden. A fit leaves the level out,
            here and in `position`, by weights of 0.
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
        if not self.layers or self.segment < 1:
            raise FormatError("the recurrent path: it must have layers, and segments of at least one row.")
        into: list[Dense | Recurrent] = [self.layers[0], *self.layers, self.head]
        outof: list[Dense | Recurrent] = [self.position, self.embed, *self.layers]
        for one, other in zip(outof, into, strict=True):
            if one.output_size != other.input_size:
                raise FormatError(f"the recurrent path: {one!r} does not fit {other!r}.")
        if self.head.output_size != self.segment:
            raise FormatError(
                f"the recurrent path: {self.head!r} must write segments of {self.segment} rows."
            )


@document("forecaster.plain")
@dataclass(frozen=True)
class PlainPath:
    """The tutorials' network: the normalised window -> recurrent layers -> last state -> Dense(K).

    Args:
        network: (L, B, 1) -> (B, K).
    """

    network: Network


@document("forecaster.deepar", since=3)
@dataclass(frozen=True)
class DeepARPath:
    """An autoregressive network: the row before, calendar and scale -> recurrent layers -> the next row's distribution.

        student            location = o_0,  scale = softplus(o_1),  in the unit of the window
        negative-binomial  mean = size * softplus(o_0),  shape = softplus(o_1) / √size,
                           variance = mean + shape * mean²,  size = 1 + the mean of the window

    A row is drawn, and read as the next input, K times.

    Args:
        network: (T, B, 1 + C + 2) -> (T, B, 2) o, float32; see `carousel.series.autoregression`.
        likelihood: of real numbers, or of counts.
        freedom: degrees of freedom of Student's t, above 2; None for counts.
        fitted: how many of the model's series it learned from; those of `update` stand behind them. None: all.
    """

    network: Network
    likelihood: Literal["student", "negative-binomial"]
    freedom: float | None
    fitted: int | None = later(None, since=3)

    def __post_init__(self) -> None:
        network = self.network
        if self.fitted is not None and self.fitted < 1:
            raise FormatError(f"deepar: `fitted` must be at least 1 or null, got {self.fitted}.")
        if network.takes_ids or network.bidirectional or not network.per_step or network.output_size != 2:
            raise FormatError("deepar: its network must make 2 numbers of every row, in the order of time.")
        if network.dtype != np.float32:
            raise FormatError(f"deepar: its network must be of float32, got {network.dtype}.")
        if (self.freedom is None) != self.counts or (
            self.freedom is not None and not 2 < self.freedom < np.inf
        ):
            raise FormatError(
                f"deepar: `freedom` must be above 2 for Student's t and null for counts, got {self.freedom}."
            )

    @property
    def counts(self) -> bool:
        """Whether the rows are whole numbers from 0 on."""
        return self.likelihood == "negative-binomial"


@document("forecaster.calibration")
@dataclass(frozen=True)
class Calibration:
    """Errors on held-out origins, in the model's unit, sorted per step ahead.

    Args:
        scores: (N, K), rising along N; none (N = 0) where no origin could be held out. Absolute, or signed if `sided`.
        counts: (K,) how many independent scores they are worth.
        paths: (P, K) the errors of P whole held-out forecasts, signed, in units of the scale: how those of one
            forecast hang together over the steps. None where no forecast was observed whole.
        volatility: (2,) from 0 to 1: with which powers errors grow with how restless the rows before them are
            (`series.volatility`), by which scores and paths are then divided. None where they do not.
        sided: each side of an interval has a width of its own.
        own: (S + 1,) how many times as large as usual the errors of each series are, and of one that was not fitted,
            by which scores and paths are then divided, too. None where all are alike.
    """

    scores: NDArray[np.float64]
    counts: NDArray[np.float64]
    paths: NDArray[np.float32] | None = later(None, since=3)
    volatility: NDArray[np.float64] | None = later(None, since=3)
    sided: bool = later(False, since=3)
    own: NDArray[np.float64] | None = later(None, since=3)


@document("forecaster.tail")
@dataclass(frozen=True)
class Tail:
    """The end of every fitted series: what a forecast without new data needs.

    Args:
        window: (S, L) the last rows in the model's unit, missing ones filled.
        errors: (S, M, G) the last errors of the smoothing models.
        next: (S,) the time stamps of the first forecasts.
        rows: (S,) of every series, where one has had so few that some of what stands here was made up before its first
            one, or that the next one says where its smoothing started; None where all have had enough.
        fitted: (S,) the time stamps after the last rows that were fitted; None where that is `next`.
        missing: rising places in the (S, L) window, counted series by series, of rows that were missing; none is
            before the first row of its series. None where no row was missing.
    """

    window: NDArray[np.float64]
    errors: NDArray[np.float64]
    next: NDArray[np.datetime64] | NDArray[np.int64]
    rows: NDArray[np.int64] | None = later(None, since=3)
    fitted: NDArray[np.datetime64] | NDArray[np.int64] | None = later(None, since=3)
    missing: NDArray[np.int64] | None = later(None, since=3)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(S, L) False for a row that was missing."""
        observed = np.ones(self.window.shape, bool)
        if self.missing is not None:
            observed.flat[self.missing] = False
        return observed


@document("forecaster.covariate", since=3)
@dataclass(frozen=True)
class Covariate:
    """One column beside the target, and how it is read.

    Args:
        name: of the column.
        role: known up to the origin, known beyond it, or of the series.
        center: of a number, on training rows.
        scale: of a number, on training rows; never 0.
        categories: None for a number; else the values that the training saw, any other is none of them.
        gaps: of a number, whether an indicator says where it was missing.
    """

    name: str
    role: Literal["past", "future", "static"]
    center: float
    scale: float
    categories: tuple[str, ...] | None
    gaps: bool

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise FormatError(f"covariate {self.name!r}: `scale` must be above 0, got {self.scale}.")

    @property
    def size(self) -> int:
        """The number of features that it becomes."""
        return 1 + self.gaps if self.categories is None else len(self.categories)


@document("forecaster.covariates", since=3)
@dataclass(frozen=True)
class CovariatePaths:
    """What covariates add; p, f and c features of past, future and static columns.

        target - unit * effect(future) is what the other paths forecast
        forecast = scale * (past, static) path + other paths + unit * effect(future)

    Args:
        columns: in the order of their features.
        holidays: country of the future column `holiday`, such as "US"; None without.
        unit: (S,) scale of each series before the effect is taken off.
        effect: (f,) of the future features, or (2f,) with their squares; None for none.
        path: (E, K) of the last rows and the mean of the past features, the static ones, and a one; None for none.
        recurrent: the recurrent path reads the features, too.
        static: (S, C) as given, codes for categories; a forecast needs it again.
        past: (S, L, p) of the last rows.
        future: (S, L, f) of the last rows.
    """

    columns: tuple[Covariate, ...]
    holidays: str | None
    unit: NDArray[np.float64]
    effect: NDArray[np.float64] | None
    path: NDArray[np.float64] | None
    recurrent: bool
    static: NDArray[np.float64]
    past: NDArray[np.float64]
    future: NDArray[np.float64]

    def __post_init__(self) -> None:
        f = self.size("future")
        if self.effect is not None and self.effect.shape not in ((f,), (2 * f,)):
            raise FormatError(
                f"covariates: `effect` must have shape ({f},) or ({2 * f},), got {self.effect.shape}."
            )
        S = len(self.unit)
        if self.static.shape != (S, len(self.of("static"))):
            raise FormatError(f"covariates: `static` must have shape ({S}, C), got {self.static.shape}.")

    def of(self, role: str) -> tuple[Covariate, ...]:
        """The columns of a role."""
        return tuple(column for column in self.columns if column.role == role)

    def size(self, role: str) -> int:
        """The number of features of a role."""
        return sum(column.size for column in self.of(role))


@document("forecaster.options", since=3)
@dataclass(frozen=True)
class FitOptions:
    """What the fit was asked for, so that it can be done again; None is what the data or the default decide.

    Args:
        season, lookback: in rows.
        nonnegative: whether forecasts are cut at 0.
    """

    season: int | None
    lookback: int | None
    cell: Literal["gru", "lstm", "rnn"]
    seed: int
    hidden_size: int | None
    layers: int | None
    dropout: float | None
    epochs: int | None
    batch_size: int
    learning_rate: float | None
    patience: int | None
    minutes: float | None
    max_steps: int | None
    nonnegative: bool | None


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
        covariates: what columns beside the target add; None where nothing.
        nonnegative: no value was below 0, and no forecast or bound is.
        deepar: the network of architecture "deepar", which takes the place of the other paths.
        options: of the fit; None where they were not kept.
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
    covariates: CovariatePaths | None = later(None, since=3)
    nonnegative: bool = later(False, since=3)
    deepar: DeepARPath | None = later(None, since=3)
    options: FitOptions | None = later(None, since=3)

    def __post_init__(self) -> None:
        S, K = len(self.ids), self.horizon
        shapes = {
            "scaling.center": (self.scaling.center.shape, (S,)),
            "scaling.scale": (self.scaling.scale.shape, (S,)),
            "tail.window": (self.tail.window.shape, (S, self.lookback)),
            "tail.errors": (self.tail.errors.shape[:2], (S, self.memory)),
            "tail.next": (self.tail.next.shape, (S,)),
            "calibration.scores": (self.calibration.scores.shape[1:], (K,)),
            "calibration.counts": (self.calibration.counts.shape, (K,)),
        }
        if self.calibration.paths is not None:
            shapes["calibration.paths"] = (self.calibration.paths.shape[1:], (K,))
        if self.calibration.volatility is not None:
            shapes["calibration.volatility"] = (self.calibration.volatility.shape, (2,))
        if self.calibration.own is not None:
            shapes["calibration.own"] = (self.calibration.own.shape, (S + 1,))
        if self.smoothing is not None and self.smoothing.own is not None:
            shapes["smoothing.own"] = (self.smoothing.own.shape[:1], (S,))
        for name, array in (("tail.rows", self.tail.rows), ("tail.fitted", self.tail.fitted)):
            if array is not None:
                shapes[name] = (array.shape, (S,))
        if self.linear is not None:
            shapes["linear.coefficients"] = (self.linear.coefficients.shape[2:], (K,))
            if self.linear.own is not None:
                shapes["linear.own"] = (self.linear.own.shape, (S + 1,))
        if (paths := self.covariates) is not None:
            L = self.lookback
            shapes["covariates.unit"] = (paths.unit.shape, (S,))
            shapes["covariates.past"] = (paths.past.shape, (S, L, paths.size("past")))
            shapes["covariates.future"] = (paths.future.shape, (S, L, paths.size("future")))
            if paths.path is not None:
                E = (min(LAGS, L) + 1) * paths.size("past") + paths.size("static") + 1
                shapes["covariates.path"] = (paths.path.shape, (E, K))
        for name, (got, wanted) in shapes.items():
            if got != wanted:
                raise FormatError(f"forecaster: `{name}` must have shape {wanted}, got {got}.")
        bases = (self.plain, self.smoothing, self.deepar)
        if sum(base is not None for base in bases) != 1:
            raise FormatError(
                "forecaster: one of `plain`, `smoothing` and `deepar` must be there, and only one."
            )
        if self.deepar is not None and (self.linear, self.recurrent, self.covariates) != (None, None, None):
            raise FormatError("forecaster: `deepar` goes with no other path.")
        if self.deepar is not None and self.scaling.unit != "identity":
            raise FormatError("forecaster: `deepar` goes with no logarithm or square root.")
        if self.smoothing is not None and self.tail.errors.shape[2:] != self.smoothing.weights.shape:
            raise FormatError("forecaster: `tail.errors` must have one column for each smoothing model.")
        if self.plain is not None:
            network = self.plain.network
            if network.takes_ids or network.per_step or (network.input_size, network.output_size) != (1, K):
                raise FormatError(
                    f"forecaster: its plain network must make {K} numbers of a sequence of one."
                )
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Refuses numbers with which nothing could be computed."""
        if min(self.horizon, self.season, self.lookback) < 1 or self.memory > self.lookback:
            raise FormatError(
                "forecaster: `horizon`, `season` and `lookback` must be at least 1, and `lookback` hold all lags, "
                f"got {self.horizon}, {self.season} and {self.lookback}."
            )
        if not all(0 < level < 100 for level in self.level):
            raise FormatError(f"forecaster: `level` must be per cent between 0 and 100, got {self.level}.")
        powers = self.calibration.volatility
        if powers is not None and not ((powers >= 0) & (powers <= 1)).all():
            raise FormatError(f"forecaster: `calibration.volatility` must be from 0 to 1, got {powers}.")
        places = self.tail.missing
        if places is not None and (
            places.ndim != 1
            or (np.diff(places, prepend=-1) < 1).any()
            or (places >= self.tail.window.size).any()
        ):
            raise FormatError(
                f"forecaster: `tail.missing` must be rising places in {self.tail.window.size} rows, got {places}."
            )
        arrays = {"scaling.center": self.scaling.center, "scaling.scale": self.scaling.scale}
        arrays |= {"tail.window": self.tail.window, "tail.errors": self.tail.errors}
        if self.smoothing is not None:
            arrays |= {f"smoothing.{name}": getattr(self.smoothing, name) for name in ("ar", "ma", "weights")}
            if self.smoothing.own is not None:
                arrays["smoothing.own"] = self.smoothing.own
        if self.linear is not None:
            arrays["linear.coefficients"] = self.linear.coefficients
            if self.linear.own is not None:
                arrays["linear.own"] = self.linear.own
        if self.calibration.own is not None:
            arrays["calibration.own"] = self.calibration.own
        if self.covariates is not None:
            names = ("unit", "effect", "path", "past", "future")
            of_paths = {name: getattr(self.covariates, name) for name in names}
            arrays |= {f"covariates.{name}": array for name, array in of_paths.items() if array is not None}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise FormatError(f"forecaster: `{name}` must be finite.")
        for name in ("scaling.scale", "covariates.unit", "calibration.own"):
            if name in arrays and not (arrays[name] > 0).all():
                raise FormatError(f"forecaster: `{name}` must be above 0.")

    @property
    def memory(self) -> int:
        """M, the errors that the smoothing remembers; 0 without smoothing."""
        return 0 if self.smoothing is None else self.smoothing.memory

    @property
    def tells_apart(self) -> bool:
        """Whether a forecast depends on which of the fitted series it is of, beyond centre and scale."""
        own = [path.own for path in (self.smoothing, self.linear, self.calibration) if path is not None]
        return any(array is not None for array in own)
