// One layer call as a value: its sizes and options, its data, and its results, each array in an allocation of exactly
// its size, so that AddressSanitizer sees what is touched beyond.
//
// Memory says where it must not be read and whether it was written: x, dy and the gates' gradients are NaN where a row
// has no step and between strided rows, outputs are NaN before the call, scratch memory is filled with what the caller
// names.
#ifndef CAROUSEL_TESTS_KERNEL_CASE_H
#define CAROUSEL_TESTS_KERNEL_CASE_H

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "carousel.h"

enum class Memory { time_major, batch_major, gaps };  // how a sequence lies; gaps: elements between the rows

struct Case {
  int cell = CAROUSEL_LSTM;
  int64_t steps = 5, batch = 3, inputs = 4, hidden = 8, projected = 0;
  bool reverse = false, biases = true, states = true, peephole = false, candidate_mask = false, state_mask = false;
  bool ragged = false, packed = false, gate_gradients = false, drawn = false, normalized = false;
  double clip = 0, cell_clip = 0, zoneout = 0;
  Memory memory = Memory::time_major;
  unsigned seed = 1;

  bool lstm() const { return cell == CAROUSEL_LSTM || cell == CAROUSEL_LSTM_COUPLED; }
  bool rnn() const { return cell == CAROUSEL_RNN_TANH || cell == CAROUSEL_RNN_RELU; }
  int64_t gates() const { return cell == CAROUSEL_LSTM ? 4 : rnn() ? 1 : 3; }
  int64_t kept_gates() const { return lstm() ? gates() : rnn() ? zoneout > 0 : 4; }  // blocks of H that reserve holds
  int64_t width() const { return projected > 0 ? projected : hidden; }

  std::string name() const {
    static const char* const cells[] = {"lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu", "lstm_coupled"};
    std::string text = cells[cell];
    const auto number = [&text](const char* word, double value) {
      char written[40];
      std::snprintf(written, sizeof written, " %s%g", word, value);
      text += written;
    };
    const auto flag = [&text](const char* word, bool said) { text += said ? std::string(" ") + word : ""; };
    number("T", double(steps)), number("B", double(batch)), number("I", double(inputs)), number("H", double(hidden));
    if (projected > 0) number("P", double(projected));
    if (clip > 0) number("clip", clip);
    if (cell_clip > 0) number("cell_clip", cell_clip);
    if (zoneout > 0) number(drawn ? "drawn zoneout" : "zoneout", zoneout);
    flag("reverse", reverse), flag("no biases", !biases), flag("no states", !states), flag("peephole", peephole);
    flag("candidate_mask", candidate_mask), flag("state_mask", state_mask), flag("ragged", ragged);
    flag("packed", packed), flag("gate_gradients", gate_gradients), flag("normalized", normalized);
    flag("batch_major", memory == Memory::batch_major), flag("gaps", memory == Memory::gaps);
    number("seed", seed);
    return text;
  }
};

