"""The layers where programs are rough: threads and forks, NaN and denormals, huge arrays, and many shapes."""

import ctypes
import mmap
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kernels
from carousel import _core, network, stream
from kernels import by_address, differences, judge, reference
from problems import CELLS, Problem

torch = pytest.importorskip("torch")
nn = pytest.importorskip("carousel.nn")

OF_ROWS = ("y", "h_n", "c_n", "dx", "dh_0", "dc_0")
linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")


@pytest.fixture
def threads():
    """Sets the number of threads; it is put back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def drawn(count, seed, **changed):
    """Random problems of any options, at least two steps of three rows."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        problem = Problem.drawn(rng)
        sizes = {
            name: max(getattr(problem, name), least) for name, least in zip("TBIH", (2, 3, 1, 1), strict=True)
        }
        yield replace(problem, **{**sizes, **changed})


def of_rows(results, rows):
    """Results of some rows of the batch, those that are of rows."""
    return {
        name: results[name][:, rows] if results[name].ndim == 3 else results[name][rows]
        for name in OF_ROWS
        if name in results
    }


def same(found, right):
    return [name for name in right if not np.array_equal(found[name], right[name], equal_nan=True)]


# ---- NaN, infinity, denormal numbers ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["x", "h_0", "c_0", "dy", "dh_n", "dc_n"])
def test_what_is_not_finite_stays_in_its_row(place, value):
    """The other rows keep every bit; in its own row NaN comes out where the reference has it."""
    tried = spread = 0
    for problem in drawn(24, [*place.encode(), 1]):
        data = problem.data()
        given = getattr(data, place)
        if given is None:
            continue
        lengths = np.full(problem.B, problem.T) if data.lengths is None else data.lengths
        row = int(np.argmax(lengths))
        bad = given.copy()
        bad[(int(lengths[row]) - 1, row, -1) if given.ndim == 3 else (row, 0)] = value
        changed = data._replace(**{place: bad})
        clean, found = by_address(problem, data), by_address(problem, changed)
        others = np.arange(problem.B) != row
        assert not same(of_rows(found, others), of_rows(clean, others)), problem
        spread += bool(same(of_rows(found, row), of_rows(clean, row)))
        if (
            np.isnan(value) and not place.startswith("d") and not problem.zone
        ):  # there NaN that is not kept is dropped
            with np.errstate(all="ignore"):
                right = reference(problem, changed)
            for name in ("y", "h_n", "c_n"):
                if name in right:
                    assert np.array_equal(np.isnan(found[name]), np.isnan(right[name])), f"{problem}: {name}"
        tried += 1
    assert tried > 4
    assert spread > tried / 2  # where a bound is reached no gradient passes


def test_what_lies_beyond_a_row_is_not_read():
    for problem in drawn(24, 2, ragged=True):
        data = problem.data()
        beyond = np.arange(problem.T)[:, None] >= data.lengths
        x, dy = data.x.copy(), data.dy.copy()
        x[beyond], dy[beyond] = np.nan, np.nan
        found = by_address(problem, data._replace(x=x, dy=dy))
        assert not same(found, by_address(problem, data)), problem
        assert not found["y"][beyond].any()
        assert not found["dx"][beyond].any()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_gradients_of_saturated_gates_are_finite(size):
    """Sums far beyond the range of exp, with every option; dW is of the size of x and not compared."""
    for problem in drawn(40, 3, ln=False):
        if problem.cell == "rnn_relu":  # which does not saturate
            continue
        data = problem.data()
        data = data._replace(x=(data.x * size).astype(data.x.dtype))
        found = by_address(problem, data)
        assert all(np.isfinite(value).all() for value in found.values()), problem
        if size == 1e30:  # at 1e4 some sums still lie where sigmoid bends, and carry the rounding of x's size
            with np.errstate(over="ignore"):
                right = reference(problem, data)
            assert not differences(problem, {n: v for n, v in found.items() if n != "dW"}, right)


