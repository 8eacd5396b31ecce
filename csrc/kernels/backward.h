// The backward pass of one layer in one direction, for any cell.
//
// Steps are taken from the last to the first in chunks. Within a chunk, each step turns dh and dc into da, the gradient
// of the sums before the activations, and  dh = da R  carries it one step back. Then, for the whole chunk at once,
//   dW += daᵀ x    dR += daᵀ h    db += Σ da    dx = da W
// which are products of depth chunk * B. `da` is a row of blocks of H, one per gate; a reset-after GRU has a fourth,
// because its candidate reaches W x and R h through different factors. Options add blocks: terms of the gradients of
// peephole weights, what a projection read, and at the end of the row the gradient of what it gave.
//
// Every sum has one fixed order: weight gradients are shared among threads by output elements, never by terms.
#ifndef CAROUSEL_KERNELS_BACKWARD_H
#define CAROUSEL_KERNELS_BACKWARD_H

#include "forward.h"

namespace {

template <class T>
struct Backward;

// Where one row of one step lies.
template <class T>
struct BackLine {
  const T *gates, *h, *y, *c, *cells;  // h and c before the step, y and cells after it
  const T *dh, *dy;                    // gradient of the output: their sum, or dh where dy is null
  T* carried;                          // of h, past the gates
  T *dc, *da;

  CAROUSEL_INLINE Vec<T> output_gradient(int64_t j, int64_t left) const {
    return dy ? load(dh + j, left) + load(dy + j, left) : load(dh + j, left);
  }
  CAROUSEL_INLINE void carry(int64_t j, Vec<T> gradient, int64_t left) const { store(carried + j, gradient, left); }
  CAROUSEL_INLINE void carry_more(int64_t j, Vec<T> gradient, int64_t left) const {
    store(carried + j, load(carried + j, left) + gradient, left);
  }
};

// Rows and columns of one member within a step. Where threads share the columns they do so in whole strips.
struct Part {
  Rows rows;
  Range units, states;
};

template <class T>
struct Backward {
  Traits cell;
  Mode mode;
  Places at;
  // From the gradient of h and c after step s to that before it; da of the step is left behind.
  void (*step)(const Backward<T>& f, int64_t s, const Part& part, const Team& team);
  int64_t steps, first, last, batch, inputs, hidden, state;
  int64_t blocks, peephole_block, shown_block;  // of H in a row of da; 0: no such block
  Ragged ragged;
  carousel_weights weights;
  Sequence<const T> x, y, h_0, c_0, gates, cells, dy;
  const T *dh_n, *dc_n;
  Sequence<T> dx;
  T *dh_0, *dc_0, *dW, *dR, *db_W, *db_R, *dprojection, *dpeephole;
  T *dgain_x, *dgain_h, *dgain_c, *dshift_c;
  Sequence<const T> x_hat, h_hat, inverses;  // of a normalised layer, from the forward pass
  T* row_buffer;                             // [B, 3H], likewise
  Extras<T> extras;

  T *dh, *dc;          // [B, P], [B, H]: carried from step to step
  T *dh_here;          // [B, H], of an optioned step: the gradient of the cell's output
  T *carried;          // [B, H], likewise: what of it goes past the gates
  T *kept, *back;      // [B, P], likewise: what zoneout takes past the cell; da R
  T *dreset;           // [B, H]: gradient of r ∘ h (reset-before GRU)
  T *da;               // [chunk * B, width]
  T *da_tiles;         // a block of it, transposed into tiles of rows, where it is too large to be read as it lies
  T *db;               // [sums() * H]
  T *W_strips, *R_strips, *projection_strips;        // by rows of gates, or of P, in strips of columns
  T *x_strips, *h_strips, *rh_strips, *shown_strips;  // rows of a chunk in strips of columns
  int64_t chunk;
  bool by_units;

