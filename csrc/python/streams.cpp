// The door for NumPy, a whole network in one call: for steps of a microsecond.
//
// Here it counts what reading an argument costs. nanobind's arrays go through DLPack (half a microsecond and an
// allocation each) and the buffer protocol allocates too; NumPy's C API reads the fields of the array itself.
//
// Nothing is worded here. What is not as it must be is declined; Python then says what is wrong, or copies it into shape.
#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#include <numpy/arrayobject.h>

#include "stack.h"

namespace {

constexpr double worth_releasing = 2e5;  // multiplications, about 10 us; to let go of Python's lock costs 0.1

struct Span {
  const char *begin, *end;
};

int64_t directions(const Stack& stack) { return int64_t(stack.layers().size()); }
int64_t array_limit(const Stack& stack) { return 2 + 2 * directions(stack); }  // x, y, h and c of each direction
int type_of(const Stack& stack) { return stack.dtype() == CAROUSEL_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT; }

// The memory of an array that is contiguous and aligned, has this type and shape, and is writable if it must be; NULL of
// any other.
template <int axes>
char* elements(nb::handle object, int type, const npy_intp (&shape)[axes], bool writable) {
  auto* const array = reinterpret_cast<PyArrayObject*>(object.ptr());
  if (!PyArray_Check(object.ptr()) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != axes ||
      !PyArray_FLAGSWAP(array, writable ? NPY_ARRAY_CARRAY : NPY_ARRAY_CARRAY_RO))
    return nullptr;
  for (int axis = 0; axis < axes; ++axis)
    if (PyArray_DIM(array, axis) != shape[axis]) return nullptr;
  return PyArray_BYTES(array);
}

// The arrays of one call, taken one after the other.
class Arrays {
 public:
  Arrays(const Stack& stack, Span* spans)
      : type_(type_of(stack)), item_(type_ == NPY_DOUBLE ? sizeof(double) : sizeof(float)), spans_(spans) {}

  template <int axes>
  char* take(nb::handle object, const npy_intp (&shape)[axes], bool writable) {
    npy_intp count = 1;
    for (const npy_intp size : shape) count *= size;
    char* const data = elements(object, type_, shape, writable);
    add(data, count);
    return data;
  }

  void add(const char* data, npy_intp count) {
    good_ = good_ && data;
    if (good_) spans_[count_++] = {data, data + count * item_};
  }

  // The state of every direction, each [B, H], which is also where the new one goes.
  void take_states(const Stack& stack, nb::handle h, nb::handle c, npy_intp B, bool writable, State* states) {
    const Py_ssize_t n = directions(stack);
    good_ = good_ && PyTuple_CheckExact(h.ptr()) && PyTuple_CheckExact(c.ptr()) && PyTuple_GET_SIZE(h.ptr()) == n &&
            PyTuple_GET_SIZE(c.ptr()) == n;
    for (Py_ssize_t k = 0; good_ && k < n; ++k) {
      const Layer& layer = *stack.layers()[k];
      const nb::handle c_k = PyTuple_GET_ITEM(c.ptr(), k);
      states[k].h_0 = states[k].h_n = take(PyTuple_GET_ITEM(h.ptr(), k), {B, layer.hidden}, writable);
      if (layer.has_cells())
        states[k].c_0 = states[k].c_n = take(c_k, {B, layer.hidden}, writable);
      else
        states[k].c_0 = states[k].c_n = nullptr, good_ = good_ && c_k.is_none();
    }
  }

  bool good() const { return good_; }

  // No two share memory.
  bool apart() const {
    for (int k = 1; k < count_; ++k)
      for (int j = 0; j < k; ++j)
        if (spans_[j].begin < spans_[k].end && spans_[k].begin < spans_[j].end) return false;
    return true;
  }

 private:
  int type_;
  npy_intp item_;
  Span* spans_;
  int count_ = 0;
  bool good_ = true;
};

// Scratch memory of a call: [spans, states, what the layers need].
class Workspace {
 public:
  Workspace(const Stack& stack, int64_t T, int64_t B)
      : spans_bytes_(array_limit(stack) * int64_t(sizeof(Span))),
        bytes_((spans_bytes_ + directions(stack) * int64_t(sizeof(State)) + 63) / 64 * 64),
        memory_(bytes_ + stack.scratch_bytes(T, B)) {}
  Span* spans() const { return static_cast<Span*>(memory_.data()); }
  State* states() const { return reinterpret_cast<State*>(static_cast<char*>(memory_.data()) + spans_bytes_); }
  void* layers() const { return static_cast<char*>(memory_.data()) + bytes_; }

