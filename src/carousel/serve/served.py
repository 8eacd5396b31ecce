"""A model that is served: its file, its sequences, the batches of its steps, and where the states are kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from errno import EACCES, EISDIR, ENOENT, ENOTDIR
from hashlib import sha256
from pathlib import Path
from typing import Any

from carousel import network
from carousel.errors import FormatError
from carousel.network import atomic
from carousel.serve.batching import Batcher
from carousel.serve.forecaster import ServedForecaster
from carousel.serve.limits import Limits
from carousel.serve.metrics import Metrics
from carousel.serve.network import ServedNetwork
from carousel.serve.protocol import InferRequest, RequestError, Sequence, tensor
from carousel.stream import NetworkModel, load
from carousel.stream.checkpoint import Checkpoint

__all__ = ["VERSION", "Served"]

VERSION = "1"
"""Of every model: a file is served as it was when the server started."""


class Served:
    """One model under a name.

    Args:
        name: in addresses.
        path: of the model file.
        limits: of its clients.
        metrics: of the server.
        directory: of the states of sequences; None keeps none.

    Raises:
        FormatError: the file is no model, or the states are of another one.
        OSError: the system could not read, or cannot write to `directory`.
    """

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str],
        limits: Limits,
        metrics: Metrics,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name, self._metrics = name, metrics
        model = load(path)
        self.what: Any = (
            ServedNetwork(model, limits)
            if isinstance(model, NetworkModel)
            else ServedForecaster(model, limits)
        )
        self._fingerprint = sha256(Path(path).read_bytes()).hexdigest()
        self._kept = None if directory is None else Path(directory) / f"{name}.state"
        self._open = False
        if self._kept is not None:
            _check_writable(self._kept)
        self._batcher: Batcher[Any] = Batcher(self._run, limits.batch, limits.waiting)
        self._resume()

    def metadata(self) -> dict[str, Any]:
        """What the protocol says of a model."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.what.platform,
            **self.what.metadata(),
        }

    async def infer(self, request: InferRequest) -> dict[str, Any]:
        """The response to a request of the protocol."""
        job = self.what.job(request)
        there = tuple(output["name"] for output in self.what.metadata()["outputs"])
        wanted = there if request.outputs is None else request.outputs
        for name in wanted:  # before it runs: what is refused steps no sequence
            if name not in there:
                raise RequestError(f"`outputs` must be of {', '.join(there)}, got {name[:60]!r}.")
        outputs = self.what.outputs(await self._submit(job))
        response: dict[str, Any] = {"model_name": self.name, "model_version": VERSION}
        if request.id is not None:
            response["id"] = request.id
        beside = {} if request.sequence is None else {"sequence_id": request.parameters["sequence_id"]}
        beside |= self.what.remark(job)
        if beside:
            response["parameters"] = beside
        return response | {"outputs": [tensor(name, outputs[name]) for name in wanted]}

    async def step(self, tree: Mapping[str, Any], sequence: Sequence) -> dict[str, Any]:
        """The reply to a message of a WebSocket."""
        job = self.what.message(tree, sequence)
        reply: dict[str, Any] = self.what.reply(await self._submit(job))
        reply |= self.what.remark(job)
        return reply

    def open(self) -> None:
        """Sequences go on from here: their file goes, for after a crash it would take them back to the last start."""
        self._open = True
        if self._kept is not None:
            atomic.remove(self._kept)

    async def close(self) -> None:
        """Finishes what waits, and saves the states."""
        await self._batcher.close()
        self.save()

    def save(self) -> None:
        """Saves the states if they are not yet; what waits, and no event loop runs any more, is left."""
        self._batcher.stop()
        if self._kept is None or not self._open:
            return
        self._open = False
        states = self.what.sequences.states()
        network.save(Checkpoint(self._fingerprint, tuple(states), Checkpoint.joined(states)), self._kept)

    async def _submit(self, job: Any) -> Any:
        key = None if job.sequence is None else job.sequence.id
        return await self._batcher.submit(job, key)

    def _run(self, jobs: list[Any]) -> list[Any]:
        start = time.perf_counter()
        results: list[Any] = self.what.run(jobs)
        self._metrics.ran(self.name, len(jobs), time.perf_counter() - start)
        return results

    def _resume(self) -> None:
        if self._kept is None or not self._kept.exists():
            return
        kept = network.load(self._kept)
        if not isinstance(kept, Checkpoint) or kept.model != self._fingerprint:
            raise FormatError(
                f"{self._kept} holds no states of this model; move it away, or serve the model of old."
            )
        for name, state in kept.states().items():
            self.what.sequences.put(name, state)


def _check_writable(path: Path) -> None:
    """An OSError now, and not when the server stops, if there can be no file at `path`."""
    folder = path.parent
    for wrong, number, where in (
        (path.is_dir(), EISDIR, path),
        (not folder.exists(), ENOENT, folder),
        (not folder.is_dir(), ENOTDIR, folder),
        (not os.access(folder, os.W_OK | os.X_OK), EACCES, folder),
    ):
        if wrong:
            raise OSError(number, os.strerror(number), str(where))
