#ifndef CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_RDP_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_RDP_H_

#include <span>

#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// Rényi divergence of order `alpha` of one Poisson-subsampled Gaussian step, add/remove.
///
/// q = 1: α/(2σ²). Integer α (Mironov, Talwar, Zhang 2019, arXiv 1908.10530, section 3.3):
/// (1/(α−1))·ln Σ_k C(α,k)(1−q)^{α−k} q^k e^{(k²−k)/(2σ²)}. Real α: their two series, each term with the sign
/// that C(α,k) has past k = α+1. Where they cancel or give little more than 1, a trapezoid sum of
/// E_Q[(1+w)^α − 1 − αw], w = P/Q − 1. At real α past 300 the chord between the neighbouring integers, above
/// the exact value because (α−1)·RDP(α) is convex; at α past 4096 that of q = 1. The larger of both
/// directions is the one that has the mixture first (same paper, Theorem 5), so this prices both. Relative
/// error below 1e-9 in either direction, and no more: a cross-check, not a number of record. \param alpha > 1
/// \param q 0 to 1 \param sigma >= 0; 0 gives infinity unless q = 0
double SubsampledGaussianRdp(double q, double sigma, double alpha);

/// Σ over `steps` of the divergence at `alpha`. Under replace-one σ is halved, which doubles the distance of
/// the pair: (1−q)N(−1) + qN(1) against N(−1) dominates the pair of ReplaceOne (q·H(N(1), N(−1)) bounds its
/// hockey stick by advanced joint convexity; Balle, Barthe, Gaboardi 2018, arXiv 1807.01647, Theorem 2).
template <typename Relation>
double ComposedRdp(std::span<const SubsampledGaussian> steps, double alpha);

/// ε = RDP(α) + ln(1−1/α) − ln(αδ)/(α−1), least over real α > 1: the cross-check of the PLD accountant,
/// never lower than it. 0 without a step that does something, infinity for σ = 0 or δ <= 0.
template <typename Relation>
double RdpEpsilon(std::span<const SubsampledGaussian> steps, double delta);

/// The δ for which that is the ε: ln δ = (α−1)(RDP(α) − ε + ln(1−1/α)) − ln α, least over real α. At most 1.
template <typename Relation>
double RdpDelta(std::span<const SubsampledGaussian> steps, double epsilon);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_RDP_H_
