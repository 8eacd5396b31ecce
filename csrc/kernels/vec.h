// One vector register of T and the few operations the kernels need, on GCC/clang vector extensions.
//
// The including file defines CAROUSEL_VECTOR_BYTES (16, 32 or 64) and CAROUSEL_ACCUMULATORS, the number of vector
// registers a product may accumulate in. Everything is in an anonymous namespace: no other file may link to it.
#ifndef CAROUSEL_KERNELS_VEC_H
#define CAROUSEL_KERNELS_VEC_H

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define CAROUSEL_INLINE inline __attribute__((always_inline))

namespace {

template <class T>
struct Integer;
template <>
struct Integer<float> {
  using type = int32_t;
};
template <>
struct Integer<double> {
  using type = int64_t;
};

template <class T>
struct Register {
  using Int = typename Integer<T>::type;
  typedef T V __attribute__((vector_size(CAROUSEL_VECTOR_BYTES)));
  typedef Int IV __attribute__((vector_size(CAROUSEL_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Register<T>::V;
template <class T>
using IVec = typename Register<T>::IV;

template <class V>
struct ElementOf;
template <>
struct ElementOf<Vec<float>> {
  using type = float;
};
template <>
struct ElementOf<Vec<double>> {
  using type = double;
};
template <class V>
using Element = typename ElementOf<V>::type;

template <class T>
using Int = typename Integer<T>::type;

template <class T>
constexpr int64_t lanes = CAROUSEL_VECTOR_BYTES / int64_t(sizeof(T));

constexpr int64_t accumulators = CAROUSEL_ACCUMULATORS;

template <class T>
CAROUSEL_INLINE Vec<T> splat(T s) {
  return s - Vec<T>{};  // s - 0 is s, also for -0: folded to a broadcast
}

// 0, 1, …: the lanes of a register.
template <class T>
CAROUSEL_INLINE IVec<T> numbered() {
  IVec<T> v;
  for (int64_t l = 0; l < lanes<T>; ++l) v[l] = Int<T>(l);
  return v;
}

template <class T>
CAROUSEL_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
CAROUSEL_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// The first k < lanes elements; the others read as zero and are left alone in memory, which is never touched.
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
CAROUSEL_INLINE Vec<float> load_first(const float* p, int64_t k) {
  return (Vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << k) - 1), p);
}
CAROUSEL_INLINE Vec<double> load_first(const double* p, int64_t k) {
  return (Vec<double>)_mm512_maskz_loadu_pd(__mmask8((1u << k) - 1), p);
}
CAROUSEL_INLINE void store_first(float* p, Vec<float> v, int64_t k) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << k) - 1), (__m512)v);
}
CAROUSEL_INLINE void store_first(double* p, Vec<double> v, int64_t k) {
  _mm512_mask_storeu_pd(p, __mmask8((1u << k) - 1), (__m512d)v);
}
#else
template <class T>
CAROUSEL_INLINE Vec<T> load_first(const T* p, int64_t k) {
  Vec<T> v{};
  for (int64_t l = 0; l < k; ++l) v[l] = p[l];
  return v;
}
template <class T>
CAROUSEL_INLINE void store_first(T* p, Vec<T> v, int64_t k) {
  for (int64_t l = 0; l < k; ++l) p[l] = v[l];
}
#endif

// `left` elements remain in the row: a whole register where there are enough of them.
template <class T>
CAROUSEL_INLINE Vec<T> load(const T* p, int64_t left) {
  return left >= lanes<T> ? load(p) : load_first(p, left);
}
template <class T>
CAROUSEL_INLINE void store(T* p, Vec<T> v, int64_t left) {
  if (left >= lanes<T>)
    store(p, v);
  else
    store_first(p, v, left);
}

// Element index[l] of the 2 lanes of a and b.
template <class T>
CAROUSEL_INLINE T pick(T a, T b, IVec<Element<T>> index) {
#if defined(__clang__)
  T v{};
  for (int64_t l = 0; l < lanes<Element<T>>; ++l)
    v[l] = index[l] < lanes<Element<T>> ? a[index[l]] : b[index[l] - lanes<Element<T>>];
  return v;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// Element l is v[l - by]; those that come from beyond v are of no meaning.
template <class V>
CAROUSEL_INLINE V moved(V v, int64_t by) {
  using T = Element<V>;
  return pick(v, v, numbered<T>() - Int<T>(by));
}

// The sum of the lanes, by halves.
template <class T>
CAROUSEL_INLINE T total(Vec<T> v) {
#pragma GCC unroll 4
  for (int64_t s = lanes<T> / 2; s > 0; s /= 2) v += pick(v, v, numbered<T>() + Int<T>(s));
  return v[0];
}

// A register from `offset` on of an aligned row of registers that was just written. An unaligned load there would wait
// until both of its stores have reached the cache. May read the register after the one that holds the last element.
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
template <class T>
CAROUSEL_INLINE Vec<T> load_across(const T* row, int64_t offset) {
  const T* first = row + offset / lanes<T> * lanes<T>;
  return pick(load(first), load(first + lanes<T>), numbered<T>() + Int<T>(offset % lanes<T>));
}
#else
template <class T>
CAROUSEL_INLINE Vec<T> load_across(const T* row, int64_t offset) {
  return load(row + offset);
}
#endif

// The smaller and the larger of a bound and a value, lane by lane; NaN in the value stays.
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
// min and max return their second operand where one is NaN; from `? :` the compiler makes a comparison and a blend.
// With a full mask, because GCC 12 warns of its own unmasked forms (its bug 105593); the code is the same.
CAROUSEL_INLINE Vec<float> smaller(Vec<float> bound, Vec<float> x) {
  return (Vec<float>)_mm512_maskz_min_ps(__mmask16(-1), bound, x);
}
CAROUSEL_INLINE Vec<double> smaller(Vec<double> bound, Vec<double> x) {
  return (Vec<double>)_mm512_maskz_min_pd(__mmask8(-1), bound, x);
}
CAROUSEL_INLINE Vec<float> larger(Vec<float> bound, Vec<float> x) {
  return (Vec<float>)_mm512_maskz_max_ps(__mmask16(-1), bound, x);
}
CAROUSEL_INLINE Vec<double> larger(Vec<double> bound, Vec<double> x) {
  return (Vec<double>)_mm512_maskz_max_pd(__mmask8(-1), bound, x);
}
#else
template <class V>
CAROUSEL_INLINE V smaller(V bound, V x) {
  return bound < x ? bound : x;
}
template <class V>
CAROUSEL_INLINE V larger(V bound, V x) {
  return bound > x ? bound : x;
}
#endif

// The square block of `lanes` rows in v, transposed in log2(lanes) rounds of pairwise exchanges (Eklundh 1972).
template <class T>
CAROUSEL_INLINE void transpose(Vec<T> (&v)[lanes<T>]) {
  constexpr int64_t L = lanes<T>;
#pragma GCC unroll 4
  for (int64_t s = 1; s < L; s *= 2) {
    IVec<T> low{}, high{};  // element l of the new pair, as an index into the 2L elements of the old pair
#pragma GCC unroll 16
    for (int64_t l = 0; l < L; ++l) {
      low[l] = (l & s) ? L + l - s : l;
      high[l] = (l & s) ? L + l : l + s;
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < L; ++i) {
      if (i & s) continue;
      const Vec<T> a = v[i], b = v[i + s];
      v[i] = pick(a, b, low);
      v[i + s] = pick(a, b, high);
    }
  }
}

}  // namespace
#endif
