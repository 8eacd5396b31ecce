#include "check.h"

namespace {

// False where a product reaches 2^52 elements: bytes, padding and the sums of a few such arrays still fit int64.
bool fits(int64_t a, int64_t b, int64_t c) {
  int64_t product;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, c, &product) &&
         product < (int64_t(1) << 52);
}

bool missing(const void* array, bool empty) { return array == nullptr && !empty; }

carousel_status check_weights(const carousel_sizes& sizes, const carousel_weights& weights) {
  const bool no_units = sizes.hidden == 0;
  return missing(weights.W, no_units || sizes.inputs == 0) || missing(weights.R, no_units) ? CAROUSEL_NULL_POINTER
                                                                                          : CAROUSEL_OK;
}

}  // namespace

carousel_status check(const carousel_options* options, const carousel_sizes* sizes) {
  if (!options || !sizes) return CAROUSEL_NULL_POINTER;
  if (options->version != CAROUSEL_ABI) return CAROUSEL_BAD_VERSION;
  if (options->cell < CAROUSEL_LSTM || options->cell > CAROUSEL_RNN_RELU) return CAROUSEL_BAD_OPTION;
  if (options->dtype != CAROUSEL_FLOAT32 && options->dtype != CAROUSEL_FLOAT64) return CAROUSEL_BAD_OPTION;
  const int64_t T = sizes->steps, B = sizes->batch, I = sizes->inputs, H = sizes->hidden;
  if (T < 0 || B < 0 || I < 0 || H < 0) return CAROUSEL_BAD_SIZE;
  // A size of 0 must not hide a huge other one: padding turns 0 into a register.
  const auto some = [](int64_t n) { return n > 0 ? n : 1; };
  if (!fits(some(T), some(B), some(I)) || !fits(some(T), some(B), some(H)) || !fits(some(H), some(H), 4) ||
      !fits(some(H), some(I), 4))
    return CAROUSEL_TOO_LARGE;
  return CAROUSEL_OK;
}

carousel_status check(const carousel_sizes& sizes, const carousel_weights& weights) {
  return check_weights(sizes, weights);
}

carousel_status check(const carousel_sizes& sizes, const carousel_forward_arrays& a) {
  const bool no_rows = sizes.steps == 0 || sizes.batch == 0, no_units = sizes.hidden == 0;
  if (missing(a.x, no_rows || sizes.inputs == 0) || missing(a.y, no_rows || no_units) || !a.scratch)
    return CAROUSEL_NULL_POINTER;
  return a.packed ? CAROUSEL_OK : check_weights(sizes, a.weights);
}

carousel_status check(const carousel_sizes& sizes, const carousel_backward_arrays& a, bool needs_reserve) {
  const bool no_rows = sizes.steps == 0 || sizes.batch == 0, no_units = sizes.hidden == 0;
  if (missing(a.x, no_rows || sizes.inputs == 0) || missing(a.y, no_rows || no_units) || !a.scratch ||
      missing(a.reserve, !needs_reserve))
    return CAROUSEL_NULL_POINTER;
  return check_weights(sizes, a.weights);
}
