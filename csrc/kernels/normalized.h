// Layer normalisation within a step (Ba et al. 2016):  W x and R h are normalised each by itself before they meet.
//
//   LN(s) = gain ∘ ŝ + b    ŝ = (s - mean s) / sqrt(var s + ε)
//   LSTM   a = LN(W x) + LN(R h), over all gates                    h' = o ∘ tanh(LN(c'))
//   GRU    a = LN(W x) + LN(R h), over r and z together, and over n     n = tanh(LN(W_n x) + r ∘ LN(R_n h)), or reset before
//   RNN    a = LN(W x) + LN(R h)
//
// The mean of a row needs all its units, so that a step is a product to memory, and then row by row the equations; threads
// share the batch. The backward pass of  y = gain ∘ ŝ  is
//   ds = (u - mean u - ŝ ∘ mean(u ∘ ŝ)) / sqrt(var s + ε)    u = gain ∘ dy    dgain = Σ dy ∘ ŝ
// and a row of da holds, in blocks of H:  ds of W x, ds of R h, dy of both, once where it is the same (for the biases, and
// with the ŝ that the forward pass has kept for the gains), and for an LSTM's cell dy and dy ∘ ŝ.
#ifndef CAROUSEL_KERNELS_NORMALIZED_H
#define CAROUSEL_KERNELS_NORMALIZED_H

#include "gru.h"
#include "lstm.h"
#include "rnn.h"

namespace {

// body(j, left) over the registers of a row of n; `left` is a constant but for the last.
template <class T, class Body>
CAROUSEL_INLINE void for_registers(int64_t n, Body&& body) {
  int64_t j = 0;
  for (; j + lanes<T> <= n; j += lanes<T>) body(j, lanes<T>);
  if (j < n) body(j, n - j);
}

// Σ term(j, left) over the registers of a row of n, in four sums, for an addition waits for the one before it.
template <class T, class Term>
CAROUSEL_INLINE T summed(int64_t n, Term&& term) {
  Vec<T> sums[4]{};
  int64_t j = 0;
  for (; j + 4 * lanes<T> <= n; j += 4 * lanes<T>)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sums[v] += term(j + v * lanes<T>, lanes<T>);
  for (; j < n; j += lanes<T>) sums[0] += term(j, n - j);
  return total<T>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class T>
struct Moments {
  T mean, inverse;
  CAROUSEL_INLINE Vec<T> standardized(Vec<T> x) const { return (x - splat(mean)) * splat(inverse); }
};

template <class T>
CAROUSEL_INLINE Moments<T> moments(const T* row, int64_t n, T epsilon) {
  const T count = T(n > 0 ? n : 1);
  const T mean = summed<T>(n, [&](int64_t j, int64_t left) __attribute__((always_inline)) { return load(row + j, left); }) / count;
  const T squares = summed<T>(n, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> d = load(row + j, left) - splat(mean);
    return left >= lanes<T> ? d * d : numbered<T>() < Int<T>(left) ? d * d : Vec<T>{};
  });
  return {mean, T(1.0 / __builtin_sqrt(double(squares) / double(count) + double(epsilon)))};
}

// ds from dy, the standardized row and its inverse.
template <class T>
CAROUSEL_INLINE void standardize_back(const T* dy, const T* hat, const T* gain, T inverse, int64_t n, T* ds) {
  Vec<T> sums[2]{}, products[2]{};
  int64_t j = 0;
  for (; j + 2 * lanes<T> <= n; j += 2 * lanes<T>)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const Vec<T> u = load(dy + j + v * lanes<T>) * load(gain + j + v * lanes<T>);
      sums[v] += u;
      products[v] += u * load(hat + j + v * lanes<T>);
    }
  for (; j < n; j += lanes<T>) {
    const Vec<T> u = load(dy + j, n - j) * load(gain + j, n - j);
    sums[0] += u;
    products[0] += u * load(hat + j, n - j);
  }
  const Vec<T> mean = splat(total<T>(sums[0] + sums[1]) / T(n)), along = splat(total<T>(products[0] + products[1]) / T(n));
  for (j = 0; j < n; j += lanes<T>) {
    const int64_t left = n - j;
    const Vec<T> u = load(dy + j, left) * load(gain + j, left);
    store(ds + j, (u - mean - load(hat + j, left) * along) * splat(inverse), left);
  }
}

