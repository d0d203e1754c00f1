#ifndef CONCORDAT_PRIVACY_ACCOUNTING_TILTED_FFT_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_TILTED_FFT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace concordat {

/// The least fast transform size that is at least `least`.
size_t GoodTransformSize(size_t least);

/// Powers and products of probability vectors on a circle of `size` points, by the real Fourier transform,
/// with a bound on everything that rounding may have done.
///
/// The vectors are meant to be tilted already (multiplied by e^{θℓ} and normalised), so that the place of
/// interest holds a good share of the mass: the transform's rounding is relative to the whole, about 1e-15
/// of it, and would drown an untilted tail.
///
/// **Bound.** The discrete Fourier transform of n points has a relative error in the Euclidean norm of at
/// most 6.7·u·log2(n), u = 2^-53 for double (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
/// Theorem 24.2, with accurate twiddle factors); 8·u·(log2(n) + 4) is used for the real transform. Entry 0 is
/// kept out of the transform and put back exactly, φ_k = 1 + Σ_{j≠0} p_j (ω^{jk} − 1), so that a step that
/// mostly does nothing (small q) adds an error in proportion to what it does. A relative error x of φ
/// becomes (1+x)^T − 1 <= Tx·e^{Tx} of φ^T, |φ| <= 1.
/// \tparam Scalar double, or long double for a million steps and more: on x86-64 eleven bits and eight times
/// the time
template <typename Scalar>
class CircularProduct {
 public:
  /// \param size a value of GoodTransformSize
  explicit CircularProduct(size_t size);
  ~CircularProduct();

  /// Multiplies the product by the `times`-th power of p/Σp. One forward transform.
  /// \param p `size` numbers of at least 0 \param total Σp
  void Multiply(std::span<const double> p, double total, uint64_t times);

  struct Result {
    std::vector<double> mass;  // may be below 0 by rounding
    /// Euclidean norm of what `mass` may differ from the exact product by; infinity when too many steps make
    /// the bound worthless.
    double error_norm = 0;
  };
  /// The product. One inverse transform; nothing may be called after it.
  Result Take();

 private:
  struct Transform;
  std::unique_ptr<Transform> transform_;
  size_t size_;
  std::vector<Scalar> log_magnitude_, phase_;  // of the first half of the spectrum
  double forward_error_ = 0;                   // Σ T·‖error of φ‖, times 1/√size
  double largest_error_ = 0;                   // Σ T·max error of φ
  double steps_ = 0;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_TILTED_FFT_H_
