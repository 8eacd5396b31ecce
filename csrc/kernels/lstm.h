// The LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).
//
//   i, f, o = σ(a_i), σ(a_f), σ(a_o)    g = tanh(a_g)
//   c' = f ∘ c + i ∘ g                  h' = o ∘ tanh(c')
//
// gates  [B, 4H]  i f g o of the step, kept for the backward pass
// cells  [B, H]   c'; in an inference pass the same memory as c
#ifndef CAROUSEL_KERNELS_LSTM_H
#define CAROUSEL_KERNELS_LSTM_H

#include "backward.h"
#include "forward.h"

namespace {

struct Lstm {
  static constexpr int gates = 4, phases = 1, reserve_blocks = 4, gradient_blocks = 4;
  static constexpr bool one_bias = true, has_cells = true, inference_gates = false;
  static constexpr Blocks input_blocks{0, 4, {0, 1, 2, 3}}, recurrent_blocks{0, 4, {0, 1, 2, 3}};

  template <class T, int M, int Phase, bool Whole>
  static CAROUSEL_INLINE void forward(const Forward<T>& f, int64_t s, int64_t row, int64_t p) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    Gates<T, M, 0, 4, Whole> a(f, s, row, p);
    const T* h[M];
    for (int m = 0; m < M; ++m) h[m] = f.h(s, row + m);
    a.add_recurrent(h);

    for (int m = 0; m < M; ++m) {
      const Vec<T> i = sigmoid<T>(a(m, 0)), fg = sigmoid<T>(a(m, 1)), g = tanh<T>(a(m, 2)), o = sigmoid<T>(a(m, 3));
      const Vec<T> c = fg * load(f.c(s, row + m) + j, left) + i * g;
      store(f.cells(s, row + m) + j, c, left);
      store(f.y(s, row + m) + j, o * tanh<T>(c), left);
      if (f.training) {
        T* gate = f.gates(s, row + m) + j;
        store(gate, i, left);
        store(gate + H, fg, left);
        store(gate + 2 * H, g, left);
        store(gate + 3 * H, o, left);
      }
    }
  }

  //   do = dh ∘ tanh c'    dc' += dh ∘ o ∘ (1 - tanh² c')    df = dc' ∘ c    di = dc' ∘ g    dg = dc' ∘ i    dc = dc' ∘ f
  template <class T, int Phase>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, int64_t j, int64_t left) {
    const int64_t H = f.hidden;
    const Vec<T> one = splat(T(1));
    const T* gate = f.gates(s, b) + j;
    const Vec<T> i = load(gate, left), fg = load(gate + H, left), g = load(gate + 2 * H, left);
    const Vec<T> o = load(gate + 3 * H, left), tanh_c = tanh<T>(load(f.cells(s, b) + j, left));
    const Vec<T> dh = load(f.dh + b * H + j, left) + load(f.dy(s, b) + j, left);
    const Vec<T> dc = load(f.dc + b * H + j, left) + dh * o * (one - tanh_c * tanh_c);
    T* da = f.da_row(s, b) + j;
    store(da, dc * g * i * (one - i), left);
    store(da + H, dc * load(f.c(s, b) + j, left) * fg * (one - fg), left);
    store(da + 2 * H, dc * i * (one - g * g), left);
    store(da + 3 * H, dh * tanh_c * o * (one - o), left);
    store(f.dc + b * H + j, dc * fg, left);
    store(f.dh + b * H + j, Vec<T>{}, left);  // all of dh goes through the gates; da R is added next
  }
};

}  // namespace
#endif
