// The only file that knows Python. Two doors to carousel.h:
//   forward, backward   addresses as integers, for torch tensors, whose shapes the caller has checked
//   Layer               NumPy arrays, checked here, with weights packed once, for carousel.stream
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "carousel.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

void raise(carousel_status status) {
  if (status == CAROUSEL_OK) return;
  std::string text = carousel_status_text(status);
  if (status == CAROUSEL_BAD_ISA) {
    const char* asked = std::getenv("CAROUSEL_ISA");
    text = "CAROUSEL_ISA = " + std::string(asked ? asked : "") + " is not available here; choose one of:";
    for (int k = 0; carousel_isa_name(k); ++k) text += std::string(" ") + carousel_isa_name(k);
    throw std::runtime_error(text);
  }
  throw nb::value_error(text.c_str());
}

struct Free {
  void operator()(void* block) const { std::free(block); }
};
using Block = std::unique_ptr<void, Free>;

Block allocate(int64_t bytes) {
  void* block = std::aligned_alloc(64, size_t((bytes + 63) / 64 * 64 + 64));
  if (!block) throw std::bad_alloc();
  return Block(block);
}

// Scratch memory of the calling thread, kept from call to call unless it is large: fresh pages cost more than a small
// layer does.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) {
    if (bytes > kept_limit) {
      own_ = allocate(bytes);
    } else if (bytes > kept_bytes) {
      kept.reset();
      kept_bytes = 0;
      kept = allocate(bytes);
      kept_bytes = bytes;
    }
  }
  void* data() const { return own_ ? own_.get() : kept.get(); }

 private:
  static constexpr int64_t kept_limit = 64 << 20;
  static thread_local Block kept;
  static thread_local int64_t kept_bytes;
  Block own_;
};
thread_local Block Scratch::kept;
thread_local int64_t Scratch::kept_bytes = -1;

carousel_options options_of(int cell, int dtype, bool reverse) {
  carousel_options options{};
  options.version = CAROUSEL_ABI;
  options.cell = cell;
  options.dtype = dtype;
  options.reverse = reverse;
  return options;
}

carousel_memory memory_of(const carousel_options& options, const carousel_sizes& sizes) {
  carousel_memory memory;
  raise(carousel_memory_sizes(&options, &sizes, &memory));
  return memory;
}

using Address = uintptr_t;
void* at(Address address) { return reinterpret_cast<void*>(address); }

int64_t reserve_size(int cell, int dtype, int64_t T, int64_t B, int64_t I, int64_t H) {
  return memory_of(options_of(cell, dtype, false), {T, B, I, H}).reserve;
}

void forward(int cell, int dtype, bool reverse, int64_t T, int64_t B, int64_t I, int64_t H, Address x, int64_t x_step,
             int64_t x_row, Address h_0, Address c_0, Address W, Address R, Address b_W, Address b_R, Address y,
             int64_t y_step, int64_t y_row, Address h_n, Address c_n, Address reserve) {
  const carousel_options options = options_of(cell, dtype, reverse);
  const carousel_sizes sizes{T, B, I, H};
  const Scratch scratch(memory_of(options, sizes).forward_scratch);
  carousel_forward_arrays a{};
  a.x = at(x), a.x_step = x_step, a.x_row = x_row;
  a.h_0 = at(h_0), a.c_0 = at(c_0);
  a.weights = {at(W), at(R), at(b_W), at(b_R)};
  a.y = at(y), a.y_step = y_step, a.y_row = y_row;
  a.h_n = at(h_n), a.c_n = at(c_n);
  a.reserve = at(reserve);
  a.scratch = scratch.data();
  carousel_status status;
  {
    nb::gil_scoped_release released;
    status = carousel_forward(&options, &sizes, &a);
  }
  raise(status);
}

