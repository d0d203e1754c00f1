#include "coordinator/rpc/uploads.h"

#include <set>

#include "privacy/crypto/hash.h"

namespace concordat::coordinator {

StatusOr<std::unique_ptr<Uploads>> Uploads::Make(std::filesystem::path folder) {
  RETURN_IF_ERROR(MakeFolder(folder, 0700));
  return std::unique_ptr<Uploads>(new Uploads(std::move(folder)));
}

std::filesystem::path Uploads::PathOf(const AttemptId& id, const SpiffeId& worker) const {
  return folder_ / fmt::format("{}-{}-{}-{}", id.job.hex(), id.round, id.attempt,
                               crypto::Sha256(AsBytes(worker.ToString())).hex());
}

void Uploads::Retain(const std::vector<UploadSlot>& accepted) {
  std::set<std::filesystem::path> needed;
  for (const UploadSlot& slot : accepted) needed.insert(PathOf(slot.id, slot.worker));
  std::error_code error;
  std::vector<std::filesystem::path> others;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
    if (!needed.contains(entry.path())) others.push_back(entry.path());
  for (const auto& path : others) std::filesystem::remove_all(path, error);
}

void Uploads::Open(const UploadSlot& slot) {
  const std::lock_guard lock(mutex_);
  slots_.try_emplace({slot.id, slot.worker}, Slot{slot.bytes, nullptr});
}

void Uploads::Close(const AttemptId& id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(slots_, [&](const auto& entry) { return entry.first.first == id; });
}

void Uploads::Drop(const AttemptId& id) {
  Close(id);
  const std::lock_guard lock(mutex_);
  const auto kept = kept_.extract(id);
  if (kept.empty()) return;
  std::error_code error;
  for (const auto& path : kept.mapped()) std::filesystem::remove(path, error);
}

StatusOr<std::shared_ptr<Spool>> Uploads::Accept(const UploadSlot& slot) {
  const auto path = PathOf(slot.id, slot.worker);
  std::shared_ptr<Spool> spool;
  {
    const std::lock_guard lock(mutex_);
    kept_[slot.id].push_back(path);
    if (const auto node = slots_.extract(Key{slot.id, slot.worker}); !node.empty())
      spool = node.mapped().spool;
  }
  if (spool == nullptr) return Spool::Reopen(path, slot.bytes, slot.sha256);
  spool->Keep();
  return spool;
}

void Uploads::Discard(const AttemptId& id, const SpiffeId& worker) {
  const std::lock_guard lock(mutex_);
  slots_.erase(Key{id, worker});
}

std::shared_ptr<Spool> Uploads::Find(const AttemptId& id, const SpiffeId& worker) const {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find({id, worker});
  return it == slots_.end() ? nullptr : it->second.spool;
}

StatusOr<uint64_t> Uploads::Put(const AttemptId& id, const SpiffeId& worker, uint64_t offset, uint64_t total,
                                ByteView data) {
  std::shared_ptr<Spool> spool;
  {
    const std::lock_guard lock(mutex_);
    const auto it = slots_.find({id, worker});
    if (it == slots_.end()) {
      return FailedPrecondition("no upload of {} for {} is expected now", worker.Brief(), id.Brief());
    }
    Slot& slot = it->second;
    if (total != slot.bytes) {
      return InvalidArgument("expected an upload of {} bytes, got one of {}", slot.bytes, total);
    }
    if (slot.spool == nullptr) {
      ASSIGN_OR_RETURN(slot.spool, Spool::Create(PathOf(id, worker), total));
    }
    spool = slot.spool;
  }
  return spool->Append(offset, data);
}

StatusOr<uint64_t> Uploads::Stored(const AttemptId& id, const SpiffeId& worker) const {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find({id, worker});
  if (it == slots_.end()) {
    return FailedPrecondition("no upload of {} for {} is expected now", worker.Brief(), id.Brief());
  }
  return it->second.spool == nullptr ? 0 : it->second.spool->stored();
}

void Traffic::AddUp(const SpiffeId& worker, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  counts_[worker].up += bytes;
}
void Traffic::AddDown(const SpiffeId& worker, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  counts_[worker].down += bytes;
}
Traffic::Count Traffic::Of(const SpiffeId& worker) const {
  const std::lock_guard lock(mutex_);
  const auto it = counts_.find(worker);
  return it == counts_.end() ? Count{} : it->second;
}
void Traffic::Begin(const AttemptBegan& attempt) {
  const std::lock_guard lock(mutex_);
  auto& begun = begun_[attempt.id];
  for (const SpiffeId& worker : attempt.roster) begun[worker] = counts_[worker];
}
Traffic::Count Traffic::Since(const AttemptId& id) const {
  const std::lock_guard lock(mutex_);
  Count out;
  const auto it = begun_.find(id);
  if (it == begun_.end()) return out;
  for (const auto& [worker, before] : it->second) {
    const Count& now = counts_.at(worker);
    out.up += now.up - before.up;
    out.down += now.down - before.down;
  }
  return out;
}
void Traffic::Forget(const AttemptId& id) {
  const std::lock_guard lock(mutex_);
  begun_.erase(id);
}

}  // namespace concordat::coordinator
