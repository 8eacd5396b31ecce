"""The constants of kernels/math.h, derived: python csrc/coefficients.py (needs mpmath).

(e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, and (2^r - 1) / r on |r| <= 1/2, are interpolated at the Chebyshev nodes in
60 digits, where the interpolating polynomial is within a factor log(degree) of the best one. Beside each stands the
largest relative error that it leaves in e^r - 1, or 2^r - 1.
"""

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60
LN2 = mp.log(2)

Function = Callable[[mp.mpf], mp.mpf]


def remainder(r: mp.mpf) -> mp.mpf:
    return mp.mpf(1) / 2 + r / 6 if abs(r) < 1e-30 else (mp.expm1(r) - r) / r**2


def quotient(r: mp.mpf) -> mp.mpf:
    return LN2 if abs(r) < 1e-40 else mp.expm1(r * LN2) / r


def interpolated(f: Function, half: mp.mpf, degree: int) -> list[mp.mpf]:
    """Coefficients on [-half, half], lowest power first."""
    nodes = [half * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)]
    powers = mp.matrix([[r**p for p in range(degree + 1)] for r in nodes])
    return list(mp.lu_solve(powers, mp.matrix([f(r) for r in nodes])))


def largest_error(f: Function, half: mp.mpf, coefficients: list[mp.mpf], share: Function) -> mp.mpf:
    """On a fine grid; `share(r)` is what an error of f is relative to the power less 1."""
    grid = [half * (mp.mpf(2 * k + 1) / 500 - 1) for k in range(500)]
    return max(abs((mp.polyval(coefficients[::-1], r) - f(r)) * share(r)) for r in grid)


def split_ln2(bits: int) -> tuple[mp.mpf, mp.mpf]:
    """ln 2 = high + low where high has few enough bits that n * high is exact for every exponent n."""
    high = mp.floor(LN2 * 2**bits) / mp.mpf(2) ** bits
    return high, LN2 - high


def show(name: str, f: Function, half: mp.mpf, degree: int, share: Function) -> None:
    coefficients = interpolated(f, half, degree)
    print(f"{name}: relative error {mp.nstr(largest_error(f, half, coefficients, share), 3)}")
    for c in coefficients:
        print("   ", mp.nstr(c, 20))


for name, degree, bits in (("float", 4, 15), ("double", 10, 41)):
    print(f"{name}: ln2", *(mp.nstr(part, 20) for part in split_ln2(bits)))
    show(f"{name} remainder", remainder, LN2 / 2, degree, lambda r: r**2 / mp.expm1(r))
    show(f"{name} quotient", quotient, mp.mpf(1) / 2, 5 if name == "float" else 10, lambda r: 1 / quotient(r))
