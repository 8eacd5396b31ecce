// The door for torch: all layers of a module in one call, addresses as integers; the caller has checked every shape.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "../team.h"
#include "support.h"

namespace {

using Address = uintptr_t;

template <class T = void>
T* at(Address address, int64_t bytes = 0) {
  return address ? reinterpret_cast<T*>(address + Address(bytes)) : nullptr;
}

// Where a direction's arrays begin, in this order; trailing ones may be missing.
enum Parameter { W, R, b_W, b_R, projection, peephole, gain_x, gain_h, gain_c, shift_c, parameters };
enum Mask { candidate_mask, state_mask, masks };

using Addresses = std::vector<Address>;

// A sequence: where it begins, and elements from one step, one batch row, to the next.
struct Strided {
  Address data;
  int64_t step, row;
};
using GivenStrided = std::tuple<Address, int64_t, int64_t>;
Strided strided(const GivenStrided& given) { return std::make_from_tuple<Strided>(given); }

int64_t rounded_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Layers of one kind, one above the other, each in one direction or in both: what a torch module holds.
class Layers {
 public:
  Layers(int cell, int dtype, int64_t inputs, int64_t hidden, int64_t projected, int layers, int directions,
         bool normalized, double clip, double cell_clip, double zoneout_h, double zoneout_c, bool low_precision, bool reverse, bool packed)
      : inputs_(inputs),
        hidden_(hidden),
        projected_(projected),
        width_(projected > 0 ? projected : hidden),
        layers_(layers),
        directions_(directions),
        item_(dtype == CAROUSEL_FLOAT64 ? sizeof(double) : sizeof(float)) {
    options_.version = CAROUSEL_ABI;
    options_.cell = cell;
    options_.dtype = dtype;
    options_.products = low_precision ? CAROUSEL_PRODUCTS_BFLOAT16 : CAROUSEL_PRODUCTS_FULL;
    options_.normalized = normalized;
    options_.epsilon = 1e-5;
    options_.clip = clip, options_.cell_clip = cell_clip;
    options_.zoneout_h = zoneout_h, options_.zoneout_c = zoneout_c;
    options_.reverse = reverse;  // the first direction; the second is the other one
    options_.packed_sequence = packed;
    memory_of(options_, sizes(0, 1, 1));  // raises what is wrong with the options
  }

  // Bytes of the block that a forward pass leaves for the backward pass: of every direction what the kernel leaves, and
  // the outputs of all layers but the last. `steps` of each direction, T unless only some are run; `rows` of a sequence,
  // T * B unless it is packed.
  int64_t block_bytes(int64_t steps, int64_t B, int64_t rows) const {
    return layers_ * directions_ * reserve_bytes(steps, B) + (layers_ - 1) * output_bytes(rows);
  }

  void forward(int64_t T, int64_t B, const GivenStrided& x, Address h_0, Address c_0, const Addresses& weights,
               const Addresses& given_masks, const GivenStrided& y, Address h_n, Address c_n, Address block,
               Address lengths, uint32_t key, bool drawn, int64_t first, int64_t last) const {
    check(weights, given_masks);
    const int64_t rows = rows_of(T, B, lengths);
    const carousel_memory needed = memory_of_any(T, B, last > 0 ? last - first : T);
    const int64_t kernel = needed.forward_scratch;
    const int at_once = directions_ == 2 && carousel_max_threads() == 2 ? 2 : 1;
    const int64_t outputs = block || layers_ == 1 ? 0 : 2 * output_bytes(rows);
    const Scratch scratch(kernel * at_once + outputs);
    char* const memory = static_cast<char*>(scratch.data());
    carousel_status status = CAROUSEL_OK;
    {
      nb::gil_scoped_release released;
      Strided below = strided(x);
      for (int layer = 0; layer < layers_ && status == CAROUSEL_OK; ++layer) {
        Strided to = strided(y);
        if (layer < layers_ - 1)
          to = {block ? output_of(block, layer, rows, needed.reserve)
                      : Address(memory + kernel * at_once + layer % 2 * output_bytes(rows)),
                B * directions_ * width_, directions_ * width_};
        carousel_forward_arrays calls[2];
        carousel_options options[2];
        for (int d = 0; d < directions_; ++d) {
          const int k = layer * directions_ + d;
          carousel_forward_arrays& a = calls[d] = {};
          options[d] = options_of_direction(k, key, drawn, first, last, at_once);
          a.x = at(below.data), a.x_step = below.step, a.x_row = below.row;
          a.h_0 = at(h_0, k * B * width_ * item_), a.c_0 = at(c_0, k * B * hidden_ * item_);
          a.lengths = at<const int64_t>(lengths);
          set_weights(weights, given_masks, k, a);
          a.y = at(to.data, d * width_ * item_), a.y_step = to.step, a.y_row = to.row;
          a.h_n = at(h_n, k * B * width_ * item_), a.c_n = at(c_n, k * B * hidden_ * item_);
          a.reserve = at(block, k * needed.reserve);
          a.scratch = memory + d % at_once * kernel;
        }
        const carousel_sizes size = sizes(layer, T, B);
        status = each_direction(at_once, [&](int d) { return carousel_forward(&options[d], &size, &calls[d]); });
        below = to;
      }
    }
    raise(status);
  }