  bool projected() const { return shown_block > 0; }
  // Sums over rows: of the blocks of da, and of a normalised layer's gains.
  int64_t sums() const { return blocks + (mode == normalized ? 2 * cell.gates : 0); }
  int64_t width() const { return blocks * hidden + (projected() ? state : 0); }
  const T* h(int64_t s, int64_t b) const { return s > 0 ? y(s - 1, b) : h_0(0, b); }
  const T* c(int64_t s, int64_t b) const { return s > first ? cells(s - 1, b) : c_0(0, b); }
  int64_t chunk_start(int64_t s) const { return first + (s - first) / chunk * chunk; }
  T* da_row(int64_t s, int64_t b) const { return da + (ragged.slots(chunk_start(s), s) + b) * width(); }
  // The gradient of the k-th row that a chunk starting at s0 holds, and that row's step and place in the batch.
  int64_t step_of(int64_t s0, int64_t k) const {
    if (!ragged.order) return s0 + k / batch;
    int64_t low = s0, high = s0 + chunk < last ? s0 + chunk : last;  // slots(s0, low) <= k < slots(s0, high)
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (ragged.slots(s0, middle) <= k ? low : high) = middle;
    }
    return low;
  }
  int64_t row_of(int64_t s0, int64_t s, int64_t k) const { return k - ragged.slots(s0, s); }

  BackLine<T> line(int64_t s, int64_t b) const {
    const bool here = dh_here != nullptr;
    return {gates.data ? gates(s, b) : nullptr,
            h(s, b),
            y(s, b),
            cells.data ? c(s, b) : nullptr,
            cells.data ? cells(s, b) : nullptr,
            (here ? dh_here : dh) + b * hidden,
            here ? nullptr : dy(s, b),
            (here ? carried : dh) + b * hidden,
            dc + b * hidden,
            da_row(s, b)};
  }
};

// Strips of the weight rows that belong to `blocks`, in their order; behind them the few columns, one by one. The team
// shares the rows.
template <class T>
void pack_weights(const T* weights, int64_t H, int64_t columns, Blocks blocks, T* to, const Team& team) {
  const int64_t rest = few<T>(columns), K = blocks.count * H;
  const Strips<T> strips(columns - rest);
  const auto row = [&](int64_t k) { return weights + (blocks.gate[k / H] * H + k % H) * columns; };
  const Range mine = share(K, team);
  for (int64_t strip = 0; strip < strips.count(); ++strip)
    for (int64_t k = mine.begin; k < mine.end; ++k)
      pack_row(strips, strip, row(k), to + strips.offset(strip, K) + k * strips.step(strip));
  for (int64_t j = 0; j < rest; ++j)
    for (int64_t k = mine.begin; k < mine.end; ++k) to[strips.size(K) + j * K + k] = row(k)[strips.columns + j];
}

// c(row) (+)= a(row) packed, for rows [begin, end) and columns `mine` (whole strips) of `columns`.
template <class T>
void multiply_packed(int64_t columns, Range mine, int64_t begin, int64_t end, int64_t K, Lines<const T> a,
                     const T* packed, Lines<T> c, bool accumulate) {
  const int64_t rest = few<T>(columns);
  const Strips<T> strips(columns - rest);
  for (int64_t strip = mine.begin / strips.width; strip < strips.count() && strip * strips.width < mine.end; ++strip)
    multiply_strip<T>(strips, strip, begin, end, K, a, packed + strips.offset(strip, K), c, accumulate);
  const auto last = [&](int64_t i) { return c(i) + strips.columns; };
  if (rest > 0 && mine.begin < mine.end && mine.end == columns)
    multiply_few<T>(rest, begin, end, K, a, packed + strips.size(K), lines<T>(last), accumulate);
}

