#include "privacy/accounting/privacy_statement.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace concordat {
namespace {

constexpr std::string_view kAllSites = "all sites, every round (q = 1, no amplification)";

nlohmann::ordered_json EpsilonJson(double epsilon) {
  if (std::isinf(epsilon)) return "infinity";
  return epsilon;
}

std::string EpsilonText(double epsilon) {
  return std::isinf(epsilon) ? "infinite (no guarantee)" : fmt::format("{:.4g}", epsilon);
}

// ε after `rounds` equal rounds.
StatusOr<double> EpsilonOfRounds(const Price& round, Neighbour neighbour, double delta, uint32_t rounds) {
  ASSIGN_OR_RETURN(const Price all, round.Times(rounds));
  return EpsilonFor(all, neighbour, delta);
}

Status CheckDelta(double delta) {
  if (delta >= 0 && delta < 1) return OkStatus();
  return InvalidArgument("privacy statement: expected a delta from 0 to below 1, got {}", delta);
}

}  // namespace

nlohmann::ordered_json ToJson(const PrivacyStatement& s) {
  nlohmann::ordered_json out;
  out["unit"] = PrivacyUnitText(s.unit);
  out["neighbour"] = NeighbourText(s.neighbour);
  out["epsilon_local"] = EpsilonJson(s.epsilon_local);
  out["epsilon_distributed"] =
      s.epsilon_distributed ? EpsilonJson(*s.epsilon_distributed) : nlohmann::ordered_json();
  out["honest_survivors"] = s.honest_survivors;
  out["delta"] = s.delta;
  out["sampler"] = s.sampler;
  out["rounds"] = s.rounds;
  out["cohort"] = s.cohort;
  out["ledger"] = s.ledger.is_zero() ? nlohmann::ordered_json() : nlohmann::ordered_json(s.ledger.hex());
  return out;
}

std::string Describe(const PrivacyStatement& s) {
  std::string out =
      fmt::format("unit {}, neighbours {}\nepsilon {} against everyone else (local)\n",
                  PrivacyUnitText(s.unit), NeighbourText(s.neighbour), EpsilonText(s.epsilon_local));
  if (s.epsilon_distributed)
    out += fmt::format("epsilon {} with {} honest survivors (distributed)\n",
                       EpsilonText(*s.epsilon_distributed), s.honest_survivors);
  else
    out += "epsilon with honest survivors: no claim\n";
  out +=
      fmt::format("delta {:g}, {} rounds, cohort {}, sampler: {}\n", s.delta, s.rounds, s.cohort, s.sampler);
  out += s.ledger.is_zero() ? "no ledger stands behind this: it is a plan's price\n"
                            : fmt::format("ledger {}\n", s.ledger.hex());
  return out;
}

namespace {

// Of all that a site sends, at `factor` times the plan's sensitivities.
StatusOr<RdpCurve> RoundCurve(const EncodingPlan& plan, double factor, uint32_t shares) {
  RdpCurve curve;
  // Priced at what was asked: what is drawn has this variance or a little more.
  const double sigma = plan.config().noise_stddev;
  RETURN_IF_ERROR(
      curve.Add(RdpTerm{.delta2_squared = factor * factor * static_cast<double>(plan.sensitivity_squared()),
                        .delta1 = factor * plan.sensitivity_l1(),
                        .share_variance = sigma * sigma,
                        .shares = shares,
                        .dimension = plan.config().elements}));
  for (size_t i = 0; i < plan.config().metrics.size(); ++i) {
    const double reach = factor * static_cast<double>(plan.metric_sensitivity(i));
    const double metric_sigma = plan.config().metrics[i].noise_stddev;
    RETURN_IF_ERROR(curve.Add(RdpTerm{.delta2_squared = reach * reach,
                                      .delta1 = reach,
                                      .share_variance = metric_sigma * metric_sigma,
                                      .shares = shares}));
  }
  return curve;
}

}  // namespace

StatusOr<RdpCurve> SiteRoundCurve(const EncodingPlan& plan, Neighbour neighbour, uint32_t shares) {
  if (neighbour == Neighbour::kAddRemove)
    return FailedPrecondition(
        "site unit: who takes part is known, so neighbours are zero_out or replace_one");
  if (plan.integers())
    return FailedPrecondition("site unit: the plan is of sums over persons or records, and bounds no site");
  return RoundCurve(plan, neighbour == Neighbour::kReplaceOne ? 2 : 1, shares);
}

StatusOr<RdpCurve> UnitRoundCurve(const EncodingPlan& plan, uint32_t shares) {
  if (!plan.integers()) return FailedPrecondition("the plan is of no sum over persons or records");
  return RoundCurve(plan, 1, shares);
}

