#include "layers.h"

#include <cstring>

Layer::Layer(const carousel_options& options, int64_t inputs, int64_t hidden, const carousel_weights& weights)
    : options(options), inputs(inputs), hidden(hidden) {
  const carousel_sizes none = sizes(0, 0);
  packed = allocate(memory_of(options, none).packed);
  raise(carousel_pack(&options, &none, &weights, packed.get()));
}

Dense::Dense(carousel_dtype dtype, Activation activation, int64_t inputs, int64_t outputs, const void* W, const void* b)
    : dtype(dtype), activation(activation), inputs(inputs), outputs(outputs) {
  const int64_t size = dtype == CAROUSEL_FLOAT64 ? sizeof(double) : sizeof(float);
  packed = allocate(dense_packed_size(inputs, outputs) * size);
  bias = allocate(outputs * size);
  dense_pack(dtype, inputs, outputs, W, packed.get());
  if (outputs > 0) std::memcpy(bias.get(), b, size_t(outputs * size));
}