void backward(int cell, int dtype, bool reverse, int64_t T, int64_t B, int64_t I, int64_t H, Address x, int64_t x_step,
              int64_t x_row, Address h_0, Address c_0, Address W, Address R, Address y, int64_t y_step, int64_t y_row,
              Address reserve, Address dy, int64_t dy_step, int64_t dy_row, Address dh_n, Address dc_n, Address dx,
              int64_t dx_step, int64_t dx_row, Address dh_0, Address dc_0, Address dW, Address dR, Address db_W,
              Address db_R) {
  const carousel_options options = options_of(cell, dtype, reverse);
  const carousel_sizes sizes{T, B, I, H};
  const Scratch scratch(memory_of(options, sizes).backward_scratch);
  carousel_backward_arrays a{};
  a.x = at(x), a.x_step = x_step, a.x_row = x_row;
  a.h_0 = at(h_0), a.c_0 = at(c_0);
  a.weights = {at(W), at(R), nullptr, nullptr};
  a.y = at(y), a.y_step = y_step, a.y_row = y_row;
  a.reserve = at(reserve);
  a.dy = at(dy), a.dy_step = dy_step, a.dy_row = dy_row;
  a.dh_n = at(dh_n), a.dc_n = at(dc_n);
  a.dx = at(dx), a.dx_step = dx_step, a.dx_row = dx_row;
  a.dh_0 = at(dh_0), a.dc_0 = at(dc_0);
  a.dW = at(dW), a.dR = at(dR), a.db_W = at(db_W), a.db_R = at(db_R);
  a.scratch = scratch.data();
  carousel_status status;
  {
    nb::gil_scoped_release released;
    status = carousel_backward(&options, &sizes, &a);
  }
  raise(status);
}

// ---- NumPy ----

using In = nb::ndarray<nb::numpy, nb::device::cpu, nb::ro>;
using Out = nb::ndarray<nb::numpy, nb::device::cpu>;

int cell_of(const std::string& name) {
  static const char* const names[] = {"lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu"};
  for (int cell = 0; cell < 5; ++cell)
    if (name == names[cell]) return cell;
  throw nb::value_error(
      ("`cell` must be lstm, gru, gru_reset_before, rnn_tanh or rnn_relu, got " + name + ".").c_str());
}

template <class Array>
std::string shape_of(const Array& array) {
  std::string text = "(";
  for (size_t k = 0; k < array.ndim(); ++k) text += (k ? ", " : "") + std::to_string(array.shape(k));
  return text + (array.ndim() == 1 ? ",)" : ")");
}

// The array's address, after checks of its dtype, its shape, and that all axes but the first `free_axes` are contiguous.
template <class Array>
auto data_of(const Array& array, const char* name, bool is_float64, std::initializer_list<int64_t> shape,
             size_t free_axes = 0) {
  const auto fail = [&](const std::string& expected, const std::string& got) {
    throw nb::value_error(("`" + std::string(name) + "` must " + expected + ", got " + got + ".").c_str());
  };
  if (array.dtype() != (is_float64 ? nb::dtype<double>() : nb::dtype<float>()))
    fail(is_float64 ? "be float64, as W" : "be float32, as W", "another dtype");
  bool same = array.ndim() == shape.size();
  std::string expected = "(";
  size_t axis = 0;
  for (const int64_t n : shape) {
    same = same && int64_t(array.shape(axis)) == n;
    expected += (axis++ ? ", " : "") + std::to_string(n);
  }
  if (!same) fail("have shape " + expected + (shape.size() == 1 ? ",)" : ")"), shape_of(array));
  if (array.size() == 0) return array.data();  // its strides mean nothing
  int64_t stride = 1;
  for (size_t k = array.ndim(); k-- > free_axes;) {
    if (array.shape(k) > 1 && array.stride(k) != stride) fail("be contiguous in memory", "strides; use a copy");
    stride *= int64_t(array.shape(k));
  }
  return array.data();
}

// One direction of one recurrent layer. Immutable; calls from several threads are safe.
class Layer {
 public:
  Layer(const std::string& cell, const In& W, const In& R, const In& b_W, const In& b_R, bool reverse)
      : is_float64_(W.dtype() == nb::dtype<double>()),
        options_(options_of(cell_of(cell), is_float64_ ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32, reverse)) {
    if (R.ndim() != 2 || W.ndim() != 2)
      throw nb::value_error(("`W` and `R` must have shapes (G*H, I) and (G*H, H), got " + shape_of(W) + " and " +
                             shape_of(R) + ".").c_str());
    const int64_t gates = options_.cell == CAROUSEL_LSTM ? 4 : options_.cell <= CAROUSEL_GRU_RESET_BEFORE ? 3 : 1;
    inputs_ = int64_t(W.shape(1)), hidden_ = int64_t(R.shape(1));
    const int64_t rows = gates * hidden_;
    const carousel_weights weights{
        data_of(W, "W", is_float64_, {rows, inputs_}), data_of(R, "R", is_float64_, {rows, hidden_}),
        data_of(b_W, "b_W", is_float64_, {rows}), data_of(b_R, "b_R", is_float64_, {rows})};
    const carousel_sizes sizes{0, 0, inputs_, hidden_};
    packed_ = allocate(memory_of(options_, sizes).packed);
    raise(carousel_pack(&options_, &sizes, &weights, packed_.get()));
  }

