#ifndef CONCORDAT_PRIVACY_ACCOUNTING_RDP_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_RDP_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "common/status.h"
#include "common/units.h"

namespace concordat {

/// A release of an integer vector with discrete Gaussian noise on every coordinate, summed over N equal
/// shares of variance σ_s².
///
/// N = 1: RDP(α) = αΔ₂²/(2σ²), exact (Canonne, Kamath, Steinke 2020, arXiv 2004.00010, Proposition 5).
/// N > 1 (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, section 4): σ² = Nσ_s²,
/// τ = 10·Σ_{k=1}^{N−1} exp(−2π²σ_s²·k/(k+1)), and RDP(α) = min{ αΔ₂²/(2σ²) + τd ;
/// (α/2)(Δ₂²/σ² + 2Δ₁τ/σ + τ²d) ; (α/2)(Δ₂/σ + √d·τ)² }. A continuous Gaussian is N = 1 as well.
/// Every value is an upper bound on the privacy loss, never below it.
struct RdpTerm {
  double delta2_squared = 0;  // Δ₂²
  double delta1 = 0;          // Δ₁, used when shares > 1
  double share_variance = 0;  // σ_s²; 0 means no noise: infinite loss unless Δ₂ = 0
  uint32_t shares = 1;        // N
  uint64_t dimension = 1;     // d, used when shares > 1
  uint64_t count = 1;         // how many such releases are composed
  /// At order `alpha` > 1.
  double Rdp(double alpha) const;
  bool operator==(const RdpTerm&) const = default;
};

/// Renyi privacy loss of several releases as a function of the order: terms add.
class RdpCurve {
 public:
  RdpCurve() = default;
  /// InvalidArgument: a negative or NaN number, no share, no dimension; several shares with σ_s < 1/2, for
  /// which the bound on sums says nothing.
  Status Add(const RdpTerm& term);
  /// Adds all of `other`.
  void Add(const RdpCurve& other);
  double Rdp(double alpha) const;
  const std::vector<RdpTerm>& terms() const { return terms_; }
  bool empty() const { return terms_.empty(); }

 private:
  std::vector<RdpTerm> terms_;
};

/// Smallest ε over real orders α > 1 such that the composition is (ε, δ)-DP: ε = RDP(α) + ln(1−1/α) −
/// ln(αδ)/(α−1) (Canonne, Kamath, Steinke 2020, Proposition 12), at least 0. The minimum is searched on a
/// grid of ln(α−1) and refined by golden section; whatever order it ends at, the value is a valid upper
/// bound. No release, or none with sensitivity: 0. σ = 0 or δ = 0: infinity. No exception for any of them.
double EpsilonFor(const RdpCurve& curve, double delta);
/// The same for any Rényi privacy loss, a function of real orders above 1.
double EpsilonFor(const std::function<double(double alpha)>& rdp, double delta);

/// Smallest noise standard deviation (relative error 1e-9, rounded up) with which `count` releases of L2
/// sensitivity `delta2` are (ε, δ)-DP. InvalidArgument unless 0 < ε < ∞ and 0 < δ < 1; 0 when nothing is
/// released or the sensitivity is 0.
StatusOr<double> SigmaFor(double epsilon, double delta, double delta2, uint64_t count);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_RDP_H_
