// What the options add to the equations of a cell, register by register. Where On is false all of it compiles to
// nothing, so that a plain layer pays for no option.
#ifndef CAROUSEL_KERNELS_EXTRAS_H
#define CAROUSEL_KERNELS_EXTRAS_H

#include "math.h"
#include "sequence.h"

namespace {

// Philox2x32 with ten rounds (Salmon et al. 2011), one counter (low, high) a lane, of which the words are the low halves
// of 64-bit lanes. The two words that come out are random, and a function of counter and key alone.
typedef uint64_t Words __attribute__((vector_size(CAROUSEL_VECTOR_BYTES)));

// The product of the low halves of a's lanes with b. No compiler here finds the instruction by itself.
CAROUSEL_INLINE Words product_of_halves(Words a, uint32_t b) {
#if defined(__AVX512F__) && CAROUSEL_VECTOR_BYTES == 64
  return (Words)_mm512_maskz_mul_epu32(__mmask8(-1), (__m512i)a, _mm512_set1_epi64(b));
#elif defined(__AVX2__) && CAROUSEL_VECTOR_BYTES == 32
  return (Words)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#elif defined(__SSE2__) && CAROUSEL_VECTOR_BYTES == 16
  return (Words)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#else
  return (a & 0xffffffffu) * uint64_t(b);
#endif
}

CAROUSEL_INLINE void philox(Words& low, Words& high, uint32_t key) {
  for (int round = 0; round < 10; ++round, key += 0x9E3779B9u) {
    const Words product = product_of_halves(low, 0xD256D193u);
    low = (product >> 32) ^ high ^ uint64_t(key);
    high = product & 0xffffffffu;
  }
}

// 1 in the lanes j, j + 1, … that are drawn with probability `rate`, 0 in the others: 24 bits of one word decide.
template <class T>
__attribute__((noinline)) Vec<T> drawn(uint32_t key, uint64_t first, uint64_t step, bool second_word, double rate) {
  constexpr int64_t W = CAROUSEL_VECTOR_BYTES / 8;
  typedef Int<T> Chosen __attribute__((vector_size(W * sizeof(T))));
  const double bound = rate * 16777216.0;
  const uint64_t threshold = uint64_t(bound) + (double(uint64_t(bound)) < bound ? 1 : 0);
  Int<T> chosen[lanes<T>];
  for (int64_t half = 0; half < lanes<T>; half += W) {
    Words low, high = Words{} + uint64_t(uint32_t(step));
    for (int64_t l = 0; l < W; ++l) low[l] = uint64_t(l);
    low = (low + (first + uint64_t(half))) & 0xffffffffu;
    philox(low, high, key);
    const Chosen here = __builtin_convertvector(((second_word ? high : low) >> 8) < threshold, Chosen);
    __builtin_memcpy(chosen + half, &here, sizeof here);
  }
  IVec<T> all;
  __builtin_memcpy(&all, chosen, sizeof all);
  return (Vec<T>)(all & (IVec<T>)splat(T(1)));
}

template <class T>
struct Extras {
  T clip = 0, cell_clip = 0;               // 0: off, as all below
  const T* peephole = nullptr;             // rows of H
  Sequence<const T> candidate_mask{}, state_mask{};
  double zoneout_h = 0, zoneout_c = 0;
  bool zoneout_drawn = false;
  uint32_t zoneout_key = 0;
  const int64_t* order = nullptr;          // which row of the batch stands at b; null: b itself
  const T *gain_x = nullptr, *gain_h = nullptr, *gain_c = nullptr, *shift_c = nullptr;
  T epsilon = 0;
  Sequence<const T> dgates{}, dcells{};

  // The share of the old state that stays, units j, j + 1, … of `width` at step s of row b.
  CAROUSEL_INLINE Vec<T> kept(double rate, bool of_cell, int64_t s, int64_t b, int64_t j, int64_t width) const {
    if (!zoneout_drawn) return splat(T(rate));
    const int64_t row = order ? order[b] : b;
    return drawn<T>(zoneout_key, uint64_t(row * width + j), uint64_t(s), of_cell, rate);
  }
};

template <class T>
CAROUSEL_INLINE Vec<T> blended(Vec<T> kept, Vec<T> old, Vec<T> fresh) {
  return kept == splat(T(1)) ? old : fresh + kept * (old - fresh);
}

template <class T, bool On>
struct Equations {
  const Extras<T>& e;

