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
  static constexpr int gates = 3;
  // Blocks of da: n r z q, so that those of W x (n r z) and those of R h (r z q) are both contiguous.
  static constexpr Traits traits{3,  1, 4, 4, false, false, false, false, {0, 3, {2, 0, 1, 0}}, {1, 3, {0, 1, 2, 0}},
                                 {}, 2, {sigmoid_scale, sigmoid_scale, tanh_scale}};

  template <class T, int Phase, bool Whole>
  using Sums = Gates<T, 0, 3, Whole, true>;
  template <int Phase, class T>
  static CAROUSEL_INLINE const T* operand(const Forward<T>&, const Line<T>& row) {
    return row.operand;
  }

  template <class T, int Phase, bool Whole, bool On>
  static __attribute__((noinline)) void forward(const Forward<T>& f, int64_t, const Line<T>* rows, int M, int64_t p,
                                                const Sums<T, Phase, Whole>& a) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    const Equations<T, On> with{f.extras};
    using Units = Joined<T, Whole || On>;
    const int most = Units::most(left);

    // r of all rows before the first z, n: short loops of independent rows keep the processor busier than one, in which
    // every row's n waits for its r.
    alignas(CAROUSEL_VECTOR_BYTES) T candidate_sums[cell_rows * lanes<T>];
    for (int m = 0; m < M; m += most) {
      const Units at(rows, m, M, j, left);
      const Vec<T> r = with.sigmoid(at.sum(a, 0)), q = at.sum(a, 3);
      store(candidate_sums + m * lanes<T>, at.sum(a, 2) + r * q);
      if (f.training) {
        at.write(r, [](const Line<T>& row) { return row.gates; });
        at.write(q * splat(T(1 / tanh_scale)), [H](const Line<T>& row) { return row.gates + 3 * H; });
      }
    }
    for (int m = 0; m < M; m += most) {
      const Units at(rows, m, M, j, left);
      const Vec<T> z = with.sigmoid(at.sum(a, 1)), n = with.tanh(load(candidate_sums + m * lanes<T>));
      const Vec<T> h = at.read([](const Line<T>& row) { return row.h; });
      const Vec<T> candidate = with.masked_candidate(n, rows[m].b, j, left);
      at.write(candidate + z * (h - candidate), [](const Line<T>& row) { return row.output; });
      if (f.training) {
        at.write(z, [H](const Line<T>& row) { return row.gates + H; });
        at.write(n, [H](const Line<T>& row) { return row.gates + 2 * H; });
      }
    }
  }

  //   dn = dh ∘ (1 - z) ∘ (1 - n²)    dq = dn ∘ r    dr = dn ∘ q    dz = dh ∘ (h - n)    dh ∘ z goes straight back
  template <class T, int Phase, bool On>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, const BackLine<T>& row, int64_t j,
                                       int64_t left) {
    const int64_t H = f.hidden;
    const Equations<T, On> with{f.extras};
    const Vec<T> one = splat(T(1));
    const T* gate = row.gates + j;
    const Vec<T> r = load(gate, left), z = load(gate + H, left), n = load(gate + 2 * H, left);
    const Vec<T> q = load(gate + 3 * H, left), h = load(row.h + j, left), dh = row.output_gradient(j, left);
    const Vec<T> candidate = with.masked_candidate(n, b, j, left);
    const Vec<T> d_n = with.with_gate_gradient(with.masked_candidate(dh * (one - z), b, j, left), 2, s, b, H, j, left);
    const Vec<T> da_n = with.passed(d_n * (one - n * n), n, true);
    const Vec<T> d_r = with.with_gate_gradient(da_n * q, 0, s, b, H, j, left);
    const Vec<T> d_z = with.with_gate_gradient(dh * (h - candidate), 1, s, b, H, j, left);
    T* da = row.da + j;
    store(da, da_n, left);
    store(da + H, with.passed(d_r * r * (one - r), r, false), left);
    store(da + 2 * H, with.passed(d_z * z * (one - z), z, false), left);
    store(da + 3 * H, da_n * r, left);
    row.carry(j, dh * z, left);
  }
};

