#include "coordinator/rpc/uploads.h"

namespace concordat::coordinator {

StatusOr<std::unique_ptr<Uploads>> Uploads::Make(std::filesystem::path folder) {
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error) return Internal("cannot empty {}: {}", folder.string(), error.message());
  RETURN_IF_ERROR(MakeFolder(folder, 0700));
  return std::unique_ptr<Uploads>(new Uploads(std::move(folder)));
}

void Uploads::Open(const UploadSlot& slot) {
  const std::lock_guard lock(mutex_);
  slots_.try_emplace({slot.id, slot.worker}, Slot{slot.bytes, nullptr});
}

void Uploads::Close(const AttemptId& id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(slots_, [&](const auto& entry) { return entry.first.first == id; });
}

std::shared_ptr<Spool> Uploads::Take(const AttemptId& id, const SpiffeId& worker) {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find({id, worker});
  if (it == slots_.end()) return nullptr;
  auto spool = std::move(it->second.spool);
  slots_.erase(it);
  return spool;
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
      const auto path = folder_ / fmt::format("{}-{}", id.job.brief(), ++counter_);
      ASSIGN_OR_RETURN(slot.spool, Spool::Create(path, total));
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