// to[b] (+)= da[b, from column `at` on, K of them] packed, for rows of step s and columns `mine` of `columns`.
template <class T>
void multiply_da(const Backward<T>& f, int64_t s, Rows rows, Range mine, int64_t columns, int64_t at, int64_t K,
                 const T* packed, T* to, bool accumulate) {
  const auto da = [&](int64_t i) { return f.da_row(s, rows(i)) + at; };
  const auto target = [&](int64_t i) { return to + rows(i) * columns; };
  multiply_packed<T>(columns, mine, 0, rows.count, K, lines<const T>(da), packed, lines<T>(target), accumulate);
}

// Rows of a chunk, row(k) for k in [0, K), times mask(k) where there is one, in strips; behind them the few columns, row
// by row. The team shares the rows.
template <class T>
void pack_rows(int64_t columns, int64_t K, Lines<const T> row, Lines<const T> mask, T* to, const Team& team) {
  const int64_t rest = few<T>(columns);
  const Strips<T> strips(columns - rest);
  const Range mine = share(K, team);
  for (int64_t k = mine.begin; k < mine.end; ++k) {
    const T *from = row(k), *factor = mask(k);
    for (int64_t strip = 0; strip < strips.count(); ++strip)
      pack_row(strips, strip, from, to + strips.offset(strip, K) + k * strips.step(strip), factor);
    for (int64_t j = 0, c = strips.columns; j < rest; ++j, ++c)
      to[strips.size(K) + k * rest + j] = factor ? from[c] * factor[c] : from[c];
  }
}

constexpr int tile_rows = rows_per_tile(4);

// da_tiles[tile][k][tile_rows] = daᵀ, columns `at` + `columns` of da; a few rows at a time, which stay in the cache.
template <class T>
void pack_da(const Backward<T>& f, int64_t K, int64_t at, Range columns) {
  constexpr int64_t block = 8;
  const int64_t width = f.width();
  for (int64_t first = 0; first < K; first += block) {
    const int64_t end = first + block < K ? first + block : K;
    for (int64_t u = columns.begin; u < columns.end; u += tile_rows) {
      const int64_t height = columns.end - u < tile_rows ? columns.end - u : tile_rows;
      const T* from = f.da + at + u;
      T* to = f.da_tiles + u * K;
      if (height == tile_rows)  // a size that the compiler knows is copied in a register or two
        for (int64_t k = first; k < end; ++k)
          __builtin_memcpy(to + k * tile_rows, from + k * width, tile_rows * sizeof(T));
      else
        for (int64_t k = first; k < end; ++k)
          for (int64_t m = 0; m < height; ++m) to[k * height + m] = from[k * width + m];
    }
  }
}

// The few columns of a weight gradient. Here they are the tile's rows, and the units its columns: da lies so.
template <class T>
void add_few_columns(const Backward<T>& f, int64_t K, int64_t at, Range mine, int64_t columns, const T* packed, T* dw,
                     bool accumulate) {
  const int64_t rest = few<T>(columns);
  for (int64_t u = mine.begin; u < mine.end; u += Strips<T>::width) {
    const int64_t units = mine.end - u < Strips<T>::width ? mine.end - u : Strips<T>::width;
    with_registers(int(ceil_div(units, lanes<T>)), [&](auto registers) __attribute__((always_inline)) {
      constexpr int N = decltype(registers)::count;
      for_row_tiles<rows_per_tile(N)>(0, rest, [&](auto count, int64_t j) __attribute__((always_inline)) {
        constexpr int M = decltype(count)::count;
        Product<T, M> product{K, {}, rest, f.da + at + u, f.width()};
        for (int m = 0; m < M; ++m) product.a[m] = packed + j + m;
        Sums<T, M, N> sums{};
        const auto each = [&](auto&& exchange) __attribute__((always_inline)) {
          for (int m = 0; m < M; ++m)
            for (int64_t l = 0; l < units; ++l)
              exchange(sums.data[m * N * lanes<T> + l], dw[(u + l + 1) * columns - rest + j + m]);
        };
        if (accumulate) each([](T& sum, T before) { sum = before; });
        sums.add(product);
        each([](T sum, T& after) { after = sum; });
      });
    });
  }
}

