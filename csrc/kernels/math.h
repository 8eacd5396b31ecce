// exp, sigmoid and tanh of a register.
//
// exp, sigmoid and tanh reduce x = n ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite 1980) and share a polynomial for
// e^r - 1. The sums of a gate arrive as t, multiplied already, for so are the packed weights: scaled_sigmoid and
// scaled_tanh take 2^t with t = n + r, |r| <= 1/2, which costs two instructions where the former costs six, and a
// polynomial for 2^r - 1. The constants are derived in csrc/coefficients.py.
//
// Contract, held by tests/test_kernel_math.py on every instruction set, in units in the last place of the exact result:
//   exp      <= 2 ULP; 0 and inf beyond the range      sigmoid  <= 3 ULP      tanh  <= 3 ULP, odd in sign, |tanh| <= 1
// and the same for the scaled functions of t. Results below the smallest normal number may be off by that number. NaN
// gives NaN.
#ifndef CAROUSEL_KERNELS_MATH_H
#define CAROUSEL_KERNELS_MATH_H

#include "vec.h"

namespace {

template <class T>
struct Exponential;

template <>
struct Exponential<float> {
  static constexpr int mantissa_bits = 23, bias = 127;
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr float log2e = 1.44269504f, ln2_high = 0.693145752f, ln2_low = 1.42860682e-6f;
  static constexpr float largest = 89.0f, smallest = -105.0f;  // beyond: inf and 0
  static constexpr float sigmoid_limit = 88.0f;  // e^88 < largest float; sigmoid(-88) < smallest normal
  static constexpr float tanh_limit = 9.5f;          // 1 - tanh(9.5) < 2^-26
  static constexpr float scaled_tanh_limit = 27.5f;  // the same in t
  static constexpr float remainder[] = {0.5f, 0.16666577f, 0.0416665547f, 0.00836317307f, 0.00139261761f};
  static constexpr float quotient[] = {0.6931472f, 0.2402265f, 0.05550357f,
                                       0.009618083f, 0.0013390863f, 1.5453163e-04f};
};

template <>
struct Exponential<double> {
  static constexpr int mantissa_bits = 52, bias = 1023;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double log2e = 1.4426950408889634074;
  static constexpr double ln2_high = 0.69314718055966295651, ln2_low = 2.8235290563031577123e-13;
  static constexpr double largest = 710.0, smallest = -746.0;
  static constexpr double sigmoid_limit = 709.0;
  static constexpr double tanh_limit = 20.0, scaled_tanh_limit = 57.0;
  static constexpr double remainder[] = {
      0.5,
      0.16666666666666670986,
      0.041666666666666669752,
      0.008333333333326140884,
      0.0013888888888883752417,
      0.00019841269874800491981,
      0.000024801587325533363819,
      2.7557255425746434282e-6,
      2.7557273661348636219e-7,
      2.5105206373957011116e-8,
      2.09146793765839351e-9,
  };
  static constexpr double quotient[] = {
      0.6931471805599453,
      0.24022650695910097,
      0.0555041086648216,
      0.009618129107606888,
      0.0013333558146416936,
      0.0001540353044173605,
      1.525273382983612e-05,
      1.321544258792169e-06,
      1.0178062445845774e-07,
      7.072585949269223e-09,
      4.4549605981865186e-10,
  };
};

// What the sums of a gate are multiplied by: σ(x) = 1 / (1 + 2^(sigmoid_scale x)), tanh x is of 2^(tanh_scale x).
constexpr double sigmoid_scale = -1.4426950408889634074, tanh_scale = 2 * 1.4426950408889634074;

template <class T>
CAROUSEL_INLINE Vec<T> clamp(Vec<T> x, T low, T high) {
  return smaller(splat(high), larger(splat(low), x));
}

// x 2^n for whole numbers n. Where 2^n is not normal, only AVX-512 has an instruction for it.
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
CAROUSEL_INLINE Vec<float> scaled(Vec<float> x, Vec<float> n) {
  return (Vec<float>)_mm512_maskz_scalef_ps(__mmask16(-1), x, n);
}
CAROUSEL_INLINE Vec<double> scaled(Vec<double> x, Vec<double> n) {
  return (Vec<double>)_mm512_maskz_scalef_pd(__mmask8(-1), x, n);
}
#else
template <class V>
CAROUSEL_INLINE V scaled(V x, V n) {
  using T = Element<V>;
  using E = Exponential<T>;
  const IVec<T> exponent = (IVec<T>)(n + splat(E::round)) - (IVec<T>)splat(E::round);
  return x * (V)((exponent + E::bias) << E::mantissa_bits);
}
#endif

// x = n ln 2 + r; returns e^r - 1 = r + r² (e^r - 1 - r) / r², the last factor by the polynomial: r itself is not
// rounded again, so the result is within one ULP.
template <class T>
CAROUSEL_INLINE Vec<T> reduced_expm1(Vec<T> x, Vec<T>& n) {
  using E = Exponential<T>;
  n = (x * splat(E::log2e) + splat(E::round)) - splat(E::round);
  const Vec<T> r = (x - n * splat(E::ln2_high)) - n * splat(E::ln2_low);
  constexpr int degree = int(sizeof E::remainder / sizeof(T)) - 1;
  Vec<T> p = splat(E::remainder[degree]);
#pragma GCC unroll 12
  for (int k = degree - 1; k >= 0; --k) p = p * r + splat(E::remainder[k]);
  return p * r * r + r;
}

template <class T>
CAROUSEL_INLINE Vec<T> exp(Vec<T> x) {
  using E = Exponential<T>;
  Vec<T> n;
  const Vec<T> e = reduced_expm1<T>(clamp<T>(x, E::smallest, E::largest), n) + splat(T(1));
  const Vec<T> half = (n * splat(T(0.5)) + splat(E::round)) - splat(E::round);  // two steps: 2^n itself may be too large
  return scaled(scaled(e, half), n - half);
}

// 1 / (1 + e^-x)
template <class T>
CAROUSEL_INLINE Vec<T> sigmoid(Vec<T> x) {
  constexpr T limit = Exponential<T>::sigmoid_limit;
  Vec<T> n;
  const Vec<T> e = reduced_expm1<T>(-clamp<T>(x, -limit, limit), n);
  return splat(T(1)) / (splat(T(1)) + scaled(e + splat(T(1)), n));
}

// e^x - 1 from its reduced form, so that small x keeps its digits.
template <class T>
CAROUSEL_INLINE Vec<T> expm1(Vec<T> x) {
  Vec<T> n;
  const Vec<T> e = reduced_expm1<T>(x, n), scale = scaled(splat(T(1)), n);
  return e * scale + (scale - splat(T(1)));
}

// (e^2x - 1) / (e^2x + 1) of |x|, then the sign of x.
template <class T>
CAROUSEL_INLINE Vec<T> tanh(Vec<T> x) {
  const IVec<T> sign = (IVec<T>)x & (IVec<T>)splat(T(-0.0));
  const Vec<T> size = (Vec<T>)((IVec<T>)x ^ sign), y = smaller(splat(Exponential<T>::tanh_limit), size);
  const Vec<T> e = expm1<T>(y + y);
  return (Vec<T>)((IVec<T>)(e / (e + splat(T(2)))) | sign);
}

// x = n + r, |r| <= 1/2. An infinite x is all n where `splits_infinity`; elsewhere |x| must be within the exponent's range.
template <class T>
struct Split {
  Vec<T> n, r;
};
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
constexpr bool splits_infinity = true;
// x in a register: of an operand in memory a Zen 5 makes no remainder before it knows what the result will overwrite, so
// that a loop of σ takes six times as long.
template <class V>
CAROUSEL_INLINE V in_register(V x) {
  asm("" : "+v"(x));
  return x;
}
CAROUSEL_INLINE Split<float> split(Vec<float> given) {
  const Vec<float> x = in_register(given);
  const Vec<float> r = (Vec<float>)_mm512_maskz_reduce_ps(__mmask16(-1), (__m512)x, 0);
  return {x - r, r};
}
CAROUSEL_INLINE Split<double> split(Vec<double> given) {
  const Vec<double> x = in_register(given);
  const Vec<double> r = (Vec<double>)_mm512_maskz_reduce_pd(__mmask8(-1), (__m512d)x, 0);
  return {x - r, r};
}
#else
constexpr bool splits_infinity = false;
template <class V>
CAROUSEL_INLINE Split<Element<V>> split(V x) {
  const V round = splat(Exponential<Element<V>>::round), n = (x + round) - round;
  return {n, x - n};
}
#endif

// (2^r - 1) / r for |r| <= 1/2
template <class T>
CAROUSEL_INLINE Vec<T> quotient(Vec<T> r) {
  using E = Exponential<T>;
  constexpr int degree = int(sizeof E::quotient / sizeof(T)) - 1;
  Vec<T> q = splat(E::quotient[degree]);
#pragma GCC unroll 12
  for (int k = degree - 1; k >= 0; --k) q = q * r + splat(E::quotient[k]);
  return q;
}

// σ(x) of t = sigmoid_scale x:  1 / (1 + 2^t)
template <class T>
CAROUSEL_INLINE Vec<T> scaled_sigmoid(Vec<T> t) {
  constexpr T limit = Exponential<T>::bias;
  const auto [n, r] = split(splits_infinity ? t : clamp<T>(t, -limit, limit));
  return splat(T(1)) / (splat(T(1)) + scaled(quotient<T>(r) * r + splat(T(1)), n));
}

// tanh x of t = tanh_scale x:  (2^t - 1) / (2^t + 1) of |t|, then the sign of t. Small t keep their digits.
template <class T>
CAROUSEL_INLINE Vec<T> scaled_tanh(Vec<T> t) {
  const IVec<T> sign = (IVec<T>)t & (IVec<T>)splat(T(-0.0));
  const Vec<T> size = (Vec<T>)((IVec<T>)t ^ sign);
  const auto [n, r] = split(smaller(splat(Exponential<T>::scaled_tanh_limit), size));
  const Vec<T> power = scaled(splat(T(1)), n), e = quotient<T>(r) * r * power + (power - splat(T(1)));
  return (Vec<T>)((IVec<T>)(e / (e + splat(T(2)))) | sign);
}

}  // namespace
#endif
