#include "cli/plan_view.h"

#include <cmath>

#include "cli/watch_view.h"
#include "policy/job_privacy.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr uint32_t kEligible = 1, kWaitsForApproval = 3;
// Below this many sites, hiding whether one of them took part hides nothing: everyone knows the roster.
constexpr uint32_t kFewSites = 10;

bool Joins(const pb::RegionPlan& region) {
  return region.connected() && (region.verdict() == kEligible || region.verdict() == kWaitsForApproval);
}

ordered_json RegionJson(const pb::RegionPlan& region) {
  ordered_json rules = ordered_json::array();
  for (uint32_t rule : region.rules()) {
    rules.push_back({{"code", rule}, {"text", policy::DescribeRule(rule)}});
  }
  return {{"worker", Printable(region.worker())},
          {"connected", region.connected()},
          {"verdict", VerdictName(region.verdict())},
          {"rules", rules},
          {"bytes_per_round", region.bytes_per_round()},
          {"epsilon_before", NumberJson(region.epsilon_before())},
          {"epsilon_after", NumberJson(region.epsilon_after())},
          {"epsilon_budget", NumberJson(region.epsilon_budget())}};
}

ordered_json FlowJson(const policy::FlowRow& flow) {
  return {{"kind", policy::ArtefactKindName(flow.kind)},
          {"from", flow.from},
          {"to", flow.to},
          {"legal_basis", flow.basis ? ordered_json(policy::LegalBasisName(*flow.basis)) : ordered_json()},
          {"bytes", flow.bytes}};
}

void ShowRegions(const PlanView& plan, Output& out) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& region : plan.regions) {
    const auto style = region.verdict() == kEligible && region.connected() ? Output::Style::kGood
                       : region.verdict() == 2                             ? Output::Style::kBad
                                                                           : Output::Style::kWarn;
    const std::string verdict =
        region.connected() ? std::string(VerdictName(region.verdict())) : "not connected";
    const bool answered = region.connected() && region.verdict() != 0;
    rows.push_back({BriefWorker(region.worker()), out.Paint(verdict, style),
                    answered ? HumanBytes(region.bytes_per_round()) : "-",
                    answered ? HumanBytes(region.bytes_per_round() * plan.job.rounds) : "-",
                    answered ? HumanEpsilon(region.epsilon_before()) : "-",
                    answered ? HumanEpsilon(region.epsilon_after()) : "-",
                    answered ? (std::isinf(region.epsilon_budget()) ? "unlimited"
                                                                    : HumanEpsilon(region.epsilon_budget()))
                             : "-"});
  }
  out.Table({"region", "answer", "a round", "in all", "epsilon now", "after", "budget"}, rows,
            {false, false, true, true, true, true, true});
  for (const auto& region : plan.regions) {
    for (const auto& rule : DescribeRules(region.rules())) {
      out.Say(fmt::format("  {}: {}", BriefWorker(region.worker()), rule));
    }
    if (region.connected() && region.verdict() == kWaitsForApproval) {
      out.Say(fmt::format("  {}: a person there must say yes: concordat approve {} --worker worker.yaml",
                          BriefWorker(region.worker()), plan.id.brief()));
    }
  }
}

}  // namespace

namespace {

std::string UnitRemark(const policy::JobSpec& job, const PrivacyStatement& statement) {
  const std::string_view unit = PrivacyUnitText(job.privacy.unit);
  const std::string what =
      policy::IsUnitSum(job)
          ? fmt::format(
                "The unit is a {0}, and the sites share the noise: with {1} honest survivors the "
                "second epsilon bounds what the sums reveal about one {0}. Against all others in "
                "league, whose shares do not count, only the first holds.",
                unit, statement.honest_survivors)
          : fmt::format(
                "The unit is a {0}: this epsilon bounds what all that a region ever sends for this job "
                "reveals about one {0}.",
                unit);
  return fmt::format(
      "{0} It does not cover when and how long a region computes. A delta of {1:g} is for regions of fewer "
      "than {2:.0f} {3}s; a dataset whose card has a larger one is for fewer, and with more its trainer "
      "refuses.",
      what, job.privacy.delta, 1 / job.privacy.delta, unit);
}

/// What a larger roster does to the first epsilon; nothing with local noise, or where there cannot be a
/// larger one.
std::optional<std::string> ShareRemark(const policy::JobSpec& job, const PrivacyStatement& statement) {
  const auto most = static_cast<uint32_t>(kMaxSites);
  if (job.privacy.noise == policy::NoisePlacement::kLocal || statement.cohort >= most) return std::nullopt;
  const auto largest = policy::PlanStatement(job, statement.rounds, most);
  if (!largest.ok() || std::isinf(largest->epsilon_local)) return std::nullopt;
  return fmt::format(
      "The first epsilon, against all others in league, is for rounds of at most {} sites: each adds a "
      "smaller share of "
      "the noise the more there are. With {}, the most there can be, it would be {}.",
      statement.cohort, most, HumanEpsilon(largest->epsilon_local));
}

}  // namespace

size_t WouldJoin(const std::vector<pb::RegionPlan>& regions) {
  size_t count = 0;
  for (const auto& region : regions) count += Joins(region);
  return count;
}

std::optional<std::string> DeltaRemark(double delta) {
  constexpr double kLarge = 1e-3;
  if (!(delta > kLarge)) return std::nullopt;
  return "A delta this large lets a share of all units be published outright: keep it below one over their "
         "number.";
}