// dw[u][column] (+)= Σ_k da[k][at + u] rows[k][column], u in `mine`, of which the tiles hold that block.
template <class T>
__attribute__((noinline)) void add_weight_gradient(const Backward<T>& f, int64_t K, int64_t at, Range mine,
                                                   int64_t columns, const T* rows, T* dw, bool accumulate) {
  const Strips<T> strips(columns - few<T>(columns));
  for (int64_t strip = 0; strip < strips.count(); ++strip) {
    const int64_t first = strip * strips.width, left = columns - first, step = strips.step(strip);
    const T* b = rows + strips.offset(strip, K);
    with_registers(strips.registers(strip), [&](auto registers) __attribute__((always_inline)) {
      constexpr int N = decltype(registers)::count;
      // One tile at a time: for_row_tiles only turns its height into a constant.
      for (int64_t u = mine.begin; u < mine.end; u += tile_rows) {
        const int64_t end = u + tile_rows < mine.end ? u + tile_rows : mine.end;
        for_row_tiles<tile_rows>(u, end, [&](auto count, int64_t) __attribute__((always_inline)) {
          constexpr int M = decltype(count)::count;
          Product<T, M> product{K, {}, f.da_tiles ? M : f.width(), b, step};
          T* to[M];
          for (int m = 0; m < M; ++m) {
            product.a[m] = (f.da_tiles ? f.da_tiles + u * K : f.da + at + u) + m;
            to[m] = dw + (u + m) * columns + first;
            if (end < mine.end)  // where the next tile reads and writes
              for (int v = 0; v < N; ++v) __builtin_prefetch(to[m] + tile_rows * columns + v * lanes<T>, 1);
          }
          Sums<T, M, N> sums;
          sums.start(to, left, accumulate);
          sums.add(product);
          sums.write(to, left);
        });
      }
    });
  }
  if (strips.columns < columns) add_few_columns(f, K, at, mine, columns, rows + strips.size(K), dw, accumulate);
}

// The same for the block's gate, where it is among `blocks` of a weight matrix.
template <class T>
void add_gate_gradient(const Backward<T>& f, int64_t K, Range units, int block, Blocks blocks, int64_t columns,
                       const T* rows, T* dw, bool accumulate) {
  const int q = block - blocks.first;
  if (q < 0 || q >= blocks.count) return;
  T* const gate = dw + blocks.gate[q] * f.hidden * columns;
  add_weight_gradient(f, K, block * f.hidden, units, columns, rows, gate, accumulate);
}

// to[j] (+)= Σ_k row(k)(j, left), j in `mine`; several registers of a row at a time, for the rows lie far apart.
template <class T, class Row>
CAROUSEL_INLINE void add_columns(T* to, int64_t K, Range mine, bool accumulate, Row&& row) {
  constexpr int64_t N = 8, wide = N * lanes<T>;
  int64_t j = mine.begin;
  for (; j + wide <= mine.end; j += wide) {
    Vec<T> sums[N]{};
#pragma GCC unroll 8
    for (int v = 0; v < N && accumulate; ++v) sums[v] = load(to + j + v * lanes<T>);
    for (int64_t k = 0; k < K; ++k) {
      const auto at = row(k);
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) sums[v] += at(j + v * lanes<T>, lanes<T>);
    }
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(to + j + v * lanes<T>, sums[v]);
  }
  for (; j < mine.end; j += lanes<T>) {
    const int64_t left = mine.end - j;
    Vec<T> sum = accumulate ? load(to + j, left) : Vec<T>{};
    for (int64_t k = 0; k < K; ++k) sum += row(k)(j, left);
    store(to + j, sum, left);
  }
}