@pytest.fixture
def flushed():
    """Denormal numbers become zero in this thread; afterwards no more."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush denormals")
    yield
    torch.set_flush_denormal(False)


def flushes():
    return float(torch.tensor([1e-40]) * 1) == 0


def denormal_problem():
    """h = W x of whole numbers W and denormal x: nothing rounds."""
    problem = Problem("rnn_relu", 3, 7, 5, 37, bias=False, state=False)
    data = problem.data()
    rng = np.random.default_rng(4)
    x = (rng.integers(1, 1000, data.x.shape) * 2.0**-149).astype(np.float32)
    whole = data.w._replace(
        W=rng.integers(-9, 9, data.w.W.shape).astype(np.float32), R=np.zeros_like(data.w.R)
    )
    return problem, data._replace(x=x, w=whole), np.maximum(x.astype(np.float64) @ whole.W.T.astype(float), 0)


def test_denormal_numbers_are_numbers():
    problem, data, right = denormal_problem()
    assert 0 < right.max() < np.finfo(np.float32).smallest_normal
    assert np.array_equal(by_address(problem, data)["y"], right)


def test_a_mode_that_flushes_denormals_is_left_alone(flushed):
    assert flushes()
    problem, data, right = denormal_problem()
    y = by_address(problem, data)["y"]
    assert ((y == 0) | (y == right)).all()
    for other in drawn(20, 5, ln=False):
        assert not judge(other)
    with torch.no_grad():
        nn.LSTM(3, 70)(torch.randn(20, 40, 3))
    assert flushes()


def test_no_mode_is_set():
    assert not flushes()
    for problem in drawn(10, 6):
        by_address(problem, problem.data())
    assert not flushes()


# ---- threads and processes ----


def modules():
    """Torch modules with options, and a stream of the same sizes."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    weights = network.Weights(rng.normal(size=(280, 9)) / 3, rng.normal(size=(280, 70)) / 9)
    model = stream.Model(network.Network((network.Recurrent("lstm", (weights,)),)))
    return [
        nn.LSTM(9, 70, num_layers=2, bidirectional=True),
        nn.LSTM(9, 70, proj_size=20, peephole=True, clip=1.0),
        nn.GRU(9, 70, zoneout=0.2, recompute=True).eval(),
        nn.RNN(9, 70, bidirectional=True),
    ], model


def calls():
    """Functions that call one module or stream each, inference, training, ragged, step by step, and what they give."""
    layers, model = modules()
    x = torch.randn(12, 40, 9)
    lengths = torch.arange(40) % 13

    def infer(layer):
        with torch.no_grad():
            return layer(x, lengths=lengths)[0].numpy()

    def train(layer):
        y, _ = layer(x)
        return np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(y.sum(), layer.parameters())])

    def step(_):
        state = model.start(40)
        for t in range(12):
            y, state = model.step(x[t].double().numpy(), state)
        return y

    return [(f, layer) for layer in layers for f in (infer, train)] + [(step, None)]


def test_one_module_and_one_stream_serve_several_python_threads(threads):
    threads(2)
    every = calls()
    right = [f(layer) for f, layer in every]
    turns = np.random.default_rng(0).permutation(np.repeat(np.arange(len(every)), 4))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: every[k][0](every[k][1]), turns))
    assert all(np.array_equal(y, right[k]) for k, y in zip(turns, found, strict=True))


def test_beside_another_user_of_openmp(threads):
    """torch multiplies in one Python thread while another calls the kernels: the same runtime, two teams."""
    threads(2)
    every = calls()
    right = [f(layer) for f, layer in every]
    done = threading.Event()
    products = 0

    def multiply():
        nonlocal products
        a = torch.randn(300, 300)
        while not done.is_set():
            torch.mm(a, a)
            products += 1

    other = threading.Thread(target=multiply)
    other.start()
    try:
        for _ in range(3):
            assert all(np.array_equal(f(layer), y) for (f, layer), y in zip(every, right, strict=True))
    finally:
        done.set()
        other.join()
    assert products > 0


def test_one_thread_gives_the_same(threads):
    threads(2)
    right = [f(layer) for f, layer in calls()]
    threads(1)
    assert _core.max_threads() == 1
    assert all(np.array_equal(f(layer), y) for (f, layer), y in zip(calls(), right, strict=True))


@pytest.mark.parametrize("training", [False, True])
def test_other_python_threads_go_on_during_a_call(training, threads):
    threads(1)
    layer, x = nn.LSTM(64, 256), torch.randn(150, 32, 64)
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    with torch.set_grad_enabled(training):
        y = layer(x)[0]
        ticker = threading.Thread(target=tick)
        ticker.start()
        begin = time.perf_counter()
        y.sum().backward() if training else layer(x)
        end = time.perf_counter()
    done.set()
    ticker.join()
    during = [tick for tick in ticks if begin < tick < end]
    # Were the interpreter held there would be none but at the edges.
    assert len([tick for tick in during if begin + (end - begin) / 4 < tick < end - (end - begin) / 4]) > 3


