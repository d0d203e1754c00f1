#ifndef CONCORDAT_CLI_PRICE_H_
#define CONCORDAT_CLI_PRICE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cli/client.h"
#include "policy/job.h"
#include "privacy/accounting/privacy_statement.h"

// What can be said of a job's privacy outside its regions. A coordinator knows a plan's price and how often a
// round was tried; what was charged is in each region's ledger and nowhere else.
namespace concordat::cli {

struct JobPrice {
  PrivacyStatement plan;  // of the finished rounds, one attempt each, with PricedSites
  uint32_t attempts = 0;  // that began, those of finished rounds among them
  double epsilon_of_attempts =
      0;  // what a region's ledger adds up to that charged each of them, at the job's δ
};

/// Attempts that began: those of the finished rounds, and those of the round that is open or was given up.
uint32_t AttemptsBegun(const pb::JobState& state, const pb::RoundsReply& rounds);

/// The most sites that a finished round can have had: who is in its sum, and who is missing there. 0: no
/// round.
uint32_t LargestRoster(const pb::RoundsReply& rounds);

/// \param attempts at least `rounds`; fewer count as `rounds` \param sites the most that a round had or may
/// have
StatusOr<JobPrice> PriceOf(const policy::JobSpec& job, uint32_t rounds, uint32_t attempts, uint32_t sites);

/// The statement's keys, then `prices` ("plan"), `prices_text`, `attempts_begun`, `epsilon_of_attempts`.
nlohmann::ordered_json ToJson(const JobPrice& price);
/// What the figures are and are not, in sentences.
std::vector<std::string> Explain(const JobPrice& price);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_PRICE_H_
