// From a checked call of carousel.h to a kernel: lays out memory and picks cell and dtype. Included once per ISA,
// which defines CAROUSEL_TABLE, the name of its function table.
#ifndef CAROUSEL_KERNELS_TABLE_H
#define CAROUSEL_KERNELS_TABLE_H

#include "../isa.h"
#include "normalized.h"

namespace {

constexpr int64_t chunk_bytes = 1 << 20;  // W x + b of one chunk stays in a core's L2 cache
constexpr int64_t chunk_depth = 256;      // rows per product of weight gradients: their strips stay there too
constexpr int64_t deep_chunk = 512;       // the same where the gradients, which pass by once a chunk,
constexpr int64_t deep_bytes = 8 << 20;   // take more than this
constexpr int64_t cache_bytes = 1 << 20;  // of one core
constexpr int64_t direct_bytes = cache_bytes / 2;  // of da, up to which its columns are read where they lie

// The batch is shared among threads, unless it is too small for that or the weights are too large for a core's cache.
inline bool by_units(const carousel_sizes& sizes, int threads) {
  return threads > 1 && (sizes.batch < 2 * threads || sizes.hidden >= 768);
}

// Whether W x + b of several steps is computed first. W is then read once for all of them and not at every step, which
// repays writing and reading the sums where the weights exceed a core's cache and few rows share each reading.
inline bool ahead(const carousel_sizes& sizes, int64_t weight_bytes, int64_t rows) {
  return weight_bytes > cache_bytes && sizes.inputs >= 16 * rows;
}

// The steps of a call.
struct Span {
  int64_t all, first, last;
  bool reverse;
  Span(const carousel_options& options, const carousel_sizes& sizes)
      : all(sizes.steps),
        first(options.first),
        last(options.first == 0 && options.last == 0 ? sizes.steps : options.last),
        reverse(options.reverse) {}
  bool every() const { return first == 0 && last == all; }
};

// Lays out what both passes read and write: as the caller's arrays lie in memory, seen from the layer's first step and
// in the order of the rows' lengths, so that no kernel knows about either.
class Layout {
 public:
  Layout(const carousel_options& options, const carousel_sizes& sizes, const int64_t* lengths, bool ragged, Arena& arena)
      : steps_(options, sizes),
        batch_(sizes.batch),
        ragged_(ragged),
        packed_(options.packed_sequence),
        arena_(arena),
        rows_{sizes.batch} {
    if (!ragged) return;
    int64_t* order = arena.take<int64_t>(batch_);
    int64_t* length = arena.take<int64_t>(batch_);
    int64_t* before = arena.take<int64_t>(steps_.all + 1);
    int64_t* scratch = arena.take<int64_t>(steps_.all + 2);
    if (order) rows_ = sort_rows(steps_.all, batch_, lengths, order, length, before, scratch);
    shape_ = arena.take<Packed>(1);
    if (shape_) *shape_ = {before, length, steps_.reverse};
  }
  const Ragged& rows() const { return rows_; }