WORKERS = """
import os, sys
import torch
from torch.utils.data import DataLoader, Dataset
from carousel import _core, nn

torch.set_num_threads(2)
torch.manual_seed(0)
layer = nn.LSTM(9, 70).requires_grad_(False)
inputs = torch.randn(6, 20, 40, 9)
right = [layer(x)[0] for x in inputs]  # the parent's threads are up
assert _core.max_threads() == 2

class Encoded(Dataset):
    def __len__(self):
        return len(inputs)
    def __getitem__(self, k):
        torch.set_num_threads(2)  # a worker that asks for threads does not get them either
        return layer(inputs[k])[0], _core.max_threads(), os.getpid()

pids = set()
for k, (y, threads, pid) in enumerate(DataLoader(Encoded(), batch_size=None, num_workers=2, timeout=30,
                                                 multiprocessing_context="fork")):
    assert torch.equal(y, right[k]) and threads == 1, (k, threads)
    pids.add(pid)
assert len(pids) == 2 and os.getpid() not in pids
assert all(torch.equal(layer(x)[0], y) for x, y in zip(inputs, right))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_workers_of_a_data_loader_call_a_layer(python):
    done = python("-W", "ignore", "-c", WORKERS, timeout=100)
    assert done.returncode == 0, done.stderr


# ---- more elements than 32 bits can count ----

NORESERVE = 0x4000  # MAP_NORESERVE of Linux: address space without a claim on memory
_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + 3 * (ctypes.c_int,) + (ctypes.c_long,)
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


class Space:
    """Address space that takes memory only where it is written, between two pieces of the size that fault."""

    def __init__(self, size):
        self.size = size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
        self.base = _mmap(None, 3 * size, 0, private, -1, 0)
        if self.base == ctypes.c_void_p(-1).value:
            pytest.skip(f"no address space of {3 * size >> 30} GiB here")
        self.start = self.base + size
        assert _mmap(self.start, size, READ_WRITE, private | 0x10, -1, 0) == self.start  # MAP_FIXED

    def __enter__(self):
        return self

    def __exit__(self, *_):
        kernels._libc.munmap(self.base, 3 * self.size)

    def array(self, offset, count):
        """float32 from a byte offset on."""
        return np.frombuffer((ctypes.c_char * (4 * count)).from_address(self.start + offset), np.float32)

    def fold(self, window, end):
        """The windows of [0, end) become one and the same memory."""
        file = os.memfd_create("window")
        os.ftruncate(file, window)
        for at in range(0, end, window):
            where = self.start + at
            assert _mmap(where, window, READ_WRITE, mmap.MAP_SHARED | 0x10, file, 0) == where
        os.close(file)


@linux
def test_more_than_2_31_elements(threads):
    """h = relu(h / 2 + 1/2) = 1 at each of T B H > 2^31 places: all but the last of them share one window of memory.

    With dy = 1 the gradient of h, and of x, is 2 - 2^-k, k steps from the end; nothing rounds but that.
    """
    threads(2)
    B, I, H, steps = 1024, 1, 16, 1024  # steps of a window
    T = 2**31 // (B * H) + steps
    assert T * B * H > 2**31
    W, R, b = np.eye(H, I, dtype=np.float32), np.eye(H, dtype=np.float32) / 2, np.full(H, 0.5, np.float32)
    x, dy, h_0, h_n, dh_0 = (np.full(shape, value, np.float32) for shape, value in
                             ((I, 0), (H, 1), ((B, H), 1), ((B, H), 0), ((B, H), 0)))  # fmt: skip
    layer, address = _core.Layers(CELLS.index("rnn_relu"), 0, I, H), kernels.address
    with (
        Space(4 * T * B * H) as y,
        Space(4 * T * B * I) as dx,
        Space(layer.block_bytes(T, B, T * B)) as block,
    ):
        for space, features in ((y, H), (dx, I)):
            space.fold(4 * steps * B * features, 4 * (T - steps) * B * features)
        read = (
            T, B, (address(x), 0, 0), address(h_0), 0, [*map(address, (W, R, b, None))], [], (y.start, B * H, H),
        )  # fmt: skip
        layer.forward(*read, address(h_n), 0, block.start)
        layer.backward(
            *read, block.start, (address(dy), 0, 0), 0, 0, 0, (dx.start, B * I, I), address(dh_0), 0, [0, 0],
        )  # fmt: skip
        last = 4 * (T - steps) * B
        assert (y.array(last * H, steps * B * H) == 1).all()
        assert (h_n == 1).all()
        gradient = (2 - 2.0 ** -np.arange(steps)[::-1]).astype(np.float32)
        assert np.array_equal(dx.array(last * I, steps * B).reshape(steps, B), np.tile(gradient[:, None], B))
        assert (dx.array(0, steps * B) == 2).all()
        assert (dh_0 == 1).all()


@linux
@pytest.mark.parametrize("axis", [0, 1])
def test_strides_beyond_2_31_elements(axis, monkeypatch):
    """Steps, or rows, more than 2^31 elements apart; pages that nobody writes take no memory."""
    spaces = []

    def far(problem, features, half, allocate):
        step = 2**31 + 64
        strides = (4 * step, 4 * (features + 1), 4) if axis == 0 else (4 * (features + 1), 4 * step, 4)
        shape = (problem.T, problem.B, features)
        spaces.append(Space(4 * (step * (shape[axis] - 1) + 64 * 1024)))
        view = np.lib.stride_tricks.as_strided(spaces[-1].array(0, 1), shape, strides)
        view[...] = np.nan
        return view, view

    monkeypatch.setattr(kernels, "sequence", far)
    for cell in CELLS:
        for words in ("", ",rev,ragged,hdrop,zonemean"):
            problem = Problem.parse(f"{cell}:T3,B3,I4,H19{words}")
            data = problem.data()
            found = by_address(problem, data)
            assert not differences(problem, found, reference(problem, data, found["y"].astype(np.float64)))
            for space in spaces:
                space.__exit__()
            spaces.clear()


def test_sizes_that_nobody_has_are_refused():
    layer = _core.Layers(0, 0, 1, 1)
    for T, B in ((2**40, 2**12), (2**52, 1), (1, 2**62)):
        with pytest.raises(ValueError, match="2\\^52 elements"):
            layer.block_bytes(T, B, T * B)
        with pytest.raises(ValueError, match="2\\^52 elements"):
            layer.forward(T, B, (0, 0, 0), 0, 0, [0] * 4, [], (0, 0, 0), 0, 0, 0)
    x = torch.zeros(1, 1, 1).expand(2**40, 2**12, 1)
    with pytest.raises(ValueError, match="2\\^52 elements"):
        nn.LSTM(1, 1)(x)
    with pytest.raises(RuntimeError, match="allocate"), torch.no_grad():
        nn.LSTM(1, 1)(x)
    _, model = modules()
    with pytest.raises((MemoryError, ValueError)):
        model.run(np.broadcast_to(np.zeros(9), (2**40, 2**12, 9)))


# ---- memory ----

SHAPES = """
import sys
import numpy as np, torch
from carousel import network, nn, stream

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

