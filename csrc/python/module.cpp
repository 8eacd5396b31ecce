// The module `_core`. Only the files of this folder know Python.
#include <nanobind/stl/string.h>

#include <string>

#include "support.h"

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

Block allocate(int64_t bytes) {
  void* block = std::aligned_alloc(64, size_t((bytes + 63) / 64 * 64 + 64));
  if (!block) throw std::bad_alloc();
  return Block(block);
}

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

namespace {

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
  nb::set_leak_warnings(false);  // objects in caches of Python live as long as the interpreter
  m.doc() = "carousel's compiled kernels; the C ABI behind it is documented in csrc/carousel.h.";
  m.def("isa", isa, "The instruction set in use.");
  m.def("isas", isas, "The instruction sets available, best first.");
  m.def("max_threads", carousel_max_threads, "How many threads a call from this thread may use.");
  define_addresses(m);
  define_arrays(m);
  define_streams(m);
}
