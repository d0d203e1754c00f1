#include "cli/statement_check.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "policy/job_privacy.h"

namespace concordat::cli {
namespace {

using policy::LedgerEntry;
using policy::LedgerStatement;

bool Names(const std::vector<std::string>& workers, const std::string& worker) {
  return std::ranges::find(workers, worker) != workers.end();
}

/// The charges of one region, held against the job's own file.
class Charges {
 public:
  Charges(const policy::JobSpec& job, const ChainRecord& record, uint32_t rounds, const LedgerStatement& body)
      : job_(job), record_(record), rounds_(rounds), body_(body), worker_(body.worker.ToString()) {
    sites_ = job.cohort.minimum;
    for (const ChainRound& round : record.rounds) sites_ = std::max(sites_, round.roster());
  }

  Status Check() {
    if (body_.job != record_.job)
      return InvalidArgument("it is of job {}, the adapter of {}", body_.job.brief(), record_.job.brief());
    if (body_.charter != job_.charter)
      return PermissionDenied("it was made under charter {}, the job ran under {}", body_.charter.brief(),
                              job_.charter.brief());
    bool has_part = false;
    for (uint32_t i = 0; i < rounds_; ++i)
      has_part |= Names(record_.rounds[i].survivors, worker_) || Names(record_.rounds[i].missing, worker_);
    if (!has_part) return InvalidArgument("it has no part in the adapter's rounds");
    for (const LedgerEntry& row : body_.rows)
      if (IsAttempt(row)) {
        const Status priced = CheckPrice(row.charge);
        if (!priced.ok()) return Annotate(priced, fmt::format("row {}", row.sequence + 1));
      }
    return CheckEveryRoundIsCharged();
  }

  bool IsAttempt(const LedgerEntry& row) const {
    return row.charge.kind == ChargeKind::kDelta && row.charge.attempt.job == body_.job;
  }

 private:
  /// The finished round that this attempt made, if it made one.
  const ChainRound* Finished(const AttemptId& id) const {
    const bool made = id.round < record_.rounds.size() && record_.rounds[id.round].attempt == id.attempt;
    return made ? &record_.rounds[id.round] : nullptr;
  }

  Status CheckPrice(const LedgerCharge& charge) {
    const ChainRound* round = Finished(charge.attempt);
    const uint32_t sites = round == nullptr ? sites_ : std::max(round->roster(), job_.cohort.minimum);
    const uint32_t shares = SharesOf(charge.price);
    if (charge.unit != job_.privacy.unit || charge.neighbour != NeighbourOf(job_.privacy.unit))
      return DataLoss("it is charged in unit {}, the job's is {}", PrivacyUnitText(charge.unit),
                      PrivacyUnitText(job_.privacy.unit));
    ASSIGN_OR_RETURN(const LedgerCharge due, policy::RoundCharge(job_, charge.attempt, sites));
    // Of an attempt without a result nobody outside knows how large its roster was.
    const bool local = job_.privacy.noise == policy::NoisePlacement::kLocal;
    if ((local || round != nullptr) && shares > SharesOf(due.price))
      return DataLoss("it counts on the noise of {} honest sites, the job on that of {}", shares,
                      SharesOf(due.price));
    for (const auto& [seen_shares, seen] : enough_)
      if (seen_shares == shares && Same(seen, charge.price)) return OkStatus();
    ASSIGN_OR_RETURN(const Price least, InShares(due.price, shares, true));
    const double delta = job_.privacy.delta;
    const double paid = EpsilonFor(charge.price, charge.neighbour, delta);
    const double owed = EpsilonFor(least, charge.neighbour, delta);
    if (!(paid >= owed * (1 - 1e-6)))
      return DataLoss("it charges epsilon {:.6g} for an attempt that costs {:.6g}", paid, owed);
    enough_.emplace_back(shares, charge.price);
    return OkStatus();
  }

  /// A charge of its own for each round in whose sum the worker is, or restored charges that cover them all.
  Status CheckEveryRoundIsCharged() const {
    std::set<AttemptId> charged;
    std::vector<LedgerCharge> due, found;
    bool restored = false;
    for (const LedgerEntry& row : body_.rows) {
      if (IsAttempt(row)) charged.insert(row.charge.attempt);
      restored |= row.charge.kind == ChargeKind::kRestored;
      if (IsAttempt(row) || row.charge.kind == ChargeKind::kRestored) policy::AddToTotals(found, row.charge);
    }
    const ChainRound* lacking = nullptr;
    for (uint32_t i = 0; i < rounds_; ++i) {
      const ChainRound& round = record_.rounds[i];
      if (!Names(round.survivors, worker_)) continue;
      const AttemptId id{record_.job, round.round, round.attempt};
      if (!charged.contains(id) && lacking == nullptr) lacking = &round;
      ASSIGN_OR_RETURN(const LedgerCharge one,
                       policy::RoundCharge(job_, id, std::max(round.roster(), job_.cohort.minimum)));
      policy::AddToTotals(due, one);
    }
    if (lacking == nullptr || (restored && policy::Beyond(due, found).empty())) return OkStatus();
    return InvalidArgument("it has no charge for round {}, attempt {}, in whose sum its worker is",
                           lacking->round + 1, lacking->attempt + 1);
  }

  static bool Same(const Price& a, const Price& b) {
    return a.curve().terms() == b.curve().terms() && a.steps() == b.steps();
  }

  const policy::JobSpec& job_;
  const ChainRecord& record_;
  const uint32_t rounds_;
  const LedgerStatement& body_;
  const std::string worker_;
  uint32_t sites_ = 0;
  std::vector<std::pair<uint32_t, Price>> enough_;
};

}  // namespace

uint32_t SharesOf(const Price& price) {
  uint32_t shares = 1;
  for (const RdpTerm& term : price.curve().terms()) shares = std::max(shares, term.shares);
  return shares;
}

StatusOr<Price> InShares(const Price& price, uint32_t shares, bool of_the_whole) {
  Price out;
  for (RdpTerm term : price.curve().terms()) {
    if (of_the_whole) term.share_variance *= static_cast<double>(term.shares) / shares;
    term.shares = shares;
    RETURN_IF_ERROR(out.Add(term));
  }
  for (const SubsampledGaussian& steps : price.steps()) RETURN_IF_ERROR(out.Add(steps));
  return out;
}

Status CheckStatement(const policy::JobSpec& job, const ChainRecord& record, uint32_t rounds,
                      const LedgerStatement& statement) {
  return Charges(job, record, rounds, statement).Check();
}

}  // namespace concordat::cli
