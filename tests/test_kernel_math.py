"""exp, sigmoid and tanh of the kernels keep the contract of csrc/kernels/math.h, on every instruction set.

float32 is judged by NumPy in float64, float64 by NumPy in 80-bit longdouble: 29 and 11 more bits, so that the
judge's own rounding is below a thousandth of an ULP.

    python tests/test_kernel_math.py            measures: the largest error of each function and where it is
    python tests/test_kernel_math.py --every    each of the 2^32 values of float32; exits 1 beyond the contract
"""

import sys

import numpy as np
import pytest

from carousel import _core

# Units in the last place of the exact result, where that is a normal number.
ULP = {"exp": 2, "sigmoid": 3, "tanh": 3, "scaled_sigmoid": 3, "scaled_tanh": 3}
FUNCTIONS = tuple(ULP)
DTYPES = (np.float32, np.float64)
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
LONG = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
CHUNK = 2**14  # values at a time: their temporary arrays stay in the cache
needs_long = pytest.mark.skipif(not LONG, reason="longdouble is double here, nothing judges float64")
dtypes = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=needs_long)])

# Where implementations break: around 0, the edges of ln 2 / 2, of the exponent's range, and of the clamps.
HARD = [
    0.0, 1e-300, 1e-45, 1e-38, 1e-20, 2.0**-13, 2.0**-12, 0.0616, 0.06219003, 0.17328679, 0.34657359,
    0.34657362, 0.549, 0.69314718, 1.0, 1.0397207, 5.0, 8.3, 9.0, 9.01, 9.5, 10.0, 17.0, 18.7, 19.06,
    20.0, 36.7, 37.0, 44.0, 64.0, 86.99, 87.0, 87.3, 87.33654, 87.33655, 87.4, 88.0, 88.02969, 88.37,
    88.72283, 88.72284, 88.8, 89.0, 89.1, 100.0, 103.0, 103.97207, 103.97209, 104.0, 105.0, 106.0,
    500.0, 700.0, 707.9, 708.0, 708.39641853226, 708.3965, 709.0, 709.08, 709.78271289338,
    709.7827128933841, 710.0, 710.1, 745.0, 745.13321910194, 745.2, 746.0, 747.0, 1e4, 1e30, 3e38,
    1e300, np.inf,
]  # fmt: skip


def sample(dtype):
    """Bits of all kinds, the range where the functions bend, and the hard values with their neighbours."""
    rng = np.random.default_rng(7)
    if dtype == np.float32:
        bits = np.arange(0, 2**32, 3989, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        bits = rng.integers(0, 2**64, 120_000, dtype=np.uint64).view(np.float64)
    bits = bits[~np.isnan(bits)]
    small = np.exp2(rng.uniform(-30, 3, 80_000))
    edge = 110 if dtype == np.float32 else 760
    range_ = np.concatenate([small, -small, rng.uniform(-edge, edge, 120_000), rng.uniform(-4, 4, 80_000)])
    with np.errstate(over="ignore"):
        hard = np.asarray([*HARD, *(-np.asarray(HARD))], dtype)
        near = [np.nextafter(hard, dtype(np.inf)), np.nextafter(hard, dtype(-np.inf))]
    ends = np.asarray(
        [np.finfo(dtype).max, np.finfo(dtype).smallest_normal, np.finfo(dtype).smallest_subnormal]
    )
    return np.concatenate([bits, range_.astype(dtype), hard, *near, ends.astype(dtype), -ends.astype(dtype)])


def computed(function, x):
    y = np.full_like(x, 7)
    _core.apply(function, x, y)
    return y


def exact(function, x):
    x = x.astype(WIDER[x.dtype.type])
    with np.errstate(all="ignore"):
        if function == "scaled_sigmoid":
            x = -x * np.log(x.dtype.type(2))
        if function == "scaled_tanh":
            x = x * np.log(x.dtype.type(2)) / 2
        if function == "exp":
            return np.exp(x)
        if function.endswith("tanh"):
            return np.tanh(x)
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1, e) / (1 + e)


def errors(function, x):
    """In ULP where the exact result is normal; elsewhere 0 if the contract allows the result, else inf."""
    info = np.finfo(x.dtype)
    y, right = computed(function, x).astype(WIDER[x.dtype.type]), exact(function, x)
    with np.errstate(all="ignore"):
        size, off = np.abs(right), np.abs(y - right)
        ulp = np.ldexp(right.dtype.type(info.eps), np.frexp(size)[1] - 1)
        found = off / ulp
        tiny = np.where(off <= info.smallest_normal, 0, np.inf)
        # exp overflows where its exact result is beyond the largest number, give or take its ULP
        found = np.where(size < info.smallest_normal, tiny, found)
        found = np.where(size > info.max, np.where(np.isposinf(y), 0, np.inf), found)
        return np.where(np.isnan(x), np.where(np.isnan(y), 0, np.inf), found)


