"""The kernels judged by the reference: one problem, its forward pass and all gradients.

    python tests/kernels.py PROBLEM ...           judges each, prints what differs, exits 1 if anything does
    python tests/kernels.py --guard PROBLEM ...   arrays end at, then begin behind, a page that faults
    python tests/kernels.py --bounds PROBLEM ...  sums and cells just inside, at and just beyond the bounds of clips
    ... -                                         problems from standard input, one a line

The strings are those of problems.py. CAROUSEL_ISA picks the instruction set, OMP_NUM_THREADS the threads.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from carousel import _core
from carousel.reference import Options, Weights, gru, lstm, rnn
from carousel.reference.stack import turn
from problems import CELLS, DTYPES, ZONEOUT, Data, Problem

REFERENCE = {
    "lstm": (lstm, {}),
    "gru": (gru, {}),
    "gru_reset_before": (gru, {"reset": "before"}),
    "rnn_tanh": (rnn, {}),
    "rnn_relu": (rnn, {"activation": "relu"}),
}
COUPLED = 5  # CAROUSEL_LSTM_COUPLED of csrc/carousel.h
GRADIENTS = ("dx", "dh_0", "dc_0", "dW", "dR", "db_W", "db_R")

Results = dict[str, np.ndarray]
Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


def tolerance(problem: Problem) -> dict[str, float]:
    """Largest difference from the reference, relative to the array's largest element, at least to 1.

    A sum of n terms of size n**-0.5 wanders by ε/2 at every addition, √n ε/2 in all; an activation adds a few
    ULP and the equations of the step a few more roundings: one step costs `step`. R shrinks, but cells
    remember, so that errors of all T steps may add up, forward and again backward. The weights' gradients are
    sums over T·B more terms. The factor 4 is for the largest of 10^5 such sums, about four standard
    deviations out.
    """
    eps = float(np.finfo(DTYPES[problem.dtype]).eps)
    T = max(problem.T, 1)
    step = 8 + 0.5 * (problem.I + problem.H + 2) ** 0.5
    if problem.ln:  # divides by a deviation, which of a few sums may by chance be a small part of their size
        step *= 8 if problem.H >= 8 else 200
    forward = 4 * eps * T * step
    backward = forward + 4 * eps * T * (step + 0.5 * (problem.gates * problem.H) ** 0.5)
    weights = backward + 4 * eps * 0.5 * (T * problem.B) ** 0.5
    return {
        **dict.fromkeys(("y", "h_n", "c_n"), forward),
        **dict.fromkeys(("dx", "dh_0", "dc_0"), backward),
        **dict.fromkeys(("dW", "dR", "db_W", "db_R", "dprojection", "dpeephole"), weights),
        **dict.fromkeys(("dgain_x", "dgain_h", "dgain_c", "dshift_c"), weights),
    }


def reference(problem: Problem, data: Data, y: np.ndarray | None = None) -> Results:
    """The results in float64.

    At the kink of relu rounding decides on which side a sum falls, and either derivative is right: with the
    kernel's `y` its sides are taken.
    """
    module, words = REFERENCE[problem.cell]
    x, h_0, c_0, w, dy, dh_n, dc_n = (float64(value) for value in data[:7])
    x, dy = (turn(a, data.lengths) if problem.reverse else a for a in (x, dy))
    state = (h_0, c_0) if problem.has_cells else h_0
    out, last, cache = module.forward(
        x, w, state, options=float64(data.options), lengths=data.lengths, **words
    )
    if problem.cell == "rnn_relu" and y is not None and not (problem.zone or problem.zonemean):
        seen = turn(y, data.lengths) if problem.reverse else y
        # A sum that is not positive there has no slope here: beyond a bound of 0 nothing passes.
        cache = cache._replace(a=np.where(seen > 0, np.maximum(cache.a, 1e-300), np.minimum(cache.a, 0)),
                               h_new=np.where(seen > 0, np.maximum(cache.h_new, 1e-300), 0))  # fmt: skip
    found = module.backward(dy, w, cache, (dh_n, dc_n) if problem.has_cells else dh_n)
    h_n, c_n = last if problem.has_cells else (last, None)
    dh_0, dc_0 = found.state if problem.has_cells else (found.state, None)
    out, dx = (turn(a, data.lengths) if problem.reverse else a for a in (out, found.x))
    named = dict(y=out, h_n=h_n, c_n=c_n, dx=dx, dh_0=dh_0, dc_0=dc_0)
    named |= {f"d{name}": value for name, value in found.w._asdict().items()}
    named |= {f"d{name}": value for name, value in parameters(found.options).items()}
    return {name: value for name, value in named.items() if value is not None}


def float64(value: object) -> object:
    """Arrays in float64, also within named tuples; anything else as it is."""
    if isinstance(value, tuple):
        return type(value)(*map(float64, value))
    return value.astype(np.float64) if isinstance(value, np.ndarray) else value


def parameters(options: Options) -> dict[str, np.ndarray | None]:
    """What of the options is learned, by the names of csrc/carousel.h."""
    gain_x, gain_h, gain_c, shift_c = (options.layer_norm or (None,) * 5)[:4]
    return dict(
        projection=options.projection, peephole=options.peephole,
        gain_x=gain_x, gain_h=gain_h, gain_c=gain_c, shift_c=shift_c,
    )  # fmt: skip


def at_a_bound(problem: Problem) -> bool:
    """Whether a sum or a cell lies so near to the bound of a clip that rounding decides if a gradient passes."""
    if not (problem.clip or problem.cclip):
        return False
    data = problem.data()
    module, words = REFERENCE[problem.cell]
    x, h_0, c_0, w = (float64(value) for value in data[:4])
    x = turn(x, data.lengths) if problem.reverse else x
    state = (h_0, c_0) if problem.has_cells else h_0
    cache = module.forward(x, w, state, options=float64(data.options), lengths=data.lengths, **words)[2]
    near = 1e-5 if problem.dtype == "f32" else 1e-13
    bounded = [(cache.a, problem.clip)] + ([(cache.k, problem.cclip)] if problem.has_cells else [])
    return any(bound and (np.abs(np.abs(a) - bound) < near).any() for a, bound in bounded)


def plain(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Memory that says so where nothing was written to it."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 255, dtype)


def sequence(
    problem: Problem, features: int, half: bool, allocate: Allocate
) -> tuple[np.ndarray, np.ndarray]:
    """(T, B, features) in the problem's layout, and the whole array that it lies in."""
    T, B, dtype = problem.T, problem.B, np.dtype(DTYPES[problem.dtype])
    if problem.layout == "batch":
        whole = allocate((B, T, features), dtype)
        return whole.transpose(1, 0, 2), whole
    if problem.layout == "half":
        whole = allocate((T, B, 2 * features if half else features + 3), dtype)
        return whole[..., -features:] if features else whole[..., :0], whole
    whole = allocate((T, B, features), dtype)
    return whole, whole


