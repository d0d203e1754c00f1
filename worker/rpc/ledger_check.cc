#include "worker/rpc/ledger_check.h"

namespace concordat::worker {
namespace {

/// Of those that the ledger does not hold, the one that goes furthest; null: it holds them all.
const LedgerWitness* Forgotten(const std::vector<Record>& journal, const policy::Ledger& ledger) {
  const LedgerWitness* known = nullptr;
  for (const Record& record : journal) {
    const auto* said = std::get_if<LedgerWitness>(&record);
    if (said == nullptr || said->mark.dataset != ledger.dataset() || ledger.Holds(said->mark)) continue;
    if (known == nullptr || said->mark.count >= known->mark.count) known = said;
  }
  return known;
}

}  // namespace

StatusOr<size_t> CheckLedger(const std::vector<Record>& journal, policy::Ledger& ledger, bool accept,
                             Instant now) {
  size_t restored = 0;
  const LedgerWitness* known = Forgotten(journal, ledger);
  for (; accept && known != nullptr; known = Forgotten(journal, ledger)) {
    ASSIGN_OR_RETURN(const auto entries, ledger.MakeGood(now, known->mark));
    restored += entries.size();
  }
  if (known == nullptr) return restored;
  const std::string witness =
      known->signatures.empty()
          ? fmt::format("of which the worker's journal knows since {}", known->id.Brief())
          : fmt::format("which {} sites countersigned in {}", known->signatures.size(), known->id.Brief());
  return FailedPrecondition(
      "the ledger of dataset '{}' has {} entries, and not entry {} with head {}, {}: it was put back from a "
      "copy. Put the newest copy in its place, or start once with --accept-rollback, which charges again "
      "what "
      "it has forgotten (epsilon {:.6g} was spent by then)",
      ledger.dataset(), ledger.entries().size(), known->mark.count, known->mark.head.brief(), witness,
      known->mark.epsilon);
}

}  // namespace concordat::worker
