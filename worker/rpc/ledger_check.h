#ifndef CONCORDAT_WORKER_RPC_LEDGER_CHECK_H_
#define CONCORDAT_WORKER_RPC_LEDGER_CHECK_H_

#include <vector>

#include "policy/ledger.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// Compares the ledger with what the worker's journal says of it: how far it had come when it was charged,
/// and when peers countersigned it. An anchor does not show that file and anchor were put back together; this
/// does, as long as the journal was not put back too. FailedPrecondition, saying what to do, when the ledger
/// does not hold it; with `accept` what is missing is charged again instead, and the result says how many
/// entries that took.
StatusOr<size_t> CheckLedger(const std::vector<Record>& journal, policy::Ledger& ledger, bool accept,
                             Instant now);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_LEDGER_CHECK_H_
