#include "check.h"

namespace {

// False where a product reaches 2^52 elements: bytes, padding and the sums of a few such arrays still fit int64.
bool fits(int64_t a, int64_t b, int64_t c) {
  int64_t product;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_mul_overflow(product, c, &product) &&
         product < (int64_t(1) << 52);
}

bool missing(const void* array, bool empty) { return array == nullptr && !empty; }

carousel_status check_weights(const carousel_options& options, const carousel_sizes& sizes,
                              const carousel_weights& weights) {
  const bool no_units = sizes.hidden == 0;
  if (missing(weights.W, no_units || sizes.inputs == 0) || missing(weights.R, no_units)) return CAROUSEL_NULL_POINTER;
  if ((weights.projection != nullptr) != (sizes.projected > 0)) return CAROUSEL_NULL_POINTER;
  if (options.normalized && (!weights.gain_x || !weights.gain_h) && !no_units) return CAROUSEL_NULL_POINTER;
  if (weights.shift_c && !weights.gain_c) return CAROUSEL_NULL_POINTER;
  return CAROUSEL_OK;
}

// Lengths, and arrays that only some cells read.
template <class Arrays>
carousel_status check_options(const carousel_options& options, const carousel_sizes& sizes, const Arrays& a) {
  const bool lstm = options.cell == CAROUSEL_LSTM || options.cell == CAROUSEL_LSTM_COUPLED;
  const bool rnn = options.cell == CAROUSEL_RNN_TANH || options.cell == CAROUSEL_RNN_RELU;
  if (a.weights.peephole && !lstm) return CAROUSEL_BAD_OPTION;
  if (a.weights.gain_c && !(lstm && options.normalized)) return CAROUSEL_BAD_OPTION;
  if (a.candidate_mask && rnn) return CAROUSEL_BAD_OPTION;
  for (int64_t b = 0; a.lengths && b < sizes.batch; ++b)
    if (a.lengths[b] < 0 || a.lengths[b] > sizes.steps) return CAROUSEL_BAD_SIZE;
  if (options.packed_sequence) {
    if (!a.lengths) return CAROUSEL_NULL_POINTER;
    for (int64_t b = 0; b < sizes.batch; ++b)
      if (b == 0 ? a.lengths[b] != sizes.steps : a.lengths[b] > a.lengths[b - 1]) return CAROUSEL_BAD_SIZE;
  }
  return CAROUSEL_OK;
}

}  // namespace

carousel_status check(const carousel_options* options, const carousel_sizes* sizes) {
  if (!options || !sizes) return CAROUSEL_NULL_POINTER;
  if (options->version != CAROUSEL_ABI) return CAROUSEL_BAD_VERSION;
  const int32_t cell = options->cell;
  if (cell < CAROUSEL_LSTM || cell > CAROUSEL_LSTM_COUPLED) return CAROUSEL_BAD_OPTION;
  if (options->dtype != CAROUSEL_FLOAT32 && options->dtype != CAROUSEL_FLOAT64) return CAROUSEL_BAD_OPTION;
  const bool lstm = cell == CAROUSEL_LSTM || cell == CAROUSEL_LSTM_COUPLED;
  const auto rate = [](double p) { return p >= 0 && p <= 1; };  // and no NaN
  if (!(options->clip >= 0) || !(options->cell_clip >= 0) || !rate(options->zoneout_h) || !rate(options->zoneout_c))
    return CAROUSEL_BAD_OPTION;
  if (!lstm && (sizes->projected > 0 || options->cell_clip > 0 || options->zoneout_c > 0)) return CAROUSEL_BAD_OPTION;
  if (options->normalized && !(options->epsilon > 0)) return CAROUSEL_BAD_OPTION;
  if (options->products != CAROUSEL_PRODUCTS_FULL &&
      (options->products != CAROUSEL_PRODUCTS_BFLOAT16 || options->dtype != CAROUSEL_FLOAT32 || options->normalized))
    return CAROUSEL_BAD_OPTION;
  const int64_t T = sizes->steps, B = sizes->batch, I = sizes->inputs, H = sizes->hidden, P = sizes->projected;
  if (T < 0 || B < 0 || I < 0 || H < 0 || P < 0) return CAROUSEL_BAD_SIZE;
  const int64_t first = options->first, last = options->last;
  if (!(first == 0 && last == 0) && !(0 <= first && first < last && last <= T)) return CAROUSEL_BAD_SIZE;
  // A size of 0 must not hide a huge other one: padding turns 0 into a register.
  const auto some = [](int64_t n) { return n > 0 ? n : 1; };
  if (!fits(some(T), some(B), some(I)) || !fits(some(T), some(B), some(H)) || !fits(some(H), some(H), 4) ||
      !fits(some(H), some(I), 4) || !fits(some(T), some(B), some(P)) || !fits(some(H), some(P), 4))
    return CAROUSEL_TOO_LARGE;
  return CAROUSEL_OK;
}

carousel_status check(const carousel_options& options, const carousel_sizes& sizes, const carousel_weights& weights) {
  return check_weights(options, sizes, weights);
}

carousel_status check(const carousel_options& options, const carousel_sizes& sizes, const carousel_forward_arrays& a) {
  const bool no_rows = sizes.steps == 0 || sizes.batch == 0, no_units = sizes.hidden == 0;
  if (missing(a.x, no_rows || sizes.inputs == 0) || missing(a.y, no_rows || no_units) || !a.scratch)
    return CAROUSEL_NULL_POINTER;
  if (options.products != CAROUSEL_PRODUCTS_FULL && (a.reserve || a.state_mask)) return CAROUSEL_BAD_OPTION;
  if (const carousel_status status = check_options(options, sizes, a); status != CAROUSEL_OK) return status;
  return a.packed ? CAROUSEL_OK : check_weights(options, sizes, a.weights);
}

carousel_status check(const carousel_options& options, const carousel_sizes& sizes, const carousel_backward_arrays& a,
                      bool needs_reserve) {
  const bool no_rows = sizes.steps == 0 || sizes.batch == 0, no_units = sizes.hidden == 0;
  if (missing(a.x, no_rows || sizes.inputs == 0) || missing(a.y, no_rows || no_units) || !a.scratch ||
      missing(a.reserve, !needs_reserve))
    return CAROUSEL_NULL_POINTER;
  if (options.products != CAROUSEL_PRODUCTS_FULL) return CAROUSEL_BAD_OPTION;
  if ((a.dgates || a.dcells) && !(options.first == 0 && options.last == 0)) return CAROUSEL_BAD_OPTION;
  const bool rnn = options.cell == CAROUSEL_RNN_TANH || options.cell == CAROUSEL_RNN_RELU;
  if (a.dgates && rnn && !(options.zoneout_h > 0)) return CAROUSEL_BAD_OPTION;  // reserve holds no gates
  if (const carousel_status status = check_options(options, sizes, a); status != CAROUSEL_OK) return status;
  return check_weights(options, sizes, a.weights);
}