// Which sums share a mean: [first, first + count) gates.
struct Group {
  int first, count;
};

// r and z of a GRU together, and n; all gates of another cell.
inline Group group_of(const Traits& cell, int g) { return cell.groups == 1 ? Group{0, cell.gates} : g == 0 ? Group{0, 2} : Group{2, 1}; }

template <class Cell>
constexpr NormBlocks places = norm_blocks(Cell::gates, Cell::traits.has_cells, Cell::traits.one_bias);

// W x of a chunk, normalised, with the biases: those of R h too, but where its gate keeps them apart.
template <class T>
__attribute__((noinline)) void project_normalized(const Forward<T>& f, int64_t s0, int64_t s1, Rows rows, Range) {
  const int64_t H = f.hidden, GH = f.cell.gates * H;
  const T *b_W = static_cast<const T*>(f.weights.b_W), *b_R = static_cast<const T*>(f.weights.b_R);
  const int64_t joined = f.cell.one_bias ? GH : GH - H;
  for (int64_t s = s0; s < s1; ++s) {
    const Rows here = f.ragged.running(rows, s);
    const auto x = [&](int64_t i) { return f.x(s, here(i)); };
    T* const first = f.projected + f.ahead_row(s, 0) * GH;
    const auto sums = [&](int64_t i) { return first + here(i) * GH; };
    multiply_rows<T>(GH, here.count, f.inputs, lines<const T>(x), f.W_columns, lines<T>(sums));
    for (int64_t i = 0; i < here.count; ++i) {
      const int64_t b = here(i);
      T* row = first + b * GH;
      for (int g = 0; g < f.cell.groups; ++g) {
        const Group group = group_of(f.cell, g);
        const int64_t end = (group.first + group.count) * H;
        const Moments<T> m = moments(row + group.first * H, group.count * H, f.extras.epsilon);
        if (f.training) f.inverses(s, b)[g] = m.inverse;
        T* kept = f.training ? f.x_hat(s, b) : nullptr;
        for (int64_t j = group.first * H; j < end; j += lanes<T>) {
          const int64_t left = end - j;
          const Vec<T> hat = m.standardized(load(row + j, left));
          if (kept) store(kept + j, hat, left);
          Vec<T> a = hat * load(f.extras.gain_x + j, left);
          if (b_W) a += load(b_W + j, left);
          if (b_R && j < joined) a += load(b_R + j, left);
          store(row + j, a, left);
        }
      }
    }
  }
}

// R h of one row: a group of it normalised as it is read.
template <class T>
struct Recurrent {
  const T *row, *gain;
  T* kept;  // where the standardized row is kept; null: nowhere
  Moments<T> m;

  Recurrent(const Forward<T>& f, int64_t s, int64_t b, int g) {
    const Group group = group_of(f.cell, g);
    row = f.sums_h + b * f.cell.gates * f.hidden, gain = f.extras.gain_h;
    kept = f.training ? f.h_hat(s, b) : nullptr;
    m = moments(row + group.first * f.hidden, group.count * f.hidden, f.extras.epsilon);
    if (f.training) f.inverses(s, b)[f.cell.groups + g] = m.inverse;
  }
  CAROUSEL_INLINE Vec<T> operator()(int64_t at, int64_t left) const {
    const Vec<T> hat = m.standardized(load(row + at, left));
    if (kept) store(kept + at, hat, left);
    return hat * load(gain + at, left);
  }
};

