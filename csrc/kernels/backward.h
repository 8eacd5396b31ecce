// The backward pass of one layer in one direction, for any cell.
//
// Steps are taken from the last to the first in chunks. Within a chunk, each step turns dh and dc into da, the gradient
// of the sums before the activations, and  dh = da R  carries it one step back. Then, for the whole chunk at once,
//   dW += daᵀ x    dR += daᵀ h    db += Σ da    dx = da W
// which are products of depth chunk * B. `da` is a row of blocks of H, one per gate; a reset-after GRU has a fourth,
// because its candidate reaches W x and R h through different factors.
//
// Every sum has one fixed order: weight gradients are shared among threads by output elements, never by terms.
#ifndef CAROUSEL_KERNELS_BACKWARD_H
#define CAROUSEL_KERNELS_BACKWARD_H

#include "math.h"
#include "sequence.h"

namespace {

template <class T>
struct Backward {
  int64_t steps, batch, inputs, hidden, blocks;
  carousel_weights weights;
  Sequence<const T> x, y, h_0, c_0, gates, cells, dy;
  Sequence<const T> dh_n, dc_n;
  Sequence<T> dx;
  T *dh_0, *dc_0, *dW, *dR, *db_W, *db_R;

  T *dh, *dc;          // [B, H]: carried from step to step
  T *dreset;           // [B, H]: gradient of r ∘ h (reset-before GRU)
  T *da;               // [chunk * B, blocks * H]
  T *da_tiles;         // the same, transposed into tiles of rows
  T *db;               // [blocks * H]
  T *W_strips, *R_strips;              // W and R by rows of gates, in strips of columns
  T *x_strips, *h_strips, *rh_strips;  // x, h and r ∘ h of a chunk, in strips of columns
  int64_t chunk;
  bool by_units;

