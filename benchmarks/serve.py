"""How many steps a second does `carousel serve` answer, how late are they, and does its memory stay flat?

    python benchmarks/serve.py [--streams 5000] [--connections 16] [--seconds 20] [--model network|forecaster]

On loopback, server and client on the same cores. Every sequence is begun and stepped once; then each connection keeps
`--pending` steps of different sequences under way over its WebSocket for so many seconds. Printed are the streams
held, the steps answered a second, the time from a step sent to its answer, and the resident memory of the server at
the first and at the last quarter of the soak. One more line is for single requests of `/infer`, one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import websockets

from carousel import network
from carousel.network import Dense, Network, Recurrent, Weights

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # random forecasters are made there
from forecast_models import forecast_model

INPUTS, HIDDEN = 4, 50


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--pending", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", choices=("network", "forecaster"), default="network")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.carousel"
        network.save(model(options.model), path)
        command = [sys.executable, "-m", "carousel", "serve", str(path), "--port", "0"]
        command += ["--max-sequences", str(options.streams + 10)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                address = server.stderr.readline().split()[0]
                measure(address, server.pid, options)
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


def measure(address: str, pid: int, options: argparse.Namespace) -> None:
    alone = [request(address, options.model, k) for k in range(200)]
    late, memory, seconds = asyncio.run(soak(address, pid, options))
    quarter = max(1, len(memory) // 4)
    first, last = (float(np.median(part)) for part in (memory[:quarter], memory[-quarter:]))
    p50, p99 = np.percentile(late, [50, 99]) * 1e3
    print(
        f"{options.model}: {options.streams} streams held, {len(late) / seconds:.0f} steps/s over {seconds:.0f} s"
    )
    print(
        f"  over WebSocket, {options.connections} x {options.pending} at once: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    a50, a99 = np.percentile(alone[20:], [50, 99]) * 1e3
    print(f"  a request of /infer alone: p50 {a50:.2f} ms, p99 {a99:.2f} ms")
    print(f"  resident memory of the server: {first:.1f} MB in the first quarter, {last:.1f} MB in the last")


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


async def soak(address: str, pid: int, options: argparse.Namespace) -> tuple[list[float], list[float], float]:
    """Seconds of every step, megabytes every half second, and the seconds of all."""
    names = np.array_split(np.arange(options.streams), options.connections)
    url = address.replace("http", "ws") + "/v2/models/model/stream"
    begun = asyncio.Barrier(options.connections + 1)
    late: list[float] = []
    tasks = [asyncio.create_task(connection(url, some.tolist(), options, begun, late)) for some in names]
    await begun.wait()
    start, memory = time.perf_counter(), []
    while not all(task.done() for task in tasks):
        memory.append(resident(pid))
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)
    return late, memory, time.perf_counter() - start


async def connection(
    url: str, names: list[int], options: argparse.Namespace, begun: asyncio.Barrier, late: list[float]
) -> None:
    async with websockets.connect(url) as socket:
        for name in names:
            await socket.send(json.dumps(step(options.model, name, begin=True)))
            answered(await socket.recv())
        await begun.wait()
        sent: dict[int, float] = {}
        place, until = 0, time.perf_counter() + options.seconds
        while time.perf_counter() < until or sent:
            while len(sent) < min(options.pending, len(names)) and time.perf_counter() < until:
                name = names[place % len(names)]
                place += 1
                sent[name] = time.perf_counter()
                await socket.send(json.dumps(step(options.model, name)))
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
