#include "privacy/accounting/ledger_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/canonical_attempt.h"

namespace concordat {
namespace {

// A job that was accepted has at most 65, a delta and 64 metrics, for one attempt; the sum over a whole
// ledger has as many as there were different ones.
constexpr size_t kMaxTerms = 4096;
// Beside the kind: sampled steps follow. Charges without them keep the form that they always had.
constexpr uint8_t kHasSteps = 0x80;

bool SamePrice(const PrivacyBudget& budget, const LedgerCharge& charge) {
  return budget.unit == charge.unit && budget.neighbour == charge.neighbour;
}

std::string EpsilonText(double epsilon) {
  return std::isinf(epsilon) ? "infinity" : fmt::format("{:.6g}", epsilon);
}

Status ReadSteps(CanonicalReader& in, Price& price) {
  const size_t count = in.Count(kMaxTerms);
  if (count == 0) in.Fail("a charge of sampled steps without one");
  for (size_t i = 0; i < count && in.status().ok(); ++i) {
    SubsampledGaussian s;
    s.q = in.F64();
    s.sigma = in.F64();
    s.steps = in.U64();
    if (!in.status().ok()) break;
    RETURN_IF_ERROR(price.Add(s));
    if (price.steps().size() != i + 1) in.Fail("a charge names one price twice");
  }
  return in.status();
}

}  // namespace

std::string_view ChargeKindText(ChargeKind kind) {
  switch (kind) {
    case ChargeKind::kDelta:
      return "delta";
    case ChargeKind::kEvaluation:
      return "evaluation";
    case ChargeKind::kRestored:
      return "restored";
  }
  return "unknown";
}

void WriteCharge(CanonicalWriter& out, const LedgerCharge& charge) {
  const auto& steps = charge.price.steps();
  out.U8(static_cast<uint8_t>(charge.kind) | (steps.empty() ? 0 : kHasSteps));
  out.U8(static_cast<uint8_t>(charge.unit));
  out.U8(static_cast<uint8_t>(charge.neighbour));
  Put(out, charge.attempt);
  out.Count(charge.price.curve().terms().size());
  for (const RdpTerm& t : charge.price.curve().terms()) {
    out.F64(t.delta2_squared);
    out.F64(t.delta1);
    out.F64(t.share_variance);
    out.U32(t.shares);
    out.U64(t.dimension);
    out.U64(t.count);
  }
  if (steps.empty()) return;
  out.Count(steps.size());
  for (const SubsampledGaussian& s : steps) {
    out.F64(s.q);
    out.F64(s.sigma);
    out.U64(s.steps);
  }
}

StatusOr<LedgerCharge> ReadCharge(CanonicalReader& in) {
  LedgerCharge charge;
  const uint8_t form = in.U8(), unit = in.U8(), neighbour = in.U8();
  const uint8_t kind = form & ~kHasSteps;
  charge.attempt.job = in.Hash();
  charge.attempt.round = in.U32();
  charge.attempt.attempt = in.U32();
  const size_t terms = in.Count(kMaxTerms);
  for (size_t i = 0; i < terms && in.status().ok(); ++i) {
    RdpTerm t;
    t.delta2_squared = in.F64();
    t.delta1 = in.F64();
    t.share_variance = in.F64();
    t.shares = in.U32();
    t.dimension = in.U64();
    t.count = in.U64();
    if (!in.status().ok()) break;
    const size_t before = charge.price.curve().terms().size();
    RETURN_IF_ERROR(charge.price.Add(t));
    // Terms that Add merges or drops are not what WriteCharge writes: one charge, one byte string.
    if (charge.price.curve().terms().size() != before + 1) in.Fail("a charge names one price twice");
  }
  if (form & kHasSteps) RETURN_IF_ERROR(ReadSteps(in, charge.price));
  RETURN_IF_ERROR(in.status());
  if (kind < 1 || kind > 3 || unit < 1 || unit > 3 || neighbour < 1 || neighbour > 3)
    return InvalidArgument("ledger charge: unknown code among kind {}, unit {}, neighbour {}", kind, unit,
                           neighbour);
  charge.kind = static_cast<ChargeKind>(kind);
  charge.unit = static_cast<PrivacyUnit>(unit);
  charge.neighbour = static_cast<Neighbour>(neighbour);
  return charge;
}

double EpsilonAfter(const PrivacyBudget& budget, std::span<const LedgerCharge> charges,
                    std::span<const LedgerCharge> added) {
  Price all;
  for (const auto& list : {charges, added})
    for (const LedgerCharge& charge : list) {
      if (!SamePrice(budget, charge)) return std::numeric_limits<double>::infinity();
      all.Add(charge.price);
    }
  return EpsilonFor(all, budget.neighbour, budget.delta);
}

double EpsilonSpent(const PrivacyBudget& budget, std::span<const LedgerCharge> charges) {
  return EpsilonAfter(budget, charges, {});
}

Status CanCharge(const PrivacyBudget& budget, std::span<const LedgerCharge> charges,
                 const LedgerCharge& added) {
  if (!SamePrice(budget, added))
    return InvalidArgument("ledger: the budget is for unit {} and neighbours {}, the charge for {} and {}",
                           PrivacyUnitText(budget.unit), NeighbourText(budget.neighbour),
                           PrivacyUnitText(added.unit), NeighbourText(added.neighbour));
  if (added.price.empty()) return InvalidArgument("ledger: a charge without a price");
  const bool charged = std::any_of(charges.begin(), charges.end(), [&](const LedgerCharge& c) {
    return c.attempt == added.attempt && c.kind == added.kind;
  });
  if (charged)
    return AlreadyExists("ledger: {} was charged for {} before", added.attempt.Brief(),
                         ChargeKindText(added.kind));
  const double after = EpsilonAfter(budget, charges, {&added, 1});
  // Written so that a budget that is not a number refuses.
  if (after <= budget.epsilon) return OkStatus();
  const double spent = EpsilonSpent(budget, charges);
  return ResourceExhausted(
      "ledger: epsilon {} of {} is spent at delta {:g}; {} is left and this {} would make it {}",
      EpsilonText(spent), EpsilonText(budget.epsilon), budget.delta,
      EpsilonText(std::max(0.0, budget.epsilon - spent)), ChargeKindText(added.kind), EpsilonText(after));
}

}  // namespace concordat
