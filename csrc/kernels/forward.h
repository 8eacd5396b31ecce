// The forward pass of one layer in one direction, for any cell.
//
// For every step and panel of hidden units, a tile accumulates  W x + b  and then  R h  in registers, the cell's
// equations follow on these sums, and the new state is written once. Where W is large, W x + b of a chunk of steps is
// computed first, panel by panel, so that W is read once per chunk and not once per step: same sums, same bits.
#ifndef CAROUSEL_KERNELS_FORWARD_H
#define CAROUSEL_KERNELS_FORWARD_H

#include "extras.h"

namespace {

template <class T>
struct Forward;

// Rows whose sums are all there before the first of their cells: the first one waits for its chain of instructions, and
// the others compute meanwhile.
constexpr int cell_rows = 24;

// Where one row of one step lies: computed once for all panels.
template <class T>
struct Line {
  int64_t b;
  const T *x, *h, *operand, *c;
  T *cell, *output, *gates;
  int64_t unit = 0;  // in the place of the first
  // The same row, its unit `j` in the place of the first.
  Line from_unit(int64_t j) const {
    const auto moved = [j](auto* p) { return p ? p + j : nullptr; };
    return {b, x, moved(h), operand, moved(c), moved(cell), moved(output), moved(gates), j};
  }
};

// The steps of a cell in one mode: the only code of a forward pass that is compiled for every cell.
template <class T>
struct Steps {
  void (*phase[2])(const Forward<T>& f, int64_t s, Rows rows, Range panels);
  void (*project)(const Forward<T>& f, int64_t s0, int64_t s1, Rows rows, Range panels);
};

template <class T>
struct Forward {
  Traits cell;
  Mode mode;
  Steps<T> steps_of_cell;
  int64_t steps, first, last, batch, inputs, hidden, state;  // state: units of h; steps [first, last) of all `steps`
  Ragged ragged;
  Precision precision;
  Panels<T> panels;
  const T* packed;
  carousel_weights weights;  // packed by the team first, where `repack` is set
  T* repack;
  Sequence<const T> x;
  Sequence<T> y;
  Sequence<const T> h_0, c_0;
  T *h_n, *c_n;
  Sequence<T> gates;     // [B, ·] of every step, or of the current one only
  Sequence<T> cells;     // [B, H], likewise
  T* projected;          // [chunk * B, all columns of the panels]: W x + b, where it is computed ahead
  T* lowered;            // [chunk * B, ·]: x in low precision
  int64_t chunk;         // steps; 0: computed within the step
  Sequence<T> operands;  // [2][B, ·]: h as R reads it, where it is masked or in low precision; by turns of the step
  Line<T>* table;        // [B] of the current step, where threads share the batch
  Sequence<T> shown;     // [B, H]: o ∘ tanh c, which a projection reads
  T* projection;         // its weights in strips
  T *W_columns, *R_columns, *sums_h, *fresh;  // of a normalised layer: strips of Wᵀ and Rᵀ; [B, G*H]; [2][B, H]
  Sequence<T> x_hat, h_hat, inverses;         // likewise, for the backward pass: standardized products; 1 / deviation
  Extras<T> extras;
  bool training;
  bool by_units;   // threads share the hidden units and meet after each step; else they share the batch

  const T* h(int64_t s, int64_t b) const { return s > 0 ? y(s - 1, b) : h_0(0, b); }
  const T* c(int64_t s, int64_t b) const { return s > first ? cells(s - 1, b) : c_0(0, b); }
  const T* operand(int64_t s, int64_t b) const { return operands.data ? operands(s & 1, b) : h(s, b); }
  // Where a cell puts its output: y, or what is projected to y.
  T* output(int64_t s, int64_t b) const { return shown.data ? shown(s, b) : y(s, b); }
  Line<T> line(int64_t s, int64_t b) const {
    return {b,          x(s, b),      h(s, b), operand(s, b), cells.data ? c(s, b) : nullptr, cells(s, b),
            output(s, b), gates.data ? gates(s, b) : nullptr};
  }
  int64_t ahead_row(int64_t s, int64_t b) const { return ((s - first) % chunk) * batch + b; }
  T* ahead(int64_t s, int64_t b, int64_t p) const {
    return projected + ahead_row(s, b) * panels.all_columns() + panels.columns(p);
  }
  T* lowered_input(int64_t s, int64_t b) const { return lowered + ahead_row(s, b) * panels.I; }
};

// The sums of up to `cell_rows` rows and `Number` gates of a panel, from `First` on: W x + R h + b, each times its
// gate's scale. A whole panel has `lanes` units and a register per gate, which the compiler then knows; in the last panel
// gates may share registers. With Apart, the last gate's R h + b_R is kept apart from its W x + b_W, as gate `Number`.
template <class T, int First, int Number, bool Whole, bool Apart = false>
class Gates {
 public:
  Gates(const Forward<T>& f, int64_t p)
      : units_(Whole ? lanes<T> : f.panels.units(p)),
        registers_(Whole ? Number : int(ceil_div(Number * units_, lanes<T>))) {}

