// A dense layer: y = activation(W x + b), for rows that stand contiguously one after the other.
//
//   x  [rows, I]      W  [O, I]      b  [O]      y  [rows, O], which is none of the others
//
// W is packed in panels of 8 outputs, [panel][i][output], so that x is read in order. Each product is two sums, over the
// even and the odd i, then added: an order that does not know the rows, so a row's result has the same bits whatever
// stands beside it.
#ifndef CAROUSEL_DENSE_H
#define CAROUSEL_DENSE_H

#include "carousel.h"

enum class Activation { identity, sigmoid, tanh, relu };

int64_t dense_packed_size(int64_t I, int64_t O);  // elements

void dense_pack(carousel_dtype dtype, int64_t I, int64_t O, const void* W, void* packed);

carousel_status dense(carousel_dtype dtype, Activation activation, int64_t rows, int64_t I, int64_t O, const void* x,
                      const void* packed, const void* b, void* y);

#endif
