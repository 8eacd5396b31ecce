// Teams on the OpenMP runtime that torch uses too: one pool of threads, and torch.set_num_threads holds for us.
#include <omp.h>
#include <pthread.h>

#include "barrier.h"
#include "team.h"

namespace {

// libgomp's pool does not survive fork(): a parallel region in the child would wait for threads that are not there.
bool forked = false;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

void wait(void* barrier, int size) { static_cast<Barrier*>(barrier)->wait(size); }

}  // namespace

int carousel_team_limit(void) { return forked || omp_in_parallel() ? 1 : omp_get_max_threads(); }

void carousel_team_run(int size, void (*work)(const Team*, void*), void* argument) {
  if (size <= 1) {
    const Team alone{0, 1, wait, nullptr};
    work(&alone, argument);
    return;
  }
  Barrier barrier;
#pragma omp parallel num_threads(size)
  {
    const Team team{omp_get_thread_num(), omp_get_num_threads(), wait, &barrier};  // the runtime may give fewer
    work(&team, argument);
  }
}
