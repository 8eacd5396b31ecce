"""The kernels judged by the reference, through both doors of `_core`: addresses, and `Layer`.

Problems are strings (problems.py); kernels.py judges one and holds the tolerances. A failure names its
problem, and `python tests/kernels.py PROBLEM` repeats it.
"""

import itertools
import re
import signal
from dataclasses import replace

import numpy as np
import pytest

import kernels
from carousel import _core
from kernels import GRADIENTS, by_address, differences, judge, reference
from problems import CELLS, LAYOUTS, Problem

# T, B, I, H: nothing and one of everything, odd ones, H around the widths of the registers (4 8 16 floats).
SIZES = [
    (0, 3, 4, 5), (1, 1, 1, 1), (1, 3, 4, 5), (2, 0, 4, 5), (3, 3, 0, 5), (3, 3, 4, 0), (0, 0, 0, 0),
    (0, 3, 40, 5), (7, 3, 5, 2), (5, 3, 3, 3), (5, 4, 1, 4), (4, 5, 2, 7), (4, 7, 3, 8), (4, 3, 8, 9),
    (3, 6, 15, 15), (3, 3, 16, 16), (3, 13, 17, 17), (3, 3, 31, 31), (6, 5, 32, 32), (3, 4, 33, 33),
    (5, 25, 1, 50), (3, 3, 64, 64), (3, 3, 65, 65),
]  # fmt: skip
# Threads share the batch, or the units; several chunks of steps forward (I >= 16 B, weights beyond a core's cache) and
# backward (T·B > 256), whose gradients of sums are read as they lie, or from H = 132 on (LSTM, 256 rows) in tiles.
LARGE = [
    (150, 5, 3, 18), (40, 40, 40, 33), (3, 3, 16, 400), (2, 3, 33, 770), (300, 1, 2, 3), (1, 300, 2, 3),
    (300, 1, 300, 250), (3, 9, 300, 250),
]  # fmt: skip
OPTIONS = list(
    itertools.product((False, True), (True, False), (True, False), LAYOUTS)
)  # reverse, bias, state, layout


def problems():
    """Every size with options in turn, and at one size every mix of options; both dtypes."""
    turn = itertools.cycle(OPTIONS)
    for cell, dtype in itertools.product(CELLS, ("f32", "f64")):
        for sizes in SIZES + LARGE:
            yield Problem(cell, *sizes, *next(turn), dtype)
        for options in OPTIONS:
            yield Problem(cell, 5, 3, 4, 19, *options, dtype)


# Options, alone and together: sizes where threads share the batch, where they share the units, several chunks.
OPTIONED = {
    "lstm": ("ln", "ln,proj7", "proj7", "peep", "coupled", "zone", "zonemean", "gdrop", "hdrop", "clip0.5", "cclip0.7",
             "ragged", "proj7,peep,coupled,zone,gdrop,hdrop,clip0.5,cclip0.7,ragged",
             "proj7,peep,coupled,ln,zonemean,gdrop,hdrop,clip0.5,cclip0.7,ragged"),
    "gru": ("ln", "zone", "gdrop", "hdrop", "clip0.5", "ragged", "ln,zonemean,gdrop,hdrop,clip0.5,ragged"),
    "gru_reset_before": ("ln", "zone", "gdrop", "hdrop", "clip0.5", "ragged", "ln,zonemean,gdrop,hdrop,clip0.5,ragged"),
    "rnn_tanh": ("ln", "zone", "hdrop", "clip0.5", "ragged", "ln,zonemean,hdrop,clip0.5,ragged"),
    "rnn_relu": ("ln", "zone", "hdrop", "clip0.5", "ragged"),
}  # fmt: skip
PLACES = itertools.cycle(
    ("T5,B3,I4,H19", "T40,B40,I40,H33,rev", "T4,B3,I33,H400,batch", "T3,B7,I5,H16,rev,half")
)
PROBLEMS = (
    list(problems())
    + [
        # Normalised products pass errors on undamped: in float32 forty steps would say nothing.
        Problem.parse(
            f"{cell}:{next(PLACES)},{words},{dtype}".replace("T40", "T4" if "ln" in words else "T40")
        )
        for cell, each in OPTIONED.items()
        for words in each
        for dtype in ("f32", "f64")
        for _ in range(2)
    ]
    + [Problem.parse("lstm:T7,B40,I40,H150,proj70,f32"), Problem.parse("lstm:T7,B40,I40,H80,proj70,f32")]
)
STATES = ("h_0", "c_0", "dh_n", "dc_n")
several = pytest.mark.parametrize("cell", CELLS)
both = pytest.mark.parametrize("dtype", ["f32", "f64"])


