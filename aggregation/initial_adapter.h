#ifndef CONCORDAT_AGGREGATION_INITIAL_ADAPTER_H_
#define CONCORDAT_AGGREGATION_INITIAL_ADAPTER_H_

#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/bytes.h"

namespace concordat {

/// The adapter of round 0, from a public seed, so that every region can make and compare it. What it adds to
/// the model is zero:
///   FedIT  A uniform in (−1/√in, 1/√in): what PEFT's kaiming_uniform(a = √5) gives; B = 0
///   FFA    A with orthonormal rows divided by √3: the row norm that FedIT's A has on average; B = 0
///   core   A as FFA's, B with orthonormal columns times √(out/rank); R = 0. With this length the gradient of
///          R is as long, on average, as that of FFA's B under the same A (B keeps rank of out dimensions),
///          and an optimizer's step of the same size on each element moves W as far: clips and learning rates
///          mean what they mean for FFA of that rank
/// Randomness: AES-256-CTR under the seed, one range of 8 bytes an element at the tensor's place in the
/// layout (core's B by columns). Bit-identical everywhere: integers, and IEEE f64 + − × ÷ √ in a fixed order
/// (modified Gram–Schmidt, twice, dot products in eight fixed lanes); a library's QR is not, its order of
/// sums depends on compiler flags. InvalidArgument when FFA's rank exceeds an input width.
StatusOr<std::vector<float>> InitialAdapter(const AdapterLayout& layout, const Digest& seed);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_INITIAL_ADAPTER_H_