  // Of M rows at step s, the first of them row `first` here; `from` holds what R reads. Spread, they are one row, of M
  // whole panels from p on.
  template <int M, bool Spread = false>
  __attribute__((noinline)) void add(const Forward<T>& f, int64_t s, const Line<T>* rows, int64_t p,
                                     const T* const (&from)[M], int64_t first) {
    const int64_t step = Whole ? f.panels.gates * lanes<T> : f.panels.width(p), column = First * units_;
    const int64_t next = f.panels.W(f.packed, p + 1) - f.panels.W(f.packed, p);
    const T* start[M];
    Product<T, M> input{f.projected ? 0 : f.panels.I, {}, 1, f.panels.W(f.packed, p) + column, step, next};
    Product<T, M> recurrent{f.panels.P, {}, 1, f.panels.R(f.packed, p) + column, step, next};
    for (int m = 0; m < M; ++m) {
      const int64_t panel = Spread ? p + m : p;
      start[m] = (f.projected ? f.ahead(s, rows[m].b, panel) : f.panels.input_bias(f.packed, panel)) + column;
      input.a[m] = f.lowered ? f.lowered_input(s, rows[m].b) : rows[m].x;
      recurrent.a[m] = from[m];
    }
    const T* apart = f.panels.recurrent_bias(f.packed, p) + column + (Number - 1) * units_;
    if (sizeof(T) == sizeof(float) && f.precision == pairs)
      multiply<M, sizeof(T) == sizeof(float), Spread>(start, input, recurrent, apart, first);
    else
      multiply<M, false, Spread>(start, input, recurrent, apart, first);
    if (f.precision != full) scale(f.cell.scales + First, first, M);
  }

  // Row m of the g-th gate, counted from `First`; elements beyond the panel's units are of no meaning.
  CAROUSEL_INLINE Vec<T> operator()(int m, int g) const {
    if constexpr (Whole) return load(sums_ + (m * (Number + Apart) + g) * lanes<T>);
    if (Apart && g == Number - 1) return load(apart_ + m * lanes<T>);
    if (Apart && g == Number) --g;
    return load_across(sums_ + m * registers_ * lanes<T>, g * units_);
  }

 private:
  // Weights of low precision are packed as they are.
  __attribute__((noinline)) void scale(const double* scales, int64_t first, int rows) {
    const int registers = Whole ? Number + Apart : registers_;
    T *sums = sums_ + first * registers * lanes<T>, *apart = apart_ + first * lanes<T>;
    T factors[4 * lanes<T>];  // of a whole panel every register has its gate
    for (int64_t g = 0, column = 0; !Whole && column < registers * lanes<T>; ++column) {
      if (column == (g + 1) * units_ && g < Number - 1) ++g;
      factors[column] = T(scales[g]);
    }
    for (int v = 0; v < registers; ++v) {
      const Vec<T> factor = Whole ? splat(T(scales[v < Number ? v : Number - 1])) : load(factors + v * lanes<T>);
      for (int m = 0; m < rows; ++m) {
        T* a = sums + (m * registers + v) * lanes<T>;
        store(a, load(a) * factor);
      }
    }
    for (int m = 0; m < rows && Apart && !Whole; ++m)
      store(apart + m * lanes<T>, load(apart + m * lanes<T>) * splat(T(scales[Number - 1])));
  }

