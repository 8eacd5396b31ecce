"""How long does one step of a stream take, against torch.nn and ONNX Runtime?

    python benchmarks/stream.py [--rounds 40] [--csv FILE]

Every side computes the same network in float32 with one thread and carries the state from call to call: ours in
place (`step_into`) and as a value (`step`), torch's modules under `no_grad`, and, if it is installed with `onnx`,
which writes its model, ONNX Runtime on arrays and on memory that is bound once. Some steps are first seen to give
equal results. The sides then run in turn, A B C A B C, in one process, so that a noisy machine slows all of them;
each figure is a median over rounds, each ratio the median of the rounds' ratios to `step_into`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CASES = (("lstm", None), ("lstm", 1), ("gru", 1))  # cell and outputs of the head, if there is one
BATCHES = (1, 16, 256)
I, H, L = 1, 50, 2
GATES = {"lstm": 4, "gru": 3}
COLUMNS = ("cell", "head", "batch", "side", "us", "low", "high", "ratio")

Array = np.ndarray[Any, Any]
Side = Callable[[Array], Array]
"""One step: x (B, I) to y (B, O); the state is the side's own."""


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.005, help="least time of one side of one round")
    parser.add_argument("--csv", type=Path, help="also write the rows there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything reads it
    print(f"# {machine()}, 1 thread, {options.rounds} interleaved rounds; LSTM and GRU of {L} layers of {H}")
    print(f"{'cell':6}{'head':6}{'batch':>6}  {'side':22}{'us':>10}{'spread':>20}{'ratio':>8}")
    rows = []
    for cell, head in CASES:
        for batch in BATCHES:
            for row in case(cell, head, batch, options):
                print("{:6}{:6}{:6}  {:22}{:10.2f}{:10.2f}-{:9.2f}{:8.1f}".format(*row), flush=True)
                rows.append(row)
    if options.csv:
        with options.csv.open("w", newline="") as file:
            file.write(f"# {machine()}, 1 thread\n")
            csv.writer(file).writerows([COLUMNS, *rows])


def case(cell: str, head: int | None, batch: int, options: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    weights = random_weights(cell, head)
    sides: dict[str, Side] = dict(ours(cell, weights, batch))
    sides["torch.nn"] = torch_side(cell, weights, batch)
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        sides |= onnx_sides(cell, weights, batch)
    agree(sides, batch)
    x = np.ones((batch, I), np.float32)
    counts = {}
    for name, side in sides.items():
        timed(side, x, 10)
        counts[name] = max(1, round(options.seconds / timed(side, x, 10)))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            times[name].append(timed(side, x, counts[name]))
    first = times["carousel step_into"]
    for name, found in times.items():
        ratio = statistics.median(b / a for a, b in zip(first, found, strict=True))
        figures = (statistics.median(found), min(found), max(found))
        yield cell, head or "none", batch, name, *(seconds * 1e6 for seconds in figures), ratio


def timed(side: Side, x: Array, count: int) -> float:
    """Seconds per step."""
    start = time.perf_counter()
    for _ in range(count):
        side(x)
    return (time.perf_counter() - start) / count


def agree(sides: dict[str, Side], batch: int) -> None:
    """Each side gives what the first gives, for the first steps of a sequence."""
    for x in np.random.default_rng(1).normal(size=(20, batch, I)).astype(np.float32):
        first, *others = (side(x).copy() for side in sides.values())
        for y in others:
            np.testing.assert_allclose(y, first, rtol=1e-4, atol=1e-6)


def random_weights(cell: str, head: int | None) -> dict[str, Array]:
    """Named and laid out as torch does."""
    rng, rows = np.random.default_rng(0), GATES[cell] * H
    shapes: dict[str, tuple[int, ...]] = {}
    for l in range(L):
        shapes |= {f"weight_ih_l{l}": (rows, H if l else I), f"weight_hh_l{l}": (rows, H)}
        shapes |= {f"bias_ih_l{l}": (rows,), f"bias_hh_l{l}": (rows,)}
    if head is not None:
        shapes |= {"weight": (head, H), "bias": (head,)}
    return {name: rng.uniform(-0.2, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def ours(cell: str, weights: dict[str, Array], batch: int) -> Iterator[tuple[str, Side]]:
    from carousel import stream
    from carousel.network import Dense, Network, Recurrent, Weights

    names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
    layers = [Recurrent(cell, (Weights(*(weights[f"{n}{l}"] for n in names)),)) for l in range(L)]
    head = [Dense(weights["weight"], weights["bias"])] if "weight" in weights else []
    model = stream.Model(Network((*layers, *head)))
    out, state, value = (
        np.empty((batch, model.network.output_size), np.float32),
        model.start(batch),
        model.start(batch),
    )

    def step_into(x: Array) -> Array:
        model.step_into(x, state, out)
        return out

    def step(x: Array) -> Array:
        nonlocal value
        y, value = model.step(x, value)
        return y

    yield "carousel step_into", step_into
    yield "carousel step", step


def torch_side(cell: str, weights: dict[str, Array], batch: int) -> Side:
    """Tensors over the same memory as the arrays, so that nothing is converted."""
    import torch

    torch.set_num_threads(1)
    module = getattr(torch.nn, cell.upper())(I, H, L)
    head = torch.nn.Linear(H, len(weights["weight"])) if "weight" in weights else torch.nn.Identity()
    for part in (module, head):
        part.load_state_dict({name: torch.from_numpy(weights[name]) for name in part.state_dict()})
    zeros = torch.zeros(L, batch, H)
    state = (zeros, zeros) if cell == "lstm" else zeros

    def step(x: Array) -> Array:
        nonlocal state
        with torch.no_grad():
            y, state = module(torch.from_numpy(x)[None], state)
            return head(y[0]).numpy()

    return step


def onnx_sides(cell: str, weights: dict[str, Array], batch: int) -> Iterator[tuple[str, Side]]:
    """A session whose inputs and outputs are the step and the state: on NumPy arrays, and on bound memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnx_model(cell, weights, batch).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    _, *names = (given.name for given in session.get_inputs())
    states = [np.zeros((1, batch, H), np.float32) for _ in names]

    def run(x: Array) -> Array:
        nonlocal states
        y, *states = session.run(None, {"x": x[None], **dict(zip(names, states, strict=True))})
        return y

    x_in, y_out = (
        np.zeros(value.shape, np.float32) for value in (session.get_inputs()[0], session.get_outputs()[0])
    )
    both = [
        [np.zeros((1, batch, H), np.float32) for _ in names] for _ in range(2)
    ]  # read one, write the other
    bindings = []
    for old, new in (both, both[::-1]):
        binding = session.io_binding()
        for given, array in zip(session.get_inputs(), (x_in, *old), strict=True):
            binding.bind_input(given.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        for made, array in zip(session.get_outputs(), (y_out, *new), strict=True):
            binding.bind_output(made.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        bindings.append((binding, old))  # it keeps addresses only

    def run_bound(x: Array) -> Array:
        x_in[0] = x
        session.run_with_iobinding(bindings[0][0])
        bindings.reverse()
        return y_out

    yield "onnxruntime", run
    yield "onnxruntime, bound", run_bound


def onnx_model(cell: str, weights: dict[str, Array], batch: int) -> Any:
    """Gates in ONNX's order, i o f c or z r h, from torch's i f g o or r z n."""
    from onnx import TensorProto, helper, numpy_helper

    order = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}[cell]

    def reordered(array: Array) -> Array:
        return np.concatenate([np.split(array, GATES[cell])[k] for k in order])

    nodes, tensors, inputs, outputs = [], {}, [], []
    flow = "x"
    for l in range(L):
        tensors[f"W{l}"] = reordered(weights[f"weight_ih_l{l}"])[None]
        tensors[f"R{l}"] = reordered(weights[f"weight_hh_l{l}"])[None]
        tensors[f"B{l}"] = np.concatenate([reordered(weights[f"bias_{k}h_l{l}"]) for k in "ih"])[None]
        given = [f"h{l}", f"c{l}"] if cell == "lstm" else [f"h{l}"]
        made = [f"{name}_n" for name in given]
        options = {} if cell == "lstm" else {"linear_before_reset": 1}
        nodes.append(
            helper.make_node(
                cell.upper(),
                [flow, f"W{l}", f"R{l}", f"B{l}", "", *given],
                ["", *made],
                hidden_size=H,
                **options,
            )
        )
        inputs += given
        outputs += made
        flow = made[0]  # of one step the last h is the output, (1, B, H)
    tensors["first"] = np.array([0], np.int64)
    nodes.append(helper.make_node("Squeeze", [flow, "first"], ["top"]))
    if "weight" in weights:
        tensors |= {"weight": weights["weight"], "bias": weights["bias"]}
        nodes.append(helper.make_node("Gemm", ["top", "weight", "bias"], ["y"], transB=1))
    else:
        nodes.append(helper.make_node("Identity", ["top"], ["y"]))

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        cell,
        [value("x", 1, batch, I), *(value(name, 1, batch, H) for name in inputs)],
        [
            value("y", batch, len(weights.get("weight", range(H)))),
            *(value(name, 1, batch, H) for name in outputs),
        ],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def machine() -> str:
    """Processor, instruction set and versions."""
    import torch

    import carousel
    from carousel import _core

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    versions = [f"carousel {carousel.__version__} {_core.isa()}", f"torch {torch.__version__}"]
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        versions.append(f"onnxruntime {onnxruntime.__version__}")
    return f"{name}, {os.cpu_count()} cores; {', '.join([*versions, f'numpy {np.__version__}'])}"


if __name__ == "__main__":
    main()
