// Teams on std::thread: for ThreadSanitizer, which does not know libgomp, and for builds without OpenMP.
#include <atomic>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "barrier.h"
#include "team.h"

namespace {

void wait(void* barrier, int size) { static_cast<Barrier*>(barrier)->wait(size); }

}  // namespace

int carousel_team_limit(void) {
  const char* asked = std::getenv("OMP_NUM_THREADS");
  const int threads = asked ? std::atoi(asked) : int(std::thread::hardware_concurrency());
  return threads < 1 ? 1 : threads;
}

void carousel_team_run(int size, void (*work)(const Team*, void*), void* argument) {
  Barrier barrier;
  std::atomic<int> found{0};  // how many members there are; 0: not known yet
  const auto member = [&](int index) {
    found.wait(0);
    const Team team{index, found, wait, &barrier};
    work(&team, argument);
  };
  std::vector<std::thread> others;
  try {
    others.reserve(size_t(size > 1 ? size - 1 : 0));
    for (int index = 1; index < size; ++index) others.emplace_back(member, index);
  } catch (const std::exception&) {  // no memory, or no thread: fewer do the work
  }
  found = int(others.size()) + 1;
  found.notify_all();
  member(0);
  for (std::thread& thread : others) thread.join();
}