// db (+)= Σ_k da[k], columns of `mine`.
template <class T>
void add_bias_gradient(const Backward<T>& f, int64_t K, Range mine, bool accumulate) {
  add_columns(f.db, K, mine, accumulate, [&](int64_t k) __attribute__((always_inline)) {
    const T* row = f.da + k * f.width();
    return [row](int64_t j, int64_t left) __attribute__((always_inline)) { return load(row + j, left); };
  });
}

// The gradient of gains of a normalised layer: db of a block (+)= Σ_k dy[k] ∘ ŝ[k].
template <class T>
void add_gain_gradient(const Backward<T>& f, int64_t s0, int64_t K, int64_t dy, const Sequence<const T>& hats, int64_t to,
                       Range mine, bool accumulate) {
  add_columns(f.db + to * f.hidden, K, mine, accumulate, [&](int64_t k) __attribute__((always_inline)) {
    const int64_t s = f.step_of(s0, k);
    const T *row = f.da + k * f.width() + dy * f.hidden, *hat = hats(s, f.row_of(s0, s, k));
    return [row, hat](int64_t j, int64_t left) __attribute__((always_inline)) { return load(row + j, left) * load(hat + j, left); };
  });
}

template <class T>
void write_bias_gradient(const Backward<T>& f, Blocks blocks, Range units, T* db) {
  for (int q = 0; q < blocks.count; ++q)
    for (int64_t u = units.begin; u < units.end; ++u)
      db[blocks.gate[q] * f.hidden + u] = f.db[(blocks.first + q) * f.hidden + u];
}

template <class T>
void fill(T* to, Range range) {
  for (int64_t k = range.begin; to && k < range.end; ++k) to[k] = T(0);
}

// What the step before will read of a row, on its way to the cache while this step is computed.
template <int Blocks, class T>
CAROUSEL_INLINE void fetch_before(const Backward<T>& f, const BackLine<T>& row, int64_t j) {
  if (row.gates)
#pragma GCC unroll 4
    for (int g = 0; g < Blocks; ++g) __builtin_prefetch(row.gates + g * f.hidden + j);
  if (row.c) __builtin_prefetch(row.c + j);
  __builtin_prefetch(row.h + j);
  if (row.dy) __builtin_prefetch(row.dy + j);
}

template <class T, class Cell, int Phase, bool On>
void cells_back(const Backward<T>& f, int64_t s, const Part& part, const Team& team) {
  for (int64_t i = 0; i < part.rows.count; ++i) {
    const int64_t b = part.rows(i), end = part.units.end;
    const BackLine<T> row = f.line(s, b), before = f.line(s > f.first ? s - 1 : s, b);
    const auto units = [&](int64_t j, int64_t left) __attribute__((always_inline)) {
      if constexpr (Phase == 0) fetch_before<Cell::traits.reserve_blocks>(f, before, j);
      Cell::template backward<T, Phase, On>(f, s, b, row, j, left);
    };
    int64_t j = part.units.begin;
    for (; j + lanes<T> <= end; j += lanes<T>) units(j, lanes<T>);
    if (j < end) units(j, end - j);
  }
  if (f.by_units) team.barrier();
}

// Before an optioned step: dh_here, the gradient of what the cell gave, from that of h. Zoneout passes a part of it by;
// a projection is multiplied through.
template <class T>
void before_step(const Backward<T>& f, int64_t s, const Part& part, const Team& team) {
  const double rate = f.extras.zoneout_h;
  for (int64_t i = 0; i < part.rows.count; ++i) {
    const int64_t b = part.rows(i);
    for (int64_t j = part.states.begin; j < part.states.end; j += lanes<T>) {
      const int64_t left = part.states.end - j, at = b * f.state + j;
      Vec<T> dh = load(f.dh + at, left) + load(f.dy(s, b) + j, left), kept{};
      if (rate > 0) {
        kept = f.extras.kept(rate, false, s, b, j, f.state) * dh;
        dh -= kept;
      }
      store(f.kept + at, kept, left);
      store((f.projected() ? f.da_row(s, b) + f.blocks * f.hidden : f.dh_here + b * f.hidden) + j, dh, left);
    }
  }
  if (!f.projected()) return;
  if (f.by_units) team.barrier();
  multiply_da(f, s, part.rows, part.units, f.hidden, f.blocks * f.hidden, f.state, f.projection_strips, f.dh_here, false);
}

