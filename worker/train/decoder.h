#ifndef CONCORDAT_WORKER_TRAIN_DECODER_H_
#define CONCORDAT_WORKER_TRAIN_DECODER_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "worker/model/weight_source.h"
#include "worker/train/attention.h"
#include "worker/train/ops.h"

namespace concordat::train {

/// Linear layers that read the same input, as one matrix, with their LoRA factors folded in.
///
/// w is (out + R) × in: the frozen rows, then the A factors of the adapted members, R rows in all. One
/// product x·wᵀ = [y0 | u] thus gives u = x·Aᵀ too, and dx = [dy | du]·w adds A's share of the gradient. b
/// (out × R) holds s·B of each member on a block diagonal, so y = y0 + u·bᵀ and du = dy·b, in one product
/// each.
///
/// With method core, r (R × R) holds the members' R on a block diagonal, between u and b: y = y0 + (u·rᵀ)·bᵀ
/// and, by way of v = dy·b, du = v·r; the gradients of the members' R are the diagonal blocks of vᵀ·u.
/// Nothing as large as B is ever made. Undefined otherwise.
struct LinearGroup {
  /// View of the flat masters (f32), and of their gradients: undefined where not trained.
  struct Factor {
    at::Tensor value, gradient;
  };
  struct Member {
    int64_t first_out = 0, outs = 0;  // rows of w
    int64_t first_rank = -1;          // row of w after `out`, column of b; -1: not adapted
    Factor a, b, r;
    Factor& factor(LoraFactor which) { return which == LoraFactor::kA ? a : which == LoraFactor::kB ? b : r; }
  };
  at::Tensor w, b, r;
  int64_t in = 0, out = 0, ranks = 0;
  std::vector<Member> members;
};

/// The frozen model with its adapter: forward and backward by hand over buffers allocated once.
///
/// Legend: T tokens, D hidden, F inner width, H heads, K kv heads, d head width, R ranks of a group, V
/// vocabulary. All methods may throw c10::Error; the engine turns that into a status.
class Decoder {
 public:
  struct Config {
    model::ModelConfig model;
    at::ScalarType dtype = at::kFloat;
    at::Device device = at::kCPU;
    int64_t max_tokens = 0;
    bool kernels = false;
  };
  struct Scores {
    double log_likelihood = 0;  // sum over the targets
    uint64_t correct = 0;
    std::vector<float> each;  // per target, when asked for
  };

  /// \param adapter flat f32 masters, layout order. \param gradient flat f32, delta order. Both are kept and
  /// must outlive this.
  Decoder(const Config& config, const AdapterLayout& layout, const at::Tensor& adapter,
          const at::Tensor& gradient);

  /// Reads the frozen weights. InvalidArgument names an absent or misshapen tensor.
  Status Load(const model::WeightSource& source);
  /// Takes over what the masters hold now.
  void SyncAdapter();

  /// Runs all layers and scores `targets`: the token at position i is predicted from positions before it.
  /// \param positions targets' positions, ascending, each >= 1. \param backward adds gradients of the summed
  /// loss to the accumulators. \param each fills Scores::each.
  Scores Run(std::span<const int32_t> tokens, const std::vector<int64_t>& positions, bool backward,
             bool each);
  /// T × V, f32.
  at::Tensor Logits(std::span<const int32_t> tokens);

  Attention::Way attention_way() const { return attention_.way(); }

 private:
  /// Saved by a layer's forward pass for its backward pass (12 KB a token for SmolLM2-135M in bf16).
  struct Layer {
    LinearGroup qkv, o, gate_up, down;
    at::Tensor norm1, norm2;  // D, f32
    at::Tensor x_qkv;         // T × (H+2K)d+R, q and k rotated
    at::Tensor attended;      // T × H·d
    at::Tensor x2;            // T × D: after attention
    at::Tensor x_gate_up;     // T × 2F+R
    at::Tensor u_o, u_down;   // T × R
    at::Tensor rstd1, rstd2;  // T, f32
    Attention::Saved attention;
  };

  at::Tensor Buffer(int64_t columns, at::ScalarType dtype) const;
  void BuildGroup(LinearGroup& group, uint32_t layer, std::initializer_list<LoraTarget> targets,
                  const AdapterLayout& layout, const at::Tensor& adapter, const at::Tensor& gradient);
  void MakeRopeTables();
  Status LoadMatrix(const model::WeightSource& source, const std::string& name, const at::Tensor& to) const;
  Status LoadVector(const model::WeightSource& source, const std::string& name, at::Tensor& to) const;

  /// [y | u] = x·wᵀ, then y += u·bᵀ (core: (u·rᵀ)·bᵀ).
  void LinearForward(const LinearGroup& group, const at::Tensor& x, const at::Tensor& yu) const;
  /// From dy in the first columns of dyu: du behind it, and dx unless it is undefined. Core: v in between_.
  void LinearBackward(const LinearGroup& group, const at::Tensor& dyu, const at::Tensor& dx) const;
  /// Adds the gradients of A and B, or of R. \pre LinearBackward of the same group, and of no other since.
  void AdapterBackward(const LinearGroup& group, const at::Tensor& dyu, const at::Tensor& x,
                       const at::Tensor& u);
  /// Adds the gradients of R alone. \pre as AdapterBackward
  void CoreBackward(const LinearGroup& group, const at::Tensor& u);
  at::Tensor Between(const LinearGroup& group, int64_t tokens) const;
  void ForwardLayer(size_t index, int64_t tokens);
  void BackwardLayer(size_t index, int64_t tokens);
  void Forward(const at::Tensor& ids);
  Scores Loss(const at::Tensor& ids, const std::vector<int64_t>& positions, bool backward, bool each);

  Config config_;
  Ops ops_;
  Attention attention_;
  double scale_;  // alpha / rank
  std::vector<Layer> layers_;
  at::Tensor embedding_, head_;  // V × D (one tensor when tied)
  at::Tensor final_norm_;        // D, f32
  at::Tensor cosine_, sine_;     // T × d/2, f32
  std::vector<at::Tensor> x_;    // layer inputs, layers + 1 of T × D
  at::Tensor rstd_final_;
  // Scratch shared by all layers.
  at::Tensor normed_;      // T × D
  at::Tensor dx_;          // T × D+R: gradient of the residual stream, room for du of o and down behind it
  at::Tensor yu_;          // T × D+R: outputs of o and down
  at::Tensor inner_;       // T × F
  at::Tensor d_inner_;     // T × F
  at::Tensor d_gate_up_;   // T × 2F+R
  at::Tensor d_qkv_;       // T × (H+2K)d+R
  at::Tensor d_attended_;  // T × H·d
  at::Tensor d_normed_;    // T × D
  at::Tensor between_;     // T × R, core only: u·rᵀ in the forward pass, v in the backward pass
  at::Tensor small_;       // elements for the gradients of a group before they are added
  at::Tensor logits_;      // chunk × V
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_DECODER_H_
