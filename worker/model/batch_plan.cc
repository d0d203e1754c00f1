#include "worker/model/batch_plan.h"

#include <numeric>
#include <utility>

#include "common/canonical.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"

namespace concordat::model {
namespace {

uint64_t Draw(RandomSource& random) {
  std::array<uint8_t, 8> bytes{};
  random.Fill(bytes);
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v |= uint64_t{bytes[i]} << (8 * i);
  return v;
}

/// Uniform below `n`: the values above the last whole multiple of n are drawn again.
uint64_t Below(RandomSource& random, uint64_t n) {
  const uint64_t limit = UINT64_MAX - (UINT64_MAX % n + 1) % n;
  uint64_t v = Draw(random);
  while (v > limit) v = Draw(random);
  return v % n;
}

}  // namespace

BatchPlan::BatchPlan(const Secret32& seed, uint32_t examples, uint32_t batch_size)
    : seed_(seed), examples_(examples), batch_size_(batch_size) {}

void BatchPlan::LoadEpoch(uint64_t epoch) {
  if (!order_.empty() && epoch_ == epoch) return;
  CanonicalWriter w;
  w.Text("concordat/batch-order/v1");
  w.U64(epoch);
  w.U32(examples_);
  const Digest derived = crypto::HmacSha256(seed_.view(), w.bytes());
  crypto::CtrRandom random{Secret32(std::span<const uint8_t, 32>(derived.bytes))};
  order_.resize(examples_);
  std::iota(order_.begin(), order_.end(), 0u);
  for (uint64_t i = examples_; i > 1; --i) std::swap(order_[i - 1], order_[Below(random, i)]);
  epoch_ = epoch;
}

std::vector<uint32_t> BatchPlan::Batch(uint64_t index) {
  std::vector<uint32_t> out;
  if (examples_ == 0) return out;
  out.reserve(batch_size_);
  for (uint32_t i = 0; i < batch_size_; ++i) {
    const uint64_t position = index * batch_size_ + i;
    LoadEpoch(position / examples_);
    out.push_back(order_[position % examples_]);
  }
  return out;
}

}  // namespace concordat::model
