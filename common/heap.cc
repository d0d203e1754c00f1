#include "common/heap.h"

#include <cstdlib>  // defines __GLIBC__
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace concordat {

void KeepHeapSmall() {
#ifdef __GLIBC__
  constexpr int kLargeBlock = 128 << 10;
  constexpr int kHeaps = 2;
  ::mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  ::mallopt(M_TRIM_THRESHOLD, kLargeBlock);
  ::mallopt(M_ARENA_MAX, kHeaps);
#endif
}

void ReturnFreeMemory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace concordat
