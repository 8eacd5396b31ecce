// The kernels from plain C++, for the sanitizers: every cell and dtype over odd sizes, each array in an allocation of
// exactly its size, one thread against many. Exits 1 at the first difference.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "carousel.h"

namespace {

std::mt19937 random_bits(20260101);

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Exactly `count` elements of random values: a read or write beyond them is an error that AddressSanitizer sees.
template <class T>
struct Array {
  T* data;
  int64_t count;
  explicit Array(int64_t n, double scale = 1) : data(static_cast<T*>(std::malloc(size_t(n) * sizeof(T)))), count(n) {
    std::normal_distribution<double> normal(0, scale);
    for (int64_t k = 0; k < n; ++k) data[k] = T(normal(random_bits));
  }
  Array(const Array& other) : Array(other.count) { std::memcpy(data, other.data, size_t(count) * sizeof(T)); }
  Array& operator=(const Array&) = delete;
  ~Array() { std::free(data); }
};

// Not one byte more than was asked for.
void* scratch(int64_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, 64, size_t(bytes > 0 ? bytes : 1)) != 0) std::abort();
  return block;
}

void require(carousel_status status, const char* what) {
  if (status == CAROUSEL_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, carousel_status_text(status));
  std::exit(1);
}

template <class T>
struct Case {
  int cell;
  bool reverse;
  int64_t steps, batch, inputs, hidden;

  int64_t gates() const { return cell == CAROUSEL_LSTM ? 4 : cell <= CAROUSEL_GRU_RESET_BEFORE ? 3 : 1; }
  std::string name() const {
    return "cell " + std::to_string(cell) + (sizeof(T) == 8 ? " f64" : " f32") + (reverse ? " reverse" : "") + " T" +
           std::to_string(steps) + " B" + std::to_string(batch) + " I" + std::to_string(inputs) + " H" +
           std::to_string(hidden);
  }

  // y, h_n, dx and dW after a forward and a backward pass with so many threads, one after the other.
  std::vector<T> run(int threads, unsigned seed) const {
    random_bits.seed(seed);
    const int64_t T_ = steps, B = batch, I = inputs, H = hidden, G = gates();
    const Array<T> x(T_ * B * I), h_0(B * H), c_0(B * H), W(G * H * I, 0.3), R(G * H * H, 0.3), b_W(G * H), b_R(G * H);
    const Array<T> dy(T_ * B * H), dh_n(B * H), dc_n(B * H);
    Array<T> y(T_ * B * H), h_n(B * H), c_n(B * H), dx(T_ * B * I), dh_0(B * H), dc_0(B * H);
    Array<T> dW(G * H * I), dR(G * H * H), db_W(G * H), db_R(G * H);
    carousel_options options{};
    options.version = CAROUSEL_ABI, options.cell = cell, options.reverse = reverse, options.threads = threads;
    options.dtype = sizeof(T) == 8 ? CAROUSEL_FLOAT64 : CAROUSEL_FLOAT32;
    const carousel_sizes sizes{T_, B, I, H};
    carousel_memory memory;
    require(carousel_memory_sizes(&options, &sizes, &memory), "sizes");
    void *reserve = scratch(memory.reserve), *forward = scratch(memory.forward_scratch);
    void *backward = scratch(memory.backward_scratch), *packed = scratch(memory.packed);
    const carousel_weights weights{W.data, R.data, b_W.data, b_R.data};
    require(carousel_pack(&options, &sizes, &weights, packed), "pack");

    carousel_forward_arrays f{};
    f.x = x.data, f.x_step = B * I, f.x_row = I, f.h_0 = h_0.data, f.c_0 = c_0.data, f.weights = weights;
    f.y = y.data, f.y_step = B * H, f.y_row = H, f.h_n = h_n.data, f.c_n = c_n.data, f.scratch = forward;
    f.packed = packed;
    require(carousel_forward(&options, &sizes, &f), "forward, inference");
    const Array<T> inference(y);
    f.packed = nullptr, f.reserve = reserve;
    require(carousel_forward(&options, &sizes, &f), "forward, training");
    if (std::memcmp(inference.data, y.data, size_t(y.count) * sizeof(T)) != 0) {
      std::fprintf(stderr, "%s: inference and training differ\n", name().c_str());
      std::exit(1);
    }

    carousel_backward_arrays b{};
    b.x = x.data, b.x_step = B * I, b.x_row = I, b.h_0 = h_0.data, b.c_0 = c_0.data, b.weights = weights;
    b.y = y.data, b.y_step = B * H, b.y_row = H, b.reserve = reserve;
    b.dy = dy.data, b.dy_step = B * H, b.dy_row = H, b.dh_n = dh_n.data, b.dc_n = dc_n.data;
    b.dx = dx.data, b.dx_step = B * I, b.dx_row = I, b.dh_0 = dh_0.data, b.dc_0 = dc_0.data;
    b.dW = dW.data, b.dR = dR.data, b.db_W = db_W.data, b.db_R = db_R.data, b.scratch = backward;
    require(carousel_backward(&options, &sizes, &b), "backward");

    std::vector<T> all;
    for (const Array<T>* array : {&y, &h_n, &dx, &dh_0, &dW, &dR, &db_W, &db_R})
      all.insert(all.end(), array->data, array->data + array->count);
    for (void* block : {reserve, forward, backward, packed}) std::free(block);
    return all;
  }

  void compare() const {
    const std::vector<T> one = run(1, 7), many = run(3, 7);
    for (size_t k = 0; k < one.size(); ++k)
      if (!(one[k] == many[k])) {  // NaN fails, too
        std::fprintf(stderr, "%s: element %zu is %g with one thread, %g with three\n", name().c_str(), k,
                     double(one[k]), double(many[k]));
        std::exit(1);
      }
  }
};

template <class T>
int compare_all() {
  int cases = 0;
  for (int cell = CAROUSEL_LSTM; cell <= CAROUSEL_RNN_RELU; ++cell) {
    for (const int64_t steps : {0, 1, 5})
      for (const int64_t batch : {0, 1, 7})
        for (const int64_t inputs : {0, 1, 33})
          for (const int64_t hidden : {0, 1, 17}) {
            Case<T>{cell, (steps + batch) % 2 == 0, steps, batch, inputs, hidden}.compare();
            ++cases;
          }
    // Large enough for threads: the batch is shared, then the hidden units.
    Case<T>{cell, false, 6, 24, 40, 150}.compare();
    Case<T>{cell, true, 3, 4, 5, 400}.compare();
    cases += 2;
  }
  return cases;
}

}  // namespace

int main() {
  if (!carousel_isa()) {
    std::fprintf(stderr, "CAROUSEL_ISA names an instruction set that is not available\n");
    return 1;
  }
  const int cases = compare_all<float>() + compare_all<double>();
  std::printf("%s: %d cases passed\n", carousel_isa(), cases);
  return 0;
}
