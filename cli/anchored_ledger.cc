#include "cli/anchored_ledger.h"

#include "policy/ledger_mark.h"

namespace concordat::cli {

StatusOr<AnchoredLedger> ReadAnchoredLedger(const policy::WorkerConfig& config, const std::string& dataset) {
  // The anchor first: a worker that runs writes it last.
  const std::filesystem::path anchor = policy::LedgerAnchorPath(config.anchor);
  ASSIGN_OR_RETURN(const auto mark, policy::ReadLedgerAnchor(anchor, dataset));
  AnchoredLedger ledger;
  auto entries = policy::ReadLedger(config.ledger, dataset);
  if (entries.status().code() != StatusCode::kNotFound) {
    RETURN_IF_ERROR(entries.status());
    ledger.there = true;
    ledger.entries = *std::move(entries);
  }
  const size_t count = ledger.entries.size();
  const std::string next = "see `concordat ledger reconcile`";
  if (!mark) {
    if (count > 0)
      ledger.held = FailedPrecondition("{}: it has {} entries, and its anchor {} is gone: {}",
                                       config.ledger.string(), count, anchor.string(), next);
    return ledger;
  }
  if (mark->count > 0 && (mark->count > count || ledger.entries[mark->count - 1].hash != mark->head))
    ledger.held = FailedPrecondition(
        "{}: it is not the ledger that its anchor speaks of ({} entries are here, {} are anchored, epsilon "
        "{:.3g}), and its figures do not count: {}",
        config.ledger.string(), count, mark->count, mark->epsilon, next);
  return ledger;
}

}  // namespace concordat::cli
