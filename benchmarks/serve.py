"""How many steps a second does `carousel serve` answer, how late are they, and does its memory stay flat?

    python benchmarks/serve.py [--streams 5000] [--connections 16] [--soak 20] [--only network|forecaster]

On loopback, server and client on the same cores. Every sequence is begun and stepped once; then each connection keeps
`--pending` steps of different sequences under way over its WebSocket for so many seconds. Printed are the streams
held, the steps answered a second, the time from a step sent to its answer, and the resident memory of the server at
the first and at the last quarter of the soak; and the time of single requests of `/infer`, one after another.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import websockets

from carousel import network
from carousel.bench.script import begin, options, store
from carousel.network import Dense, Network, Recurrent, Weights

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # random forecasters are made there
from forecast_models import forecast_model

INPUTS, HIDDEN = 4, 50
KINDS = ("network", "forecaster")
COLUMNS = ("model", "streams", "connections", "pending", "figure", "value", "unit")


def main() -> None:
    parser = options(__doc__, rounds=1, seconds=0.0, only=KINDS)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--pending", type=int, default=16)
    parser.add_argument("--soak", type=float, default=20, help="seconds; 20")
    parsed = parser.parse_args()
    if parsed.quick:
        parsed.streams, parsed.soak = min(parsed.streams, 100), min(parsed.soak, 2)
    machine = begin(parsed)
    setting = (parsed.streams, parsed.connections, parsed.pending)
    rows = []
    for kind in [parsed.only] if parsed.only else KINDS:
        for figure, value, unit in served(kind, parsed):
            print(f"{kind:12}{figure:44}{value:10.2f} {unit}", flush=True)
            rows.append((kind, *setting, figure, value, unit))
    store(parsed, machine, "serve", COLUMNS, rows)


def served(kind: str, parsed: Namespace) -> Iterator[tuple[str, float, str]]:
    """Figures of a server of its own, each with its name and unit."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.carousel"
        network.save(model(kind), path)
        command = [sys.executable, "-m", "carousel", "serve", str(path), "--port", "0"]
        command += ["--max-sequences", str(parsed.streams + 10)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                yield from measure(server.stderr.readline().split()[0], server.pid, kind, parsed)
            finally:
                server.send_signal(signal.SIGTERM)


def model(kind: str) -> Any:
    rng = np.random.default_rng(0)
    if kind == "forecaster":
        return forecast_model(rng)[0]
    layers = []
    for inputs in (INPUTS, HIDDEN):
        shapes = ((4 * HIDDEN, inputs), (4 * HIDDEN, HIDDEN), (4 * HIDDEN,), (4 * HIDDEN,))
        layers.append(
            Recurrent("lstm", (Weights(*(rng.uniform(-0.2, 0.2, s).astype("f4") for s in shapes)),))
        )
    return Network((*layers, Dense(rng.normal(size=(1, HIDDEN)).astype("f4"))))


def measure(address: str, pid: int, kind: str, parsed: Namespace) -> Iterator[tuple[str, float, str]]:
    alone = np.array([request(address, kind, k) for k in range(200)][20:]) * 1e3
    late, memory, seconds = asyncio.run(soak(address, pid, kind, parsed))
    quarter = max(1, len(memory) // 4)
    yield "steps answered over WebSocket", len(late) / seconds, "a second"
    for share in (50, 99):
        yield f"a step over WebSocket, p{share}", float(np.percentile(late, share)) * 1e3, "ms"
    for share in (50, 99):
        yield f"a request of /infer alone, p{share}", float(np.percentile(alone, share)), "ms"
    yield "resident memory, first quarter of the soak", float(np.median(memory[:quarter])), "MB"
    yield "resident memory, last quarter", float(np.median(memory[-quarter:])), "MB"


def request(address: str, kind: str, number: int) -> float:
    """Seconds of one request over HTTP, its connection included."""
    start: dict[str, Any] = {"sequence_id": "alone", "sequence_start": number == 0}
    given = {"name": "x", "datatype": "FP32", "shape": [1, 1, INPUTS], "data": [0.5] * INPUTS}
    if kind == "forecaster":
        start["unique_id"] = "s0"
        given = {"name": "y", "datatype": "FP64", "shape": [1], "data": [100.0]}
    body = json.dumps({"inputs": [given], "parameters": start}).encode()
    begun = time.perf_counter()
    with urllib.request.urlopen(f"{address}/v2/models/model/infer", body) as response:
        response.read()
    return time.perf_counter() - begun


async def soak(
    address: str, pid: int, kind: str, parsed: Namespace
) -> tuple[list[float], list[float], float]:
    """Seconds of every step, megabytes every half second, and the seconds of all."""
    names = np.array_split(np.arange(parsed.streams), parsed.connections)
    url = address.replace("http", "ws") + "/v2/models/model/stream"
    begun = asyncio.Barrier(parsed.connections + 1)
    late: list[float] = []
    tasks = [asyncio.create_task(connection(url, some.tolist(), kind, parsed, begun, late)) for some in names]
    await begun.wait()
    start, memory = time.perf_counter(), []
    while not all(task.done() for task in tasks):
        memory.append(resident(pid))
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)
    return late, memory, time.perf_counter() - start


async def connection(
    url: str, names: list[int], kind: str, parsed: Namespace, begun: asyncio.Barrier, late: list[float]
) -> None:
    async with websockets.connect(url) as socket:
        for name in names:
            await socket.send(json.dumps(step(kind, name, begin=True)))
            answered(await socket.recv())
        await begun.wait()
        sent: dict[int, float] = {}
        place, until = 0, time.perf_counter() + parsed.soak
        while time.perf_counter() < until or sent:
            while len(sent) < min(parsed.pending, len(names)) and time.perf_counter() < until:
                name = names[place % len(names)]
                place += 1
                sent[name] = time.perf_counter()
                await socket.send(json.dumps(step(kind, name)))
            if sent:
                reply = answered(await socket.recv())
                late.append(time.perf_counter() - sent.pop(reply["id"]))


def step(kind: str, name: int, begin: bool = False) -> dict[str, Any]:
    message: dict[str, Any] = {"id": name, "sequence_id": f"stream {name}", "sequence_start": begin}
    if kind == "forecaster":
        return message | {"y": 100.0 + name % 7, "unique_id": f"s{name % 3}"}
    return message | {"x": [0.1, 0.2, 0.3, name % 7 / 10]}


def answered(text: str | bytes) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(text)
    assert "error" not in reply, reply
    return reply


def resident(pid: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
