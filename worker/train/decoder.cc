#include "worker/train/decoder.h"

#include <cmath>
#include <span>

#include "worker/train/torch_pch.h"

namespace concordat::train {
namespace {

/// Positions whose logits exist at one time.
constexpr int64_t kLossChunk = 256;

at::Tensor Rows(const at::Tensor& t, int64_t rows) { return t.narrow(0, 0, rows); }
at::Tensor Columns(const at::Tensor& t, int64_t first, int64_t count) { return t.narrow(1, first, count); }

/// out = a·b into memory that exists.
void Product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  at::Tensor target = out;
  at::mm_out(target, a, b);
}

}  // namespace

Decoder::Decoder(const Config& config, const AdapterLayout& layout, const at::Tensor& adapter,
                 const at::Tensor& gradient)
    : config_(config),
      ops_{config.kernels},
      attention_(config.model.shape, config.dtype, config.device, config.max_tokens, config.kernels),
      scale_(layout.spec().scale()) {
  const ModelShape& shape = config.model.shape;
  const int64_t hidden = shape.hidden;
  const int64_t inner = shape.intermediate;
  const int64_t query_width = static_cast<int64_t>(shape.heads) * shape.head_dim;
  layers_.resize(shape.layers);
  for (uint32_t i = 0; i < shape.layers; ++i) {
    Layer& layer = layers_[i];
    BuildGroup(layer.qkv, i, {LoraTarget::kQ, LoraTarget::kK, LoraTarget::kV}, layout, adapter, gradient);
    BuildGroup(layer.o, i, {LoraTarget::kO}, layout, adapter, gradient);
    BuildGroup(layer.gate_up, i, {LoraTarget::kGate, LoraTarget::kUp}, layout, adapter, gradient);
    BuildGroup(layer.down, i, {LoraTarget::kDown}, layout, adapter, gradient);
    layer.x_qkv = Buffer(layer.qkv.out + layer.qkv.ranks, config.dtype);
    layer.attended = Buffer(query_width, config.dtype);
    layer.x2 = Buffer(hidden, config.dtype);
    layer.x_gate_up = Buffer(2 * inner + layer.gate_up.ranks, config.dtype);
    layer.u_o = Buffer(layer.o.ranks, config.dtype);
    layer.u_down = Buffer(layer.down.ranks, config.dtype);
    layer.rstd1 = Buffer(1, at::kFloat).squeeze(1);
    layer.rstd2 = Buffer(1, at::kFloat).squeeze(1);
    layer.attention = attention_.MakeSaved();
  }
  for (uint32_t i = 0; i <= shape.layers; ++i) x_.push_back(Buffer(hidden, config.dtype));
  const Layer& any = layers_.front();
  const int64_t ranks = std::max(any.o.ranks, any.down.ranks);
  rstd_final_ = Buffer(1, at::kFloat).squeeze(1);
  normed_ = Buffer(hidden, config.dtype);
  dx_ = Buffer(hidden + ranks, config.dtype);
  yu_ = Buffer(hidden + ranks, config.dtype);
  inner_ = Buffer(inner, config.dtype);
  d_inner_ = Buffer(inner, config.dtype);
  d_gate_up_ = Buffer(2 * inner + any.gate_up.ranks, config.dtype);
  d_qkv_ = Buffer(any.qkv.out + any.qkv.ranks, config.dtype);
  d_attended_ = Buffer(query_width, config.dtype);
  d_normed_ = Buffer(hidden, config.dtype);
  int64_t small = 1, between = 0;
  for (const LinearGroup* group : {&any.qkv, &any.o, &any.gate_up, &any.down}) {
    small = std::max(small, group->ranks * std::max({group->in, group->out, group->ranks}));
    between = std::max(between, group->r.defined() ? group->ranks : 0);
  }
  between_ = Buffer(between, config.dtype);
  small_ = at::zeros({small}, at::TensorOptions(config.device).dtype(config.dtype));
  logits_ = at::zeros({std::min<int64_t>(kLossChunk, config.max_tokens), config.model.vocab},
                      at::TensorOptions(config.device).dtype(config.dtype));
  MakeRopeTables();
}

at::Tensor Decoder::Buffer(int64_t columns, at::ScalarType dtype) const {
  // Zeros, not whatever memory held: attention reads (and drops) rows after the sequence's end.
  return at::zeros({Attention::PaddedRows(config_.max_tokens), columns},
                   at::TensorOptions(config_.device).dtype(dtype));
}