  void run(const In& x, const In& h_0, const std::optional<In>& c_0, const Out& y, const Out& h_n,
           const std::optional<Out>& c_n) const {
    if (x.ndim() != 3)
      throw nb::value_error(("`x` must have shape (T, B, " + std::to_string(inputs_) + "), got " + shape_of(x) + ".")
                                .c_str());
    const bool lstm = options_.cell == CAROUSEL_LSTM;
    if (lstm != c_0.has_value() || lstm != c_n.has_value())
      throw nb::value_error(lstm ? "`c_0` and `c_n` must be arrays for an LSTM, got None."
                                 : "`c_0` and `c_n` must be None, for this cell has no cell state.");
    const int64_t T = int64_t(x.shape(0)), B = int64_t(x.shape(1));
    const carousel_sizes sizes{T, B, inputs_, hidden_};
    carousel_forward_arrays a{};
    a.x = data_of(x, "x", is_float64_, {T, B, inputs_});
    a.x_step = B * inputs_, a.x_row = inputs_;
    a.h_0 = data_of(h_0, "h_0", is_float64_, {B, hidden_});
    a.packed = packed_.get();
    a.y = data_of(y, "y", is_float64_, {T, B, hidden_}, 2);
    a.y_step = y.stride(0), a.y_row = y.stride(1);
    a.h_n = data_of(h_n, "h_n", is_float64_, {B, hidden_});
    if (lstm) {
      a.c_0 = data_of(*c_0, "c_0", is_float64_, {B, hidden_});
      a.c_n = data_of(*c_n, "c_n", is_float64_, {B, hidden_});
    }
    const Scratch scratch(memory_of(options_, sizes).forward_scratch);
    a.scratch = scratch.data();
    carousel_status status;
    {
      nb::gil_scoped_release released;
      status = carousel_forward(&options_, &sizes, &a);
    }
    raise(status);
  }

 private:
  bool is_float64_;
  carousel_options options_;
  int64_t inputs_ = 0, hidden_ = 0;
  Block packed_;
};

void apply(const std::string& function, const In& x, const Out& y) {
  const bool is_float64 = x.dtype() == nb::dtype<double>();
  static const char* const names[] = {"exp", "sigmoid", "tanh"};
  int index = 0;
  while (index < 3 && function != names[index]) ++index;
  const int64_t count = int64_t(x.size());
  raise(carousel_apply(carousel_function(index), is_float64 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32, count,
                       data_of(x, "x", is_float64, {count}), data_of(y, "y", is_float64, {count})));
}

std::string isa() {
  if (!carousel_isa()) raise(CAROUSEL_BAD_ISA);
  return carousel_isa();
}

nb::list isas() {
  nb::list names;
  for (int k = 0; carousel_isa_name(k); ++k) names.append(carousel_isa_name(k));
  return names;
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "carousel's compiled kernels; the C ABI behind it is documented in csrc/carousel.h.";
  m.def("isa", isa, "The instruction set in use.");
  m.def("isas", isas, "The instruction sets available, best first.");
  m.def("max_threads", carousel_max_threads, "How many threads a call from this thread may use.");
  m.def("reserve_size", reserve_size, "Bytes that a forward pass leaves for the backward pass.");
  m.def("forward", forward);
  m.def("backward", backward);
  m.def("apply", apply, "function"_a, "x"_a.noconvert(), "y"_a.noconvert());
  nb::class_<Layer>(m, "Layer")
      .def(nb::init<const std::string&, const In&, const In&, const In&, const In&, bool>(), "cell"_a,
           "W"_a.noconvert(), "R"_a.noconvert(), "b_W"_a.noconvert(), "b_R"_a.noconvert(), nb::kw_only(),
           "reverse"_a = false)
      .def("run", &Layer::run, "x"_a.noconvert(), "h_0"_a.noconvert(), "c_0"_a.noconvert().none(), "y"_a.noconvert(),
           "h_n"_a.noconvert(), "c_n"_a.noconvert().none());
}
