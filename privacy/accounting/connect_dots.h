#ifndef CONCORDAT_PRIVACY_ACCOUNTING_CONNECT_DOTS_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_CONNECT_DOTS_H_

#include <cstdint>
#include <span>

#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// How one step is laid on the grid.
struct DotsPlan {
  double spacing = 0;         // h, with at most 21 significant bits: index·h is exact below 2^32
  double theta = 0;           // tilt
  double log_moment = 0;      // about ln E[e^{θℓ}]; what is stored is divided by its exponential
  double tail_theta = 0;      // s > 0: E[e^{(θ+s)ℓ}] is wanted too
  double log_mass_below = 0;  // at most e^{−this} of P is moved up to the lowest loss
  double log_mass_above = 0;  // at most e^{−this} of P goes to infinity
};

struct Dots {
  double total = 0;        // Σ of what was stored
  double tail_moment = 0;  // Σ stored·e^{sL}
  double split = 0;        // Σ stored·u(h−u)/2 before the split: half the variance that splitting adds
  double infinite = 0;     // bound on the mass at infinity
};

/// Lays one step's loss distribution on the grid {i·h}, tilted, and adds it to `circle` at i mod its size.
///
/// Connect the dots (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv 2207.04380): an atom of P at
/// loss ℓ between two grid points L, L+h, u = ℓ − L, is shared out among the two so that both its mass under
/// P and under Q stay: the upper gets (1−e^{−u})/(1−e^{−h}). As a function of e^ε the hockey-stick curve of
/// the result is the chord of the exact one between grid points: convex, so never below it, and it is the
/// least that a grid can hold. The result dominates the step, hence its composition the composition.
///
/// Integrals over the preimage of a cell are Gauss–Legendre sums with 2 to 8 nodes, chosen by how much the
/// integrand can vary there, relative error below 1e-13. ℓ is moved up by its rounding before it is placed.
/// Every stored mass has a relative error below kMassError, for which the caller pays.
Dots ConnectDots(const StepLoss& loss, const DotsPlan& plan, std::span<double> circle);

/// Relative error of one stored mass, quadrature and rounding together: the exponential of a number of
/// absolute size up to 1000 has lost ten bits of 52.
inline constexpr double kMassError = 0x1p-40;

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_CONNECT_DOTS_H_
