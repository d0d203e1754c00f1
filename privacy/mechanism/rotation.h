#ifndef CONCORDAT_PRIVACY_MECHANISM_ROTATION_H_
#define CONCORDAT_PRIVACY_MECHANISM_ROTATION_H_

#include <cstdint>
#include <span>

#include "common/ids.h"

namespace concordat {

/// What the signs of an attempt's rotation come from: H("concordat/v1/rotation", job ‖ round u32 ‖ attempt
/// u32). Public, and the same for every site and the coordinator.
Digest RotationSeed(const AttemptId& id);

/// A randomised Hadamard rotation of d coordinates without padding (docs/decisions/0007-packed-words.md).
///
/// With D = 2^⌊log2 d⌋ and H the Walsh–Hadamard matrix in Sylvester's order: x_0 … x_{D−1} become
/// (1/√D)·H·S·x, then, unless D = d, x_{d−D} … x_{d−1} become the same with fresh signs S'. Both steps are
/// orthonormal, so lengths and distances stay. Signs are bits of AES-256-CTR under the seed: bit e % 8 of
/// byte e / 8 negates coordinate e of the first step when it is 1; the second step's bytes begin at 2^28.
///
/// Why: a coordinate of the result is a sum of ±x_k/√D with independent signs, so it is sub-Gaussian with
/// variance proxy ‖x‖²/D over the signs, whatever x is; for coordinates that both steps touch by the
/// second step's signs alone, since the first left the length. The signs protect nobody. x must not depend
/// on them, and who chooses x or the seed so that a coordinate is large spoils a sum and learns nothing.
///
/// In f32, by additions and subtractions in a fixed order (strides 1, 2, 4 …; backwards in Undo), and one
/// multiplication by 1/√D: first in Apply, last in Undo. The same input gives the same bits on every machine
/// and for any number of threads. No memory of the vector's size. Any thread.
class Rotation {
 public:
  /// \param elements d, from 1 to 2^31
  Rotation(const Digest& seed, uint64_t elements);

  /// \param x d numbers, in place; finite, with ‖x‖ below 1e30
  /// \param threads how many to use; 0: one for each core, up to 16
  void Apply(std::span<float> x, unsigned threads = 0) const;
  /// Undoes Apply but for rounding.
  void Undo(std::span<float> x, unsigned threads = 0) const;

  /// D.
  uint64_t block() const { return block_; }
  /// Bound on ‖computed − exact‖ / ‖x‖ of Apply for `elements` coordinates: each stage rounds each number
  /// once, by 2^-24 of itself; so do the scaling, its constant, and the caller's rounding to f32.
  static double ErrorBound(uint64_t elements);

 private:
  Digest seed_;
  uint64_t elements_ = 0;
  uint64_t block_ = 0;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_ROTATION_H_