std::vector<std::string> EpsilonRemarks(const policy::JobSpec& job, const PrivacyStatement& statement) {
  std::vector<std::string> out;
  // Of a sum over units what its readers see is the sum, with all the noise.
  const double shown =
      policy::IsUnitSum(job) ? statement.epsilon_distributed.value_or(HUGE_VAL) : statement.epsilon_local;
  if (std::isinf(shown)) {
    out.push_back(
        policy::IsPerUnit(job)
            ? "Without noise on gradients and on metrics there is no guarantee."
            : "Without noise there is no guarantee: what is published may show any region's contribution "
              "to whoever knows the others'.");
    return out;
  }
  if (shown > 10) {
    out.push_back(
        fmt::format("An epsilon of {} says next to nothing: read it as no guarantee. Masks still hide "
                    "each region's delta from the coordinator; only the sum is published.",
                    HumanEpsilon(shown)));
  }
  if (policy::IsPerUnit(job)) {
    out.push_back(UnitRemark(job, statement));
  } else if (job.cohort.minimum < kFewSites) {
    out.push_back(
        fmt::format("The unit is a site, and with {} sites everyone knows who takes part: this epsilon "
                    "bounds what a region's whole contribution reveals; it does not protect a single "
                    "person or record.",
                    job.cohort.minimum));
  }
  if (auto remark = ShareRemark(job, statement)) out.push_back(*std::move(remark));
  if (auto remark = DeltaRemark(statement.delta)) out.push_back(*std::move(remark));
  return out;
}

StatusOr<PlanView> MakePlanView(const policy::JobSpec& job, const JobId& id, const policy::Charter& charter,
                                const pb::PlanReply& reply) {
  if (DigestOf(reply.job()) != id) {
    return DataLoss("the coordinator planned job {}, not {}", DigestOf(reply.job()).brief(), id.brief());
  }
  PlanView plan;
  plan.job = job;
  plan.id = id;
  plan.regions.assign(reply.regions().begin(), reply.regions().end());
  std::vector<SpiffeId> workers;
  for (const auto& region : plan.regions) {
    const auto worker = SpiffeId::Parse(region.worker());
    if (worker.ok() && Joins(region)) workers.push_back(*worker);
  }
  plan.can_start = reply.can_start();
  ASSIGN_OR_RETURN(plan.flows, policy::FlowsOf(charter, job, workers));
  // Who else may join until it begins is not known: one of every member, or all that have answered.
  const size_t sites = std::max(charter.members.size(), plan.regions.size());
  ASSIGN_OR_RETURN(plan.end, policy::PlanStatement(job, job.rounds,
                                                   policy::PricedSites(job, static_cast<uint32_t>(sites))));
  ASSIGN_OR_RETURN(plan.bytes_per_round, policy::MaskedBytes(job));
  return plan;
}

ordered_json ToJson(const PlanView& plan) {
  ordered_json regions = ordered_json::array(), flows = ordered_json::array();
  for (const auto& region : plan.regions) regions.push_back(RegionJson(region));
  for (const auto& flow : plan.flows) flows.push_back(FlowJson(flow));
  return {{"job", plan.id.hex()},
          {"name", plan.job.name},
          {"can_start", plan.can_start},
          {"regions_joining", WouldJoin(plan.regions)},
          {"regions_needed", plan.job.cohort.minimum},
          {"rounds", plan.job.rounds},
          {"bytes_per_round", plan.bytes_per_round},
          {"bytes_per_region", plan.bytes_per_round * plan.job.rounds},
          {"regions", regions},
          {"flows", flows},
          {"privacy", ToJson(plan.end)},
          {"remarks", EpsilonRemarks(plan.job, plan.end)}};
}

void Show(const PlanView& plan, Output& out) {
  out.Say(fmt::format("job {} {}: {} rounds, at least {} regions", plan.id.brief(), plan.job.name,
                      plan.job.rounds, plan.job.cohort.minimum));
  out.Say("");
  ShowRegions(plan, out);
  out.Say("");
  std::vector<std::vector<std::string>> rows;
  for (const auto& flow : plan.flows) {
    rows.push_back({std::string(policy::ArtefactKindName(flow.kind)), flow.from + " -> " + flow.to,
                    flow.basis ? std::string(policy::LegalBasisName(*flow.basis))
                               : out.Paint("not in the charter", Output::Style::kBad),
                    flow.bytes == 0 ? "on request" : HumanBytes(flow.bytes)});
  }
  if (!rows.empty()) {
    out.Table({"what crosses", "border", "legal basis", "in the whole job"}, rows,
              {false, false, false, true});
    out.Say("");
  }
  out.Say(out.Paint("After the last round", Output::Style::kBold));
  std::string text = Describe(plan.end);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    out.Say("  " + text.substr(0, end));
    text.erase(0, std::min(end + 1, text.size()));
  }
  for (const auto& remark : EpsilonRemarks(plan.job, plan.end)) out.Say("  " + remark);
  out.Say("");
  const size_t joining = WouldJoin(plan.regions);
  if (plan.can_start) {
    out.Say(out.Paint("It can start.", Output::Style::kGood) + " Next: concordat submit JOB.yaml");
  } else {
    out.Say(out.Paint(fmt::format("It cannot start: {} of at least {} regions would join.", joining,
                                  plan.job.cohort.minimum),
                      Output::Style::kBad));
  }
}

}  // namespace concordat::cli