  void backward(int64_t T, int64_t B, const GivenStrided& x, Address h_0, Address c_0, const Addresses& weights,
                const Addresses& given_masks, const GivenStrided& y, Address block, const GivenStrided& dy, Address dh_n,
                Address dc_n, Address dblock, const GivenStrided& dx, Address dh_0, Address dc_0,
                const Addresses& dweights, Address lengths, uint32_t key, bool drawn, int64_t first, int64_t last) const {
    check(weights, given_masks);
    check(dweights, {});
    const int64_t rows = rows_of(T, B, lengths), steps = last > 0 ? last - first : T;
    const carousel_memory needed = memory_of_any(T, B, steps);
    const int64_t kernel = needed.backward_scratch;
    const int at_once = directions_ == 2 && carousel_max_threads() == 2 ? 2 : 1;
    const int64_t between = layers_ > 1 ? output_bytes(rows) : 0;  // dy of a layer that is not the last
    const bool wants_dx = strided(dx).data != 0;
    const int64_t second = directions_ == 2 ? std::max(between, wants_dx ? rounded_up(rows * inputs_ * item_) : 0) : 0;
    const Scratch scratch(kernel * at_once + 2 * between + second);
    char* const memory = static_cast<char*>(scratch.data());
    char* const second_dx = memory + kernel * at_once + 2 * between;
    carousel_status status = CAROUSEL_OK;
    {
      nb::gil_scoped_release released;
      const int64_t wide = directions_ * width_;
      Strided out = strided(y), dout = strided(dy);
      for (int layer = layers_ - 1; layer >= 0 && status == CAROUSEL_OK; --layer) {
        const bool lowest = layer == 0;
        const Strided in = lowest ? strided(x)
                                  : Strided{output_of(block, layer - 1, rows, needed.reserve), B * wide, wide};
        const Strided din = lowest ? strided(dx)
                                   : Strided{Address(memory + kernel * at_once + layer % 2 * between), B * wide, wide};
        const int64_t features = lowest ? inputs_ : wide;
        carousel_backward_arrays calls[2];
        carousel_options options[2];
        for (int d = 0; d < directions_; ++d) {
          const int k = layer * directions_ + d;
          carousel_backward_arrays& a = calls[d] = {};
          options[d] = options_of_direction(k, key, drawn, first, last, at_once);
          a.x = at(in.data), a.x_step = in.step, a.x_row = in.row;
          a.h_0 = at(h_0, k * B * width_ * item_), a.c_0 = at(c_0, k * B * hidden_ * item_);
          a.lengths = at<const int64_t>(lengths);
          set_weights(weights, given_masks, k, a);
          a.y = at(out.data, d * width_ * item_), a.y_step = out.step, a.y_row = out.row;
          a.reserve = at(block, k * needed.reserve);
          a.dy = at(dout.data, d * width_ * item_), a.dy_step = dout.step, a.dy_row = dout.row;
          a.dh_n = at(dh_n, k * B * width_ * item_), a.dc_n = at(dc_n, k * B * hidden_ * item_);
          if (dblock) {
            a.dgates = at(dblock, k * needed.reserve);
            if (has_cells()) a.dcells = at(dblock, k * needed.reserve + gate_bytes(steps, B));
          }
          if (d == 0) {
            a.dx = at(din.data), a.dx_step = din.step, a.dx_row = din.row;
          } else {  // the kernels overwrite
            a.dx = din.data ? second_dx : nullptr, a.dx_step = B * features, a.dx_row = features;
          }
          a.dh_0 = at(dh_0, k * B * width_ * item_), a.dc_0 = at(dc_0, k * B * hidden_ * item_);
          set_gradients(dweights, k, a);
          a.scratch = memory + d % at_once * kernel;
        }
        const carousel_sizes size = sizes(layer, T, B);
        status = each_direction(at_once, [&](int d) { return carousel_backward(&options[d], &size, &calls[d]); });
        if (status == CAROUSEL_OK && directions_ == 2 && din.data) {
          if (item_ == sizeof(double))
            add<double>(din, second_dx, T, B, rows, features);
          else
            add<float>(din, second_dx, T, B, rows, features);
        }
        out = in, dout = din;
      }
    }
    raise(status);
  }

