"""How fast are our layers against Keras, ONNX Runtime, OpenVINO and JAX, and all of them against torch.nn?

    pip install onnx onnxruntime openvino "jax[cpu]" keras
    python benchmarks/peers.py [--threads 1] [--rounds 5] [--only lstm] [--keras torch]

Each is given our weights in its own order, and its output, in training the gradient of the first W, is checked to be
ours before it is timed. All run in turn in one process; before each part there is a rest of 20 ms, for idle threads of
the one before may still keep a core busy. The process may use as many cores as --threads says. What is not installed
is left out, and said. ONNX Runtime and OpenVINO do not train; they take NumPy arrays, and so does carousel.stream,
which stands beside our torch modules for that. Printed is the time of each over that of our modules.
"""

from __future__ import annotations

import os
from argparse import Namespace
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np
import torch

from carousel.bench import SIZES, Problem, interleaved, problems, ratio
from carousel.bench.agreement import check_equal
from carousel.bench.malloc import keep_memory
from carousel.bench.pair import calls, check_modules, forward, modules
from carousel.bench.script import begin, options, store
from carousel.layout import Weights
from peer.base import Peer

PEERS = (
    "carousel_stream.Stream",
    "onnx_models.OnnxRuntime",
    "onnx_models.OpenVino",
    "jax_scan.Jax",
    "keras_layers.Keras",
)
COLUMNS = ("cell", *SIZES, "mode", "library", "version", "ms", "over_ours", "low", "high")


Row = tuple[Any, ...]
"""As COLUMNS."""


def main() -> None:
    parser = options(__doc__, only=("lstm", "gru"))
    parser.add_argument(
        "--keras", choices=("torch", "tensorflow"), default="torch", help="its backend; torch"
    )
    parsed = parser.parse_args()
    machine = begin(parsed)
    keep_memory()
    peers = found_peers(parsed.threads, parsed.keras)
    versions = {"carousel": machine.carousel, "torch.nn": machine.torch}
    versions |= {peer.name: peer.version for peer in peers}
    print("#", ", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{'':38}{'ours ms':>9}" + "".join(f"{name:>21}" for name in list(versions)[1:]))
    rows: list[Row] = []
    which = problems([parsed.only] if parsed.only else ("lstm", "gru"))
    for problem in which[2:4] if parsed.quick else which:
        times = measured(problem, peers, parsed)
        ours = times["carousel"]
        line = f"{problem!s:38}{median(ours) * 1e3:9.3f}"
        for name, version in versions.items():
            found = ratio(times[name], ours) if name in times else None
            if name != "carousel":
                text = f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})" if found else "-"
                line += f"{text:>21}"
            if found:
                ms = median(times[name]) * 1e3
                row = (problem.cell, *problem.shape, problem.mode, name, version, ms)
                rows.append((*row, found.median, found.low, found.high))
        print(line, flush=True)
    store(parsed, machine, "peers", COLUMNS, rows)


def found_peers(threads: int, keras: str) -> list[Peer]:
    """Those that are installed, set to so many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # before they count the cores
    os.environ |= {"KERAS_BACKEND": keras, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    found = []
    for place in PEERS:
        module, name = place.split(".")
        try:
            found.append(getattr(import_module(f"peer.{module}"), name)(threads))
        except ModuleNotFoundError as error:
            print(f"# {name} is left out: {error.name} is not installed")
    return found


def measured(problem: Problem, peers: list[Peer], parsed: Namespace) -> dict[str, list[float]]:
    """Seconds of each round, by name, after all were found to give our results."""
    ours, theirs, x, dy = modules(problem)
    training = problem.mode == "training"
    check_modules(str(problem), ours, theirs, x, dy if training else None)
    expected = ours.weight_ih_l0.grad if training else forward(ours, x)

    sides = {name: calls(problem.mode, m, x, dy) for name, m in (("carousel", ours), ("torch.nn", theirs))}
    arrays = (problem, weights(ours), x.numpy())
    for peer in peers:
        side = peer.training(*arrays, dy.numpy()) if training else peer.inference(*arrays)
        if side is not None:
            found = torch.from_numpy(np.array(side.array(side.call())))
            check_equal(f"{peer.name}, {problem}: the result", found, expected, gradient=training)
            sides[peer.name] = side.call
    times = interleaved(list(sides.values()), rounds=parsed.rounds, seconds=parsed.seconds, pause=0.02)
    return dict(zip(sides, times, strict=True))


def weights(module: torch.nn.RNNBase) -> list[Weights]:
    """Those of each layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found = {name: value.numpy() for name, value in module.state_dict().items()}
    return [Weights(*(found[f"{name}_l{k}"] for name in names)) for k in range(module.num_layers)]


if __name__ == "__main__":
    main()
