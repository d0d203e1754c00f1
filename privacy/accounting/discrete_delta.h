#ifndef CONCORDAT_PRIVACY_ACCOUNTING_DISCRETE_DELTA_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_DISCRETE_DELTA_H_

#include <cstdint>

#include "common/status.h"

namespace concordat {

/// δ(ε) of one integer with discrete Gaussian noise, summed over `shares` equal shares of variance
/// `share_variance`, against the same moved by `shift`: Σ_k max(0, p(k) − e^ε·p(k − shift)) over all
/// integers, by direct summation and, for more than one share, direct convolution, in long double. Both
/// directions are the same. Rounded up: at most 1e-12 of the tail's mass too high.
///
/// For checking arithmetic. One dimension does not price a vector: the number of record for integer noise on
/// vectors is RdpTerm's.
/// InvalidArgument unless 0 < share_variance <= 1e8, 1 <= shares and the sum's support stays below 20,000
/// when shares > 1, 0 <= shift <= 1e6, ε >= 0 and finite.
StatusOr<double> DiscreteGaussianDelta(double share_variance, uint32_t shares, int64_t shift, double epsilon);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_DISCRETE_DELTA_H_
