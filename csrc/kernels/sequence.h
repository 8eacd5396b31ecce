// What a layer call works on: strided sequences, packed weights, scratch memory, and the team of threads.
#ifndef CAROUSEL_KERNELS_SEQUENCE_H
#define CAROUSEL_KERNELS_SEQUENCE_H

#include "../carousel.h"
#include "../team.h"
#include "cell.h"
#include "gemm.h"

namespace {

// Steps of different batch sizes one after the other, without gaps: torch's PackedSequence.
struct Packed {
  const int64_t* before;  // [T + 1] rows in all steps before t
  const int64_t* length;  // [B] not increasing
  bool reverse;
};

// Rows addressed by step and batch row. A step or row of 0 repeats: a missing state is one row of zeros, and an
// inference pass keeps one set of cells that every step overwrites.
template <class T>
struct Sequence {
  T* data;
  int64_t step, row;
  const int64_t* rows = nullptr;  // where each batch row begins, instead of at b * row
  const Packed* packed = nullptr;
  T* operator()(int64_t s, int64_t b) const {
    if (packed) return data + (packed->before[packed->reverse ? packed->length[b] - 1 - s : s] + b) * row;
    return data + s * step + (rows ? rows[b] : b * row);
  }
};

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

// The batch rows of one team member: first, first + stride, …
struct Rows {
  int64_t count, first, stride;
  int64_t operator()(int64_t i) const { return first + i * stride; }
};

// Rows of different lengths. They are ordered by length, longest first, so that those that still run at step s are the
// first alive(s) of them; every row begins at step 0 of its own direction.
struct Ragged {
  int64_t batch;
  const int64_t* order = nullptr;   // [B] which row of the batch stands at b; null: all rows have all steps
  const int64_t* length = nullptr;  // [B] in that order
  const int64_t* before = nullptr;  // [T + 1] rows in all steps before s

  int64_t alive(int64_t s) const { return order ? before[s + 1] - before[s] : batch; }
  // Those of a member's rows that still run at step s.
  Rows running(Rows rows, int64_t s) const {
    const int64_t left = order ? (alive(s) - rows.first + rows.stride - 1) / rows.stride : rows.count;
    return {left < 0 ? 0 : left < rows.count ? left : rows.count, rows.first, rows.stride};
  }
  // Rows in steps [from, s).
  int64_t slots(int64_t from, int64_t s) const { return order ? before[s] - before[from] : (s - from) * batch; }
  int64_t row(int64_t b) const { return order ? order[b] : b; }
};

// A stable sort by counting. `scratch` has room for T + 2 numbers.
inline Ragged sort_rows(int64_t T, int64_t B, const int64_t* lengths, int64_t* order, int64_t* length, int64_t* before,
                        int64_t* scratch) {
  for (int64_t s = 0; s < T + 2; ++s) scratch[s] = 0;
  for (int64_t b = 0; b < B; ++b) ++scratch[lengths[b]];
  int64_t longer = 0;
  for (int64_t n = T; n >= 0; --n) {  // scratch[n]: rows longer than n, where those of n begin
    const int64_t here = scratch[n];
    scratch[n] = longer;
    longer += here;
  }
  before[0] = 0;
  for (int64_t s = 0; s < T; ++s) before[s + 1] = before[s] + scratch[s];
  for (int64_t b = 0; b < B; ++b) {
    const int64_t place = scratch[lengths[b]]++;
    order[place] = b;
    length[place] = lengths[b];
  }
  return {B, order, length, before};
}

// The team member's share of [0, count), in multiples of `unit`.
inline Range share(int64_t count, const Team& team, int64_t unit = 1) {
  const int64_t units = ceil_div(count, unit);
  const int64_t begin = units * team.member / team.size * unit, end = units * (team.member + 1) / team.size * unit;
  return {begin < count ? begin : count, end < count ? end : count};
}

// to[b] = from(b) for b in [0, count), rows of `width`; the same memory is fine.
template <class T, class From, class To>
CAROUSEL_INLINE void copy_rows(Range rows, int64_t width, From&& from, To&& to) {
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    const T* source = from(b);
    T* target = to(b);
    for (int64_t j = 0; j < width; ++j) target[j] = source[j];
  }
}

