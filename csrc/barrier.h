// Where the members of a team meet. A member that waits spins for some microseconds, then sleeps: on a busy machine
// the one it waits for may need this very core to run on, and an OpenMP barrier would spin through its time slice.
#ifndef CAROUSEL_BARRIER_H
#define CAROUSEL_BARRIER_H

#include <atomic>

class Barrier {
 public:
  explicit Barrier(int spins = 2000) : spins_(spins) {}  // of 10 to 40 ns each
  void wait(int size) {
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      // In one order with the look for sleepers in notify_all: libstdc++ 12 does not see to that, and a member that falls
      // asleep between the two would sleep for ever.
      round_.store(round + 1, std::memory_order_seq_cst);
      round_.notify_all();
      return;
    }
    for (int spin = 0; spin < spins_; ++spin) {
      if (round_.load(std::memory_order_acquire) != round) return;
      pause();
    }
    round_.wait(round, std::memory_order_acquire);
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  const int spins_;
  std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> round_{0};
};

#endif