def address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


def strided(array: np.ndarray | None) -> tuple[int, int, int]:
    """Where a sequence begins, and elements from step to step and from row to row."""
    if array is None:
        return 0, 0, 0
    return address(array), array.strides[0] // array.itemsize, array.strides[1] // array.itemsize


def layers(problem: Problem) -> _core.Layers:
    """The compiled layer of a problem."""
    p = problem
    zoneout = ZONEOUT if p.zone or p.zonemean else dict.fromkeys("hc", 0.0)
    cell = COUPLED if p.coupled else CELLS.index(p.cell)
    return _core.Layers(
        cell, list(DTYPES).index(p.dtype), p.I, p.H, projected=p.proj, normalized=p.ln, clip=p.clip,
        cell_clip=p.cclip, zoneout_h=zoneout["h"], zoneout_c=zoneout["c"] if p.has_cells else 0.0,
        reverse=p.reverse,
    )  # fmt: skip


def by_address(
    problem: Problem, data: Data, *, wanted: Collection[str] | None = None, allocate: Allocate = plain
) -> Results:
    """`_core.Layers` on arrays laid out as the problem says.

    Asserts on the way that nothing was written but the results, and that training and inference agree.
    """
    p, dtype = problem, np.dtype(DTYPES[problem.dtype])
    kernel = layers(p)
    wholes: list[tuple[np.ndarray, np.ndarray]] = []

    def placed(value: np.ndarray | None) -> np.ndarray | None:
        if value is None:
            return None
        array = allocate(value.shape, value.dtype)
        array[...] = value
        return array

    def read(value: np.ndarray, half: bool) -> np.ndarray:
        view, whole = sequence(p, value.shape[2], half, allocate)
        view[...] = value
        wholes.append((whole, whole.copy()))
        return view

    x = read(data.x, False)
    dy = None if data.dy is None else read(data.dy, True)
    weights = {"W": data.w.W, "R": data.w.R, "b_W": data.w.b_W, "b_R": data.w.b_R, **parameters(data.options)}
    if not p.bias:
        weights |= {"b_W": None, "b_R": None}
    weights = {name: placed(value) for name, value in weights.items()}
    masks = [placed(mask) for mask in (data.options.candidate_mask, data.options.state_mask)]
    h_0, c_0, dh_n, dc_n, lengths = (
        placed(value) for value in (data.h_0, data.c_0, data.dh_n, data.dc_n, data.lengths)
    )
    inputs = (h_0, c_0, dh_n, dc_n, lengths, *weights.values(), *masks)
    wholes += [(array, array.copy()) for array in inputs if array is not None]
    y, y_whole = sequence(p, p.P, True, allocate)
    h_n = allocate((p.B, p.P), dtype)
    c_n = allocate((p.B, p.H), dtype) if p.has_cells else None
    block = aligned(kernel.block_bytes(p.T, p.B, p.T * p.B), allocate)
    read_by_both = (
        p.T, p.B, strided(x), address(h_0), address(c_0), [*map(address, weights.values())],
        [*map(address, masks)], strided(y),
    )  # fmt: skip
    drawn = {"lengths": address(lengths), "key": p.seed, "drawn": p.zone}

    def forward(block: int) -> None:
        kernel.forward(*read_by_both, address(h_n), address(c_n), block, **drawn)

    forward(0)
    inference = [array.copy() for array in (y, h_n, c_n) if array is not None]
    forward(address(block))
    training = [array for array in (y, h_n, c_n) if array is not None]
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(inference, training, strict=True)), (
        f"{p}: inference"
    )
    wholes += [(whole, whole.copy()) for whole in (y_whole, block)]

    def is_wanted(name: str) -> bool:
        return wanted is None or name in wanted

    dx, dx_whole = sequence(p, p.I, False, allocate) if is_wanted("dx") else (None, None)
    G = p.gates * p.H
    shapes = {"dW": (G, p.I), "dR": (G, p.P), "db_W": (G,), "db_R": (G,)}
    shapes |= {f"d{name}": v.shape for name, v in parameters(data.options).items() if v is not None}
    shapes |= {"dh_0": (p.B, p.P)} | ({"dc_0": (p.B, p.H)} if p.has_cells else {})
    found = {name: allocate(shape, dtype) for name, shape in shapes.items() if is_wanted(name)}
    for _ in range(2):  # twice: what the forward pass left must still be there
        kernel.backward(
            *read_by_both, address(block), strided(dy), address(dh_n), address(dc_n), 0, strided(dx),
            address(found.get("dh_0")), address(found.get("dc_0")),
            [address(found.get(f"d{name}")) for name in weights], **drawn,
        )  # fmt: skip
    for now, before in wholes:
        assert now.tobytes() == before.tobytes(), f"{p}: an input was written to"
    for view, whole in ((y, y_whole), (dx, dx_whole)):
        if view is not None and whole is not None:
            written = np.copy(view)
            view[...] = np.nan
            assert np.isnan(whole).all(), f"{p}: written beside the output"
            view[...] = written
    if dx is not None:
        found["dx"] = dx
    return {"y": y, "h_n": h_n, **({} if c_n is None else {"c_n": c_n}), **found}