def test_a_problem_is_its_string():
    assert len({str(problem) for problem in PROBLEMS}) == len(PROBLEMS)
    for problem in [*PROBLEMS, Problem("lstm", seed=3)]:
        assert Problem.parse(str(problem)) == problem
    assert str(Problem("gru", 7, 3, 5, 33, True, False)) == "gru:T7,B3,I5,H33,rev,nobias,f32"
    with pytest.raises(ValueError, match="'lstm:T7,peephole': unknown word 'peephole'"):
        Problem.parse("lstm:T7,peephole")
    with pytest.raises(ValueError, match="got 'mgu'"):
        Problem.parse("mgu:T7")


def test_data_are_a_function_of_the_problem():
    one, two = Problem("lstm").data(), Problem("lstm").data()
    assert all(np.array_equal(a, b) for a, b in zip(one.w, two.w, strict=True))
    assert not np.array_equal(one.x, Problem("lstm", seed=1).data().x)
    assert all((a != 0).all() for a in (one.x, one.h_0, one.c_0, *one.w, one.dy, one.dh_n, one.dc_n))


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_kernels_against_reference(problem):
    assert not judge(problem)


@pytest.mark.parametrize("isa", _core.isas())
def test_every_instruction_set(isa, python):
    done = python("kernels.py", "-", isa=isa, threads=2, text="\n".join(map(str, PROBLEMS)))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stdout.endswith(f"{len(PROBLEMS)} problems on {isa}, 0 differences\n")


def test_a_missing_instruction_set_is_an_error_that_lists_those_present(python):
    done = python("kernels.py", "lstm:T3", isa="mmx")
    names = " ".join(_core.isas())
    assert done.stderr.endswith(
        f"RuntimeError: CAROUSEL_ISA = mmx is not available here; choose one of: {names}\n"
    )
    assert (
        python("-c", "import carousel._core as c; print(c.isa(), *c.isas())", isa="").stdout.split()[1:]
        == _core.isas()
    )


BOUNDED = [
    Problem.parse(f"{cell}:T{T},B3,H19,{words},{dtype}")
    for cell, each in {
        "lstm": ("clip0.5", "ln,clip0.5", "peep,proj7,clip0.5", "coupled,clip0.5", "cclip0.5", "coupled,ln,cclip0.5"),
        "gru": ("clip0.5", "ln,clip0.5"),
        "gru_reset_before": ("clip0.5", "ln,clip0.5"),
        "rnn_tanh": ("clip0.5", "ln,clip0.5", "zone,clip0.5"),
        "rnn_relu": ("clip0.5", "ln,clip0.5"),
    }.items()
    for words in each
    for T in (1, 4)
    for dtype in ("f32", "f64")
]  # fmt: skip


@pytest.mark.parametrize("isa", _core.isas())
def test_no_gradient_passes_from_the_bound_of_a_clip_on(isa, python):
    done = python("kernels.py", "--bounds", "-", isa=isa, text="\n".join(map(str, BOUNDED)))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stdout == f"{len(BOUNDED)} problems on {isa}, 0 differences\n"


# Tails of every kind: H and I below, at and just above a register; rows left over from a tile.
GUARDED = [
    str(Problem(cell, 3, B, I, H, reverse, True, True, layout, dtype))
    for (B, I, H), (cell, dtype), (reverse, layout) in zip(
        itertools.product((1, 3, 7), (1, 3, 33), (1, 17, 50)),
        itertools.cycle(itertools.product(CELLS, ("f32", "f64"))),
        itertools.cycle(itertools.product((False, True), LAYOUTS)),
    )
] + [
    f"{cell}:T3,B3,I{I},H{H},{dtype}"
    for cell in CELLS
    for I, H in ((1, 1), (3, 17), (1, 50))
    for dtype in ("f32", "f64")
]