  template <int M, bool Pairs, bool Spread>
  CAROUSEL_INLINE void multiply(const T* (&start)[M], const Product<T, M>& input, const Product<T, M>& recurrent,
                                const T* apart, int64_t first) {
    if constexpr (Whole) {
      tile<T, M, Number, Apart, Pairs, Spread>(start, input, recurrent, sums_ + first * (Number + Apart) * lanes<T>, apart);
    } else {
      with_registers(registers_, [&](auto count) __attribute__((always_inline)) {
        constexpr int N = decltype(count)::count;
        T* sums = sums_ + first * N * lanes<T>;
        if constexpr (!Apart) {
          tile<T, M, N, false, Pairs>(start, input, recurrent, sums);
        } else {
          const int64_t last = (Number - 1) * units_;
          const Vec<T> bias = load(apart, units_);
          tile<T, M, N, false, Pairs>(start, input, Product<T, M>{}, sums);
          for (int m = 0; m < M; ++m) {
            T* row = sums + m * N * lanes<T>;
            store(apart_ + (first + m) * lanes<T>, load(row + last, units_));
            store(row + last, bias, units_);
            start[m] = row;
          }
          tile<T, M, N, false, Pairs>(start, recurrent, Product<T, M>{}, sums);
        }
      });
    }
  }

  const int64_t units_;
  const int registers_;
  alignas(CAROUSEL_VECTOR_BYTES) T sums_[(cell_rows * 4 + 1) * lanes<T>];
  alignas(CAROUSEL_VECTOR_BYTES) T apart_[Apart && !Whole ? cell_rows * lanes<T> : 1];
};

// Rows of a panel whose units stand side by side in one register, where each has few: in the last panel of a plain
// layer, so that its activations cost what they cost in the others. With One there is one row.
template <class T, bool One>
class Joined {
 public:
  static int most(int64_t units) { return One ? 1 : int(lanes<T> / units); }

  // Rows first, first + 1, … of `end`, as many as fit; `units` of each, from unit j on.
  CAROUSEL_INLINE Joined(const Line<T>* rows, int first, int end, int64_t j, int64_t units)
      : rows_(rows), first_(first), j_(j), units_(units) {
    const int fit = most(units), left = end - first;
    count_ = left < fit ? left : fit;
  }

  // The units of all rows; `row(m)` is a register that begins with those of row m.
  template <class Row>
  CAROUSEL_INLINE Vec<T> of(Row&& row) const {
    Vec<T> all = row(first_);
    for (int r = 1; r < count_ && !One; ++r)
      all = numbered<T>() < Int<T>(r * units_) ? all : moved(row(first_ + r), r * units_);
    return all;
  }
  template <class Gates>
  CAROUSEL_INLINE Vec<T> sum(const Gates& a, int g) const {
    return of([&](int m) __attribute__((always_inline)) { return a(m, g); });
  }
  // From, and to, where `line(row)` says that a row's unit 0 lies.
  template <class Address>
  CAROUSEL_INLINE Vec<T> read(Address&& line) const {
    return of([&](int m) __attribute__((always_inline)) { return load(line(rows_[m]) + j_, units_); });
  }
  template <class Address>
  CAROUSEL_INLINE void write(Vec<T> v, Address&& line) const {
    store(line(rows_[first_]) + j_, v, units_);
    for (int r = 1; r < count_ && !One; ++r) store(line(rows_[first_ + r]) + j_, moved(v, -r * units_), units_);
  }

 private:
  const Line<T>* const rows_;
  const int first_;
  int count_;
  const int64_t j_, units_;
};

// W x + b of M rows and one panel; row m is step s[m] of row b[m].
template <class T, int M, int N>
CAROUSEL_INLINE void project_tile(const Forward<T>& f, const int64_t (&s)[M], const int64_t (&b)[M], int64_t p) {
  Product<T, M> product{f.panels.I, {}, 1, f.panels.W(f.packed, p), f.panels.width(p)};
  const T* start[M];
  T* to[M];
  for (int m = 0; m < M; ++m) {
    product.a[m] = f.lowered ? f.lowered_input(s[m], b[m]) : f.x(s[m], b[m]);
    start[m] = f.panels.input_bias(f.packed, p);
    to[m] = f.ahead(s[m], b[m], p);
  }
  Sums<T, M, N> sums;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (f.precision == pairs)
      tile<T, M, N, false, true>(start, product, Product<T, M>{}, sums.data);
    else
      tile<T, M, N>(start, product, sums.data);
  } else {
    tile<T, M, N>(start, product, sums.data);
  }
  sums.write(to, N * lanes<T>);
}

