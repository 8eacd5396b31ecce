// carousel: recurrent layers, forward and backward, as plain functions over memory that the caller owns.
//
// Shapes: T steps, B batch rows, I inputs, H hidden units, P units of the state h (P = H without a projection), G gates
// (lstm 4, coupled lstm 3, gru 3, rnn 1); any of them but G may be 0. Weights are row-major in torch's order: W [G*H, I],
// R [G*H, P], b_W and b_R [G*H]; gates i f g o (coupled: i g o), or r z n.
//
//   LSTM              i, f, o = σ(a_i), σ(a_f), σ(a_o)    g = tanh(a_g)    c' = f ∘ c + i ∘ g    h' = o ∘ tanh(c')
//   LSTM_COUPLED      the same with f = 1 - i
//   GRU               r, z = σ(a_r), σ(a_z)    n = tanh(W_n x + b_Wn + r ∘ (R_n h + b_Rn))    h' = (1 - z) ∘ n + z ∘ h
//   GRU_RESET_BEFORE  r, z = σ(a_r), σ(a_z)    n = tanh(W_n x + R_n (r ∘ h) + b_Wn + b_Rn)    h' = (1 - z) ∘ n + z ∘ h
//   RNN_TANH, RNN_RELU    h' = tanh(a) or max(a, 0)         with a = W x + b_W + R h + b_R throughout
//
// What the options change in these equations is in docs/options.md. Sequences are addressed by element strides for time
// and batch; features are contiguous, so time-major, batch-major and one half of a bidirectional output are all the same
// call. No function throws, allocates, or keeps a pointer, but that a build without OpenMP makes the threads of every call
// anew, fewer where the system refuses them. Each returns a status. Arrays never overlap unless said so.
// Results have the same bits for any number of threads, and a row's result is the same whatever the other rows are.
#ifndef CAROUSEL_H
#define CAROUSEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAROUSEL_ABI 2

typedef enum carousel_status {
  CAROUSEL_OK = 0,
  CAROUSEL_BAD_VERSION,   // options.version is not CAROUSEL_ABI
  CAROUSEL_BAD_OPTION,    // unknown cell or dtype, or an option that the cell does not offer
  CAROUSEL_BAD_SIZE,      // a negative size, steps out of order, or a length outside [0, T]
  CAROUSEL_TOO_LARGE,     // an array would exceed 2^52 elements
  CAROUSEL_NULL_POINTER,  // an array that must be there is NULL
  CAROUSEL_BAD_ISA,       // CAROUSEL_ISA names an instruction set that this machine or build lacks
} carousel_status;

typedef enum carousel_cell {
  CAROUSEL_LSTM = 0,
  CAROUSEL_GRU = 1,
  CAROUSEL_GRU_RESET_BEFORE = 2,
  CAROUSEL_RNN_TANH = 3,
  CAROUSEL_RNN_RELU = 4,
  CAROUSEL_LSTM_COUPLED = 5,
} carousel_cell;

typedef enum carousel_dtype { CAROUSEL_FLOAT32 = 0, CAROUSEL_FLOAT64 = 1 } carousel_dtype;

typedef enum carousel_products {
  CAROUSEL_PRODUCTS_FULL = 0,
  CAROUSEL_PRODUCTS_BFLOAT16 = 1,  // W, R, x and h rounded to bfloat16, sums in float32; forward without reserve only
} carousel_products;

// What is computed. A new option is a new field at the end and a new version; zero means off.
typedef struct carousel_options {
  uint32_t version;  // CAROUSEL_ABI
  int32_t cell;      // carousel_cell
  int32_t dtype;     // carousel_dtype, of every array of the call
  int32_t reverse;   // 1: from the last step to the first; y[t] still belongs to x[t]
  int32_t threads;   // at most so many; 0: as many as the OpenMP runtime gives this thread
  int32_t products;  // carousel_products
  int32_t normalized;   // 1: layer normalisation of W x and R h, with weights.gain_x and gain_h
  double epsilon;       // of the normalisation, under the root
  double clip;          // > 0: sums are limited to [-clip, clip] before the gates' activations
  double cell_clip;     // > 0: likewise the new cell state
  double zoneout_h, zoneout_c;  // share of the old h, and c, that stays, in [0, 1]
  int32_t zoneout_drawn;        // 1: whether an element stays whole is drawn with that probability
  uint32_t zoneout_key;         // of the draws: Philox2x32-10 of (b * width + j, step), Salmon et al. 2011
  int32_t packed_sequence;  // 1: x, y and their gradients hold, step by step, only the rows that still run, *_row apart,
                            // as torch's PackedSequence; lengths are given and do not increase, the first is T
  int64_t first, last;  // only steps [first, last), counted in the layer's direction; 0, 0: all of them. Where first > 0,
                        // the state before it is in y, and c_0 is the cell state there
} carousel_options;

typedef struct carousel_sizes {
  int64_t steps, batch, inputs, hidden;  // T, B, I, H
  int64_t projected;                     // P of an LSTM with a projection; 0: none
} carousel_sizes;

