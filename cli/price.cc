#include "cli/price.h"

#include <algorithm>

#include "cli/watch_view.h"
#include "policy/job_privacy.h"

namespace concordat::cli {
namespace {

std::string Count(uint32_t number, std::string_view one) {
  return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
}

}  // namespace

uint32_t AttemptsBegun(const pb::JobState& state, const pb::RoundsReply& rounds) {
  uint32_t attempts = 0;
  for (const auto& round : rounds.rounds()) attempts += round.attempt() + 1;
  // Between attempts `attempt` is the number of the next one, in an open one its own. Step 0 may be either:
  // then the offer is out at most, and nothing was charged for it yet.
  attempts += state.attempt();
  if (!HasEnded(state.state()) && state.step() > 0) ++attempts;
  return attempts;
}

uint32_t LargestRoster(const pb::RoundsReply& rounds) {
  int most = 0;
  for (const auto& round : rounds.rounds())
    most = std::max(most, round.survivors_size() + round.missing_size());
  return static_cast<uint32_t>(most);
}

StatusOr<JobPrice> PriceOf(const policy::JobSpec& job, uint32_t rounds, uint32_t attempts, uint32_t sites) {
  JobPrice price;
  price.attempts = std::max(rounds, attempts);
  const uint32_t priced = policy::PricedSites(job, sites);
  ASSIGN_OR_RETURN(price.plan, policy::PlanStatement(job, rounds, priced));
  ASSIGN_OR_RETURN(price.epsilon_of_attempts, policy::PlanEpsilon(job, price.attempts, priced));
  return price;
}

nlohmann::ordered_json ToJson(const JobPrice& price) {
  nlohmann::ordered_json json = ToJson(price.plan);
  std::string text;
  for (const auto& sentence : Explain(price)) text += (text.empty() ? "" : " ") + sentence;
  json["prices"] = "plan";
  json["prices_text"] = text;
  json["attempts_begun"] = price.attempts;
  json["epsilon_of_attempts"] = NumberJson(price.epsilon_of_attempts);
  return json;
}

std::vector<std::string> Explain(const JobPrice& price) {
  std::vector<std::string> out;
  out.push_back(fmt::format(
      "This prices an undisturbed job: {}, one attempt each, with a cohort of {}. It is a plan's figure. "
      "What a "
      "region was charged is in that region's own ledger (concordat ledger show), with aborted attempts and "
      "evaluations.",
      Count(price.plan.rounds, "finished round"), price.plan.cohort));
  if (price.attempts > price.plan.rounds) {
    out.push_back(
        fmt::format("{} began, {} without a result: a region that was charged for all of them has epsilon {} "
                    "in its ledger for them.",
                    Count(price.attempts, "attempt"), price.attempts - price.plan.rounds,
                    HumanEpsilon(price.epsilon_of_attempts)));
  }
  return out;
}

}  // namespace concordat::cli
