#include <ATen/native/CPUBlas.h>

#include <cstring>

#include "worker/train/attention.h"
#include "worker/train/cpu_kernels.h"
#include "worker/train/torch_pch.h"

// Attention on a CPU in bf16. Every product is ATen's brgemm: bf16 factors, f32 result, the right factor
// packed by two rows. All blocks are full, of one size for a sequence (Blocks): rows past the sequence's
// end are computed on whatever the buffers hold there and never written, so that the products have few shapes
// (each new shape is compiled at run time). In the backward pass keys are rows and queries columns: then only
// the small dQ needs a transposition, never a matrix of scores.
namespace concordat::train {
namespace {

using at::native::cpublas::brgemm;
using cpu::Bf16;

const at::BFloat16* Plain(const Bf16* p) { return reinterpret_cast<const at::BFloat16*>(p); }

Bf16* Data(const at::Tensor& t) { return static_cast<Bf16*>(t.data_ptr()); }
float* Floats(const at::Tensor& t) { return static_cast<float*>(t.data_ptr()); }

constexpr int64_t kBlock = Attention::kBlock;
constexpr int64_t kShortBlock = 64;  // of sequences no longer than it: a quarter of a full block's scores
constexpr int64_t kKeyPanel = 64;    // columns of a packed right factor whose columns are tokens

/// A sequence's blocks: a function of its own length alone, whatever was read before it.
struct Blocks {
  explicit Blocks(int64_t tokens)
      : size(tokens <= kShortBlock ? kShortBlock : kBlock), count((tokens + size - 1) / size) {}
  int64_t padded() const { return count * size; }
  int64_t size, count;
};

/// Bytes of one thread's scratch: forward and backward take turns.
int64_t ScratchBytes(int64_t capacity, int64_t head_dim) {
  const int64_t forward = kBlock * ((capacity + 16) * 4 + (capacity + 32) * 2 + head_dim * 4 + 8);
  const int64_t backward = kBlock * (kBlock * (4 + 4 + 2 + 2 + 2) + head_dim * 8);
  return (std::max(forward, backward) + 4095) / 4096 * 4096;
}

/// Whether this build of LibTorch has the product for bf16 on this CPU.
bool BrgemmWorks() {
  try {
    alignas(64) at::BFloat16 a[16 * 32] = {};
    alignas(64) at::BFloat16 b[32 * 16] = {};
    alignas(64) float c[16 * 16];
    brgemm(16, 16, 32, 32, 16, 16, false, a, b, c);
    at::native::cpublas::brgemm_release();
    return true;
  } catch (const std::exception&) {  // c10's where it was left out, oneDNN's own where the CPU is held back
    return false;
  }
}

}  // namespace

void Attention::AllocateBrgemm(int64_t max_tokens) {
  for (const int64_t panel : {64, 48, 32, 16}) {
    if (panel_ == 0 && head_dim_ % panel == 0) panel_ = panel;
  }
  if (panel_ == 0 || !BrgemmWorks()) return;
  way_ = Way::kBrgemm;
  const int64_t threads = at::get_num_threads();
  const int64_t blocks = PaddedRows(max_tokens) / kBlock;
  // Enough equal tasks for the threads: key blocks of a kv head are dealt to `splits_` tasks.
  while (splits_ < std::min<int64_t>(blocks, 8) && (kv_heads_ * splits_) % threads != 0) ++splits_;
  const auto half = at::TensorOptions().dtype(at::kBFloat16);
  const auto wide = at::TensorOptions().dtype(at::kFloat);
  for (at::Tensor* t : {&k_transposed_pairs_, &v_pairs_, &k_transposed_}) {
    *t = at::zeros({kv_heads_, capacity_ * head_dim_}, half);
  }
  for (at::Tensor* t : {&q_pairs_, &q_transposed_pairs_, &dout_pairs_, &dout_transposed_pairs_}) {
    *t = at::zeros({heads_, capacity_ * head_dim_}, half);
  }
  delta_ = at::zeros({heads_, capacity_}, wide);
  dq_transposed_ = at::zeros({splits_, heads_, head_dim_, capacity_}, wide);
  scratch_ = at::zeros({threads, ScratchBytes(capacity_, head_dim_)}, at::TensorOptions().dtype(at::kByte));
}

void Attention::ForwardBrgemm(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved) {
  const int64_t d = head_dim_;
  const int64_t ld = qkv.stride(0);
  const Blocks all(tokens);
  const int64_t block = all.size, blocks = all.count, padded = all.padded();
  const Bf16* k = Data(qkv) + heads_ * d;
  const Bf16* v = k + kv_heads_ * d;
  at::parallel_for(0, kv_heads_ * 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t g = i / 2;
      const int64_t slab = g * capacity_ * d;
      if (i % 2 == 0) {
        cpu::PackPairsTransposed(k + g * d, ld, tokens, Data(k_transposed_pairs_) + slab, padded, d,
                                 kKeyPanel);
      } else {
        cpu::PackPairs(v + g * d, ld, tokens, Data(v_pairs_) + slab, padded, d, panel_);
      }
    }
  });
  const int64_t lds =
      capacity_ + 16;  // not a power of two, or rows of a block fight for the same cache lines
  const int64_t ldp = capacity_ + 32;
  at::parallel_for(0, heads_ * blocks, 1, [&](int64_t begin, int64_t end) {
    auto* scratch = static_cast<uint8_t*>(scratch_.data_ptr()) + at::get_thread_num() * scratch_.size(1);
    auto* scores = reinterpret_cast<float*>(scratch);
    float* sums = scores + block * lds;
    float* inverse = sums + block * d;
    auto* p = reinterpret_cast<Bf16*>(inverse + block);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t h = task / blocks;
      const int64_t first = task % blocks * block;
      const int64_t seen = first + block;
      const int64_t valid = std::min(block, tokens - first);
      const int64_t slab = h / (heads_ / kv_heads_) * capacity_ * d;
      const Bf16* q = Data(qkv) + first * ld + h * d;
      for (int64_t c = 0; c < seen; c += kKeyPanel) {
        brgemm(block, kKeyPanel, d, ld, kKeyPanel, lds, false, Plain(q),
               Plain(Data(k_transposed_pairs_) + slab + c * d), scores + c);
      }
      float* lse = Floats(saved.log_sum_exp) + h * capacity_ + first;
      cpu::SoftmaxBlock(scores, lds, static_cast<float>(scale_), p, ldp, lse, inverse, first, valid, seen);
      // A query that does not exist has weight exp(s − lse) = 0 in the backward pass.
      std::fill(lse + valid, lse + block, 1e30F);
      for (int64_t c = 0; c < d; c += panel_) {
        brgemm(block, panel_, seen, ldp, panel_, d, false, Plain(p),
               Plain(Data(v_pairs_) + slab + c * padded), sums + c);
      }
      cpu::ScaleRows(sums, d, inverse, Data(out) + first * out.stride(0) + h * d, out.stride(0), valid, d);
    }
    at::native::cpublas::brgemm_release();
  });
}