void Decoder::BuildGroup(LinearGroup& group, uint32_t layer, std::initializer_list<LoraTarget> targets,
                         const AdapterLayout& layout, const at::Tensor& adapter, const at::Tensor& gradient) {
  const ModelShape& shape = config_.model.shape;
  for (const LoraTarget target : targets) {
    LinearGroup::Member member;
    group.in = static_cast<int64_t>(AdapterLayout::InWidth(shape, target));
    member.first_out = group.out;
    member.outs = static_cast<int64_t>(AdapterLayout::OutWidth(shape, target));
    group.out += member.outs;
    for (const AdapterTensor& t : layout.tensors()) {
      if (t.layer != layer || t.target != target) continue;
      const auto rows = static_cast<int64_t>(t.rows);
      const auto cols = static_cast<int64_t>(t.cols);
      const auto view = [&](const at::Tensor& flat, uint64_t offset) {
        return flat.narrow(0, static_cast<int64_t>(offset), rows * cols).view({rows, cols});
      };
      LinearGroup::Factor& factor = member.factor(t.factor);
      factor.value = view(adapter, t.offset);
      if (t.trained) factor.gradient = view(gradient, t.delta_offset);
      if (t.factor == LoraFactor::kA) {
        member.first_rank = group.ranks;
        group.ranks += rows;
      }
    }
    group.members.push_back(std::move(member));
  }
  const auto options = at::TensorOptions(config_.device).dtype(config_.dtype);
  group.w = at::zeros({group.out + group.ranks, group.in}, options);
  group.b = at::zeros({group.out, group.ranks}, options);
  if (layout.spec().method == LoraMethod::kCore) group.r = at::zeros({group.ranks, group.ranks}, options);
}

void Decoder::MakeRopeTables() {
  const int64_t half = config_.model.shape.head_dim / 2;
  const at::Tensor cosine = at::empty({config_.max_tokens, half}, at::kFloat);
  const at::Tensor sine = at::empty({config_.max_tokens, half}, at::kFloat);
  auto* c = cosine.data_ptr<float>();
  auto* s = sine.data_ptr<float>();
  for (int64_t position = 0; position < config_.max_tokens; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      // Frequencies and angles rounded to f32, as the usual Python stack has them.
      const auto frequency = static_cast<float>(
          1.0 / std::pow(config_.model.rope_theta, static_cast<double>(i) / static_cast<double>(half)));
      const float angle = static_cast<float>(position) * frequency;
      *c++ = static_cast<float>(std::cos(static_cast<double>(angle)));
      *s++ = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  cosine_ = cosine.to(config_.device);
  sine_ = sine.to(config_.device);
}

Status Decoder::LoadMatrix(const model::WeightSource& source, const std::string& name,
                           const at::Tensor& to) const {
  const auto shape = source.Shape(name);
  if (!shape.ok()) return Annotate(shape.status(), "base model");
  const auto [rows, columns] = *shape;
  if (rows != static_cast<uint64_t>(to.size(0)) || columns != static_cast<uint64_t>(to.size(1))) {
    return InvalidArgument("base model: {} is {} x {}, expected {} x {}", name, rows, columns, to.size(0),
                           to.size(1));
  }
  // In slices, so that the f32 copy of a large matrix never exists.
  const int64_t slice = std::max<int64_t>(1, (int64_t{1} << 20) / to.size(1));
  std::vector<float> values;
  for (int64_t row = 0; row < to.size(0); row += slice) {
    const int64_t count = std::min(slice, to.size(0) - row);
    values.resize(static_cast<size_t>(count * to.size(1)));
    RETURN_IF_ERROR(source.Read(name, static_cast<uint64_t>(row), values));
    to.narrow(0, row, count).copy_(at::from_blob(values.data(), {count, to.size(1)}, at::kFloat));
  }
  return OkStatus();
}

Status Decoder::LoadVector(const model::WeightSource& source, const std::string& name, at::Tensor& to) const {
  const at::Tensor row = at::zeros({1, static_cast<int64_t>(config_.model.shape.hidden)},
                                   at::TensorOptions(config_.device).dtype(at::kFloat));
  RETURN_IF_ERROR(LoadMatrix(source, name, row));
  to = row.squeeze(0);
  return OkStatus();
}

Status Decoder::Load(const model::WeightSource& source) {
  const auto options = at::TensorOptions(config_.device).dtype(config_.dtype);
  const int64_t vocab = config_.model.vocab;
  const int64_t hidden = config_.model.shape.hidden;
  embedding_ = at::zeros({vocab, hidden}, options);
  RETURN_IF_ERROR(LoadMatrix(source, "model.embed_tokens.weight", embedding_));
  head_ = embedding_;
  if (!config_.model.tied_embeddings) {
    head_ = at::zeros({vocab, hidden}, options);
    RETURN_IF_ERROR(LoadMatrix(source, "lm_head.weight", head_));
  }
  RETURN_IF_ERROR(LoadVector(source, "model.norm.weight", final_norm_));
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    const std::string prefix = fmt::format("model.layers.{}.", i);
    RETURN_IF_ERROR(LoadVector(source, prefix + "input_layernorm.weight", layer.norm1));
    RETURN_IF_ERROR(LoadVector(source, prefix + "post_attention_layernorm.weight", layer.norm2));
    auto target = kAllLoraTargets.begin();  // the groups hold the seven layers in this order
    for (LinearGroup* group : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      for (const LinearGroup::Member& member : group->members) {
        const std::string name = prefix + std::string(LoraTargetModule(*target++)) + ".weight";
        RETURN_IF_ERROR(LoadMatrix(source, name, group->w.narrow(0, member.first_out, member.outs)));
      }
    }
  }
  return OkStatus();
}

