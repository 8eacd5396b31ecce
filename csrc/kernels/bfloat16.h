// Products of numbers rounded to bfloat16, summed in float32.
//
// An element of 32 bits holds two neighbours of the summed axis, the even one in its low half, as the instruction
// vdpbf16ps takes them; an odd last one is followed by 0. On processors without it the numbers are rounded just so and
// multiplied in float32, and an element holds one of them.
#ifndef CAROUSEL_KERNELS_BFLOAT16_H
#define CAROUSEL_KERNELS_BFLOAT16_H

#include "vec.h"

namespace {

enum Precision { full, rounded, pairs };

inline Precision low_precision() {
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
  if (__builtin_cpu_supports("avx512bf16")) return pairs;
#endif
  return rounded;
}

// Elements that K numbers take.
inline int64_t packed_depth(int64_t K, Precision precision) { return precision == pairs ? (K + 1) / 2 : K; }

// To the nearest bfloat16, ties to even, in the high half; NaN stays NaN.
CAROUSEL_INLINE IVec<float> rounded_bits(Vec<float> x) {
  const IVec<float> bits = (IVec<float>)x;
  const IVec<float> nearest = bits + 0x7fff + ((bits >> 16) & 1);
  return (x == x ? nearest : bits | 0x400000) & int32_t(0xffff0000);
}

CAROUSEL_INLINE Vec<float> paired(Vec<float> even, Vec<float> odd) {
  typedef uint32_t Bits __attribute__((vector_size(CAROUSEL_VECTOR_BYTES)));
  return (Vec<float>)(((Bits)rounded_bits(even) >> 16) | (Bits)rounded_bits(odd));
}

// A row of `count` numbers as a product reads it.
inline void lower_row(const float* from, int64_t count, Precision precision, float* to) {
  if (precision == rounded) {
    for (int64_t j = 0; j < count; j += lanes<float>)
      store(to + j, (Vec<float>)rounded_bits(load(from + j, count - j)), count - j);
    return;
  }
  constexpr int64_t L = lanes<float>;
  IVec<float> evens;
  for (int64_t l = 0; l < L; ++l) evens[l] = int32_t(2 * l);
  for (int64_t j = 0; j < count; j += 2 * L) {
    const int64_t left = count - j;
    const Vec<float> a = load(from + j, left), b = left > L ? load(from + j + L, left - L) : Vec<float>{};
    store(to + j / 2, paired(pick(a, b, evens), pick(a, b, evens + 1)), (left + 1) / 2);
  }
}
inline void lower_row(const double*, int64_t, Precision, double*) {}

// sum + a b, where a and b may hold pairs.
template <bool Pairs, class V>
CAROUSEL_INLINE V multiply_add(V sum, V a, V b) {
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
  if constexpr (Pairs) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
#endif
  return sum + a * b;
}

}  // namespace
#endif
