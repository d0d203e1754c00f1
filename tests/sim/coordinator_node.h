#ifndef CONCORDAT_TESTS_SIM_COORDINATOR_NODE_H_
#define CONCORDAT_TESTS_SIM_COORDINATOR_NODE_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/env.h"

namespace concordat::sim {

/// The coordinator's shell around secagg::LoggedRound: one round with as many attempts as are allowed, all
/// of the same roster. Made anew at every start of the process.
///
/// Files: "attempts" (beginnings and finished results, synced), "log.A" (the attempt's records, synced),
/// "spool.A.S" (what came of site S's upload; synced once it is whole).
class CoordinatorNode {
 public:
  CoordinatorNode(Env& env, Disk& disk);

  /// \param connection counts up: a loss of an earlier one is no longer news
  void OnConnected(SiteIndex site, uint64_t connection);
  void OnLost(SiteIndex site, uint64_t connection);
  void OnMessage(SiteIndex site, const secagg::WorkerMessage& message);
  void OnChunk(SiteIndex site, const Chunk& chunk);
  void OnDropout(SiteIndex site, const Dropout& dropout);
  void OnTimer();

  /// A sum was published, or every attempt is spent.
  bool over() const { return finished_.has_value() || spent_; }
  AttemptIndex attempt() const { return attempt_; }

 private:
  void Recover();
  void Resume();
  void CheckUploads();
  void StartAttempt();
  void Take(StatusOr<secagg::LoggedEffects> effects);
  void Send(const std::vector<secagg::Outgoing>& messages);
  void OnHeader(SiteIndex site, const secagg::Signed<secagg::InputHeader>& header);
  void Sum();
  void PublishResult(SiteIndex to);
  std::vector<SiteIndex> DurableSurvivors() const;
  Bytes Spooled(SiteIndex site) const;
  std::string LogFile() const { return fmt::format("log.{}", attempt_); }
  std::string SpoolFile(SiteIndex site) const { return fmt::format("spool.{}.{}", attempt_, int{site}); }

  Env* env_;
  Disk* disk_;
  AttemptIndex attempt_ = 0;
  std::optional<secagg::LoggedRound> round_;
  std::optional<secagg::UnmaskWork> work_;
  std::optional<Bytes> finished_;  // the sum's digest, as recorded
  std::optional<secagg::Signed<secagg::Result>> result_;
  bool spent_ = false;
  std::map<SiteIndex, uint64_t> connections_;
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_COORDINATOR_NODE_H_
