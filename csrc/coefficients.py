"""The constants of kernels/math.h, derived: python csrc/coefficients.py (needs mpmath).

(e^r - 1 - r) / r^2 on |r| <= ln(2) / 2 is interpolated at the Chebyshev nodes in 60 digits, where the
interpolating polynomial is within a factor log(degree) of the best one. Beside it stands the largest relative
error that it leaves in e^r - 1.
"""

import mpmath as mp

mp.mp.dps = 60


def remainder(degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Coefficients, lowest power first, and the largest relative error of e^r - 1 on a fine grid."""

    def f(r: mp.mpf) -> mp.mpf:
        return mp.mpf(1) / 2 + r / 6 if abs(r) < 1e-30 else (mp.expm1(r) - r) / r**2

    half = mp.log(2) / 2
    nodes = [half * mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)]
    powers = mp.matrix([[r**p for p in range(degree + 1)] for r in nodes])
    coefficients = list(mp.lu_solve(powers, mp.matrix([f(r) for r in nodes])))
    grid = [half * (mp.mpf(2 * k + 1) / 500 - 1) for k in range(500)]
    error = max(abs((mp.polyval(coefficients[::-1], r) - f(r)) * r**2 / mp.expm1(r)) for r in grid)
    return coefficients, error


def split_ln2(bits: int) -> tuple[mp.mpf, mp.mpf]:
    """ln 2 = high + low where high has few enough bits that n * high is exact for every exponent n."""
    high = mp.floor(mp.log(2) * 2**bits) / mp.mpf(2) ** bits
    return high, mp.log(2) - high


for name, degree, bits in (("float", 4, 15), ("double", 10, 41)):
    coefficients, error = remainder(degree)
    high, low = split_ln2(bits)
    print(f"{name}: relative error {mp.nstr(error, 3)}")
    print("  ln2", mp.nstr(high, 20), mp.nstr(low, 20))
    for c in coefficients:
        print("   ", mp.nstr(c, 20))
