#include "worker/train/attention.h"

#include <cmath>

#include "worker/train/torch_pch.h"

// The two ways that need nothing but ATen's dispatched operations. attention_brgemm.cc has the third.
namespace concordat::train {

Attention::Attention(const ModelShape& shape, at::ScalarType dtype, at::Device device, int64_t max_tokens,
                     bool kernels)
    : heads_(shape.heads),
      kv_heads_(shape.kv_heads),
      head_dim_(shape.head_dim),
      scale_(1.0 / std::sqrt(static_cast<double>(shape.head_dim))),
      capacity_(PaddedRows(max_tokens)),
      dtype_(dtype),
      device_(device),
      way_(Way::kBlocks) {
  hidden_ = at::ones({kBlock, kBlock}, at::TensorOptions(device).dtype(at::kBool)).triu(1);
  if (device.is_cuda() && dtype == at::kBFloat16 && head_dim_ % 8 == 0 && head_dim_ <= 256)
    way_ = Way::kFlash;
  if (device.is_cpu() && dtype == at::kBFloat16 && kernels) AllocateBrgemm(max_tokens);
}

Attention::Saved Attention::MakeSaved() const {
  Saved saved;
  if (way_ != Way::kFlash) {
    saved.log_sum_exp = at::zeros({heads_, capacity_}, at::TensorOptions(device_).dtype(at::kFloat));
  }
  return saved;
}

void Attention::Forward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, Saved& saved) {
  switch (way_) {
    case Way::kBlocks:
      return ForwardBlocks(qkv, tokens, out, saved);
    case Way::kBrgemm:
      return ForwardBrgemm(qkv, tokens, out, saved);
    case Way::kFlash:
      return ForwardFlash(qkv, tokens, out, saved);
  }
}

void Attention::Backward(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out, const Saved& saved,
                         const at::Tensor& dout, const at::Tensor& dqkv) {
  switch (way_) {
    case Way::kBlocks:
      return BackwardBlocks(qkv, tokens, out, saved, dout, dqkv);
    case Way::kBrgemm:
      return BackwardBrgemm(qkv, tokens, out, saved, dout, dqkv);
    case Way::kFlash:
      return BackwardFlash(qkv, tokens, out, saved, dout, dqkv);
  }
}

at::Tensor Attention::Heads(const at::Tensor& qkv, int64_t tokens, int which) const {
  const int64_t count = which == 0 ? heads_ : kv_heads_;
  const int64_t first = which == 0 ? 0 : (heads_ + (which - 1) * kv_heads_) * head_dim_;
  return qkv.narrow(0, 0, tokens)
      .narrow(1, first, count * head_dim_)
      .view({tokens, count, head_dim_})
      .transpose(0, 1);
}

namespace {

/// Rows [first, first + count) of a heads × T × d view, as K × G·count × d: queries of one kv head together.
at::Tensor Stack(const at::Tensor& heads, int64_t kv_heads, int64_t first, int64_t count) {
  return heads.narrow(1, first, count).reshape({kv_heads, -1, heads.size(2)});
}

}  // namespace

void Attention::ForwardBlocks(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                              Saved& saved) const {
  const at::Tensor q = Heads(qkv, tokens, 0);
  const at::Tensor k = Heads(qkv, tokens, 1).contiguous();
  const at::Tensor v = Heads(qkv, tokens, 2).contiguous();
  const at::Tensor out_heads = out.narrow(0, 0, tokens).view({tokens, heads_, head_dim_}).transpose(0, 1);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t count = std::min(kBlock, tokens - first);
    const int64_t seen = first + count;
    at::Tensor s = at::bmm(Stack(q, kv_heads_, first, count), k.narrow(1, 0, seen).transpose(1, 2))
                       .to(at::kFloat)
                       .mul_(scale_)
                       .view({heads_, count, seen});
    s.narrow(2, first, count)
        .masked_fill_(hidden_.narrow(0, 0, count).narrow(1, 0, count),
                      -std::numeric_limits<float>::infinity());
    const at::Tensor lse = at::logsumexp(s, {-1});
    saved.log_sum_exp.narrow(1, first, count).copy_(lse);
    const at::Tensor p = s.sub_(lse.unsqueeze(-1)).exp_().to(dtype_).view({kv_heads_, -1, seen});
    out_heads.narrow(1, first, count)
        .copy_(at::bmm(p, v.narrow(1, 0, seen)).view({heads_, count, head_dim_}));
  }
}

