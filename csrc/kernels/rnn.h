// The plain recurrent network (Elman 1990):  h' = tanh(W x + R h + b)  or  max(W x + R h + b, 0).
// Its backward pass needs h' only.
#ifndef CAROUSEL_KERNELS_RNN_H
#define CAROUSEL_KERNELS_RNN_H

#include "backward.h"
#include "forward.h"

namespace {

struct Tanh {
  template <class T>
  static CAROUSEL_INLINE Vec<T> value(Vec<T> a) {
    return tanh<T>(a);
  }
  template <class T>
  static CAROUSEL_INLINE Vec<T> gradient(Vec<T> h, Vec<T> dh) {
    return dh * (splat(T(1)) - h * h);
  }
};

// The gradient at 0 is 0, as in torch; NaN stays NaN.
struct Relu {
  template <class T>
  static CAROUSEL_INLINE Vec<T> value(Vec<T> a) {
    return larger(Vec<T>{}, a);
  }
  template <class T>
  static CAROUSEL_INLINE Vec<T> gradient(Vec<T> h, Vec<T> dh) {
    return h <= Vec<T>{} ? Vec<T>{} : dh;
  }
};

template <class Activation>
struct Rnn {
  static constexpr int gates = 1, phases = 1, reserve_blocks = 0, gradient_blocks = 1;
  static constexpr bool one_bias = true, has_cells = false, inference_gates = false;
  static constexpr Blocks input_blocks{0, 1, {0}}, recurrent_blocks{0, 1, {0}};

  template <class T, int M, int Phase, bool Whole>
  static CAROUSEL_INLINE void forward(const Forward<T>& f, int64_t s, int64_t row, int64_t p) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j;
    Gates<T, M, 0, 1, Whole> a(f, s, row, p);
    const T* h[M];
    for (int m = 0; m < M; ++m) h[m] = f.h(s, row + m);
    a.add_recurrent(h);
    for (int m = 0; m < M; ++m) store(f.y(s, row + m) + j, Activation::template value<T>(a(m, 0)), left);
  }

  template <class T, int Phase>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, int64_t j, int64_t left) {
    T* carried = f.dh + b * f.hidden + j;
    const Vec<T> dh = load(carried, left) + load(f.dy(s, b) + j, left);
    store(f.da_row(s, b) + j, Activation::template gradient<T>(load(f.y(s, b) + j, left), dh), left);
    store(carried, Vec<T>{}, left);
  }
};

using RnnTanh = Rnn<Tanh>;
using RnnRelu = Rnn<Relu>;

}  // namespace
#endif
