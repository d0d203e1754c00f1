#ifndef CONCORDAT_WORKER_RPC_CHUNK_SENDER_H_
#define CONCORDAT_WORKER_RPC_CHUNK_SENDER_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "concordat/v1/federation.grpc.pb.h"
#include "worker/core/messages.h"
#include "worker/rpc/send_window.h"

namespace concordat::worker {

namespace pb = ::concordat::v1;

/// Opens a channel whose TCP connection is shared with no other channel.
using Dial = std::function<std::shared_ptr<grpc::Channel>()>;

/// What of an upload can be read, for ChunkSender. Any thread.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  /// How many bytes, from the first one on, are on the disk by now. An error ends the sending.
  virtual StatusOr<uint64_t> Made() = 0;
  /// Returns once there are more than `bytes`, Made has become an error, or `at_most` is over.
  virtual void AwaitMore(uint64_t bytes, Millis at_most) = 0;
  /// Fills `out` from `offset`.
  virtual Status Read(uint64_t offset, std::string* out) = 0;
  /// The coordinator has this many bytes without a gap.
  virtual void OnStored(uint64_t bytes) = 0;
};

/// Sends an upload's chunks over a few connections of its own, so that neither one connection's window nor
/// one lost packet holds the others up, and bulk never stands before the session's messages. Each connection
/// first asks what is stored; it asks again after a loss, and carries chunks once that is answered: nothing
/// large goes to a link that is down. No call has a deadline: a connection on which nothing moves is given up
/// by TCP and by gRPC's pings, and the job's own deadline ends what nobody waits for. One thread.
class ChunkSender {
 public:
  static constexpr size_t kConnections = 4;
  /// Of all sites of a roster together, as long as each has one: every one of them costs the coordinator some
  /// 100 KiB. A site whose link is slow takes more, one by one, up to kConnections.
  static constexpr size_t kConnectionsOfAll = 64;

  /// \param sites of the roster, that upload at the same time; at least one
  /// \param source must outlive it
  ChunkSender(const AttemptId& id, uint64_t total_bytes, uint32_t sites, Dial dial, ChunkSource& source);
  ~ChunkSender();
  /// The coordinator may have this many bytes already: an earlier process may have sent them.
  void MayHaveLeft(uint64_t bytes) { window_.MayHaveLeft(bytes); }
  /// Returns once all is stored. Else the source's error, FailedPrecondition when the coordinator takes no
  /// more, InvalidArgument when it contradicts itself. Nothing is under way afterwards.
  Status Run();

  /// The furthest byte that was handed to the network.
  uint64_t left() const { return window_.left(); }
  /// Bytes handed to the network, again or not.
  uint64_t sent() const { return window_.sent(); }
  size_t connections() const { return lanes_.size(); }

 private:
  using Time = SendWindow::Time;
  struct Lane;
  struct Call;

  Status Loop();
  void AddLane();
  Status Fill(uint64_t made, Time now);
  Lane* Freest(Time now);
  Call& Begin(Lane& lane);
  void Ask(Lane& lane);
  Status Send(Lane& lane, const SendWindow::Piece& piece);
  /// Waits for an answer, more bytes, a lane's rest to end, or a moment.
  Status Await(uint64_t made, Time now);
  Status Finish(Call& call);
  Status OnAnswer(Call& call, Time now);
  Status OnFailure(Call& call, const Status& why, Time now);
  void Drain();

  const AttemptId id_;
  const uint64_t total_;
  const Dial dial_;
  ChunkSource& source_;
  SendWindow window_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::list<std::unique_ptr<Call>> calls_;
  grpc::CompletionQueue queue_;
  pb::PutChunkRequest request_;
  Millis first_answer_ = Millis::max();
  uint64_t reported_ = 0;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_CHUNK_SENDER_H_