@pytest.mark.parametrize("isa", _core.isas())
def test_nothing_beyond_an_array_is_touched(isa, python):
    done = python("kernels.py", "--guard", "-", isa=isa, text="\n".join(GUARDED))
    assert done.returncode == 0, f"{done.returncode}, {done.stdout[-1000:]}{done.stderr}"


@pytest.mark.parametrize("behind", [True, False])
def test_a_guard_page_is_noticed(behind, python):
    look = "x.ctypes.data + x.nbytes" if behind else "x.ctypes.data - 1"
    done = python(
        "-c",
        "import ctypes, numpy as np, kernels\n"
        f"x = kernels.Guarded(behind={behind})((3, 5), np.dtype(np.float32))\n"
        f"x[...] = 1; print(x.sum(), flush=True); ctypes.string_at({look}, 1)",
    )
    assert (done.stdout, done.returncode) == ("15.0\n", -signal.SIGSEGV)


@several
@both
def test_each_gradient_alone(cell, dtype):
    problem = Problem(cell, 4, 3, 5, 18, dtype=dtype)
    data = problem.data()
    everything = by_address(problem, data)
    for name in GRADIENTS:
        alone = by_address(problem, data, wanted=[name])
        if name in everything:
            assert np.array_equal(alone[name], everything[name]), name


@several
def test_absent_gradients_of_the_output_are_zeros(cell):
    problem = Problem(cell, 4, 3, 5, 18, dtype="f64")
    data = problem.data()
    zeros = data._replace(
        dy=0 * data.dy, dh_n=0 * data.dh_n, dc_n=data.dc_n if data.dc_n is None else 0 * data.dc_n
    )
    right = by_address(problem, zeros)
    found = by_address(problem, zeros._replace(dy=None, dh_n=None, dc_n=None))
    assert all(np.array_equal(found[name], right[name]) for name in right)


@both
def test_equal_bits_on_numbers_without_rounding(dtype):
    """Small multiples of 1/4: nothing rounds, so that every order of summation gives the same bits."""
    problem = Problem("rnn_relu", 4, 7, 6, 37, dtype=dtype)
    data = problem.data()
    rng = np.random.default_rng(5)

    def quarters(array, share=1.0):
        drawn = rng.integers(-4, 5, array.shape) / 4 * (rng.random(array.shape) < share)
        return drawn.astype(array.dtype)

    w = data.w._replace(**{name: quarters(value, 0.15) for name, value in data.w._asdict().items()})
    data = data._replace(
        x=quarters(data.x), h_0=quarters(data.h_0), dy=quarters(data.dy), dh_n=quarters(data.dh_n), w=w
    )
    found = by_address(problem, data)
    right = reference(problem, data)
    for name, value in found.items():
        assert np.array_equal(value, right[name]), name
    assert np.abs(right["dR"]).max() > 1


@several
@both
def test_a_row_does_not_depend_on_the_others(cell, dtype):
    problem = Problem(cell, 4, 11, 5, 34, dtype=dtype)
    data = problem.data()
    together = by_address(problem, data)
    for row in (0, 4, 10):
        mine = slice(row, row + 1)
        alone = by_address(
            replace(problem, B=1),
            data._replace(
                x=data.x[:, mine], dy=data.dy[:, mine],
                **{name: v[mine] for name, v in data._asdict().items() if name in STATES and v is not None},
            ),
        )  # fmt: skip
        for name in ("y", "dx"):
            assert np.array_equal(alone[name], together[name][:, mine]), name
        for name in {"h_n", "c_n", "dh_0", "dc_0"} & set(together):
            assert np.array_equal(alone[name], together[name][mine]), name


