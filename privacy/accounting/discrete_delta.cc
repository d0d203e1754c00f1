#include "privacy/accounting/discrete_delta.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace concordat {
namespace {

using Mass = std::vector<long double>;

// p(−reach) … p(reach) of the discrete Gaussian; what lies beyond is below 1e-300.
Mass OneShare(double variance) {
  const auto reach = static_cast<int64_t>(std::ceil(38 * std::sqrt(variance))) + 10;
  Mass p(static_cast<size_t>(2 * reach + 1));
  long double total = 0;
  for (int64_t k = -reach; k <= reach; ++k) {
    const auto x = static_cast<long double>(k);
    total += p[static_cast<size_t>(k + reach)] = std::exp(-x * x / (2 * static_cast<long double>(variance)));
  }
  for (long double& v : p) v /= total;
  return p;
}

Mass Convolve(const Mass& a, const Mass& b) {
  Mass out(a.size() + b.size() - 1);
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j) out[i + j] += a[i] * b[j];
  return out;
}

Status Check(double variance, uint32_t shares, int64_t shift, double epsilon) {
  if (!(variance > 0) || !(variance <= 1e8))
    return InvalidArgument("discrete noise: expected a variance of more than 0 and at most 1e8, got {}",
                           variance);
  if (shares == 0) return InvalidArgument("discrete noise: expected at least one share");
  if (shares > 1 && shares * (76 * std::sqrt(variance) + 22) > 20'000)
    return InvalidArgument("discrete noise: the sum of {} shares of variance {} is too wide to convolve",
                           shares, variance);
  if (shift < 0 || shift > 1'000'000)
    return InvalidArgument("discrete noise: expected a shift from 0 to 1000000, got {}", shift);
  if (!(epsilon >= 0) || std::isinf(epsilon))
    return InvalidArgument("discrete noise: expected a finite epsilon of at least 0, got {}", epsilon);
  return OkStatus();
}

}  // namespace

StatusOr<double> DiscreteGaussianDelta(double share_variance, uint32_t shares, int64_t shift,
                                       double epsilon) {
  RETURN_IF_ERROR(Check(share_variance, shares, shift, epsilon));
  if (shift == 0) return 0.0;
  const Mass one = OneShare(share_variance);
  Mass sum = one;
  for (uint32_t n = 1; n < shares; ++n) sum = Convolve(sum, one);
  const long double factor = std::exp(static_cast<long double>(epsilon));
  long double delta = 0, compared = 0;
  for (size_t k = 0; k < sum.size(); ++k) {
    // p moved up by the shift, against p.
    const size_t from = k + static_cast<size_t>(shift);
    const long double other = from < sum.size() ? factor * sum[from] : 0;
    if (sum[k] <= other) continue;
    delta += sum[k] - other;
    compared += sum[k];
  }
  return std::min(1.0, static_cast<double>(delta + compared * 1e-13L) * (1 + 0x1p-50) + 1e-300);
}

}  // namespace concordat