void Attention::BackwardBlocks(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                               const Saved& saved, const at::Tensor& dout, const at::Tensor& dqkv) const {
  const at::Tensor q = Heads(qkv, tokens, 0);
  const at::Tensor k = Heads(qkv, tokens, 1).contiguous();
  const at::Tensor v = Heads(qkv, tokens, 2).contiguous();
  const auto by_head = [&](const at::Tensor& t) {
    return t.narrow(0, 0, tokens).view({tokens, heads_, head_dim_}).transpose(0, 1);
  };
  const at::Tensor out_heads = by_head(out);
  const at::Tensor dout_heads = by_head(dout);
  at::Tensor dk = at::zeros(k.sizes(), k.options().dtype(at::kFloat));
  at::Tensor dv = at::zeros_like(dk);
  for (int64_t first = 0; first < tokens; first += kBlock) {
    const int64_t count = std::min(kBlock, tokens - first);
    const int64_t seen = first + count;
    const at::Tensor qb = Stack(q, kv_heads_, first, count);
    const at::Tensor db = Stack(dout_heads, kv_heads_, first, count);
    const at::Tensor ob = Stack(out_heads, kv_heads_, first, count);
    const at::Tensor kb = k.narrow(1, 0, seen);
    const at::Tensor vb = v.narrow(1, 0, seen);
    at::Tensor p = at::bmm(qb, kb.transpose(1, 2)).to(at::kFloat).mul_(scale_).view({heads_, count, seen});
    p.sub_(saved.log_sum_exp.narrow(1, first, count).unsqueeze(-1)).exp_();
    p.narrow(2, first, count).masked_fill_(hidden_.narrow(0, 0, count).narrow(1, 0, count), 0);
    p = p.view({kv_heads_, -1, seen});
    const at::Tensor delta = (db.to(at::kFloat) * ob.to(at::kFloat)).sum(-1, /*keepdim=*/true);
    const at::Tensor dp = at::bmm(db, vb.transpose(1, 2)).to(at::kFloat);
    const at::Tensor ds = dp.sub(delta).mul_(p).mul_(scale_).to(dtype_);
    dv.narrow(1, 0, seen).add_(at::bmm(p.to(dtype_).transpose(1, 2), db));
    dk.narrow(1, 0, seen).add_(at::bmm(ds.transpose(1, 2), qb));
    Heads(dqkv, tokens, 0).narrow(1, first, count).copy_(at::bmm(ds, kb).view({heads_, count, head_dim_}));
  }
  Heads(dqkv, tokens, 1).copy_(dk);
  Heads(dqkv, tokens, 2).copy_(dv);
}

void Attention::ForwardFlash(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                             Saved& saved) const {
  // The fused kernel takes fewer kv heads than query heads as they are. It reads rows by 16 bytes, which the
  // ranks behind qkv's columns may not leave room for: hence copies.
  const auto result = at::_scaled_dot_product_flash_attention(
      Heads(qkv, tokens, 0).unsqueeze(0).contiguous(), Heads(qkv, tokens, 1).unsqueeze(0).contiguous(),
      Heads(qkv, tokens, 2).unsqueeze(0).contiguous(), /*dropout_p=*/0.0, /*is_causal=*/true,
      /*return_debug_mask=*/false, scale_);
  out.narrow(0, 0, tokens)
      .view({tokens, heads_, head_dim_})
      .copy_(std::get<0>(result).squeeze(0).transpose(0, 1));
  saved.log_sum_exp = std::get<1>(result);
  saved.seed = std::get<6>(result);
  saved.offset = std::get<7>(result);
}

void Attention::BackwardFlash(const at::Tensor& qkv, int64_t tokens, const at::Tensor& out,
                              const Saved& saved, const at::Tensor& dout, const at::Tensor& dqkv) const {
  const auto by_head = [&](const at::Tensor& t) {
    return t.narrow(0, 0, tokens).view({1, tokens, heads_, head_dim_}).transpose(1, 2);
  };
  const auto grads = at::_scaled_dot_product_flash_attention_backward(
      by_head(dout), Heads(qkv, tokens, 0).unsqueeze(0).contiguous(),
      Heads(qkv, tokens, 1).unsqueeze(0).contiguous(), Heads(qkv, tokens, 2).unsqueeze(0).contiguous(),
      by_head(out), saved.log_sum_exp, /*cum_seq_q=*/at::Tensor(),
      /*cum_seq_k=*/at::Tensor(), tokens, tokens, /*dropout_p=*/0.0, /*is_causal=*/true, saved.seed,
      saved.offset, scale_);
  Heads(dqkv, tokens, 0).copy_(std::get<0>(grads).squeeze(0));
  Heads(dqkv, tokens, 1).copy_(std::get<1>(grads).squeeze(0));
  Heads(dqkv, tokens, 2).copy_(std::get<2>(grads).squeeze(0));
}

}  // namespace concordat::train
