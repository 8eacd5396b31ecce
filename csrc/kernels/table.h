// From a checked call of carousel.h to a kernel: lays out memory and picks cell and dtype. Included once per ISA,
// which defines CAROUSEL_TABLE, the name of its function table.
#ifndef CAROUSEL_KERNELS_TABLE_H
#define CAROUSEL_KERNELS_TABLE_H

#include "../isa.h"
#include "gru.h"
#include "lstm.h"
#include "rnn.h"

namespace {

constexpr int64_t chunk_bytes = 1 << 20;  // W x + b of one chunk stays in a core's L2 cache
constexpr int64_t chunk_depth = 384;      // rows per product of weight gradients: their strips stay there too
constexpr int64_t ahead_from = 32;        // inputs; with fewer, W x is cheaper inside the step than written and read

// The batch is shared among threads, unless it is too small for that or the weights are too large for a core's cache.
inline bool by_units(const carousel_sizes& sizes, int threads) {
  return threads > 1 && (sizes.batch < 2 * threads || sizes.hidden >= 768);
}

template <class T>
Sequence<const T> state(const void* given, int64_t H, const T* zeros) {
  return given ? Sequence<const T>{static_cast<const T*>(given), 0, H} : Sequence<const T>{zeros, 0, 0};
}

template <class T, class Cell>
Forward<T> forward_layout(const carousel_options& options, const carousel_sizes& sizes, const carousel_forward_arrays& a,
                          Arena& arena, Arena& reserve, bool pack, bool training) {
  const int64_t S = sizes.steps, B = sizes.batch, H = sizes.hidden;
  Forward<T> f{};
  f.steps = S, f.batch = B, f.inputs = sizes.inputs, f.hidden = H;
  f.panels = {Cell::gates, sizes.inputs, H};
  const T* zeros = arena.take<T>(H);  // first, where clear_zeros finds it
  f.weights = a.weights;
  f.repack = pack ? arena.take<T>(f.panels.size()) : nullptr;
  f.packed = pack ? f.repack : static_cast<const T*>(a.packed);
  f.x = directed<const T>({static_cast<const T*>(a.x), a.x_step, a.x_row}, S, options.reverse);
  f.y = directed<T>({static_cast<T*>(a.y), a.y_step, a.y_row}, S, options.reverse);
  f.h_0 = state<T>(a.h_0, H, zeros);
  f.c_0 = state<T>(a.c_0, H, zeros);
  f.h_n = static_cast<T*>(a.h_n);
  f.c_n = Cell::has_cells ? static_cast<T*>(a.c_n) : nullptr;
  const int64_t gates = Cell::reserve_blocks * H;
  if (training) {
    f.gates = {reserve.take<T>(S * B * gates), B * gates, gates};
    f.cells = {Cell::has_cells ? reserve.take<T>(S * B * H) : nullptr, B * H, H};
  } else {
    f.gates = {Cell::inference_gates ? arena.take<T>(B * gates) : nullptr, 0, gates};
    f.cells = {Cell::has_cells ? arena.take<T>(B * H) : nullptr, 0, H};
  }
  f.training = training;
  if (sizes.inputs >= ahead_from && S > 0 && B > 0) {
    const int64_t step = B * f.panels.all_columns();
    const int64_t fit = chunk_bytes / (int64_t(sizeof(T)) * (step > 0 ? step : 1));
    f.chunk = fit < 1 ? 1 : fit < S ? fit : S;
    f.projected = arena.take<T>(f.chunk * step);
  }
  return f;
}

template <class T, class Cell>
Backward<T> backward_layout(const carousel_options& options, const carousel_sizes& sizes,
                            const carousel_backward_arrays& a, Arena& arena, Arena& reserve) {
  const int64_t S = sizes.steps, B = sizes.batch, I = sizes.inputs, H = sizes.hidden;
  Backward<T> f{};
  f.steps = S, f.batch = B, f.inputs = I, f.hidden = H, f.blocks = Cell::gradient_blocks;
  f.weights = a.weights;
  const T* zeros = arena.take<T>(H);  // first, where clear_zeros finds it
  const bool reverse = options.reverse;
  f.x = directed<const T>({static_cast<const T*>(a.x), a.x_step, a.x_row}, S, reverse);
  f.y = directed<const T>({static_cast<const T*>(a.y), a.y_step, a.y_row}, S, reverse);
  f.h_0 = state<T>(a.h_0, H, zeros);
  f.c_0 = state<T>(a.c_0, H, zeros);
  const int64_t gates = Cell::reserve_blocks * H;
  f.gates = {reserve.take<T>(S * B * gates), B * gates, gates};
  f.cells = {Cell::has_cells ? reserve.take<T>(S * B * H) : nullptr, B * H, H};
  f.dy = a.dy ? directed<const T>({static_cast<const T*>(a.dy), a.dy_step, a.dy_row}, S, reverse)
              : Sequence<const T>{zeros, 0, 0};
  f.dh_n = state<T>(a.dh_n, H, zeros);
  f.dc_n = state<T>(a.dc_n, H, zeros);
  f.dx = directed<T>({static_cast<T*>(a.dx), a.dx_step, a.dx_row}, S, reverse);
  f.dh_0 = static_cast<T*>(a.dh_0);
  f.dc_0 = Cell::has_cells ? static_cast<T*>(a.dc_0) : nullptr;
  f.dW = static_cast<T*>(a.dW), f.dR = static_cast<T*>(a.dR);
  f.db_W = static_cast<T*>(a.db_W), f.db_R = static_cast<T*>(a.db_R);

  const int64_t per_chunk = chunk_depth / (B > 0 ? B : 1);
  f.chunk = per_chunk < 1 ? 1 : per_chunk < S ? per_chunk : (S > 0 ? S : 1);
  const int64_t K = f.chunk * B;
  const Strips<T> inputs(I), units(H);
  f.dh = arena.take<T>(B * H);
  f.dc = arena.take<T>(B * H);
  f.db = arena.take<T>(f.width());
  f.da = arena.take<T>(K * f.width());
  f.da_tiles = arena.take<T>(K * f.width());
  f.R_strips = arena.take<T>(units.size(Cell::gates * H));
  f.W_strips = arena.take<T>(inputs.size(Cell::gates * H));
  f.x_strips = arena.take<T>(inputs.size(K));
  f.h_strips = arena.take<T>(units.size(K));
  f.dreset = Cell::phases == 2 ? arena.take<T>(B * H) : nullptr;
  f.rh_strips = Cell::phases == 2 ? arena.take<T>(units.size(K)) : nullptr;
  return f;
}

template <class T, class Cell>
struct Layer {
  static void memory(const carousel_options& options, const carousel_sizes& sizes, carousel_memory& out) {
    Arena packing(nullptr), inference(nullptr), training(nullptr), backward(nullptr), reserve(nullptr), again(nullptr);
    out.packed = Panels<T>{Cell::gates, sizes.inputs, sizes.hidden}.size() * int64_t(sizeof(T));
    forward_layout<T, Cell>(options, sizes, {}, inference, again, true, false);
    forward_layout<T, Cell>(options, sizes, {}, training, reserve, true, true);
    backward_layout<T, Cell>(options, sizes, {}, backward, again);
    out.reserve = reserve.used();
    out.forward_scratch = inference.used() > training.used() ? inference.used() : training.used();
    out.backward_scratch = backward.used();
  }

