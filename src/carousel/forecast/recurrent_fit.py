"""Training of the three networks: from a history and its origins to learned values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from carousel.forecast.modules import DeepARNet, PlainNet, SegmentNet
from carousel.forecast.plan import Plan
from carousel.forecast.session import Session
from carousel.forecast.settings import Settings
from carousel.forecast.shrinkage import shrink_factor
from carousel.forecast.split import Spans, judges, thinned
from carousel.forecast.threads import LARGE
from carousel.forecast.training import DELTA, Batch, Dropper, Loop, Run, train
from carousel.network.forecaster import CovariatePaths, DeepARPath, PlainPath, RecurrentPath, Scaling
from carousel.series.autoregression import row_inputs, row_size, unit_of
from carousel.series.features import CalendarTable
from carousel.series.history import History, Origins, normalise
from carousel.series.segments import hidden_inputs, segment_inputs, segments

__all__ = ["Job", "fit_deepar", "fit_plain", "fit_segments"]

Array = np.ndarray[Any, Any]

TRAINED = 200_000  # origins that a network is trained on
TARGETS = 40_000_000  # rows to come of all of them
HELD = 4000  # origins that stop the training
CHUNK = 1024
DIVIDED = 4096  # rows times recurrent steps, from which threads share a batch
AHEAD = 250_000  # numbers of the batches that are loaded at a time


@dataclass(frozen=True)
class Job:
    """What a training needs to know.

    Args:
        base: the forecast (B, K) in the model's unit that the network corrects.
        train_base: the same for training origins, by paths that have not seen them.
        choose: origins that stop the training; none to train for exactly `epochs`.
        with_year: the network may know the time of the year.
        paths: of the covariates that the network reads; None for none.
        few: held-out rows are so few that those that stop the training score it, too.
    """

    history: History
    plan: Plan
    settings: Settings
    base: Callable[[Origins], Array]
    train_base: Callable[[Origins], Array]
    train: Spans
    choose: Spans
    epochs: int
    session: Session
    with_year: bool = True
    paths: CovariatePaths | None = None
    few: bool = False


def fit_segments(job: Job) -> tuple[RecurrentPath | None, Run]:
    """The recurrent path; None where it does not improve on what it starts from."""
    if not len(job.train):
        return None, Run()
    plan, settings = job.plan, job.settings
    inputs = segment_inputs(plan.frequency, plan.segment, plan.horizon, job.paths)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = SegmentNet(inputs, plan.segment, settings.cell, settings.hidden_size, settings.layers)

    hidden = hidden_inputs(plan.frequency, plan.segment, job.with_year)
    with torch.no_grad():  # an input of zeros leaves weights of zeros as they are
        for layer, columns in zip((net.embed, net.position), hidden, strict=True):
            layer.weight[:, columns] = 0

    calendar = CalendarTable(plan.frequency, dense=False)

    def load(origins: Origins, rest: Array, observed: Array) -> Batch:
        context = job.history.context(origins, plan.lookback, 0)
        seen = None if job.paths is None else context.covariates
        normal = normalise(context, plan.season)
        past, future, _ = segments(context, normal, calendar, plan.segment, plan.horizon, seen)
        for inputs, columns in zip((past, future), hidden, strict=True):
            inputs[..., columns] = 0
        return _batch((past, future), rest, observed)

    def drop(batch: Batch, rng: np.random.Generator) -> Batch:
        past, future = batch.inputs
        kept = _kept(rng, len(future) * future.shape[1], settings)
        return replace(batch, inputs=(past, future, torch.from_numpy(kept)))

    steps = plan.lookback // plan.segment - (-plan.horizon // plan.segment)
    run, held = _run(net, job, load, steps, True, drop if settings.dropout else None)
    if run.best is None:
        return None, run
    shrink = 1.0
    if held:
        with torch.no_grad():
            output = torch.cat([net(*batch.inputs)[:, : plan.horizon] for batch in held])
        target = torch.cat([batch.target for batch in held])
        observed = torch.cat([batch.observed for batch in held])
        blocks, doubt = judges(len(job.choose), plan.horizon), 2.0 if job.few else 1.0
        judged = output.numpy(), target.numpy(), observed.numpy() > 0
        shrink = shrink_factor(*judged, blocks, doubt, DELTA) if blocks else 0.0
    return (net.value(shrink) if shrink > 0 else None), run


def fit_plain(job: Job) -> tuple[PlainPath, Run]:
    """The tutorials' network on normalised windows."""
    settings, plan = job.settings, job.plan
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = PlainNet(settings.cell, settings.hidden_size, settings.layers, plan.horizon)

    def load(origins: Origins, rest: Array, observed: Array) -> Batch:
        context = job.history.context(origins, plan.lookback, 0)
        z, _ = normalise(context, plan.season)
        return _batch((np.ascontiguousarray(z.T[..., None], np.float32),), rest, observed)

    run, _ = _run(net, job, load, plan.lookback, False)
    return net.value(), run


