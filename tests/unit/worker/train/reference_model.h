#ifndef CONCORDAT_TESTS_UNIT_WORKER_TRAIN_REFERENCE_MODEL_H_
#define CONCORDAT_TESTS_UNIT_WORKER_TRAIN_REFERENCE_MODEL_H_

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "tests/unit/worker/train/random_model.h"

namespace concordat::train {

/// A RandomModel with its adapter in the most obvious ATen operations, under autograd in f64.
class Reference {
 public:
  Reference(const RandomModel& source, const AdapterLayout& layout, std::span<const float> adapter)
      : source_(source), layout_(layout) {
    for (const AdapterTensor& t : layout.tensors()) {
      std::vector<float> values(adapter.begin() + static_cast<int64_t>(t.offset),
                                adapter.begin() + static_cast<int64_t>(t.offset + t.elements()));
      factors_[t.PeftName()] = torch::tensor(values)
                                   .to(torch::kDouble)
                                   .view({static_cast<int64_t>(t.rows), static_cast<int64_t>(t.cols)});
      factors_[t.PeftName()].requires_grad_(true);
    }
  }

  /// Sum of the targets' losses.
  torch::Tensor Loss(const Sequence& sequence) {
    const torch::Tensor ids =
        torch::tensor(std::vector<int64_t>(sequence.tokens.begin(), sequence.tokens.end()));
    const torch::Tensor log_p = torch::log_softmax(Logits(ids), -1);
    torch::Tensor loss = torch::zeros({}, torch::kDouble);
    for (size_t i = 1; i < sequence.tokens.size(); ++i) {
      if (sequence.target[i] != 0) loss = loss - log_p[static_cast<int64_t>(i) - 1][sequence.tokens[i]];
    }
    return loss;
  }

  torch::Tensor Logits(const torch::Tensor& ids) {
    const ModelShape& s = source_.config().shape;
    const int64_t tokens = ids.size(0);
    torch::Tensor x = Weight("model.embed_tokens.weight").index_select(0, ids);
    for (uint32_t layer = 0; layer < s.layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      torch::Tensor h = Norm(x, prefix + "input_layernorm.weight");
      const auto heads = [&](LoraTarget target, int64_t count) {
        return Linear(h, layer, target).view({tokens, count, s.head_dim}).transpose(0, 1);
      };
      const torch::Tensor q = Rotate(heads(LoraTarget::kQ, s.heads));
      const torch::Tensor k =
          Rotate(heads(LoraTarget::kK, s.kv_heads)).repeat_interleave(s.heads / s.kv_heads, 0);
      const torch::Tensor v = heads(LoraTarget::kV, s.kv_heads).repeat_interleave(s.heads / s.kv_heads, 0);
      torch::Tensor scores = torch::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(s.head_dim));
      scores = scores.masked_fill(torch::ones({tokens, tokens}, torch::kBool).triu(1), -INFINITY);
      h = torch::matmul(torch::softmax(scores, -1), v).transpose(0, 1).reshape({tokens, -1});
      x = x + Linear(h, layer, LoraTarget::kO);
      h = Norm(x, prefix + "post_attention_layernorm.weight");
      const torch::Tensor inner =
          torch::silu(Linear(h, layer, LoraTarget::kGate)) * Linear(h, layer, LoraTarget::kUp);
      x = x + Linear(inner, layer, LoraTarget::kDown);
    }
    const bool tied = source_.config().tied_embeddings;
    return torch::matmul(Norm(x, "model.norm.weight"),
                         Weight(tied ? "model.embed_tokens.weight" : "lm_head.weight").t());
  }

  /// Gradient of a tensor after backward().
  torch::Tensor Gradient(const AdapterTensor& t) const { return factors_.at(t.PeftName()).grad(); }

 private:
  torch::Tensor Weight(const std::string& name) {
    torch::Tensor& w = weights_[name];
    if (!w.defined()) {
      const auto shape = source_.Shape(name).value();
      std::vector<float> values(shape.first * shape.second);
      EXPECT_TRUE(source_.Read(name, 0, values).ok());
      w = torch::tensor(values)
              .to(torch::kDouble)
              .view({static_cast<int64_t>(shape.first), static_cast<int64_t>(shape.second)});
    }
    return w;
  }
  torch::Tensor Norm(const torch::Tensor& x, const std::string& name) {
    return x * torch::rsqrt(x.square().mean(-1, true) + source_.config().rms_norm_eps) * Weight(name);
  }
  torch::Tensor Linear(const torch::Tensor& x, uint32_t layer, LoraTarget target) {
    const std::string module =
        "model.layers." + std::to_string(layer) + "." + std::string(LoraTargetModule(target));
    torch::Tensor y = torch::matmul(x, Weight(module + ".weight").t());
    const std::string peft = "base_model.model." + module;
    if (const auto a = factors_.find(peft + ".lora_A.weight"); a != factors_.end()) {
      torch::Tensor b = factors_.at(peft + ".lora_B.weight");
      const auto r = factors_.find(peft + ".lora_R.weight");
      if (r != factors_.end()) b = torch::matmul(b, r->second);
      y = y + layout_.spec().scale() * torch::matmul(torch::matmul(x, a->second.t()), b.t());
    }
    return y;
  }
  torch::Tensor Rotate(const torch::Tensor& x) {
    const int64_t half = x.size(2) / 2;
    const torch::Tensor i = torch::arange(half, torch::kDouble);
    const torch::Tensor frequency = torch::pow(source_.config().rope_theta, -i / static_cast<double>(half));
    const torch::Tensor angle = torch::outer(torch::arange(x.size(1), torch::kDouble), frequency);
    const torch::Tensor a = x.narrow(2, 0, half);
    const torch::Tensor b = x.narrow(2, half, half);
    return torch::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, 2);
  }

  const RandomModel& source_;
  const AdapterLayout& layout_;
  std::map<std::string, torch::Tensor> weights_, factors_;
};

}  // namespace concordat::train

#endif  // CONCORDAT_TESTS_UNIT_WORKER_TRAIN_REFERENCE_MODEL_H_
