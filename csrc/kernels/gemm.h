// The one inner loop of the library: a tile of rows times packed columns, accumulated in registers.
//
// A tile holds M rows and N registers of columns. M * N <= `accumulators`, so that the sums, one row of b and one
// broadcast of a fit the register file. Each sum is one chain over k in its order, whatever the tile: a row's result
// depends neither on the other rows nor on how they are grouped.
#ifndef CAROUSEL_KERNELS_GEMM_H
#define CAROUSEL_KERNELS_GEMM_H

#include "bfloat16.h"

namespace {

constexpr int row_limit = 6;

constexpr int rows_per_tile(int N) { return accumulators / N < row_limit ? int(accumulators / N) : row_limit; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <int M>
struct Count {  // a number known to the compiler
  static constexpr int count = M;
};

// One product of a tile: rows a[m][k * a_step], packed columns b[k * b_step + ·], k < depth. Of a tile that is Spread,
// row m has columns of its own, m * b_next further on.
template <class T, int M>
struct Product {
  int64_t depth;
  const T* a[M];
  int64_t a_step;
  const T* b;
  int64_t b_step, b_next = 0;
};

// sums[m][v] = start[m][v] + Σ_k first + Σ_k second, in registers of lanes, N registers a row.
//
// With Apart, the last of the N columns of `second` is summed apart from that of `first`, into a register N of its own,
// which starts at `apart`: the candidate of a GRU needs both. With Pairs, elements are pairs of bfloat16. A row alone has
// too few sums to keep the multipliers busy; Spread, several blocks of columns take part, in as many rows.
//
// A function of its own, sums in memory: inlined, the compiler keeps the constants of the activations that follow in
// registers and spills the sums inside the loop.
template <class T, int M, int N, bool Apart = false, bool Pairs = false, bool Spread = false>
__attribute__((noinline)) void tile(const T* const (&start)[M], const Product<T, M>& first, const Product<T, M>& second,
                                    T* sums, const T* apart = nullptr) {
  constexpr int all = N + Apart;
  Vec<T> sum[M][all];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sum[m][v] = load(start[m] + v * lanes<T>);
    if constexpr (Apart) sum[m][N] = load(apart + (Spread ? m * first.b_next : 0));
  }
  const auto add = [&](const Product<T, M>& product, auto last) __attribute__((always_inline)) {
    int64_t k = product.depth;
    if (k <= 0) return;  // and not `while`: the compiler would keep a second copy of the sums
    const T *a[M], *b = product.b;
    const int64_t a_step = product.a_step, b_step = product.b_step, b_next = product.b_next;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) a[m] = product.a[m];
    do {
      Vec<T> row[N];
#pragma GCC unroll 4
      for (int v = 0; v < N && !Spread; ++v) row[v] = load(b + v * lanes<T>);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Vec<T> s = splat(*a[Spread ? 0 : m]);
#pragma GCC unroll 4
        for (int v = 0; v < N && Spread; ++v) row[v] = load(b + m * b_next + v * lanes<T>);
#pragma GCC unroll 4
        for (int v = 0; v < N; ++v) {
          Vec<T>& to = sum[m][v < N - 1 ? v : decltype(last)::count];
          to = multiply_add<Pairs>(to, s, row[v]);
        }
      }
#pragma GCC unroll 8
      for (int m = 0; m < (Spread ? 1 : M); ++m) a[m] += a_step;
      b += b_step;
    } while (--k > 0);
  };
  add(first, Count<N - 1>{});
  add(second, Count<all - 1>{});
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < all; ++v) store(sums + (m * all + v) * lanes<T>, sum[m][v]);
}

template <class T, int M, int N>
CAROUSEL_INLINE void tile(const T* const (&start)[M], const Product<T, M>& product, T* sums) {
  tile<T, M, N>(start, product, Product<T, M>{}, sums);
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
  CAROUSEL_INLINE void add(const Product<T, M>& product) {
    const T* start[M];
    for (int m = 0; m < M; ++m) start[m] = data + m * N * lanes<T>;
    tile<T, M, N>(start, product, data);
  }
  CAROUSEL_INLINE void write(T* const (&to)[M], int64_t left) const {
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < N; ++v)
        store(to[m] + v * lanes<T>, load(data + (m * N + v) * lanes<T>), left - v * lanes<T>);
  }
};