def fit_deepar(job: Job, scaling: Scaling, counts: bool) -> tuple[DeepARPath, Run]:
    """The autoregressive network by maximum likelihood: every row is read as it was, not as it would be drawn.

    The look-back warms up; what counts are the K rows after it, which the unit of the window has not seen.
    """
    settings, plan, history = job.settings, job.plan, job.history
    L, K = plan.lookback, plan.horizon
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        inputs = row_size(plan.frequency)
        net = DeepARNet(settings.cell, inputs, settings.hidden_size, settings.layers, counts)
    calendar = CalendarTable(plan.frequency, dense=False)

    def load(origins: Origins) -> Batch:
        context = history.context(origins, L, 0)
        unit = unit_of(context, scaling, plan.season, counts)
        truth, observed = history.targets(origins, K)
        within = origins.row[:, None] + np.arange(K) < history.panel.lengths[origins.series][:, None]
        z = np.where(within, unit.inside(truth), 0)
        before = np.concatenate([unit.inside(context.window), z[:, :-1]], 1)
        rows = row_inputs(before, calendar.at(context.next, np.arange(1 - L, K)), unit.traits)
        return _batch((rows, unit.size[None]), z, observed)

    def loss(net: Any, batch: Batch) -> torch.Tensor:
        rows, size = batch.inputs
        losses: torch.Tensor = net.loss(rows, size[0], batch.target) * batch.observed
        return losses.sum() / batch.observed.sum().clamp(min=1)

    origins, held_origins = _trained(job), thinned(job.choose, HELD)
    held = [load(held_origins[part]) for part in _chunks(len(held_origins))]
    run = train(
        net,
        lambda index: load(origins[index]),
        len(origins),
        held,
        _loop(job, len(origins), L + K - 1),
        False,
        job.session,
        loss,
    )
    return net.value(), run


def _run(
    net: Any,
    job: Job,
    load: Callable[..., Batch],
    steps: int,
    start_counts: bool,
    drop: Dropper | None = None,
) -> tuple[Run, list[Batch]]:
    origins = _trained(job)
    rest, observed = _rest(job, origins, job.train_base)
    held_origins = thinned(job.choose, HELD)
    held_rest, held_observed = _rest(job, held_origins, job.base)
    held = [
        load(held_origins[part], held_rest[part], held_observed[part]) for part in _chunks(len(held_origins))
    ]

    def rows(index: Array) -> Batch:
        return load(origins[index], rest[index], observed[index])

    loop = _loop(job, len(origins), steps)
    return train(net, rows, len(origins), held, loop, start_counts, job.session, drop=drop), held


def _kept(rng: np.random.Generator, states: int, settings: Settings) -> Array:
    """(states, H) dropout: 0, or 1 / (1 - rate)."""
    kept = rng.random((states, settings.hidden_size), np.float32) >= settings.dropout
    scaled: Array = kept / np.float32(1 - settings.dropout)
    return scaled


def _trained(job: Job) -> Origins:
    """Origins that the network is trained on: of a long horizon fewer, as neighbours share most of their targets."""
    return thinned(job.train, min(TRAINED, max(1, TARGETS // job.plan.horizon)))


def _chunks(count: int) -> list[slice]:
    return [slice(b, b + CHUNK) for b in range(0, count, CHUNK)]


def _loop(job: Job, count: int, steps: int) -> Loop:
    """How to train on this many origins: a short series gets smaller batches, so that an epoch has some steps."""
    settings = job.settings
    batch_size = max(1, min(settings.batch_size, max(16, count // 8), count))
    return Loop(
        job.epochs,
        batch_size,
        settings.learning_rate,
        settings.patience,
        settings.seed,
        divided=batch_size * steps >= DIVIDED and settings.hidden_size < LARGE,
        ahead=max(1, AHEAD // (batch_size * (job.plan.lookback + job.plan.horizon))),
    )


def _rest(job: Job, origins: Origins, base: Callable[[Origins], Array]) -> tuple[Array, Array]:
    """(B, K) what the base leaves, in units of the scale, and where it was observed."""
    truth, observed = job.history.targets(origins, job.plan.horizon)
    scale = job.history.scale[origins.series][:, None]
    return ((truth - base(origins)) / scale).astype(np.float32), observed


def _batch(inputs: tuple[Array, ...], rest: Array, observed: Array) -> Batch:
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    return Batch(tensors, torch.from_numpy(np.where(observed, rest, 0)), torch.from_numpy(observed).float())
