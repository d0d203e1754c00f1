#ifndef CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_STATEMENT_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_STATEMENT_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "privacy/accounting/price.h"
#include "privacy/mechanism/encoding.h"

namespace concordat {

/// What a release promises, with everything the promise rests on; printed on every release.
struct PrivacyStatement {
  PrivacyUnit unit = PrivacyUnit::kSite;
  Neighbour neighbour = Neighbour::kZeroOut;
  double epsilon_local = 0;                   // against everyone else; may be infinite
  std::optional<double> epsilon_distributed;  // against others than the h honest survivors; nullopt: no claim
  uint32_t honest_survivors = 0;              // h
  double delta = 0;
  std::string sampler;  // "all sites, every round" for the site unit: q = 1, no amplification
  uint32_t rounds = 0;
  uint32_t cohort = 0;
  Digest ledger;  // head of the ledger that was charged; zero in a plan
  bool operator==(const PrivacyStatement&) const = default;
};

/// Keys in the order of the struct. An infinite epsilon is the string "infinity", no claim is null.
nlohmann::ordered_json ToJson(const PrivacyStatement& statement);
/// A few lines for people, the same facts.
std::string Describe(const PrivacyStatement& statement);

/// RDP of one round as one site sends it: the delta and every metric, each with its own sensitivity and
/// noise. Site unit. `shares` = 1 prices a site's own noise alone (local); h prices the noise of h honest
/// survivors. Sensitivity is doubled under replace-one. FailedPrecondition for add/remove, which the site
/// unit does not have (who took part is known), and for h > 1 with a σ_s below 1/2 where there is noise at
/// all.
StatusOr<RdpCurve> SiteRoundCurve(const EncodingPlan& plan, Neighbour neighbour, uint32_t shares);

/// RDP of one round of a sum over persons or records as one site sends it (EncodingPlan, kIntegers), to add
/// or remove one of them: the sum's and every metric's own, with their sensitivities to one unit. Every unit
/// is in every round: no amplification. `shares` as SiteRoundCurve's. FailedPrecondition: the plan is of no
/// such sum; h > 1 with a σ_s below 1/2 where there is noise at all.
StatusOr<RdpCurve> UnitRoundCurve(const EncodingPlan& plan, uint32_t shares);

/// The statement of `rounds` rounds of `plan`; `honest_survivors` = 0 claims nothing for distributed noise.
/// InvalidArgument unless 0 <= delta < 1.
StatusOr<PrivacyStatement> SiteStatement(const EncodingPlan& plan, Neighbour neighbour, double delta,
                                         uint32_t rounds, uint32_t honest_survivors);

/// The statement of DP-SGD in every region, add/remove: `steps` of one round, at most the whole of what
/// leaves. Every step draws each unit by itself with probability q. InvalidArgument as SiteStatement and
/// CheckStep.
StatusOr<PrivacyStatement> SampledStatement(PrivacyUnit unit, const SubsampledGaussian& steps, double delta,
                                            uint32_t rounds, uint32_t sites);

/// The statement of `rounds` rounds of a sum over persons or records with shared noise: one share against
/// everyone else, those of `honest_survivors` against the others. InvalidArgument unless 0 <= delta < 1.
StatusOr<PrivacyStatement> UnitSumStatement(PrivacyUnit unit, const EncodingPlan& plan, double delta,
                                            uint32_t rounds, uint32_t honest_survivors);

/// Per-site noise σ_s, in integer units and for the delta alone, with which `rounds` rounds of sensitivity
/// `delta2` (integer units) reach (ε, δ): local counts one share, distributed h. InvalidArgument as SigmaFor.
StatusOr<double> SiteSigmaFor(double epsilon, double delta, double delta2, double delta1, uint64_t dimension,
                              uint32_t rounds, uint32_t shares);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_STATEMENT_H_