// body(Count<M>, first row) over [begin, end) in tiles of nearly equal height, at most `Most` rows each.
template <int Most, class Body>
CAROUSEL_INLINE void for_row_tiles(int64_t begin, int64_t end, Body&& body) {
  int64_t tiles = ceil_div(end - begin, Most);
  for (int64_t row = begin; row < end; --tiles) {
    const int64_t height = ceil_div(end - row, tiles);
    switch (height) {
      case 1: body(Count<1>{}, row); break;
      case 2: body(Count<(Most < 2 ? 1 : 2)>{}, row); break;
      case 3: body(Count<(Most < 3 ? 1 : 3)>{}, row); break;
      case 4: body(Count<(Most < 4 ? 1 : 4)>{}, row); break;
      case 5: body(Count<(Most < 5 ? 1 : 5)>{}, row); break;
      default: body(Count<(Most < 6 ? 1 : 6)>{}, row); break;
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

// Columns beyond the last whole register that are too few to fill another one: they are multiplied by themselves, and
// the strips hold the others.
template <class T>
constexpr int64_t few(int64_t columns) {
  return columns % lanes<T> <= lanes<T> / 4 ? columns % lanes<T> : 0;
}

// b[k] of one strip from the row-major row `from`, times `factor` where there is one.
template <class T>
CAROUSEL_INLINE void pack_row(const Strips<T>& strips, int64_t strip, const T* from, T* to, const T* factor = nullptr) {
  const int64_t first = strip * strips.width, left = strips.columns - first;
  for (int64_t v = 0; v < strips.registers(strip); ++v) {
    Vec<T> row = load(from + first + v * lanes<T>, left - v * lanes<T>);
    if (factor) row *= load(factor + first + v * lanes<T>, left - v * lanes<T>);
    store(to + v * lanes<T>, row);
  }
}

template <class Body>
CAROUSEL_INLINE void with_registers(int n, Body&& body) {
  switch (n) {
    case 1: body(Count<1>{}); break;
    case 2: body(Count<2>{}); break;
    case 3: body(Count<3>{}); break;
    default: body(Count<4>{}); break;
  }
}

// Where the i-th row of a product begins. One type for every way of addressing, so that the products are compiled once.
template <class T>
struct Lines {
  const void* how;
  T* (*address)(const void* how, int64_t i);
  T* operator()(int64_t i) const { return address(how, i); }
};

// As the function `how(i)` says, which must live as long.
template <class T, class How>
CAROUSEL_INLINE Lines<T> lines(const How& how) {
  return {&how, [](const void* h, int64_t i) -> T* { return (*static_cast<const How*>(h))(i); }};
}

// c(row) (+)= a(row) b for rows [begin, end) and one strip.
// Blocks of k keep the strip in cache for all rows; the sums pass through c unrounded, so blocks change no bit.
template <class T>
__attribute__((noinline)) void multiply_strip(const Strips<T>& strips, int64_t strip, int64_t begin, int64_t end,
                                              int64_t K, Lines<const T> a, const T* b, Lines<T> c, bool accumulate) {
  constexpr int64_t block = 256;
  const int64_t first = strip * strips.width, left = strips.columns - first, b_step = strips.step(strip);
  with_registers(strips.registers(strip), [&](auto registers) __attribute__((always_inline)) {
    constexpr int N = decltype(registers)::count;
    for (int64_t k = 0; k == 0 || k < K; k += block) {
      const int64_t depth = K - k < block ? K - k : block;
      for_row_tiles<rows_per_tile(N)>(begin, end, [&](auto rows, int64_t row) __attribute__((always_inline)) {
        constexpr int M = decltype(rows)::count;
        Product<T, M> product{depth, {}, 1, b + k * b_step, b_step};
        T* to[M];
        for (int m = 0; m < M; ++m) {
          product.a[m] = a(row + m) + k;
          to[m] = c(row + m) + first;
        }
        Sums<T, M, N> sums;
        sums.start(to, left, accumulate || k > 0);
        sums.add(product);
        sums.write(to, left);
      });
    }
  });
}

// sums[m][j] = Σ_k a[m][k] b[j][k], k < K: the terms of a sum share a register.
template <class T, int M, int N>
__attribute__((noinline)) void dots(int64_t K, const T* const (&a)[M], const T* b, T (&sums)[M][4]) {
  Vec<T> sum[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sum[m][j] = Vec<T>{};
  const auto add = [&](int64_t k, auto&& read) __attribute__((always_inline)) {
    Vec<T> row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = read(b + j * K + k);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vec<T> s = read(a[m] + k);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[m][j] += s * row[j];
    }
  };
  int64_t k = 0;
  for (; k + lanes<T> <= K; k += lanes<T>) add(k, [](const T* p) __attribute__((always_inline)) { return load(p); });
  if (k < K) add(k, [left = K - k](const T* p) __attribute__((always_inline)) { return load_first(p, left); });
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sums[m][j] = total<T>(sum[m][j]);
}

// c(row)[j] (+)= Σ_k a(row)[k] b[j][k] for rows [begin, end) and j < n, which are few.
template <class T>
__attribute__((noinline)) void multiply_few(int64_t n, int64_t begin, int64_t end, int64_t K, Lines<const T> a,
                                            const T* b, Lines<T> c, bool accumulate) {
  with_registers(int(n), [&](auto columns) __attribute__((always_inline)) {
    constexpr int N = decltype(columns)::count;
    for_row_tiles<rows_per_tile(N)>(begin, end, [&](auto rows, int64_t row) __attribute__((always_inline)) {
      constexpr int M = decltype(rows)::count;
      const T* from[M];
      T sums[M][4];
      for (int m = 0; m < M; ++m) from[m] = a(row + m);
      dots<T, M, N>(K, from, b, sums);
      for (int m = 0; m < M; ++m) {
        T* to = c(row + m);
        for (int j = 0; j < N; ++j) to[j] = sums[m][j] + (accumulate ? to[j] : T(0));
      }
    });
  });
}

// All strips: c(row) = a(row) b, `columns` wide.
template <class T>
void multiply_rows(int64_t columns, int64_t rows, int64_t K, Lines<const T> a, const T* b, Lines<T> c) {
  const Strips<T> strips(columns);
  for (int64_t strip = 0; strip < strips.count(); ++strip)
    multiply_strip<T>(strips, strip, 0, rows, K, a, b + strips.offset(strip, K), c, false);
}

}  // namespace
#endif
