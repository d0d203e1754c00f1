#ifndef CONCORDAT_TESTS_SIM_DISK_H_
#define CONCORDAT_TESTS_SIM_DISK_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "tests/sim/rng.h"

namespace concordat::sim {

/// Thrown out of a write: the node that wrote is dead at this instant. Only the simulation catches it.
struct NodeCrashed {};

/// Where in a write the node dies.
enum class CrashMode : uint8_t {
  kBefore = 0,  // nothing of it is on the disk
  kTorn = 1,    // a part of the record is
  kAfter = 2,   // all of it is, and nobody was told
};

/// One node's disk: files of framed records, a page cache that a power cut empties, and a crash point at
/// every write and sync. A frame is u32 length, the record, and the first 8 bytes of its SHA-256.
class Disk {
 public:
  /// Asked at each write or sync, with its index from 0: whether the node dies there.
  using Decide = std::function<std::optional<CrashMode>(uint64_t index)>;
  Disk(Rng& rng, Decide decide) : rng_(&rng), decide_(std::move(decide)) {}

  /// One crash point. With `sync` the record is durable on return, without it a power cut may take it.
  void Append(const std::string& file, ByteView record, bool sync);
  /// One crash point; everything in `file` is durable on return.
  void Sync(const std::string& file);
  void Remove(const std::string& file) { files_.erase(file); }
  /// The whole records; what is torn is not among them.
  std::vector<Bytes> Read(const std::string& file) const;
  /// The same, of what a power cut now would leave for sure.
  std::vector<Bytes> ReadDurable(const std::string& file) const;

  /// The process is gone. A power cut also takes a random part of what was not synced. Torn tails are cut
  /// off, as a node does when it opens its files.
  void Crash(bool power_cut);
  uint64_t writes() const { return writes_; }

 private:
  struct File {
    Bytes data;
    size_t synced = 0;
  };
  std::optional<CrashMode> Point();

  Rng* rng_;
  Decide decide_;
  std::map<std::string, File> files_;
  uint64_t writes_ = 0;
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_DISK_H_