[[noreturn]] inline void fail(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

inline void require(carousel_status status, const Case& c, const char* call) {
  if (status != CAROUSEL_OK) fail(c.name() + ": " + call + ": " + carousel_status_text(status));
}

// Memory that the kernels only pass through, of exactly so many bytes.
class Block {
 public:
  Block(int64_t bytes, unsigned char fill) : data_(new unsigned char[size_t(bytes)]), bytes_(size_t(bytes)) {
    std::memset(data_.get(), fill, bytes_);
  }
  Block(const Block& other) : Block(int64_t(other.bytes_), 0) {
    if (bytes_ > 0) std::memcpy(data(), other.data(), bytes_);
  }
  void* data() const { return data_.get(); }
  bool operator==(const Block& other) const {
    return bytes_ == other.bytes_ && std::memcmp(data(), other.data(), bytes_) == 0;
  }

 private:
  std::unique_ptr<unsigned char[]> data_;
  size_t bytes_;
};

template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

template <class T>
T* or_null(std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}
template <class T>
const T* or_null(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

// Numbers of a case; sequences are (T, B, ·) without gaps here.
template <class T>
struct Data {
  Case c;
  std::vector<int64_t> lengths;  // of all rows, also where none are handed over
  std::vector<T> x, h_0, c_0, W, R, b_W, b_R, projection, peephole, candidate_mask, state_mask, dy, dh_n, dc_n;
  std::vector<T> dgates, dcells, gain_x, gain_h, gain_c, shift_c;

  explicit Data(const Case& problem) : c(problem) {
    const int64_t B = c.batch, H = c.hidden, P = c.width(), G = c.gates() * H, rows = c.steps * B;
    std::mt19937 bits(c.seed);
    const auto normal = [&bits](bool there, int64_t count, double scale = 1) {
      std::normal_distribution<double> draw(0, scale);
      std::vector<T> values(there ? size_t(count) : 0);
      for (T& value : values) value = T(draw(bits));
      return values;
    };
    const auto mask = [&bits](bool there, int64_t count) {
      std::vector<T> values(there ? size_t(count) : 0);
      for (T& value : values) value = bits() % 4 ? T(4.0 / 3) : T(0);
      return values;
    };
    const auto root = [](int64_t n) { return 1 / std::sqrt(double(n > 0 ? n : 1)); };
    for (int64_t b = 0; b < B; ++b) lengths.push_back(c.ragged ? int64_t(bits() % unsigned(c.steps + 1)) : c.steps);
    if (c.ragged && B > 2) lengths[size_t(B / 2)] = 0;
    if (c.packed && B > 0) {
      lengths[0] = c.steps;
      std::sort(lengths.rbegin(), lengths.rend());
    }
    x = normal(true, rows * c.inputs), dy = normal(true, rows * P);
    h_0 = normal(c.states, B * P), c_0 = normal(c.states && c.lstm(), B * H);
    dh_n = normal(c.states, B * P), dc_n = normal(c.states && c.lstm(), B * H);
    W = normal(true, G * c.inputs, root(c.inputs)), R = normal(true, G * P, 0.5 * root(P));
    b_W = normal(c.biases, G), b_R = normal(c.biases, G);
    projection = normal(c.projected > 0, P * H, root(H)), peephole = normal(c.peephole, (c.gates() - 1) * H, 0.5);
    candidate_mask = mask(c.candidate_mask, B * H), state_mask = mask(c.state_mask, B * P);
    dgates = normal(c.gate_gradients, rows * c.kept_gates() * H);
    dcells = normal(c.gate_gradients && c.lstm(), rows * H);
    gain_x = normal(c.normalized, G), gain_h = normal(c.normalized, G);
    gain_c = normal(c.normalized && c.lstm(), H), shift_c = normal(c.normalized && c.lstm(), H);
  }

  // Row b by itself, as if there had never been others.
  Data row(int64_t b) const {
    Data one = *this;
    const int64_t B = c.batch;
    const int64_t length = one.c.steps = lengths[size_t(b)];
    one.c.batch = 1, one.c.ragged = one.c.packed = false, one.lengths = {length};
    for (auto* sequence : {&one.x, &one.dy, &one.dgates, &one.dcells}) {
      const int64_t features = c.steps > 0 ? int64_t(sequence->size()) / (c.steps * B) : 0;
      for (int64_t t = 0; t < length; ++t)
        std::copy_n(sequence->begin() + (t * B + b) * features, features, sequence->begin() + t * features);
      sequence->resize(size_t(length * features));
    }
    for (auto* state : {&one.h_0, &one.c_0, &one.dh_n, &one.dc_n, &one.candidate_mask, &one.state_mask}) {
      const int64_t features = int64_t(state->size()) / B;
      *state = std::vector<T>(state->begin() + b * features, state->begin() + (b + 1) * features);
    }
    return one;
  }
};

// Where the rows of a sequence lie: batch_major, with gaps, or packed, and how many elements that takes.
struct Place {
  int64_t step, row, size = 0;
  std::vector<int64_t> before;  // packed: rows in all steps before t

  template <class T>
  Place(const Data<T>& data, int64_t features) {
    const Case& c = data.c;
    row = features + (c.memory == Memory::gaps ? 3 : 0);
    step = c.batch * row;
    int64_t rows = 0;
    if (c.packed) {
      for (int64_t t = 0; t < c.steps; ++t) {
        before.push_back(rows);
        for (const int64_t length : data.lengths) rows += length > t;
      }
      step = 0;
    } else if (c.memory == Memory::batch_major) {
      step = features, row = c.steps * features;
    }
    for (int64_t t = 0; t < c.steps; ++t)
      for (int64_t b = 0; b < c.batch; ++b)
        if (!c.packed || data.lengths[size_t(b)] > t) size = std::max(size, at(t, b) + features);
    if (features == 0) size = 0;
  }
  int64_t at(int64_t t, int64_t b) const { return (before.empty() ? t * step : before[size_t(t)] * row) + b * row; }
};

// A sequence in its place: NaN between rows and, but for outputs, where a row has no step.
template <class T>
class Placed {
 public:
  Placed(const Data<T>& data, int64_t features)
      : c_(data.c), lengths_(data.lengths), features_(features), place_(data, features),
        memory_(size_t(place_.size), nan_of<T>) {}

  Placed(const Data<T>& data, int64_t features, const std::vector<T>& values) : Placed(data, features) {
    each_row([&](int64_t t, int64_t b, T* to) {
      if (lengths_[size_t(b)] > t) std::copy_n(values.begin() + (t * c_.batch + b) * features_, features_, to);
    });
  }

  T* data() { return or_null(memory_); }
  const std::vector<T>& memory() const { return memory_; }
  int64_t step() const { return place_.step; }
  int64_t row() const { return place_.row; }

  // (T, B, features) without gaps, 0 for the rows that a packed sequence lacks. Nothing may be left unwritten, and
  // nothing between the rows written.
  std::vector<T> written(const char* what) {
    std::vector<T> values(size_t(c_.steps * c_.batch * features_), T(0));
    each_row([&](int64_t t, int64_t b, T* from) {
      std::copy_n(from, features_, values.begin() + (t * c_.batch + b) * features_);
      std::fill_n(from, features_, nan_of<T>);
    });
    for (const T& value : memory_)
      if (!std::isnan(value)) fail(c_.name() + ": " + what + " was written between its rows");
    return values;
  }

 private:
  template <class Body>
  void each_row(Body&& body) {
    for (int64_t t = 0; t < c_.steps; ++t)
      for (int64_t b = 0; b < c_.batch; ++b)
        if (features_ > 0 && (!c_.packed || lengths_[size_t(b)] > t)) body(t, b, memory_.data() + place_.at(t, b));
  }

  const Case& c_;
  const std::vector<int64_t>& lengths_;
  const int64_t features_;
  Place place_;
  std::vector<T> memory_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
struct Results {
  std::vector<T> y, h_n, c_n, dx, dh_0, dc_0, dW, dR, db_W, db_R, dprojection, dpeephole;
  std::vector<T> dgain_x, dgain_h, dgain_c, dshift_c;
};

template <class T>
struct Result {
  const char* name;
  std::vector<T> Results<T>::*of;
};

// Of every row by itself, and sums over all rows.
template <class T>
constexpr Result<T> of_rows[] = {{"y", &Results<T>::y},   {"h_n", &Results<T>::h_n},   {"c_n", &Results<T>::c_n},
                                 {"dx", &Results<T>::dx}, {"dh_0", &Results<T>::dh_0}, {"dc_0", &Results<T>::dc_0}};
template <class T>
constexpr Result<T> of_weights[] = {{"dW", &Results<T>::dW},
                                    {"dR", &Results<T>::dR},
                                    {"db_W", &Results<T>::db_W},
                                    {"db_R", &Results<T>::db_R},
                                    {"dprojection", &Results<T>::dprojection},
                                    {"dpeephole", &Results<T>::dpeephole},
                                    {"dgain_x", &Results<T>::dgain_x},
                                    {"dgain_h", &Results<T>::dgain_h},
                                    {"dgain_c", &Results<T>::dgain_c},
                                    {"dshift_c", &Results<T>::dshift_c}};

struct How {
  int threads = 1;
  unsigned char fill = 0xff;  // of scratch memory: NaN, or 0x3f, numbers near 1
  int64_t piece = 0;          // steps of a call; 0: all
};

// A forward and a backward pass. On the way: inference and training, packed weights and plain ones give the same bits,
// states may be updated in place, and a second backward pass that wants less finds everything as it was.
template <class T>
class Run {
 public:
  Run(const Data<T>& data, const How& how)
      : d_(data), c_(data.c), how_(how), x_(data, c_.inputs, data.x), y_(data, c_.width()),
        dy_(data, c_.width(), data.dy), dx_(data, c_.inputs) {
    options_.version = CAROUSEL_ABI, options_.cell = c_.cell, options_.threads = how.threads;
    options_.dtype = sizeof(T) == 8 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32;
    options_.reverse = c_.reverse, options_.packed_sequence = c_.packed;
    options_.clip = c_.clip, options_.cell_clip = c_.cell_clip;
    options_.zoneout_h = c_.zoneout, options_.zoneout_c = c_.lstm() ? c_.zoneout : 0;
    options_.zoneout_drawn = c_.drawn, options_.zoneout_key = c_.seed;
    options_.normalized = c_.normalized, options_.epsilon = 1e-5;
    sizes_ = {c_.steps, c_.batch, c_.inputs, c_.hidden, c_.projected};
    weights_.W = or_null(d_.W), weights_.R = or_null(d_.R), weights_.b_W = or_null(d_.b_W);
    weights_.b_R = or_null(d_.b_R);
    static const T empty{};  // a projection of no units is there nevertheless
    weights_.projection = d_.projection.empty() && c_.projected > 0 ? &empty : or_null(d_.projection);
    weights_.peephole = or_null(d_.peephole), weights_.gain_x = or_null(d_.gain_x), weights_.gain_h = or_null(d_.gain_h);
    weights_.gain_c = or_null(d_.gain_c), weights_.shift_c = or_null(d_.shift_c);
  }

  Results<T> results() {
    const int64_t piece = how_.piece > 0 ? how_.piece : std::max<int64_t>(c_.steps, 1);
    std::vector<std::vector<T>> cells{d_.c_0};  // before every piece, and at the end
    for (int64_t first = 0; first == 0 || first < c_.steps; first += piece)
      cells.push_back(forward(first, piece, cells.back()));
    Results<T> found;
    found.h_n = h_n_, found.c_n = cells.back(), found.dh_0 = d_.dh_n, found.dc_0 = d_.dc_n;
    for (size_t k = cells.size() - 1; k-- > 0;) backward(int64_t(k) * piece, piece, cells[k], found);
    found.y = y_.written("y"), found.dx = dx_.written("dx");
    for (const Result<T>& result : of_rows<T>) require_finite(found, result);
    for (const Result<T>& result : of_weights<T>) require_finite(found, result);
    return found;
  }

  // y of an inference pass with bfloat16 products, of packed weights and of plain ones.
  std::vector<T> low_precision() {
    options_.products = CAROUSEL_PRODUCTS_BFLOAT16;
    forward(0, c_.steps, d_.c_0);
    const std::vector<T> packed = y_.written("y");
    forward(0, c_.steps, d_.c_0, false);
    if (!same_bits(packed, y_.written("y"))) fail(c_.name() + ": bfloat16 differs without packed weights");
    return packed;
  }

 private:
  void require_finite(const Results<T>& found, const Result<T>& result) const {
    for (const T value : found.*result.of)
      if (!std::isfinite(value)) fail(c_.name() + ": " + result.name + " is not finite, or was not written");
  }

  carousel_memory choose_steps(int64_t first, int64_t piece) {
    if (how_.piece > 0 && c_.steps > 0) options_.first = first, options_.last = std::min(first + piece, c_.steps);
    carousel_memory memory;
    require(carousel_memory_sizes(&options_, &sizes_, &memory), c_, "carousel_memory_sizes");
    return memory;
  }

  carousel_forward_arrays arrays(const std::vector<T>& cells, const Block& scratch) {
    carousel_forward_arrays a{};
    a.x = x_.data(), a.x_step = x_.step(), a.x_row = x_.row(), a.h_0 = or_null(d_.h_0), a.c_0 = or_null(cells);
    a.lengths = c_.ragged ? d_.lengths.data() : nullptr;
    a.candidate_mask = or_null(d_.candidate_mask), a.state_mask = or_null(d_.state_mask), a.weights = weights_;
    a.y = y_.data(), a.y_step = y_.step(), a.y_row = y_.row(), a.scratch = scratch.data();
    return a;
  }

  // Inference, with packed weights or plain ones, the states in place; returns the cells behind the piece.
  std::vector<T> forward(int64_t first, int64_t piece, const std::vector<T>& cells, bool pack = true) {
    const carousel_memory memory = choose_steps(first, piece);
    const Block packed(memory.packed, how_.fill), scratch(memory.forward_scratch, how_.fill);
    require(carousel_pack(&options_, &sizes_, &weights_, packed.data()), c_, "carousel_pack");
    carousel_forward_arrays a = arrays(cells, scratch);
    std::vector<T> c_n = cells;
    h_n_ = d_.h_0;
    c_n.resize(size_t(c_.lstm() ? c_.batch * c_.hidden : 0), nan_of<T>);
    h_n_.resize(size_t(c_.batch * c_.width()), nan_of<T>);
    if (a.c_0) a.c_0 = c_n.data();
    if (a.h_0) a.h_0 = h_n_.data();
    a.packed = pack ? packed.data() : nullptr, a.h_n = or_null(h_n_), a.c_n = or_null(c_n);
    require(carousel_forward(&options_, &sizes_, &a), c_, "carousel_forward, inference");
    return c_n;
  }

  // Training over one piece: found.dh_0 and dc_0 are the gradients of the states behind it, then of those before it.
  void backward(int64_t first, int64_t piece, const std::vector<T>& cells, Results<T>& found) {
    const carousel_memory memory = choose_steps(first, piece);
    const Block reserve(memory.reserve, how_.fill), scratch(memory.forward_scratch, how_.fill);
    carousel_forward_arrays f = arrays(cells, scratch);
    f.reserve = reserve.data();
    const std::vector<T> inference = y_.memory();
    require(carousel_forward(&options_, &sizes_, &f), c_, "carousel_forward, training");
    if (!same_bits(y_.memory(), inference)) fail(c_.name() + ": inference and training differ");

    const Block left(reserve), back(memory.backward_scratch, how_.fill), dreserve = reserve_gradient(memory.reserve);
    carousel_backward_arrays a{};
    a.x = f.x, a.x_step = f.x_step, a.x_row = f.x_row, a.h_0 = f.h_0, a.c_0 = f.c_0, a.lengths = f.lengths;
    a.candidate_mask = f.candidate_mask, a.state_mask = f.state_mask, a.weights = weights_;
    a.y = f.y, a.y_step = f.y_step, a.y_row = f.y_row, a.reserve = reserve.data(), a.scratch = back.data();
    a.dy = dy_.data(), a.dy_step = dy_.step(), a.dy_row = dy_.row();
    a.dh_n = or_null(found.dh_0), a.dc_n = or_null(found.dc_0);
    if (c_.gate_gradients) {
      a.dgates = c_.kept_gates() > 0 ? dreserve.data() : nullptr;
      a.dcells = c_.lstm() ? static_cast<char*>(dreserve.data()) + cells_at() : nullptr;
    }
    Results<T> here;
    const auto wanted = [](std::vector<T>& gradient, int64_t count) {
      gradient.assign(size_t(count), nan_of<T>);
      return or_null(gradient);
    };
    const int64_t H = c_.hidden, P = c_.width(), G = c_.gates() * H;
    a.dx = dx_.data(), a.dx_step = dx_.step(), a.dx_row = dx_.row();
    a.dh_0 = wanted(here.dh_0, c_.batch * P), a.dc_0 = wanted(here.dc_0, c_.lstm() ? c_.batch * H : 0);
    a.dW = wanted(here.dW, G * c_.inputs), a.dR = wanted(here.dR, G * P);
    a.db_W = wanted(here.db_W, G), a.db_R = wanted(here.db_R, G);
    a.dprojection = wanted(here.dprojection, c_.projected * H);
    a.dpeephole = wanted(here.dpeephole, int64_t(d_.peephole.size()));
    a.dgain_x = wanted(here.dgain_x, int64_t(d_.gain_x.size())), a.dgain_h = wanted(here.dgain_h, int64_t(d_.gain_h.size()));
    a.dgain_c = wanted(here.dgain_c, int64_t(d_.gain_c.size()));
    a.dshift_c = wanted(here.dshift_c, int64_t(d_.shift_c.size()));
    require(carousel_backward(&options_, &sizes_, &a), c_, "carousel_backward");
    if (!(left == reserve)) fail(c_.name() + ": the backward pass wrote to reserve");

    const std::vector<T> dR = here.dR, dh = here.dh_0;
    a.dx = a.dW = a.db_R = nullptr;
    require(carousel_backward(&options_, &sizes_, &a), c_, "carousel_backward, less wanted");
    if (!same_bits(dR, here.dR) || !same_bits(dh, here.dh_0)) fail(c_.name() + ": a second backward pass differs");

    found.dh_0 = here.dh_0, found.dc_0 = here.dc_0;
    for (const Result<T>& result : of_weights<T>) {
      std::vector<T>& sum = found.*result.of;
      if (sum.empty()) sum.assign((here.*result.of).size(), T(0));
      for (size_t k = 0; k < sum.size(); ++k) sum[k] += (here.*result.of)[k];
    }
  }

  int64_t cells_at() const {  // bytes from the beginning of what a forward pass leaves
    const int64_t gates = c_.steps * c_.batch * c_.kept_gates() * c_.hidden * int64_t(sizeof(T));
    return (gates + 63) / 64 * 64;
  }

  // dgates and dcells as they lie in reserve; NaN where a row has no step.
  Block reserve_gradient(int64_t bytes) const {
    const Block block(c_.gate_gradients ? bytes : 0, 0xff);
    const auto place = [&](const std::vector<T>& values, int64_t features, int64_t offset) {
      T* to = reinterpret_cast<T*>(static_cast<char*>(block.data()) + offset);
      for (int64_t k = 0; k < (values.empty() ? 0 : c_.steps * c_.batch); ++k)
        if (d_.lengths[size_t(k % c_.batch)] > k / c_.batch)
          std::copy_n(values.begin() + k * features, features, to + k * features);
    };
    place(d_.dgates, c_.kept_gates() * c_.hidden, 0);
    place(d_.dcells, c_.hidden, cells_at());
    return block;
  }

  const Data<T>& d_;
  const Case& c_;
  const How how_;
  Placed<T> x_, y_, dy_, dx_;
  std::vector<T> h_n_;
  carousel_options options_{};
  carousel_sizes sizes_;
  carousel_weights weights_{};
};

#endif