template <class T, bool Coupled>
void normalized_row(const LstmCell<Coupled>&, const Forward<T>& f, int64_t s, int64_t b) {
  using Cell = LstmCell<Coupled>;
  using At = LstmGates<Coupled>;
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Recurrent<T> h(f, s, b, 0);
  const T* x = f.projected + f.ahead_row(s, b) * Cell::gates * H;
  T *fresh = f.fresh + b * 2 * H, *open = fresh + H;
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const auto t = [&](int g) __attribute__((always_inline)) {
      return (load(x + g * H + j, left) + h(g * H + j, left)) * splat(T(Cell::traits.scales[g]));
    };
    const Vec<T> c_old = load(f.c(s, b) + j, left);
    const Vec<T> i = with.sigmoid(with.seen(t(At::i), 0, c_old, H, j, left, sigmoid_scale));
    const Vec<T> fg = Coupled ? splat(T(1)) - i : with.sigmoid(with.seen(t(At::f), 1, c_old, H, j, left, sigmoid_scale));
    const Vec<T> g = with.tanh(t(At::g));
    const Vec<T> c = with.bounded_cell(fg * c_old + i * with.masked_candidate(g, b, j, left));
    const Vec<T> o = with.sigmoid(with.seen(t(At::o), Coupled ? 1 : 2, c, H, j, left, sigmoid_scale));
    store(fresh + j, c, left);
    store(open + j, o, left);
    store(f.cells(s, b) + j, with.kept_cell(c, c_old, s, b, j, H), left);
    if (f.training) {
      T* gate = f.gates(s, b) + j;
      store(gate + At::i * H, i, left);
      if constexpr (!Coupled) store(gate + At::f * H, fg, left);
      store(gate + At::g * H, g, left);
      store(gate + At::o * H, o, left);
    }
  });
  const T *gain = f.extras.gain_c, *shift = f.extras.shift_c;
  const Moments<T> m = gain ? moments(fresh, H, f.extras.epsilon) : Moments<T>{};
  T* to = f.output(s, b);
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    Vec<T> c = load(fresh + j, left);
    if (gain) c = m.standardized(c) * load(gain + j, left);
    if (shift) c += load(shift + j, left);
    store(to + j, load(open + j, left) * tanh<T>(c), left);
  });
}

template <class T>
void normalized_row(const GruResetAfter&, const Forward<T>& f, int64_t s, int64_t b) {
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const T* b_R = static_cast<const T*>(f.weights.b_R);
  const Recurrent<T> gates_h(f, s, b, 0), candidate_h(f, s, b, 1);
  const T *x = f.projected + f.ahead_row(s, b) * 3 * H, *old = f.h(s, b);
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> r = with.sigmoid((load(x + j, left) + gates_h(j, left)) * splat(T(sigmoid_scale)));
    const Vec<T> z = with.sigmoid((load(x + H + j, left) + gates_h(H + j, left)) * splat(T(sigmoid_scale)));
    Vec<T> q = candidate_h(2 * H + j, left);
    if (b_R) q += load(b_R + 2 * H + j, left);
    const Vec<T> n = with.tanh((load(x + 2 * H + j, left) + r * q) * splat(T(tanh_scale)));
    const Vec<T> candidate = with.masked_candidate(n, b, j, left);
    store(f.y(s, b) + j, candidate + z * (load(old + j, left) - candidate), left);
    if (f.training) {
      T* gate = f.gates(s, b) + j;
      store(gate, r, left);
      store(gate + H, z, left);
      store(gate + 2 * H, n, left);
      store(gate + 3 * H, q, left);
    }
  });
}

template <class T>
void normalized_row(const GruResetBefore&, const Forward<T>& f, int64_t s, int64_t b) {
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Recurrent<T> h(f, s, b, 1);
  const T *x = f.projected + f.ahead_row(s, b) * 3 * H, *old = f.h(s, b);
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    T* gate = f.gates(s, b) + j;
    const Vec<T> z = load(gate + H, left);
    const Vec<T> n = with.tanh((load(x + 2 * H + j, left) + h(2 * H + j, left)) * splat(T(tanh_scale)));
    const Vec<T> candidate = with.masked_candidate(n, b, j, left);
    store(gate + 2 * H, n, left);
    store(f.y(s, b) + j, candidate + z * (load(old + j, left) - candidate), left);
  });
}

