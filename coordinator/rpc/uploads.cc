#include "coordinator/rpc/uploads.h"

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

Uploads::~Uploads() {
  // The process ends and the attempts do not: the next one goes on with what is stored.
  for (auto& [key, slot] : slots_)
    if (slot.spool) slot.spool->Keep();
}

void Uploads::Retain(const std::vector<UploadSlot>& accepted, const std::vector<UploadSlot>& open) {
  const std::lock_guard lock(mutex_);
  std::set<std::filesystem::path> needed;
  for (const UploadSlot& slot : accepted) needed.insert(PathOf(slot.id, slot.worker));
  for (const UploadSlot& slot : open) {
    const auto path = PathOf(slot.id, slot.worker);
    needed.insert({path, Spool::PartsOf(path)});
    begun_.insert(path);
  }
  std::error_code error;
  std::vector<std::filesystem::path> others;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
    if (!needed.contains(entry.path())) others.push_back(entry.path());
  for (const auto& path : others) std::filesystem::remove_all(path, error);
}

void Uploads::Open(const UploadSlot& slot) {
  const std::lock_guard lock(mutex_);
  const bool begun = begun_.erase(PathOf(slot.id, slot.worker)) != 0;
  slots_.try_emplace({slot.id, slot.worker},
                     Slot{slot.bytes, slot.modulus_bits, nullptr, begun, std::make_shared<std::mutex>()});
}

/// The files of a slot that an earlier process had begun and nobody has touched since; those of others go
/// with their spool.
void Uploads::RemoveLeftovers(const Key& key, const Slot& slot) const {
  if (!slot.begun || slot.spool != nullptr) return;
  std::error_code error;
  const auto path = PathOf(key.first, key.second);
  std::filesystem::remove(path, error);
  std::filesystem::remove(Spool::PartsOf(path), error);
}

void Uploads::Close(const AttemptId& id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(slots_, [&](const auto& entry) {
    if (entry.first.first != id) return false;
    RemoveLeftovers(entry.first, entry.second);
    return true;
  });
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
  const auto it = slots_.find({id, worker});
  if (it == slots_.end()) return;
  RemoveLeftovers(it->first, it->second);
  slots_.erase(it);
}

/// The upload of an open slot. Without `make` null when nothing of it is stored.
StatusOr<std::shared_ptr<Spool>> Uploads::SpoolOf(const Key& key, bool make) {
  const auto closed = [&] {
    return FailedPrecondition("no upload of {} for {} is expected now", key.second.Brief(),
                              key.first.Brief());
  };
  std::shared_ptr<std::mutex> gate;
  {
    const std::lock_guard lock(mutex_);
    const auto it = slots_.find(key);
    if (it == slots_.end()) return closed();
    if (it->second.spool != nullptr || (!make && !it->second.begun)) return it->second.spool;
    gate = it->second.gate;
  }
  const std::lock_guard one(*gate);
  uint64_t bytes = 0;
  bool begun = false;
  {
    const std::lock_guard lock(mutex_);
    const auto it = slots_.find(key);
    if (it == slots_.end()) return closed();
    if (it->second.spool != nullptr) return it->second.spool;
    bytes = it->second.bytes;
    begun = it->second.begun;
  }
  const auto path = PathOf(key.first, key.second);
  ASSIGN_OR_RETURN(std::shared_ptr<Spool> spool,
                   begun ? Spool::Resume(path, bytes) : Spool::Create(path, bytes));
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find(key);
  if (it == slots_.end()) return closed();  // its file goes
  it->second.spool = spool;
  return spool;
}

std::shared_ptr<Spool> Uploads::Find(const AttemptId& id, const SpiffeId& worker) {
  return SpoolOf({id, worker}, false).value_or(nullptr);
}

uint64_t Uploads::ElementsOf(const AttemptId& id, const SpiffeId& worker) const {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find({id, worker});
  return it == slots_.end() ? 0 : it->second.bytes / WordBytes(it->second.modulus_bits);
}

StatusOr<uint64_t> Uploads::Put(const AttemptId& id, const SpiffeId& worker, uint64_t offset, uint64_t total,
                                ByteView data, const Digest& sha256) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = slots_.find({id, worker});
    if (it != slots_.end() && total != it->second.bytes)
      return InvalidArgument("expected an upload of {} bytes, got one of {}", it->second.bytes, total);
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Spool> spool, SpoolOf({id, worker}, true));
  return spool->Append(offset, data, sha256);
}

StatusOr<uint64_t> Uploads::Stored(const AttemptId& id, const SpiffeId& worker) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Spool> spool, SpoolOf({id, worker}, false));
  return spool == nullptr ? 0 : spool->stored();
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