 private:
  int64_t spans_bytes_, bytes_;
  Scratch memory_;
};

void forward(const Stack& stack, int64_t T, int64_t B, const void* x, void* y, const Workspace& work) {
  if (T * B == 0) return;
  carousel_status status;
  if (stack.work(T, B) < worth_releasing) {
    status = stack.forward(T, B, x, work.states(), y, work.layers());
  } else {
    nb::gil_scoped_release released;
    status = stack.forward(T, B, x, work.states(), y, work.layers());
  }
  raise(status);
}

int axes_of(nb::handle object) {
  return PyArray_Check(object.ptr()) ? PyArray_NDIM(reinterpret_cast<PyArrayObject*>(object.ptr())) : -1;
}

npy_intp size_of(nb::handle array, int axis) { return PyArray_DIM(reinterpret_cast<PyArrayObject*>(array.ptr()), axis); }

// The rest of a call whose x is known: False where the others are not as they must be.
template <int axes>
bool run_into(const Stack& stack, int64_t T, int64_t B, const char* x, nb::handle h, nb::handle c, nb::handle y,
              const npy_intp (&y_shape)[axes]) {
  const Workspace work(stack, T, B);
  Arrays arrays(stack, work.spans());
  arrays.add(x, T * B * stack.inputs());
  char* const y_data = arrays.take(y, y_shape, true);
  arrays.take_states(stack, h, c, B, true, work.states());
  if (!arrays.good() || !arrays.apart()) return false;
  forward(stack, T, B, x, y_data, work);
  return true;
}

// y of the steps x [T, B, I]; the state is overwritten. False: declined, nothing was written.
bool run(const Stack& stack, nb::handle x, nb::handle h, nb::handle c, nb::handle y) {
  if (axes_of(x) != 3) return false;
  const npy_intp T = size_of(x, 0), B = size_of(x, 1), O = stack.outputs();
  const char* const steps = elements(x, type_of(stack), {T, B, npy_intp(stack.inputs())}, false);
  if (!steps) return false;
  if (stack.per_step()) return run_into(stack, T, B, steps, h, c, y, {T, B, O});
  return T > 0 && run_into(stack, T, B, steps, h, c, y, {B, O});
}

// y [B, O] of one step x [B, I], likewise.
bool step_into(const Stack& stack, nb::handle x, nb::handle h, nb::handle c, nb::handle y) {
  if (axes_of(x) != 2 || stack.bidirectional()) return false;
  const npy_intp B = size_of(x, 0);
  const char* const row = elements(x, type_of(stack), {B, npy_intp(stack.inputs())}, false);
  return row && run_into(stack, 1, B, row, h, c, y, {B, npy_intp(stack.outputs())});
}

nb::object empty(npy_intp rows, npy_intp columns, int type) {
  npy_intp shape[] = {rows, columns};
  PyObject* const array = PyArray_SimpleNew(2, shape, type);
  if (!array) throw nb::python_error();
  return nb::steal(array);
}

nb::object empty_tuple(Py_ssize_t size) {
  PyObject* const tuple = PyTuple_New(size);
  if (!tuple) throw nb::python_error();
  return nb::steal(tuple);
}

char* bytes_of(nb::handle array) { return PyArray_BYTES(reinterpret_cast<PyArrayObject*>(array.ptr())); }

// (y, h, c) after one step x [B, I]; the state given stays. None: declined.
nb::object step(const Stack& stack, nb::handle x, nb::handle h, nb::handle c) {
  if (axes_of(x) != 2 || stack.bidirectional()) return nb::none();
  const npy_intp B = size_of(x, 0);
  const int type = type_of(stack);
  const char* const x_data = elements(x, type, {B, npy_intp(stack.inputs())}, false);
  if (!x_data) return nb::none();

  // What Python allocates comes before the workspace: its garbage collector may run a step of its own in this thread.
  const Py_ssize_t n = directions(stack);
  nb::object y = empty(B, stack.outputs(), type), h_n = empty_tuple(n), c_n = empty_tuple(n);
  for (Py_ssize_t k = 0; k < n; ++k) {
    const Layer& layer = *stack.layers()[k];
    PyTuple_SET_ITEM(h_n.ptr(), k, empty(B, layer.hidden, type).release().ptr());
    PyTuple_SET_ITEM(c_n.ptr(), k, (layer.has_cells() ? empty(B, layer.hidden, type) : nb::none()).release().ptr());
  }
  nb::object result = nb::make_tuple(y, h_n, c_n);

  const Workspace work(stack, 1, B);
  Arrays arrays(stack, work.spans());
  arrays.take_states(stack, h, c, B, false, work.states());
  if (!arrays.good()) return nb::none();
  for (Py_ssize_t k = 0; k < n; ++k) {
    work.states()[k].h_n = bytes_of(PyTuple_GET_ITEM(h_n.ptr(), k));
    if (stack.layers()[k]->has_cells()) work.states()[k].c_n = bytes_of(PyTuple_GET_ITEM(c_n.ptr(), k));
  }
  forward(stack, 1, B, x_data, bytes_of(y), work);
  return result;
}

// Of a tuple whose items are tuples of one Layer a direction, Dense, or None for the last step.
void init_stack(Stack* self, nb::tuple layers) {
  std::vector<Part> parts;
  for (const nb::handle layer : layers) {
    Part part;
    if (nb::isinstance<Dense>(layer))
      part.dense = &nb::cast<const Dense&>(layer);
    else if (!layer.is_none())
      for (const nb::handle direction : nb::cast<nb::tuple>(layer))
        part.directions.push_back(&nb::cast<const Layer&>(direction));
    parts.push_back(std::move(part));
  }
  new (self) Stack(std::move(parts));
}

}  // namespace

void define_streams(nb::module_& m) {
  if (_import_array() < 0) throw nb::python_error();
  nb::class_<Stack>(m, "Stack")
      .def("__init__", init_stack, "layers"_a, nb::keep_alive<1, 2>())
      // None, too, is declined, and the caller says why.
      .def("run", run, "x"_a.none(), "h"_a, "c"_a, "y"_a.none())
      .def("step_into", step_into, "x"_a.none(), "h"_a, "c"_a, "y"_a.none())
      .def("step", step, "x"_a.none(), "h"_a, "c"_a);
}