void Attention::PackForBackward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                                const at::Tensor& dout) {
  const int64_t d = head_dim_;
  const int64_t ld = qkv.stride(0);
  const int64_t ldo = dout.stride(0);
  const int64_t padded = Blocks(tokens).padded();
  at::parallel_for(0, heads_ + kv_heads_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i >= heads_) {
        const int64_t g = i - heads_;
        cpu::Transpose(Data(qkv) + (heads_ + g) * d, ld, tokens, Data(k_transposed_) + g * capacity_ * d,
                       padded, d);
        continue;
      }
      const int64_t slab = i * capacity_ * d;
      const Bf16* q = Data(qkv) + i * d;
      const Bf16* g = Data(dout) + i * d;
      cpu::PackPairs(q, ld, tokens, Data(q_pairs_) + slab, padded, d, panel_);
      cpu::PackPairsTransposed(q, ld, tokens, Data(q_transposed_pairs_) + slab, padded, d, kKeyPanel);
      cpu::PackPairs(g, ldo, tokens, Data(dout_pairs_) + slab, padded, d, panel_);
      cpu::PackPairsTransposed(g, ldo, tokens, Data(dout_transposed_pairs_) + slab, padded, d, kKeyPanel);
      float* delta = Floats(delta_) + i * capacity_;
      cpu::RowDot(g, ldo, Data(out) + i * d, out.stride(0), delta, tokens, d);
      std::fill(delta + tokens, delta + padded, 0.0F);
    }
  });
}