  int64_t reserve_bytes(int64_t T, int64_t B) const {
    return rounded_up(memory_of(options_, {T, B, 0, hidden_, projected_}).reserve);
  }
  int64_t gate_bytes(int64_t T, int64_t B) const {  // of the gates, at the start of what a direction leaves
    const int64_t blocks = options_.cell == CAROUSEL_LSTM_COUPLED ? 3 : options_.cell < CAROUSEL_RNN_TANH ? 4 : 1;
    return rounded_up(T * B * blocks * hidden_ * item_);
  }

 private:
  bool has_cells() const { return options_.cell == CAROUSEL_LSTM || options_.cell == CAROUSEL_LSTM_COUPLED; }
  carousel_sizes sizes(int layer, int64_t T, int64_t B) const {
    return {T, B, layer == 0 ? inputs_ : directions_ * width_, hidden_, projected_};
  }
  int64_t output_bytes(int64_t rows) const { return rounded_up(rows * directions_ * width_ * item_); }
  Address output_of(Address block, int layer, int64_t rows, int64_t reserve) const {
    return block + Address(layers_ * directions_ * reserve + layer * output_bytes(rows));
  }
  // Scratch for any of the layers, and what a direction of any of them leaves of so many steps, in whole cache lines.
  carousel_memory memory_of_any(int64_t T, int64_t B, int64_t steps) const {
    carousel_memory all{};
    for (int layer = 0; layer < std::min(layers_, 2); ++layer) {
      const carousel_memory one = memory_of(options_, sizes(layer, T, B));
      all.forward_scratch = std::max(all.forward_scratch, rounded_up(one.forward_scratch));
      all.backward_scratch = std::max(all.backward_scratch, rounded_up(one.backward_scratch));
      all.reserve = rounded_up(one.reserve);  // in which no inputs are
    }
    if (steps != T) all.reserve = reserve_bytes(steps, B);
    return all;
  }
  int64_t rows_of(int64_t T, int64_t B, Address lengths) const {
    if (!options_.packed_sequence) return T * B;
    int64_t rows = 0;
    for (int64_t b = 0; lengths && b < B; ++b) rows += at<const int64_t>(lengths)[b];
    return rows;
  }

  void check(const Addresses& weights, const Addresses& given_masks) const {
    const size_t count = size_t(layers_ * directions_);
    if (weights.size() % count != 0 || weights.size() / count > parameters || weights.size() / count < 2 ||
        (!given_masks.empty() && given_masks.size() != count * masks))
      throw nb::value_error("The number of addresses does not fit the layers.");
  }

  carousel_options options_of_direction(int k, uint32_t key, bool drawn, int64_t first, int64_t last, int at_once) const {
    carousel_options options = options_;
    options.reverse = options_.reverse ^ (k % directions_);
    options.threads = at_once == 2 ? 1 : 0;
    options.zoneout_drawn = drawn;
    options.zoneout_key = key + uint32_t(k);
    options.first = first, options.last = last;
    return options;
  }

