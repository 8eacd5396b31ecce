#include "stack.h"

#include <algorithm>
#include <cstring>

Stack::Stack(std::vector<Part> parts) : parts_(std::move(parts)) {
  int64_t width = -1;
  const auto take = [&](int dtype, int64_t inputs) {
    if (width < 0) dtype_ = carousel_dtype(dtype), width = inputs_ = inputs;
    if (dtype != dtype_ || inputs != width) throw nb::value_error("A layer must take what the one before it gives.");
  };
  for (size_t k = 0; k < parts_.size(); ++k) {
    Part& part = parts_[k];
    part.width = 0;
    for (const Layer* layer : part.directions) {
      if (!per_step_) throw nb::value_error("No recurrent layer may follow the last step.");
      take(layer->options.dtype, layer->inputs);
      layers_.push_back(layer);
      part.width += layer->hidden;
      // An activation takes about as long as 16 multiplications.
      work_per_row_ += double(gates_of(layer->options.cell) * layer->hidden * (layer->inputs + layer->hidden + 16));
    }
    if (part.dense) {
      take(part.dense->dtype, part.dense->inputs);
      part.width = part.dense->outputs;
      work_per_row_ += double(part.dense->inputs * part.dense->outputs);
    }
    if (part.is_last_step()) {
      part.width = width;
      per_step_ = false;
    } else {
      last_with_weights_ = k;
    }
    width = part.width;
    widest_ = std::max(widest_, width);
    bidirectional_ = bidirectional_ || part.directions.size() > 1;
  }
  if (inputs_ < 0) throw nb::value_error("There must be a layer with weights.");
  one_row_bytes_ = bytes_of(1, 1);
}

int64_t Stack::buffer_bytes(int64_t T, int64_t B) const {
  const int64_t item = dtype_ == CAROUSEL_FLOAT64 ? sizeof(double) : sizeof(float);
  return (T * B * widest_ * item + 63) / 64 * 64;
}

int64_t Stack::bytes_of(int64_t T, int64_t B) const {
  int64_t kernels = 0;
  for (const Layer* layer : layers_)
    kernels = std::max(kernels, memory_of(layer->options, layer->sizes(T, B)).forward_scratch);
  return 2 * buffer_bytes(T, B) + kernels;
}

carousel_status Stack::forward(int64_t T, int64_t B, const void* x, const State* states, void* y, void* scratch) const {
  const int64_t item = dtype_ == CAROUSEL_FLOAT64 ? sizeof(double) : sizeof(float);
  char* buffer = static_cast<char*>(scratch);  // a layer reads this one and writes the other
  char* other = buffer + buffer_bytes(T, B);
  void* const kernels = other + buffer_bytes(T, B);
  const char* in = static_cast<const char*>(x);
  int64_t width = inputs_;
  for (size_t k = 0; k < parts_.size(); ++k) {
    const Part& part = parts_[k];
    if (part.is_last_step()) {
      in += (T - 1) * B * width * item;
      T = 1;
      continue;
    }
    char* const out = k == last_with_weights_ && (per_step_ || T == 1) ? static_cast<char*>(y) : other;
    if (part.dense)
      if (const carousel_status status = part.dense->forward(T * B, in, out); status != CAROUSEL_OK) return status;
    int64_t column = 0;  // of this direction in the layer's output
    for (const Layer* layer : part.directions) {
      const carousel_sizes sizes = layer->sizes(T, B);
      carousel_forward_arrays a{};
      a.x = in, a.x_step = B * width, a.x_row = width;
      a.h_0 = states->h_0, a.c_0 = states->c_0, a.h_n = states->h_n, a.c_n = states->c_n;
      a.packed = layer->packed.get();
      a.y = out + column * item, a.y_step = B * part.width, a.y_row = part.width;
      a.scratch = kernels;
      if (const carousel_status status = carousel_forward(&layer->options, &sizes, &a); status != CAROUSEL_OK)
        return status;
      column += layer->hidden;
      ++states;
    }
    in = out;
    width = part.width;
    std::swap(buffer, other);
  }
  if (in != y) std::memcpy(y, in, size_t(B * width * item));
  return CAROUSEL_OK;
}