// After it: dh of the step before, from da R and what went past the cell.
template <class T>
void after_step(const Backward<T>& f, const Part& part) {
  for (int64_t i = 0; i < part.rows.count; ++i) {
    const int64_t b = part.rows(i);
    for (int64_t j = part.states.begin; j < part.states.end; j += lanes<T>) {
      const int64_t left = part.states.end - j, at = b * f.state + j;
      const Vec<T> back = Equations<T, true>{f.extras}.masked_state(load(f.back + at, left), b, j, left);
      const Vec<T> past = f.projected() ? Vec<T>{} : load(f.carried + at, left);
      store(f.dh + at, back + past + load(f.kept + at, left), left);
    }
  }
}

template <class T, class Cell, bool On>
void step_back(const Backward<T>& f, int64_t s, const Part& part, const Team& team) {
  constexpr Blocks reset = Cell::traits.recurrent;
  const int64_t H = f.hidden, P = f.state, K = reset.count * H;
  if constexpr (On) before_step(f, s, part, team);
  cells_back<T, Cell, 0, On>(f, s, part, team);
  if constexpr (Cell::traits.phases == 2) {
    constexpr Blocks candidate = Cell::traits.candidate;
    const T* R_candidate = f.R_strips + Strips<T>(P).size(K);
    multiply_da(f, s, part.rows, part.states, P, candidate.first * H, candidate.count * H, R_candidate, f.dreset, false);
    cells_back<T, Cell, 1, On>(f, s, part, team);
  }
  multiply_da(f, s, part.rows, part.states, P, reset.first * H, K, f.R_strips, On ? f.back : f.dh, !On);
  if constexpr (On) after_step(f, part);
}

