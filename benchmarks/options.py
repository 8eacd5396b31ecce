"""What does each option of a layer cost, beside the plain layer at (I, H, L, B, T) = (32, 128, 1, 32, 100)?

    python benchmarks/options.py [--threads 1] [--rounds 5] [--only lstm]

In other libraries one option silently takes another path and costs five to a hundred times as much. Printed are the
time over that of our plain layer and, where torch.nn has the option too, torch's time over ours. The plain layer, the
option and torch run in turn. Where torch has the option, results are checked to be equal first; the others are judged
by the tests, here they are only checked to be finite. An option that the constructor or forward does not take is
listed as missing. Last comes a PackedSequence of 32 sequences of up to 4,000 steps (400 in training), in one and in
both directions.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from carousel import kernel_path, nn
from carousel.bench import MODES, BenchmarkError, interleaved, ratio
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import calls, check_modules, forward, step
from carousel.bench.script import begin, options, store

I, H, L, B, T = 32, 128, 1, 32, 100


@dataclass(frozen=True)
class Option:
    """Keyword arguments of the constructor and of forward; which cells have it, and whether torch.nn does."""

    name: str
    make: dict[str, Any] = field(default_factory=dict)
    call: Callable[[], dict[str, Any]] = dict
    cells: tuple[str, ...] = ("lstm", "gru")
    torchs: bool = False


OPTIONS = (
    Option("plain", torchs=True),
    Option("bias=False", {"bias": False}, torchs=True),
    Option("float64", {"dtype": torch.float64}, torchs=True),
    Option("bidirectional", {"bidirectional": True}, torchs=True),
    Option("proj_size=64", {"proj_size": 64}, cells=("lstm",), torchs=True),
    Option("layer_norm", {"layer_norm": True}),
    Option("zoneout=0.1", {"zoneout": 0.1}),
    Option("recurrent_dropout=0.25", {"recurrent_dropout": 0.25}),
    Option("input_dropout=0.25", {"input_dropout": 0.25}),
    Option("peephole", {"peephole": True}, cells=("lstm",)),
    Option("coupled_gates", {"coupled_gates": True}, cells=("lstm",)),
    Option("clip=3.0", {"clip": 3.0}),
    Option("cell_clip=3.0", {"cell_clip": 3.0}, cells=("lstm",)),
    Option('reset="before"', {"reset": "before"}, cells=("gru",)),
    Option("lengths", call=lambda: {"lengths": lengths(T)}),
    Option("return_gates", call=lambda: {"return_gates": True}),
)
COLUMNS = (
    "option",
    "cell",
    "mode",
    "ms",
    "over_plain",
    "low",
    "high",
    "torch_over_ours",
    "torch_low",
    "torch_high",
    "path",
)


# The longest sequence of a PackedSequence. torch's backward pass over one grows with the square of its length: of
# 4,000 steps it takes minutes.
PACKED = {"inference": 4000, "training": 400}


class Called(torch.nn.Module):
    """A layer that is called with keyword arguments, or whose output is a PackedSequence: gives y alone."""

    def __init__(self, layer: torch.nn.Module, keywords: dict[str, Any]) -> None:
        super().__init__()
        self.layer, self.keywords = layer, keywords

    def forward(self, x: Any) -> tuple[Tensor]:
        y = self.layer(x, **self.keywords)[0]
        return (y.data if isinstance(y, PackedSequence) else y,)


def main() -> None:
    parsed = options(__doc__, only=("lstm", "gru")).parse_args()
    machine = begin(parsed)
    keep_memory()
    warnings.filterwarnings(
        "ignore", "LSTM with projections is not supported with oneDNN"
    )  # torch's own side
    rows = []
    print(f"{'option':26}{'cell':6}{'mode':11}{'ms':>9}  {'over plain':18}{'torch / ours':20}path")
    for row in cases(parsed):
        print(line(*row), flush=True)
        rows.append(row)
    store(parsed, machine, "options", COLUMNS, rows)


def line(option: str, cell: str, mode: str, ms: float | None, *found: Any) -> str:
    over, low, high, torchs, torchs_low, torchs_high, path = found
    if ms is None:
        return f"{option:26}{cell:6}{mode:11}{'missing':>9}  {path}"
    spreads = (
        "" if middle is None else f"{middle:.2f} ({a:.2f}–{b:.2f})"
        for middle, a, b in ((over, low, high), (torchs, torchs_low, torchs_high))
    )
    return f"{option:26}{cell:6}{mode:11}{ms:9.3f}  {next(spreads):18}{next(spreads):20}{path}"


def cases(parsed: Namespace) -> Iterator[tuple[Any, ...]]:
    """As COLUMNS; None where there is nothing to tell."""
    cells = [parsed.only] if parsed.only else ["lstm", "gru"]
    for cell in cells:
        for option in OPTIONS:
            for mode in MODES if cell in option.cells else ():
                yield option.name, cell, mode, *cost(option, cell, mode, parsed)
    for cell in cells:
        for bidirectional in (False, True):
            for mode in MODES:
                longest = 40 if parsed.quick else PACKED[mode]
                name = f"packed T={longest}{', bi' * bidirectional}"
                yield name, cell, mode, *packed(cell, bidirectional, longest, mode, parsed)


def cost(option: Option, cell: str, mode: str, parsed: Namespace) -> tuple[Any, ...]:
    """The figures of one option."""
    dtype = option.make.get("dtype", torch.float32)
    plain, x = make(nn, cell, mode), torch.randn(T, B, I, dtype=dtype)
    try:
        ours = make(nn, cell, mode, **option.make)
        called = Called(ours, option.call())
        dy = torch.randn_like(forward(called, x))
    except (TypeError, NotImplementedError) as error:
        return *(None,) * 7, str(error)
    sides = [calls(mode, Called(plain, {}), x.float(), torch.randn(T, B, H)), calls(mode, called, x, dy)]
    if option.torchs:
        theirs = make(torch.nn, cell, mode, **option.make)
        theirs.load_state_dict(ours.state_dict())
        check_modules(f"{cell} {option.name} {mode}", ours, theirs, x, dy if mode == "training" else None)
        sides.append(calls(mode, theirs, x, dy))
    else:
        step(called, x, dy)
        if not all(torch.isfinite(p.grad).all() for p in ours.parameters()):
            raise BenchmarkError(f"{cell} {option.name}: a gradient is not finite.")
    times = interleaved(sides, rounds=parsed.rounds, seconds=parsed.seconds)
    against = spread(times[2], times[1]) if option.torchs else (None,) * 3
    return median(times[1]) * 1e3, *spread(times[1], times[0]), *against, kernel_path(ours, x)


def packed(cell: str, bidirectional: bool, longest: int, mode: str, parsed: Namespace) -> tuple[Any, ...]:
    """Ours against torch.nn over sequences of random lengths."""
    theirs = make(torch.nn, cell, mode, bidirectional=bidirectional)
    ours = make(nn, cell, mode, bidirectional=bidirectional)
    ours.load_state_dict(theirs.state_dict())
    x = pack_padded_sequence(torch.randn(longest, B, I), lengths(longest), enforce_sorted=False)
    called = [Called(module, {}) for module in (ours, theirs)]
    dy = torch.randn_like(forward(called[1], x))
    check_modules(f"{cell} packed {mode}", *called, x, dy if mode == "training" else None)
    sides = [calls(mode, module, x, dy) for module in called]
    times = interleaved(sides, rounds=min(3, parsed.rounds), seconds=parsed.seconds)
    return median(times[0]) * 1e3, *(None,) * 3, *spread(times[1], times[0]), kernel_path(ours, x)


def make(library: Any, cell: str, mode: str, **options: Any) -> Any:
    """The layer with these options, the same weights every time."""
    torch.manual_seed(0)
    return getattr(library, cell.upper())(I, H, L, **options).train(mode == "training")


def lengths(longest: int) -> Tensor:
    """(B,) lengths from 1 to `longest`, one of which is it."""
    drawn = torch.randint(1, longest + 1, (B,), generator=torch.Generator().manual_seed(0))
    drawn[0] = longest
    return drawn


def spread(others: list[float], ours: list[float]) -> tuple[float, float, float]:
    found = ratio(others, ours)
    return found.median, found.low, found.high


if __name__ == "__main__":
    main()
