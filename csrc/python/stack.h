// A stack of layers as one call, whatever Python objects its arrays come from.
#ifndef CAROUSEL_PYTHON_STACK_H
#define CAROUSEL_PYTHON_STACK_H

#include <vector>

#include "layers.h"

// One layer of a stack: recurrent in one direction or two, dense, or neither: the last step of the sequence.
struct Part {
  std::vector<const Layer*> directions;
  const Dense* dense = nullptr;
  int64_t width = 0;  // features that come out

  bool is_last_step() const { return !dense && directions.empty(); }
};

// What one direction of a recurrent layer remembers: [B, H] each, c NULL but for an LSTM.
struct State {
  const void *h_0, *c_0;
  void *h_n, *c_n;  // may be h_0 and c_0 themselves
};

// Layers one after the other. A row of y has the same bits whatever stands beside it, and in whatever pieces a sequence
// comes. Immutable; keeps the layers' addresses.
class Stack {
 public:
  explicit Stack(std::vector<Part> parts);  // each takes what the one before it gives

  // x [T, B, inputs] and y [T, B, outputs], or y [B, outputs] if there is a last step; all contiguous and, but for the
  // states as said above, apart. `states`: one a direction, in the order of the layers. T and B are at least 1.
  carousel_status forward(int64_t T, int64_t B, const void* x, const State* states, void* y, void* scratch) const;

  // Kept for one step of one row, which would notice the time to work it out.
  int64_t scratch_bytes(int64_t T, int64_t B) const { return T == 1 && B == 1 ? one_row_bytes_ : bytes_of(T, B); }
  // Multiplications, about: what a caller weighs before it lets other threads of Python run.
  double work(int64_t T, int64_t B) const { return double(T) * double(B) * work_per_row_; }

  const std::vector<const Layer*>& layers() const { return layers_; }  // one a direction, as `states`
  carousel_dtype dtype() const { return dtype_; }
  int64_t inputs() const { return inputs_; }
  int64_t outputs() const { return parts_.back().width; }
  bool per_step() const { return per_step_; }            // no last step
  bool bidirectional() const { return bidirectional_; }

 private:
  int64_t bytes_of(int64_t T, int64_t B) const;
  int64_t buffer_bytes(int64_t T, int64_t B) const;

  std::vector<Part> parts_;
  std::vector<const Layer*> layers_;
  size_t last_with_weights_ = 0;
  carousel_dtype dtype_ = CAROUSEL_FLOAT32;
  int64_t inputs_ = -1, widest_ = 0, one_row_bytes_ = 0;
  double work_per_row_ = 0;
  bool per_step_ = true, bidirectional_ = false;
};

#endif