torch.set_num_threads(1)
rng = np.random.default_rng(0)
lstm, gru = nn.LSTM(2, 4, num_layers=2), nn.GRU(2, 4, bidirectional=True)
weights = network.Weights(rng.normal(size=(16, 2)), rng.normal(size=(16, 4)))
model = stream.Model(network.Network((network.Recurrent("lstm", (weights,)), network.Dense(np.ones((1, 4))))))
def call(T, B):
    x = torch.randn(T, B, 2)
    for layer in (lstm, gru):
        layer(x)[0].sum().backward()
        with torch.no_grad():
            layer(x)
    model.run(x.double().numpy())

shapes = [(T, B) for T in range(1, 1401) for B in range(1, 1400 // T + 1)]
for k in rng.permutation(len(shapes))[:300]:
    call(*shapes[k])
before = resident()
for k in rng.permutation(len(shapes)):
    call(*shapes[k])
print(len(shapes), resident() - before)
"""


@linux
def test_memory_stays_flat_over_ten_thousand_shapes(python):
    """A cache by shape, as torch.nn.LSTM has one, would take a gigabyte."""
    done = python("-c", SHAPES, timeout=300)
    assert done.returncode == 0, done.stderr
    count, grown = done.stdout.split()
    assert int(count) > 10_000
    assert float(grown) < 5, "MB more"
