#include "privacy/accounting/pld.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "privacy/accounting/composed_pair.h"
#include "privacy/accounting/gaussian_delta.h"
#include "privacy/accounting/subsampled_rdp.h"

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kMostSteps = uint64_t{1} << 63;

using Steps = std::span<const SubsampledGaussian>;

Status CheckDelta(double delta) {
  if (delta >= 0 && delta <= 1) return OkStatus();
  return InvalidArgument("delta: expected a number from 0 to 1, got {}", delta);
}

Status CheckEpsilon(double epsilon) {
  if (epsilon >= 0) return OkStatus();
  return InvalidArgument("epsilon: expected a number of at least 0, got {}", epsilon);
}

// What the steps come to, with those that do nothing left out and full batches as the one Gaussian they are.
struct Folded {
  std::vector<SubsampledGaussian> sampled;
  double mu_squared = 0;     // of the Gaussian, at distance 1
  bool silent = false;       // a step without noise
  double log_untouched = 0;  // ln of the probability that no batch holds the unit

  bool idle() const { return sampled.empty() && mu_squared == 0 && !silent; }
  std::vector<SubsampledGaussian> all() const {
    std::vector<SubsampledGaussian> out = sampled;
    // 1e-15 more of it than the sum, for its rounding.
    if (mu_squared > 0)
      out.push_back({.q = 1, .sigma = 1 / std::sqrt(mu_squared * (1 + 0x1p-49)), .steps = 1});
    return out;
  }
};

Folded Fold(Steps steps) {
  Folded f;
  for (const SubsampledGaussian& s : steps) {
    if (s.q == 0 || s.steps == 0) continue;
    const auto times = static_cast<double>(s.steps);
    f.log_untouched += times * std::log1p(-s.q);
    if (s.sigma == 0)
      f.silent = true;
    else if (s.q == 1)
      f.mu_squared += times / (s.sigma * s.sigma);
    else
      f.sampled.push_back(s);
  }
  // So much loss that it is no number, or none that is one.
  if (!std::isfinite(f.mu_squared)) f.silent = true;
  return f;
}

double Distance(LossPair pair) { return pair == LossPair::kReplace ? 2 : 1; }

// The unit is in no batch at all with probability 1 − δ: the outputs are then equal, whatever the noise.
bool SeldomTouched(const Folded& f, double delta) {
  return -std::expm1(f.log_untouched) * (1 + 0x1p-40) <= delta;
}

double PairEpsilon(const Folded& f, LossPair pair, double delta) {
  if (f.sampled.empty())
    return GaussianEpsilon(Distance(pair) * std::sqrt(f.mu_squared) * (1 + 0x1p-50), delta);
  // Without the unit in the output, no step loses more than −ln(1−q).
  const double most = pair == LossPair::kAdd ? -f.log_untouched * (1 + 0x1p-40) : kInfinity;
  const auto epsilon = ComposedPair(f.all(), pair).Epsilon(delta);
  if (epsilon) return std::min(*epsilon, most);
  const auto all = f.all();
  const double rdp = (1 + 1e-6) * (pair == LossPair::kReplace ? RdpEpsilon<ReplaceOne>(all, delta)
                                                              : RdpEpsilon<AddRemove>(all, delta));
  return std::min(rdp, most);
}

double DeltaByRdp(const Folded& f, LossPair pair, double epsilon) {
  const auto all = f.all();
  return (1 + 1e-6) * (pair == LossPair::kReplace ? RdpDelta<ReplaceOne>(all, epsilon)
                                                  : RdpDelta<AddRemove>(all, epsilon));
}

double PairDelta(const Folded& f, LossPair pair, double epsilon) {
  if (std::isinf(epsilon)) return 0;
  // As above: beyond all loss.
  if (pair == LossPair::kAdd && epsilon >= -f.log_untouched * (1 + 0x1p-40)) return 0;
  double delta = 1;
  if (f.sampled.empty())
    delta = GaussianDelta(Distance(pair) * std::sqrt(f.mu_squared) * (1 + 0x1p-50), epsilon);
  else if (const auto found = ComposedPair(f.all(), pair).Delta(epsilon))
    delta = *found;
  else
    delta = DeltaByRdp(f, pair, epsilon);
  const double touched = -std::expm1(f.log_untouched) * (1 + 0x1p-40);
  return std::clamp(std::min(delta, touched), std::numeric_limits<double>::min(), 1.0);
}

