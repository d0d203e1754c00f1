#ifndef CONCORDAT_CLI_ANCHORED_LEDGER_H_
#define CONCORDAT_CLI_ANCHORED_LEDGER_H_

#include <vector>

#include "policy/ledger.h"
#include "policy/node_config.h"

namespace concordat::cli {

/// A ledger as its file has it, and whether that is what its anchor speaks of.
struct AnchoredLedger {
  bool there = false;  // whether there is a file
  std::vector<policy::LedgerEntry> entries;
  /// FailedPrecondition, saying what is here and what is known of, when the file was cut, put back from a
  /// copy, taken away or replaced, or when it has entries and no anchor.
  Status held;
};

/// Reads both, also while the worker runs. A region in which nothing was charged has neither: no error.
/// DataLoss when a line or the anchor does not verify; InvalidArgument when one is another dataset's.
/// Does not show file and anchor put back together: the worker's journal and its peers do.
StatusOr<AnchoredLedger> ReadAnchoredLedger(const policy::WorkerConfig& config, const std::string& dataset);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_ANCHORED_LEDGER_H_
