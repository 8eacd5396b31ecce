// The LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).
//
//   i, f, o = σ(a_i), σ(a_f), σ(a_o)    g = tanh(a_g)
//   c' = f ∘ c + i ∘ g                  h' = o ∘ tanh(c')
//
// Coupled: f = 1 - i, without sums of its own (Greff et al. 2017).
//
// gates  [B, 4H]  i f g o of the step (coupled: [B, 3H] i g o), kept for the backward pass
// cells  [B, H]   c'; in an inference pass the same memory as c
#ifndef CAROUSEL_KERNELS_LSTM_H
#define CAROUSEL_KERNELS_LSTM_H

#include "backward.h"
#include "forward.h"

namespace {

// Places of the gates among the sums.
template <bool Coupled>
struct LstmGates;
template <>
struct LstmGates<false> {
  static constexpr int i = 0, f = 1, g = 2, o = 3, count = 4;
};
template <>
struct LstmGates<true> {
  static constexpr int i = 0, f = 0, g = 1, o = 2, count = 3;
};

template <bool Coupled>
struct LstmCell {
  using At = LstmGates<Coupled>;
  static constexpr int gates = At::count;
  static constexpr Blocks all{0, gates, {0, 1, 2, 3}};
  static constexpr Traits traits{gates, 1, gates, gates, true, true, false, all, all, {}, 1};

  template <class T, int Phase, bool Whole>
  using Sums = Gates<T, 0, gates, Whole>;
  template <int Phase, class T>
  static CAROUSEL_INLINE const T* operand(const Forward<T>&, const Line<T>& row) {
    return row.operand;
  }

  template <class T, int Phase, bool Whole, bool On>
  static __attribute__((noinline)) void forward(const Forward<T>& f, int64_t s, const Line<T>* rows, int M, int64_t p,
                                                Sums<T, Phase, Whole>& a) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j, H = f.hidden;
    if constexpr (!Whole && !On) a.activate(At::g, M);

    // The cells of all rows before the first output: two short loops of independent rows keep the processor busier than
    // one, in which every row waits for its own tanh c.
    const Equations<T, On> with{f.extras};
    alignas(CAROUSEL_VECTOR_BYTES) T cell[row_limit * lanes<T>], open[row_limit * lanes<T>];
    for (int m = 0; m < M; ++m) {
      const Vec<T> c_old = load(rows[m].c + j, left);
      Vec<T> i = a(m, At::i), fg = a(m, At::f), g = a(m, At::g), o = a(m, At::o);
      if constexpr (On) {
        i = with.clipped(with.seen(i, 0, c_old, H, j, left));
        fg = with.clipped(with.seen(fg, 1, c_old, H, j, left));
        g = with.clipped(g);
      }
      if constexpr (Whole || On) i = sigmoid<T>(i), g = tanh<T>(g);
      if constexpr (Coupled)
        fg = splat(T(1)) - i;
      else if constexpr (Whole || On)
        fg = sigmoid<T>(fg);
      const Vec<T> c = with.bounded_cell(fg * c_old + i * with.masked_candidate(g, rows[m].b, j, left));
      if constexpr (On) o = with.clipped(with.seen(o, Coupled ? 1 : 2, c, H, j, left));
      if constexpr (Whole || On) o = sigmoid<T>(o);
      store(cell + m * lanes<T>, c);
      store(open + m * lanes<T>, o);
      store(rows[m].cell + j, with.kept_cell(c, c_old, s, rows[m].b, j, H), left);
      if (f.training) {
        T* gate = rows[m].gates + j;
        store(gate + At::i * H, i, left);
        if constexpr (!Coupled) store(gate + At::f * H, fg, left);
        store(gate + At::g * H, g, left);
        store(gate + At::o * H, o, left);
      }
    }
    for (int m = 0; m < M; ++m)
      store(rows[m].output + j, load(open + m * lanes<T>) * tanh<T>(load(cell + m * lanes<T>)), left);
  }

  //   do = dh ∘ tanh c'    dc' += dh ∘ o ∘ (1 - tanh² c')    df = dc' ∘ c    di = dc' ∘ g    dg = dc' ∘ i    dc = dc' ∘ f
  template <class T, int Phase, bool On>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, int64_t j, int64_t left) {
    const int64_t H = f.hidden;
    const Equations<T, On> with{f.extras};
    const Vec<T> one = splat(T(1));
    const T* gate = f.gates(s, b) + j;
    const Vec<T> i = load(gate + At::i * H, left), g = load(gate + At::g * H, left), o = load(gate + At::o * H, left);
    const Vec<T> fg = Coupled ? one - i : load(gate + At::f * H, left);
    const Vec<T> c_old = load(f.c(s, b) + j, left), candidate = with.masked_candidate(g, b, j, left);
    const Vec<T> sum = fg * c_old + i * candidate;  // c' before its bound
    const Vec<T> c = On ? with.bounded_cell(sum) : load(f.cells(s, b) + j, left);
    const Vec<T> tanh_c = tanh<T>(c), dh = f.output_gradient(s, b, j, left);
    T* da = f.da_row(s, b) + j;

    const Vec<T> d_o = with.with_gate_gradient(dh * tanh_c, At::o, s, b, H, j, left);
    const Vec<T> da_o = with.passed(d_o * o * (one - o), o, false);
    Vec<T> dc = with.with_cell_gradient(load(f.dc + b * H + j, left), s, b, j, left), dc_old{};
    if constexpr (On)
      if (f.extras.zoneout_c > 0) {
        const Vec<T> kept = f.extras.kept(f.extras.zoneout_c, true, s, b, j, H);
        dc_old = kept * dc;
        dc -= dc_old;
      }
    dc = with.seen(dc + dh * o * (one - tanh_c * tanh_c), Coupled ? 1 : 2, da_o, H, j, left);
    dc = with.passed_cell(dc, sum);
    const Vec<T> d_i = with.with_gate_gradient(dc * (Coupled ? candidate - c_old : candidate), At::i, s, b, H, j, left);
    const Vec<T> d_g = with.with_gate_gradient(with.masked_candidate(dc * i, b, j, left), At::g, s, b, H, j, left);
    const Vec<T> da_i = with.passed(d_i * i * (one - i), i, false);
    Vec<T> da_f{};
    store(da + At::i * H, da_i, left);
    if constexpr (!Coupled) {
      const Vec<T> d_f = with.with_gate_gradient(dc * c_old, At::f, s, b, H, j, left);
      da_f = with.passed(d_f * fg * (one - fg), fg, false);
      store(da + At::f * H, da_f, left);
    }
    store(da + At::g * H, with.passed(d_g * (one - g * g), g, true), left);
    store(da + At::o * H, da_o, left);
    dc_old += dc * fg;
    if constexpr (On) {
      dc_old = with.seen(dc_old, 0, da_i, H, j, left);
      if constexpr (!Coupled) dc_old = with.seen(dc_old, 1, da_f, H, j, left);
      if (f.peephole_block) {
        T* dp = da + f.peephole_block * H;
        store(dp, da_i * c_old, left);
        if constexpr (!Coupled) store(dp + H, da_f * c_old, left);
        store(dp + (Coupled ? 1 : 2) * H, da_o * c, left);
      }
      if (f.shown_block) store(da + f.shown_block * H, o * tanh_c, left);
    }
    store(f.dc + b * H + j, dc_old, left);
    f.carry(b, j, Vec<T>{}, left);  // all of dh goes through the gates
  }
};

using Lstm = LstmCell<false>;
using LstmCoupled = LstmCell<true>;

}  // namespace
#endif
