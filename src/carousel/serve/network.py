"""A network that is served: whole sequences, or the next steps of a sequence that the server remembers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from carousel.errors import CarouselError, UnsupportedError
from carousel.serve.limits import Limits
from carousel.serve.protocol import MESSAGE, InferRequest, RequestError, Sequence, check_keys
from carousel.serve.sequences import Sequences
from carousel.stream.network import NetworkModel, State

__all__ = ["NetworkJob", "ServedNetwork"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class NetworkJob:
    """Steps of one sequence, or sequences that stand alone where `sequence` is None.

    Args:
        x: (T, B, I), or (T, B) ids; B is 1 for a sequence.
    """

    x: Array
    sequence: Sequence | None


class ServedNetwork:
    """Input `x` and output `y`, the batch in front: (B, T, I) -> (B, T, O), or (B, O) of a network that gives its last.

    Of a sequence B is 1 and a network that gives its last gives it after every request.
    """

    platform = "carousel_network"

    def __init__(self, model: NetworkModel, limits: Limits) -> None:
        self.model, self._limits = model, limits
        self.sequences: Sequences[State] = Sequences(limits)
        self._dtype = np.dtype(np.int64) if model.network.takes_ids else model.network.dtype

    def metadata(self) -> dict[str, Any]:
        """`inputs` and `outputs` of the protocol."""
        network = self.model.network
        datatype = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
        sizes = [] if network.takes_ids else [network.input_size]
        steps = [-1] if network.per_step else []
        return {
            "inputs": [{"name": "x", "datatype": datatype[str(self._dtype)], "shape": [-1, -1, *sizes]}],
            "outputs": [
                {
                    "name": "y",
                    "datatype": datatype[str(network.dtype)],
                    "shape": [-1, *steps, network.output_size],
                }
            ],
        }

    def job(self, request: InferRequest) -> NetworkJob:
        """What the request asks for.

        Raises:
            RequestError: it does not fit the network.
        """
        if [*request.inputs] != ["x"]:
            raise RequestError(f"`inputs` must be one tensor named 'x', got {list(request.inputs)}.")
        return self._job(request.inputs["x"], request.sequence)

    def message(self, tree: Mapping[str, Any], sequence: Sequence) -> NetworkJob:
        """One step: `x` is a list of features, or an id.

        Raises:
            RequestError: it is something else.
        """
        check_keys("a message", tree, ("x", *MESSAGE))
        x = tree.get("x")
        if self.model.network.takes_ids:
            if type(x) is not int or not 0 <= x < self.model.network.input_size:
                raise RequestError(f"`x` must be an id from 0 to {self.model.network.input_size - 1}.")
            return self._job(np.array([[x]]), sequence)
        if not isinstance(x, list) or not all(type(value) in (int, float) for value in x):
            raise RequestError("`x` must be a list of numbers, the features of one step.")
        try:
            row = np.array(x, np.float64)
        except OverflowError:
            raise RequestError("`x` holds a number that does not fit.") from None
        return self._job(row[None, None], sequence)

    def _job(self, x: Array, sequence: Sequence | None) -> NetworkJob:
        network = self.model.network
        axes = "(B, T)" if network.takes_ids else f"(B, T, I) with I = {network.input_size}"
        if x.ndim != (2 if network.takes_ids else 3) or (
            not network.takes_ids and x.shape[2] != network.input_size
        ):
            raise RequestError(f"`x` must have shape {axes}, got {list(x.shape)}.")
        B, T = x.shape[:2]
        if x.dtype.kind not in ("iu" if network.takes_ids else "fiu"):
            raise RequestError(f"`x` must be {'whole numbers' if network.takes_ids else 'numbers'}.")
        if not np.isfinite(x.astype(np.float64)).all():
            raise RequestError("`x` must be finite.")
        if self._limits.steps < T or (T == 0 and not network.per_step):
            raise RequestError(f"`x` must have 1 to {self._limits.steps} steps, got {T}.")
        if sequence is not None and B != 1:
            raise RequestError(f"`x` of a sequence must have B = 1, got {B}.")
        if network.takes_ids and x.size and not 0 <= x.min() <= x.max() < network.input_size:
            raise RequestError(f"`x` must be ids from 0 to {network.input_size - 1}.")
        with np.errstate(over="ignore"):
            cast = x.swapaxes(0, 1).astype(self._dtype)
        if not np.isfinite(cast.astype(np.float64)).all():
            raise RequestError(f"`x` holds a number that does not fit {self._dtype}.")
        if sequence is not None and network.bidirectional:
            raise RequestError(
                "this network reads backwards: it takes whole sequences, without `sequence_id`."
            )
        return NetworkJob(np.ascontiguousarray(cast), sequence)

    def run(self, jobs: list[NetworkJob]) -> list[Any]:
        """The outputs of each job by name, or its error; jobs of as many steps share a call of the kernels.

        No sequence has stepped before all calls are made.
        """
        results: list[Any] = [None] * len(jobs)
        together: dict[int, list[tuple[int, State]]] = defaultdict(list)
        for k, job in enumerate(jobs):
            try:
                if job.sequence is None:
                    results[k] = self._batch_first(self.model.run(job.x))
                else:
                    state = self._state(job.sequence)
                    together[len(job.x)].append((k, state))
            except CarouselError as error:
                results[k] = _answerable(error)
        stepped: list[tuple[Sequence, State]] = []
        for some in together.values():
            places = [k for k, _ in some]
            y, state = self.model.advance(
                np.concatenate([jobs[k].x for k in places], 1), State.join([s for _, s in some])
            )
            for b, k in enumerate(places):
                sequence = jobs[k].sequence
                assert sequence is not None
                stepped.append((sequence, state[b : b + 1].copy()))
                results[k] = self._batch_first(
                    y[:, b : b + 1] if self.model.network.per_step else y[b : b + 1]
                )
        for sequence, after in stepped:
            if sequence.end:
                self.sequences.drop(sequence.id)
            else:
                self.sequences.put(sequence.id, after)
        return results

    def outputs(self, y: Array) -> dict[str, Array]:
        """A result by the names of `metadata`."""
        return {"y": y}

    def reply(self, y: Array) -> dict[str, Any]:
        """The result of one step, for a message."""
        return {"y": [value if np.isfinite(value) else None for value in y.reshape(-1).tolist()]}

    def remark(self, job: NetworkJob) -> dict[str, str]:
        """What the client should know about a job: nothing."""
        return {}

    def _state(self, sequence: Sequence) -> State:
        if not sequence.start:
            return self.sequences.get(sequence.id)
        state = self.model.start()
        if not sequence.end:
            self.sequences.begin(sequence.id, state)
        return state

    def _batch_first(self, y: Array) -> Array:
        return y.swapaxes(0, 1) if self.model.network.per_step else y


def _answerable(error: CarouselError) -> RequestError:
    """An error of ours as one of the request."""
    if isinstance(error, RequestError):
        return error
    return RequestError(str(error), 501 if isinstance(error, UnsupportedError) else 400)