@pytest.mark.parametrize("function", FUNCTIONS)
@dtypes
def test_contract(function, dtype):
    x = sample(dtype)
    error = errors(function, x)
    worst = np.argmax(error)
    assert error[worst] <= ULP[function], f"{error[worst]:.2f} ULP at {x[worst]!r} on {_core.isa()}"


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(function, dtype):
    x = np.asarray([-np.inf, -0.0, 0.0, np.inf, np.nan, -np.nan], dtype)
    low, middle, high = {
        "exp": (0, 1, np.inf), "sigmoid": (0, 0.5, 1), "tanh": (-1, 0, 1), "scaled_sigmoid": (1, 0.5, 0),
        "scaled_tanh": (-1, 0, 1),
    }[function]  # fmt: skip
    y = computed(function, x)
    assert np.isnan(y[4:]).all()
    assert np.array_equal(y[1:3], [middle, middle])
    assert abs(y[0] - low) <= np.finfo(dtype).smallest_normal
    assert y[3] == high or abs(y[3] - high) <= np.finfo(dtype).smallest_normal


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["tanh", "scaled_tanh"])
def test_tanh_is_odd_in_sign_and_within_one(function, dtype):
    x = sample(dtype)
    y = computed(function, x)
    assert (np.abs(y) <= 1).all()
    assert np.array_equal(np.signbit(y), np.signbit(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["sigmoid", "scaled_sigmoid"])
def test_sigmoid_is_within_zero_and_one(function, dtype):
    y = computed(function, sample(dtype))
    assert ((y >= 0) & (y <= 1)).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_lane_does_not_depend_on_its_place(function, dtype):
    """Any offset and any length give the same bits: the tail is computed as the rest."""
    x = sample(dtype)[-70:]
    right = computed(function, x)
    for start, length in ((0, 1), (1, 2), (3, 5), (2, 7), (0, 8), (5, 15), (1, 16), (4, 17), (0, 33), (7, 0)):
        part = slice(start, start + length)
        assert np.array_equal(computed(function, x[part].copy()), right[part], equal_nan=True)


@pytest.mark.parametrize("isa", [isa for isa in _core.isas() if isa != _core.isa()])
def test_every_instruction_set(isa, python):
    """This file once more, on each of the others."""
    names = "contract or special or sign or within or lane"
    done = python("-m", "pytest", "-q", "-k", names, __file__, isa=isa)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_broken_function_is_noticed(monkeypatch):
    """The judge can fail: 6 ULP off at one place."""
    true = computed

    def off(function, x):
        y = true(function, x)
        y[1500] += 6 * np.spacing(y[1500])
        return y

    x = np.linspace(-5, 5, 2001, dtype=np.float32)
    monkeypatch.setattr(sys.modules[__name__], "computed", off)
    for function in FUNCTIONS:
        assert errors(function, x).argmax() == 1500
        assert errors(function, x).max() > ULP[function]


def measure():
    for function in FUNCTIONS:
        for dtype in DTYPES if LONG else DTYPES[:1]:
            x = sample(dtype)
            error = errors(function, x)
            at = np.argmax(error)
            print(f"{_core.isa():8}{function:9}{dtype.__name__:9}{error[at]:8.3f} ULP at {x[at]!r}")


def measure_every():
    """Whether all float32 values keep the contract; NaN of every kind among them."""
    from rich.progress import track

    kept = True
    for function in FUNCTIONS:
        worst, where = -1.0, np.float32(0)
        for first in track(range(0, 2**32, CHUNK), f"{_core.isa()} {function}"):
            x = np.arange(first, first + CHUNK, dtype=np.uint64).astype(np.uint32).view(np.float32)
            error = errors(function, x)
            at = np.argmax(error)
            if error[at] > worst:
                worst, where = float(error[at]), x[at]
        kept &= worst <= ULP[function]
        print(
            f"{_core.isa()} {function}: {worst:.4f} ULP at {float(where).hex()} = {where!s}, "
            f"{ULP[function]} allowed",
            flush=True,
        )
    return kept


if __name__ == "__main__":
    if sys.argv[1:] == ["--every"]:
        sys.exit(0 if measure_every() else 1)
    measure()
