// The forward pass of one layer in one direction, for any cell.
//
// For every step and panel of hidden units, a tile accumulates  W x + b  and then  R h  in registers, the cell's
// equations follow on these sums, and the new state is written once. Where W is large, W x + b of a chunk of steps is
// computed first, panel by panel, so that W is read once per chunk and not once per step: same sums, same bits.
#ifndef CAROUSEL_KERNELS_FORWARD_H
#define CAROUSEL_KERNELS_FORWARD_H

#include "math.h"
#include "sequence.h"

namespace {

template <class T>
struct Forward {
  int64_t steps, batch, inputs, hidden;
  Panels<T> panels;
  const T* packed;
  carousel_weights weights;  // packed by the team first, where `repack` is set
  T* repack;
  Sequence<const T> x;
  Sequence<T> y;
  Sequence<const T> h_0, c_0;
  T *h_n, *c_n;
  Sequence<T> gates;    // [B, 4H] of every step, or of the current one only
  Sequence<T> cells;    // [B, H], likewise
  T* projected;         // [chunk * B, all columns of the panels]: W x + b, where it is computed ahead
  int64_t chunk;        // steps; 0: computed within the step
  bool training;
  bool by_units;        // threads share the hidden units and meet after each step; else they share the batch

  const T* h(int64_t s, int64_t b) const { return s > 0 ? y(s - 1, b) : h_0(0, b); }
  const T* c(int64_t s, int64_t b) const { return s > 0 ? cells(s - 1, b) : c_0(0, b); }
  T* ahead(int64_t s, int64_t b, int64_t p) const {
    return projected + ((s % chunk) * batch + b) * panels.all_columns() + panels.columns(p);
  }
};

// The sums of M rows and `Count` gates of a panel, from `First` on: W x + b, and then R h. A whole panel has `lanes`
// units and a register per gate, which the compiler then knows.
template <class T, int M, int First, int Count, bool Whole>
class Gates {
 public:
  CAROUSEL_INLINE Gates(const Forward<T>& f, int64_t s, int64_t row, int64_t p) : f_(f), p_(p) {
    if (f.chunk > 0) {
      for (int m = 0; m < M; ++m) start(m, f.ahead(s, row + m, p) + column());
      return;
    }
    const T* x[M];
    for (int m = 0; m < M; ++m) {
      x[m] = f.x(s, row + m);
      start(m, f.panels.input_bias(f.packed, p) + column());
    }
    add(f.inputs, x, f.panels.W(f.packed, p));
  }

  CAROUSEL_INLINE void add_recurrent(const T* const (&h)[M]) { add(f_.hidden, h, f_.panels.R(f_.packed, p_)); }

  // Row m of the g-th gate, counted from `First`; elements beyond the panel's units are of no meaning.
  CAROUSEL_INLINE Vec<T> operator()(int m, int g) const { return load(sums_ + offset(m, g), units()); }
  CAROUSEL_INLINE void set(int m, int g, Vec<T> value) { store(sums_ + offset(m, g), value, units()); }

 private:
  CAROUSEL_INLINE int64_t units() const { return Whole ? lanes<T> : f_.panels.units(p_); }
  CAROUSEL_INLINE int64_t column() const { return First * units(); }
  CAROUSEL_INLINE int registers() const { return Whole ? Count : int(ceil_div(Count * units(), lanes<T>)); }
  CAROUSEL_INLINE int64_t offset(int m, int g) const { return m * registers() * lanes<T> + g * units(); }
  CAROUSEL_INLINE void start(int m, const T* from) {
    const int64_t left = f_.panels.width(p_) - column();  // the row ends there
    for (int v = 0; v < registers(); ++v)
      store(sums_ + (m * registers() + v) * lanes<T>,
            load(from + v * lanes<T>, Whole ? lanes<T> : left - v * lanes<T>));
  }
  CAROUSEL_INLINE void add(int64_t K, const T* const (&a)[M], const T* panel) {
    const int64_t step = Whole ? f_.panels.gates * lanes<T> : f_.panels.width(p_);
    with_registers(registers(), [&](auto count) __attribute__((always_inline)) {
      tile<T, M, decltype(count)::count>(K, a, 1, panel + column(), step, sums_);
    });
  }

