#ifndef CONCORDAT_PRIVACY_ACCOUNTING_PRICE_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_PRICE_H_

#include <vector>

#include "privacy/accounting/privacy_unit.h"
#include "privacy/accounting/rdp.h"
#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// What was released, as far as it costs: releases of integers with discrete Gaussian noise, which RDP
/// prices, and steps over a Poisson-sampled batch with Gaussian noise, which their privacy loss distribution
/// prices. A sum: the order does not matter, equal releases are counted together.
class Price {
 public:
  Price() = default;
  Price(RdpCurve curve) : curve_(std::move(curve)) {}  // NOLINT: a curve is a price

  /// InvalidArgument as RdpCurve::Add.
  Status Add(const RdpTerm& term) { return curve_.Add(term); }
  /// InvalidArgument as CheckStep.
  Status Add(const SubsampledGaussian& steps);
  void Add(const Price& other);
  /// This price `times` times over, or InvalidArgument when that is beyond counting.
  StatusOr<Price> Times(uint64_t times) const;

  const RdpCurve& curve() const { return curve_; }
  const std::vector<SubsampledGaussian>& steps() const { return steps_; }
  /// Different releases.
  size_t size() const { return curve_.terms().size() + steps_.size(); }
  bool empty() const { return size() == 0; }

 private:
  RdpCurve curve_;
  std::vector<SubsampledGaussian> steps_;
};

/// An upper bound on the smallest ε with which all of it together is (ε, δ)-DP: by PLD where it is steps
/// alone (pld.h), by RDP at the best common order otherwise. To zero a unit out of a sampled batch is to
/// remove it. Nothing released: 0. No noise, or δ = 0: infinity.
double EpsilonFor(const Price& price, Neighbour neighbour, double delta);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_PRICE_H_
