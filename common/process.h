#ifndef CONCORDAT_COMMON_PROCESS_H_
#define CONCORDAT_COMMON_PROCESS_H_

#include "common/status.h"

namespace concordat {

/// For a process that holds keys or records: no core dumps, not readable through /proc by others of the same
/// user (PR_SET_DUMPABLE 0), files created without group and world bits.
Status HardenProcess();

}  // namespace concordat

#endif  // CONCORDAT_COMMON_PROCESS_H_
