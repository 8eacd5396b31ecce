// What a layer call works on: strided sequences, packed weights, scratch memory, and the team of threads.
#ifndef CAROUSEL_KERNELS_SEQUENCE_H
#define CAROUSEL_KERNELS_SEQUENCE_H

#include "../carousel.h"
#include "../team.h"
#include "gemm.h"

namespace {

// Rows addressed by step and batch row. A step or row of 0 repeats: a missing state is one row of zeros, and an
// inference pass keeps one set of cells that every step overwrites.
template <class T>
struct Sequence {
  T* data;
  int64_t step, row;
  T* operator()(int64_t s, int64_t b) const { return data + s * step + b * row; }
};

// Seen from its last step, so that no kernel knows about direction.
template <class T>
Sequence<T> directed(Sequence<T> x, int64_t steps, bool reverse) {
  return reverse && steps > 0 && x.data ? Sequence<T>{x.data + (steps - 1) * x.step, -x.step, x.row} : x;
}

// Hands out blocks of one allocation, 64-byte aligned. Over a null base it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* block = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += ceil_div(count * int64_t(sizeof(T)), 64) * 64;
    return block;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

struct Range {
  int64_t begin, end;
};

// The team member's share of [0, count), in multiples of `unit`.
inline Range share(int64_t count, const Team& team, int64_t unit = 1) {
  const int64_t units = ceil_div(count, unit);
  const int64_t begin = units * team.member / team.size * unit, end = units * (team.member + 1) / team.size * unit;
  return {begin < count ? begin : count, end < count ? end : count};
}

// to[b] = from(0, b), rows of `width`; the same memory is fine.
template <class T>
void copy_rows(Range rows, int64_t width, Sequence<const T> from, T* to) {
  for (int64_t b = rows.begin; b < rows.end; ++b)
    for (int64_t j = 0; j < width; ++j) to[b * width + j] = from(0, b)[j];
}

// Weights as the forward pass reads them: panels of `lanes` hidden units, the last one of those that are left, each
//   W [I][G][units]   R [H][G][units]   input bias [G][units]   recurrent bias [G][units]
// with rows padded to whole registers. The gates of a unit stand side by side, so that one tile of products holds all
// that its new state needs; in the last panel several gates may share a register.
template <class T>
struct Panels {
  int64_t gates, I, H;
  int64_t count() const { return ceil_div(H, lanes<T>); }
  int64_t units(int64_t p) const { return H - p * lanes<T> < lanes<T> ? H - p * lanes<T> : lanes<T>; }
  int registers(int64_t p) const { return int(ceil_div(gates * units(p), lanes<T>)); }
  int64_t width(int64_t p) const { return registers(p) * lanes<T>; }  // elements from one row to the next
  int64_t columns(int64_t p) const { return p * gates * lanes<T>; }   // in all panels before p
  int64_t all_columns() const { return H > 0 ? columns(count() - 1) + width(count() - 1) : 0; }
  int64_t size() const { return (I + H + 2) * all_columns(); }
  const T* W(const T* packed, int64_t p) const { return packed + (I + H + 2) * columns(p); }
  const T* R(const T* packed, int64_t p) const { return W(packed, p) + I * width(p); }
  const T* input_bias(const T* packed, int64_t p) const { return R(packed, p) + H * width(p); }
  const T* recurrent_bias(const T* packed, int64_t p) const { return input_bias(packed, p) + width(p); }
};

// to[k][row] = from[row][k], `rows` rows of `columns` elements.
template <class T>
void pack_columns(const T* from, int64_t rows, int64_t columns, T* to, int64_t to_step) {
  constexpr int64_t L = lanes<T>;
  for (int64_t k = 0; k < columns; k += L) {
    Vec<T> block[L];
#pragma GCC unroll 16
    for (int64_t l = 0; l < L; ++l) block[l] = l < rows ? load(from + l * columns + k, columns - k) : Vec<T>{};
    transpose<T>(block);
    const int64_t depth = columns - k < L ? columns - k : L;
    for (int64_t l = 0; l < depth; ++l) store(to + (k + l) * to_step, block[l], rows);
  }
}

template <class T>
void pack_panel(const Panels<T>& panels, const carousel_weights& weights, bool one_bias, int64_t p, T* packed) {
  const int64_t I = panels.I, H = panels.H, units = panels.units(p), width = panels.width(p);
  T* panel = packed + (I + H + 2) * panels.columns(p);
  const T *W = static_cast<const T*>(weights.W), *R = static_cast<const T*>(weights.R);
  const T *b_W = static_cast<const T*>(weights.b_W), *b_R = static_cast<const T*>(weights.b_R);
  for (int64_t k = 0; k < I + H + 2; ++k)
    for (int64_t column = panels.gates * units; column < width; ++column) panel[k * width + column] = T(0);
  for (int64_t g = 0; g < panels.gates; ++g) {
    const int64_t unit = g * H + p * lanes<T>;
    pack_columns(W + unit * I, units, I, panel + g * units, width);
    pack_columns(R + unit * H, units, H, panel + I * width + g * units, width);
    const Vec<T> input = b_W ? load(b_W + unit, units) : Vec<T>{};
    const Vec<T> recurrent = b_R ? load(b_R + unit, units) : Vec<T>{};
    const bool joined = one_bias || g < panels.gates - 1;  // only the candidate of a reset-after GRU keeps two
    T* bias = panel + (I + H) * width + g * units;
    store(bias, joined ? input + recurrent : input, units);
    store(bias + width, joined ? Vec<T>{} : recurrent, units);
  }
}

}  // namespace
#endif