// r, z and r ∘ h, which the second product reads.
template <class T>
void normalized_reset_row(const Forward<T>& f, int64_t s, int64_t b) {
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Recurrent<T> h(f, s, b, 0);
  const T *x = f.projected + f.ahead_row(s, b) * 3 * H, *old = f.h(s, b);
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    T* gate = f.gates(s, b) + j;
    const Vec<T> r = with.sigmoid((load(x + j, left) + h(j, left)) * splat(T(sigmoid_scale)));
    store(gate, r, left);
    store(gate + H, with.sigmoid((load(x + H + j, left) + h(H + j, left)) * splat(T(sigmoid_scale))), left);
    store(gate + 3 * H, r * with.masked_state(load(old + j, left), b, j, left), left);
  });
}

template <class T, class Activation>
void normalized_row(const Rnn<Activation>&, const Forward<T>& f, int64_t s, int64_t b) {
  const int64_t H = f.hidden;
  const Recurrent<T> h(f, s, b, 0);
  const T* x = f.projected + f.ahead_row(s, b) * H;
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> t = (load(x + j, left) + h(j, left)) * splat(T(Activation::scale));
    const Vec<T> fresh = Activation::template value<T>(Equations<T, true>{f.extras}.clipped(t, Activation::scale));
    store(f.y(s, b) + j, fresh, left);
    if (f.gates.data) store(f.gates(s, b) + j, fresh, left);
  });
}

template <class T, class Cell>
void normalized_step(const Forward<T>& f, int64_t s, Rows rows, Range) {
  const int64_t H = f.hidden, GH = Cell::gates * H, P = f.state;
  const auto operand = [&](int64_t i) { return f.operand(s, rows(i)); };
  const auto sums = [&](int64_t i) { return f.sums_h + rows(i) * GH; };
  if constexpr (Cell::traits.phases == 1) {
    multiply_rows<T>(GH, rows.count, P, lines<const T>(operand), f.R_columns, lines<T>(sums));
  } else {
    const auto reset = [&](int64_t i) { return f.gates(s, rows(i)) + 3 * H; };
    const auto candidate = [&](int64_t i) { return f.sums_h + rows(i) * GH + 2 * H; };
    multiply_rows<T>(2 * H, rows.count, P, lines<const T>(operand), f.R_columns, lines<T>(sums));
    for (int64_t i = 0; i < rows.count; ++i) normalized_reset_row(f, s, rows(i));
    multiply_rows<T>(H, rows.count, P, lines<const T>(reset), f.R_columns + Strips<T>(2 * H).size(P), lines<T>(candidate));
  }
  for (int64_t i = 0; i < rows.count; ++i) normalized_row(Cell{}, f, s, rows(i));
}

// ---- backward: from dy of the sums, which a cell's equations wrote to its row of da, to ds ----

// The g-th group of one product's gradient, `dy` at block dy_x or dy_h.
template <class T>
__attribute__((noinline)) void product_back(const Backward<T>& f, int64_t s, int64_t b, int g, bool of_h) {
  const NormBlocks N = norm_blocks(f.cell.gates, f.cell.has_cells, f.cell.one_bias);
  const Group group = group_of(f.cell, g);
  const int64_t H = f.hidden, at = group.first * H;
  T* da = f.da_row(s, b) + at;
  standardize_back(da + (of_h ? N.dy_h : N.dy_x) * H, (of_h ? f.h_hat : f.x_hat)(s, b) + at,
                   (of_h ? f.extras.gain_h : f.extras.gain_x) + at,
                   f.inverses(s, b)[(of_h ? f.cell.groups : 0) + g], group.count * H, da + (of_h ? N.d_h : N.d_x) * H);
}

