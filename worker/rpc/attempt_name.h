#ifndef CONCORDAT_WORKER_RPC_ATTEMPT_NAME_H_
#define CONCORDAT_WORKER_RPC_ATTEMPT_NAME_H_

#include <string>
#include <string_view>

#include "common/ids.h"

namespace concordat::worker {

/// What the files of an attempt are called: job-round-attempt, then `suffix`.
std::string AttemptFileName(const AttemptId& id, std::string_view suffix);
/// Undoes it. InvalidArgument for any other name.
StatusOr<AttemptId> ParseAttemptFileName(std::string_view name, std::string_view suffix);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_ATTEMPT_NAME_H_
