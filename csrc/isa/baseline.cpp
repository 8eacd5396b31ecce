// What every machine of the architecture has: 4 floats a register (SSE of x86-64-v2, NEON of aarch64).
#define CAROUSEL_VECTOR_BYTES 16
#if defined(__aarch64__)
#define CAROUSEL_ACCUMULATORS 24
#else
#define CAROUSEL_ACCUMULATORS 12
#endif
#define CAROUSEL_TABLE carousel_baseline
#include "../kernels/table.h"
