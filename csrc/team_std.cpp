// Teams on std::thread: for ThreadSanitizer, which does not know libgomp, and for builds without OpenMP.
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "team.h"

namespace {

class Barrier {
 public:
  explicit Barrier(int size) : size_(size), missing_(size) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned round = round_;
    if (--missing_ == 0) {
      missing_ = size_;
      ++round_;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return round != round_; });
    }
  }

 private:
  const int size_;
  int missing_;
  unsigned round_ = 0;
  std::mutex mutex_;
  std::condition_variable all_here_;
};

void wait(void* barrier) { static_cast<Barrier*>(barrier)->wait(); }

}  // namespace

int carousel_team_limit(void) {
  const char* asked = std::getenv("OMP_NUM_THREADS");
  const int threads = asked ? std::atoi(asked) : int(std::thread::hardware_concurrency());
  return threads < 1 ? 1 : threads;
}

void carousel_team_run(int size, void (*work)(const Team*, void*), void* argument) {
  Barrier barrier(size);
  const auto member = [&](int index) {
    const Team team{index, size, wait, &barrier};
    work(&team, argument);
  };
  std::vector<std::thread> others;
  for (int index = 1; index < size; ++index) others.emplace_back(member, index);
  member(0);
  for (std::thread& thread : others) thread.join();
}
