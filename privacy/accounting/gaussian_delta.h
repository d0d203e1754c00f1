#ifndef CONCORDAT_PRIVACY_ACCOUNTING_GAUSSIAN_DELTA_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_GAUSSIAN_DELTA_H_

namespace concordat {

/// δ(ε) = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ) of N(μ,1) against N(0,1): one release of the continuous Gaussian
/// mechanism with sensitivity over standard deviation μ, or several with μ² = Σ μ_i² (Balle and Wang 2018,
/// arXiv 1805.06530, Theorem 8; Dong, Roth, Su 2019, arXiv 1905.02383). Rounded up: at most 1e-13 relative
/// too high while μ >= 1e-3, 1e-15/μ below. \param mu > 0, finite \param epsilon >= 0
double GaussianDelta(double mu, double epsilon);

/// The ε of that δ, rounded up; 0 when δ(0) <= delta. \param mu > 0, finite \param delta > 0
double GaussianEpsilon(double mu, double delta);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_GAUSSIAN_DELTA_H_
