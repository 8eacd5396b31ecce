"""Threads change nothing but the time, and processes may fork.

OpenMP's runtime, which the kernels share with torch, learns from torch.set_num_threads how many there are.
"""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carousel import _core
from kernels import by_address, by_layer
from problems import CELLS, Problem

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
CSRC = sorted((ROOT / "csrc").rglob("*.*"))

# T, B, I, H with work for eight threads: by the batch; by hidden units, for few rows and for many of them; and a row
# alone, whose short steps are worth three.
SHARED = [(24, 37, 9, 50), (9, 3, 16, 401), (1, 17, 40, 770), (300, 1, 3, 100)]


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


def mixes(sizes, count, seed):
    """Problems of these sizes with any options."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield replace(Problem.drawn(rng), ln=False, **dict(zip("TBIH", sizes, strict=True)))


# By the batch; by units, of few rows, and of wide layers. Backward in several chunks of steps.
@pytest.mark.parametrize("sizes", [(16, 40, 9, 140), (3, 3, 40, 400), (2, 6, 5, 800)], ids=str)
def test_same_bits_for_any_number_of_threads_and_any_options(sizes, threads):
    for problem in mixes(sizes, 10, 1):
        data = problem.data()
        threads(1)
        right = by_address(problem, data)
        for count in range(2, 9):
            threads(count)
            assert not same(by_address(problem, data), right), f"{problem} with {count} threads"


OF_ROWS = ("h_0", "c_0", "dh_n", "dc_n", "lengths", "candidate_mask", "state_mask")
OF_STEPS = ("x", "dy", "zoneout_h", "zoneout_c")


def rows_of(values, rows):
    """A named tuple with only these rows of the batch."""
    few = {name: getattr(values, name)[rows] for name in OF_ROWS if getattr(values, name, None) is not None}
    few |= {
        name: getattr(values, name)[:, rows] for name in OF_STEPS if getattr(values, name, None) is not None
    }
    return values._replace(**few)


@pytest.mark.parametrize("sizes", [(12, 41, 9, 140), (3, 5, 40, 400), (7, 23, 5, 33)], ids=str)
def test_a_row_with_any_options_does_not_depend_on_the_others(sizes, threads):
    """Some rows by themselves, on one thread, have the bits that they have among all, on several."""
    B = sizes[1]
    for problem in mixes(sizes, 12, 2):
        data = problem.data()
        threads(3)
        together = by_address(problem, data)
        # What is drawn in the kernel depends on the row's number: then it is the first rows.
        rows = slice(0, 2) if problem.zone else slice(1, None, B // 2)
        few = replace(problem, B=len(range(B)[rows]))
        threads(1)
        alone = by_address(few, rows_of(data, rows)._replace(options=rows_of(data.options, rows)))
        for name in {"h_n", "c_n", "dh_0", "dc_0"} & set(together):
            assert np.array_equal(alone[name], together[name][rows]), f"{problem}: {name}"
        for name in ("y", "dx"):
            assert np.array_equal(alone[name], together[name][:, rows]), f"{problem}: {name}"


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


REFUSED = """
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <pthread.h>

#include "team.h"

static int left;  // threads that the system still gives

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* how, void* (*start)(void*), void* argument) {
  if (left-- <= 0) return EAGAIN;
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(thread, how, start, argument);
}

int main(int, char** arguments) {
  left = std::atoi(arguments[1]);
  int seen[4] = {};
  carousel_team_run(4, [](const Team* team, void* seen) {
    static_cast<int*>(seen)[team->member] = team->size;
    team->barrier();
  }, seen);
  std::printf("%d %d %d %d", seen[0], seen[1], seen[2], seen[3]);
}
"""


def test_where_the_system_refuses_threads_fewer_do_the_work(tmp_path):
    """In a build without OpenMP, whose teams are made anew in each call: no exception leaves it, and nobody waits."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    source, program = tmp_path / "refused.cpp", tmp_path / "refused"
    source.write_text(REFUSED, encoding="utf-8")
    flags, team = ["-std=c++20", f"-I{ROOT / 'csrc'}", "-pthread"], ROOT / "csrc/team_std.cpp"
    subprocess.run([compiler, *flags, source, team, "-o", program, "-ldl"], check=True)
    for given, sizes in ((3, "4 4 4 4"), (2, "3 3 3 0"), (1, "2 2 0 0"), (0, "1 0 0 0")):
        done = subprocess.run([program, str(given)], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, sizes), done.stderr


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