// Nothing where it has to be computed.
std::optional<double> PlainEpsilon(const Folded& f, double delta) {
  if (f.idle()) return 0;
  if (f.silent || delta == 0) return kInfinity;
  if (delta == 1 || SeldomTouched(f, delta)) return 0;
  return std::nullopt;
}

std::optional<double> PlainDelta(const Folded& f) {
  if (f.idle()) return 0;
  if (f.silent) return 1;
  return std::nullopt;
}

// The worse of both directions. Full batches alone are the same both ways.
double AddRemoveEpsilon(const Folded& f, double delta) {
  const double remove = PairEpsilon(f, LossPair::kRemove, delta);
  if (f.sampled.empty()) return remove;
  if (f.mu_squared == 0 && ComposedPair(f.sampled, LossPair::kAdd).EpsilonBound(delta) <= remove)
    return remove;
  return std::max(remove, PairEpsilon(f, LossPair::kAdd, delta));
}

double AddRemoveDelta(const Folded& f, double epsilon) {
  const double remove = PairDelta(f, LossPair::kRemove, epsilon);
  if (f.sampled.empty()) return remove;
  if (f.mu_squared == 0 && ComposedPair(f.sampled, LossPair::kAdd).DeltaBound(epsilon) <= remove)
    return remove;
  return std::max(remove, PairDelta(f, LossPair::kAdd, epsilon));
}

}  // namespace

template <typename Relation>
Status PldAccountant<Relation>::Add(const SubsampledGaussian& step) {
  RETURN_IF_ERROR(CheckStep(step));
  uint64_t count = 0;
  for (const SubsampledGaussian& s : steps_) count += s.steps;
  if (step.steps > kMostSteps - count)
    return InvalidArgument("privacy accounting: {} steps more than {} are too many", step.steps, count);
  for (SubsampledGaussian& s : steps_)
    if (s.q == step.q && s.sigma == step.sigma) {
      s.steps += step.steps;
      return OkStatus();
    }
  if (step.steps > 0) steps_.push_back(step);
  return OkStatus();
}

template <typename Relation>
StatusOr<double> PldAccountant<Relation>::Epsilon(double delta) const {
  RETURN_IF_ERROR(CheckDelta(delta));
  const Folded f = Fold(steps_);
  if (const auto plain = PlainEpsilon(f, delta)) return *plain;
  if constexpr (std::is_same_v<Relation, ReplaceOne>)
    return PairEpsilon(f, LossPair::kReplace, delta);
  else
    return AddRemoveEpsilon(f, delta);
}

template <typename Relation>
StatusOr<double> PldAccountant<Relation>::Delta(double epsilon) const {
  RETURN_IF_ERROR(CheckEpsilon(epsilon));
  const Folded f = Fold(steps_);
  if (const auto plain = PlainDelta(f)) return *plain;
  if constexpr (std::is_same_v<Relation, ReplaceOne>)
    return PairDelta(f, LossPair::kReplace, epsilon);
  else
    return AddRemoveDelta(f, epsilon);
}

template class PldAccountant<AddRemove>;
template class PldAccountant<ReplaceOne>;

StatusOr<double> EpsilonOfPair(Steps steps, LossPair pair, double delta) {
  for (const SubsampledGaussian& s : steps) RETURN_IF_ERROR(CheckStep(s));
  RETURN_IF_ERROR(CheckDelta(delta));
  const Folded f = Fold(steps);
  const auto plain = PlainEpsilon(f, delta);
  return plain ? *plain : PairEpsilon(f, pair, delta);
}

StatusOr<double> DeltaOfPair(Steps steps, LossPair pair, double epsilon) {
  for (const SubsampledGaussian& s : steps) RETURN_IF_ERROR(CheckStep(s));
  RETURN_IF_ERROR(CheckEpsilon(epsilon));
  const Folded f = Fold(steps);
  const auto plain = PlainDelta(f);
  return plain ? *plain : PairDelta(f, pair, epsilon);
}

}  // namespace concordat
