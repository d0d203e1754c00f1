#ifndef CONCORDAT_WORKER_RPC_ROUND_STORE_H_
#define CONCORDAT_WORKER_RPC_ROUND_STORE_H_

#include <filesystem>
#include <memory>
#include <vector>

#include "common/random.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// The sealed states of the attempts that this worker is in, one file each, replaced at every step.
///
/// Grammar: "CNCWRND1", 32 bytes of salt, then AES-256-GCM of the state under
/// HKDF-SHA256(seal key, salt, info "concordat/v1/round-seal"), nonce 0 (a key seals one message), with job,
/// round and attempt as additional data. File name: job-round-attempt.sealed. Whether a file is the newest
/// one is the journal's to say.
class RoundStore {
 public:
  /// \param folder made when it is not there
  /// \param seal_key 32 bytes, mode 0600, made from `random` when it is not there. PermissionDenied when
  ///     others may read it; DataLoss when it has another length.
  static StatusOr<std::unique_ptr<RoundStore>> Open(std::filesystem::path folder,
                                                    const std::filesystem::path& seal_key,
                                                    RandomSource& random);

  /// Seals and fsyncs in place of the last. ResourceExhausted when the disk is full: the last one stays.
  Status Put(const RoundSeal& seal) const;
  /// All that open. Files that do not (another key, changed, torn) are left out, and named in `broken`.
  std::vector<RoundSeal> Load(std::vector<std::string>* broken) const;
  /// Deletes the attempt's state; nothing when there is none.
  void Remove(const AttemptId& id) const;

 private:
  RoundStore(std::filesystem::path folder, Secret32 key, RandomSource& random)
      : folder_(std::move(folder)), key_(std::move(key)), random_(random) {}
  std::filesystem::path PathOf(const AttemptId& id) const;

  const std::filesystem::path folder_;
  const Secret32 key_;
  RandomSource& random_;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_ROUND_STORE_H_
