// The GRU (Cho et al. 2014), the reset gate acting after the recurrent product (cuDNN, torch) or before it (the paper).
//
//   r, z = σ(a_r), σ(a_z)
//   after:   n = tanh(W_n x + b_Wn + r ∘ q)    q = R_n h + b_Rn
//   before:  n = tanh(W_n x + b_n + R_n q)     q = r ∘ h
//   h' = (1 - z) ∘ n + z ∘ h
//
// gates  [B, 4H]  r z n q of the step, kept for the backward pass
#ifndef CAROUSEL_KERNELS_GRU_H
#define CAROUSEL_KERNELS_GRU_H

#include "backward.h"
#include "forward.h"

namespace {

struct GruResetAfter {
  static constexpr int gates = 3, phases = 1, reserve_blocks = 4, gradient_blocks = 4;
  static constexpr bool one_bias = false, has_cells = false, inference_gates = false;
  // Blocks of da: n r z q, so that those of W x (n r z) and those of R h (r z q) are both contiguous.
  static constexpr Blocks input_blocks{0, 3, {2, 0, 1}}, recurrent_blocks{1, 3, {0, 1, 2}};

  template <class T, int M, int Phase, bool Whole>
  static CAROUSEL_INLINE void forward(const Forward<T>& f, int64_t s, int64_t row, int64_t p) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    Gates<T, M, 0, 3, Whole> a(f, s, row, p);
    const T* h[M];
    Vec<T> input[M];  // of the candidate: W x and R h are kept apart
    const Vec<T> bias = load(f.panels.recurrent_bias(f.packed, p) + 2 * f.panels.units(p), left);
    for (int m = 0; m < M; ++m) {
      h[m] = f.h(s, row + m);
      input[m] = a(m, 2);
      a.set(m, 2, bias);
    }
    a.add_recurrent(h);

    for (int m = 0; m < M; ++m) {
      const Vec<T> r = sigmoid<T>(a(m, 0)), z = sigmoid<T>(a(m, 1)), q = a(m, 2);
      const Vec<T> n = tanh<T>(input[m] + r * q);
      store(f.y(s, row + m) + j, n + z * (load(h[m] + j, left) - n), left);
      if (f.training) {
        T* gate = f.gates(s, row + m) + j;
        store(gate, r, left);
        store(gate + H, z, left);
        store(gate + 2 * H, n, left);
        store(gate + 3 * H, q, left);
      }
    }
  }

  //   dn = dh ∘ (1 - z) ∘ (1 - n²)    dq = dn ∘ r    dr = dn ∘ q    dz = dh ∘ (h - n)    dh ∘ z goes straight back
  template <class T, int Phase>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, int64_t j, int64_t left) {
    const int64_t H = f.hidden;
    const Vec<T> one = splat(T(1));
    const T* gate = f.gates(s, b) + j;
    const Vec<T> r = load(gate, left), z = load(gate + H, left), n = load(gate + 2 * H, left);
    const Vec<T> q = load(gate + 3 * H, left), h = load(f.h(s, b) + j, left);
    const Vec<T> dh = load(f.dh + b * H + j, left) + load(f.dy(s, b) + j, left);
    const Vec<T> dn = dh * (one - z) * (one - n * n);
    T* da = f.da_row(s, b) + j;
    store(da, dn, left);
    store(da + H, dn * q * r * (one - r), left);
    store(da + 2 * H, dh * (h - n) * z * (one - z), left);
    store(da + 3 * H, dn * r, left);
    store(f.dh + b * H + j, dh * z, left);
  }
};

// Two phases, because every unit's r must be known before any unit's n.
struct GruResetBefore {
  static constexpr int gates = 3, phases = 2, reserve_blocks = 4, gradient_blocks = 3;
  static constexpr bool one_bias = true, has_cells = false, inference_gates = true;
  static constexpr Blocks input_blocks{0, 3, {0, 1, 2}}, recurrent_blocks{0, 2, {0, 1}}, candidate_blocks{2, 1, {2}};

  template <class T, int M, int Phase, bool Whole>
  static CAROUSEL_INLINE void forward(const Forward<T>& f, int64_t s, int64_t row, int64_t p) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    const T* from[M];
    if constexpr (Phase == 0) {
      Gates<T, M, 0, 2, Whole> a(f, s, row, p);
      for (int m = 0; m < M; ++m) from[m] = f.h(s, row + m);
      a.add_recurrent(from);
      for (int m = 0; m < M; ++m) {
        const Vec<T> r = sigmoid<T>(a(m, 0)), z = sigmoid<T>(a(m, 1));
        T* gate = f.gates(s, row + m) + j;
        store(gate, r, left);
        store(gate + H, z, left);
        store(gate + 3 * H, r * load(from[m] + j, left), left);
      }
    } else {
      Gates<T, M, 2, 1, Whole> a(f, s, row, p);
      for (int m = 0; m < M; ++m) from[m] = f.gates(s, row + m) + 3 * H;
      a.add_recurrent(from);
      for (int m = 0; m < M; ++m) {
        T* gate = f.gates(s, row + m) + j;
        const Vec<T> n = tanh<T>(a(m, 0)), z = load(gate + H, left);
        store(gate + 2 * H, n, left);
        store(f.y(s, row + m) + j, n + z * (load(f.h(s, row + m) + j, left) - n), left);
      }
    }
  }

  //   dn = dh ∘ (1 - z) ∘ (1 - n²)    dq = dn R_n    dr = dq ∘ h    dz = dh ∘ (h - n)
  //   dh ∘ z + dq ∘ r goes straight back
  template <class T, int Phase>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, int64_t j, int64_t left) {
    const int64_t H = f.hidden;
    const Vec<T> one = splat(T(1));
    const T* gate = f.gates(s, b) + j;
    const Vec<T> h = load(f.h(s, b) + j, left);
    T* da = f.da_row(s, b) + j;
    T* carried = f.dh + b * H + j;
    if constexpr (Phase == 0) {
      const Vec<T> z = load(gate + H, left), n = load(gate + 2 * H, left);
      const Vec<T> dh = load(carried, left) + load(f.dy(s, b) + j, left);
      store(da + H, dh * (h - n) * z * (one - z), left);
      store(da + 2 * H, dh * (one - z) * (one - n * n), left);
      store(carried, dh * z, left);
    } else {
      const Vec<T> r = load(gate, left), dq = load(f.dreset + b * H + j, left);
      store(da, dq * h * r * (one - r), left);
      store(carried, load(carried, left) + dq * r, left);
    }
  }
};

}  // namespace
#endif
