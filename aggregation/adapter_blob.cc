#include "aggregation/adapter_blob.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "common/canonical.h"
#include "privacy/crypto/hash.h"

namespace concordat {
namespace {

constexpr std::string_view kMagic = "CNCADPT1";

static_assert(std::endian::native == std::endian::little, "weights are copied as they lie in memory");

}  // namespace

Digest LayoutDigest(const AdapterLayout& layout) {
  const ModelShape& shape = layout.shape();
  const LoraSpec& spec = layout.spec();
  CanonicalWriter out;
  for (const uint32_t v :
       {shape.layers, shape.hidden, shape.intermediate, shape.heads, shape.kv_heads, shape.head_dim})
    out.U32(v);
  out.U32(spec.rank);
  out.F64(spec.alpha);
  out.U8(static_cast<uint8_t>(spec.method));
  out.Count(spec.targets.size());
  for (const LoraTarget target : spec.targets) out.U8(static_cast<uint8_t>(target));
  return crypto::TaggedHash("concordat/adapter-layout/v1", out.bytes());
}

Bytes EncodeAdapterBlob(const AdapterBlob& blob) {
  CanonicalWriter out;
  out.Raw(AsBytes(kMagic));
  out.Put(blob.job);
  out.U32(blob.round);
  out.Put(blob.parent);
  out.Put(blob.layout);
  out.U64(blob.weights.size());
  Bytes bytes = out.Take();
  const size_t header = bytes.size();
  bytes.resize(header + blob.weights.size() * sizeof(float));
  if (!blob.weights.empty())
    std::memcpy(bytes.data() + header, blob.weights.data(), blob.weights.size() * sizeof(float));
  return bytes;
}

StatusOr<AdapterBlob> DecodeAdapterBlob(ByteView bytes, const AdapterLayout& layout) {
  CanonicalReader in(bytes);
  if (AsText(in.Raw(kMagic.size())) != kMagic) in.Fail("not an adapter of this version");
  AdapterBlob out;
  out.job = in.Hash();
  out.round = in.U32();
  out.parent = in.Hash();
  out.layout = in.Hash();
  const uint64_t count = in.U64();
  RETURN_IF_ERROR(in.status());
  if (out.layout != LayoutDigest(layout))
    return InvalidArgument("adapter: expected layout {}, got {}", LayoutDigest(layout).brief(),
                           out.layout.brief());
  if (count != layout.adapter_elements() || in.left() != count * sizeof(float))
    return InvalidArgument("adapter: expected {} weights in {} bytes, got {} in {}",
                           layout.adapter_elements(), layout.adapter_elements() * sizeof(float), count,
                           in.left());
  if ((out.round == 0) != out.parent.is_zero())
    return InvalidArgument("adapter: round {} {} a parent", out.round,
                           out.round == 0 ? "cannot have" : "must have");
  out.weights.resize(count);
  const ByteView raw = in.Raw(count * sizeof(float));
  if (count > 0) std::memcpy(out.weights.data(), raw.data(), raw.size());
  for (size_t i = 0; i < out.weights.size(); ++i)
    if (!std::isfinite(out.weights[i])) return InvalidArgument("adapter: weight {} is not finite", i);
  RETURN_IF_ERROR(in.Finish());
  return out;
}

Digest AdapterHash(ByteView blob_bytes) { return crypto::Sha256(blob_bytes); }

Status CheckChain(const AdapterBlob& parent, const Digest& parent_hash, const AdapterBlob& child) {
  if (child.job != parent.job) return DataLoss("adapter chain: the job changes");
  if (child.layout != parent.layout) return DataLoss("adapter chain: the layout changes");
  if (child.round != parent.round + 1)
    return DataLoss("adapter chain: expected round {}, got {}", parent.round + 1, child.round);
  if (child.parent != parent_hash)
    return DataLoss("adapter chain: round {} names parent {}, expected {}", child.round, child.parent.brief(),
                    parent_hash.brief());
  return OkStatus();
}

Status CheckFrozen(const AdapterLayout& layout, const AdapterBlob& known, const AdapterBlob& blob) {
  for (const AdapterTensor& t : layout.tensors()) {
    if (t.trained) continue;
    if (std::memcmp(known.weights.data() + t.offset, blob.weights.data() + t.offset,
                    t.elements() * sizeof(float)) != 0)
      return DataLoss("adapter of round {}: tensor '{}' is not trained by this job and has changed",
                      blob.round, t.PeftName());
  }
  return OkStatus();
}

}  // namespace concordat