template <class T>
void products_back(const Backward<T>& f, int64_t s, int64_t b, bool of_x, bool of_h) {
  for (int g = 0; g < f.cell.groups; ++g) {
    if (of_x) product_back(f, s, b, g, false);
    if (of_h) product_back(f, s, b, g, true);
  }
}

template <class T, bool Coupled>
void normalized_row_back(const LstmCell<Coupled>&, const Backward<T>& f, int64_t s, int64_t b) {
  using Cell = LstmCell<Coupled>;
  using At = LstmGates<Coupled>;
  constexpr NormBlocks N = places<Cell>;
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Vec<T> one = splat(T(1));
  const BackLine<T> row = f.line(s, b);
  const T *gates = row.gates, *gain = f.extras.gain_c, *shift = f.extras.shift_c;
  T *da = row.da, *sum = f.row_buffer + b * 3 * H, *hat = sum + H, *dc_fresh = hat + H;

  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> i = load(gates + At::i * H + j, left), g = load(gates + At::g * H + j, left);
    const Vec<T> fg = Coupled ? one - i : load(gates + At::f * H + j, left);
    store(sum + j, fg * load(row.c + j, left) + i * with.masked_candidate(g, b, j, left), left);
    store(hat + j, with.bounded_cell(load(sum + j, left)), left);
  });
  const Moments<T> m = gain ? moments(hat, H, f.extras.epsilon) : Moments<T>{T(0), T(1)};
  // h' = o ∘ tanh(l), l = gain ∘ ĉ + shift: dl, and the gradient of o on its way to da_o
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    Vec<T> l = load(hat + j, left), standard = l;
    if (gain) {
      standard = m.standardized(l);
      store(hat + j, standard, left);
      l = standard * load(gain + j, left);
    }
    if (shift) l += load(shift + j, left);
    const Vec<T> o = load(gates + At::o * H + j, left), q = tanh<T>(l), dh = row.output_gradient(j, left);
    const Vec<T> dl = dh * o * (one - q * q);
    store(da + N.cell * H + j, dl, left);
    store(da + N.gain_cell * H + j, gain ? dl * standard : Vec<T>{}, left);
    const Vec<T> d_o = with.with_gate_gradient(dh * q, At::o, s, b, H, j, left);
    store(da + (N.dy_x + At::o) * H + j, with.passed(d_o * o * (one - o), o, false), left);
    if (f.shown_block) store(da + f.shown_block * H + j, o * q, left);
  });
  if (gain) {
    standardize_back(da + N.cell * H, hat, gain, m.inverse, H, dc_fresh);
  } else {
    for (int64_t j = 0; j < H; ++j) dc_fresh[j] = da[N.cell * H + j];
  }
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> i = load(gates + At::i * H + j, left), g = load(gates + At::g * H + j, left);
    const Vec<T> fg = Coupled ? one - i : load(gates + At::f * H + j, left), c_old = load(row.c + j, left);
    const Vec<T> candidate = with.masked_candidate(g, b, j, left), da_o = load(da + (N.dy_x + At::o) * H + j, left);
    const Vec<T> raw = load(sum + j, left);
    Vec<T> dc = with.with_cell_gradient(load(row.dc + j, left), s, b, j, left), dc_old{};
    if (f.extras.zoneout_c > 0) {
      dc_old = f.extras.kept(f.extras.zoneout_c, true, s, b, j, H) * dc;
      dc -= dc_old;
    }
    dc = with.seen(dc + load(dc_fresh + j, left), Coupled ? 1 : 2, da_o, H, j, left);
    dc = with.passed_cell(dc, raw);
    const Vec<T> d_i = with.with_gate_gradient(dc * (Coupled ? candidate - c_old : candidate), At::i, s, b, H, j, left);
    const Vec<T> d_g = with.with_gate_gradient(with.masked_candidate(dc * i, b, j, left), At::g, s, b, H, j, left);
    const Vec<T> da_i = with.passed(d_i * i * (one - i), i, false);
    Vec<T> da_f{};
    store(da + (N.dy_x + At::i) * H + j, da_i, left);
    if constexpr (!Coupled) {
      const Vec<T> d_f = with.with_gate_gradient(dc * c_old, At::f, s, b, H, j, left);
      da_f = with.passed(d_f * fg * (one - fg), fg, false);
      store(da + (N.dy_x + At::f) * H + j, da_f, left);
    }
    store(da + (N.dy_x + At::g) * H + j, with.passed(d_g * (one - g * g), g, true), left);
    dc_old = with.seen(dc_old + dc * fg, 0, da_i, H, j, left);
    if constexpr (!Coupled) dc_old = with.seen(dc_old, 1, da_f, H, j, left);
    if (f.peephole_block) {
      T* dp = da + f.peephole_block * H + j;
      store(dp, da_i * c_old, left);
      if constexpr (!Coupled) store(dp + H, da_f * c_old, left);
      store(dp + (Coupled ? 1 : 2) * H, da_o * with.bounded_cell(raw), left);
    }
    store(row.dc + j, dc_old, left);
    row.carry(j, Vec<T>{}, left);
  });
  products_back(f, s, b, true, true);
}

