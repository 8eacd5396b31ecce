// What each instruction set offers: one table of functions, made by kernels/table.h.
#ifndef CAROUSEL_ISA_H
#define CAROUSEL_ISA_H

#include "carousel.h"

struct LayerTable {
  int gates;
  void (*memory)(const carousel_options&, const carousel_sizes&, carousel_memory&);
  void (*pack)(const carousel_options&, const carousel_sizes&, const carousel_weights&, void* packed);
  void (*forward)(const carousel_options&, const carousel_sizes&, const carousel_forward_arrays&, int threads);
  void (*backward)(const carousel_options&, const carousel_sizes&, const carousel_backward_arrays&, int threads);
};

struct IsaTable {
  const LayerTable* layers[6][2];  // by carousel_cell and carousel_dtype
  void (*apply)(int function, int dtype, int64_t count, const void* x, void* y);
};

#endif
