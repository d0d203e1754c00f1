#ifndef CONCORDAT_AGGREGATION_ADAPTER_BLOB_H_
#define CONCORDAT_AGGREGATION_ADAPTER_BLOB_H_

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/bytes.h"
#include "common/ids.h"

namespace concordat {

/// Digest of a model's shape and a LoRA spec: two sides that agree on it agree on every tensor's place.
Digest LayoutDigest(const AdapterLayout& layout);

/// An adapter between rounds: what stores keep and offers name. A hash chain: each names its parent.
struct AdapterBlob {
  JobId job;
  RoundIndex round = 0;        // 0 is the initial adapter; round r's sum makes blob r + 1
  Digest parent;               // AdapterHash of blob round − 1; zero exactly when round is 0
  Digest layout;               // LayoutDigest
  std::vector<float> weights;  // flat, as AdapterLayout says
  bool operator==(const AdapterBlob&) const = default;
};

/// Bytes of `blob`: magic "CNCADPT1", job, u32 round, parent, layout, u64 count, count × f32, all
/// little-endian. One blob has one byte string.
Bytes EncodeAdapterBlob(const AdapterBlob& blob);

/// Reads exactly what EncodeAdapterBlob writes. InvalidArgument: another magic, a length that does not match
/// the count to the byte, a weight that is not finite, a parent that is zero past round 0 or not zero in it,
/// another layout or count than `layout`'s.
StatusOr<AdapterBlob> DecodeAdapterBlob(ByteView bytes, const AdapterLayout& layout);

/// SHA-256 of the bytes: the adapter's name in stores, offers and chains.
Digest AdapterHash(ByteView blob_bytes);

/// OK if `child` follows `parent`: same job and layout, next round, parent's hash. DataLoss otherwise.
Status CheckChain(const AdapterBlob& parent, const Digest& parent_hash, const AdapterBlob& child);

/// OK if the factors that `layout`'s method does not train are in `blob`, bit for bit, what they are in
/// `known`, any adapter of the job whose chain was verified: hashes alone would let whoever hands out a later
/// adapter choose them. DataLoss otherwise, naming the tensor. \pre both decoded with `layout`
Status CheckFrozen(const AdapterLayout& layout, const AdapterBlob& known, const AdapterBlob& blob);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_ADAPTER_BLOB_H_
