// The kernels from plain C++, for the sanitizers: every cell, dtype and option over odd sizes, then over sizes that
// several threads share. Exits 1 at the first difference.
//
//     kernel_driver [COUNT [SEED]]    COUNT small cases of each dtype, drawn at random; then large ones
//
// Nothing here knows the equations, tests/kernels.py does. What must have the same bits is compared: any number of
// threads, steps in pieces, a row alone, packed and strided sequences, scratch memory of any contents. The barrier is
// tried besides: a member left asleep shows as a driver that never ends.
#include <thread>

#include "barrier.h"
#include "kernel_case.h"

namespace {

template <class T>
void same(const Case& c, const Results<T>& a, const Results<T>& b, const Result<T>& result, const std::string& what) {
  if (!same_bits(a.*result.of, b.*result.of)) fail(c.name() + ": another " + result.name + ' ' + what);
}

template <class T>
void same(const Case& c, const Results<T>& a, const Results<T>& b, const std::string& what) {
  for (const Result<T>& result : of_rows<T>) same(c, a, b, result, what);
  for (const Result<T>& result : of_weights<T>) same(c, a, b, result, what);
}

// Sums of another order: as far apart as a few hundred roundings.
template <class T>
void near(const Case& c, const std::vector<T>& a, const std::vector<T>& b, double allowed, const std::string& what) {
  double largest = 1;
  for (const T value : a) largest = std::max(largest, std::abs(double(value)));
  for (size_t k = 0; k < a.size(); ++k)
    if (!(std::abs(double(a[k]) - double(b[k])) <= allowed * largest))
      fail(c.name() + ": " + what + ": element " + std::to_string(k) + " is " + std::to_string(b[k]) + ", not " +
           std::to_string(a[k]));
}

// Steps [0, piece), [piece, 2 piece), … one call each.
template <class T>
void check_pieces(const Data<T>& data, const Results<T>& right, int64_t piece, int threads) {
  const Results<T> found = Run<T>(data, {threads, 0x3f, piece}).results();
  const std::string what = "in pieces of " + std::to_string(piece);
  for (const Result<T>& result : of_rows<T>) same(data.c, right, found, result, what);
  for (const Result<T>& result : of_weights<T>)
    near(data.c, right.*result.of, found.*result.of, 256 * double(std::numeric_limits<T>::epsilon()),
         result.name + (' ' + what));
}

// The row at b of a (B, ·) array, or of a (T, B, ·) array its first `steps` steps.
template <class T>
std::vector<T> row_of(const std::vector<T>& values, int64_t all_steps, int64_t steps, int64_t B, int64_t b) {
  std::vector<T> row;
  const int64_t features = all_steps > 0 ? int64_t(values.size()) / (all_steps * B) : 0;
  for (int64_t t = 0; t < steps; ++t)
    row.insert(row.end(), values.begin() + (t * B + b) * features, values.begin() + (t * B + b + 1) * features);
  return row;
}

template <class T>
void check_row(const Data<T>& data, const Results<T>& right, int64_t b) {
  const Case& c = data.c;
  const Data<T> alone = data.row(b);
  const Results<T> found = Run<T>(alone, {}).results();
  for (const Result<T>& result : of_rows<T>) {
    const bool sequence = result.of == &Results<T>::y || result.of == &Results<T>::dx;
    const int64_t all = sequence ? c.steps : 1, steps = sequence ? alone.c.steps : 1;
    if (!same_bits(row_of(right.*result.of, all, steps, c.batch, b), found.*result.of))
      fail(c.name() + ": another " + result.name + " of row " + std::to_string(b) + " alone");
    for (int64_t t = steps; t < all; ++t)  // beyond the end of the row
      for (const T value : row_of(std::vector<T>((right.*result.of).begin() + int64_t((right.*result.of).size()) / all * t,
                                                 (right.*result.of).begin() + int64_t((right.*result.of).size()) / all * (t + 1)),
                                  1, 1, c.batch, b))
        if (value != 0) fail(c.name() + ": " + result.name + " is not 0 beyond row " + std::to_string(b));
  }
}

template <class T>
void check(const Case& c, std::initializer_list<int> threads) {
  const Data<T> data(c);
  const Results<T> right = Run<T>(data, {}).results();
  for (const int count : threads)
    same(c, right, Run<T>(data, {count, 0x3f}).results(), "with " + std::to_string(count) + " threads");
  if (!c.gate_gradients)  // which are for all steps
    for (const int64_t piece : {(c.steps + 1) / 2, int64_t(1)})
      if (piece > 0 && c.steps <= 8) check_pieces(data, right, piece, threads.size() > 1 ? 3 : 1);
  if (c.batch > 0) check_row(data, right, c.drawn ? 0 : c.seed % c.batch);  // draws depend on the row's number
  if (c.packed) {
    Data<T> strided = data;
    strided.c.packed = false;
    same(c, right, Run<T>(strided, {}).results(), "packed");
  }
  if (sizeof(T) == sizeof(float) && !c.state_mask && !c.normalized) {
    const std::vector<T> low = Run<T>(data, {}).low_precision();
    near(c, right.y, low, 0.1, "bfloat16");
    if (!same_bits(low, Run<T>(data, {3, 0x3f}).low_precision())) fail(c.name() + ": bfloat16 with 3 threads");
    if (c.batch > 0 && !c.drawn) {
      const Data<T> alone = data.row(c.seed % c.batch);
      if (!same_bits(row_of(low, c.steps, alone.c.steps, c.batch, c.seed % c.batch), Run<T>(alone, {}).low_precision()))
        fail(c.name() + ": bfloat16 of row " + std::to_string(c.seed % c.batch) + " alone");
    }
  }
}

// Options of all kinds, each in about a third of the cases.
Case with_options(Case c, std::mt19937& bits) {
  const auto some = [&bits] { return bits() % 3 == 0; };
  c.reverse = some(), c.biases = !some(), c.states = !some(), c.ragged = some();
  c.packed = c.ragged && c.batch > 0 && some();
  c.memory = Memory(bits() % 3);
  c.state_mask = some(), c.candidate_mask = !c.rnn() && some(), c.normalized = some();
  if (some()) c.clip = 0.5;
  if (some()) c.zoneout = 0.3, c.drawn = some();
  if (c.lstm()) {
    if (some()) c.cell_clip = 0.7;
    if (some()) c.projected = 1 + int64_t(bits() % 40);
    c.peephole = some();
  }
  // A plain RNN leaves nothing that they could be gradients of.
  c.gate_gradients = some() && (!c.rnn() || c.clip > 0 || c.zoneout > 0 || c.state_mask);
  c.seed = unsigned(bits() % 1000);
  return c;
}

template <class T>
int check_small(int count, unsigned seed) {
  std::mt19937 bits(seed);
  for (int k = 0; k < count; ++k) {
    Case c;
    c.cell = k % 6;
    c.steps = int64_t(bits() % 8), c.batch = int64_t(bits() % 9), c.inputs = int64_t(bits() % 40);
    c.hidden = int64_t(bits() % 40);
    check<T>(with_options(c, bits), {3});
  }
  return count;
}

// Work for eight threads: up to six share the batch and more share the hidden units, where some have none to do; wide
// layers share the units always. Backward there are several chunks of steps.
template <class T>
int check_large(unsigned seed) {
  std::mt19937 bits(seed);
  int count = 0;
  for (int cell = CAROUSEL_LSTM; cell <= CAROUSEL_LSTM_COUPLED; ++cell)
    for (const bool wide : {false, true})
      for (int k = 0; k < 2; ++k, ++count) {
        Case c;
        c.cell = cell, c.batch = wide ? 3 : 13, c.inputs = k ? 40 : 9, c.hidden = wide ? 770 : 70;
        const int64_t step = c.batch * c.hidden * c.gates() * (c.inputs + c.hidden + 16);
        c.steps = 8'000'000 / step + 1;
        if (k) c = with_options(c, bits);
        check<T>(c, {2, 5});
      }
  return count;
}

// Weights and rows with which bfloat16 products lower x alone, for a longer chunk than if W x were computed ahead, too.
void check_lowered() {
  Case c;
  c.steps = 13, c.batch = 150, c.inputs = 260, c.hidden = 256;
  const Data<float> data(c);
  const std::vector<float> one = Run<float>(data, {}).low_precision();
  if (!same_bits(one, Run<float>(data, {3, 0x3f}).low_precision())) fail(c.name() + ": bfloat16 with 3 threads");
}

// Members that sleep at once, and meet often: nobody may be left asleep.
void check_barrier(int rounds, unsigned seed) {
  Barrier barrier(0);
  const auto member = [&](unsigned bits) {
    for (int k = 0; k < rounds; ++k) {
      bits = bits * 1664525u + 1013904223u;
      for (unsigned work = bits >> 26; work > 0; --work) std::atomic_signal_fence(std::memory_order_seq_cst);
      barrier.wait(2);
    }
  };
  std::thread other(member, seed);
  member(seed + 1);
  other.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (!carousel_isa()) fail("CAROUSEL_ISA names an instruction set that is not available");
  const int count = argc > 1 ? std::atoi(argv[1]) : 300;
  const unsigned seed = argc > 2 ? unsigned(std::atoi(argv[2])) : 1;
  int cases = check_small<float>(count, seed) + check_small<double>(count, seed + 1);
  cases += check_large<float>(seed + 2);
#ifndef __SANITIZE_THREAD__  // there twenty times slower, and threads meet in the same places
  cases += check_large<double>(seed + 3);
#endif
  check_lowered();
  check_barrier(20'000, seed);
  std::printf("%s: %d cases passed\n", carousel_isa(), cases);
  return 0;
}