template <class T>
void normalized_row_back(const GruResetAfter&, const Backward<T>& f, int64_t s, int64_t b) {
  constexpr NormBlocks N = places<GruResetAfter>;
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Vec<T> one = splat(T(1));
  const BackLine<T> row = f.line(s, b);
  T* da = row.da;
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const T* gate = row.gates + j;
    const Vec<T> r = load(gate, left), z = load(gate + H, left), n = load(gate + 2 * H, left);
    const Vec<T> q = load(gate + 3 * H, left), h = load(row.h + j, left), dh = row.output_gradient(j, left);
    const Vec<T> candidate = with.masked_candidate(n, b, j, left);
    const Vec<T> d_n = with.with_gate_gradient(with.masked_candidate(dh * (one - z), b, j, left), 2, s, b, H, j, left);
    const Vec<T> da_n = with.passed(d_n * (one - n * n), n, true);
    const Vec<T> d_r = with.with_gate_gradient(da_n * q, 0, s, b, H, j, left);
    const Vec<T> d_z = with.with_gate_gradient(dh * (h - candidate), 1, s, b, H, j, left);
    const Vec<T> da_r = with.passed(d_r * r * (one - r), r, false), da_z = with.passed(d_z * z * (one - z), z, false);
    T *x = da + N.dy_x * H + j, *recurrent = da + N.dy_h * H + j;
    store(x, da_r, left);
    store(x + H, da_z, left);
    store(x + 2 * H, da_n, left);
    store(recurrent, da_r, left);
    store(recurrent + H, da_z, left);
    store(recurrent + 2 * H, da_n * r, left);
    row.carry(j, dh * z, left);
  });
  products_back(f, s, b, true, true);
}

// First n and z; then, when dq = ds_n R_n is known, r.
template <class T>
void normalized_row_back(const GruResetBefore&, const Backward<T>& f, int64_t s, int64_t b) {
  constexpr NormBlocks N = places<GruResetBefore>;
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Vec<T> one = splat(T(1));
  const BackLine<T> row = f.line(s, b);
  T* da = row.da;
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const T* gate = row.gates + j;
    const Vec<T> z = load(gate + H, left), n = load(gate + 2 * H, left), dh = row.output_gradient(j, left);
    const Vec<T> d_n = with.with_gate_gradient(with.masked_candidate(dh * (one - z), b, j, left), 2, s, b, H, j, left);
    const Vec<T> h = load(row.h + j, left), candidate = with.masked_candidate(n, b, j, left);
    const Vec<T> d_z = with.with_gate_gradient(dh * (h - candidate), 1, s, b, H, j, left);
    const Vec<T> da_z = with.passed(d_z * z * (one - z), z, false), da_n = with.passed(d_n * (one - n * n), n, true);
    store(da + (N.dy_x + 1) * H + j, da_z, left);
    store(da + (N.dy_x + 2) * H + j, da_n, left);
    row.carry(j, dh * z, left);
  });
  product_back(f, s, b, 1, true);
}

