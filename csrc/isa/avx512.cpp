// AVX-512: 32 registers of 16 floats; 24 sums, 4 of a row of weights, 1 broadcast.
#define CAROUSEL_VECTOR_BYTES 64
#define CAROUSEL_ACCUMULATORS 24
#define CAROUSEL_TABLE carousel_avx512
#include "../kernels/table.h"