void Decoder::SyncAdapter() {
  for (Layer& layer : layers_) {
    for (LinearGroup* group : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      for (const LinearGroup::Member& member : group->members) {
        if (member.first_rank < 0) continue;
        const int64_t rank = member.a.value.size(0);
        group->w.narrow(0, group->out + member.first_rank, rank).copy_(member.a.value);
        // The product is rounded once; the factor itself never is.
        group->b.narrow(0, member.first_out, member.outs)
            .narrow(1, member.first_rank, rank)
            .copy_(scale_ == 1.0 ? member.b.value : member.b.value * scale_);
        if (!group->r.defined()) continue;
        group->r.narrow(0, member.first_rank, rank).narrow(1, member.first_rank, rank).copy_(member.r.value);
      }
    }
  }
}

at::Tensor Decoder::Between(const LinearGroup& group, int64_t tokens) const {
  return Columns(Rows(between_, tokens), 0, group.ranks);
}

void Decoder::LinearForward(const LinearGroup& group, const at::Tensor& x, const at::Tensor& yu) const {
  Product(yu, x, group.w.t());
  if (group.ranks == 0) return;
  at::Tensor u = Columns(yu, group.out, group.ranks);
  if (group.r.defined()) {
    const at::Tensor mixed = Between(group, yu.size(0));
    Product(mixed, u, group.r.t());
    u = mixed;
  }
  at::Tensor y = Columns(yu, 0, group.out);
  y.addmm_(u, group.b.t());
}

void Decoder::LinearBackward(const LinearGroup& group, const at::Tensor& dyu, const at::Tensor& dx) const {
  if (group.ranks > 0) {
    const at::Tensor dy = Columns(dyu, 0, group.out), du = Columns(dyu, group.out, group.ranks);
    const at::Tensor v = group.r.defined() ? Between(group, dyu.size(0)) : du;
    Product(v, dy, group.b);
    if (group.r.defined()) Product(du, v, group.r);
  }
  if (dx.defined()) Product(dx, dyu, group.w);
}

void Decoder::AdapterBackward(const LinearGroup& group, const at::Tensor& dyu, const at::Tensor& x,
                              const at::Tensor& u) {
  if (group.ranks == 0) return;
  if (group.r.defined()) return CoreBackward(group, u);
  bool any_a = false;
  for (const LinearGroup::Member& member : group.members) any_a = any_a || member.a.gradient.defined();
  if (any_a) {
    const at::Tensor da = small_.narrow(0, 0, group.ranks * group.in).view({group.ranks, group.in});
    Product(da, Columns(dyu, group.out, group.ranks).t(), x);
    for (const LinearGroup::Member& member : group.members) {
      if (!member.a.gradient.defined()) continue;
      ops_.Accumulate(da.narrow(0, member.first_rank, member.a.value.size(0)), 1.0, member.a.gradient);
    }
  }
  const at::Tensor db = small_.narrow(0, 0, group.out * group.ranks).view({group.out, group.ranks});
  Product(db, Columns(dyu, 0, group.out).t(), u);
  for (const LinearGroup::Member& member : group.members) {
    if (!member.b.gradient.defined()) continue;
    // Only the block diagonal means something: a member's output with its own u.
    ops_.Accumulate(
        db.narrow(0, member.first_out, member.outs).narrow(1, member.first_rank, member.b.value.size(1)),
        scale_, member.b.gradient);
  }
}

