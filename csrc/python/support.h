// What both doors to carousel.h share: errors, memory, options.
#ifndef CAROUSEL_PYTHON_SUPPORT_H
#define CAROUSEL_PYTHON_SUPPORT_H

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "../carousel.h"

namespace nb = nanobind;
using namespace nb::literals;

void raise(carousel_status status);  // a Python exception, unless the status is CAROUSEL_OK

struct Free {
  void operator()(void* block) const { std::free(block); }
};
using Block = std::unique_ptr<void, Free>;

Block allocate(int64_t bytes);  // aligned to 64

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
carousel_options options_of(int cell, int dtype, bool reverse);
carousel_memory memory_of(const carousel_options& options, const carousel_sizes& sizes);

// The doors; each defines its part of the module.
void define_addresses(nb::module_& m);  // addresses.cpp: integers, for torch tensors, whose shapes the caller has checked
void define_arrays(nb::module_& m);     // arrays.cpp: NumPy arrays, checked there, layer by layer
void define_streams(nb::module_& m);    // streams.cpp: NumPy arrays, a whole network in one call, for carousel.stream

#endif