void Attention::BackwardKeys(const at::Tensor& qkv, int64_t tokens, const at::Tensor& log_sum_exp,
                             int64_t group, int64_t split, const at::Tensor& dqkv) {
  const int64_t d = head_dim_;
  const int64_t ld = qkv.stride(0);
  const Blocks all(tokens);
  const int64_t block = all.size, blocks = all.count, padded = all.padded();
  const int64_t per_group = heads_ / kv_heads_;
  auto* scratch = static_cast<uint8_t*>(scratch_.data_ptr()) + at::get_thread_num() * scratch_.size(1);
  auto* s = reinterpret_cast<float*>(scratch);
  float* dp = s + block * block;
  float* dk = dp + block * block;
  float* dv = dk + block * d;
  auto* p = reinterpret_cast<Bf16*>(dv + block * d);
  Bf16* ds = p + block * block;
  Bf16* ds_pairs = ds + block * block;
  const Bf16* k_transposed = Data(k_transposed_) + group * capacity_ * d;
  for (int64_t j = 0; j < blocks; ++j) {
    // Dealt in a zigzag: early key blocks have more queries.
    const int64_t turn = j % (2 * splits_);
    if ((turn < splits_ ? turn : 2 * splits_ - 1 - turn) != split) continue;
    const Bf16* k = Data(qkv) + j * block * ld + (heads_ + group) * d;
    const Bf16* v = k + kv_heads_ * d;
    bool add = false;
    for (int64_t h = group * per_group; h < (group + 1) * per_group; ++h) {
      const int64_t slab = h * capacity_ * d;
      float* dq = Floats(dq_transposed_) + (split * heads_ + h) * d * capacity_;
      for (int64_t i = j; i < blocks; ++i, add = true) {
        const int64_t first = i * block;
        for (int64_t c = 0; c < block; c += kKeyPanel) {
          brgemm(block, kKeyPanel, d, ld, kKeyPanel, block, false, Plain(k),
                 Plain(Data(q_transposed_pairs_) + slab + (first + c) * d), s + c);
          brgemm(block, kKeyPanel, d, ld, kKeyPanel, block, false, Plain(v),
                 Plain(Data(dout_transposed_pairs_) + slab + (first + c) * d), dp + c);
        }
        cpu::SoftmaxBackwardBlock(s, dp, Floats(log_sum_exp) + h * capacity_ + first,
                                  Floats(delta_) + h * capacity_ + first, static_cast<float>(scale_),
                                  (i - j) * block, p, ds, ds_pairs, kKeyPanel, block, block);
        for (int64_t c = 0; c < d; c += panel_) {
          const int64_t at = slab + c * padded + first * panel_;
          brgemm(block, panel_, block, block, panel_, d, add, Plain(p), Plain(Data(dout_pairs_) + at),
                 dv + c);
          brgemm(block, panel_, block, block, panel_, d, add, Plain(ds), Plain(Data(q_pairs_) + at), dk + c);
        }
        for (int64_t c = 0; c < block; c += kKeyPanel) {
          brgemm(d, kKeyPanel, block, padded, kKeyPanel, capacity_, j != split,
                 Plain(k_transposed + j * block), Plain(ds_pairs + c * block), dq + first + c);
        }
      }
    }
    const int64_t valid = std::min(block, tokens - j * block);
    Bf16* to = Data(dqkv) + j * block * dqkv.stride(0) + (heads_ + group) * d;
    cpu::ScaleRows(dk, d, nullptr, to, dqkv.stride(0), valid, d);
    cpu::ScaleRows(dv, d, nullptr, to + kv_heads_ * d, dqkv.stride(0), valid, d);
  }
}

void Attention::BackwardBrgemm(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                               const Saved& saved, const at::Tensor& dout, const at::Tensor& dqkv) {
  PackForBackward(qkv, tokens, out, dout);
  at::parallel_for(0, kv_heads_ * splits_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      BackwardKeys(qkv, tokens, saved.log_sum_exp, task / splits_, task % splits_, dqkv);
    }
    at::native::cpublas::brgemm_release();
  });
  const Blocks all(tokens);
  const int64_t block = all.size, blocks = all.count;
  at::parallel_for(0, heads_ * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t h = task / blocks;
      const int64_t i = task % blocks;
      const int64_t first = i * block;
      // Split s starts at key block s: query blocks before it have nothing from it.
      cpu::SumTransposed(Floats(dq_transposed_) + h * head_dim_ * capacity_ + first, capacity_,
                         std::min(splits_, i + 1), heads_ * head_dim_ * capacity_,
                         Data(dqkv) + first * dqkv.stride(0) + h * head_dim_, dqkv.stride(0),
                         std::min(block, tokens - first), head_dim_);
    }
  });
}

}  // namespace concordat::train
