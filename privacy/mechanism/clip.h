#ifndef CONCORDAT_PRIVACY_MECHANISM_CLIP_H_
#define CONCORDAT_PRIVACY_MECHANISM_CLIP_H_

#include <span>

#include "common/status.h"

namespace concordat {

/// Euclidean norm of `values`, in f64: squares summed in fixed blocks, block sums pairwise, so that the same
/// input gives the same bits on every machine. Relative error below 1e-13 for up to 2^31 elements. 0 for an
/// empty span. InvalidArgument, with the index and never the value, if one is NaN or infinite. Any thread.
StatusOr<double> L2Norm(std::span<const float> values);

/// Factor in (0, 1] that brings a vector of norm `norm` to at most `bound`: min(1, bound / norm).
/// \param norm at least 0; \param bound more than 0.
double ClipFactor(double norm, double bound);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_CLIP_H_