StatusOr<PrivacyStatement> SiteStatement(const EncodingPlan& plan, Neighbour neighbour, double delta,
                                         uint32_t rounds, uint32_t honest_survivors) {
  RETURN_IF_ERROR(CheckDelta(delta));
  PrivacyStatement out;
  out.unit = PrivacyUnit::kSite;
  out.neighbour = neighbour;
  out.delta = delta;
  out.sampler = kAllSites;
  out.rounds = rounds;
  out.cohort = plan.config().sites;
  out.honest_survivors = honest_survivors;
  ASSIGN_OR_RETURN(const RdpCurve local, SiteRoundCurve(plan, neighbour, 1));
  ASSIGN_OR_RETURN(out.epsilon_local, EpsilonOfRounds(local, neighbour, delta, rounds));
  if (honest_survivors > 0) {
    ASSIGN_OR_RETURN(const RdpCurve sum, SiteRoundCurve(plan, neighbour, honest_survivors));
    ASSIGN_OR_RETURN(out.epsilon_distributed, EpsilonOfRounds(sum, neighbour, delta, rounds));
  }
  return out;
}

StatusOr<PrivacyStatement> SampledStatement(PrivacyUnit unit, const SubsampledGaussian& steps, double delta,
                                            uint32_t rounds, uint32_t sites) {
  RETURN_IF_ERROR(CheckDelta(delta));
  PrivacyStatement out;
  out.unit = unit;
  out.neighbour = NeighbourOf(unit);
  out.delta = delta;
  out.sampler = fmt::format("Poisson, every {} with probability {} in each of {} steps a round",
                            PrivacyUnitText(unit), steps.q, steps.steps);
  out.rounds = rounds;
  out.cohort = sites;
  Price round;
  RETURN_IF_ERROR(round.Add(steps));
  ASSIGN_OR_RETURN(out.epsilon_local, EpsilonOfRounds(round, out.neighbour, delta, rounds));
  return out;
}

StatusOr<PrivacyStatement> UnitSumStatement(PrivacyUnit unit, const EncodingPlan& plan, double delta,
                                            uint32_t rounds, uint32_t honest_survivors) {
  RETURN_IF_ERROR(CheckDelta(delta));
  PrivacyStatement out;
  out.unit = unit;
  out.neighbour = NeighbourOf(unit);
  out.delta = delta;
  out.sampler = fmt::format("every {}, every round (q = 1, no amplification)", PrivacyUnitText(unit));
  out.rounds = rounds;
  out.cohort = plan.config().sites;
  out.honest_survivors = honest_survivors;
  ASSIGN_OR_RETURN(const RdpCurve local, UnitRoundCurve(plan, 1));
  ASSIGN_OR_RETURN(out.epsilon_local, EpsilonOfRounds(local, out.neighbour, delta, rounds));
  ASSIGN_OR_RETURN(const RdpCurve sum, UnitRoundCurve(plan, honest_survivors));
  ASSIGN_OR_RETURN(out.epsilon_distributed, EpsilonOfRounds(sum, out.neighbour, delta, rounds));
  return out;
}

StatusOr<double> SiteSigmaFor(double epsilon, double delta, double delta2, double delta1, uint64_t dimension,
                              uint32_t rounds, uint32_t shares) {
  if (shares == 0) return InvalidArgument("noise for epsilon: expected at least one share of noise");
  ASSIGN_OR_RETURN(const double total, SigmaFor(epsilon, delta, delta2, rounds));
  const double share = total / std::sqrt(static_cast<double>(shares));
  if (shares == 1 || share == 0) return share;
  const auto fits = [&](double sigma) {
    RdpCurve curve;
    const Status added = curve.Add(RdpTerm{.delta2_squared = delta2 * delta2,
                                           .delta1 = delta1,
                                           .share_variance = sigma * sigma,
                                           .shares = shares,
                                           .dimension = dimension,
                                           .count = rounds});
    return added.ok() && EpsilonFor(curve, delta) <= epsilon;
  };
  // A sum of shares costs at least what one Gaussian of the same variance does, and nothing can be priced
  // below 1/2: the answer is above both.
  double low = std::max(share, 0.5), high = low;
  while (!fits(high)) {
    low = high;
    high *= 1.5;
    if (high > 1e12) return InvalidArgument("noise for epsilon: no noise reaches epsilon {}", epsilon);
  }
  while (high / low > 1 + 1e-9) {
    const double middle = std::sqrt(low * high);
    (fits(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace concordat