void Decoder::CoreBackward(const LinearGroup& group, const at::Tensor& u) {
  const at::Tensor dr = small_.narrow(0, 0, group.ranks * group.ranks).view({group.ranks, group.ranks});
  Product(dr, Between(group, u.size(0)).t(), u);
  for (const LinearGroup::Member& member : group.members) {
    if (!member.r.gradient.defined()) continue;
    const int64_t rank = member.r.value.size(0);
    // The scale is in v already.
    ops_.Accumulate(dr.narrow(0, member.first_rank, rank).narrow(1, member.first_rank, rank), 1.0,
                    member.r.gradient);
  }
}

void Decoder::ForwardLayer(size_t index, int64_t tokens) {
  Layer& layer = layers_[index];
  const at::Tensor x = Rows(x_[index], tokens);
  const at::Tensor normed = Rows(normed_, tokens);
  const at::Tensor qkv = Rows(layer.x_qkv, tokens);
  const ModelShape& shape = config_.model.shape;
  const auto residual = [&](const LinearGroup& group, const at::Tensor& in, const at::Tensor& before,
                            const at::Tensor& u, const at::Tensor& after) {
    const at::Tensor yu = Columns(Rows(yu_, tokens), 0, group.out + group.ranks);
    LinearForward(group, in, yu);
    if (group.ranks > 0) Rows(u, tokens).copy_(Columns(yu, group.out, group.ranks));
    ops_.Add(before, Columns(yu, 0, group.out), after);
  };
  ops_.RmsNorm(x, layer.norm1, config_.model.rms_norm_eps, normed, Rows(layer.rstd1, tokens));
  LinearForward(layer.qkv, normed, qkv);
  ops_.Rope(Columns(qkv, 0, (shape.heads + shape.kv_heads) * shape.head_dim), Rows(cosine_, tokens),
            Rows(sine_, tokens), shape.head_dim, /*inverse=*/false);
  const at::Tensor attended = Rows(layer.attended, tokens);
  attention_.Forward(layer.x_qkv, tokens, attended, layer.attention);
  const at::Tensor x2 = Rows(layer.x2, tokens);
  residual(layer.o, attended, x, layer.u_o, x2);

  ops_.RmsNorm(x2, layer.norm2, config_.model.rms_norm_eps, normed, Rows(layer.rstd2, tokens));
  const at::Tensor gate_up = Rows(layer.x_gate_up, tokens);
  LinearForward(layer.gate_up, normed, gate_up);
  const at::Tensor inner = Rows(inner_, tokens);
  ops_.SwiGlu(gate_up, inner);
  residual(layer.down, inner, x2, layer.u_down, Rows(x_[index + 1], tokens));
}

void Decoder::BackwardLayer(size_t index, int64_t tokens) {
  Layer& layer = layers_[index];
  const ModelShape& shape = config_.model.shape;
  const at::Tensor dx = Columns(Rows(dx_, tokens), 0, shape.hidden);
  const at::Tensor normed = Rows(normed_, tokens);
  const at::Tensor d_normed = Rows(d_normed_, tokens);
  // MLP. Its output's gradient is the residual stream's.
  const at::Tensor down = Columns(Rows(dx_, tokens), 0, layer.down.out + layer.down.ranks);
  const at::Tensor inner = Rows(inner_, tokens);
  const at::Tensor d_inner = Rows(d_inner_, tokens);
  const at::Tensor gate_up = Rows(layer.x_gate_up, tokens);
  const at::Tensor d_gate_up = Rows(d_gate_up_, tokens);
  const at::Tensor x2 = Rows(layer.x2, tokens);
  LinearBackward(layer.down, down, d_inner);
  ops_.SwiGluBackward(gate_up, d_inner, d_gate_up, inner);
  AdapterBackward(layer.down, down, inner, Rows(layer.u_down, tokens));
  LinearBackward(layer.gate_up, d_gate_up, d_normed);
  ops_.RmsNormBackward(x2, layer.norm2, Rows(layer.rstd2, tokens), d_normed, dx, normed);
  AdapterBackward(layer.gate_up, d_gate_up, normed, Columns(gate_up, layer.gate_up.out, layer.gate_up.ranks));
  // Attention.
  const at::Tensor o = Columns(Rows(dx_, tokens), 0, layer.o.out + layer.o.ranks);
  const at::Tensor attended = Rows(layer.attended, tokens);
  const at::Tensor d_attended = Rows(d_attended_, tokens);
  const at::Tensor qkv = Rows(layer.x_qkv, tokens);
  const at::Tensor d_qkv = Rows(d_qkv_, tokens);
  LinearBackward(layer.o, o, d_attended);
  AdapterBackward(layer.o, o, attended, Rows(layer.u_o, tokens));
  attention_.Backward(layer.x_qkv, tokens, attended, layer.attention, d_attended, d_qkv_);
  ops_.Rope(Columns(d_qkv, 0, (shape.heads + shape.kv_heads) * shape.head_dim), Rows(cosine_, tokens),
            Rows(sine_, tokens), shape.head_dim, /*inverse=*/true);
  // Nothing below the first layer learns: its input's gradient is not needed, only the norm's output.
  LinearBackward(layer.qkv, d_qkv, index > 0 ? d_normed : at::Tensor());
  const at::Tensor x = Rows(x_[index], tokens);
  ops_.RmsNormBackward(x, layer.norm1, Rows(layer.rstd1, tokens), d_normed, dx, normed);
  AdapterBackward(layer.qkv, d_qkv, normed, Columns(qkv, layer.qkv.out, layer.qkv.ranks));
}

