// AVX2 with FMA: 16 registers of 8 floats; 12 sums, the weights from memory.
#define CAROUSEL_VECTOR_BYTES 32
#define CAROUSEL_ACCUMULATORS 12
#define CAROUSEL_TABLE carousel_avx2
#include "../kernels/table.h"
