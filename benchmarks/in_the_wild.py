"""How much faster do programs that others wrote become, and do they compute the same?

    pip install -c constraints/cpu.txt neuralforecast "darts[torch]" "gluonts[torch]" sb3-contrib
    python benchmarks/in_the_wild.py [--threads 1] [--rounds 3] [--only "GluonTS DeepAR"]

The libraries are as PyPI has them, and fit into one environment: neuralforecast 3.3, darts 0.48, gluonts 0.17 and
sb3-contrib 2.9 with torch 2.13. What is not installed is left out, and said.

`carousel.nn.substitution`, which is what `carousel run` does, puts their layers on our kernels. Every program runs in
processes of its own, with torch's layers and with ours in turn, from one seed. The losses of the first 20 steps must
agree: to 1e-4, or where rounding grows in a program, ten times as far as torch's own losses move when the weights of
its layers start a rounding or so away. Printed are the time of the recurrent layers alone, forward and backward on
the largest batch that the program gives them in its first step, and of the whole program.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from carousel.bench import BenchmarkError, ratio
from carousel.bench.malloc import keep_memory
from carousel.bench.script import begin, options, store
from carousel.bench.timing import timed
from carousel.nn.substitution import Tally, substitute
from wild import PROGRAMS, Program

SIDES = ("carousel", "torch.nn")
COMPARED = 20
# Relative. Adam divides a gradient by its own size, so that one near zero carries the rounding of the last place into
# a weight whole; twenty steps add up. Where a loss has kinks, as the mean absolute error has, one sign that turns over
# moves a gradient by a jump. How far that goes is the program's own: torch's layers show it when their first weights
# are off by NUDGE of themselves, eight units in the last place, about what the order of a sum over all steps and rows
# leaves open. A wrong gate is off by 1e-1.
ALLOWED, MARGIN = 1e-4, 10
NUDGE, NUDGES = 2.0**-20, 2
COLUMNS = (
    "program", "steps", "layers", "loss_difference", "nudged_difference", "layer_ms", "torch_layer_ms",
    "layer_ratio", "program_s", "torch_program_s", "program_ratio", "low", "high", "said",
)  # fmt: skip

Answer = dict[str, Any]


def main() -> None:
    parser = options(__doc__, rounds=3, seconds=0.2, only=[p.name for p in PROGRAMS])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child:
        print("\n" + json.dumps(measured(**json.loads(parsed.child))))
        return
    machine = begin(parsed)
    rows = []
    print(f"{'':26}{'layer ms':>9}{'torch':>9}  ratio{'program s':>12}{'torch':>9}  ratio")
    for program in PROGRAMS:
        if parsed.only in (None, program.name):
            row = compared(program, parsed)
            print(line(*row), flush=True)
            rows.append(row)
    store(parsed, machine, "in_the_wild", COLUMNS, rows)


def line(name: str, steps: int, layers: str, difference: float | None, *found: Any) -> str:
    if difference is None:
        return f"{name:26}{found[-1]}"
    nudged, layer, torchs, layer_ratio, whole, torchs_whole, whole_ratio, low, high, said = found
    numbers = (
        f"{layer:9.3f}{torchs:9.3f}{layer_ratio:7.2f}{whole:12.2f}{torchs_whole:9.2f}{whole_ratio:7.2f} "
        f"({low:.2f}–{high:.2f})"
    )
    losses = f"losses differ by {difference:.1e}, torch's own when nudged by {nudged:.1e}"
    return f"{name:26}{numbers}\n    {layers}; {said}\n    {losses}"


def compared(program: Program, parsed: argparse.Namespace) -> tuple[Any, ...]:
    """A row as COLUMNS; None where the program cannot run here."""
    steps = COMPARED if parsed.quick else program.steps
    request = {"name": program.name, "threads": parsed.threads}
    few = {"side": "torch.nn", "steps": COMPARED, "seconds": 0}
    nudged = [child(nudge=seed, **few, **request) for seed in range(1, NUDGES + 1)]
    if "missing" in nudged[0]:
        said = f"left out: {nudged[0]['missing']} is not installed"
        return (program.name, steps, "", *(None,) * (len(COLUMNS) - 4), said)
    answers: dict[str, list[Answer]] = {side: [] for side in SIDES}
    for _ in range(parsed.rounds):
        for side in SIDES:
            answers[side].append(child(side=side, steps=steps, seconds=parsed.seconds, **request))
    ours, theirs = (answers[side] for side in SIDES)
    losses = [answer["losses"] for answer in (ours[0], theirs[0], *nudged)]
    layer = [[answer["layer"] * 1e3 for answer in side] for side in (ours, theirs)]
    whole = [[answer["program"] for answer in side] for side in (ours, theirs)]
    found = ratio(whole[1], whole[0])
    return (
        program.name, steps, ours[0]["layers"], *loss_differences(program.name, *losses), *map(median, layer),
        ratio(layer[1], layer[0]).median, *map(median, whole), found.median, found.low, found.high, ours[0]["said"],
    )  # fmt: skip


def loss_differences(
    name: str, ours: list[float], theirs: list[float], *nudged: list[float]
) -> tuple[float, float]:
    """The largest over the first steps, relative to torch's losses: of ours, and of torch's own when nudged.

    Raises:
        BenchmarkError: ours are further off than rounding explains.
    """
    for losses in (ours, theirs, *nudged):
        if len(losses) != COMPARED:
            raise BenchmarkError(f"{name}: {len(losses)} losses instead of {COMPARED}.")
    found = relative(ours, theirs)
    own = list(map(max, zip(*(relative(losses, theirs) for losses in nudged), strict=True)))
    for step, (difference, so_far) in enumerate(zip(found, accumulate(own, max), strict=True), 1):
        allowed = ALLOWED + MARGIN * so_far
        if not difference <= allowed:  # NaN too
            raise BenchmarkError(
                f"{name}: losses of step {step} differ by {difference:.2g} where {allowed:.2g} is allowed."
            )
    return max(found), max(own)


def relative(losses: list[float], others: list[float]) -> list[float]:
    return [abs(a - b) / max(abs(b), 1e-6) for a, b in zip(losses, others, strict=True)]


def child(**request: Any) -> Answer:
    """What `measured` finds in a new process, in a directory that is thrown away."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(request)]
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{request['name']}, {request['side']}: {done.stderr.strip()[-2000:]}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(name: str, side: str, steps: int, threads: int, seconds: float, nudge: int = 0) -> Answer:
    """One side of one program; `nudge` as `weights_nudged` has it."""
    warnings.simplefilter("ignore")  # of the libraries
    keep_memory()
    torch.set_num_threads(threads)
    tally = substitute() if side == "carousel" else Tally()
    (program,) = (p for p in PROGRAMS if p.name == name)
    try:
        with layers_seen() as seen:
            seeded(program.train, 1)
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    tally.accelerated.clear()  # of this first look
    tally.left.clear()
    with losses_seen() as losses, weights_nudged(nudge):
        start = time.perf_counter()
        seeded(program.train, steps)
        whole = time.perf_counter() - start
    return {
        "losses": losses,
        "program": whole,
        "said": str(tally),
        "layer": sum(timed(passes(*call), seconds) for call in seen.values()),
        "layers": " and ".join(sorted({called(*call) for call in seen.values()})),
    }


