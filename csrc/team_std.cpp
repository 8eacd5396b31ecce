// Teams on std::thread: for ThreadSanitizer, which does not know libgomp, and for builds without OpenMP.
#include <cstdlib>
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
  const auto member = [&](int index) {
    const Team team{index, size, wait, &barrier};
    work(&team, argument);
  };
  std::vector<std::thread> others;
  for (int index = 1; index < size; ++index) others.emplace_back(member, index);
  member(0);
  for (std::thread& thread : others) thread.join();
}