  int64_t width() const { return blocks * hidden; }
  const T* h(int64_t s, int64_t b) const { return s > 0 ? y(s - 1, b) : h_0(0, b); }
  const T* c(int64_t s, int64_t b) const { return s > 0 ? cells(s - 1, b) : c_0(0, b); }
  T* da_row(int64_t s, int64_t b) const { return da + ((s % chunk) * batch + b) * width(); }
};

// A product of blocks [first, first + count) of da with the rows of the gates `gate[0..count)` of a weight matrix.
struct Blocks {
  int first, count;
  int gate[4];
};

// Strips of the weight rows that belong to `blocks`, in their order. The team shares the rows.
template <class T>
void pack_weights(const T* weights, int64_t H, int64_t columns, Blocks blocks, T* to, const Team& team) {
  const Strips<T> strips(columns);
  const int64_t K = blocks.count * H;
  const Range mine = share(K, team);
  for (int64_t strip = 0; strip < strips.count(); ++strip)
    for (int64_t k = mine.begin; k < mine.end; ++k)
      pack_row(strips, strip, weights + (blocks.gate[k / H] * H + k % H) * columns,
               to + strips.offset(strip, K) + k * strips.step(strip));
}

// to[row] (+)= da[row] weights, rows of step s, hidden units of `units` (whole strips).
template <class T>
void multiply_da(const Backward<T>& f, int64_t s, Range rows, Range units, Blocks blocks, const T* packed, T* to,
                 bool accumulate) {
  const Strips<T> strips(f.hidden);
  const int64_t K = blocks.count * f.hidden;
  for (int64_t strip = units.begin / strips.width; strip * strips.width < units.end; ++strip)
    multiply_strip<T>(strips, strip, rows.begin, rows.end, K, {f.da_row(s, 0) + blocks.first * f.hidden, 1, f.width(), 0},
                      packed + strips.offset(strip, K), {to, 1, f.hidden, 0}, accumulate);
}

// Rows of a chunk, row(k) for k in [0, K), in strips. The team shares the rows.
template <class T, class Row>
void pack_rows(int64_t columns, int64_t K, Row&& row, T* to, const Team& team) {
  const Strips<T> strips(columns);
  const Range mine = share(K, team);
  for (int64_t strip = 0; strip < strips.count(); ++strip)
    for (int64_t k = mine.begin; k < mine.end; ++k)
      pack_row(strips, strip, row(k), to + strips.offset(strip, K) + k * strips.step(strip));
}

constexpr int tile_rows = rows_per_tile(4);

// to[tile][k][tile_rows] = daᵀ, the hidden units of `units` in every block.
template <class T>
void pack_da(const Backward<T>& f, int64_t K, Range units) {
  for (int64_t block = 0; block < f.blocks; ++block) {
    T* to = f.da_tiles + block * f.hidden * K;
    for (int64_t u = units.begin; u < units.end; u += tile_rows) {
      const int64_t height = units.end - u < tile_rows ? units.end - u : tile_rows;
      const T* from = f.da + block * f.hidden + u;
      for (int64_t k = 0; k < K; ++k)
        for (int64_t m = 0; m < height; ++m) to[u * K + k * height + m] = from[k * f.width() + m];
    }
  }
}

// dw[gate * H + u][column] (+)= Σ_k da[k][block * H + u] rows[k][column], hidden units of `units`.
template <class T>
__attribute__((noinline)) void add_weight_gradient(const Backward<T>& f, int64_t K, Range units, Blocks blocks, int64_t columns, const T* rows,
                         T* dw, bool accumulate) {
  const Strips<T> strips(columns);
  for (int64_t strip = 0; strip < strips.count(); ++strip) {
    const int64_t first = strip * strips.width, left = columns - first, step = strips.step(strip);
    const T* b = rows + strips.offset(strip, K);
    with_registers(strips.registers(strip), [&](auto registers) __attribute__((always_inline)) {
      constexpr int N = decltype(registers)::count;
      for (int q = 0; q < blocks.count; ++q) {
        const T* tiles = f.da_tiles + (blocks.first + q) * f.hidden * K;
        T* out = dw + blocks.gate[q] * f.hidden * columns + first;
        // One tile at a time: for_row_tiles only turns its height into a constant.
        for (int64_t u = units.begin; u < units.end; u += tile_rows) {
          const int64_t end = u + tile_rows < units.end ? u + tile_rows : units.end;
          for_row_tiles<tile_rows>(u, end, [&](auto count, int64_t) __attribute__((always_inline)) {
            constexpr int M = decltype(count)::count;
            const T* a[M];
            T* to[M];
            for (int m = 0; m < M; ++m) {
              a[m] = tiles + u * K + m;
              to[m] = out + (u + m) * columns;
            }
            Sums<T, M, N> sums;
            sums.start(to, left, accumulate);
            tile<T, M, N>(K, a, M, b, step, sums.data);
            sums.write(to, left);
          });
        }
      }
    });
  }
}

// db (+)= Σ_k da[k], columns of `mine`.
template <class T>
void add_bias_gradient(const Backward<T>& f, int64_t K, Range mine, bool accumulate) {
  for (int64_t j = mine.begin; j < mine.end; j += lanes<T>) {
    const int64_t left = mine.end - j;
    Vec<T> sum = accumulate ? load(f.db + j, left) : Vec<T>{};
    for (int64_t k = 0; k < K; ++k) sum += load(f.da + k * f.width() + j, left);
    store(f.db + j, sum, left);
  }
}

template <class T>
void write_bias_gradient(const Backward<T>& f, Blocks blocks, Range units, T* db) {
  for (int q = 0; q < blocks.count; ++q)
    for (int64_t u = units.begin; u < units.end; ++u)
      db[blocks.gate[q] * f.hidden + u] = f.db[(blocks.first + q) * f.hidden + u];
}

template <class T>
void fill(T* to, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) to[k] = T(0);
}

template <class T, class Cell>
void step_back(const Backward<T>& f, int64_t s, Range rows, Range units, const Team& team) {
  const auto each = [&](auto phase) __attribute__((always_inline)) {
    for (int64_t b = rows.begin; b < rows.end; ++b)
      for (int64_t j = units.begin; j < units.end; j += lanes<T>)
        Cell::template backward<T, decltype(phase)::count>(f, s, b, j, units.end - j);
    if (f.by_units) team.barrier();
  };
  each(Rows<0>{});
  if constexpr (Cell::phases == 1) {
    multiply_da(f, s, rows, units, Cell::recurrent_blocks, f.R_strips, f.dh, true);
  } else {
    constexpr Blocks reset = Cell::recurrent_blocks, candidate = Cell::candidate_blocks;
    const T* R_candidate = f.R_strips + Strips<T>(f.hidden).size(reset.count * f.hidden);
    multiply_da(f, s, rows, units, candidate, R_candidate, f.dreset, false);
    each(Rows<1>{});
    multiply_da(f, s, rows, units, reset, f.R_strips, f.dh, true);
  }
}