  // x, y and their gradients: [T, B, ·] by strides, or packed.
  template <class T>
  Sequence<T> sequence(T* data, int64_t step, int64_t row) {
    return packed_ ? Sequence<T>{data, 0, row, nullptr, shape_} : strided(data, step, row);
  }
  // [T, B, ·] by strides.
  template <class T>
  Sequence<T> strided(T* data, int64_t step, int64_t row) {
    const bool reverse = steps_.reverse;
    if (ragged_) {
      int64_t* starts = arena_.take<int64_t>(batch_);
      for (int64_t b = 0; starts && b < batch_; ++b)
        starts[b] = rows_.order[b] * row + (reverse ? (rows_.length[b] - 1) * step : 0);
      return {data, reverse ? -step : step, row, starts};
    }
    return reverse && steps_.all > 0 && data ? Sequence<T>{data + (steps_.all - 1) * step, -step, row}
                                             : Sequence<T>{data, step, row};
  }
  // [B, width], one for all steps; null: zeros.
  template <class T>
  Sequence<const T> constant(const void* data, int64_t width, const T* zeros) {
    int64_t* starts = ragged_ ? arena_.take<int64_t>(batch_) : nullptr;
    for (int64_t b = 0; starts && b < batch_; ++b) starts[b] = data ? rows_.order[b] * width : 0;
    return {data ? static_cast<const T*>(data) : zeros, 0, data ? width : 0, starts};
  }
  // A block of the reserve, `width` a row: as y lies in memory, or for some of the steps in the layer's own order.
  template <class T>
  Sequence<T> reserved(Arena& reserve, int64_t width) {
    if (!steps_.every()) return in_order<T>(reserve, width);
    return strided<T>(reserve.take<T>(steps_.all * batch_ * width), batch_ * width, width);
  }
  template <class T>
  Sequence<T> in_order(Arena& reserve, int64_t width) {
    const int64_t step = batch_ * width;
    T* data = reserve.take<T>((steps_.last - steps_.first) * step);
    return {data ? data - steps_.first * step : nullptr, step, width};
  }

