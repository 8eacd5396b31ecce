// Picks the instruction set, once, and the number of threads, per call.
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "isa.h"
#include "team.h"

extern "C" {
extern const IsaTable carousel_baseline;
#if defined(__x86_64__) && !defined(CAROUSEL_BASELINE)
extern const IsaTable carousel_avx2, carousel_avx512;
#endif
}

namespace {

struct Isa {
  const char* name;
  const IsaTable* table;
  bool available;
};

#if defined(__x86_64__) && defined(CAROUSEL_BASELINE)
const Isa isas[] = {{"sse4", &carousel_baseline, true}};
#elif defined(__x86_64__)
// __builtin_cpu_supports asks the operating system too: registers that it does not save are not available.
const Isa isas[] = {
    {"avx512", &carousel_avx512,
     __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")},
    {"avx2", &carousel_avx2,
     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")},
    {"sse4", &carousel_baseline, true},
};
#else
const Isa isas[] = {{"neon", &carousel_baseline, true}};
#endif

const Isa* choose() {
  const char* asked = std::getenv("CAROUSEL_ISA");
  for (const Isa& isa : isas)
    if (isa.available && (!asked || !*asked || std::strcmp(asked, isa.name) == 0)) return &isa;
  return nullptr;
}

const Isa* const chosen = choose();

carousel_status find(const carousel_options* options, const carousel_sizes* sizes, const LayerTable*& layer) {
  if (!chosen) return CAROUSEL_BAD_ISA;
  const carousel_status status = check(options, sizes);
  if (status == CAROUSEL_OK) layer = chosen->table->layers[options->cell][options->dtype];
  return status;
}

// A thread is worth waking for about 20 microseconds of work. Threads that share the units of few rows (by_units in
// kernels/table.h) also meet at every step, which takes each of them some 100 nanoseconds more: step / threads +
// meeting * threads is least where threads² = step / meeting.
int useful_threads(const carousel_options& options, const carousel_sizes& sizes, int gates) {
  constexpr double least_work = 1e6, meeting = 4e3;  // multiply-adds and activations, one of those counted as 16
  const double work = double(sizes.steps) * double(sizes.batch) * double(sizes.hidden) * gates *
                      (double(sizes.inputs) + double(sizes.hidden) + 16);
  int threads = options.threads > 0 ? options.threads : carousel_team_limit();
  if (work < least_work * threads) threads = int(work / least_work);
  if (sizes.batch < 2 * threads && sizes.steps > 0) {
    const int apart = int(options.normalized ? sizes.batch : sizes.batch / 2);  // share rows, and need not meet
    const double step = work / double(sizes.steps);
    const int64_t registers = (sizes.hidden + 15) / 16;
    int together = 1;
    while (!options.normalized && together < registers && meeting * (together + 1) * (together + 1) <= step) ++together;
    const int most = apart > together ? apart : together;
    threads = most < threads ? most : threads;
  }
  return threads < 1 ? 1 : threads;
}

}  // namespace

carousel_status carousel_memory_sizes(const carousel_options* options, const carousel_sizes* sizes,
                                      carousel_memory* memory) {
  const LayerTable* layer;
  if (const carousel_status status = find(options, sizes, layer); status != CAROUSEL_OK) return status;
  if (!memory) return CAROUSEL_NULL_POINTER;
  layer->memory(*options, *sizes, *memory);
  return CAROUSEL_OK;
}

carousel_status carousel_pack(const carousel_options* options, const carousel_sizes* sizes,
                              const carousel_weights* weights, void* packed) {
  const LayerTable* layer;
  if (const carousel_status status = find(options, sizes, layer); status != CAROUSEL_OK) return status;
  if (!weights || !packed) return CAROUSEL_NULL_POINTER;
  if (const carousel_status status = check(*options, *sizes, *weights); status != CAROUSEL_OK) return status;
  layer->pack(*options, *sizes, *weights, packed);
  return CAROUSEL_OK;
}

carousel_status carousel_forward(const carousel_options* options, const carousel_sizes* sizes,
                                 const carousel_forward_arrays* arrays) {
  const LayerTable* layer;
  if (const carousel_status status = find(options, sizes, layer); status != CAROUSEL_OK) return status;
  if (!arrays) return CAROUSEL_NULL_POINTER;
  if (const carousel_status status = check(*options, *sizes, *arrays); status != CAROUSEL_OK) return status;
  layer->forward(*options, *sizes, *arrays, useful_threads(*options, *sizes, layer->gates));
  return CAROUSEL_OK;
}

carousel_status carousel_backward(const carousel_options* options, const carousel_sizes* sizes,
                                  const carousel_backward_arrays* arrays) {
  const LayerTable* layer;
  if (const carousel_status status = find(options, sizes, layer); status != CAROUSEL_OK) return status;
  if (!arrays) return CAROUSEL_NULL_POINTER;
  carousel_memory memory{};
  if (!arrays->reserve) layer->memory(*options, *sizes, memory);
  if (const carousel_status status = check(*options, *sizes, *arrays, memory.reserve > 0); status != CAROUSEL_OK) return status;
  layer->backward(*options, *sizes, *arrays, useful_threads(*options, *sizes, layer->gates));
  return CAROUSEL_OK;
}

carousel_status carousel_apply(carousel_function function, carousel_dtype dtype, int64_t count, const void* x, void* y) {
  if (!chosen) return CAROUSEL_BAD_ISA;
  if (function < CAROUSEL_EXP || function > CAROUSEL_SCALED_TANH) return CAROUSEL_BAD_OPTION;
  if (dtype != CAROUSEL_FLOAT32 && dtype != CAROUSEL_FLOAT64) return CAROUSEL_BAD_OPTION;
  if (count < 0) return CAROUSEL_BAD_SIZE;
  if (count > 0 && (!x || !y)) return CAROUSEL_NULL_POINTER;
  chosen->table->apply(function, dtype, count, x, y);
  return CAROUSEL_OK;
}

const char* carousel_isa(void) { return chosen ? chosen->name : nullptr; }

const char* carousel_isa_name(int k) {
  for (const Isa& isa : isas)
    if (isa.available && k-- == 0) return isa.name;
  return nullptr;
}

int carousel_max_threads(void) { return carousel_team_limit(); }

const char* carousel_status_text(carousel_status status) {
  switch (status) {
    case CAROUSEL_OK: return "ok";
    case CAROUSEL_BAD_VERSION: return "options.version is not that of this library";
    case CAROUSEL_BAD_OPTION: return "options name an unknown cell or dtype, or something that this cell does not offer";
    case CAROUSEL_BAD_SIZE: return "a size is negative, a length beyond the sequence, or the steps are out of order";
    case CAROUSEL_TOO_LARGE: return "the sizes need a buffer of more than 2^52 elements";
    case CAROUSEL_NULL_POINTER: return "an array that must be there is missing";
    case CAROUSEL_BAD_ISA: return "CAROUSEL_ISA names an instruction set that is not available here";
  }
  return "unknown status";
}
