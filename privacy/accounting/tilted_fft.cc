#include "privacy/accounting/tilted_fft.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <unsupported/Eigen/FFT>

namespace concordat {
namespace {

// u: half the distance from 1 to the next number.
template <typename Scalar>
constexpr double kUnit = static_cast<double>(std::numeric_limits<Scalar>::epsilon() / 2);

template <typename Scalar>
double TransformError(size_t size) {
  return 8 * kUnit<Scalar> * (std::log2(static_cast<double>(size)) + 4);
}

// Below this a frequency is left out: e^-80 of the whole.
constexpr double kSilent = -80;

}  // namespace

size_t GoodTransformSize(size_t least) {
  size_t size = 64;
  while (size < least) size *= 2;
  for (const size_t better : {size / 8 * 5, size / 4 * 3})
    if (better >= std::max(least, size_t{64})) return better;
  return size;
}

template <typename Scalar>
struct CircularProduct<Scalar>::Transform {
  Transform() { fft.SetFlag(Eigen::FFT<Scalar>::HalfSpectrum); }
  Eigen::FFT<Scalar> fft;
  std::vector<std::complex<Scalar>> spectrum;
  std::vector<Scalar> circle;
};

template <typename Scalar>
CircularProduct<Scalar>::CircularProduct(size_t size)
    : transform_(std::make_unique<Transform>()),
      size_(size),
      log_magnitude_(size / 2 + 1),
      phase_(size / 2 + 1) {
  transform_->spectrum.resize(size / 2 + 1);
  transform_->circle.resize(size);
}
template <typename Scalar>
CircularProduct<Scalar>::~CircularProduct() = default;

template <typename Scalar>
void CircularProduct<Scalar>::Multiply(std::span<const double> p, double total, uint64_t times) {
  auto& [fft, spectrum, circle] = *transform_;
  double square = 0;
  long double rest = 0;
  circle[0] = 0;
  for (size_t i = 1; i < size_; ++i) {
    circle[i] = p[i];
    square += p[i] * p[i];
    rest += p[i];
  }
  fft.fwd(spectrum.data(), circle.data(), static_cast<Eigen::Index>(size_));
  const auto t = static_cast<Scalar>(times), moved = static_cast<Scalar>(rest),
             whole = static_cast<Scalar>(total);
  for (size_t k = 1; k < spectrum.size(); ++k) {
    if (log_magnitude_[k] < kSilent) continue;
    const Scalar re = (spectrum[k].real() - moved) / whole, im = spectrum[k].imag() / whole;
    // ln(1 + z) for a complex z that may be small.
    const Scalar change = 2 * re + re * re + im * im;
    log_magnitude_[k] += change > -1 ? std::min(Scalar{0}, t / 2 * std::log1p(change)) : Scalar{2 * kSilent};
    phase_[k] += t * std::atan2(im, 1 + re);
  }
  const double error = TransformError<Scalar>(size_) * std::sqrt(square) / total,
               steps = static_cast<double>(times);
  forward_error_ += steps * error;
  largest_error_ += steps * error * std::sqrt(static_cast<double>(size_));
  steps_ += steps;
}

template <typename Scalar>
typename CircularProduct<Scalar>::Result CircularProduct<Scalar>::Take() {
  auto& [fft, spectrum, circle] = *transform_;
  spectrum[0] = 1;
  for (size_t k = 1; k < spectrum.size(); ++k)
    spectrum[k] = log_magnitude_[k] < kSilent ? 0 : std::polar(std::exp(log_magnitude_[k]), phase_[k]);
  fft.inv(circle.data(), spectrum.data(), static_cast<Eigen::Index>(size_));
  Result result;
  result.mass.assign(circle.begin(), circle.end());
  double square = 0;
  for (const double v : result.mass) square += v * v;
  const double norm = std::sqrt(square);
  if (!(largest_error_ < 1) || !std::isfinite(norm)) {
    result.error_norm = std::numeric_limits<double>::infinity();
    return result;
  }
  // Logarithm, arc and power: a few units in the last place of a number of at most π, times the steps.
  const double pointwise = 32 * kUnit<Scalar> * (steps_ + 1) + kUnit<double>;
  result.error_norm = forward_error_ * std::exp(largest_error_) +
                      1.01 * norm * (pointwise + TransformError<Scalar>(size_)) + std::exp(kSilent);
  return result;
}

template class CircularProduct<double>;
template class CircularProduct<long double>;

}  // namespace concordat
