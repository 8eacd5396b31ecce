"""The training loop: AdamW, Huber or any other loss on what was observed, averaged weights, early stopping, seeds.

The weights that count are the moving average (Polyak and Juditsky 1992). The start is epoch 0: a network
that never beats it on the held-out origins leaves with no weights at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carousel.forecast.session import Session
from carousel.forecast.state import named, restore, snapshot, tensors
from carousel.forecast.threads import side_by_side
from carousel.network.checkpoint import Named, Training

__all__ = ["DELTA", "Batch", "Loop", "Run", "huber", "own_settings", "train"]

Array = np.ndarray[Any, Any]
Loader = Callable[[Array], "Batch"]
Dropper = Callable[["Batch", np.random.Generator], "Batch"]
Criterion = Callable[[nn.Module, "Batch"], Tensor]

AVERAGE = 0.99  # of the moving average of the weights
DELTA = 1.0  # of the Huber loss, in units of the scale of a series
CLIP = 1.0  # norm of the gradient
WARM_UP = 50  # steps in which the learning rate rises
PART = 128  # rows of a batch that a thread of its own computes
HALF = 32  # rows, at least, of each half of a smaller batch
LEAST_STEPS = 50  # of an epoch: a short series is passed several times
LOSSES = ("epoch", "train", "valid")  # of an epoch


@dataclass(frozen=True)
class Batch:
    """Inputs of the network (·, B, ·), what it should say (B, K), and where that was observed."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    observed: Tensor

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the rows, in memory of their own: a matrix product may round by where its rows lie."""
        inputs = tuple(values[:, rows].clone(memory_format=torch.contiguous_format) for values in self.inputs)
        return Batch(inputs, self.target[rows].clone(), self.observed[rows].clone())


@dataclass(frozen=True)
class Loop:
    """How to train.

    Args:
        most_steps: of an epoch; a larger set is sampled anew in every epoch.
        divided: a batch has enough work to share it among threads.
        ahead: batches that are loaded at a time.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    seed: int
    most_steps: int = 500
    divided: bool = False
    ahead: int = 1


@dataclass
class Run:
    """What a training left behind; complete at any moment.

    Args:
        best: the averaged weights of least validation loss; None where the start was never beaten.
        best_epoch: counted from 1; 0 is the start.
        history: a dict of epoch, train, valid per epoch.
        interrupted: Ctrl-C ended it.
        spent: the budget ended it.
    """

    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False
    spent: bool = False

    @property
    def least(self) -> float:
        """The least validation loss; infinite before the first epoch."""
        return min((losses["valid"] for losses in self.history), default=float("inf"))


@contextmanager
def own_settings() -> Iterator[None]:
    """A fit is the same whatever the caller chose for tensors of his own: type, device, autocast, no gradients."""
    before = torch.get_default_dtype()
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.device("cpu") if elsewhere else nullcontext(),
            torch.autocast("cpu", enabled=False),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


def huber(net: nn.Module, batch: Batch) -> Tensor:
    """Mean Huber loss over what was observed."""
    output = net(*batch.inputs)[:, : batch.target.shape[1]]
    loss = nn.functional.huber_loss(output, batch.target, reduction="none", delta=DELTA)
    return (loss * batch.observed).sum() / batch.observed.sum().clamp(min=1)


def train(
    net: nn.Module,
    load: Loader,
    train_rows: int,
    held: list[Batch],
    loop: Loop,
    start_counts: bool,
    session: Session,
    criterion: Criterion = huber,
    drop: Dropper | None = None,
) -> Run:
    """Trains `net` and leaves it with its best weights; Ctrl-C or the budget ends it early, and `Run` says so.

    Where the session has a checkpoint of this training, it goes on from there, with the same bits.

    Args:
        load: gives the batch of some of the origins 0 to `train_rows` - 1; called from several threads.
        held: batches that stop the training; without any all epochs are run and the last weights kept.
        start_counts: the untrained network is a forecast that must be beaten.
        session: reports and keeps every epoch, and has the budget.
        criterion: the mean loss of a batch over what was observed.
        drop: gives a batch with the dropout that its generator draws.
    """
    run = Run()
    average = copy.deepcopy(net).eval()
    parameters: list[Tensor] = [*net.parameters()]
    averages: list[Tensor] = [*average.parameters()]
    optimizer = torch.optim.AdamW(parameters, loop.learning_rate, weight_decay=1e-2, fused=True)
    best = _loss(criterion, average, held) if start_counts and held else float("inf")
    step = epoch = 0
    number, kept = session.trainings.enter()
    if kept is not None:
        run, epoch, step = _run_of(kept), len(kept.history), kept.steps
        best = float("inf") if kept.loss is None else kept.loss
        if kept.last is not None:
            restore(kept.last, net, average, optimizer)
    ended = loop.epochs == 0 or (kept is not None and kept.ended)
    try:
        while not ended and not run.spent:
            if session.over(step):
                run.spent = True
                break
            epoch += 1
            net.train()
            total, count = 0.0, 0
            for parts in _loaded(load, _batches(train_rows, loop, epoch), loop):
                step += 1
                rate = loop.learning_rate * min(1.0, step / WARM_UP) * 0.8 ** max(0, epoch - 4)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = _gradient(net, criterion, parts, drop, (loop.seed, epoch, step))
                nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
                _follow(averages, parameters, min(AVERAGE, step / (step + 10)))
                total, count = total + loss, count + 1
                if session.over(step):
                    run.spent = True
                    break
            valid = _loss(criterion, average, held) if held else float("nan")
            run.history.append({"epoch": epoch, "train": total / max(count, 1), "valid": valid})
            session.report(run.history[-1])
            if not held or valid < best:
                best, run.best_epoch = valid, epoch
                run.best = _weights(average)
            ended = epoch == loop.epochs or epoch - run.best_epoch >= loop.patience
            if session.trainings.wanted and not run.spent:  # a part of an epoch is not kept
                last = None if ended else snapshot(net, average, optimizer)
                session.trainings.keep(number, _kept(run, step, best, last))
    except KeyboardInterrupt:
        run.interrupted = True
        if run.best is None and not start_counts:
            run.best = _weights(average)
    if run.best is not None:
        net.load_state_dict(run.best)
    net.eval()
    return run


