// The plain recurrent network (Elman 1990):  h' = tanh(W x + R h + b)  or  max(W x + R h + b, 0).
// Its backward pass needs h' only, or where zoneout changes h', the activation.
#ifndef CAROUSEL_KERNELS_RNN_H
#define CAROUSEL_KERNELS_RNN_H

#include "backward.h"
#include "forward.h"

namespace {

struct Tanh {
  static constexpr double scale = tanh_scale;
  template <class T>
  static CAROUSEL_INLINE Vec<T> value(Vec<T> t) {  // t = scale * a
    return scaled_tanh<T>(t);
  }
  template <class T>
  static CAROUSEL_INLINE Vec<T> gradient(Vec<T> h, Vec<T> dh) {
    return dh * (splat(T(1)) - h * h);
  }
};

// The gradient at 0 is 0, as in torch; NaN stays NaN.
struct Relu {
  static constexpr double scale = 1;
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
  static constexpr int gates = 1;
  static constexpr Traits traits{1,  1, 1, 1, true, false, false, true, {0, 1, {0, 0, 0, 0}}, {0, 1, {0, 0, 0, 0}},
                                 {}, 1, {Activation::scale}};

  template <class T, int Phase, bool Whole>
  using Sums = Gates<T, 0, 1, Whole>;
  template <int Phase, class T>
  static CAROUSEL_INLINE const T* operand(const Forward<T>&, const Line<T>& row) {
    return row.operand;
  }

  template <class T, int Phase, bool Whole, bool On>
  static __attribute__((noinline)) void forward(const Forward<T>& f, int64_t, const Line<T>* rows, int M, int64_t p,
                                                const Sums<T, Phase, Whole>& a) {
    const int64_t j = p * lanes<T>, left = Whole ? lanes<T> : f.hidden - j;
    const Equations<T, On> with{f.extras};
    using Units = Joined<T, Whole || On>;
    const int most = Units::most(left);
    for (int m = 0; m < M; m += most) {
      const Units at(rows, m, M, j, left);
      const Vec<T> fresh = Activation::template value<T>(with.clipped(at.sum(a, 0), Activation::scale));
      at.write(fresh, [](const Line<T>& row) { return row.output; });
      if (On && f.gates.data)  // y becomes another thing at the end of the step
        at.write(fresh, [](const Line<T>& row) { return row.gates; });
    }
  }

  template <class T, bool On>
  static CAROUSEL_INLINE Vec<T> sum_gradient(const Backward<T>& f, int64_t s, int64_t b, const BackLine<T>& row, int64_t j,
                                            int64_t left) {
    const Equations<T, On> with{f.extras};
    const Vec<T> h = load((On && row.gates ? row.gates : row.y) + j, left);
    const Vec<T> dh = with.with_gate_gradient(row.output_gradient(j, left), 0, s, b, f.hidden, j, left);
    const Vec<T> da = Activation::template gradient<T>(h, dh);
    if constexpr (On)
      if (f.extras.clip > 0) {
        const Vec<T> bound = splat(f.extras.clip * T(Activation::scale));
        const Vec<T> high = Activation::template value<T>(bound), low = Activation::template value<T>(-bound);
        return (h >= high) | (h <= low) ? Vec<T>{} : da;
      }
    return da;
  }

  template <class T, int Phase, bool On>
  static CAROUSEL_INLINE void backward(const Backward<T>& f, int64_t s, int64_t b, const BackLine<T>& row, int64_t j,
                                       int64_t left) {
    store(row.da + j, sum_gradient<T, On>(f, s, b, row, j, left), left);
    row.carry(j, Vec<T>{}, left);
  }
};

using RnnTanh = Rnn<Tanh>;
using RnnRelu = Rnn<Relu>;

}  // namespace
#endif