@pytest.mark.parametrize(("cell", "place"), [*itertools.product(CELLS, ("x", "h_0")), ("lstm", "c_0")])
@both
def test_nan_stays_in_its_row(cell, dtype, place):
    problem = Problem(cell, 4, 7, 5, 18, dtype=dtype)
    data = problem.data()
    clean = by_address(problem, data)
    bad = getattr(data, place).copy()
    bad[(1, 2, 0) if place == "x" else (2, 0)] = np.nan
    found = by_address(problem, data._replace(**{place: bad}))
    others = np.arange(7) != 2
    assert np.array_equal(found["y"][:, others], clean["y"][:, others])
    assert np.array_equal(found["dx"][:, others], clean["dx"][:, others])
    assert np.isnan(found["h_n"][2]).all() or place == "c_0"
    assert np.isnan(found["h_n"][2]).any()
    if place == "x":
        assert np.array_equal(found["y"][0], clean["y"][0])
    for name in ("dW", "dR") if cell != "rnn_relu" else ("dR",):  # a NaN is not hidden from the optimiser
        assert np.isnan(found[name]).any(), name


@pytest.mark.parametrize("cell", CELLS[:-1])  # relu does not saturate
@both
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_saturated_gates(cell, dtype, size):
    """Sums far beyond the range of exp: gates are 0 or 1, gradients finite and those of the reference."""
    problem = Problem(cell, 3, 5, 4, 18, dtype=dtype)
    data = problem.data()
    data = data._replace(x=(data.x * size).astype(data.x.dtype))
    found = by_address(problem, data)
    assert all(np.isfinite(value).all() for value in found.values())
    with np.errstate(over="ignore"):
        right = reference(problem, data)
    if size == 1e2:  # some sums still lie where sigmoid bends, and carry the rounding of x's size
        return
    found, right = ({n: v for n, v in r.items() if n != "dW"} for r in (found, right))  # dW is of x's size
    assert not differences(problem, found, right)


@several
@both
def test_infinite_inputs(cell, dtype):
    problem = Problem(cell, 1, 3, 4, 18, dtype=dtype)
    data = problem.data()
    x = data.x.copy()
    x[0, 1, 2] = np.inf
    found = by_address(problem, data._replace(x=x))["y"]
    with np.errstate(invalid="ignore"):
        right = reference(problem, data._replace(x=x))["y"]
    assert np.array_equal(np.isnan(found), np.isnan(right))
    if cell != "rnn_relu":
        assert np.nanmax(np.abs(found - right)) < kernels.tolerance(problem)["y"]


@several
def test_state_may_be_updated_in_place(cell):
    problem = Problem(cell, 5, 3, 4, 18)
    data = problem.data()
    right = by_address(problem, data)
    layer = _core.Layer(cell, *data.w)
    h = data.h_0.copy()
    c = data.c_0.copy() if problem.has_cells else None
    y = np.empty((1, 3, 18), np.float32)
    for t in range(problem.T):  # step by step, as a stream does
        layer.run(data.x[t : t + 1], h, c, y, h, c)
        assert np.array_equal(y[0], right["y"][t])
    assert np.array_equal(h, right["h_n"])
    assert c is None or np.array_equal(c, right["c_n"])


@both
def test_layer_refuses_what_does_not_fit(dtype):
    problem = Problem("lstm", 5, 3, 4, 18, dtype=dtype)
    x, h, c, w, y, *_ = problem.data()
    layer = _core.Layer("lstm", *w)

    def refused(text, x=x, h=h, c=c, y=y):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            layer.run(x, h, c, y, h.copy(), None if c is None else c.copy())

    other = "float64" if dtype == "f32" else "float32"
    mine = "float32" if dtype == "f32" else "float64"
    refused(f"`x` must be {mine}, as W, got another dtype.", x=x.astype(other))
    refused("`x` must have shape (T, B, 4), got (3, 4).", x=x[0])
    refused("`x` must have shape (5, 3, 4), got (5, 3, 3).", x=x[..., :3])
    refused("`x` must be contiguous in memory, got strides; use a copy.", x=np.asfortranarray(x))
    refused("`h_0` must have shape (3, 18), got (2, 18).", h=h[:2])
    refused("`y` must have shape (5, 3, 18), got (5, 3, 17).", y=y[..., :17])
    refused("`c_0` and `c_n` must be arrays for an LSTM, got None.", c=None)
    with pytest.raises(ValueError, match=r"`cell` must be lstm, gru, .* got mgu"):
        _core.Layer("mgu", *w)
    with pytest.raises(ValueError, match=r"`W` must have shape \(68, 4\), got \(72, 4\)"):
        _core.Layer("lstm", w.W, np.ascontiguousarray(w.R[:, :17]), w.b_W, w.b_R)
    gru = _core.Layer("gru", *Problem("gru", 5, 3, 4, 18, dtype=dtype).data().w)
    with pytest.raises(ValueError, match="must be None"):
        gru.run(x, h, c, y, h.copy(), c.copy())
    frozen = y.copy()
    frozen.flags.writeable = False
    with pytest.raises(TypeError):
        layer.run(x, h, c, frozen, h.copy(), c.copy())


