// A team of threads that runs one function together. The one header that the kernels see; two back ends behind it:
// team_openmp.cpp shares the OpenMP runtime with torch, team_std.cpp is std::thread, for ThreadSanitizer and for
// builds without OpenMP.
#ifndef CAROUSEL_TEAM_H
#define CAROUSEL_TEAM_H

struct Team {
  int member, size;
  void (*wait)(void* barrier, int size);
  void* handle;
  // Returns when every member has called it. Never a symbol that files for several instruction sets would share.
  __attribute__((always_inline)) void barrier() const {
    if (size > 1) wait(handle, size);
  }
};

extern "C" {
int carousel_team_limit(void);  // how many threads the runtime gives the calling thread; 1 in a forked child
void carousel_team_run(int size, void (*work)(const struct Team*, void*), void* argument);  // size 1 starts no thread
}
#endif