// Weights as the forward pass reads them: panels of `lanes` hidden units, the last one of those that are left, each
//   W [I][G][units]   R [P][G][units]   input bias [G][units]   recurrent bias [G][units]
// with rows padded to whole registers. The gates of a unit stand side by side, so that one tile of products holds all
// that its new state needs; in the last panel several gates may share a register. Where products are in bfloat16, an
// element holds two rows, and there are half as many (bfloat16.h).
template <class T>
struct Panels {
  int64_t gates, I, P, H;  // rows of W, rows of R, hidden units
  int64_t count() const { return ceil_div(H, lanes<T>); }
  int64_t units(int64_t p) const { return H - p * lanes<T> < lanes<T> ? H - p * lanes<T> : lanes<T>; }
  int registers(int64_t p) const { return int(ceil_div(gates * units(p), lanes<T>)); }
  int64_t width(int64_t p) const { return registers(p) * lanes<T>; }  // elements from one row to the next
  int64_t columns(int64_t p) const { return p * gates * lanes<T>; }   // in all panels before p
  int64_t all_columns() const { return H > 0 ? columns(count() - 1) + width(count() - 1) : 0; }
  int64_t size() const { return (I + P + 2) * all_columns() + lanes<T>; }  // a tile may load a register too far
  const T* W(const T* packed, int64_t p) const { return packed + (I + P + 2) * columns(p); }
  const T* R(const T* packed, int64_t p) const { return W(packed, p) + I * width(p); }
  const T* input_bias(const T* packed, int64_t p) const { return R(packed, p) + P * width(p); }
  const T* recurrent_bias(const T* packed, int64_t p) const { return input_bias(packed, p) + width(p); }
};

// to[k][row] = factor * from[row][k], `rows` rows of `columns` elements, rounded or in pairs of k where asked.
template <class T>
void pack_columns(const T* from, int64_t rows, int64_t columns, T factor, Precision precision, T* to, int64_t to_step) {
  constexpr int64_t L = lanes<T>;
  for (int64_t k = 0; k < columns; k += L) {
    Vec<T> block[L];
#pragma GCC unroll 16
    for (int64_t l = 0; l < L; ++l)
      block[l] = l < rows ? load(from + l * columns + k, columns - k) * splat(factor) : Vec<T>{};
    transpose<T>(block);
    int64_t depth = columns - k < L ? columns - k : L;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (precision == rounded)
        for (int64_t l = 0; l < depth; ++l) block[l] = (Vec<T>)rounded_bits(block[l]);
      if (precision == pairs) {
        depth = (depth + 1) / 2;
        for (int64_t l = 0; l < depth; ++l) block[l] = paired(block[2 * l], block[2 * l + 1]);
      }
    }
    const int64_t first = packed_depth(k, precision);
    for (int64_t l = 0; l < depth; ++l) store(to + (first + l) * to_step, block[l], rows);
  }
}

// Strips of the transposed matrix: `rows` rows of `columns` elements become its columns. The team shares the strips.
template <class T>
void pack_transposed(const T* from, int64_t rows, int64_t columns, T* to, const Team& team) {
  const Strips<T> strips(rows);
  const Range mine = share(strips.count(), team);
  for (int64_t strip = mine.begin; strip < mine.end; ++strip)
    for (int64_t v = 0; v < strips.registers(strip); ++v) {
      const int64_t first = strip * strips.width + v * lanes<T>, left = rows - first;
      T* target = to + strips.offset(strip, columns) + v * lanes<T>;
      if (left < lanes<T>)
        for (int64_t k = 0; k < columns; ++k) store(target + k * strips.step(strip), Vec<T>{});
      pack_columns(from + first * columns, left < lanes<T> ? left : lanes<T>, columns, T(1), full, target,
                   strips.step(strip));
    }
}

// Panel p of weights with I inputs and a state of P; `panels` counts the elements that they take. In full precision the
// weights of a gate are multiplied by its scale; low precision would round them once more.
template <class T>
void pack_panel(const Panels<T>& panels, const carousel_weights& weights, int64_t I, int64_t P, Precision precision,
                const Traits& cell, int64_t p, T* packed) {
  const int64_t H = panels.H, units = panels.units(p), width = panels.width(p), rows = panels.I + panels.P;
  T* panel = packed + (rows + 2) * panels.columns(p);
  const T *W = static_cast<const T*>(weights.W), *R = static_cast<const T*>(weights.R);
  const T *b_W = static_cast<const T*>(weights.b_W), *b_R = static_cast<const T*>(weights.b_R);
  for (int64_t k = 0; k < rows + 2; ++k)
    for (int64_t column = panels.gates * units; column < width; ++column) panel[k * width + column] = T(0);
  for (int64_t g = 0; g < panels.gates; ++g) {
    const int64_t unit = g * H + p * lanes<T>;
    const T scale = precision == full ? T(cell.scales[g]) : T(1);
    pack_columns(W + unit * I, units, I, scale, precision, panel + g * units, width);
    pack_columns(R + unit * P, units, P, scale, precision, panel + panels.I * width + g * units, width);
    const Vec<T> input = b_W ? load(b_W + unit, units) : Vec<T>{};
    const Vec<T> recurrent = b_R ? load(b_R + unit, units) : Vec<T>{};
    const bool joined = cell.one_bias || g < panels.gates - 1;  // only the candidate of a reset-after GRU keeps two
    T* bias = panel + rows * width + g * units;
    store(bias, (joined ? input + recurrent : input) * splat(scale), units);
    store(bias + width, (joined ? Vec<T>{} : recurrent) * splat(scale), units);
  }
  if (p == panels.count() - 1) store(panel + (rows + 2) * width, Vec<T>{});  // behind the last row, which tiles may load
}

}  // namespace
#endif