// W x + b of a whole chunk of steps from s0 on, all gates: rows of several steps are tiled together.
template <class T>
__attribute__((noinline)) void project_ahead(const Forward<T>& f, int64_t s0, int64_t s1, Rows rows, Range panels) {
  for (int64_t p = panels.begin; p < panels.end; ++p)
    with_registers(f.panels.registers(p), [&](auto registers) __attribute__((always_inline)) {
      constexpr int N = decltype(registers)::count, most = rows_per_tile(N);
      if (!f.ragged.order) {
        for_row_tiles<most>(0, (s1 - s0) * rows.count, [&](auto count, int64_t k) __attribute__((always_inline)) {
          constexpr int M = decltype(count)::count;
          int64_t s[M], b[M];
          for (int m = 0; m < M; ++m) s[m] = s0 + (k + m) / rows.count, b[m] = rows((k + m) % rows.count);
          project_tile<T, M, N>(f, s, b, p);
        });
        return;
      }
      for (int64_t i = 0; i < rows.count; ++i) {
        const int64_t row = rows(i), end = f.ragged.length[row] < s1 ? f.ragged.length[row] : s1;
        for_row_tiles<most>(s0, end, [&](auto count, int64_t k) __attribute__((always_inline)) {
          constexpr int M = decltype(count)::count;
          int64_t s[M], b[M];
          for (int m = 0; m < M; ++m) s[m] = k + m, b[m] = row;
          project_tile<T, M, N>(f, s, b, p);
        });
      }
    });
}

// x of a chunk in low precision. Where threads share the units they share this work, and meet after it.
template <class T>
void lower_inputs(const Forward<T>& f, int64_t s0, int64_t s1, Rows rows, const Team& team) {
  const Range steps = f.by_units ? share(s1 - s0, team) : Range{0, s1 - s0};
  for (int64_t s = s0 + steps.begin; s < s0 + steps.end; ++s)
    for (int64_t i = 0; i < rows.count && rows(i) < f.ragged.alive(s); ++i)
      lower_row(f.x(s, rows(i)), f.inputs, f.precision, f.lowered_input(s, rows(i)));
  if (f.by_units) team.barrier();
}

// What a training pass will write of a row, on its way to the cache while their sums are computed.
template <int Blocks, class T>
CAROUSEL_INLINE void fetch_reserve(const Forward<T>& f, const Line<T>& row, int64_t p) {
  if (row.gates)
#pragma GCC unroll 4
    for (int g = 0; g < Blocks; ++g) __builtin_prefetch(row.gates + g * f.hidden + p * lanes<T>, 1);
  if (row.cell) __builtin_prefetch(row.cell + p * lanes<T>, 1);
}

template <class T, class Cell, int Phase, bool Whole, bool On>
void step_panel(const Forward<T>& f, int64_t s, Rows rows, int64_t p) {
  for (int64_t i = 0; i < rows.count; i += cell_rows) {
    const int64_t n = rows.count - i < cell_rows ? rows.count - i : cell_rows;
    Line<T> gathered[cell_rows];
    const Line<T>* lines = f.table + rows(i);
    if (f.by_units || rows.stride > 1) {
      for (int64_t m = 0; m < n; ++m) gathered[m] = f.by_units ? f.line(s, rows(i + m)) : f.table[rows(i + m)];
      lines = gathered;
    }
    typename Cell::template Sums<T, Phase, Whole> a(f, p);
    for_row_tiles<rows_per_tile(4)>(0, n, [&](auto count, int64_t first) __attribute__((always_inline)) {
      constexpr int M = decltype(count)::count;
      const T* from[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        from[m] = Cell::template operand<Phase>(f, lines[first + m]);
        if (f.training) fetch_reserve<Cell::traits.reserve_blocks>(f, lines[first + m], p);
      }
      a.add(f, s, lines + first, p, from, first);
    });
    Cell::template forward<T, Phase, Whole, On>(f, s, lines, int(n), p, a);
  }
}

// Whole panels of a row alone, several in a tile. To the cell they are the same units of as many rows.
template <class T, class Cell, int Phase>
void step_row(const Forward<T>& f, int64_t s, const Line<T>& row, Range panels) {
  const T* operand = Cell::template operand<Phase>(f, row);
  for (int64_t p = panels.begin; p < panels.end; p += cell_rows) {
    const int64_t n = panels.end - p < cell_rows ? panels.end - p : cell_rows;
    Line<T> lines[cell_rows];
    for (int64_t i = 0; i < n; ++i) lines[i] = row.from_unit(i * lanes<T>);
    typename Cell::template Sums<T, Phase, true> a(f, p);
    for_row_tiles<3>(0, n, [&](auto count, int64_t first) __attribute__((always_inline)) {
      constexpr int M = decltype(count)::count;
      const T* from[M];
      for (int m = 0; m < M; ++m) from[m] = operand;
      a.template add<M, true>(f, s, lines + first, p + first, from, first);
    });
    Cell::template forward<T, Phase, true, false>(f, s, lines, int(n), p, a);
  }
}

