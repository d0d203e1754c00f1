#include "privacy/accounting/price.h"

#include <limits>

#include "privacy/accounting/pld.h"
#include "privacy/accounting/subsampled_rdp.h"

namespace concordat {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();

bool Idle(const SubsampledGaussian& s) { return s.q == 0 || s.steps == 0; }

template <typename Relation>
double SampledEpsilon(const Price& price, double delta) {
  if (price.curve().empty()) {
    PldAccountant<Relation> accountant;
    for (const SubsampledGaussian& s : price.steps())
      if (!accountant.Add(s).ok()) return std::numeric_limits<double>::infinity();
    return accountant.Epsilon(delta).value_or(std::numeric_limits<double>::infinity());
  }
  return EpsilonFor(
      [&](double alpha) { return price.curve().Rdp(alpha) + ComposedRdp<Relation>(price.steps(), alpha); },
      delta);
}

}  // namespace

Status Price::Add(const SubsampledGaussian& steps) {
  RETURN_IF_ERROR(CheckStep(steps));
  if (Idle(steps)) return OkStatus();
  for (SubsampledGaussian& s : steps_) {
    if (s.q != steps.q || s.sigma != steps.sigma || s.steps > kMost - steps.steps) continue;
    s.steps += steps.steps;
    return OkStatus();
  }
  steps_.push_back(steps);
  return OkStatus();
}

void Price::Add(const Price& other) {
  const std::vector<SubsampledGaussian> added = other.steps_;
  curve_.Add(other.curve_);
  for (const SubsampledGaussian& s : added) (void)Add(s);  // was accepted before
}

StatusOr<Price> Price::Times(uint64_t times) const {
  Price out;
  const auto many = [times](uint64_t count) { return times > 0 && count > kMost / times; };
  for (RdpTerm term : curve_.terms()) {
    if (many(term.count)) return InvalidArgument("privacy price: more releases than can be counted");
    term.count *= times;
    RETURN_IF_ERROR(out.Add(term));
  }
  for (SubsampledGaussian s : steps_) {
    if (many(s.steps)) return InvalidArgument("privacy price: more steps than can be counted");
    s.steps *= times;
    RETURN_IF_ERROR(out.Add(s));
  }
  return out;
}

double EpsilonFor(const Price& price, Neighbour neighbour, double delta) {
  if (price.steps().empty()) return EpsilonFor(price.curve(), delta);
  return neighbour == Neighbour::kReplaceOne ? SampledEpsilon<ReplaceOne>(price, delta)
                                             : SampledEpsilon<AddRemove>(price, delta);
}

}  // namespace concordat
