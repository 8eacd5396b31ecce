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
  static constexpr double second = Coupled ? tanh_scale : sigmoid_scale, third = Coupled ? sigmoid_scale : tanh_scale;
  static constexpr Traits traits{gates, 1,   gates, gates, true, true, false, false,
                                 all,   all, {},    1,     {sigmoid_scale, second, third, sigmoid_scale}};

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
    using Units = Joined<T, Whole || On>;
    const int most = Units::most(left);

    // The cells of all rows before the first output: two short loops of independent rows keep the processor busier than
    // one, in which every row waits for its own tanh c.
    const Equations<T, On> with{f.extras};
    alignas(CAROUSEL_VECTOR_BYTES) T cell[cell_rows * lanes<T>], open[cell_rows * lanes<T>];
    for (int m = 0; m < M; m += most) {
      const Units at(rows, m, M, j, left);
      const Vec<T> c_old = at.read([](const Line<T>& row) { return row.c; });
      const Vec<T> i = with.sigmoid(with.seen(at.sum(a, At::i), 0, c_old, H, j, left, sigmoid_scale));
      const Vec<T> fg = Coupled ? splat(T(1)) - i
                                : with.sigmoid(with.seen(at.sum(a, At::f), 1, c_old, H, j, left, sigmoid_scale));
      const Vec<T> g = with.tanh(at.sum(a, At::g));
      const Vec<T> c = with.bounded_cell(fg * c_old + i * with.masked_candidate(g, rows[m].b, j, left));
      const Vec<T> o = with.sigmoid(with.seen(at.sum(a, At::o), Coupled ? 1 : 2, c, H, j, left, sigmoid_scale));
      store(cell + m * lanes<T>, c);
      store(open + m * lanes<T>, o);
      at.write(with.kept_cell(c, c_old, s, rows[m].b, j, H), [](const Line<T>& row) { return row.cell; });
      if (f.training) {
        at.write(i, [H](const Line<T>& row) { return row.gates + At::i * H; });
        if constexpr (!Coupled) at.write(fg, [H](const Line<T>& row) { return row.gates + At::f * H; });
        at.write(g, [H](const Line<T>& row) { return row.gates + At::g * H; });
        at.write(o, [H](const Line<T>& row) { return row.gates + At::o * H; });
      }
    }
    for (int m = 0; m < M; m += most)
      Units(rows, m, M, j, left)
          .write(load(open + m * lanes<T>) * tanh<T>(load(cell + m * lanes<T>)),
                 [](const Line<T>& row) { return row.output; });
  }

  //   do = dh ∘ tanh c'    dc' += dh ∘ o ∘ (1 - tanh² c')    df = dc' ∘ c    di = dc' ∘ g    dg = dc' ∘ i    dc = dc' ∘ f
  template <class T, int Phase, bool On>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, const BackLine<T>& row, int64_t j,
                                       int64_t left) {
    const int64_t H = f.hidden;
    const Equations<T, On> with{f.extras};
    const Vec<T> one = splat(T(1));
    const T* gate = row.gates + j;
    const Vec<T> i = load(gate + At::i * H, left), g = load(gate + At::g * H, left), o = load(gate + At::o * H, left);
    const Vec<T> fg = Coupled ? one - i : load(gate + At::f * H, left);
    const Vec<T> c_old = load(row.c + j, left), candidate = with.masked_candidate(g, b, j, left);
    const Vec<T> sum = fg * c_old + i * candidate;  // c' before its bound
    const Vec<T> c = On ? with.bounded_cell(sum) : load(row.cells + j, left);
    const Vec<T> tanh_c = tanh<T>(c), dh = row.output_gradient(j, left);
    T* da = row.da + j;

    const Vec<T> d_o = with.with_gate_gradient(dh * tanh_c, At::o, s, b, H, j, left);
    const Vec<T> da_o = with.passed(d_o * o * (one - o), o, false);
    Vec<T> dc = with.with_cell_gradient(load(row.dc + j, left), s, b, j, left), dc_old{};
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
    store(row.dc + j, dc_old, left);
    row.carry(j, Vec<T>{}, left);  // all of dh goes through the gates
  }
};

using Lstm = LstmCell<false>;
using LstmCoupled = LstmCell<true>;

}  // namespace
#endif
