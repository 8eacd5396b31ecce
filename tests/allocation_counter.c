/* Counts what a process allocates: preloaded, it stands before glibc's own functions. */
#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static long count;

long allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }

static void counted(void) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

void *malloc(size_t size) { return counted(), __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return counted(), __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return counted(), __libc_realloc(block, size); }
void *memalign(size_t alignment, size_t size) { return counted(), __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return counted(), __libc_memalign(alignment, size); }
int posix_memalign(void **block, size_t alignment, size_t size) {
  counted();
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}
