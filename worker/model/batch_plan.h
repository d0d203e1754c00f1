#ifndef CONCORDAT_WORKER_MODEL_BATCH_PLAN_H_
#define CONCORDAT_WORKER_MODEL_BATCH_PLAN_H_

#include <cstdint>
#include <vector>

#include "common/secret.h"

namespace concordat::model {

/// Which examples make up each batch: the endless sequence of epochs, each a fresh permutation of all
/// examples, cut into batches. Depends on the arguments only, so a round that is tried again reads what it
/// read before. Round r of jobs with s batches a round reads batches r·s to r·s + s - 1.
///
/// The permutation is Fisher-Yates over the AES-CTR stream of HMAC-SHA-256(seed, epoch), without modulo bias.
/// This is shuffling, not Poisson sampling: no amplification by sampling may be claimed for it.
/// One object belongs to one thread.
class BatchPlan {
 public:
  /// \param examples how many there are; 0 gives empty batches. At most 2^32 - 1.
  /// \param batch_size examples in every batch; may be more than there are examples.
  BatchPlan(const Secret32& seed, uint32_t examples, uint32_t batch_size);

  /// Indexes of batch number `index`, each below `examples`.
  std::vector<uint32_t> Batch(uint64_t index);

 private:
  void LoadEpoch(uint64_t epoch);

  Secret32 seed_;
  uint32_t examples_;
  uint32_t batch_size_;
  uint64_t epoch_ = 0;
  std::vector<uint32_t> order_;  // of epoch_; empty before the first
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_BATCH_PLAN_H_