// Two phases, because every unit's r must be known before any unit's n.
struct GruResetBefore {
  static constexpr int gates = 3;
  static constexpr Traits traits{3,    2, 4, 3, true, false, true, false, {0, 3, {0, 1, 2, 0}}, {0, 2, {0, 1, 0, 0}},
                                 {2, 1, {2, 0, 0, 0}}, 2, {sigmoid_scale, sigmoid_scale, tanh_scale}};

  template <class T, int Phase, bool Whole>
  using Sums = Gates<T, Phase == 0 ? 0 : 2, Phase == 0 ? 2 : 1, Whole>;
  template <int Phase, class T>
  static CAROUSEL_INLINE const T* operand(const Forward<T>& f, const Line<T>& row) {
    return Phase == 0 ? row.operand : row.gates + 3 * f.hidden;
  }

  template <class T, int Phase, bool Whole, bool On>
  static __attribute__((noinline)) void forward(const Forward<T>& f, int64_t, const Line<T>* rows, int M, int64_t p,
                                                const Sums<T, Phase, Whole>& a) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    const Equations<T, On> with{f.extras};
    if constexpr (Phase == 0) {
      for (int m = 0; m < M; ++m) {
        const Vec<T> r = with.sigmoid(a(m, 0)), z = with.sigmoid(a(m, 1));
        T* gate = rows[m].gates + j;
        store(gate, r, left);
        store(gate + H, z, left);
        const Vec<T> q = r * with.masked_state(load(rows[m].h + j, left), rows[m].b, j, left);
        if (f.precision == full) {
          store(gate + 3 * H, q, left);
        } else {  // as R will read it
          T row[lanes<T>];
          store(row, q);
          const int64_t unit = rows[m].unit + j;  // in pairs the row is half as long
          T* reset = gate - unit + 3 * H;
          lower_row(row, left < lanes<T> ? left : lanes<T>, f.precision, reset + packed_depth(unit, f.precision));
        }
      }
    } else {
      for (int m = 0; m < M; ++m) {
        T* gate = rows[m].gates + j;
        const Vec<T> n = with.tanh(a(m, 0)), z = load(gate + H, left);
        const Vec<T> candidate = with.masked_candidate(n, rows[m].b, j, left);
        store(gate + 2 * H, n, left);
        store(rows[m].output + j, candidate + z * (load(rows[m].h + j, left) - candidate), left);
      }
    }
  }

  //   dn = dh ∘ (1 - z) ∘ (1 - n²)    dq = dn R_n    dr = dq ∘ h    dz = dh ∘ (h - n)
  //   dh ∘ z + dq ∘ r goes straight back
  template <class T, int Phase, bool On>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, const BackLine<T>& row, int64_t j,
                                       int64_t left) {
    const int64_t H = f.hidden;
    const Equations<T, On> with{f.extras};
    const Vec<T> one = splat(T(1));
    const T* gate = row.gates + j;
    const Vec<T> h = load(row.h + j, left);
    T* da = row.da + j;
    if constexpr (Phase == 0) {
      const Vec<T> z = load(gate + H, left), n = load(gate + 2 * H, left), dh = row.output_gradient(j, left);
      const Vec<T> d_n = with.with_gate_gradient(with.masked_candidate(dh * (one - z), b, j, left), 2, s, b, H, j, left);
      const Vec<T> d_z = with.with_gate_gradient(dh * (h - with.masked_candidate(n, b, j, left)), 1, s, b, H, j, left);
      store(da + H, with.passed(d_z * z * (one - z), z, false), left);
      store(da + 2 * H, with.passed(d_n * (one - n * n), n, true), left);
      row.carry(j, dh * z, left);
    } else {
      const Vec<T> r = load(gate, left), dq = load(f.dreset + b * H + j, left);
      const Vec<T> d_r = with.with_gate_gradient(dq * with.masked_state(h, b, j, left), 0, s, b, H, j, left);
      store(da, with.passed(d_r * r * (one - r), r, false), left);
      row.carry_more(j, with.masked_state(dq * r, b, j, left), left);
    }
  }
};

}  // namespace
#endif