  const Forward<T>& f_;
  const int64_t p_;
  alignas(CAROUSEL_VECTOR_BYTES) T sums_[M * 4 * lanes<T>];
};

// W x + b of a whole chunk of steps from s0 on, all gates: rows of all steps are tiled together.
template <class T>
__attribute__((noinline)) void project_ahead(const Forward<T>& f, int64_t s0, int64_t s1, Range rows, Range panels) {
  const int64_t height = rows.end - rows.begin;
  for (int64_t p = panels.begin; p < panels.end; ++p)
    with_registers(f.panels.registers(p), [&](auto registers) __attribute__((always_inline)) {
      constexpr int N = decltype(registers)::count;
      const T* bias = f.panels.input_bias(f.packed, p);
      for_row_tiles<rows_per_tile(N)>(0, (s1 - s0) * height, [&](auto count, int64_t first) __attribute__((
                                                                 always_inline)) {
        constexpr int M = decltype(count)::count;
        const T* x[M];
        T* to[M];
        for (int m = 0; m < M; ++m) {
          const int64_t s = s0 + (first + m) / height, b = rows.begin + (first + m) % height;
          x[m] = f.x(s, b);
          to[m] = f.ahead(s, b, p);
        }
        Sums<T, M, N> sums;
        for (int m = 0; m < M; ++m)
          for (int v = 0; v < N; ++v)
            store(sums.data + (m * N + v) * lanes<T>, load(bias + v * lanes<T>));
        tile<T, M, N>(f.inputs, x, 1, f.panels.W(f.packed, p), f.panels.width(p), sums.data);
        sums.write(to, N * lanes<T>);
      });
    });
}

template <class T, class Cell, int Phase, bool Whole>
void step_panel(const Forward<T>& f, int64_t s, Range rows, int64_t p) {
  for_row_tiles<rows_per_tile(Cell::gates)>(
      rows.begin, rows.end, [&](auto count, int64_t row) __attribute__((always_inline)) {
        Cell::template forward<T, decltype(count)::count, Phase, Whole>(f, s, row, p);
      });
}

template <class T, class Cell, int Phase>
void step(const Forward<T>& f, int64_t s, Range rows, Range panels) {
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    if (f.panels.units(p) == lanes<T>)
      step_panel<T, Cell, Phase, true>(f, s, rows, p);
    else
      step_panel<T, Cell, Phase, false>(f, s, rows, p);
  }
}

template <class T, class Cell>
void forward(const Forward<T>& f, const Team& team) {
  if (f.repack) {
    const Range mine = share(f.panels.count(), team);
    for (int64_t p = mine.begin; p < mine.end; ++p) pack_panel(f.panels, f.weights, Cell::one_bias, p, f.repack);
    team.barrier();
  }
  const Range rows = f.by_units ? Range{0, f.batch} : share(f.batch, team);
  const Range panels = f.by_units ? share(f.panels.count(), team) : Range{0, f.panels.count()};
  for (int64_t s = 0; s < f.steps; ++s) {
    if (f.chunk > 0 && s % f.chunk == 0)
      project_ahead(f, s, s + f.chunk < f.steps ? s + f.chunk : f.steps, rows, panels);
    step<T, Cell, 0>(f, s, rows, panels);
    if (f.by_units) team.barrier();
    if constexpr (Cell::phases == 2) {
      step<T, Cell, 1>(f, s, rows, panels);
      if (f.by_units) team.barrier();
    }
  }
  const Range last = f.by_units ? share(f.batch, team) : rows;
  if (f.h_n) copy_rows<T>(last, f.hidden, {f.h(f.steps, 0), 0, f.steps > 0 ? f.y.row : f.h_0.row}, f.h_n);
  if (f.c_n) copy_rows<T>(last, f.hidden, {f.c(f.steps, 0), 0, f.steps > 0 ? f.cells.row : f.c_0.row}, f.c_n);
}

}  // namespace
#endif