def _weights(net: nn.Module) -> dict[str, Tensor]:
    # Not deepcopy: copyreg takes the attributes of a class inside `except: pass`, and a Ctrl-C there is lost.
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _kept(run: Run, step: int, best: float, last: Named | None) -> Training:
    return Training(
        ended=last is None,
        steps=step,
        loss=best if np.isfinite(best) else None,
        best_epoch=run.best_epoch,
        history=np.array([[losses[name] for name in LOSSES] for losses in run.history]),
        best=None if run.best is None else named(run.best),
        last=last,
    )


def _run_of(kept: Training) -> Run:
    history = [dict(zip(LOSSES, row, strict=True)) for row in kept.history.tolist()]
    for losses in history:
        losses["epoch"] = int(losses["epoch"])
    return Run(None if kept.best is None else tensors(kept.best), kept.best_epoch, history)


def _batches(count: int, loop: Loop, epoch: int) -> list[Array]:
    """The rows of every step of an epoch, from (seed, epoch) alone."""
    rng = np.random.default_rng((loop.seed, epoch))
    steps = max(1, count // loop.batch_size)
    passes = -(-LEAST_STEPS // steps)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    steps = min(steps * passes, loop.most_steps)
    return [order[i * loop.batch_size : (i + 1) * loop.batch_size] for i in range(steps)]


def _loaded(load: Loader, batches: list[Array], loop: Loop) -> Iterator[list[Batch]]:
    """Every batch in the parts that threads share, whether there are several or not.

    Some batches are loaded at a time: of a single small one, most of the time would be Python's.
    """
    B = len(batches[0])
    count = max(1, B // PART, min(2, B // HALF)) if loop.divided else 1
    for first in range(0, len(batches), loop.ahead):
        divided = [np.array_split(rows, count) for rows in batches[first : first + loop.ahead]]
        loaded = side_by_side(load, [np.concatenate(rows) for rows in zip(*divided, strict=True)])
        for i, parts in enumerate(divided):
            yield [
                whole[slice(i * len(part), (i + 1) * len(part))]
                for whole, part in zip(loaded, parts, strict=True)
            ]


def _gradient(
    net: nn.Module, criterion: Criterion, parts: list[Batch], drop: Dropper | None, number: tuple[int, ...]
) -> float:
    """The mean loss of a batch, whose gradient it leaves in the parameters; every part draws from a seed of its own."""
    parameters = [*net.parameters()]

    def of(k: int) -> tuple[float, float, list[Tensor]]:
        batch = parts[k] if drop is None else drop(parts[k], np.random.default_rng((*number, k)))
        loss = criterion(net, batch)
        return float(batch.observed.sum()), loss.item(), [*torch.autograd.grad(loss, parameters)]

    found = side_by_side(of, range(len(parts)))
    observed = max(1.0, sum(count for count, *_ in found))
    shares = [count / observed for count, *_ in found]
    gradient = found[0][2]
    if len(found) > 1:
        torch._foreach_mul_(gradient, shares[0])
    for share, (_, _, more) in zip(shares[1:], found[1:], strict=True):
        torch._foreach_add_(gradient, more, alpha=share)
    for parameter, values in zip(parameters, gradient, strict=True):
        parameter.grad = values
    return sum(share * loss for share, (_, loss, _) in zip(shares, found, strict=True))


@torch.no_grad()
def _loss(criterion: Criterion, net: nn.Module, held: list[Batch]) -> float:
    seen = sum(float(batch.observed.sum()) for batch in held)
    return sum(float(criterion(net, batch)) * float(batch.observed.sum()) for batch in held) / max(seen, 1.0)


@torch.no_grad()
def _follow(averages: list[Tensor], parameters: list[Tensor], keep: float) -> None:
    torch._foreach_lerp_(averages, parameters, 1 - keep)