void Decoder::Forward(const at::Tensor& ids) {
  const int64_t tokens = ids.size(0);
  at::Tensor first = Rows(x_[0], tokens);
  at::index_select_out(first, embedding_, 0, ids);
  for (size_t i = 0; i < layers_.size(); ++i) ForwardLayer(i, tokens);
  ops_.RmsNorm(Rows(x_.back(), tokens), final_norm_, config_.model.rms_norm_eps, Rows(normed_, tokens),
               Rows(rstd_final_, tokens));
}

Decoder::Scores Decoder::Loss(const at::Tensor& ids, const std::vector<int64_t>& positions, bool backward,
                              bool each) {
  Scores scores;
  const int64_t tokens = ids.size(0);
  const auto count = static_cast<int64_t>(positions.size());
  // A token is predicted by the position before it; only those positions need logits.
  const at::Tensor at_target = at::tensor(positions, at::kLong).to(config_.device);
  const at::Tensor before = at_target - 1;
  const at::Tensor targets = ids.index_select(0, at_target);
  const at::Tensor hidden = Rows(normed_, tokens).index_select(0, before);
  const at::Tensor likelihood = at::empty({count}, at::TensorOptions(config_.device).dtype(at::kFloat));
  const at::Tensor correct = at::empty({count}, at::TensorOptions(config_.device).dtype(at::kByte));
  const at::Tensor d_hidden = backward ? at::empty_like(hidden) : at::Tensor();
  for (int64_t first = 0; first < count; first += logits_.size(0)) {
    const int64_t rows = std::min(logits_.size(0), count - first);
    const at::Tensor logits = Rows(logits_, rows);
    Product(logits, hidden.narrow(0, first, rows), head_.t());
    ops_.CrossEntropy(logits, targets.narrow(0, first, rows), likelihood.narrow(0, first, rows),
                      correct.narrow(0, first, rows), backward);
    if (backward) Product(d_hidden.narrow(0, first, rows), logits, head_);
  }
  scores.log_likelihood = likelihood.sum(at::kDouble).item<double>();
  scores.correct = static_cast<uint64_t>(correct.sum(at::kLong).item<int64_t>());
  if (each) {
    const at::Tensor host = likelihood.cpu();
    scores.each.assign(host.data_ptr<float>(), host.data_ptr<float>() + count);
  }
  if (backward) {
    const at::Tensor d_normed = Rows(d_normed_, tokens).zero_();
    d_normed.index_copy_(0, before, d_hidden);
    const at::Tensor dx = Columns(Rows(dx_, tokens), 0, config_.model.shape.hidden).zero_();
    ops_.RmsNormBackward(Rows(x_.back(), tokens), final_norm_, Rows(rstd_final_, tokens), d_normed, dx,
                         Rows(normed_, tokens));
  }
  return scores;
}

Decoder::Scores Decoder::Run(std::span<const int32_t> tokens, const std::vector<int64_t>& positions,
                             bool backward, bool each) {
  if (positions.empty()) return {};
  const at::Tensor ids =
      at::tensor(at::ArrayRef<int32_t>(tokens.data(), tokens.size()), at::kLong).to(config_.device);
  Forward(ids);
  Scores scores = Loss(ids, positions, backward, each);
  if (backward && std::isfinite(scores.log_likelihood)) {
    for (size_t i = layers_.size(); i-- > 0;) BackwardLayer(i, ids.size(0));
  }
  return scores;
}

at::Tensor Decoder::Logits(std::span<const int32_t> tokens) {
  const at::Tensor ids =
      at::tensor(at::ArrayRef<int32_t>(tokens.data(), tokens.size()), at::kLong).to(config_.device);
  Forward(ids);
  return at::mm(Rows(normed_, ids.size(0)), head_.t()).to(at::kFloat).cpu();
}

}  // namespace concordat::train