  // The two directions know nothing of each other: with two threads each takes one, and nobody waits.
  template <class Call>
  carousel_status each_direction(int at_once, Call&& call) const {
    if (at_once == 1) {
      for (int d = 0; d < directions_; ++d)
        if (const carousel_status status = call(d); status != CAROUSEL_OK) return status;
      return CAROUSEL_OK;
    }
    struct Both {
      Call& call;
      carousel_status status[2];
    } both{call, {CAROUSEL_OK, CAROUSEL_OK}};
    carousel_team_run(2, [](const Team* team, void* argument) {
      Both& shared = *static_cast<Both*>(argument);
      for (int d = team->member; d < 2; d += team->size) shared.status[d] = shared.call(d);
    }, &both);
    return both.status[0] != CAROUSEL_OK ? both.status[0] : both.status[1];
  }

  template <class Arrays>
  void set_weights(const Addresses& weights, const Addresses& given_masks, int k, Arrays& a) const {
    const size_t each = weights.size() / size_t(layers_ * directions_);
    const auto get = [&](Parameter p) { return size_t(p) < each ? at(weights[size_t(k) * each + p]) : nullptr; };
    a.weights = {get(W), get(R), get(b_W), get(b_R), get(projection), get(peephole),
                 get(gain_x), get(gain_h), get(gain_c), get(shift_c)};
    if (given_masks.empty()) return;
    a.candidate_mask = at(given_masks[size_t(k) * masks + candidate_mask]);
    a.state_mask = at(given_masks[size_t(k) * masks + state_mask]);
  }

  void set_gradients(const Addresses& dweights, int k, carousel_backward_arrays& a) const {
    const size_t each = dweights.size() / size_t(layers_ * directions_);
    const auto get = [&](Parameter p) { return size_t(p) < each ? at(dweights[size_t(k) * each + p]) : nullptr; };
    a.dW = get(W), a.dR = get(R), a.db_W = get(b_W), a.db_R = get(b_R);
    a.dprojection = get(projection), a.dpeephole = get(peephole);
    a.dgain_x = get(gain_x), a.dgain_h = get(gain_h), a.dgain_c = get(gain_c), a.dshift_c = get(shift_c);
  }

  template <class T>
  void add(const Strided& to, const void* from, int64_t steps, int64_t B, int64_t rows, int64_t features) const {
    const T* second = static_cast<const T*>(from);
    if (options_.packed_sequence) steps = 1, B = rows;
    for (int64_t s = 0; s < steps; ++s)
      for (int64_t b = 0; b < B; ++b) {
        T* row = at<T>(to.data) + s * to.step + b * to.row;
        for (int64_t j = 0; j < features; ++j) row[j] += *second++;
      }
  }

  carousel_options options_{};
  const int64_t inputs_, hidden_, projected_, width_;  // width: units of h
  const int layers_, directions_;
  const int64_t item_;
};

}  // namespace

void define_addresses(nb::module_& m) {
  nb::class_<Layers>(m, "Layers")
      .def(nb::init<int, int, int64_t, int64_t, int64_t, int, int, bool, double, double, double, double, bool, bool, bool>(),
           "cell"_a, "dtype"_a, "inputs"_a, "hidden"_a, nb::kw_only(), "projected"_a = 0, "layers"_a = 1,
           "directions"_a = 1, "normalized"_a = false, "clip"_a = 0.0, "cell_clip"_a = 0.0, "zoneout_h"_a = 0.0,
           "zoneout_c"_a = 0.0, "low_precision"_a = false, "reverse"_a = false, "packed"_a = false)
      .def("block_bytes", &Layers::block_bytes)
      .def("reserve_bytes", &Layers::reserve_bytes)
      .def("gate_bytes", &Layers::gate_bytes)
      .def("forward", &Layers::forward, "T"_a, "B"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "y"_a, "h_n"_a,
           "c_n"_a, "block"_a, "lengths"_a = 0, "key"_a = 0, "drawn"_a = false, "first"_a = 0, "last"_a = 0)
      .def("backward", &Layers::backward, "T"_a, "B"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "y"_a,
           "block"_a, "dy"_a, "dh_n"_a, "dc_n"_a, "dblock"_a, "dx"_a, "dh_0"_a, "dc_0"_a, "dweights"_a,
           "lengths"_a = 0, "key"_a = 0, "drawn"_a = false, "first"_a = 0, "last"_a = 0);
}
