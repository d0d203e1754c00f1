#ifndef CONCORDAT_COORDINATOR_RPC_SUM_ENGINE_H_
#define CONCORDAT_COORDINATOR_RPC_SUM_ENGINE_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "aggregation/modular_sum.h"
#include "coordinator/core/effects.h"
#include "coordinator/journal/blob_store.h"
#include "coordinator/journal/spool.h"

namespace concordat::coordinator {

/// Adds uploads up, takes the masks off, decodes, and makes the next adapter, on a thread of its own.
///
/// In a round it holds one vector while uploads come in, and never more than three: running sum and mean
/// (or the sum as it is published, when its words are packed); then old adapter, mean and new adapter. An
/// upload is read block by block and deleted once it is added. What a single site sent is never unmasked:
/// masks come off the sum.
class SumEngine {
 public:
  /// \param finished, failed called on the engine's thread
  SumEngine(BlobStore& blobs, std::function<void(SumFinished)> finished,
            std::function<void(AttemptId, Status)> failed);
  /// Ends after the task at hand.
  ~SumEngine();

  /// \param modulus_bits b of the upload's words
  void Add(const AttemptId& id, std::shared_ptr<Spool> upload, uint32_t modulus_bits = kPlainBits);
  void Finish(SumOrder order);
  /// Frees the attempt's sum; what was ordered for it is not done.
  void Drop(const AttemptId& id);

 private:
  struct Task {
    AttemptId id;
    std::shared_ptr<Spool> upload;  // null: finish
    std::shared_ptr<SumOrder> order;
    bool drop = false;
    uint32_t modulus_bits = kPlainBits;  // of the upload
  };
  void Push(Task task);
  void Run();
  Status AddUpload(const AttemptId& id, const Spool& upload, uint32_t modulus_bits);
  StatusOr<SumFinished> MakeAdapter(const SumOrder& order);
  StatusOr<Digest> Store(ByteView content);

  BlobStore& blobs_;
  const std::function<void(SumFinished)> finished_;
  const std::function<void(AttemptId, Status)> failed_;
  std::map<AttemptId, ModularSum> sums_;  // the engine's thread only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> tasks_;       // guarded by mutex_
  std::set<AttemptId> dropped_;  // guarded by mutex_
  bool stopping_ = false;        // guarded by mutex_
  std::thread thread_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_SUM_ENGINE_H_
