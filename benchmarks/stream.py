"""How long does one step of a stream take, against torch.nn and ONNX Runtime?

    pip install onnx onnxruntime
    python benchmarks/stream.py [--rounds 40]

Every side computes the same network in float32 and carries the state from call to call: ours in place (`step_into`)
and as a value (`step`), torch's modules under `no_grad`, and, if it is installed, ONNX Runtime on arrays and on memory
that is bound once. Some steps are first seen to give equal results. Each ratio is to `step_into`.
"""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

from carousel.bench import interleaved, ratio
from carousel.bench.script import begin, options, store
from carousel.bench.timing import Call
from carousel.layout import to_onnx

CASES = (("lstm", None), ("lstm", 1), ("gru", 1))  # cell and outputs of the head, if there is one
BATCHES = (1, 16, 256)
I, H, L = 1, 50, 2
GATES = {"lstm": 4, "gru": 3}
NAMES = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")  # torch's, before the number of the layer
STEPS = 100  # between two looks at the clock, which takes a tenth of a step
COLUMNS = ("cell", "head", "batch", "side", "us", "ratio", "low", "high")

Array = np.ndarray[Any, Any]
Side = Callable[[Array], Array]
"""One step: x (B, I) to y (B, O); the state is the side's own."""


def main() -> None:
    parsed = options(__doc__, rounds=40, seconds=0.005).parse_args()
    machine = begin(parsed)
    print(f"{'cell':6}{'head':6}{'batch':>6}  {'side':22}{'us':>10}  ratio")
    rows = []
    for cell, head in CASES[:1] if parsed.quick else CASES:
        for batch in BATCHES:
            for row in case(cell, head, batch, parsed):
                print("{:6}{:6}{:6}  {:22}{:10.2f}  {:.1f} ({:.1f}–{:.1f})".format(*row), flush=True)
                rows.append(row)
    store(parsed, machine, "stream", COLUMNS, rows)


def case(cell: str, head: int | None, batch: int, parsed: Namespace) -> Iterator[tuple[Any, ...]]:
    """As COLUMNS."""
    weights = random_weights(cell, head)
    sides: dict[str, Side] = dict(ours(cell, weights, batch))
    sides["torch.nn"] = torch_side(cell, weights, batch)
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        sides |= onnx_sides(cell, weights, batch, parsed.threads)
    agree(sides, batch)
    x = np.ones((batch, I), np.float32)
    calls = [steps(side, x) for side in sides.values()]
    times = interleaved(calls, rounds=parsed.rounds, seconds=parsed.seconds)
    for name, found in zip(sides, times, strict=True):
        more = ratio(found, times[0])
        yield cell, head or "none", batch, name, median(found) / STEPS * 1e6, more.median, more.low, more.high


def steps(side: Side, x: Array) -> Call:
    def call() -> None:
        for _ in range(STEPS):
            side(x)

    return call


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

    layers = [Recurrent(cell, (Weights(*(weights[f"{n}{l}"] for n in NAMES)),)) for l in range(L)]
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


def onnx_sides(cell: str, weights: dict[str, Array], batch: int, threads: int) -> Iterator[tuple[str, Side]]:
    """A session whose inputs and outputs are the step and the state: on NumPy arrays, and on bound memory."""
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads = threads, 1
    model = onnx_model(cell, weights, batch).SerializeToString()
    session = onnxruntime.InferenceSession(model, how, providers=["CPUExecutionProvider"])
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
    """One step of all layers, from x and the states to y and the new states."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, inputs, outputs = [], {}, [], []
    flow = "x"
    for l in range(L):
        W, R, b = to_onnx(cell, *(weights[f"{name}{l}"] for name in NAMES))
        tensors |= {f"W{l}": W[None], f"R{l}": R[None], f"B{l}": b[None]}
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


if __name__ == "__main__":
    main()