template <class T, class Cell, int Phase, bool On>
void step(const Forward<T>& f, int64_t s, Rows rows, Range panels) {
  for (int64_t i = 0; i < rows.count && !f.by_units; ++i) f.table[rows(i)] = f.line(s, rows(i));
  int64_t p = panels.begin;
  if constexpr (!On)
    if (rows.count == 1) {
      const int64_t whole = f.hidden / lanes<T>, end = whole < panels.end ? whole : panels.end;
      step_row<T, Cell, Phase>(f, s, f.by_units ? f.line(s, rows(0)) : f.table[rows(0)], {p, end});
      p = p < end ? end : p;
    }
  for (; p < panels.end; ++p) {
    if (f.panels.units(p) == lanes<T>)
      step_panel<T, Cell, Phase, true, On>(f, s, rows, p);
    else
      step_panel<T, Cell, Phase, false, On>(f, s, rows, p);
  }
}

// The row of h, from unit `begin` on, as R will read it.
template <class T>
void write_operand(const Forward<T>& f, int64_t s, int64_t b, const T* h, Range units) {
  T* to = f.operands(s & 1, b);
  if (f.precision != full) {
    lower_row(h + units.begin, units.end - units.begin, f.precision, to + packed_depth(units.begin, f.precision));
    return;
  }
  for (int64_t j = units.begin; j < units.end; j += lanes<T>) {
    const int64_t left = units.end - j;
    store(to + j, load(h + j, left) * load(f.extras.state_mask(0, b) + j, left), left);
  }
}

// What follows the cell's equations at the end of step s: the projection, zoneout of h, and h as R reads it.
template <class T>
__attribute__((noinline)) void finish_step(const Forward<T>& f, int64_t s, Rows rows, Range units, const Team& team) {
  if (f.shown.data) {
    const Strips<T> strips(f.state);
    const Range mine = f.by_units ? share(strips.count(), team) : Range{0, strips.count()};
    const auto shown = [&](int64_t i) { return f.shown(s, rows(i)); };
    const auto y = [&](int64_t i) { return f.y(s, rows(i)); };
    if (f.by_units) team.barrier();
    for (int64_t strip = mine.begin; strip < mine.end; ++strip)
      multiply_strip<T>(strips, strip, 0, rows.count, f.hidden, lines<const T>(shown),
                        f.projection + strips.offset(strip, f.hidden), lines<T>(y), false);
    const int64_t end = mine.end * strips.width;
    units = {mine.begin * strips.width, end < f.state ? end : f.state};
  }
  const double rate = f.extras.zoneout_h;
  for (int64_t i = 0; i < rows.count; ++i) {
    const int64_t b = rows(i);
    T* h = f.y(s, b);
    if (rate > 0)
      for (int64_t j = units.begin; j < units.end; j += lanes<T>) {
        const int64_t left = units.end - j;
        const Vec<T> fresh = load(h + j, left), old = load(f.h(s, b) + j, left);
        store(h + j, blended<T>(f.extras.kept(rate, false, s, b, j, f.state), old, fresh), left);
      }
    if (f.operands.data) write_operand(f, s + 1, b, h, units);
  }
}