def by_layer(problem: Problem, data: Data) -> Results:
    """`_core.Layer` on the same numbers: forward only, states complete, y strided."""
    p, dtype = problem, np.dtype(DTYPES[problem.dtype])
    layer = _core.Layer(p.cell, *data.w, reverse=p.reverse)
    zeros = np.zeros((p.B, p.H), dtype)
    h_0 = zeros if data.h_0 is None else data.h_0
    c_0 = (zeros if data.c_0 is None else data.c_0) if p.has_cells else None
    y, _ = sequence(p, p.H, True, plain)
    h_n, c_n = plain((p.B, p.H), dtype), plain((p.B, p.H), dtype) if p.has_cells else None
    layer.run(data.x, h_0, c_0, y, h_n, c_n)
    return {"y": y, "h_n": h_n, **({} if c_n is None else {"c_n": c_n})}


def aligned(size: int, allocate: Allocate) -> np.ndarray:
    """Bytes that begin at a multiple of 64 and, so that a guard is near, end where the block ends."""
    size = -(-size // 64) * 64
    block = allocate((size + 64,), np.dtype(np.uint8))
    return block[-address(block) % 64 :][:size]


def differences(problem: Problem, found: Results, right: Results) -> list[str]:
    """One line for each array that is further from the reference than its tolerance."""
    allowed = tolerance(problem)
    lines = []
    for name, value in found.items():
        expected = right[name]
        assert value.shape == expected.shape, f"{problem}: {name} is {value.shape}, not {expected.shape}"
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        error = np.abs(value - expected) / scale
        if not (error <= allowed[name]).all():  # so that NaN differs
            where = tuple(
                int(k) for k in np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
            )
            lines.append(
                f"{problem}: {name}{list(where)} = {value[where]:.9g}, must be {expected[where]:.9g}; "
                f"off by {error[where]:.2e}, allowed {allowed[name]:.2e} [{_core.isa()}]"
            )
    return lines


def judge(problem: Problem, allocate: Allocate = plain) -> list[str]:
    """What is wrong with the kernels on this problem: nothing, or lines that say it."""
    while at_a_bound(problem):
        problem = replace(problem, seed=problem.seed + 1)
    data = problem.data()
    found = by_address(problem, data, allocate=allocate)
    right = reference(problem, data, np.asarray(found["y"], np.float64))
    lines = differences(problem, found, right)
    if problem.is_plain:
        lines += [
            f"{problem}: {name} of Layer has other bits"
            for name, value in by_layer(problem, data).items()
            if not np.array_equal(value, found[name])
        ]
    return lines


def near_bounds(problem: Problem, factor: float) -> Data:
    """Data in which every sum is `factor` times ±clip, or else the first cell that times ±cclip, to the bit.

    Only biases, or only the first cell, make them; a clip must be a power of two, which float32 has exactly.
    """
    data, G = problem.data(), problem.gates * problem.H
    signs = np.where(np.arange(G) % 3 == 0, -1, 1).astype(data.x.dtype)
    norm, peephole = data.options.layer_norm, data.options.peephole
    if norm is not None:
        norm = norm._replace(gain_x=0 * norm.gain_x, gain_h=0 * norm.gain_h)
    w = Weights(*(0 * value for value in data.w))._replace(b_W=factor * problem.clip * signs)
    options = data.options._replace(layer_norm=norm, peephole=None if peephole is None else 0 * peephole)
    c_0 = data.c_0  # halved by f = σ(0), and i ∘ g = 0
    if problem.cclip:
        c_0 = np.tile(2 * factor * problem.cclip * signs[: problem.H], (problem.B, 1))
    return data._replace(w=w, c_0=c_0, options=options)


def judge_bounds(problem: Problem) -> list[str]:
    """What is wrong about the bounds of a clip, from which on no gradient passes."""
    lines = []
    for factor in (1 - 2**-6, 1.0, 1 + 2**-6):
        data = near_bounds(problem, factor)
        found = by_address(problem, data)
        lines += [
            f"{factor} times the bound: {line}"
            for line in differences(problem, found, reference(problem, data, found["y"].astype(np.float64)))
        ]
        stopped = [found["db_W"]] if problem.clip else [found["dc_0"]] if problem.T == 1 else []
        if factor >= 1 and any(gradient.any() for gradient in stopped):
            lines.append(f"{problem}: a gradient passes {factor} times the bound [{_core.isa()}]")
    return lines


# ---- guard pages ----

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Guarded:
    """Allocates arrays with a page that faults right behind the last element, or right before the first."""

    def __init__(self, *, behind: bool) -> None:
        self.behind = behind
        self.mapped: list[tuple[int, int]] = []

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        page = mmap.PAGESIZE
        room = -(-max(size, 1) // page) * page
        length = room + 2 * page
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        assert base not in (None, ctypes.c_void_p(-1).value), "mmap failed"
        assert _libc.mprotect(base, page, 0) == 0
        assert _libc.mprotect(base + page + room, page, 0) == 0
        self.mapped.append((base, length))
        start = base + page + (room - size if self.behind else 0)
        array = np.frombuffer((ctypes.c_char * size).from_address(start), dtype).reshape(shape)
        array[...] = np.nan if np.issubdtype(dtype, np.floating) else 255
        return array

    def release(self) -> None:
        for base, length in self.mapped:
            _libc.munmap(base, length)
        self.mapped.clear()


def judge_guarded(problem: Problem) -> list[str]:
    """`judge` on guarded memory; touching a guard ends the process with SIGSEGV."""
    lines = []
    for behind in (True, False):
        memory = Guarded(behind=behind)
        lines += judge(problem, memory)
        memory.release()
    return lines


def main(arguments: list[str]) -> int:
    guard = "--guard" in arguments
    judged = judge_bounds if "--bounds" in arguments else judge_guarded if guard else judge
    texts = [text for text in arguments if not text.startswith("--")]
    if texts == ["-"]:
        texts = sys.stdin.read().split()
    if not texts:
        print(__doc__)
        return 2
    wrong = 0
    for text in texts:
        problem = Problem.parse(text)
        if guard:
            print(problem, flush=True)  # the last one printed is the one that faulted
        for line in judged(problem):
            wrong += 1
            print(line)
    print(f"{len(texts)} problems on {_core.isa()}, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
