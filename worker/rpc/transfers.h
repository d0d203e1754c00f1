#ifndef CONCORDAT_WORKER_RPC_TRANSFERS_H_
#define CONCORDAT_WORKER_RPC_TRANSFERS_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/files.h"
#include "concordat/v1/federation.grpc.pb.h"
#include "worker/core/effects.h"
#include "worker/rpc/chunk_sender.h"

namespace concordat::worker {

namespace pb = ::concordat::v1;

/// Name of an attempt's file in the outbox, and back. InvalidArgument for another name.
std::string OutboxName(const AttemptId& id);
StatusOr<AttemptId> ParseOutboxName(std::string_view name);

/// One upload: encodes, adds noise and masks chunk by chunk on all cores, stores each chunk, then sends it. A
/// chunk that has to be sent again is read back from the store, never made again; also by a later process, as
/// long as every chunk is there and is what its digest, stored beside it, says. Threads of its own.
class Upload : private ChunkSource {
 public:
  using OnEvent = std::function<void(UploadEvent)>;
  /// \param folder the region's outbox; y_i is kept in it until Discard
  Upload(StartUpload order, std::filesystem::path folder, Dial dial, OnEvent on_event);
  /// Goes on with what an earlier process stored in `folder`; ends with Aborted when that is not whole.
  Upload(const ResumeUpload& order, std::filesystem::path folder, Dial dial, OnEvent on_event);
  ~Upload() override;
  void Start();
  /// Ends as soon as may be; the outcome still comes through `on_event`.
  void Cancel();
  /// Waits for its end and deletes what is stored: once its receipts are written.
  void Discard();
  /// Deletes a file of the outbox and what belongs to it.
  static void Delete(const std::filesystem::path& file);

 private:
  struct Line;
  Status Open();
  void Make();
  Status MakeChunks();
  Status MakeSome(Line& line);
  Status Publish(Line& line, uint64_t chunk, ByteView data);
  Status CheckStored();
  void SendAll();
  Digest DigestOfPrefix(uint64_t bytes) const;
  // The sender's questions.
  StatusOr<uint64_t> Made() override;
  void AwaitMore(uint64_t bytes, Millis at_most) override;
  Status Read(uint64_t offset, std::string* out) override;
  void OnStored(uint64_t bytes) override;

  const AttemptId id_;
  const bool resumed_;
  StartUpload order_;
  std::filesystem::path path_;
  Dial dial_;
  OnEvent on_event_;
  FileDescriptor file_, digests_;  // y_i, and the SHA-256 of each of its chunks
  const uint32_t modulus_bits_;
  const uint32_t sites_;  // of the roster
  const uint64_t elements_;
  const uint64_t total_bytes_;
  const uint64_t chunk_bytes_;
  std::thread maker_, sender_;

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t made_bytes_ = 0;  // guarded by mutex_
  Status made_status_;       // guarded by mutex_
  Digest sha256_;            // guarded by mutex_, once all is made
  bool cancelled_ = false;   // guarded by mutex_
};

/// Gets content-addressed files, one after the other: from the region's own store, else from the coordinator,
/// resuming where a broken stream stopped.
class Fetcher {
 public:
  using OnFetched = std::function<void(Fetched)>;
  Fetcher(std::filesystem::path store, std::shared_ptr<grpc::Channel> channel, OnFetched on_fetched);
  ~Fetcher();
  void Get(const Fetch& fetch);
  /// Keeps `blob` under its digest; failures are the caller's to log.
  Status Keep(const KeepAdapter& keep) const;
  void Stop();

 private:
  void Run();
  StatusOr<Bytes> FetchOne(const Fetch& fetch);
  Status Stream(const Fetch& fetch, Bytes* content);

  std::filesystem::path store_;
  std::unique_ptr<pb::Federation::Stub> stub_;
  OnFetched on_fetched_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Fetch> queue_;              // guarded by mutex_
  grpc::ClientContext* call_ = nullptr;  // guarded by mutex_
  bool stopping_ = false;                // guarded by mutex_
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_TRANSFERS_H_