def test_sizes_that_cannot_be_are_refused():
    layer = _core.Layers(0, 0, 1, 1)
    with pytest.raises(ValueError, match="negative"):
        layer.reserve_bytes(-1, 1)
    with pytest.raises(ValueError, match="2\\^52"):
        layer.reserve_bytes(2**40, 2**20)
    for cell, dtype in ((6, 0), (-1, 0), (0, 2)):
        with pytest.raises(ValueError, match="unknown cell or dtype"):
            _core.Layers(cell, dtype, 1, 1)
    for refused in ({"clip": -1.0}, {"clip": float("nan")}, {"zoneout_h": 1.5}, {"cell_clip": float("nan")}):
        with pytest.raises(ValueError, match="does not offer"):
            _core.Layers(0, 0, 1, 1, **refused)
    for refused in ({"projected": 3}, {"cell_clip": 1.0}, {"zoneout_c": 0.1}):
        with pytest.raises(ValueError, match="does not offer"):
            _core.Layers(1, 0, 1, 1, **refused)
    none = (0, 0, 0)
    with pytest.raises(ValueError, match="missing"):
        layer.forward(1, 1, none, 0, 0, [0] * 4, [], none, 0, 0, 0)
    some, rnn = np.zeros(1, np.float32).ctypes.data, _core.Layers(3, 0, 1, 1)
    one = (some, 1, 1)
    with pytest.raises(ValueError, match="does not offer"):  # gradients of gates that an RNN does not leave
        rnn.backward(
            1, 1, one, 0, 0, [some] * 2, [], one, 0, dy=one, dh_n=0, dc_n=0, dblock=some, dx=none, dh_0=0, dc_0=0,
            dweights=[some] * 2,
        )  # fmt: skip
    with pytest.raises(ValueError, match="number of addresses"):
        layer.forward(1, 1, none, 0, 0, [0] * 11, [], none, 0, 0, 0)


@both
def test_what_a_forward_pass_leaves(dtype):
    """Bytes: gates, cells, and what options add to them. Of a clip nothing; of an RNN nothing that y does not hold."""
    T, B, H, item = 10, 4, 32, 4 if dtype == "f32" else 8

    def left(cell, **options):
        return _core.Layers(cell, int(dtype == "f64"), 16, H, **options).reserve_bytes(T, B)

    row = T * B * H * item
    assert [left(cell) for cell in range(6)] == [5 * row, 4 * row, 4 * row, 0, 0, 4 * row]
    for cell in range(6):
        assert left(cell, clip=1.0) == left(cell)
        assert left(cell, zoneout_h=0.5) == max(left(cell), row)
        assert left(cell, normalized=True) >= left(cell) + 2 * row
    assert left(0, cell_clip=1.0) == left(0)


def test_a_wrong_result_is_noticed():
    """The judge can fail: a gate swapped, a term dropped or a sequence turned round are told apart."""
    problem = Problem("lstm", 5, 3, 4, 18)
    data = problem.data()
    right = reference(problem, data)

    def wrong(**changed):
        return reference(problem, data._replace(**changed))

    i, f, g, o = np.split(data.w.b_W, 4)
    swapped = data.w._replace(b_W=np.concatenate([f, i, g, o]))
    for other in (wrong(w=swapped), wrong(c_0=None), wrong(x=data.x[::-1]), wrong(dh_n=0 * data.dh_n)):
        assert differences(problem, other, right)
    assert differences(problem, {"y": np.where(right["y"] > 0, right["y"], np.nan)}, right)
    assert not differences(problem, right, right)
