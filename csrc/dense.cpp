#include "dense.h"

namespace {

constexpr int64_t panel_width = 8;

template <class T>
void pack(int64_t I, int64_t O, const T* W, T* packed) {
  for (int64_t first = 0; first < O; first += panel_width)
    for (int64_t i = 0; i < I; ++i)
      for (int64_t o = first; o < first + panel_width; ++o) *packed++ = o < O ? W[o * I + i] : T(0);
}

// The products of x with one panel.
template <class T>
void products(int64_t I, const T* x, const T* panel, T* sums) {
  typedef T Register __attribute__((vector_size(16), aligned(alignof(T)), may_alias));  // anywhere in memory
  constexpr int64_t lanes = 16 / sizeof(T), registers = panel_width / lanes;
  Register even[registers] = {}, odd[registers] = {};
  int64_t i = 0;
  for (; i + 2 <= I; i += 2, panel += 2 * panel_width)
#pragma GCC unroll 4
    for (int64_t v = 0; v < registers; ++v) {
      even[v] += x[i] * *(const Register*)(panel + v * lanes);
      odd[v] += x[i + 1] * *(const Register*)(panel + panel_width + v * lanes);
    }
#pragma GCC unroll 4
  for (int64_t v = 0; v < registers; ++v) {
    if (i < I) even[v] += x[i] * *(const Register*)(panel + v * lanes);
    *(Register*)(sums + v * lanes) = even[v] + odd[v];
  }
}

template <class T>
void layer(int64_t rows, int64_t I, int64_t O, const T* x, const T* packed, const T* b, T* y, bool relu) {
  for (int64_t n = 0; n < rows; ++n, x += I, y += O)
    for (int64_t first = 0; first < O; first += panel_width) {
      T sums[panel_width];
      products(I, x, packed + first * I, sums);
      for (int64_t o = first; o < O && o < first + panel_width; ++o) {
        const T a = sums[o - first] + b[o];
        y[o] = relu && a < 0 ? T(0) : a;  // NaN stays
      }
    }
}

}  // namespace

int64_t dense_packed_size(int64_t I, int64_t O) { return I * ((O + panel_width - 1) / panel_width * panel_width); }

void dense_pack(carousel_dtype dtype, int64_t I, int64_t O, const void* W, void* packed) {
  if (dtype == CAROUSEL_FLOAT64)
    pack(I, O, static_cast<const double*>(W), static_cast<double*>(packed));
  else
    pack(I, O, static_cast<const float*>(W), static_cast<float*>(packed));
}

carousel_status dense(carousel_dtype dtype, Activation activation, int64_t rows, int64_t I, int64_t O, const void* x,
                      const void* packed, const void* b, void* y) {
  const bool relu = activation == Activation::relu;
  if (dtype == CAROUSEL_FLOAT64)
    layer(rows, I, O, static_cast<const double*>(x), static_cast<const double*>(packed), static_cast<const double*>(b),
          static_cast<double*>(y), relu);
  else
    layer(rows, I, O, static_cast<const float*>(x), static_cast<const float*>(packed), static_cast<const float*>(b),
          static_cast<float*>(y), relu);
  if (activation == Activation::sigmoid || activation == Activation::tanh)
    return carousel_apply(activation == Activation::tanh ? CAROUSEL_TANH : CAROUSEL_SIGMOID, dtype, rows * O, y, y);
  return CAROUSEL_OK;
}
