"""Threads change nothing but the time, and processes may fork; memory stays where it is.

OpenMP's runtime, which the kernels share with torch, learns from torch.set_num_threads how many there are.
"""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from carousel import _core
from kernels import by_address, by_layer
from problems import CELLS, Problem

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
CSRC = sorted((ROOT / "csrc").rglob("*.*"))

# T, B, I, H with work for eight threads: by the batch; by hidden units, for few rows and for many of them.
SHARED = [(24, 37, 9, 50), (9, 3, 16, 401), (1, 17, 40, 770)]


@pytest.fixture
def threads():
    """Sets the number of threads; it is put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def same(found, right):
    return [name for name in right if not np.array_equal(found[name], right[name])]


def test_torch_and_the_kernels_share_one_runtime(threads, python):
    for count in (3, 1, 2):
        threads(count)
        assert _core.max_threads() == count
    for first, second in (("torch", "carousel._core"), ("carousel._core", "torch")):
        program = (
            f"import {first}, {second}; import torch; from carousel import _core\n"
            "torch.set_num_threads(3); assert _core.max_threads() == 3, _core.max_threads()"
        )
        done = python("-c", program)
        assert done.returncode == 0, f"{first} imported first: {done.stderr}"
    assert python("-c", "from carousel import _core; print(_core.max_threads())", threads=5).stdout == "5\n"


@pytest.mark.parametrize("sizes", SHARED, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_for_any_number_of_threads(cell, sizes, threads):
    for dtype in ("f32", "f64"):
        problem = Problem(cell, *sizes, dtype=dtype, reverse=True)
        data = problem.data()
        threads(1)
        right = by_address(problem, data)
        for count in (2, 3, 5, 8):
            threads(count)
            assert not same(by_address(problem, data), right), f"{problem} with {count} threads"
            assert not same(by_layer(problem, data), {name: right[name] for name in ("y", "h_n")}), count


def test_same_bits_every_time(threads):
    threads(2)
    problem = Problem("lstm", *SHARED[0])
    data = problem.data()
    right = by_address(problem, data)
    for _ in range(30):
        assert not same(by_address(problem, data), right)


def test_python_threads_do_not_disturb_each_other(threads):
    threads(2)
    problems = [
        Problem(cell, *sizes, dtype=d) for cell in CELLS for sizes in SHARED[:2] for d in ("f32", "f64")
    ]
    right = [by_address(problem, problem.data()) for problem in problems]

    def again(k):
        return same(by_address(problems[k], problems[k].data()), right[k])

    with ThreadPoolExecutor(4) as pool:
        turns = [k for k in range(len(problems)) for _ in range(2)]
        assert list(pool.map(again, turns)) == [[]] * len(turns)


def test_one_layer_serves_several_python_threads():
    problem = Problem("gru", 50, 4, 5, 33)
    data = problem.data()
    layer = _core.Layer("gru", *data.w)
    right = by_layer(problem, data)

    def run(_):
        y, h = np.empty_like(data.dy), np.empty_like(data.h_0)
        layer.run(data.x, data.h_0, None, y, h, None)
        return np.array_equal(y, right["y"]) and np.array_equal(h, right["h_n"])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(40)))


FORK = """
import os, signal, sys
import numpy as np, torch
from carousel import _core
from kernels import by_address
from problems import Problem

torch.set_num_threads(2)
problem = Problem.parse(sys.argv[1])
data = problem.data()
right = by_address(problem, data)  # the parent's threads are up
torch.randn(500, 500) @ torch.randn(500, 500)
child = os.fork()
if child == 0:
    signal.alarm(30)  # a child that hangs is killed
    found = by_address(problem, data)
    os._exit(0 if all(np.array_equal(found[n], right[n]) for n in right) and _core.max_threads() == 1 else 1)
status = os.waitpid(child, 0)[1]
found = by_address(problem, data)  # and the parent goes on
sys.exit(status or not all(np.array_equal(found[n], right[n]) for n in right))
"""


@pytest.mark.parametrize("sizes", SHARED[:2], ids=str)
def test_a_forked_child_finishes(sizes, python):
    done = python("-W", "ignore", "-c", FORK, Problem("lstm", *sizes), timeout=60)
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"


MEMORY = """
import numpy as np, torch
from carousel import nn

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

torch.set_num_threads(1)
rng = np.random.default_rng(0)
module = nn.LSTM(4, 16, num_layers=2)
shapes = [(T, B) for T in range(1, 41) for B in range(1, 31)]

def passes(shapes):
    for T, B in shapes:
        module(torch.zeros(T, B, 4))[0].sum().backward()
        with torch.no_grad():
            module(torch.zeros(T, B, 4))

passes([(41, 31)] * 20)  # allocators are warm, larger than all that follows
before = resident()
passes([shapes[k] for k in rng.permutation(len(shapes))[:1000]])
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory_stays_flat_over_a_thousand_shapes(python):
    done = python("-c", MEMORY)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 8, (
        "MiB more after 1000 shapes"
    )  # a cache of torch.nn.LSTM's kind takes over 100


def test_sums_have_one_order():
    """No OpenMP reduction and no float atomic anywhere: their order depends on who comes first."""
    forbidden = re.compile(r"omp\b[^\n]*\breduction|omp atomic|atomic(_ref)?<\s*(float|double|T)\b")
    sources = [path for path in CSRC if path.suffix in (".h", ".cpp")]
    assert len(sources) > 10
    assert not [path.name for path in sources if forbidden.search(path.read_text(encoding="utf-8"))]
    for bad in (
        "#pragma omp parallel for reduction(+ : sum)",
        "#pragma omp atomic",
        "std::atomic<double> sum;",
    ):
        assert forbidden.search(bad)
    assert not forbidden.search("std::atomic<int> arrived;")


def test_files_for_an_instruction_set_share_no_symbol():
    """A weak symbol is kept once by the linker, perhaps in its AVX-512 copy: there must be none."""
    nm = shutil.which("nm")
    objects = [path for path in sorted((ROOT / "build").rglob("csrc/isa/*.o")) if "sanitize" not in str(path)]
    newest = {path.name: path for path in sorted(objects, key=lambda path: path.stat().st_mtime)}
    if nm is None or not objects:
        pytest.skip("no nm" if nm is None else "no object files under build/")
    for path in newest.values():
        listing = subprocess.run(
            [nm, "--defined-only", str(path)], capture_output=True, text=True, check=True
        )
        symbols = [line.split()[-2:] for line in listing.stdout.splitlines()]
        assert not [name for kind, name in symbols if kind in "VvWwu"], path
        public = {name for kind, name in symbols if kind.isupper()}
        assert public == {f"carousel_{path.name.partition('.')[0]}"}, path
