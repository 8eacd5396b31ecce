// Layers with weights packed once. Immutable; calls from several threads are safe.
#ifndef CAROUSEL_PYTHON_LAYERS_H
#define CAROUSEL_PYTHON_LAYERS_H

#include "../dense.h"
#include "support.h"

inline int64_t gates_of(int cell) { return cell == CAROUSEL_LSTM ? 4 : cell <= CAROUSEL_GRU_RESET_BEFORE ? 3 : 1; }

// One direction of one recurrent layer.
struct Layer {
  Layer(const carousel_options& options, int64_t inputs, int64_t hidden, const carousel_weights& weights);

  bool has_cells() const { return options.cell == CAROUSEL_LSTM; }
  carousel_sizes sizes(int64_t T, int64_t B) const { return {T, B, inputs, hidden, 0}; }

  carousel_options options;
  int64_t inputs, hidden;
  Block packed;
};

struct Dense {
  Dense(carousel_dtype dtype, Activation activation, int64_t inputs, int64_t outputs, const void* W, const void* b);

  carousel_status forward(int64_t rows, const void* x, void* y) const {
    return dense(dtype, activation, rows, inputs, outputs, x, packed.get(), bias.get(), y);
  }

  carousel_dtype dtype;
  Activation activation;
  int64_t inputs, outputs;
  Block packed, bias;
};

#endif