// Bytes that the caller provides; blocks aligned to 64 are the fastest.
typedef struct carousel_memory {
  int64_t packed;            // weights as the kernels read them
  int64_t reserve;           // what a forward pass leaves for the backward pass: gates and cell states of every step
  int64_t forward_scratch;   // contents are undefined before and after
  int64_t backward_scratch;
} carousel_memory;

typedef struct carousel_weights {
  const void *W, *R, *b_W, *b_R;  // either bias may be NULL: zeros
  const void* projection;         // [P, H]; NULL if and only if sizes.projected is 0
  const void* peephole;           // [3, H] of i f o, coupled [2, H] of i o; NULL: none; not packed
  const void *gain_x, *gain_h;    // [G*H], where options.normalized; not packed
  const void *gain_c, *shift_c;   // [H], or NULL: the cell is not normalised on its way to h
} carousel_weights;

typedef struct carousel_forward_arrays {
  const void* x;                // [T, B, I] by strides
  int64_t x_step, x_row;        // elements from one step, one batch row, to the next
  const void *h_0, *c_0;        // [B, P] and [B, H] contiguous; NULL: zeros; c_0 is read by the LSTM only
  const int64_t* lengths;       // [B] steps of each row, in [0, T]; NULL: T. Beyond, x is not read and y is 0
  const void* candidate_mask;   // [B, H] multiplies g, or n, at every step; NULL: none; likewise
  const void* state_mask;       // [B, P] multiplies h where R reads it
  carousel_weights weights;     // ignored where packed is given
  const void* packed;           // from carousel_pack, or NULL: packed into scratch by this call
  void* y;                      // [T, B, P] by strides
  int64_t y_step, y_row;
  void *h_n, *c_n;              // [B, P], [B, H] contiguous; NULL: not wanted; may be h_0 and c_0 themselves
  void* reserve;                // NULL: no backward pass will follow. Begins with the gates after their activations,
                                // [T, B, G*H], a GRU's [T, B, 4H] with R_n h + b_Rn last; then, 64-byte aligned, the
                                // LSTM's cells [T, B, H]; rows and steps are those of y. An RNN leaves its activations,
                                // [T, B, H], where zoneout_h is on
  void* scratch;
} carousel_forward_arrays;

typedef struct carousel_backward_arrays {
  const void* x;                // x, h_0, c_0, lengths, masks, weights, y, reserve as in the forward call
  int64_t x_step, x_row;
  const void *h_0, *c_0;
  const int64_t* lengths;
  const void *candidate_mask, *state_mask;
  carousel_weights weights;     // the biases are not read
  const void* y;
  int64_t y_step, y_row;
  const void* reserve;          // read only: a second backward pass gives the same
  const void* dy;               // [T, B, P] by strides; NULL: zeros
  int64_t dy_step, dy_row;
  const void *dh_n, *dc_n;      // [B, P], [B, H] contiguous; NULL: zeros
  const void *dgates, *dcells;  // gradients of what reserve holds, laid out like it; NULL: zeros, as where it holds none
  void* dx;                     // [T, B, I] by strides; NULL: not wanted, as for every output below
  int64_t dx_step, dx_row;
  void *dh_0, *dc_0;            // [B, P], [B, H]: of the state before step `first`
  void *dW, *dR, *db_W, *db_R;  // as the weights; overwritten
  void *dprojection, *dpeephole, *dgain_x, *dgain_h, *dgain_c, *dshift_c;
  void* scratch;
} carousel_backward_arrays;

carousel_status carousel_memory_sizes(const carousel_options*, const carousel_sizes*, carousel_memory*);
carousel_status carousel_pack(const carousel_options*, const carousel_sizes*, const carousel_weights*, void* packed);
carousel_status carousel_forward(const carousel_options*, const carousel_sizes*, const carousel_forward_arrays*);
carousel_status carousel_backward(const carousel_options*, const carousel_sizes*, const carousel_backward_arrays*);

// The activations as the kernels compute them, y[k] = f(x[k]), for the accuracy tests. Gates use the last two, of sums
// that are multiplied already: σ of x = -t / log2 e, and tanh of x = t / (2 log2 e).
typedef enum carousel_function {
  CAROUSEL_EXP = 0,
  CAROUSEL_SIGMOID = 1,
  CAROUSEL_TANH = 2,
  CAROUSEL_SCALED_SIGMOID = 3,
  CAROUSEL_SCALED_TANH = 4,
} carousel_function;
carousel_status carousel_apply(carousel_function, carousel_dtype, int64_t count, const void* x, void* y);

// The instruction set in use: the best that the machine has, or the one that the variable CAROUSEL_ISA names.
// NULL if it names one that is not available. carousel_isa_name(k) lists those available, best first, then NULL.
const char* carousel_isa(void);
const char* carousel_isa_name(int k);
const char* carousel_status_text(carousel_status);
int carousel_max_threads(void);

#ifdef __cplusplus
}
#endif
#endif
