// The door for NumPy, layer by layer, with arrays checked and errors worded here.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>

#include "layers.h"

namespace {

using In = nb::ndarray<nb::numpy, nb::device::cpu, nb::ro>;
using Out = nb::ndarray<nb::numpy, nb::device::cpu>;

int cell_of(const std::string& name) {
  static const char* const names[] = {"lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu"};
  for (int cell = 0; cell < 5; ++cell)
    if (name == names[cell]) return cell;
  throw nb::value_error(
      ("`cell` must be lstm, gru, gru_reset_before, rnn_tanh or rnn_relu, got " + name + ".").c_str());
}

Activation activation_of(const std::string& name) {
  static const char* const names[] = {"identity", "sigmoid", "tanh", "relu"};
  for (int k = 0; k < 4; ++k)
    if (name == names[k]) return Activation(k);
  throw nb::value_error(("`activation` must be identity, sigmoid, tanh or relu, got " + name + ".").c_str());
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

void init_layer(Layer* self, const std::string& cell, const In& W, const In& R, const In& b_W, const In& b_R,
                bool reverse, bool low_precision) {
  const bool is_float64 = W.dtype() == nb::dtype<double>();
  carousel_options options = options_of(cell_of(cell), is_float64 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32, reverse);
  if (low_precision) options.products = CAROUSEL_PRODUCTS_BFLOAT16;
  if (R.ndim() != 2 || W.ndim() != 2)
    throw nb::value_error(("`W` and `R` must have shapes (G*H, I) and (G*H, H), got " + shape_of(W) + " and " +
                           shape_of(R) + ".").c_str());
  const int64_t inputs = int64_t(W.shape(1)), hidden = int64_t(R.shape(1)), rows = gates_of(options.cell) * hidden;
  new (self) Layer(options, inputs, hidden,
                   {data_of(W, "W", is_float64, {rows, inputs}), data_of(R, "R", is_float64, {rows, hidden}),
                    data_of(b_W, "b_W", is_float64, {rows}), data_of(b_R, "b_R", is_float64, {rows})});
}

void run(const Layer& layer, const In& x, const In& h_0, const std::optional<In>& c_0, const Out& y, const Out& h_n,
         const std::optional<Out>& c_n) {
  const bool is_float64 = layer.options.dtype == CAROUSEL_FLOAT64;
  const int64_t I = layer.inputs, H = layer.hidden;
  if (x.ndim() != 3)
    throw nb::value_error(
        ("`x` must have shape (T, B, " + std::to_string(I) + "), got " + shape_of(x) + ".").c_str());
  const bool lstm = layer.has_cells();
  if (lstm != c_0.has_value() || lstm != c_n.has_value())
    throw nb::value_error(lstm ? "`c_0` and `c_n` must be arrays for an LSTM, got None."
                               : "`c_0` and `c_n` must be None, for this cell has no cell state.");
  const int64_t T = int64_t(x.shape(0)), B = int64_t(x.shape(1));
  const carousel_sizes sizes = layer.sizes(T, B);
  carousel_forward_arrays a{};
  a.x = data_of(x, "x", is_float64, {T, B, I});
  a.x_step = B * I, a.x_row = I;
  a.h_0 = data_of(h_0, "h_0", is_float64, {B, H});
  a.packed = layer.packed.get();
  a.y = data_of(y, "y", is_float64, {T, B, H}, 2);
  a.y_step = y.stride(0), a.y_row = y.stride(1);
  a.h_n = data_of(h_n, "h_n", is_float64, {B, H});
  if (lstm) {
    a.c_0 = data_of(*c_0, "c_0", is_float64, {B, H});
    a.c_n = data_of(*c_n, "c_n", is_float64, {B, H});
  }
  const Scratch scratch(memory_of(layer.options, sizes).forward_scratch);
  a.scratch = scratch.data();
  carousel_status status;
  {
    nb::gil_scoped_release released;
    status = carousel_forward(&layer.options, &sizes, &a);
  }
  raise(status);
}

void init_dense(Dense* self, const In& W, const In& b, const std::string& activation) {
  const bool is_float64 = W.dtype() == nb::dtype<double>();
  if (W.ndim() != 2) throw nb::value_error(("`W` must have shape (O, I), got " + shape_of(W) + ".").c_str());
  const int64_t outputs = int64_t(W.shape(0)), inputs = int64_t(W.shape(1));
  new (self) Dense(is_float64 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32, activation_of(activation), inputs, outputs,
                   data_of(W, "W", is_float64, {outputs, inputs}), data_of(b, "b", is_float64, {outputs}));
}

void apply(const std::string& function, const In& x, const Out& y) {
  const bool is_float64 = x.dtype() == nb::dtype<double>();
  static const char* const names[] = {"exp", "sigmoid", "tanh", "scaled_sigmoid", "scaled_tanh"};
  int index = 0;
  while (index < 5 && function != names[index]) ++index;
  const int64_t count = int64_t(x.size());
  raise(carousel_apply(carousel_function(index), is_float64 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32, count,
                       data_of(x, "x", is_float64, {count}), data_of(y, "y", is_float64, {count})));
}

}  // namespace

void define_arrays(nb::module_& m) {
  m.def("apply", apply, "function"_a, "x"_a.noconvert(), "y"_a.noconvert());
  nb::class_<Layer>(m, "Layer")
      .def("__init__", init_layer, "cell"_a, "W"_a.noconvert(), "R"_a.noconvert(), "b_W"_a.noconvert(),
           "b_R"_a.noconvert(), nb::kw_only(), "reverse"_a = false, "low_precision"_a = false)
      .def("run", run, "x"_a.noconvert(), "h_0"_a.noconvert(), "c_0"_a.noconvert().none(), "y"_a.noconvert(),
           "h_n"_a.noconvert(), "c_n"_a.noconvert().none());
  nb::class_<Dense>(m, "Dense")
      .def("__init__", init_dense, "W"_a.noconvert(), "b"_a.noconvert(), "activation"_a);
}
