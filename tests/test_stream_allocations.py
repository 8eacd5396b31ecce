"""A step in place allocates nothing: not Python, not NumPy, not the kernels."""

import os
import platform
import shutil
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from carousel import stream
from carousel.network import Dense, LastStep, Network, Recurrent, Weights

COUNTER = Path(__file__).with_name("allocation_counter.c")
STACKS = [("lstm", "lstm"), ("gru", "lstm"), ("rnn", "gru")]


def steps(method, cells, dtype, batch):
    """The method of a model with a head, and its arguments."""
    layers, I = [], 3
    for cell in cells:
        rows = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * 50
        weights = Weights(np.full((rows, I), 0.1, dtype), np.full((rows, 50), 0.01, dtype))
        layers.append(Recurrent(cell, (weights,)))
        I = 50
    model = stream.Model(
        Network((*layers, LastStep(), Dense(np.full((2, 50), 0.1, dtype), activation="tanh")))
    )
    out = (np.empty((batch, 2), dtype),) if method == "step_into" else ()
    return getattr(model, method), (np.ones((batch, 3), dtype), model.start(batch), *out)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("counting allocations needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("counter") / "counter.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, COUNTER], check=True)
    return library


def allocations(counter, method, cells, dtype, batch):
    """Allocations in 1000 calls, in a process where those of Python's objects are counted, too."""
    environment = {**os.environ, "LD_PRELOAD": str(counter), "PYTHONMALLOC": "malloc"}
    arguments = [method, ",".join(cells), dtype, str(batch)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cells", STACKS)
def test_nothing_is_allocated(counter, cells, dtype, batch):
    assert allocations(counter, "step_into", cells, dtype, batch) == 0


def test_the_counter_sees_what_there_is(counter):
    assert allocations(counter, "step", STACKS[0], "float32", 1) >= 1000


def main(method, cells, dtype, batch):
    import ctypes

    count = ctypes.CDLL(None).allocations
    call, arguments = steps(method, cells.split(","), dtype, int(batch))

    def calls(n):
        before = count()
        for _ in repeat(None, n):
            call(*arguments)
        return count() - before

    calls(10)  # the thread's scratch memory, which stays
    print(calls(1000) - calls(0))


if __name__ == "__main__":
    main(*sys.argv[1:])