  static void pack(const carousel_sizes& sizes, const carousel_weights& weights, void* packed) {
    const Panels<T> panels{Cell::gates, sizes.inputs, sizes.hidden};
    for (int64_t p = 0; p < panels.count(); ++p)
      pack_panel(panels, weights, Cell::one_bias, p, static_cast<T*>(packed));
  }

  static void clear_zeros(const carousel_sizes& sizes, void* scratch) {
    for (int64_t j = 0; j < sizes.hidden; ++j) static_cast<T*>(scratch)[j] = T(0);
  }

  static void run_forward(const carousel_options& options, const carousel_sizes& sizes, const carousel_forward_arrays& a,
                          int threads) {
    Arena arena(a.scratch), reserve(a.reserve);
    Forward<T> f = forward_layout<T, Cell>(options, sizes, a, arena, reserve, !a.packed, a.reserve != nullptr);
    f.by_units = by_units(sizes, threads);
    clear_zeros(sizes, a.scratch);
    carousel_team_run(threads, [](const Team* team, void* call) {
      forward<T, Cell>(*static_cast<const Forward<T>*>(call), *team);
    }, &f);
  }

  static void run_backward(const carousel_options& options, const carousel_sizes& sizes,
                           const carousel_backward_arrays& a, int threads) {
    Arena arena(a.scratch), reserve(const_cast<void*>(a.reserve));
    Backward<T> f = backward_layout<T, Cell>(options, sizes, a, arena, reserve);
    f.by_units = by_units(sizes, threads);
    clear_zeros(sizes, a.scratch);
    carousel_team_run(threads, [](const Team* team, void* call) {
      backward<T, Cell>(*static_cast<const Backward<T>*>(call), *team);
    }, &f);
  }

  static constexpr LayerTable table{Cell::gates, memory, pack, run_forward, run_backward};
};

template <class T>
void apply(int function, int64_t count, const T* x, T* y) {
  for (int64_t k = 0; k < count; k += lanes<T>) {
    const Vec<T> v = load(x + k, count - k);
    store(y + k, function == CAROUSEL_EXP ? exp<T>(v) : function == CAROUSEL_SIGMOID ? sigmoid<T>(v) : tanh<T>(v),
          count - k);
  }
}

void apply_function(int function, int dtype, int64_t count, const void* x, void* y) {
  if (dtype == CAROUSEL_FLOAT32)
    apply(function, count, static_cast<const float*>(x), static_cast<float*>(y));
  else
    apply(function, count, static_cast<const double*>(x), static_cast<double*>(y));
}

}  // namespace

extern "C" const IsaTable CAROUSEL_TABLE = {
    {
        {&Layer<float, Lstm>::table, &Layer<double, Lstm>::table},
        {&Layer<float, GruResetAfter>::table, &Layer<double, GruResetAfter>::table},
        {&Layer<float, GruResetBefore>::table, &Layer<double, GruResetBefore>::table},
        {&Layer<float, RnnTanh>::table, &Layer<double, RnnTanh>::table},
        {&Layer<float, RnnRelu>::table, &Layer<double, RnnRelu>::table},
    },
    apply_function,
};
#endif