def called(module: torch.nn.Module, input: Any, _: Any) -> str:
    x = input.data if isinstance(input, PackedSequence) else input
    return f"{module} on {tuple(x.shape)}"


def seeded(train: Callable[[int], None], steps: int) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  the generator that the libraries use
    random.seed(0)
    train(steps)


@contextmanager
def layers_seen() -> Iterator[dict[int, tuple[torch.nn.Module, Any, Any]]]:
    """Every recurrent layer that is called inside, with the input and state of its call in training of most steps."""
    found: dict[int, tuple[torch.nn.Module, Any, Any]] = {}

    def look(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.RNNBase) and torch.is_grad_enabled():
            input, hx = (*arguments, None)[:2]
            before = found.get(id(module))
            if before is None or size(input) > size(before[1]):
                found[id(module)] = (module, detached(input), detached(hx))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield found
    finally:
        hook.remove()


def size(input: Any) -> int:
    return int((input.data if isinstance(input, PackedSequence) else input).numel())


def detached(value: Any) -> Any:
    if isinstance(value, PackedSequence):
        return value._replace(data=detached(value.data))
    if isinstance(value, tuple):
        return tuple(map(detached, value))
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def passes(module: torch.nn.Module, input: Any, hx: Any) -> Callable[[], None]:
    """A pass forward and backward of the layer."""

    module.train()

    def once() -> None:
        y = module(input, hx)[0]
        (y.data if isinstance(y, PackedSequence) else y).sum().backward()

    once()
    return once


@contextmanager
def weights_nudged(seed: int) -> Iterator[None]:
    """Recurrent layers that are made inside start a little beside torch's weights; where `seed` is 0, at them."""
    reset, generator = torch.nn.RNNBase.reset_parameters, torch.Generator().manual_seed(seed)

    def nudged(self: torch.nn.RNNBase) -> None:
        reset(self)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(1 + NUDGE * torch.randn(parameter.shape, generator=generator))

    with mock.patch.object(torch.nn.RNNBase, "reset_parameters", nudged if seed else reset):
        yield


@contextmanager
def losses_seen() -> Iterator[list[float]]:
    """The first scalars that `backward` is called on inside."""
    found: list[float] = []
    backward = Tensor.backward

    def look(self: Tensor, *arguments: Any, **keywords: Any) -> None:
        if self.numel() == 1 and len(found) < COMPARED:
            found.append(self.item())
        backward(self, *arguments, **keywords)

    with mock.patch.object(Tensor, "backward", look):
        yield found


if __name__ == "__main__":
    main()
