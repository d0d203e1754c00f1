#include "privacy/accounting/rdp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool NonNegative(double v) { return v >= 0; }  // false for NaN

// τ: how far a sum of N discrete Gaussians may be from one.
double ConvolutionGap(double share_variance, uint32_t shares) {
  double sum = 0;
  for (uint32_t k = 1; k < shares; ++k)
    sum += std::exp(-2 * std::numbers::pi * std::numbers::pi * share_variance * k / (k + 1));
  return 10 * sum;
}

// ε at the order 1 + gap, gap = exp(log_gap): valid whatever the order is. The gap itself goes in, so that
// orders close to 1 keep their digits.
template <typename Rdp>
double EpsilonAt(const Rdp& rdp, double log_delta, double log_gap) {
  const double gap = std::exp(log_gap), log_alpha = std::log1p(gap);
  return rdp(1 + gap) + (log_gap - log_alpha) - (log_delta + log_alpha) / gap;
}

}  // namespace

double RdpTerm::Rdp(double alpha) const {
  if (delta2_squared == 0 || count == 0) return 0;
  if (share_variance == 0) return kInfinity;
  const double variance = share_variance * shares;
  const auto times = static_cast<double>(count);
  const double gaussian = alpha * delta2_squared / (2 * variance);
  if (shares == 1) return times * gaussian;
  const double tau = ConvolutionGap(share_variance, shares);
  const auto d = static_cast<double>(dimension);
  const double sigma = std::sqrt(variance);
  const double by_l1 = alpha / 2 * (delta2_squared / variance + 2 * delta1 * tau / sigma + tau * tau * d);
  const double root = std::sqrt(delta2_squared) / sigma + std::sqrt(d) * tau;
  return times * std::min({gaussian + tau * d, by_l1, alpha / 2 * root * root});
}

Status RdpCurve::Add(const RdpTerm& term) {
  if (!NonNegative(term.delta2_squared) || !NonNegative(term.delta1) || !NonNegative(term.share_variance))
    return InvalidArgument("privacy price: sensitivity and variance must be numbers of at least 0");
  if (std::isinf(term.delta2_squared) || std::isinf(term.delta1) || std::isinf(term.share_variance))
    return InvalidArgument("privacy price: sensitivity and variance must be finite");
  if (term.shares == 0 || term.dimension == 0)
    return InvalidArgument("privacy price: expected at least one share and one dimension");
  if (term.shares > 1 && term.delta2_squared > 0 && term.share_variance > 0 && term.share_variance < 0.25)
    return InvalidArgument(
        "privacy price: a sum of {} shares of noise is priced only from a standard deviation of 0.5 integer "
        "units a share; this is {:.4g}: raise the noise or the scale",
        term.shares, std::sqrt(term.share_variance));
  if (term.count == 0) return OkStatus();
  // Equal releases are counted, so that a thousand rounds are one term.
  for (RdpTerm& t : terms_) {
    RdpTerm same = term;
    same.count = t.count;
    if (t == same && t.count <= std::numeric_limits<uint64_t>::max() - term.count) {
      t.count += term.count;
      return OkStatus();
    }
  }
  terms_.push_back(term);
  return OkStatus();
}

void RdpCurve::Add(const RdpCurve& other) {
  const std::vector<RdpTerm> added = other.terms_;
  for (const RdpTerm& t : added)
    if (!Add(t).ok()) terms_.push_back(t);  // not reached: a curve holds terms that were accepted
}

double RdpCurve::Rdp(double alpha) const {
  double sum = 0;
  for (const RdpTerm& t : terms_) sum += t.Rdp(alpha);
  return sum;
}

double EpsilonFor(const RdpCurve& curve, double delta) {
  return EpsilonFor([&](double alpha) { return curve.Rdp(alpha); }, delta);
}

double EpsilonFor(const std::function<double(double)>& rdp, double delta) {
  if (rdp(2) == 0) return 0;
  if (!(delta > 0)) return kInfinity;
  if (delta >= 1) return 0;
  const double log_delta = std::log(delta);
  const auto at = [&](double log_gap) { return EpsilonAt(rdp, log_delta, log_gap); };
  // RDP of 1e16 has its best order at 1 + 1e-8, one of 1e-16 at 1e8: the grid reaches past both.
  constexpr double kFirst = -30, kLast = 30, kStep = 0.25;
  double best = kInfinity, best_at = 0;
  for (double x = kFirst; x <= kLast; x += kStep)
    if (const double e = at(x); e < best) best = e, best_at = x;
  double low = best_at - kStep, high = best_at + kStep;
  constexpr double kGolden = 0.6180339887498949;
  for (int i = 0; i < 60; ++i) {
    const double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
    const double ea = at(a), eb = at(b);
    best = std::min({best, ea, eb});
    (ea < eb ? high : low) = ea < eb ? b : a;
  }
  return std::isnan(best) ? kInfinity : std::max(best, 0.0);
}

StatusOr<double> SigmaFor(double epsilon, double delta, double delta2, uint64_t count) {
  if (!(epsilon > 0) || std::isinf(epsilon))
    return InvalidArgument("noise for epsilon: expected a finite epsilon of more than 0, got {}", epsilon);
  if (!(delta > 0) || !(delta < 1))
    return InvalidArgument("noise for epsilon: expected a delta between 0 and 1, got {}", delta);
  if (!(delta2 >= 0) || std::isinf(delta2))
    return InvalidArgument("noise for epsilon: expected a finite sensitivity of at least 0, got {}", delta2);
  if (delta2 == 0 || count == 0) return 0.0;
  // Only the ratio z = σ/Δ₂ matters, and ε falls as z grows.
  const auto epsilon_at = [&](double z) {
    RdpCurve curve;
    (void)curve.Add(RdpTerm{.delta2_squared = 1, .delta1 = 1, .share_variance = z * z, .count = count});
    return EpsilonFor(curve, delta);
  };
  double low = 1e-6, high = 1e-6;
  while (epsilon_at(high) > epsilon) {
    low = high;
    high *= 2;
    if (high > 1e12) return InvalidArgument("noise for epsilon: no noise reaches epsilon {}", epsilon);
  }
  while (high / low > 1 + 1e-10) {
    const double middle = std::sqrt(low * high);
    (epsilon_at(middle) > epsilon ? low : high) = middle;
  }
  return high * delta2;
}

}  // namespace concordat
