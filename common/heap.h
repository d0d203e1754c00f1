#ifndef CONCORDAT_COMMON_HEAP_H_
#define CONCORDAT_COMMON_HEAP_H_

// What glibc's heap keeps of memory that is free. Elsewhere these do nothing.
namespace concordat {

/// For a program through which much more passes than it holds: large blocks go back to the system as soon as
/// they are free (by default glibc stops doing that after the first), and threads share heaps. Before other
/// threads start.
void KeepHeapSmall();

/// Gives free pages back, also those between blocks that stay. Takes some milliseconds for a hundred MiB. Any
/// thread.
void ReturnFreeMemory();

}  // namespace concordat

#endif  // CONCORDAT_COMMON_HEAP_H_
