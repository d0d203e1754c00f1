#ifndef CONCORDAT_WORKER_TRAIN_OPS_H_
#define CONCORDAT_WORKER_TRAIN_OPS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace concordat::train {

/// The elementwise passes of a decoder, on any device: a kernel of our own where `kernels` is set (CPU with
/// AVX-512 BF16), ATen operations otherwise. Both compute in f32 and round once on writing. Results go to
/// tensors that the caller owns; matrices are row-major with unit column stride and any leading dimension.
/// T: tokens, D: width, F: inner width of the MLP, V: vocabulary.
struct Ops {
  bool kernels = false;

  /// out (T×D) = x · rstd · weight; rstd (T, f32). weight: D, f32.
  void RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, const at::Tensor& out,
               const at::Tensor& rstd) const;
  /// dx += the norm's gradient for dy; normed = the norm's output again.
  void RmsNormBackward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                       const at::Tensor& dy, const at::Tensor& dx, const at::Tensor& normed) const;
  /// Rotates x (T × heads·head_dim) in place; cosine, sine: T × head_dim/2, f32. inverse: the gradient.
  void Rope(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine, int64_t head_dim,
            bool inverse) const;
  /// out (T×F) = silu(gate)·up, gate_up: T×2F.
  void SwiGlu(const at::Tensor& gate_up, const at::Tensor& out) const;
  /// d_gate_up (T×2F) from dout (T×F), and out again.
  void SwiGluBackward(const at::Tensor& gate_up, const at::Tensor& dout, const at::Tensor& d_gate_up,
                      const at::Tensor& out) const;
  /// Per row of logits (n×V): log-likelihood of target (n, int64) into log_likelihood (n, f32), whether it is
  /// the first of the largest into correct (n, uint8); with gradient, logits := softmax − onehot.
  void CrossEntropy(const at::Tensor& logits, const at::Tensor& target, const at::Tensor& log_likelihood,
                    const at::Tensor& correct, bool gradient) const;
  /// out = a + b.
  void Add(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out) const;
  /// sum (f32) += alpha · x.
  void Accumulate(const at::Tensor& x, double alpha, const at::Tensor& sum) const;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_OPS_H_
