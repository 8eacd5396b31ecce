"""How much faster do programs that others wrote become, and do they compute the same?

    pip install -c constraints/cpu.txt neuralforecast darts "gluonts[torch]" sb3-contrib
    python benchmarks/in_the_wild.py [--threads 1] [--rounds 3] [--only "GluonTS DeepAR"]

The libraries are as PyPI has them; `carousel.nn.substitution`, which is what `carousel run` does, puts their layers on
our kernels. Every program runs in processes of its own, with torch's layers and with ours in turn, from one seed. The
losses of the first 20 steps must agree. Printed are the time of the recurrent layers alone, forward and backward on
what the program gives them, and of the whole program. What is not installed is left out, and said.
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
from carousel.nn.substitution import substitute
from wild import PROGRAMS, Program

SIDES = ("carousel", "torch.nn")
COMPARED = 20
# Relative. Adam divides a gradient by its own size, so that one near zero carries the rounding of the last place into
# a weight whole; twenty steps add up. A wrong gate is off by 1e-1 at the first step.
ALLOWED = 1e-3
COLUMNS = (
    "program", "steps", "layers", "loss_difference", "layer_ms", "torch_layer_ms", "layer_ratio", "program_s",
    "torch_program_s", "program_ratio", "low", "high", "said",
)  # fmt: skip

Answer = dict[str, Any]


def main() -> None:
    parser = options(__doc__, rounds=3, seconds=0.2)
    parser.add_argument("--only", choices=[p.name for p in PROGRAMS], help="one program")
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
    layer, torchs, layer_ratio, whole, torchs_whole, whole_ratio, low, high, said = found
    numbers = (
        f"{layer:9.3f}{torchs:9.3f}{layer_ratio:7.2f}{whole:12.2f}{torchs_whole:9.2f}{whole_ratio:7.2f} "
        f"({low:.2f}–{high:.2f})"
    )
    return f"{name:26}{numbers}\n    {layers}; {said}; losses differ by {difference:.1e}"


def compared(program: Program, parsed: argparse.Namespace) -> tuple[Any, ...]:
    """A row as COLUMNS; None where the program cannot run here."""
    steps = COMPARED if parsed.quick else program.steps
    request = {"name": program.name, "steps": steps, "threads": parsed.threads, "seconds": parsed.seconds}
    answers: dict[str, list[Answer]] = {side: [] for side in SIDES}
    for _ in range(parsed.rounds):
        for side in SIDES:
            answer = child(side=side, **request)
            if "missing" in answer:
                return (
                    program.name,
                    steps,
                    "",
                    *(None,) * 9,
                    f"left out: {answer['missing']} is not installed",
                )
            answers[side].append(answer)
    ours, theirs = (answers[side] for side in SIDES)
    difference = largest_difference(program.name, ours[0]["losses"], theirs[0]["losses"])
    layer = [[answer["layer"] * 1e3 for answer in side] for side in (ours, theirs)]
    whole = [[answer["program"] for answer in side] for side in (ours, theirs)]
    found = ratio(whole[1], whole[0])
    return (
        program.name, steps, ours[0]["layers"], difference, *map(median, layer), ratio(layer[1], layer[0]).median,
        *map(median, whole), found.median, found.low, found.high, ours[0]["said"],
    )  # fmt: skip


def largest_difference(name: str, ours: list[float], theirs: list[float]) -> float:
    """Relative, over the first steps."""
    if not len(ours) == len(theirs) == COMPARED:
        raise BenchmarkError(f"{name}: {len(ours)} and {len(theirs)} losses instead of {COMPARED}.")
    differences = [abs(a - b) / max(abs(b), 1e-6) for a, b in zip(ours, theirs, strict=True)]
    for difference in differences:
        if not difference <= ALLOWED:  # NaN too
            raise BenchmarkError(f"{name}: losses differ by {difference:.2g} where {ALLOWED:g} is allowed.")
    return max(differences)


def child(**request: Any) -> Answer:
    """What `measured` finds in a new process, in a directory that is thrown away."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(request)]
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{request['name']}, {request['side']}: {done.stderr.strip()[-2000:]}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(name: str, side: str, steps: int, threads: int, seconds: float) -> Answer:
    """One side of one program."""
    warnings.simplefilter("ignore")  # of the libraries
    keep_memory()
    torch.set_num_threads(threads)
    said = substitute() if side == "carousel" else ""
    (program,) = (p for p in PROGRAMS if p.name == name)
    try:
        with layers_seen() as seen:
            seeded(program.train, 1)
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    with losses_seen() as losses:
        start = time.perf_counter()
        seeded(program.train, steps)
        whole = time.perf_counter() - start
    layer = sum(timed(passes(*call), seconds) for call in seen.values())
    texts = sorted({str(module) for module, *_ in seen.values()})
    return {
        "losses": losses,
        "program": whole,
        "layer": layer,
        "layers": " and ".join(texts),
        "said": str(said),
    }


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
        return value._replace(data=value.data.detach())
    if isinstance(value, tuple):
        return tuple(map(detached, value))
    return value.detach() if isinstance(value, Tensor) else value


def passes(module: torch.nn.Module, input: Any, hx: Any) -> Callable[[], None]:
    """A pass forward and backward of the layer."""

    module.train()

    def once() -> None:
        y = module(input, hx)[0]
        (y.data if isinstance(y, PackedSequence) else y).sum().backward()

    once()
    return once


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
