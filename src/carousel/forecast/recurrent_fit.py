"""Training of the two networks: from a history and its origins to learned values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from carousel.forecast.closed_form import shrink_factor
from carousel.forecast.modules import PlainNet, SegmentNet
from carousel.forecast.plan import Plan
from carousel.forecast.session import Session
from carousel.forecast.settings import Settings
from carousel.forecast.split import thinned
from carousel.forecast.training import Batch, Loop, Run, train
from carousel.network.forecaster import CovariatePaths, PlainPath, RecurrentPath
from carousel.series.history import History, Origins, normalise
from carousel.series.segments import future_segments, past_segments, segment_inputs, year_inputs

__all__ = ["Job", "fit_plain", "fit_segments"]

Array = np.ndarray[Any, Any]

TRAINED = 200_000  # origins that a network is trained on
HELD = 4000  # origins that stop the training
CHUNK = 1024


@dataclass(frozen=True)
class Job:
    """What a training needs to know.

    Args:
        base: the forecast (B, K) in the model's unit that the network corrects.
        train_base: the same for training origins, by paths that have not seen them.
        choose: origins that stop the training; none to train for exactly `epochs`.
        with_year: the network may know the time of the year.
        paths: of the covariates that the network reads; None for none.
    """

    history: History
    plan: Plan
    settings: Settings
    base: Callable[[Origins], Array]
    train_base: Callable[[Origins], Array]
    train: Origins
    choose: Origins
    epochs: int
    session: Session
    with_year: bool = True
    paths: CovariatePaths | None = None


def fit_segments(job: Job) -> tuple[RecurrentPath | None, Run]:
    """The recurrent path; None where it does not improve on what it starts from."""
    if not len(job.train):
        return None, Run()
    plan, settings = job.plan, job.settings
    generator = torch.Generator().manual_seed(settings.seed)
    inputs = segment_inputs(plan.frequency, plan.segment, plan.horizon, job.paths)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = SegmentNet(
            inputs,
            plan.segment,
            settings.cell,
            settings.hidden_size,
            settings.layers,
            settings.dropout,
            generator,
        )

    hidden = [] if job.with_year else year_inputs(plan.frequency, plan.segment)
    with torch.no_grad():  # an input of zeros leaves weights of zeros as they are
        for layer, columns in zip((net.embed, net.position), hidden, strict=False):
            layer.weight[:, columns] = 0

    def load(origins: Origins, rest: Array, observed: Array) -> Batch:
        context = job.history.context(origins, plan.lookback, 0)
        seen = None if job.paths is None else context.covariates
        past = past_segments(context, plan.frequency, plan.season, plan.segment, seen)
        future = future_segments(context, plan.frequency, plan.season, plan.segment, plan.horizon, seen)
        for inputs, columns in zip((past, future), hidden, strict=False):
            inputs[..., columns] = 0
        return _batch((past, future), rest, observed)

    run, held = _run(net, job, load, start_counts=True)
    if run.best is None:
        return None, run
    shrink = 1.0
    if held:
        with torch.no_grad():
            output = torch.cat([net(*batch.inputs)[:, : plan.horizon] for batch in held])
        target = torch.cat([batch.target for batch in held])
        observed = torch.cat([batch.observed for batch in held])
        shrink = shrink_factor(output.numpy(), target.numpy(), observed.numpy() > 0, plan.horizon)
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

    run, _ = _run(net, job, load, start_counts=False)
    return net.value(), run


def _run(net: Any, job: Job, load: Callable[..., Batch], start_counts: bool) -> tuple[Run, list[Batch]]:
    origins = thinned(job.train, TRAINED)
    rest, observed = _rest(job, origins, job.train_base)
    held_origins = thinned(job.choose, HELD)
    held_rest, held_observed = _rest(job, held_origins, job.base)
    held = [
        load(held_origins[part], held_rest[part], held_observed[part])
        for part in (slice(b, b + CHUNK) for b in range(0, len(held_origins), CHUNK))
    ]
    settings = job.settings
    # A short series gets smaller batches, so that an epoch has some steps.
    batch_size = max(1, min(settings.batch_size, max(16, len(origins) // 8), len(origins)))
    loop = Loop(job.epochs, batch_size, settings.learning_rate, settings.patience, settings.seed)

    def rows(index: Array) -> Batch:
        return load(origins[index], rest[index], observed[index])

    return train(net, rows, len(origins), held, loop, start_counts, job.session), held


def _rest(job: Job, origins: Origins, base: Callable[[Origins], Array]) -> tuple[Array, Array]:
    """(B, K) what the base leaves, in units of the scale, and where it was observed."""
    truth, observed = job.history.targets(origins, job.plan.horizon)
    scale = job.history.scale[origins.series][:, None]
    return ((truth - base(origins)) / scale).astype(np.float32), observed


def _batch(inputs: tuple[Array, ...], rest: Array, observed: Array) -> Batch:
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    return Batch(tensors, torch.from_numpy(np.where(observed, rest, 0)), torch.from_numpy(observed).float())