 private:
  const Span steps_;
  const int64_t batch_;
  const bool ragged_, packed_;
  Arena& arena_;
  Ragged rows_;
  Packed* shape_ = nullptr;
};

inline Precision precision_of(const carousel_options& options) {
  return options.products == CAROUSEL_PRODUCTS_BFLOAT16 ? low_precision() : full;
}

template <class T, class Arrays>
Extras<T> extras_of(const carousel_options& options, const carousel_sizes& sizes, const Arrays& a, Layout& layout) {
  const int64_t P = sizes.projected > 0 ? sizes.projected : sizes.hidden;
  Extras<T> e;
  e.clip = T(options.clip), e.cell_clip = T(options.cell_clip);
  e.peephole = static_cast<const T*>(a.weights.peephole);
  e.candidate_mask = layout.template constant<T>(a.candidate_mask, sizes.hidden, nullptr);
  e.state_mask = layout.template constant<T>(a.state_mask, P, nullptr);
  e.zoneout_h = options.zoneout_h, e.zoneout_c = options.zoneout_c;
  e.zoneout_drawn = options.zoneout_drawn, e.zoneout_key = options.zoneout_key;
  e.order = layout.rows().order;
  e.epsilon = T(options.epsilon);
  e.gain_x = static_cast<const T*>(a.weights.gain_x), e.gain_h = static_cast<const T*>(a.weights.gain_h);
  e.gain_c = static_cast<const T*>(a.weights.gain_c), e.shift_c = static_cast<const T*>(a.weights.shift_c);
  return e;
}

template <class Arrays>
bool is_optioned(const carousel_options& o, const carousel_sizes& sizes, const Arrays& a) {
  return sizes.projected > 0 || o.clip > 0 || o.cell_clip > 0 || o.zoneout_h > 0 || o.zoneout_c > 0 ||
         a.weights.peephole || a.candidate_mask || a.state_mask;
}

template <class Arrays>
Mode mode_of(const carousel_options& options, const carousel_sizes& sizes, const Arrays& a) {
  return options.normalized ? normalized : is_optioned(options, sizes, a) ? optioned : plain;
}

// What a normalised layer leaves behind gates and cells: standardized products, 1 / deviation of each group of them.
template <class T>
void reserve_normalized(const Traits& cell, Layout& layout, Arena& reserve, int64_t H, Sequence<T>& x_hat, Sequence<T>& h_hat,
                        Sequence<T>& inverses) {
  x_hat = layout.template in_order<T>(reserve, cell.gates * H);
  h_hat = layout.template in_order<T>(reserve, cell.gates * H);
  inverses = layout.template in_order<T>(reserve, 2 * cell.groups);
}

inline int64_t chunk_of(int64_t fit, int64_t steps) { return fit < 1 || steps < 1 ? 1 : fit < steps ? fit : steps; }

template <class T>
Forward<T> forward_layout(const Traits& cell, const carousel_options& options, const carousel_sizes& sizes, const carousel_forward_arrays& a,
                          Arena& arena, Arena& reserve, bool pack, bool training, bool ragged, bool project) {
  const int64_t B = sizes.batch, H = sizes.hidden, P = sizes.projected > 0 ? sizes.projected : H;
  const Span steps(options, sizes);
  Forward<T> f{};
  f.cell = cell;
  f.steps = steps.all, f.first = steps.first, f.last = steps.last;
  f.batch = B, f.inputs = sizes.inputs, f.hidden = H, f.state = P;
  f.precision = precision_of(options);
  f.panels = {cell.gates, packed_depth(sizes.inputs, f.precision), packed_depth(P, f.precision), H};
  const T* zeros = arena.take<T>(H > P ? H : P);  // first, where clear_zeros finds it
  f.weights = a.weights;
  f.repack = pack ? arena.take<T>(f.panels.size()) : nullptr;
  f.packed = pack ? f.repack : static_cast<const T*>(a.packed);
  Layout layout(options, sizes, a.lengths, ragged, arena);
  f.ragged = layout.rows();
  f.x = layout.sequence(static_cast<const T*>(a.x), a.x_step, a.x_row);
  f.y = layout.sequence(static_cast<T*>(a.y), a.y_step, a.y_row);
  f.h_0 = layout.template constant<T>(a.h_0, P, zeros);
  f.c_0 = layout.template constant<T>(a.c_0, H, zeros);
  f.h_n = static_cast<T*>(a.h_n);
  f.c_n = cell.has_cells ? static_cast<T*>(a.c_n) : nullptr;
  f.extras = extras_of<T>(options, sizes, a, layout);
  f.mode = mode_of(options, sizes, a);
  const int64_t gates = cell.reserve_blocks * H;
  if (training) {
    if (keeps_gates(cell, options.zoneout_h)) f.gates = layout.template reserved<T>(reserve, gates);
    if (cell.has_cells) f.cells = layout.template reserved<T>(reserve, H);
  } else {
    f.gates = {cell.inference_gates ? arena.take<T>(B * gates) : nullptr, 0, gates};
    f.cells = {cell.has_cells ? arena.take<T>(B * H) : nullptr, 0, H};
  }
  f.training = training;
  f.table = arena.take<Line<T>>(B);
  if (f.mode == normalized) {
    if (training) reserve_normalized<T>(cell, layout, reserve, H, f.x_hat, f.h_hat, f.inverses);
    f.W_columns = arena.take<T>(Strips<T>(cell.gates * H).size(sizes.inputs));
    f.R_columns = arena.take<T>(Strips<T>(cell.gates * H).size(P) + Strips<T>(H).size(P));
    f.sums_h = arena.take<T>(B * cell.gates * H);
    f.fresh = arena.take<T>(2 * B * H);
  }
  if (sizes.projected > 0) {
    f.shown = {arena.take<T>(B * H), 0, H};
    f.projection = arena.take<T>(Strips<T>(P).size(H));
  }
  if (a.state_mask || f.precision != full) {
    const int64_t width = packed_depth(P, f.precision);
    f.operands = {arena.take<T>(2 * B * width), B * width, width};
  }
  project = project || f.mode == normalized;
  if ((project || f.precision != full) && f.last > f.first && B > 0) {
    const int64_t step = B * (project ? f.panels.all_columns() : f.panels.I);
    f.chunk = chunk_of(chunk_bytes / (int64_t(sizeof(T)) * (step > 0 ? step : 1)), f.last - f.first);
    f.projected = project ? arena.take<T>(f.chunk * step + lanes<T>) : nullptr;  // a tile may load a register too far
    f.lowered = f.precision != full ? arena.take<T>(f.chunk * B * f.panels.I) : nullptr;
  }
  return f;
}

template <class T>
Backward<T> backward_layout(const Traits& cell, const carousel_options& options, const carousel_sizes& sizes,
                            const carousel_backward_arrays& a, Arena& arena, Arena& reserve, bool ragged) {
  const int64_t B = sizes.batch, I = sizes.inputs, H = sizes.hidden, P = sizes.projected > 0 ? sizes.projected : H;
  const Span steps(options, sizes);
  Backward<T> f{};
  f.steps = steps.all, f.first = steps.first, f.last = steps.last;
  f.batch = B, f.inputs = I, f.hidden = H, f.state = P;
  f.mode = mode_of(options, sizes, a);
  if (f.mode == plain && (a.dgates || a.dcells)) f.mode = optioned;
  f.cell = cell;
  f.at = places_of(cell, f.mode);
  f.blocks = f.at.blocks;
  if (a.weights.peephole) f.peephole_block = f.blocks, f.blocks += cell.gates - 1;
  if (sizes.projected > 0) f.shown_block = f.blocks++;
  f.weights = a.weights;
  const T* zeros = arena.take<T>(H > P ? H : P);  // first, where clear_zeros finds it
  Layout layout(options, sizes, a.lengths, ragged, arena);
  f.ragged = layout.rows();
  f.x = layout.sequence(static_cast<const T*>(a.x), a.x_step, a.x_row);
  f.y = layout.sequence(static_cast<const T*>(a.y), a.y_step, a.y_row);
  f.h_0 = layout.template constant<T>(a.h_0, P, zeros);
  f.c_0 = layout.template constant<T>(a.c_0, H, zeros);
  const int64_t gates = cell.reserve_blocks * H;
  const auto kept = [](Sequence<T> s) { return Sequence<const T>{s.data, s.step, s.row, s.rows}; };
  if (keeps_gates(cell, options.zoneout_h)) f.gates = kept(layout.template reserved<T>(reserve, gates));
  if (cell.has_cells) f.cells = kept(layout.template reserved<T>(reserve, H));
  f.extras = extras_of<T>(options, sizes, a, layout);
  f.extras.dgates = a.dgates ? layout.strided(static_cast<const T*>(a.dgates), B * gates, gates) : Sequence<const T>{};
  f.extras.dcells = a.dcells ? layout.strided(static_cast<const T*>(a.dcells), B * H, H) : Sequence<const T>{};
  f.dy = a.dy ? layout.sequence(static_cast<const T*>(a.dy), a.dy_step, a.dy_row)
              : layout.template constant<T>(nullptr, P, zeros);
  f.dh_n = static_cast<const T*>(a.dh_n), f.dc_n = static_cast<const T*>(a.dc_n);
  f.dx = layout.sequence(static_cast<T*>(a.dx), a.dx_step, a.dx_row);
  f.dh_0 = static_cast<T*>(a.dh_0);
  f.dc_0 = cell.has_cells ? static_cast<T*>(a.dc_0) : nullptr;
  f.dW = static_cast<T*>(a.dW), f.dR = static_cast<T*>(a.dR);
  f.db_W = static_cast<T*>(a.db_W), f.db_R = static_cast<T*>(a.db_R);
  f.dprojection = static_cast<T*>(a.dprojection), f.dpeephole = static_cast<T*>(a.dpeephole);
  f.dgain_x = static_cast<T*>(a.dgain_x), f.dgain_h = static_cast<T*>(a.dgain_h);
  f.dgain_c = static_cast<T*>(a.dgain_c), f.dshift_c = static_cast<T*>(a.dshift_c);
  if (f.mode == normalized) {
    Sequence<T> x_hat, h_hat, inverses;
    reserve_normalized<T>(cell, layout, reserve, H, x_hat, h_hat, inverses);
    f.x_hat = kept(x_hat), f.h_hat = kept(h_hat), f.inverses = kept(inverses);
    f.row_buffer = arena.take<T>(3 * B * H);
  }

  const int64_t gradients = cell.gates * H * (I + P) * int64_t(sizeof(T));
  f.chunk = chunk_of((gradients > deep_bytes ? deep_chunk : chunk_depth) / (B > 0 ? B : 1), f.last - f.first);
  const int64_t K = f.chunk * B;
  const Strips<T> inputs(I), units(H), states(P);
  f.dh = arena.take<T>(B * P);
  f.dc = arena.take<T>(B * H);
  f.db = arena.take<T>(f.sums() * H);
  f.da = arena.take<T>(K * f.width() + lanes<T>);  // a tile may load a register too far
  if (K * f.width() * int64_t(sizeof(T)) > direct_bytes) f.da_tiles = arena.take<T>(K * (H > P ? H : P));
  f.R_strips = arena.take<T>(states.size(cell.gates * H));
  f.W_strips = arena.take<T>(inputs.size(cell.gates * H));
  f.x_strips = arena.take<T>(inputs.size(K));
  f.h_strips = arena.take<T>(states.size(K));
  if (cell.phases == 2) {
    f.dreset = arena.take<T>(B * H);
    f.rh_strips = arena.take<T>(units.size(K));
  }
  if (f.mode != plain) {
    f.dh_here = arena.take<T>(B * H);
    f.carried = arena.take<T>(B * H);
    f.kept = arena.take<T>(B * P);
    f.back = arena.take<T>(B * P);
  }
  if (sizes.projected > 0) {
    f.projection_strips = arena.take<T>(units.size(P));
    f.shown_strips = arena.take<T>(units.size(K));
  }
  return f;
}

template <class T>
int64_t packed_elements(const Traits& cell, const carousel_options& options, const carousel_sizes& sizes,
                        Panels<T>& panels) {
  const Precision precision = precision_of(options);
  const int64_t P = sizes.projected > 0 ? sizes.projected : sizes.hidden;
  panels = {cell.gates, packed_depth(sizes.inputs, precision), packed_depth(P, precision), sizes.hidden};
  return panels.size();
}

// The largest that any call of these sizes and options needs: rows of any lengths, any of the optional arrays, any
// number of threads. That number says whether W x is computed ahead; where it is not, x alone may be lowered for more
// steps at a time.
template <class T>
void memory_of(const Traits& cell, const carousel_options& options, const carousel_sizes& sizes, carousel_memory& out) {
  static const T something{};
  carousel_forward_arrays a{};
  a.state_mask = &something;
  carousel_backward_arrays d{};
  d.weights.peephole = d.state_mask = d.dgates = d.dcells = &something;
  Panels<T> panels;
  out.packed = packed_elements(cell, options, sizes, panels) * int64_t(sizeof(T));
  const bool any_ahead = ahead(sizes, out.packed, 1);  // with a row for each thread
  out.forward_scratch = 0;
  for (int way = 0; way < 4; ++way) {
    const bool training = way & 1, project = way & 2 && any_ahead;
    Arena scratch(nullptr), reserve(nullptr);
    forward_layout<T>(cell, options, sizes, a, scratch, reserve, true, training, true, project);
    if (scratch.used() > out.forward_scratch) out.forward_scratch = scratch.used();
    if (training) out.reserve = reserve.used();
  }
  Arena backward(nullptr), reserve(nullptr);
  backward_layout<T>(cell, options, sizes, d, backward, reserve, true);
  out.backward_scratch = backward.used();
}

template <class T>
void clear_zeros(const carousel_sizes& sizes, void* scratch) {
  const int64_t width = sizes.hidden > sizes.projected ? sizes.hidden : sizes.projected;
  for (int64_t j = 0; j < width; ++j) static_cast<T*>(scratch)[j] = T(0);
}

template <class T>
void run_forward(const Traits& cell, Steps<T> (*steps)(Mode), const carousel_options& options,
                 const carousel_sizes& sizes, const carousel_forward_arrays& a, int threads) {
  Arena arena(a.scratch), reserve(a.reserve);
  const bool pack = !a.packed && !options.normalized;
  const bool units = by_units(sizes, threads);
  Panels<T> panels;
  const int64_t weight_bytes = packed_elements(cell, options, sizes, panels) * int64_t(sizeof(T));
  const bool project = units ? ahead(sizes, weight_bytes / threads, sizes.batch)
                             : ahead(sizes, weight_bytes, ceil_div(sizes.batch, threads));
  Forward<T> f = forward_layout<T>(cell, options, sizes, a, arena, reserve, pack, a.reserve != nullptr, a.lengths, project);
  f.steps_of_cell = steps(f.mode);
  f.by_units = units && f.mode != normalized;
  clear_zeros<T>(sizes, a.scratch);
  carousel_team_run(threads, [](const Team* team, void* call) { forward(*static_cast<const Forward<T>*>(call), *team); },
                    &f);
}

template <class T>
void run_backward(const Traits& cell, decltype(Backward<T>::step) (*step)(Mode), const carousel_options& options,
                  const carousel_sizes& sizes, const carousel_backward_arrays& a, int threads) {
  Arena arena(a.scratch), reserve(const_cast<void*>(a.reserve));
  Backward<T> f = backward_layout<T>(cell, options, sizes, a, arena, reserve, a.lengths);
  f.step = step(f.mode);
  f.by_units = by_units(sizes, threads) && f.mode != normalized;
  clear_zeros<T>(sizes, a.scratch);
  carousel_team_run(threads, [](const Team* team, void* call) { backward(*static_cast<const Backward<T>*>(call), *team); },
                    &f);
}

template <class T, class Cell>
struct Layer {
  static void memory(const carousel_options& options, const carousel_sizes& sizes, carousel_memory& out) {
    memory_of<T>(Cell::traits, options, sizes, out);
  }
  static void pack(const carousel_options& options, const carousel_sizes& sizes, const carousel_weights& weights,
                   void* packed) {
    Panels<T> panels;
    packed_elements(Cell::traits, options, sizes, panels);
    const int64_t P = sizes.projected > 0 ? sizes.projected : sizes.hidden;
    for (int64_t p = 0; p < panels.count(); ++p)
      pack_panel(panels, weights, sizes.inputs, P, precision_of(options), Cell::traits, p,
                 static_cast<T*>(packed));
  }
  static void forward(const carousel_options& options, const carousel_sizes& sizes, const carousel_forward_arrays& a,
                      int threads) {
    run_forward<T>(Cell::traits, forward_steps<T, Cell>, options, sizes, a, threads);
  }
  static void backward(const carousel_options& options, const carousel_sizes& sizes, const carousel_backward_arrays& a,
                       int threads) {
    run_backward<T>(Cell::traits, backward_step<T, Cell>, options, sizes, a, threads);
  }
  static constexpr LayerTable table{Cell::gates, memory, pack, forward, backward};
};

template <class T>
Vec<T> value(int function, Vec<T> x) {
  switch (function) {
    case CAROUSEL_EXP: return exp<T>(x);
    case CAROUSEL_SIGMOID: return sigmoid<T>(x);
    case CAROUSEL_TANH: return tanh<T>(x);
    case CAROUSEL_SCALED_SIGMOID: return scaled_sigmoid<T>(x);
    default: return scaled_tanh<T>(x);
  }
}

template <class T>
void apply(int function, int64_t count, const T* x, T* y) {
  for (int64_t k = 0; k < count; k += lanes<T>) store(y + k, value<T>(function, load(x + k, count - k)), count - k);
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
        {&Layer<float, LstmCoupled>::table, &Layer<double, LstmCoupled>::table},
    },
    apply_function,
};
#endif