  // σ of t = sigmoid_scale a, and tanh of t = tanh_scale a, where a is clipped.
  CAROUSEL_INLINE Vec<T> sigmoid(Vec<T> t) const { return scaled_sigmoid<T>(clipped(t, sigmoid_scale)); }
  CAROUSEL_INLINE Vec<T> tanh(Vec<T> t) const { return scaled_tanh<T>(clipped(t, tanh_scale)); }
  // t = scale * a
  CAROUSEL_INLINE Vec<T> clipped(Vec<T> t, double scale) const {
    if constexpr (On)
      if (e.clip > 0) return clamp<T>(t, -bound(scale), bound(scale));
    return t;
  }
  // The gradient of a sum; none passes from the bound on, where its gate is that of a bound: "at" and "beyond" leave the
  // same gate.
  CAROUSEL_INLINE Vec<T> passed(Vec<T> gradient, Vec<T> gate, bool is_tanh) const {
    if constexpr (On)
      if (e.clip > 0) {
        const Vec<T> t = splat(bound(is_tanh ? tanh_scale : sigmoid_scale));
        const Vec<T> high = is_tanh ? scaled_tanh<T>(t) : scaled_sigmoid<T>(-t);
        const Vec<T> low = is_tanh ? scaled_tanh<T>(-t) : scaled_sigmoid<T>(t);
        return (gate >= high) | (gate <= low) ? Vec<T>{} : gradient;
      }
    return gradient;
  }
  // t + scale * p ∘ c, by row k of the peephole weights.
  CAROUSEL_INLINE Vec<T> seen(Vec<T> t, int k, Vec<T> c, int64_t H, int64_t j, int64_t left, double scale = 1) const {
    if constexpr (On)
      if (e.peephole) return t + load(e.peephole + k * H + j, left) * splat(T(scale)) * c;
    return t;
  }
  CAROUSEL_INLINE Vec<T> masked_candidate(Vec<T> g, int64_t b, int64_t j, int64_t left) const {
    if constexpr (On)
      if (e.candidate_mask.data) return g * load(e.candidate_mask(0, b) + j, left);
    return g;
  }
  CAROUSEL_INLINE Vec<T> masked_state(Vec<T> h, int64_t b, int64_t j, int64_t left) const {
    if constexpr (On)
      if (e.state_mask.data) return h * load(e.state_mask(0, b) + j, left);
    return h;
  }
  CAROUSEL_INLINE Vec<T> bounded_cell(Vec<T> c) const {
    if constexpr (On)
      if (e.cell_clip > 0) return clamp<T>(c, -e.cell_clip, e.cell_clip);
    return c;
  }
  CAROUSEL_INLINE Vec<T> passed_cell(Vec<T> gradient, Vec<T> c) const {
    if constexpr (On)
      if (e.cell_clip > 0) return (c >= splat(e.cell_clip)) | (c <= splat(-e.cell_clip)) ? Vec<T>{} : gradient;
    return gradient;
  }
  // d ∘ old + (1 - d) ∘ c; what stays whole stays to the bit.
  CAROUSEL_INLINE Vec<T> kept_cell(Vec<T> c, Vec<T> old, int64_t s, int64_t b, int64_t j, int64_t H) const {
    if constexpr (On)
      if (e.zoneout_c > 0) return blended<T>(e.kept(e.zoneout_c, true, s, b, j, H), old, c);
    return c;
  }
  // What callers add to the gradient of the g-th gate, or of the cell, that they were given.
  CAROUSEL_INLINE Vec<T> with_gate_gradient(Vec<T> d, int g, int64_t s, int64_t b, int64_t H, int64_t j,
                                            int64_t left) const {
    if constexpr (On)
      if (e.dgates.data) return d + load(e.dgates(s, b) + g * H + j, left);
    return d;
  }
  CAROUSEL_INLINE Vec<T> with_cell_gradient(Vec<T> d, int64_t s, int64_t b, int64_t j, int64_t left) const {
    if constexpr (On)
      if (e.dcells.data) return d + load(e.dcells(s, b) + j, left);
    return d;
  }

 private:
  T bound(double scale) const { return e.clip * T(scale < 0 ? -scale : scale); }
};

}  // namespace
#endif