template <class T>
void chunk_gradients(const Backward<T>& f, int64_t s0, int64_t s1, bool accumulate, const Team& team) {
  const int64_t K = f.ragged.slots(s0, s1), H = f.hidden;
  const Range units = share(H, team, tile_rows), states = share(f.state, team, tile_rows);
  const auto step = [&](int64_t k) { return f.step_of(s0, k); };
  const auto row = [&](int64_t s, int64_t k) { return f.row_of(s0, s, k); };
  const auto x = [&](int64_t k) { const int64_t s = step(k); return f.x(s, row(s, k)); };
  const auto h = [&](int64_t k) { const int64_t s = step(k); return f.h(s, row(s, k)); };
  const auto q = [&](int64_t k) { const int64_t s = step(k); return f.gates(s, row(s, k)) + 3 * f.hidden; };
  const auto dx = [&](int64_t k) { const int64_t s = step(k); return f.dx(s, row(s, k)); };
  const auto da = [&](int64_t k) { return f.da + k * f.width() + f.at.input.first * f.hidden; };
  const auto shown = [&](int64_t k) { return f.da + k * f.width() + f.shown_block * f.hidden; };
  const auto mask = [&](int64_t k) { return f.extras.state_mask(0, row(step(k), k)); };
  const auto none = [](int64_t) -> const T* { return nullptr; };
  const Lines<const T> no_mask = lines<const T>(none), state_mask = f.extras.state_mask.data ? lines<const T>(mask) : no_mask;
  if (f.dW) pack_rows(f.inputs, K, lines<const T>(x), no_mask, f.x_strips, team);
  if (f.dR) {
    pack_rows(f.state, K, lines<const T>(h), state_mask, f.h_strips, team);
    if (f.cell.phases == 2) pack_rows(H, K, lines<const T>(q), no_mask, f.rh_strips, team);
  }
  if (f.dprojection) pack_rows(H, K, lines<const T>(shown), no_mask, f.shown_strips, team);
  if (f.dx.data) {
    const Range mine = share(K, team);
    multiply_packed<T>(f.inputs, {0, f.inputs}, mine.begin, mine.end, f.at.input.count * H, lines<const T>(da), f.W_strips,
                       lines<T>(dx), false);
  }
  if (f.db_W || f.db_R || f.dpeephole || f.mode == normalized) {
    const int64_t first = f.mode == normalized ? f.at.bias_W.first * H : 0;  // what is before it is of products only
    const Range mine = share(f.blocks * H - first, team, lanes<T>);
    add_bias_gradient(f, K, {first + mine.begin, first + mine.end}, accumulate);
  }
  if (f.mode == normalized) {
    const int64_t G = f.cell.gates;
    const Range mine = share(G * H, team, lanes<T>);
    if (f.dgain_x) add_gain_gradient(f, s0, K, f.at.bias_W.first, f.x_hat, f.blocks, mine, accumulate);
    if (f.dgain_h) add_gain_gradient(f, s0, K, f.at.bias_R.first, f.h_hat, f.blocks + G, mine, accumulate);
  }
  team.barrier();  // the strips are complete
  for (int block = 0; block < f.at.products && (f.dW || f.dR); ++block) {
    if (f.da_tiles) pack_da(f, K, block * H, units);
    if (f.dW) add_gate_gradient(f, K, units, block, f.at.input, f.inputs, f.x_strips, f.dW, accumulate);
    if (f.dR) {
      add_gate_gradient(f, K, units, block, f.at.recurrent, f.state, f.h_strips, f.dR, accumulate);
      if (f.cell.phases == 2)
        add_gate_gradient(f, K, units, block, f.at.candidate, f.state, f.rh_strips, f.dR, accumulate);
    }
  }
  if (f.dprojection && f.da_tiles) {
    team.barrier();  // the tiles of other members, whose units are not these states
    pack_da(f, K, f.blocks * H, states);
  }
  if (f.dprojection) add_weight_gradient(f, K, f.blocks * H, states, H, f.shown_strips, f.dprojection, accumulate);
}

template <class T>
void steps_back(const Backward<T>& f, const Team& team) {
  const Range rows = share(f.batch, team);
  const auto part_at = [&](int64_t s) {
    const int64_t alive = f.ragged.alive(s);
    if (f.by_units)
      return Part{{alive, 0, 1}, share(f.hidden, team, Strips<T>::width), share(f.state, team, Strips<T>::width)};
    const Range units{0, f.hidden}, states{0, f.state};
    if (!f.ragged.order) return Part{{rows.end - rows.begin, rows.begin, 1}, units, states};
    return Part{{(alive - team.member + team.size - 1) / team.size, team.member, team.size}, units, states};
  };
  bool accumulate = false;
  for (int64_t s1 = f.last; s1 > f.first;) {
    const int64_t s0 = f.chunk_start(s1 - 1);
    for (int64_t s = s1; s-- > s0;) f.step(f, s, part_at(s), team);
    team.barrier();  // da of the chunk is complete
    if (f.ragged.slots(s0, s1) > 0) {
      chunk_gradients(f, s0, s1, accumulate, team);
      accumulate = true;
    }
    team.barrier();  // before da and the strips are written again
    s1 = s0;
  }
  if (accumulate) return;
  const Range nothing{0, 0}, gates = team.member == 0 ? Range{0, f.cell.gates * f.hidden} : nothing;  // no row at all
  fill(f.dW, {gates.begin * f.inputs, gates.end * f.inputs});
  fill(f.dR, {gates.begin * f.state, gates.end * f.state});
  fill(f.db, team.member == 0 ? Range{0, f.sums() * f.hidden} : nothing);
  fill(f.dprojection, team.member == 0 ? Range{0, f.state * f.hidden} : nothing);
  team.barrier();
}

