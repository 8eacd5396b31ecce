// The one inner loop of the library: a tile of rows times packed columns, accumulated in registers.
//
// A tile holds M rows and N registers of columns. M * N <= `accumulators`, so that the sums, one row of b and one
// broadcast of a fit the register file. Each sum is one chain over k in its order, whatever the tile: a row's result
// depends neither on the other rows nor on how they are grouped.
#ifndef CAROUSEL_KERNELS_GEMM_H
#define CAROUSEL_KERNELS_GEMM_H

#include "vec.h"

namespace {

constexpr int row_limit = 6;

constexpr int rows_per_tile(int N) { return accumulators / N < row_limit ? int(accumulators / N) : row_limit; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// sums[m * N + v] += Σ_k a[m][k * a_step] b[k * b_step + v * lanes + ·], in registers of lanes
//
// A function of its own, sums in memory on both sides: inlined, the compiler keeps the constants of the activations
// that follow in registers and spills the sums inside the loop.
template <class T, int M, int N>
__attribute__((noinline)) void tile(int64_t K, const T* const (&a)[M], int64_t a_step, const T* b, int64_t b_step,
                                    T* sums) {
  Vec<T> sum[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sum[m][v] = load(sums + (m * N + v) * lanes<T>);
  for (int64_t k = 0; k < K; ++k, b += b_step) {
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) row[v] = load(b + v * lanes<T>);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vec<T> s = splat(a[m][k * a_step]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sum[m][v] += s * row[v];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) store(sums + (m * N + v) * lanes<T>, sum[m][v]);
}

// The sums of a tile between memory and `tile`: M rows of N registers, of which the first `left` elements exist.
template <class T, int M, int N>
struct Sums {
  alignas(CAROUSEL_VECTOR_BYTES) T data[M * N * lanes<T>];

  CAROUSEL_INLINE void start(T* const (&from)[M], int64_t left, bool accumulate) {
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < N; ++v)
        store(data + (m * N + v) * lanes<T>,
              accumulate ? load(from[m] + v * lanes<T>, left - v * lanes<T>) : Vec<T>{});
  }
  CAROUSEL_INLINE void write(T* const (&to)[M], int64_t left) const {
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < N; ++v)
        store(to[m] + v * lanes<T>, load(data + (m * N + v) * lanes<T>), left - v * lanes<T>);
  }
};

// body(Rows<M>, first row) over [begin, end) in tiles of nearly equal height, at most `most` rows each.
template <int M>
struct Rows {
  static constexpr int count = M;
};

template <int Most, class Body>
CAROUSEL_INLINE void for_row_tiles(int64_t begin, int64_t end, Body&& body) {
  int64_t tiles = ceil_div(end - begin, Most);
  for (int64_t row = begin; row < end; --tiles) {
    const int64_t height = ceil_div(end - row, tiles);
    switch (height) {
      case 1: body(Rows<1>{}, row); break;
      case 2: body(Rows<(Most < 2 ? 1 : 2)>{}, row); break;
      case 3: body(Rows<(Most < 3 ? 1 : 3)>{}, row); break;
      case 4: body(Rows<(Most < 4 ? 1 : 4)>{}, row); break;
      case 5: body(Rows<(Most < 5 ? 1 : 5)>{}, row); break;
      default: body(Rows<(Most < 6 ? 1 : 6)>{}, row); break;
    }
    row += height;
  }
}

// Columns are packed in strips of up to N registers: [strip][k][columns of the strip], zero beyond the last column.
template <class T>
struct Strips {
  static constexpr int N = 4;
  static constexpr int64_t width = N * lanes<T>;

  int64_t columns;
  explicit constexpr Strips(int64_t columns) : columns(columns) {}
  int64_t count() const { return ceil_div(columns, width); }
  int registers(int64_t strip) const {
    const int64_t left = columns - strip * width;
    return left >= width ? N : int(ceil_div(left, lanes<T>));
  }
  int64_t step(int64_t strip) const { return registers(strip) * lanes<T>; }  // elements from one k to the next
  int64_t offset(int64_t strip, int64_t K) const { return strip * K * width; }
  int64_t size(int64_t K) const { return K * ceil_div(columns, lanes<T>) * lanes<T>; }
};

// b[k] of one strip from the row-major row `from`.
template <class T>
CAROUSEL_INLINE void pack_row(const Strips<T>& strips, int64_t strip, const T* from, T* to) {
  const int64_t first = strip * strips.width, left = strips.columns - first;
  for (int64_t v = 0; v < strips.registers(strip); ++v)
    store(to + v * lanes<T>, load(from + first + v * lanes<T>, left - v * lanes<T>));
}

template <class Body>
CAROUSEL_INLINE void with_registers(int n, Body&& body) {
  switch (n) {
    case 1: body(Rows<1>{}); break;
    case 2: body(Rows<2>{}); break;
    case 3: body(Rows<3>{}); break;
    default: body(Rows<4>{}); break;
  }
}

// Rows k = step * batch + row of a strided sequence, or with a batch of 1 those of a plain matrix.
template <class T>
struct Matrix {
  T* data;
  int64_t batch, step, row;
  T* operator()(int64_t k) const { return batch == 1 ? data + k * step : data + k / batch * step + k % batch * row; }
};

// c[row] (+)= a[row] b for rows [begin, end) and one strip.
// Blocks of k keep the strip in cache for all rows; the sums pass through c unrounded, so blocks change no bit.
template <class T>
__attribute__((noinline)) void multiply_strip(const Strips<T>& strips, int64_t strip, int64_t begin, int64_t end,
                                              int64_t K, Matrix<const T> a, const T* b, Matrix<T> c, bool accumulate) {
  constexpr int64_t block = 256;
  const int64_t first = strip * strips.width, left = strips.columns - first, b_step = strips.step(strip);
  with_registers(strips.registers(strip), [&](auto registers) __attribute__((always_inline)) {
    constexpr int N = decltype(registers)::count;
    for (int64_t k = 0; k == 0 || k < K; k += block) {
      const int64_t depth = K - k < block ? K - k : block;
      for_row_tiles<rows_per_tile(N)>(begin, end, [&](auto rows, int64_t row) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        const T* a_rows[M];
        T* to[M];
        for (int m = 0; m < M; ++m) {
          a_rows[m] = a(row + m) + k;
          to[m] = c(row + m) + first;
        }
        Sums<T, M, N> sums;
        sums.start(to, left, accumulate || k > 0);
        tile<T, M, N>(depth, a_rows, 1, b + k * b_step, b_step, sums.data);
        sums.write(to, left);
      });
    }
  });
}

}  // namespace
#endif