template <class T>
void run_steps(const Forward<T>& f, const Team& team) {
  // Rows of different lengths are dealt out in turn, so that every thread has long ones and short ones.
  const Range mine = f.by_units || f.ragged.order ? Range{0, 0} : share(f.batch, team);
  const Range panels = f.by_units ? share(f.panels.count(), team) : Range{0, f.panels.count()};
  const int64_t width = panels.end * lanes<T>;
  const Range units{panels.begin * lanes<T>, width < f.hidden ? width : f.hidden};
  const auto rows_at = [&](int64_t s) {
    const int64_t alive = f.ragged.alive(s);
    if (f.by_units) return Rows{alive, 0, 1};
    if (!f.ragged.order) return Rows{mine.end - mine.begin, mine.begin, 1};
    return Rows{(alive - team.member + team.size - 1) / team.size, team.member, team.size};
  };
  if (f.operands.data && f.first < f.last) {
    const Rows rows = rows_at(f.first);
    const Range all = f.by_units ? share(rows.count, team) : Range{0, rows.count};
    for (int64_t i = all.begin; i < all.end; ++i)
      write_operand(f, f.first, rows(i), f.h(f.first, rows(i)), {0, f.state});
    if (f.by_units) team.barrier();
  }
  for (int64_t s = f.first; s < f.last; ++s) {
    const Rows rows = rows_at(s);
    if (f.chunk > 0 && (s - f.first) % f.chunk == 0) {
      const int64_t end = s + f.chunk < f.last ? s + f.chunk : f.last;
      if (f.lowered) lower_inputs(f, s, end, rows, team);
      if (f.projected) f.steps_of_cell.project(f, s, end, rows, panels);
    }
    f.steps_of_cell.phase[0](f, s, rows, panels);
    if (f.steps_of_cell.phase[1]) {
      if (f.by_units) team.barrier();
      f.steps_of_cell.phase[1](f, s, rows, panels);
    }
    if (f.mode != plain || f.operands.data) finish_step(f, s, rows, units, team);
    if (f.by_units) team.barrier();
  }
}

// The last states; 0 where a row has no step, in y and in what a training pass leaves.
template <class T>
void finish(const Forward<T>& f, int64_t gate_blocks, const Team& team) {
  const Range mine = share(f.batch, team);
  for (int64_t b = mine.begin; b < mine.end; ++b) {
    const int64_t length = f.ragged.order ? f.ragged.length[b] : f.steps, row = f.ragged.row(b);
    const int64_t end = length < f.last ? length : f.last, begin = end > f.first ? end : f.first;
    const auto copy = [](const T* from, int64_t width, T* to) {
      for (int64_t j = 0; j < width; ++j) to[j] = from[j];
    };
    if (f.h_n) copy(f.h(end, b), f.state, f.h_n + row * f.state);
    if (f.c_n) copy(end > f.first ? f.cells(end - 1, b) : f.c_0(0, b), f.hidden, f.c_n + row * f.hidden);
    for (int64_t s = begin; s < f.last && f.ragged.order; ++s) {
      // Counted in the layer's direction a missing step comes after the row's last one; in y it is behind the row.
      T* y = f.y.packed ? nullptr : f.y.step < 0 ? f.y(-1 - (s - length), b) : f.y(s, b);
      for (int64_t j = 0; y && j < f.state; ++j) y[j] = T(0);
      if (!f.training) continue;
      T* gates = f.gates.step < 0 ? f.gates(-1 - (s - length), b) : f.gates(s, b);
      for (int64_t j = 0; f.gates.data && j < gate_blocks * f.hidden; ++j) gates[j] = T(0);
      T* cells = f.cells.step < 0 ? f.cells(-1 - (s - length), b) : f.cells(s, b);
      for (int64_t j = 0; f.cells.data && j < f.hidden; ++j) cells[j] = T(0);
    }
  }
}

// Weights of a normalised layer, as its products read them.
template <class T>
void pack_normalized(const Forward<T>& f, const Team& team) {
  const T *W = static_cast<const T*>(f.weights.W), *R = static_cast<const T*>(f.weights.R);
  const int64_t H = f.hidden, P = f.state, first = f.cell.phases == 2 ? 2 * H : f.cell.gates * H;
  pack_transposed(W, f.cell.gates * H, f.inputs, f.W_columns, team);
  pack_transposed(R, first, P, f.R_columns, team);
  if (f.cell.phases == 2) pack_transposed(R + first * P, H, P, f.R_columns + Strips<T>(first).size(P), team);
}

template <class T>
void forward(const Forward<T>& f, const Team& team) {
  if (f.repack) {
    const Range mine = share(f.panels.count(), team);
    for (int64_t p = mine.begin; p < mine.end; ++p)
      pack_panel(f.panels, f.weights, f.inputs, f.state, f.precision, f.cell, p, f.repack);
  }
  if (f.mode == normalized) pack_normalized(f, team);
  if (f.projection) pack_transposed(static_cast<const T*>(f.weights.projection), f.state, f.hidden, f.projection, team);
  if (f.repack || f.projection || f.mode == normalized) team.barrier();
  run_steps(f, team);
  if (f.by_units || f.ragged.order) team.barrier();
  finish(f, f.cell.reserve_blocks, team);
}

}  // namespace
#endif
