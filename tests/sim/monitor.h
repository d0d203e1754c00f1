#ifndef CONCORDAT_TESTS_SIM_MONITOR_H_
#define CONCORDAT_TESTS_SIM_MONITOR_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "privacy/secagg/coordinator_round.h"
#include "privacy/secagg/worker_round.h"

namespace concordat::sim {

/// An invariant that did not hold. `kind` is one of the names in Monitor's comment.
struct Violation {
  std::string kind;
  std::string text;
};

/// Watches everything that leaves a node, from outside of all nodes: it forgets nothing when they crash.
///
///   mask-reuse       two different bytes of y_i under one mask; masks taken twice for one T2
///   double-answer    a worker sent two bodies for one step of an attempt
///   two-questions    the coordinator sent two bodies for one step of an attempt
///   two-survivors    the coordinator announced two U3 for an attempt
///   not-written-ahead  U3 was announced before it was durable
///   both-kinds       for one site both kinds of share were opened, by one worker or by two
///   wrong-sum        a finished sum is not the plain sum over U3
///   charge-late      a byte of y_i left before charge and "begun" were durable
///   charge-returned  a charge is no longer in the ledger
///   honest-refusal   an honest node refused another for a reason that is not one of timing
///   durable-lost     what a node must find on its disk is not there
class Monitor {
 public:
  void Fail(std::string kind, std::string text);
  const std::vector<Violation>& violations() const { return violations_; }

  void WorkerSends(SiteIndex site, const secagg::WorkerMessage& message);
  /// \param durable_u3 what the coordinator's disk says, for Survivors
  void CoordinatorSends(SiteIndex to, const secagg::CoordinatorMessage& message,
                        const std::vector<SiteIndex>& durable_u3);

  void MasksTaken(SiteIndex site, const Digest& t2);
  /// The plain vector that is masked in `attempt`.
  void Encoded(SiteIndex site, AttemptIndex attempt, std::vector<uint32_t> x);
  void VectorLeaves(SiteIndex site, const Digest& t2, uint64_t offset, ByteView bytes, bool charged,
                    bool begun);
  /// The charges that a power cut now would leave in the ledger.
  void LedgerHolds(SiteIndex site, std::set<AttemptIndex> attempts);
  void Finished(AttemptIndex attempt, const std::vector<SiteIndex>& survivors,
                const std::vector<uint32_t>& sum);

  bool finished() const { return finished_; }

 private:
  std::vector<Violation> violations_;
  bool finished_ = false;
  std::map<std::tuple<AttemptIndex, SiteIndex, size_t>, Digest> answers_, questions_;
  std::map<AttemptIndex, std::vector<SiteIndex>> announced_;
  std::map<std::pair<AttemptIndex, SiteIndex>, bool> opened_;  // true: the seed
  std::map<std::pair<Digest, SiteIndex>, std::map<uint64_t, uint8_t>> left_;
  std::set<std::pair<Digest, SiteIndex>> masks_taken_;
  std::map<std::pair<AttemptIndex, SiteIndex>, std::vector<uint32_t>> plain_;
  std::map<SiteIndex, std::set<AttemptIndex>> ledgers_;
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_MONITOR_H_
