#include "tests/sim/disk.h"

#include "common/canonical.h"
#include "privacy/crypto/hash.h"

namespace concordat::sim {
namespace {

constexpr size_t kSumBytes = 8;

Bytes Frame(ByteView record) {
  CanonicalWriter w;
  w.Blob(record);
  w.Raw(crypto::Sha256(record).view().first(kSumBytes));
  return w.Take();
}

// The whole frames at the beginning of `data`; `whole` receives how many bytes they take.
std::vector<Bytes> Parse(ByteView data, size_t& whole) {
  std::vector<Bytes> out;
  whole = 0;
  while (true) {
    CanonicalReader r(data.subspan(whole));
    const ByteView record = r.Blob(data.size());
    const ByteView sum = r.Raw(kSumBytes);
    if (!r.status().ok()) return out;
    if (!std::ranges::equal(sum, crypto::Sha256(record).view().first(kSumBytes))) return out;
    out.push_back(ToBytes(record));
    whole = data.size() - r.left();
  }
}

}  // namespace

std::optional<CrashMode> Disk::Point() {
  const auto mode = decide_(writes_++);
  if (mode == CrashMode::kBefore) throw NodeCrashed{};
  return mode;
}

void Disk::Append(const std::string& file, ByteView record, bool sync) {
  const auto mode = Point();
  File& f = files_[file];
  const Bytes frame = Frame(record);
  const size_t n = mode == CrashMode::kTorn ? 1 + rng_->Below(frame.size() - 1) : frame.size();
  f.data.insert(f.data.end(), frame.begin(), frame.begin() + static_cast<ptrdiff_t>(n));
  if (sync) f.synced = f.data.size();
  if (mode.has_value()) throw NodeCrashed{};
}

void Disk::Sync(const std::string& file) {
  const auto mode = Point();
  File& f = files_[file];
  if (mode == CrashMode::kTorn) {
    f.synced += rng_->Below(f.data.size() - f.synced + 1);
  } else {
    f.synced = f.data.size();
  }
  if (mode.has_value()) throw NodeCrashed{};
}

std::vector<Bytes> Disk::Read(const std::string& file) const {
  size_t whole = 0;
  const auto it = files_.find(file);
  return it == files_.end() ? std::vector<Bytes>() : Parse(it->second.data, whole);
}

std::vector<Bytes> Disk::ReadDurable(const std::string& file) const {
  size_t whole = 0;
  const auto it = files_.find(file);
  return it == files_.end() ? std::vector<Bytes>()
                            : Parse(ByteView(it->second.data).first(it->second.synced), whole);
}

void Disk::Crash(bool power_cut) {
  for (auto& [name, f] : files_) {
    if (power_cut) f.data.resize(f.synced + rng_->Below(f.data.size() - f.synced + 1));
    size_t whole = 0;
    (void)Parse(f.data, whole);
    f.data.resize(whole);
    f.synced = std::min(f.synced, whole);
    if (power_cut) f.synced = whole;
  }
}

}  // namespace concordat::sim