template <class T>
void normalized_reset_row_back(const Backward<T>& f, int64_t s, int64_t b) {
  constexpr NormBlocks N = places<GruResetBefore>;
  const int64_t H = f.hidden;
  const Equations<T, true> with{f.extras};
  const Vec<T> one = splat(T(1));
  const BackLine<T> row = f.line(s, b);
  T* da = row.da;
  for_registers<T>(H, [&](int64_t j, int64_t left) __attribute__((always_inline)) {
    const Vec<T> r = load(row.gates + j, left), dq = load(f.dreset + b * H + j, left);
    const Vec<T> h = with.masked_state(load(row.h + j, left), b, j, left);
    const Vec<T> d_r = with.with_gate_gradient(dq * h, 0, s, b, H, j, left);
    const Vec<T> da_r = with.passed(d_r * r * (one - r), r, false);
    store(da + N.dy_x * H + j, da_r, left);
    row.carry_more(j, with.masked_state(dq * r, b, j, left), left);
  });
  products_back(f, s, b, true, false);
  product_back(f, s, b, 0, true);
}

template <class T, class Activation>
void normalized_row_back(const Rnn<Activation>&, const Backward<T>& f, int64_t s, int64_t b) {
  constexpr NormBlocks N = places<Rnn<Activation>>;
  const int64_t H = f.hidden;
  const BackLine<T> row = f.line(s, b);
  T* da = row.da;
  for (int64_t j = 0; j < H; j += lanes<T>) {
    const Vec<T> d = Rnn<Activation>::template sum_gradient<T, true>(f, s, b, row, j, H - j);
    store(da + N.dy_x * H + j, d, H - j);
    row.carry(j, Vec<T>{}, H - j);
  }
  products_back(f, s, b, true, true);
}

template <class T, class Cell>
void normalized_step_back(const Backward<T>& f, int64_t s, const Part& part, const Team& team) {
  constexpr NormBlocks N = places<Cell>;
  constexpr int reset = Cell::traits.phases == 2 ? 2 : Cell::gates;  // gates whose product reads h itself
  const int64_t H = f.hidden, P = f.state;
  before_step(f, s, part, team);
  for (int64_t i = 0; i < part.rows.count; ++i) normalized_row_back(Cell{}, f, s, part.rows(i));
  if constexpr (Cell::traits.phases == 2) {
    multiply_da(f, s, part.rows, part.states, P, (N.d_h + 2) * H, H, f.R_strips + Strips<T>(P).size(reset * H), f.dreset,
                false);
    for (int64_t i = 0; i < part.rows.count; ++i) normalized_reset_row_back(f, s, part.rows(i));
  }
  multiply_da(f, s, part.rows, part.states, P, N.d_h * H, reset * H, f.R_strips, f.back, false);
  after_step(f, part);
}

// ---- which code runs a layer ----

template <class T, class Cell>
Steps<T> forward_steps(Mode mode) {
  constexpr int last = Cell::traits.phases - 1;
  switch (mode) {
    case plain: return {{step<T, Cell, 0, false>, last ? step<T, Cell, last, false> : nullptr}, project_ahead<T>};
    case optioned: return {{step<T, Cell, 0, true>, last ? step<T, Cell, last, true> : nullptr}, project_ahead<T>};
    case normalized: return {{normalized_step<T, Cell>, nullptr}, project_normalized<T>};
  }
  return {};
}

template <class T, class Cell>
auto backward_step(Mode mode) -> void (*)(const Backward<T>&, int64_t, const Part&, const Team&) {
  switch (mode) {
    case plain: return step_back<T, Cell, false>;
    case optioned: return step_back<T, Cell, true>;
    case normalized: return normalized_step_back<T, Cell>;
  }
  return nullptr;
}

}  // namespace
#endif
