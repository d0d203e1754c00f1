#include "policy/plan.h"

#include <algorithm>
#include <limits>

#include "policy/job_privacy.h"

namespace concordat::policy {
namespace {

/// ε with one charge for each round still to come on top of what the ledger has. Attempts are numbered past
/// any real one, so that no charge made so far is taken for one of these.
double AfterRounds(const JobSpec& job, const JobId& id, const Ledger& ledger, uint32_t rounds_done,
                   Instant now) {
  const auto charge = RoundCharge(job, AttemptId{id, 0, UINT32_MAX}, job.cohort.minimum);
  if (!charge.ok()) return std::numeric_limits<double>::infinity();
  const uint32_t rounds = job.rounds > rounds_done ? job.rounds - rounds_done : 0;
  if (rounds == 0) return ledger.Spent(now);
  auto price = charge->price.Times(rounds);
  if (!price.ok()) return std::numeric_limits<double>::infinity();
  LedgerCharge all = *charge;
  all.price = *std::move(price);
  return ledger.SpentAfter(now, std::span(&all, 1));
}

}  // namespace

RegionAnswer AnswerJob(const RegionPolicy& policy, const DatasetCard& card, const Charter& charter,
                       const Digest& charter_hash, const SpiffeId& worker, const JobSpec& job,
                       const JobId& job_id, const SpiffeId& submitter, const Ledger& ledger,
                       uint32_t rounds_done, Instant now) {
  RegionAnswer answer;
  answer.epsilon_before = ledger.Spent(now);
  answer.epsilon_after = AfterRounds(job, job_id, ledger, rounds_done, now);
  answer.epsilon_budget = ledger.budget().epsilon;
  answer.bytes_per_round = MaskedBytes(job).value_or(0);
  const LedgerView view{answer.epsilon_before, answer.epsilon_after, answer.epsilon_budget};
  answer.refusals = Evaluate({policy, card, charter, charter_hash, worker, job, submitter, view});
  answer.needs_approval = answer.eligible() && policy.approval == ApprovalMode::kManual;
  return answer;
}

StatusOr<std::vector<FlowRow>> FlowsOf(const Charter& charter, const JobSpec& job,
                                       const std::vector<SpiffeId>& workers) {
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
  const std::string& centre = charter.coordinator.id.jurisdiction();
  std::vector<FlowRow> rows;
  const auto add = [&](ArtefactKind kind, const std::string& from, const std::string& to, uint64_t bytes) {
    const CharterFlow* flow = charter.Flow(kind, from, to);
    rows.push_back({kind, from, to, flow == nullptr ? std::nullopt : std::optional(flow->basis), bytes});
  };
  const uint32_t bits = job.privacy.modulus_bits;
  for (const SpiffeId& worker : workers) {
    const std::string& region = worker.jurisdiction();
    add(ArtefactKind::kDelta, region, centre, VectorBytes(layout.delta_elements(), bits) * job.rounds);
    add(ArtefactKind::kMetrics, region, centre, VectorBytes(kMetricCount, bits) * job.rounds);
    add(ArtefactKind::kEvaluation, region, centre, 0);
    // The first adapter and the one after each round.
    add(ArtefactKind::kAdapter, centre, region,
        layout.adapter_elements() * sizeof(float) * (uint64_t{job.rounds} + 1));
  }
  return rows;
}

}  // namespace concordat::policy