// dx is 0 where a row has no step.
template <class T>
void clear_missing(const Backward<T>& f, Range rows) {
  if (!f.ragged.order || !f.dx.data || f.dx.packed) return;
  for (int64_t b = rows.begin; b < rows.end; ++b) {
    const int64_t length = f.ragged.length[b];
    for (int64_t s = length > f.first ? length : f.first; s < f.last; ++s) {
      T* dx = f.dx.step < 0 ? f.dx(-1 - (s - length), b) : f.dx(s, b);  // as in the forward pass
      for (int64_t j = 0; j < f.inputs; ++j) dx[j] = T(0);
    }
  }
}

template <class T>
void backward(const Backward<T>& f, const Team& team) {
  const int64_t H = f.hidden, P = f.state;
  const T *R = static_cast<const T*>(f.weights.R), *W = static_cast<const T*>(f.weights.W);
  pack_weights(R, H, P, f.at.recurrent, f.R_strips, team);
  if (f.cell.phases == 2)
    pack_weights(R, H, P, f.at.candidate, f.R_strips + Strips<T>(P).size(f.at.recurrent.count * H), team);
  if (f.dx.data) pack_weights(W, H, f.inputs, f.at.input, f.W_strips, team);
  if (f.projected())
    pack_weights(static_cast<const T*>(f.weights.projection), P, H, Blocks{0, 1, {0}}, f.projection_strips, team);
  const Range mine = share(f.batch, team);
  const auto given = [&f](const T* state, int64_t width) {
    return [&f, state, width](int64_t b) { return state + f.ragged.row(b) * width; };
  };
  const auto carried = [](T* to, int64_t width) { return [to, width](int64_t b) { return to + b * width; }; };
  if (f.dh_n) copy_rows<T>(mine, P, given(f.dh_n, P), carried(f.dh, P));
  else fill(f.dh, {mine.begin * P, mine.end * P});
  if (f.dc_n) copy_rows<T>(mine, H, given(f.dc_n, H), carried(f.dc, H));
  else fill(f.dc, {mine.begin * H, mine.end * H});
  team.barrier();

  steps_back(f, team);

  clear_missing(f, mine);
  const auto wanted = [&f](T* state, int64_t width) {
    return [&f, state, width](int64_t b) { return state + f.ragged.row(b) * width; };
  };
  if (f.dh_0) copy_rows<T>(mine, P, carried(f.dh, P), wanted(f.dh_0, P));
  if (f.dc_0) copy_rows<T>(mine, H, carried(f.dc, H), wanted(f.dc_0, H));
  const Range units = share(H, team);
  if (f.db_W) write_bias_gradient(f, f.at.bias_W, units, f.db_W);
  if (f.db_R) {
    write_bias_gradient(f, f.at.bias_R, units, f.db_R);
    if (f.at.candidate_bias) write_bias_gradient(f, f.at.candidate, units, f.db_R);
  }
  const int G = f.cell.gates;
  if (f.dpeephole) write_bias_gradient(f, {int(f.peephole_block), G - 1, {0, 1, 2, 3}}, units, f.dpeephole);
  const NormBlocks at = norm_blocks(G, f.cell.has_cells, f.cell.one_bias);
  if (f.dgain_x) write_bias_gradient(f, {int(f.blocks), G, {0, 1, 2, 3}}, units, f.dgain_x);
  if (f.dgain_h) write_bias_gradient(f, {int(f.blocks) + G, G, {0, 1, 2, 3}}, units, f.dgain_h);
  if (f.dgain_c) write_bias_gradient(f, {at.gain_cell, 1, {0, 0, 0, 0}}, units, f.dgain_c);
  if (f.dshift_c) write_bias_gradient(f, {at.cell, 1, {0, 0, 0, 0}}, units, f.dshift_c);
}

}  // namespace
#endif
