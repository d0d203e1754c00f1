#ifndef CONCORDAT_WORKER_TRAIN_ATTENTION_H_
#define CONCORDAT_WORKER_TRAIN_ATTENTION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "aggregation/adapter_layout.h"

namespace concordat::train {

/// Causal grouped-query attention over one sequence, forward and backward, three ways:
///   kBlocks   blocks of 128 queries, products by at::bmm, softmax in f32: any device, any type
///   kBrgemm   CPU, bf16: products by ATen's batch-reduce GEMM (bf16 in, f32 out: AMX or AVX512-BF16),
///             softmax by our kernels, scores never rounded (FlashAttention's recomputation, Dao et al. 2022)
///   kFlash    CUDA, bf16: ATen's fused kernel
///
/// Legend: T tokens, H query heads, K kv heads, G = H/K, d head width, P = T rounded up to kBlock. Query head
/// h reads kv head h/G. `qkv` is a matrix with columns [H·d | K·d | K·d | …] and room for P rows.
class Attention {
 public:
  enum class Way : uint8_t { kBlocks, kBrgemm, kFlash };
  static constexpr int64_t kBlock = 128;

  /// What a layer's backward pass needs from its forward pass.
  struct Saved {
    at::Tensor log_sum_exp;  // H × P capacity, f32 (kFlash: as the kernel gives it)
    at::Tensor seed;         // kFlash only
    at::Tensor offset;       // kFlash only
  };

  /// \param max_tokens the longest sequence. \param kernels whether kernels of our own may be used.
  Attention(const ModelShape& shape, at::ScalarType dtype, at::Device device, int64_t max_tokens,
            bool kernels);

  Way way() const { return way_; }
  /// `tokens` rounded up to whole blocks: rows that buffers given to this class must have.
  static int64_t PaddedRows(int64_t tokens) { return (tokens + kBlock - 1) / kBlock * kBlock; }
  Saved MakeSaved() const;

  /// out (T × H·d) from qkv after rotation.
  void Forward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved);
  /// dqkv's first (H+2K)·d columns from dout.
  void Backward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const Saved& saved,
                const at::Tensor& dout, const at::Tensor& dqkv);

 private:
  void ForwardBlocks(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved) const;
  void BackwardBlocks(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const Saved& saved,
                      const at::Tensor& dout, const at::Tensor& dqkv) const;
  void ForwardFlash(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved) const;
  void BackwardFlash(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const Saved& saved,
                     const at::Tensor& dout, const at::Tensor& dqkv) const;
  void AllocateBrgemm(int64_t max_tokens);
  void ForwardBrgemm(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved);
  void BackwardBrgemm(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const Saved& saved,
                      const at::Tensor& dout, const at::Tensor& dqkv);
  void PackForBackward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const at::Tensor& dout);
  void BackwardKeys(const at::Tensor& qkv, int64_t tokens, const at::Tensor& log_sum_exp, int64_t group,
                    int64_t split, const at::Tensor& dqkv);
  /// q, k or v (which 0, 1, 2) as heads × T × d.
  at::Tensor Heads(const at::Tensor& qkv, int64_t tokens, int which) const;

  int64_t heads_, kv_heads_, head_dim_;
  double scale_;
  int64_t capacity_;  // P of max_tokens
  int64_t panel_ = 0;
  int64_t splits_ = 1;
  at::ScalarType dtype_;
  at::Device device_;
  Way way_;
  at::Tensor hidden_;  // kBlock × kBlock, true where the key is after the query
  // Right factors in the order that the bf16 dot product wants, one slab a head.
  at::Tensor k_transposed_pairs_, v_pairs_, k_transposed_;
  at::Tensor q_pairs_, q_transposed_pairs_, dout_pairs_, dout_transposed_pairs_;
  at::Tensor delta_;          // H × P
  at::Tensor dq_transposed_;  // splits × H × d × P, f32
  at::Tensor scratch_;        // one slice a thread, bytes
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_ATTENTION_H_