template <class T, class Cell>
void chunk_gradients(const Backward<T>& f, int64_t s0, int64_t s1, bool accumulate, const Team& team) {
  const int64_t K = (s1 - s0) * f.batch;
  const auto step_of = [&](int64_t k) { return s0 + k / f.batch; };
  const auto row_of = [&](int64_t k) { return k % f.batch; };
  const Range units = share(f.hidden, team, tile_rows);
  if (f.dW || f.dR) pack_da(f, K, units);
  if (f.dW) pack_rows(f.inputs, K, [&](int64_t k) { return f.x(step_of(k), row_of(k)); }, f.x_strips, team);
  if (f.dR) {
    pack_rows(f.hidden, K, [&](int64_t k) { return f.h(step_of(k), row_of(k)); }, f.h_strips, team);
    if constexpr (Cell::phases == 2)
      pack_rows(f.hidden, K, [&](int64_t k) { return f.gates(step_of(k), row_of(k)) + 3 * f.hidden; }, f.rh_strips, team);
  }
  if (f.dx.data) {
    const Strips<T> strips(f.inputs);
    const int64_t depth = Cell::input_blocks.count * f.hidden;
    const Range mine = share(K, team);
    for (int64_t strip = 0; strip < strips.count(); ++strip)
      multiply_strip<T>(strips, strip, mine.begin, mine.end, depth,
                        {f.da + Cell::input_blocks.first * f.hidden, 1, f.width(), 0},
                        f.W_strips + strips.offset(strip, depth), {f.dx(s0, 0), f.batch, f.dx.step, f.dx.row}, false);
  }
  if (f.db_W || f.db_R) add_bias_gradient(f, K, share(f.width(), team, lanes<T>), accumulate);
  team.barrier();  // the strips are complete
  if (f.dW) add_weight_gradient(f, K, units, Cell::input_blocks, f.inputs, f.x_strips, f.dW, accumulate);
  if (f.dR) {
    add_weight_gradient(f, K, units, Cell::recurrent_blocks, f.hidden, f.h_strips, f.dR, accumulate);
    if constexpr (Cell::phases == 2)
      add_weight_gradient(f, K, units, Cell::candidate_blocks, f.hidden, f.rh_strips, f.dR, accumulate);
  }
}

template <class T, class Cell>
void backward(const Backward<T>& f, const Team& team) {
  const int64_t H = f.hidden;
  const Range rows = f.by_units ? Range{0, f.batch} : share(f.batch, team);
  const Range units = f.by_units ? share(H, team, Strips<T>::width) : Range{0, H};
  pack_weights(static_cast<const T*>(f.weights.R), H, H, Cell::recurrent_blocks, f.R_strips, team);
  if constexpr (Cell::phases == 2)
    pack_weights(static_cast<const T*>(f.weights.R), H, H, Cell::candidate_blocks,
                 f.R_strips + Strips<T>(H).size(Cell::recurrent_blocks.count * H), team);
  if (f.dx.data)
    pack_weights(static_cast<const T*>(f.weights.W), H, f.inputs, Cell::input_blocks, f.W_strips, team);
  const Range mine = share(f.batch, team);
  copy_rows<T>(mine, H, f.dh_n, f.dh);
  copy_rows<T>(mine, H, f.dc_n, f.dc);
  team.barrier();

  bool accumulate = false;
  for (int64_t s1 = f.steps; s1 > 0; accumulate = true) {
    const int64_t s0 = (s1 - 1) / f.chunk * f.chunk;
    for (int64_t s = s1; s-- > s0;) step_back<T, Cell>(f, s, rows, units, team);
    team.barrier();  // da of the chunk is complete
    chunk_gradients<T, Cell>(f, s0, s1, accumulate, team);
    team.barrier();  // before da and the strips are written again
    s1 = s0;
  }

  if (f.dh_0) copy_rows<T>(mine, H, {f.dh, 0, H}, f.dh_0);
  if (f.dc_0) copy_rows<T>(mine, H, {f.dc, 0, H}, f.dc_0);
  const Range weight_rows = share(Cell::gates * H, team), my_units = share(H, team);
  if (f.steps == 0 || f.batch == 0) {
    if (f.dW) fill(f.dW, weight_rows.begin * f.inputs, weight_rows.end * f.inputs);
    if (f.dR) fill(f.dR, weight_rows.begin * H, weight_rows.end * H);
    if (f.db_W) fill(f.db_W, weight_rows.begin, weight_rows.end);
    if (f.db_R) fill(f.db_R, weight_rows.begin, weight_rows.end);
    return;
  }
  if (f.db_W) write_bias_gradient(f, Cell::input_blocks, my_units, f.db_W);
  if (f.db_R) {
    write_bias_gradient(f, Cell::recurrent_blocks, my_units, f.db_R);
    if constexpr (Cell::phases == 2) write_bias_gradient(f, Cell::candidate_blocks, my_units, f.db_R);
  }
}

}  // namespace
#endif
